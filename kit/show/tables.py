"""Numbers as a reader wants them: means with 95 % intervals; and the data behind the curves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from kit.errors import KitError, one_of
from kit.paper.claims import plus_minus, t_interval


def interval(values: Iterable[float]) -> tuple[float, float, float]:
    """Mean and the bounds of its t-interval, `mean ± t(n−1)·s/√n`. NaNs are left out; one value has NaN bounds."""
    return t_interval(values)[:3]


def with_interval(values: Iterable[float], percent: bool = True, digits: int = 1) -> str:
    """`57.3 ± 1.2`: mean and half the 95 % interval, in % of fractions unless `percent=False`. One value: `57.3`."""
    return plus_minus([(100 if percent else 1) * value for value in values], digits)


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
        if not seeds:
            raise KitError(f"label {label!r} has no run to draw; allowed: at least one")
        every = pd.concat([run.epochs.assign(iteration=run.epochs["epoch"] * batches_per_epoch(run)) for run in seeds])
        for metric in metrics:
            one_of("metric", metric, every.filter(like="top"))
        for epoch, group in every.groupby("epoch", sort=True):
            row = {"label": label, "epoch": epoch, "iteration": group["iteration"].mean(), "seeds": len(group)}
            for metric in metrics:
                row[metric], row[f"{metric}_low"], row[f"{metric}_high"] = interval(100 * group[metric])
            rows.append(row)
    return pd.DataFrame(rows)
