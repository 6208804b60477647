"""What every benchmark's report and command line have in common."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pandas as pd
import typer
from pydantic import ValidationError

from kit.errors import KitError, one_line


class Ended(RuntimeError):
    """A process that was to be measured ended or raised; the message says which and why."""


def spread(rounds: pd.DataFrame) -> pd.DataFrame:
    """Of each column, with a round a row, the median and the least and the largest value beside it."""
    return rounds.agg(["median", "min", "max"]).T


def show(title: str, rounds: pd.DataFrame, digits: int = 3) -> None:
    """Prints the spread of each column, `—` for what could not be measured."""
    print(f"\n{title}\n{spread(rounds).to_string(float_format=f'{{:.{digits}f}}'.format, na_rep='—')}")


def command(main: Callable[..., None]) -> None:
    """Runs a benchmark's command line; wrong input is one line and status 2, what ended too early status 1."""
    try:
        typer.run(main)
    except (KitError, ValidationError, Ended) as error:
        print(f"error: {one_line(error) if isinstance(error, ValidationError) else error}", file=sys.stderr)
        sys.exit(1 if isinstance(error, Ended) else 2)
