"""Heat maps as pictures: blended with the image they are of, Fig. 2's grid, and the scores as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from itertools import groupby, pairwise

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image, ImageDraw

from kit.paper.figure2 import BY, Scenes, Subject, by_seed, comparisons, scores, subjects
from kit.paper.plan import Plan, Row
from kit.runs.spec import Run
from kit.runs.store import Failure, Result
from kit.runtime.threads import one_thread
from kit.show import style
from kit.show.paper_figures import BAND, caption
from kit.show.style import DPI, MUTED, RULE, SMALL, TEXT
from kit.show.table_pictures import Measure, compare_table, table_picture
from kit.show.tables import with_interval

COLOURS = "inferno"
BLEND = 0.6
BOX = "#56B4E9"  # light enough on dark maps, and no colour of theirs
SIDE = 256  # px: overlays are enlarged by a whole factor to about this

# ---- one image -------------------------------------------------------------------------------------------------------


def overlay(pixels: np.ndarray, heat: np.ndarray, blend: float = BLEND) -> np.ndarray:
    """The map (H, W) over the image (H, W, 3) uint8, of the same size: 0 is the image, 1 the map's colours alone.

    The image loses its own colours on the way, so that those seen are the map's.
    """
    colour = pixels.astype(float)
    grey = colour.mean(2, keepdims=True)
    base = colour + min(1.0, 2 * blend) * (grey - colour)
    hot = 255 * colormaps[COLOURS](np.clip(heat, 0, 1))[..., :3]
    return ((1 - blend) * base + blend * hot).round().clip(0, 255).astype(np.uint8)


def enlarged(pixels: np.ndarray, box: Sequence[float] | None = None, side: int = SIDE) -> np.ndarray:
    """An overlay (H, W, 3) enlarged by a whole factor to about `side` px, with its box (in the image's pixels)."""
    factor = max(1, round(side / max(pixels.shape[:2])))
    image = Image.fromarray(pixels.repeat(factor, 0).repeat(factor, 1))
    if box is not None:
        corners = [round(factor * float(value)) for value in box]
        ImageDraw.Draw(image).rectangle(corners, outline=BOX, width=max(1, image.width // 128))
    return np.asarray(image)


# ---- everything that is drawn ----------------------------------------------------------------------------------------

SMALL_IMAGES = 64  # px: up to here one thread is quicker than several


def look(
    rows: Sequence[Row], results: Mapping[Run, Result | Failure], method: str = "grad-cam", layer: str | None = None
) -> tuple[Scenes, list[Subject], pd.DataFrame]:
    """The test split, every network's maps of it, and all their scores: see `kit.paper.figure2`."""
    scenes = Scenes.of(rows[0].runs[0].data.load())
    with one_thread() if scenes.data.px <= SMALL_IMAGES else nullcontext():
        seen = list(subjects(rows, results, scenes, method, layer))
        return scenes, seen, scores(seen, scenes)


# ---- Fig. 2 ----------------------------------------------------------------------------------------------------------

TILE, GAP, LEFT, RIGHT, EDGE = 94, 8, 112, 52, 12  # px


@style.styled()
def fig2(
    seen: Sequence[Subject],
    scenes: Scenes,
    frame: pd.DataFrame,
    chosen: Mapping[int, str],
    plan: Plan,
    rows: Sequence[Row],
    reading: str = "printed",
    seed: int = 0,
) -> Figure:
    """Fig. 2's grid. Rows: images, and why they are shown. Columns: the image with its ship's box, each explained
    model, then its students by T = 5, T = 20 and adaptive; under each map what `frame` has for it."""
    columns = _columns(seen, reading, seed)
    wide = LEFT + (1 + len(columns)) * (TILE + GAP) + RIGHT
    method, layers = columns[0].heat.method, {each.student: each.heat.layer for each in columns}
    title = "Fig. 2 · Where explained models and their ResNet-34 students look"
    text = caption(
        plan,
        rows,
        f"{method} for the true class, seed {seed}, T = 5 and T = 20 by Eq. (1) {reading}",
        "layers: " + ", ".join(f"{name} {layer}" for name, layer in layers.items()),
        "outlined: the hull; under each map: its energy inside, ✓ the network predicts the class, ✗ another",
    )
    head, foot = style.frame_heights(wide, title, text)
    labels, row_height = 58, TILE + 24
    figure = style.new_figure(wide, head + labels + len(chosen) * row_height + foot)
    style.frame(figure, title, text)
    high = figure.get_figheight() * DPI
    page = figure.add_axes((0, 0, 1, 1), xlim=(0, wide), ylim=(high, 0))
    page.set_axis_off()
    lefts = _lefts(columns)
    _column_heads(page, columns, lefts, head + labels)
    score = frame.set_index([*BY, "seed", "image"]).sort_index()
    reasons = list(chosen.values())
    for r, (image, reason) in enumerate(chosen.items()):
        top = head + labels + r * row_height
        if r == 0 or reasons[r - 1] != reason:
            page.plot([EDGE, wide - RIGHT - GAP], [top - 3, top - 3], color=RULE, lw=0.8)
            page.text(EDGE, top + 12, style.wrapped(reason, LEFT - EDGE - 6, TEXT, bold=True), weight="bold", va="top")
        name = scenes.data.classes[int(scenes.labels[image])]
        name = style.wrapped(f"{name}\nimage {image}", LEFT - EDGE - 6, SMALL)
        page.text(EDGE, top + TILE, name, va="bottom", size=SMALL, color=MUTED, parse_math=False)
        _tile(figure, (LEFT, top, wide, high), scenes.pixels[image], scenes, image, with_box=True)
        for left, each in zip(lefts[1:], columns, strict=True):
            mixed = overlay(scenes.pixels[image], each.heat.maps[image])
            _tile(figure, (left, top, wide, high), mixed, scenes, image)
            line = score.loc[(each.teacher, each.temperature, each.reading, each.seed, image)]
            page.text(left + TILE / 2, top + TILE + 10, _under(line), ha="center", va="center", size=SMALL)
    bar = figure.add_axes((1 - 40 / wide, 1 - (head + labels + 2 * row_height) / high, 10 / wide, 2 * TILE / high))
    figure.colorbar(ScalarMappable(cmap=COLOURS), cax=bar, ticks=[0, 0.5, 1])
    bar.set_title("heat", size=SMALL, loc="center", color=MUTED)
    bar.tick_params(labelsize=SMALL, length=2, pad=2)
    return figure


def _columns(seen: Sequence[Subject], reading: str, seed: int) -> list[Subject]:
    """The explained models, then for each of them its students, T = 5, T = 20, adaptive."""
    explained = [each for each in seen if each.temperature == "teacher"]
    of_seed = [each for each in seen if each.seed == seed]
    students = [
        each
        for big in explained
        for temperature in ("T=5", "T=20", "adaptive")
        for each in of_seed
        if each.teacher == big.teacher and each.temperature == temperature and each.reading in (reading, "three steps")
    ]
    return explained + students


def _lefts(columns: Sequence[Subject]) -> list[float]:
    """Where each picture of a row begins, in px: the image, then the columns, each group of them a little apart."""
    groups = ["explained" if each.temperature == "teacher" else each.teacher for each in columns]
    apart = [0.0, 0.0]
    for before, group in pairwise(groups):
        apart.append(apart[-1] + (GAP / 2 if group != before else 0))
    return [LEFT + c * (TILE + GAP) + more for c, more in enumerate(apart)]


def _column_heads(page: Axes, columns: Sequence[Subject], lefts: Sequence[float], bottom: float) -> None:
    """A name over each column, and over each explained model's students whose they are."""
    centred = {"ha": "center", "va": "bottom", "size": TEXT}
    page.text(lefts[0] + TILE / 2, bottom - 10, "image, box", **centred)
    for left, each in zip(lefts[1:], columns, strict=True):
        if each.temperature == "teacher":
            page.text(left + TILE / 2, bottom - 10, f"{each.teacher}\nexplained", **centred)
        else:
            look = {"color": style.COLOURS[each.temperature], "weight": "bold"}
            page.text(left + TILE / 2, bottom - 10, each.temperature, **centred, **look)
    students = [(left, each) for left, each in zip(lefts[1:], columns, strict=True) if each.temperature != "teacher"]
    for teacher, group in groupby(students, key=lambda pair: pair[1].teacher):
        of = list(group)
        start, end = of[0][0], of[-1][0] + TILE
        page.plot([start, end], [bottom - 31, bottom - 31], color=MUTED, lw=0.8)
        page.text((start + end) / 2, bottom - 35, f"{of[0][1].student} taught by {teacher}", **centred)


def _tile(
    figure: Figure, place: tuple[float, float, float, float], pixels: np.ndarray, scenes: Scenes, image: int,
    with_box: bool = False,
) -> None:  # fmt: skip
    """A TILE × TILE px picture at (left, top) on a page (wide, high), with the hull's outline or the ship's box."""
    left, top, wide, high = place
    ax = figure.add_axes((left / wide, 1 - (top + TILE) / high, TILE / wide, TILE / high))
    px = len(pixels)
    ax.imshow(pixels, extent=(0, px, px, 0), interpolation="nearest", aspect="auto")
    ax.set_xlim(0, px)
    ax.set_ylim(px, 0)
    ax.set_axis_off()
    if scenes.masks is None:
        return
    if with_box:
        xmin, ymin, xmax, ymax = scenes.data.boxes[image].tolist()
        ax.add_patch(Rectangle((xmin, ymin), xmax - xmin, ymax - ymin, fill=False, ec=BOX, lw=1.4))
    else:
        fine = scenes.masks[image].repeat(4, 0).repeat(4, 1).astype(float)
        ax.contour(fine, [0.5], colors=[BOX], linewidths=0.9, extent=(0, px, 0, px))


def _under(line: pd.Series) -> str:
    mark = "✓" if line["correct"] else "✗"
    if line["empty"]:
        return f"empty map {mark}"
    return f"{100 * line['energy_mask']:.0f} % {mark}" if "energy_mask" in line else mark


# ---- tables ----------------------------------------------------------------------------------------------------------


def score_table(frame: pd.DataFrame, plan: Plan, rows: Sequence[Row]) -> Figure:
    """Every score over the whole test split, mean and t-interval over seeds, for students, teachers and controls."""
    means = by_seed(frame[frame["temperature"] != "oracle"])
    means = means.sort_values("teacher", key=lambda names: names.map(list(names.unique()).index), kind="stable")
    columns = [name for name in means.columns if name not in (*BY, "seed")]
    cells = means.groupby(BY, sort=False)[columns].agg(list).reset_index()
    cells["maps of"] = [_name(t, r) for t, r in zip(cells["temperature"], cells["reading"], strict=True)]
    for column in ("energy_mask", "energy_box", "energy_shortcut", "pointing", "iou", "accuracy"):
        cells[column] = cells[column] if column in cells else [[] for _ in range(len(cells))]
    return compare_table(
        cells.rename(columns={"teacher": "explained model"}),
        ["explained model", "maps of"],
        [
            Measure("accuracy", "test Top-1 %", scale=100),
            Measure("energy_mask", "on hull %", scale=100, dots=True),
            Measure("energy_box", "in box %", scale=100),
            Measure("pointing", "pointing %", scale=100),
            Measure("iou", "IoU %", scale=100),
            Measure("road", "ROAD ×100", scale=100),
            Measure("energy_shortcut", "on shortcut %", scale=100),
            Measure("agreement", "ρ to teacher ×100", scale=100, dots=True),
            Measure("empty", "empty %", scale=100),
        ],
        title="Where they look, as numbers: means over the whole test split",
        caption=caption(
            plan,
            rows,
            BAND,
            "on hull, in box, on shortcut: shares of the map's energy",
            "pointing game and IoU (at half of the map's maximum) against the hull",
            "ROAD on every tenth image or fewer",
            "shortcut: over images with a float in view",
        ),
        width=1560,
    )


def _name(temperature: str, reading: str) -> str:
    named = {
        "teacher": "the model itself",
        "uniform map": "uniform (chance)",
        "coarse oracle": "hull in coarse cells",
        "oracle": "oracle (the hull)",
    }
    return f"{temperature}, {reading}" if reading else named.get(temperature, temperature)


def agreement_table(frame: pd.DataFrame, plan: Plan, rows: Sequence[Row]) -> Figure:
    """Rank correlation and SSIM with the teacher's maps, on right and on wrong predictions."""
    means = by_seed(frame)
    lines = [
        {
            "explained model": teacher,
            "maps of": _name(temperature, reading),
            "rank correlation": with_interval(cell["agreement"], percent=False, digits=2),
            "where the student is right": with_interval(cell["agreement_right"], percent=False, digits=2),
            "where it is wrong": with_interval(cell["agreement_wrong"], percent=False, digits=2),
            "SSIM": with_interval(cell["ssim"], percent=False, digits=2),
        }
        for (teacher, temperature, reading), cell in means.groupby(BY, sort=False)
        if cell["agreement"].notna().any()
    ]
    return table_picture(
        pd.DataFrame(lines),
        title="Does the student look where its teacher looks?",
        caption=caption(
            plan, rows, "same image, same (true) class; mean over images ± half the 95 % interval over seeds"
        ),
        merge=["explained model"],
    )


def comparison_table(frame: pd.DataFrame, plan: Plan, rows: Sequence[Row]) -> Figure:
    """Adaptive against T = 5 and T = 20, pair by pair."""
    return table_picture(
        comparisons(frame),
        title="Adaptive less fixed T, on the same image and seed",
        caption=caption(
            plan, rows, "percentage points, with the wider of the 95 % t-intervals over seeds and over images"
        ),
        merge=["explained model"],
        max_width=1400,
    )


def sanity_table(frame: pd.DataFrame, plan: Plan, rows: Sequence[Row]) -> Figure:
    """Controls: a map that knows nothing, untrained networks, trained ones, and the hull itself."""
    means = by_seed(frame)
    kinds = {
        "uniform map (chance)": means["temperature"] == "uniform map",
        "students before training": means["temperature"] == "random weights",
        "explained models": means["temperature"] == "teacher",
        "students after training": means["temperature"].isin(style.COLOURS),
        "coarse oracle: the hull in few cells": means["temperature"] == "coarse oracle",
        "oracle: the hull's own mask": means["temperature"] == "oracle",
    }
    shown = {
        "pointing %": "pointing", "energy on hull %": "energy_mask", "energy in box %": "energy_box", "IoU %": "iou",
        "best IoU %": "iou_best", "on shortcut %": "energy_shortcut", "ROAD ×100": "road", "empty maps %": "empty",
    }  # fmt: skip
    lines = [
        {"maps of": kind}
        | {title: _mean(means.loc[which, column]) for title, column in shown.items() if column in means}
        for kind, which in kinds.items()
    ]
    return table_picture(
        pd.DataFrame(lines),
        title="Are the scores sane? Controls",
        caption=caption(plan, rows, "means over images, explained models and seeds"),
    )


def _mean(values: pd.Series) -> str:
    return f"{100 * values.mean():.1f}" if values.notna().any() else "–"


def cam_verdicts(claims: pd.DataFrame, plan: Plan, rows: Sequence[Row]) -> Figure:
    """The claims as a table, the two intervals side by side."""
    return table_picture(
        claims,
        title="Section 2.5's claims about heat maps, judged",
        caption=caption(
            plan,
            rows,
            "percentage points; rank correlation × 100",
            "the verdict follows from the wider of the two 95 % t-intervals",
            "p: Wilcoxon's signed-rank test over images",
        ),
        merge=["claim"],
        max_width=1240,
    )
