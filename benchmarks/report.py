"""What every benchmark's report and command line have in common."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import typer
from pydantic import ValidationError

from kit.errors import KitError, one_line


class Ended(RuntimeError):
    """A process that was to be measured ended or raised; the message says which and why."""


@dataclass(frozen=True)
class Spread:
    """A median with the least and the largest value beside it."""

    median: float
    least: float
    largest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))

    @classmethod
    def of_ratio(cls, above: Iterable[float], below: Iterable[float]) -> Spread:
        """Round by round: what disturbs a round disturbs both."""
        return cls.of([a / b for a, b in zip(above, below, strict=True)])

    def rounded(self) -> dict[str, float]:
        return {"min": round(self.least, 3), "median": round(self.median, 3), "max": round(self.largest, 3)}


def table(head: str, spreads: Mapping[str, Spread | None], digits: int = 3) -> None:
    """Prints a line for each spread, `—` for what could not be measured."""
    print(f"{head:40} {'median':>8} {'min':>8} {'max':>8}")
    for name, of in spreads.items():
        numbers = ("—", "—", "—") if of is None else (f"{x:.{digits}f}" for x in (of.median, of.least, of.largest))
        print(f"{name:40} " + " ".join(f"{number:>8}" for number in numbers))


def command(main: Callable[..., None]) -> None:
    """Runs a benchmark's command line; wrong input is one line and status 2, what ended too early status 1."""
    try:
        typer.run(main)
    except (KitError, ValidationError, Ended) as error:
        print(f"error: {one_line(error) if isinstance(error, ValidationError) else error}", file=sys.stderr)
        sys.exit(1 if isinstance(error, Ended) else 2)
