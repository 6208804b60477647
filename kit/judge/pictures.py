"""The answer as pictures: the table, what is told of the rows' differences, curves, the temperature, heat maps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from kit.cam.heat_maps import maps
from kit.data.augment import normalise
from kit.data.base import sample
from kit.errors import KitError
from kit.files import write_atomically, writing_to
from kit.judge.answer import MEASURE, Answer, of, rarest
from kit.judge.question import Method, counted, lesson, seeds_of
from kit.paper.claims import explained
from kit.paper.plan import Row, ended
from kit.runs.spec import Run
from kit.runs.store import Failure, Result, find
from kit.runtime.threads import one_thread
from kit.show import style
from kit.show.artefacts import csv_bytes, left_behind, save
from kit.show.cam_figures import enlarged, overlay
from kit.show.explore import pixels_of
from kit.show.glance import LOOKS
from kit.show.html_tables import compared_table
from kit.show.pages import contact_sheet
from kit.show.paper_figures import BAND, TEST_TOP1, TEST_TOP5, TRAIN_TOP1, by_procedure, by_row, fall
from kit.show.plots import accuracy_curves, temperature_trace, traced
from kit.show.table_pictures import Measure, draw_interval
from kit.show.tables import curves, interval

COST = "with teachers: their training counted in, as if nobody else used them"
IMAGES = 6  # whose heat maps are drawn
OF_SOME = [  # not of every answer
    *(f"{name}.{kind}" for name in ("accuracy", "temperature") for kind in ("png", "svg", "csv")), "cam.png", "cam.svg"
]  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """A question's rows, what became of them, and the answer: all that pictures are drawn of."""

    methods: Sequence[Method]
    rows: Sequence[Row]
    results: Mapping[Run, Result | Failure]
    answer: Answer
    preset: str

    @property
    def caption(self) -> str:
        """On what data, at which preset, from how many seeds."""
        run = self.rows[0].runs[0]
        length = f"preset {self.preset}, {counted(run.recipe.epochs, 'epoch')}"
        return f"{run.data.load().described} · {length} · {seeds_of(self.rows)}"

    def finished(self) -> list[tuple[Method, list[Result]]]:
        """The methods of which a run finished, with those that did."""
        found = [by_row([row], self.results).get(row.name, []) for row in self.rows]
        return [(method, runs) for method, runs in zip(self.methods, found, strict=True) if runs]


def draw(judged: Judged, out: Path) -> Iterator[str]:
    """Writes every picture and table into a folder, in place of an earlier answer's; yields what could not be drawn,
    and why."""
    with writing_to(out):
        out.mkdir(parents=True, exist_ok=True)
        if left_behind(out / "runs.csv", ("temperature", "reading", "seed", "run", "status")) is not None:
            for name in OF_SOME:
                (out / name).unlink(missing_ok=True)
        write_atomically(out / "runs.csv", csv_bytes(judged.answer.frame))
        save(table_figure(judged), "table", out, judged.answer.table)
        save(effects_figure(judged), "effects", out, judged.answer.verdicts)
        if finished := judged.finished():
            shown = {method.title: runs for method, runs in finished}
            figure = accuracy_curves(shown, title="Accuracy against iteration", caption=f"{judged.caption} · {BAND}")
            save(figure, "accuracy", out, curves(shown, ["train_top1", MEASURE]))
            save(temperature_figure(judged), "temperature", out, traced(finished[-1][1][0]))
            try:
                save(cam_figure(judged), "cam", out)
            except KitError as error:  # a network without convolutions, say
                yield f"no heat maps: {error}"


def table_figure(judged: Judged) -> Figure:
    """The rows: accuracies with their intervals, and what they cost, without and with their teachers."""
    frame = judged.answer.frame
    flops = (frame["student_flops"] + frame["teacher_flops"]) / 1e9
    frame = frame.assign(flops=flops, all_flops=frame["all_flops"] / 1e9)
    measures = [
        TRAIN_TOP1,
        TEST_TOP1,
        TEST_TOP5,
        *(Measure(column, f"{title} %", scale=100) for title, column in rarest(frame).items()),
        Measure("seconds", "CPU s"),
        Measure("all_seconds", "with teachers"),
        Measure("flops", "GFLOP"),
        Measure("all_flops", "with teachers"),
    ]
    cells = by_procedure(frame, ["temperature", "reading"], measures)
    cells["row"] = [method.title for method in judged.methods]
    title, caption = lesson(judged.rows[-1].runs[0]), f"{judged.caption} · {BAND} · {COST}"
    return compared_table(cells, ["row"], measures, title=title, caption=caption).picture()


