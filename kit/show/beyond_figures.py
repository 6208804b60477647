"""Pictures of what comes after the paper: Table 5, and the temperatures of all its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from kit.beyond.table5 import elsewhere, with_agreement
from kit.paper.plan import Plan, Row
from kit.runs.spec import Run
from kit.runs.store import Failure, Result
from kit.show.html_tables import Table, compared_table
from kit.show.paper_figures import BAND, TEST_TOP1, TRAIN_TOP1, by_procedure, by_row, caption, nothing_finished, reasons
from kit.show.plots import temperatures
from kit.show.table_pictures import Measure

AGREES = Measure("agreement_top1", "as the teacher %", scale=100, dots=True, limits=(0, 100))
ELSEWHERE = "elsewhere: points over T = 4 on CIFAR-100, a mean of nine pairs of networks, under another protocol"


def table_5(plan: Plan, rows: Sequence[Row], frame: pd.DataFrame) -> Table:
    """Table 5: accuracy and agreement with the teacher of each procedure, and what is printed of it elsewhere."""
    measures = [
        TRAIN_TOP1,
        TEST_TOP1,
        AGREES,
        Measure("agreement_kl", "KL to the teacher", digits=2),
        Measure("seconds", "CPU s"),
        Measure("elsewhere", "elsewhere"),
    ]
    cells = by_procedure(with_agreement(frame), ["temperature", "reading"], measures)
    cells["name"] = [", ".join(of) for of in cells.index]
    cells["elsewhere"] = [elsewhere(*of) for of in cells.index]
    return compared_table(
        cells,
        ["temperature", "reading"],
        measures,
        label="name",
        title="Table 5 · The adaptive temperature and its siblings: ResNet-34 teaches the CNN",
        caption=caption(plan, rows, BAND, "as the teacher, KL at t = 1: on test images", ELSEWHERE),
        width=1480,
    )


def temperatures_figure(
    plan: Plan, rows: Sequence[Row], results: Mapping[Run, Result | Failure], title: str
) -> Figure | Table:
    """Each row's temperature on one axis of epochs, of its first seed that finished."""
    labels = [row.label for row in rows]
    short = {row.name: row.label if labels.count(row.label) == 1 else row.name for row in rows}
    finished = {short[name]: found[0] for name, found in by_row(rows, results).items()}
    taught = {name: result for name, result in finished.items() if result.steps["t"].notna().any()}
    if not taught:
        return nothing_finished(plan, rows, reasons(results), title)
    text = caption(
        plan, rows, "one seed is drawn", "band: a batch's coldest to hottest image, lines: means over an epoch"
    )
    return temperatures(taught, title=title, caption=text)
