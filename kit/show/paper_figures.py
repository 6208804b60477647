"""The paper's figures and tables as pictures: what a notebook calls between its prose and its pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from kit.paper import table1, table2, table3
from kit.paper.claims import time_ratio
from kit.paper.plan import Plan, Row, ended
from kit.paper.printed import TABLE_1, TABLE_2
from kit.runs.spec import Run
from kit.runs.store import Failure, Result
from kit.show.html_tables import Table, compared_table, judged_table, plain_table
from kit.show.plots import accuracy_curves, sensitivity, temperature_trace, traced
from kit.show.style import source_line
from kit.show.table_pictures import Measure
from kit.show.tables import curves, interval

BAND = "intervals: 95 % t over seeds"
TIME = "time: process CPU seconds of the student's procedure, teacher forward passes in, teacher training out"
TRAIN_TOP1 = Measure("train_top1", "train Top-1 %", scale=100)
TRAIN_TOP5 = Measure("train_top5", "train Top-5 %", scale=100)
TEST_TOP5 = Measure("test_top5", "test Top-5 %", scale=100)
TEST_TOP1 = Measure("test_top1", "test Top-1 %", scale=100, dots=True, limits=(0, 100))
TIME_RATIO = Measure("ratio", "time / T=5 printed", digits=2, dots=True, reference=1.0)


def caption(plan: Plan, rows: Sequence[Row], *more: str) -> str:
    """What filled the roles, preset, seeds, and what the preset's numbers can show."""
    data = {run.data.role: f"{run.data.name} ({run.data.source})" for row in rows for run in row.runs}
    seeds = max(len(row.runs) for row in rows)
    return source_line(data, plan.preset.name, seeds, *more, plan.preset.says)


def by_row(rows: Sequence[Row], results: Mapping[Run, Result | Failure]) -> dict[str, list[Result]]:
    """The finished runs under their row's name; a row of which nothing finished is left out."""
    found = {row.name: [results[run] for run in row.runs if isinstance(results[run], Result)] for row in rows}
    return {name: finished for name, finished in found.items() if finished}


def nothing_finished(plan: Plan, rows: Sequence[Row], ended: Mapping[Run, str], title: str) -> Table:
    """What stands where no run of a figure finished: each run and what became of it."""
    lines = [{"run": run.title, "row": row.name, "ended": ended[run]} for row in rows for run in row.runs]
    return plain_table(pd.DataFrame(lines), title=title, caption=caption(plan, rows))


def reasons(results: Mapping[Run, Result | Failure]) -> dict[Run, str]:
    return {run: outcome.reason for run, outcome in results.items() if isinstance(outcome, Failure)}


def figure_1(
    plan: Plan, rows: Sequence[Row], results: Mapping[Run, Result | Failure]
) -> tuple[Figure | Table, pd.DataFrame]:
    """Fig. 1: accuracy against iteration, a line a procedure, and the numbers that are drawn."""
    title = "Fig. 1 · ResNet-50 teaches ResNet-34: accuracy against iteration"
    return accuracy_figure(plan, rows, results, title, BAND)


def accuracy_figure(
    plan: Plan, rows: Sequence[Row], results: Mapping[Run, Result | Failure], title: str, *more: str
) -> tuple[Figure | Table, pd.DataFrame]:
    """Accuracy against iteration, a line a row, and the numbers that are drawn. `more` joins the caption."""
    finished = by_row(rows, results)
    numbers = curves(finished, ["train_top1", "test_top1"])
    if not finished:
        return nothing_finished(plan, rows, reasons(results), title), numbers
    return accuracy_curves(finished, title=title, caption=caption(plan, rows, *more)), numbers


def temperature_figure(
    plan: Plan, row: Row, results: Mapping[Run, Result | Failure], title: str | None = None
) -> tuple[Figure | Table, pd.DataFrame]:
    """t and ⌊t⌋ against step, stages shaded, of the row's runs that finished. The first gives the stages, the title if
    none is given, and the numbers that are returned."""
    shown = by_row([row], results).get(row.name)
    if not shown:
        return nothing_finished(plan, [row], reasons(results), title or "The temperature"), pd.DataFrame()
    title = title or fall(shown[0]) or row.name
    return temperature_trace(shown, title=title, caption=caption(plan, [row])), traced(shown[0])


def fall(result: Result) -> str:
    """Says how far t fell in the soft stages where it moves, and where time ended them before it was cold; '' where
    there are none."""
    stages = zip(result.run.recipe.stages, result.metrics["stages"], strict=True)
    soft = [ended for stage, ended in stages if stage.temperature and stage.temperature.moves]
    if not soft:
        return ""
    warm = [f"{stage['name']} at t = {stage['t_end']:.1f}" for stage in soft if stage["ended_by"] != "temperature"]
    says = f"The temperature falls to 1 by itself in {len(soft) - len(warm)} of {len(soft)} soft stages"
    return f"{says}; by budget ends {', '.join(warm)}" if warm else says


