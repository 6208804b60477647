"""The paper's claims, each judged by computation: it holds here, does not hold here, or cannot be told.

A claim is a statement that some quantity is above zero. The verdict looks at its 95 % interval alone, so nobody's hope
can move it. Whether the effect is also as large as the paper says stands beside it as `paper`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

HOLDS, FAILS, OPEN = "holds here", "does not hold here", "cannot be told from these data"
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval over n observations (seeds, unless said otherwise)."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def bounds(self) -> str:
        """`[+1.0, +5.0]`, or that there is no interval."""
        return f"none (n = {self.n})" if math.isnan(self.low) else f"[{self.low:+.1f}, {self.high:+.1f}]"

    def __neg__(self) -> Estimate:
        return Estimate(-self.mean, -self.high, -self.low, self.n)

    def __str__(self) -> str:
        return f"{self.mean:+.1f} {self.bounds}"


def t_interval(values: Sequence[float]) -> Estimate:
    """Student's t interval of the mean. One value alone has no interval (NaN), and none has no mean either."""
    found = np.asarray(values, dtype=float)
    n = len(found)
    mean = float(found.mean()) if n else math.nan
    if n < 2:
        return Estimate(mean, math.nan, math.nan, n)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * found.std(ddof=1) / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, n)


def plus_minus(values: Sequence[float], digits: int = 1) -> str:
    """`57.3 ± 1.2`: mean and half the 95 % interval; the mean alone where there is one value, a dash where none."""
    values = [value for value in values if not math.isnan(value)]
    if not values:
        return "–"
    estimate = t_interval(values)
    half = "" if estimate.n < 2 else f" ± {estimate.high - estimate.mean:.{digits}f}"
    return f"{estimate.mean:.{digits}f}{half}"


def number(value: float, digits: int = 0) -> str:
    """`12`, or a dash where there is none."""
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def percent(fractions: pd.Series) -> str:
    return plus_minus(100 * fractions)


def two_proportions(first: float, second: float, images: int) -> Estimate:
    """Interval of the difference, in points, of two accuracies on so many images each (normal approximation).

    For single runs: it speaks of other images from the same source, not of other seeds.
    """
    half = stats.norm.ppf((1 + CONFIDENCE) / 2) * math.sqrt((first * (1 - first) + second * (1 - second)) / images)
    return Estimate(100 * (first - second), 100 * (first - second - half), 100 * (first - second + half), images)


def verdict(estimate: Estimate) -> str:
    """Of the statement that the quantity is above zero."""
    if estimate.low > 0:
        return HOLDS
    if estimate.high < 0 or (estimate.low == estimate.high == 0):
        return FAILS
    return OPEN


@dataclass(frozen=True)
class Claim:
    """What the paper says, where, how large it says it is, and what was measured here."""

    text: str
    where: str
    paper: str  # the printed figure, with its unit
    unit: str
    measured: Estimate
    against: str  # the baseline and its reading

    def line(self) -> dict[str, object]:
        return {
            "claim": self.text,
            "where": self.where,
            "against": self.against,
            "paper": self.paper,
            "measured": f"{self.measured.mean:+.1f} {self.unit}",
            "95 % interval": self.measured.bounds,
            "n": self.measured.n,
            "verdict": verdict(self.measured),
        }


def judged(claims: Sequence[Claim]) -> pd.DataFrame:
    return pd.DataFrame([claim.line() for claim in claims])


def gain(frame: pd.DataFrame, ours: tuple[str, str], theirs: tuple[str, str], column: str) -> Estimate:
    """Our accuracy less theirs, in points, paired by seed. `ours` and `theirs` are (temperature, reading)."""
    a, b = paired(frame, ours, theirs, column)
    return t_interval(100 * (a - b))


def saving(frame: pd.DataFrame, ours: tuple[str, str], theirs: tuple[str, str], column: str) -> Estimate:
    """What ours saves of theirs, in % (positive is cheaper), paired by seed; columns may be a sum like 'a+b'."""
    a, b = paired(frame, ours, theirs, column)
    return t_interval(100 * (1 - a / b))


def paired(
    frame: pd.DataFrame, ours: tuple[str, str], theirs: tuple[str, str], column: str
) -> tuple[np.ndarray, np.ndarray]:
    """A column, or a sum of columns, of two procedures at the seeds at which both finished."""
    values = sum(frame[part] for part in column.split("+"))
    by_seed = frame.assign(value=values).pivot_table(index="seed", columns=["temperature", "reading"], values="value")
    both = by_seed.reindex(columns=[ours, theirs]).dropna()  # a procedure that failed at every seed has no column
    first, second = both.to_numpy().T
    return first, second
