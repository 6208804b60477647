"""Numbers as a reader wants them: means with 95 % intervals, FLOPs, minutes; and the data behind the curves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kit.paper.claims import plus_minus, t_interval


def interval(values: Iterable[float]) -> tuple[float, float, float]:
    """Mean and the bounds of its t-interval, `mean ± t(n−1)·s/√n`. NaNs are left out; one value has NaN bounds."""
    x = [value for value in values if not math.isnan(value)]
    if not x:
        return math.nan, math.nan, math.nan
    estimate = t_interval(x)
    return estimate.mean, estimate.low, estimate.high


def with_interval(values: Iterable[float], percent: bool = True, digits: int = 1) -> str:
    """`57.3 ± 1.2`: mean and half the 95 % interval, in % of fractions unless `percent=False`. One value: `57.3`."""
    return plus_minus([(100 if percent else 1) * value for value in values], digits)


def ratios(values: Sequence[float], baseline: Sequence[float]) -> list[float]:
    """Each value over the baseline of the same seed, where both hold as many; else over the baseline's mean."""
    values, baseline = np.asarray(values, float), np.asarray(baseline, float)
    return list(values / (baseline if len(values) == len(baseline) else baseline.mean()))


def si_flops(flops: float) -> str:
    """`1.23 TFLOP`: three digits and the prefix that fits."""
    if not math.isfinite(flops):
        return "–"
    prefixes = ("", "k", "M", "G", "T", "P", "E")
    power = 0
    # 999.6 k is printed as 1.00 M: what decides is the number as rounded to three digits
    while power < len(prefixes) - 1 and abs(float(f"{flops / 1000**power:.3g}")) >= 1000:
        power += 1
    number = flops / 1000**power
    digits = 0 if number == 0 else max(0, 2 - math.floor(math.log10(abs(float(f"{number:.3g}")))))
    return f"{number:.{min(digits, 2)}f} {prefixes[power]}FLOP"


def minutes(seconds: float) -> str:
    """`42 s`, `12.3 min` or `3.4 h`."""
    if not math.isfinite(seconds):
        return "–"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 59.95 * 60 else f"{seconds / 3600:.1f} h"


def batches_per_epoch(run: Any) -> float:
    """How many rows of `run.steps` make an epoch, for finished runs and those still under way."""
    epochs = int(run.epochs["epoch"].max())
    return int((run.steps["epoch"] <= epochs + 1e-9).sum()) / epochs


def curves(runs: Mapping[str, Sequence[Any]], metrics: Sequence[str]) -> pd.DataFrame:
    """The data behind accuracy curves: a row per label and epoch, with each metric's mean over seeds and 95 % interval.

    Columns: label, epoch, iteration, seeds, then `m`, `m_low`, `m_high` for every metric m, in %.
    """
    rows = []
    for label, seeds in runs.items():
        every = pd.concat([run.epochs.assign(iteration=run.epochs["epoch"] * batches_per_epoch(run)) for run in seeds])
        for epoch, group in every.groupby("epoch", sort=True):
            row = {"label": label, "epoch": epoch, "iteration": group["iteration"].mean(), "seeds": len(group)}
            for metric in metrics:
                row[metric], row[f"{metric}_low"], row[f"{metric}_high"] = interval(100 * group[metric])
            rows.append(row)
    return pd.DataFrame(rows)
