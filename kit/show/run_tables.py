"""Runs as tables to read: a line a run, with what the columns are called in the paper, not in code."""

from __future__ import annotations

import pandas as pd

from kit.show.html_tables import Table, plain_table
from kit.show.paper_figures import TEST_TOP1, TEST_TOP5, TRAIN_TOP1
from kit.show.table_pictures import Measure
from kit.show.tables import with_interval

WORDS = {
    "group": "configuration",
    "temperature": "temperature",
    "reading": "reading of Eq. (1)",
    "student": "student",
    "teachers": "learns from",
    "data": "images",
    "seed": "seed",
    "status": "ended",
    "soft_ends": "soft stages end: epoch (by)",
}
MEASURES = (
    TRAIN_TOP1,
    TEST_TOP1,
    TEST_TOP5,
    Measure("seconds", "CPU s"),
    Measure("agreement_top1", "same class as the big teacher %", scale=100),
    Measure("agreement_kl", "KL to the big teacher, t = 1", digits=3),
)
ONE_RUN = ("student", "teachers", "data", "seed", "soft_ends")
EVERY_RUN = ("temperature", "reading", "seed", "status", "soft_ends")


def record(frame: pd.DataFrame, title: str = "What became of it") -> Table:
    """One run's line of `collect`, stood upright: what it was, and what was measured."""
    line = _named(frame, ONE_RUN).iloc[0]
    return plain_table(pd.DataFrame({"quantity": line.index, "this run": line.to_numpy()}), title)


def runs_table(frame: pd.DataFrame, title: str = "Every run") -> Table:
    """A line a run of `collect`: its row in the paper's table, how it ended, and what was measured."""
    return plain_table(_named(frame, EVERY_RUN), title)


def costs_table(frame: pd.DataFrame, title: str = "With and without the teachers' training") -> Table:
    """CPU seconds of a row's student, of its teachers' training, and of both; means over seeds."""
    by = ["group", "temperature", "reading"]
    costs = frame.groupby(by, sort=False)[["seconds", "teacher_seconds"]].mean()
    costs = costs.assign(both=costs.sum(axis=1, skipna=False))
    costs = costs.set_axis(["student, CPU s", "its teachers, CPU s", "both, CPU s"], axis=1)
    shown = costs.map(lambda seconds: with_interval([seconds], percent=False)).reset_index().rename(columns=WORDS)
    return plain_table(shown, title, merge=[WORDS[column] for column in by[:2]])


def _named(frame: pd.DataFrame, texts: tuple[str, ...]) -> pd.DataFrame:
    """These columns and what was measured, in words and units; a dash where a run has none."""
    shown = {WORDS[name]: frame[name].astype(object).fillna("–").replace("", "–") for name in texts}
    for measure in MEASURES:
        values = frame[measure.column] if measure.column in frame else pd.Series(float("nan"), frame.index)
        shown[measure.title] = [
            with_interval([measure.scale * value], percent=False, digits=measure.digits) for value in values
        ]
    return pd.DataFrame(shown)
