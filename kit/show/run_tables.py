"""Runs as tables to read: a line a run, with what the columns are called in the paper, not in code."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from kit.paper.claims import plus_minus
from kit.paper.plan import Plan, Row, with_columns
from kit.show.html_tables import Table, compared_table, plain_table
from kit.show.paper_figures import BAND, TEST_TOP1, TEST_TOP5, TRAIN_TOP1, by_procedure, caption
from kit.show.table_pictures import Measure

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


def record(frame: pd.DataFrame) -> Table:
    """One run's line of `collect`, stood upright: what it was, and what was measured."""
    line = _named(frame, "student", "teachers", "data", "seed", "soft_ends").iloc[0]
    return plain_table(pd.DataFrame({"quantity": line.index, "this run": line.to_numpy()}), "What became of it")


def runs_table(frame: pd.DataFrame) -> Table:
    """A line a run of `collect`: its row in the paper's table, how it ended, and what was measured."""
    return plain_table(_named(frame, "temperature", "reading", "seed", "status", "soft_ends"), "Every run")


def costs_table(plan: Plan, rows: Sequence[Row], frame: pd.DataFrame) -> Table:
    """CPU seconds of a row's student, of its teachers' training, and of both."""
    by = ["group", "temperature", "reading"]
    costs = {"seconds": "student, CPU s", "teacher_seconds": "its teachers, CPU s", "both": "both, CPU s"}
    measures = [Measure(column, name) for column, name in costs.items()]
    cells = by_procedure(frame.assign(both=frame["seconds"] + frame["teacher_seconds"]), by, measures)
    text, title = [WORDS[column] for column in by], "With and without the teachers' training"
    return compared_table(cells.rename(columns=WORDS), text, measures, title=title, caption=caption(plan, rows, BAND))


def _named(frame: pd.DataFrame, *texts: str) -> pd.DataFrame:
    """These columns and what was measured, in words and units; a dash where a run has none."""
    shown = {WORDS[name]: frame[name].astype(object).fillna("–").replace("", "–") for name in texts}
    measured = with_columns(frame, [measure.column for measure in MEASURES])
    for each in MEASURES:
        shown[each.title] = [plus_minus([each.scale * value], each.digits) for value in measured[each.column]]
    return pd.DataFrame(shown)
