"""What every benchmark's report and command line have in common."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pandas as pd
import typer

from kit.cli.main import ended


class Ended(RuntimeError):
    """A process that was to be measured ended or raised; the message says which and why."""


def spread(rounds: pd.DataFrame) -> pd.DataFrame:
    """Of each column, with a round a row, the median and the least and the largest value beside it."""
    return rounds.agg(["median", "min", "max"]).T


def show(title: str, rounds: pd.DataFrame, digits: int = 3) -> None:
    """Prints the spread of each column, `—` for what could not be measured."""
    print(f"\n{title}\n{spread(rounds).to_string(float_format=f'{{:.{digits}f}}'.format, na_rep='—')}")


def command(main: Callable[..., None]) -> None:
    """Runs a benchmark's command line as the kit's own: wrong input is one line and status 2, what ended too early
    status 1."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(main)
    try:
        message, status = ended(None, app, name=None)
    except Ended as error:
        message, status = f"error: {error}", 1
    if message:
        print(message, file=sys.stderr)
    sys.exit(status)
