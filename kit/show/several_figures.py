"""Pictures of several teachers: Table 6, and each teacher's temperature and pull until it graduates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from kit.beyond.table6 import TEACHERS, with_agreements
from kit.paper.plan import Plan, Row
from kit.runs.spec import Run
from kit.runs.store import Failure, Result
from kit.show import style
from kit.show.html_tables import Table, compared_table
from kit.show.paper_figures import BAND, TEST_TOP1, TRAIN_TOP1, by_procedure, by_row, caption, nothing_finished, reasons
from kit.show.plots import HEIGHT, traced
from kit.show.style import MUTED, WIDTH
from kit.show.table_pictures import Measure
from kit.training.record import MEAN

SECONDS = "CPU s: of the student's procedure, teachers' forward passes in; teachers' s: their own training"
COLOURS = dict(zip(TEACHERS, (style.GREEN, style.BLUE, style.ORANGE), strict=True))


def table_6(plan: Plan, rows: Sequence[Row], frame: pd.DataFrame) -> Table:
    """Table 6: accuracy, likeness to each teacher and to their mean, and cost of each procedure."""
    likeness = [Measure(f"kl to {name}", f"KL: {name}", digits=2) for name in TEACHERS]
    likeness.append(Measure(f"kl to {MEAN}", "KL: mean", digits=2))
    costs = [Measure("seconds", "CPU s"), Measure("teacher_seconds", "teachers' s", digits=0)]
    measures = [TRAIN_TOP1, TEST_TOP1, *likeness, *costs]
    cells = by_procedure(with_agreements(frame), ["temperature", "reading"], measures)
    cells["name"] = [", ".join(of) for of in cells.index]
    return compared_table(
        cells.rename(columns={"reading": "teachers"}),
        ["temperature", "teachers"],
        measures,
        label="name",
        title=f"Table 6 · Several teachers: {titles(rows)} teach the {rows[0].runs[0].student.title}",
        caption=caption(
            plan, rows, BAND, "KL to each teacher and to the mean of their p, at t = 1, on test images", SECONDS
        ),
    )


def titles(rows: Sequence[Row]) -> str:
    """`VGG-16 (small), ResNet-34 (big) and CNN (third)`: the teachers of the row that has most."""
    taught = max((row.runs[0] for row in rows), key=lambda run: len(run.teachers)).teachers
    *names, last = (f"{taught[name].student.title} ({name})" for name in TEACHERS if name in taught)
    return f"{', '.join(names)} and {last}" if names else last


def graduation_figure(
    plan: Plan, row: Row, paper: Row, results: Mapping[Run, Result | Failure]
) -> tuple[Figure | Table, pd.DataFrame]:
    """Each teacher's t, and how hard it pulls, until it graduates; the paper's sequence is drawn beneath. And the
    numbers that are drawn."""
    shown = [found[0] for each in (row, paper) for found in by_row([each], results).values()]
    if len(shown) < 2:
        return nothing_finished(plan, [row, paper], reasons(results), "When do teachers graduate?"), pd.DataFrame()
    title = f"{graduates(shown[0])}; the paper has one after the other"
    figure = graduation(*shown, title=title, caption=caption(plan, [row, paper], "one seed is drawn"))
    drawn = shown[0].steps.filter(regex="^(step$|t_|pull_|weight_)")
    return figure, drawn.assign(paper=shown[1].steps["t"])


def graduates(run: Any) -> str:
    """`Three teachers graduate`; how many of them do, where time ends their stage before all are cold."""
    at_the_end = run.steps.filter(like="pull_").dropna(how="all").iloc[-1]
    cold = any(stage["ended_by"] == "temperature" for stage in run.metrics["stages"])
    of = len(at_the_end)
    done = of if cold else of - int(at_the_end.count())
    if done == of:
        return f"{'Two' if of == 2 else 'Three'} teachers graduate"
    return f"{done} of {of} teachers graduate{'s' if done == 1 else ''}"


@style.styled()
def graduation(run: Any, paper: Any, *, title: str = "", caption: str = "") -> Figure:
    """At the left t of each teacher against the step, at the right |∂L_k/∂zs|, both until it graduates.

    What the stage's last step made of t is drawn where one teacher alone pulled in it: the record has their mean.
    The t of a run of the paper's sequence is the dashed line.
    """
    figure = style.sheet(WIDTH, HEIGHT, title, caption)
    temperatures, pulls = figure.subplots(1, 2, sharex=True)
    for stage, part in traced(paper).dropna(subset=["t"]).groupby("stage", sort=False):
        name = "the paper: small, then big" if stage == "small teacher" else None
        temperatures.plot(part["step"], part["t"], color=MUTED, lw=1.2, ls=(0, (4, 2)), label=name)
    names, steps = [name for name in COLOURS if f"pull_{name}" in run.steps], traced(run).set_index("step")
    pull, t = (steps[[f"{of}_{name}" for name in names]] for of in ("pull", "t"))
    stay = t.ffill().mask(pull.shift().notna().to_numpy())  # where a stage ends: of graduates
    for name in names:
        last = len(names) * steps["t"] - stay.drop(columns=f"t_{name}").sum(axis=1, skipna=False)
        pulling = pull[f"pull_{name}"].notna()
        look = {"color": COLOURS[name], "label": f"{run.run.teachers[name].student.title} ({name})"}
        for ax, values, until, width in (
            (temperatures, t[f"t_{name}"].fillna(last), pulling | pulling.shift(fill_value=False), 1.8),
            (pulls, pull[f"pull_{name}"], pulling, 1.2),
        ):
            values = values[until].dropna()
            ax.plot(values.index, values, lw=width, **look)
            ax.plot(values.index[-1:], values.iloc[-1:], "o", ms=5, color=COLOURS[name])
    temperatures.axhline(1, color=MUTED, lw=0.8, ls=(0, (2, 2)))
    temperatures.set_title("t of each teacher; its dot: it graduates, or its stage ends")
    pulls.set_title("effective weight |∂L_k/∂zs|, a mean over the batch's images")
    for ax in (temperatures, pulls):
        ax.set_ylim(bottom=0)
        ax.set_xlim(0, int(run.steps["step"].max()))
        ax.set_xlabel("step (batches)")
    temperatures.legend()
    return style.settle(figure)