def table_1(plan: Plan, rows: Sequence[Row], frame: pd.DataFrame) -> Table:
    """Table 1: the paper's training Top-5 beside this kit's accuracies."""
    measures = [TRAIN_TOP5, TEST_TOP5, TRAIN_TOP1, TEST_TOP1]
    cells = by_procedure(frame, ["group", "temperature"], measures)
    paper = pd.DataFrame([TABLE_1[table1.NAMES[model], role] for role, model in cells.index])
    top5 = ["paper: training Top-5 after 150 to 1,000 epochs on the real datasets"] * ("train_top5" in cells)
    return compared_table(
        cells.rename(columns={"group": "role", "temperature": "model"}),
        ["role", "model"],
        measures,
        paper.rename(columns={"top5": "train_top5"}),
        title="Table 1 · Five networks trained on hard labels",
        caption=caption(plan, rows, *top5),
    )


def table_2(plan: Plan, rows: Sequence[Row], frame: pd.DataFrame) -> Table:
    """Table 2: accuracies and time of each procedure, the paper's beside them, time as a ratio to T=5."""
    tflop = (frame["student_flops"] + frame["teacher_flops"]) / 1e12
    costs = [Measure("seconds", "CPU s"), Measure("tflop", "TFLOP", digits=2), TIME_RATIO]
    measures = [TRAIN_TOP1, TEST_TOP1, TEST_TOP5, *costs]
    cells = by_procedure(frame.assign(ratio=time_ratio(frame), tflop=tflop), ["temperature", "reading"], measures)
    cells["name"] = [", ".join(of) for of in cells.index]
    paper = pd.DataFrame([table2.printed(*of) for of in cells.index])
    ratio = paper.pop("seconds") / TABLE_2["T=5"].seconds
    return compared_table(
        cells,
        ["temperature", "reading"],
        measures,
        paper.rename(columns={"top1": "train_top1"}).assign(ratio=ratio),
        label="name",
        title="Table 2 · ResNet-50 teaches ResNet-34",
        caption=caption(plan, rows, BAND, "paper: CIFAR-100, 50 epochs, its Top-1 can only be training accuracy", TIME),
    )


def table_3(plan: Plan, rows: Sequence[Row], frame: pd.DataFrame) -> Table:
    """Table 3: eight configurations by five procedures; time as a ratio to T = 5 as printed, the paper's beside it."""
    measures = [TRAIN_TOP5, TEST_TOP5, TRAIN_TOP1, TEST_TOP1, TIME_RATIO]
    cells = by_procedure(frame.assign(ratio=time_ratio(frame)), ["group", "temperature", "reading"], measures)
    cells["procedure"] = [", ".join(of[1:]) for of in cells.index]
    paper = pd.DataFrame([table3.printed(*of) for of in cells.index])
    ratio = paper["seconds"] / [table3.printed(group, *table3.BASELINES[0]).seconds for group in cells["group"]]
    return compared_table(
        cells.rename(columns={"group": "configuration"}),
        ["configuration", "procedure"],
        measures,
        paper.rename(columns={"top5": "train_top5"}).assign(ratio=ratio),
        title="Table 3 · Small teachers: eight configurations",
        width=1480,
        caption=caption(
            plan,
            rows,
            BAND,
            "explained model, small teacher → student",
            f"paper: {'Top-5, ' * ('train_top5' in cells)}150 epochs, real datasets",
            TIME,
        ),
    )


def verdicts(plan: Plan, rows: Sequence[Row], claims: pd.DataFrame, title: str, *more: str) -> Table:
    """A table's claims: what is printed, what was measured, and the verdict that follows. `more` joins the caption."""
    return judged_table(claims, title, caption(plan, rows, *more))


def rates_figure(plan: Plan, rows: Sequence[Row], frame: pd.DataFrame) -> tuple[Figure | Table, pd.DataFrame]:
    """How the temperature's rate decides when the soft stages end, and what that does to the student."""
    rate = {run.hash: run.recipe.stages[0].temperature.rate for row in rows for run in row.runs}
    frame = frame.assign(rate=frame["run"].map(rate), soft_share=frame["soft_end"] / frame["epochs"])
    scales, lines = {"test_top1": 100, "soft_share": 100, "seconds": 1}, []
    for value, here in frame.groupby("rate"):
        line: dict[str, float] = {"rate": value}
        for column, scale in scales.items():
            line[column], line[f"{column}_low"], line[f"{column}_high"] = interval(scale * here[column])
        lines.append(line)
    swept = pd.DataFrame(lines)
    if not frame["status"].eq("finished").any():
        status = dict(zip(frame["run"], frame["status"], strict=True))
        ended = {run: status[run.hash] for row in rows for run in row.runs}
        return nothing_finished(plan, rows, ended, "How fast should t fall? No run finished"), swept
    shares = swept.filter(regex="^(test_top1|soft_share)").clip(upper=100)
    figure = sensitivity(
        swept.assign(**shares).clip(lower=0),  # intervals are not drawn beyond what the measure can be
        "rate",
        list(scales),
        names={
            "rate": "learning rate of log t, per epoch",
            "test_top1": "test Top-1 (%)",
            "soft_share": "soft stages' end (% of the epochs)",
            "seconds": "CPU s",
        },
        title="How fast should t fall? The same student at several rates",
        caption=caption(plan, rows, BAND),
    )
    return figure, swept


def by_procedure(frame: pd.DataFrame, by: list[str], measures: Iterable[Measure]) -> pd.DataFrame:
    """One line a row of the table, by columns and index, each measured column that there is holding its values by
    seed; `ended` where none finished."""
    groups, columns = frame.groupby(by, sort=False), [each.column for each in measures if each.column in frame]
    cells = groups[columns].agg(list).assign(ended=groups[["status"]].apply(ended))
    return cells.index.to_frame().join(cells)