@style.styled()
def effects_figure(judged: Judged) -> Figure:
    """Every student's test Top-1 beside its row's mean, and every difference of two rows with what is told of it."""
    frame, verdicts, methods = judged.answer.frame, judged.answer.verdicts, judged.methods
    sure = explained(verdicts).removeprefix("n: seeds · ")  # a column that this picture lacks
    text = f"{judged.caption} · small dots: students · left: mean and 95 % t · title and right: {sure}"
    height = 130 + 34 * len(verdicts) + sum(style.frame_heights(style.WIDTH, judged.answer.sentence, text))
    figure = style.sheet(style.WIDTH, height, judged.answer.sentence, text)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.25))
    names = [method.title for method in methods]
    looks = style.looks(names)
    y = np.arange(len(methods), dtype=float)
    for height_of, name, method in zip(y, names, methods, strict=True):
        seeds = 100 * of(frame, method)[MEASURE].dropna().to_numpy(float)
        draw_interval(left, height_of, np.clip(interval(seeds), 0, 100), looks[name], size=7)
        left.plot(seeds, np.full(len(seeds), height_of + 0.24), "o", ms=4, color=looks[name].colour, mfc="none", ls="")
    became = [ended(of(frame, method)) for method in methods]
    name_rows(left, [f"{name}:\n{said}" if said else name for name, said in zip(names, became, strict=True)])
    left.set_title("test Top-1 (%)")
    pairs = [f"{better.said}\nover {worse.said}" for worse, better in combinations(methods, 2)]
    right.axvline(0, color=style.MUTED, lw=1, ls=(0, (3, 2)), zorder=1)
    for height_of, line in enumerate(verdicts.itertuples()):
        draw_interval(right, height_of, (line.effect, line.low, line.high), LOOKS[line.verdict], size=7)
    name_rows(right, pairs)
    right.set_title("difference (points)")
    keys = {said: look for said, look in LOOKS.items() if said in set(verdicts["verdict"])}
    lines = [Line2D([], [], ls="", mew=1.4, label=said, **look.mark) for said, look in keys.items()]
    beneath = {"loc": "upper left", "bbox_to_anchor": (0, -0.09), "ncols": 2, "handletextpad": 0.3, "borderaxespad": 0}
    right.legend(handles=lines, **beneath)
    return style.settle(figure)


def temperature_figure(judged: Judged) -> Figure:
    """The temperature of the last row that finished, stages shaded, all seeds."""
    if not (finished := judged.finished()):
        raise KitError("no run finished, so there is no temperature to draw; allowed: at least one")
    method, runs = finished[-1]
    fell = fall(runs[0])
    title = f"{method.title}: {fell[0].lower()}{fell[1:]}" if fell else method.title
    return temperature_trace(runs, title=title, caption=judged.caption)


def name_rows(ax: Axes, names: Sequence[str]) -> None:
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="y", visible=False)


def cam_figure(judged: Judged) -> Figure:
    """Some test images, and for their own class where the big teacher and each row's student look, of the first seed
    that finished."""
    run = judged.rows[-1].runs[0]
    data = run.data.load()
    some = sample(data, IMAGES)
    names, pixels = [data.classes[label] for label in some.labels.tolist()], pixels_of(some)
    columns = [(pixels, [f"image of {name}" for name in names])]
    teacher = find(run.teachers["big"])
    networks = [(f"teacher {teacher.run.student.title}", teacher)] if teacher else []
    networks += [(method.title, runs[0]) for method, runs in judged.finished()]
    with one_thread():
        x = normalise(torch.from_numpy(pixels), *data.mean_std)
        for title, result in networks:
            found = maps(result.student(), x, some.labels)
            predicted = [data.classes[label] for label in found.predicted.tolist()]
            marks = ["✓" if said == name else f"✗ {said}" for said, name in zip(predicted, names, strict=True)]
            drawn = [overlay(*each) for each in zip(pixels, found.maps, strict=True)]
            columns.append((drawn, [f"{title}\n{mark}" for mark in marks]))
    places = list(product(range(len(names)), columns))
    return contact_sheet(
        np.stack([enlarged(tiles[i]) for i, (tiles, _) in places]),
        [titles[i] for i, (_, titles) in places],
        columns=len(columns),
        title="Where they look: Grad-CAM for the image's own class",
        caption=f"{judged.caption} · maps of the first seed that finished · ✓ that class is predicted, ✗ which one is",
        tile=130,
    )
