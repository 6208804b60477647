"""Heat maps as pictures: blended with the image they are of, Fig. 2's grid, and the scores as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image, ImageDraw

from kit.paper.claims import number, plus_minus
from kit.paper.figure2 import BY, Scenes, Subject, by_seed, comparisons, region_of, scores, subjects
from kit.paper.plan import Plan, Row
from kit.runs.spec import Run
from kit.runs.store import Failure, Result
from kit.runtime.threads import one_thread
from kit.show import style
from kit.show.html_tables import Table, compared_table, judged_table, plain_table
from kit.show.pages import EDGE, Page
from kit.show.paper_figures import BAND, caption
from kit.show.style import MUTED, RULE, SMALL, TEXT
from kit.show.table_pictures import Measure

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

TILE, GAP, LEFT, RIGHT, HEADS, ROW = 94, 8, 112, 52, 58, 118  # px
CENTRED = {"ha": "center", "va": "bottom", "size": TEXT}


@style.styled()
def fig2(
    seen: Sequence[Subject],
    scenes: Scenes,
    frame: pd.DataFrame,
    chosen: Mapping[int, str],
    plan: Plan,
    rows: Sequence[Row],
    reading: str = "printed",
) -> Figure:
    """Fig. 2's grid, of the first seed at which a network finished. Rows: images, and why they are shown. Columns: the
    image with its ship's box, each explained model, then its students by T = 5, T = 20 and adaptive; under each map
    what `frame` has for it.
    """
    seed = min(each.seed for each in seen)
    columns = _columns([each for each in seen if each.seed == seed], reading)
    subjects = [each for _, each in columns]
    layers = {each.student: each.heat.layer for each in subjects}
    marks = "✓ the network predicts the class, ✗ another"
    inside = f"outlined: the {scenes.region}; under each map: its energy inside, {marks}"
    text = caption(
        plan,
        rows,
        f"{subjects[0].heat.method} for the true class, seed {seed}, T = 5 and T = 20 by Eq. (1) {reading}",
        "layers: " + ", ".join(f"{name} {layer}" for name, layer in layers.items()),
        f"under each map: {marks}" if scenes.masks is None else inside,
    )
    title = "Fig. 2 · Where explained models and their ResNet-34 students look"
    width = LEFT + (1 + len(columns)) * (TILE + GAP) + RIGHT
    head, foot = style.frame_heights(width, title, text)
    page = Page(width, head + HEADS + len(chosen) * ROW + foot, title, text)
    ax, first = page.axes, head + HEADS
    ax.text(LEFT + TILE / 2, first - 10, "image" if scenes.masks is None else "image, box", **CENTRED)
    _column_heads(ax, columns, first)
    score = frame.set_index([*BY, "seed", "image"]).sort_index()
    before = None
    for r, (image, reason) in enumerate(chosen.items()):
        top = first + r * ROW
        if reason != before:
            ax.plot([EDGE, width - RIGHT - GAP], [top - 3, top - 3], color=RULE, lw=0.8)
            ax.text(EDGE, top + 12, style.wrapped(reason, LEFT - EDGE - 6, TEXT, bold=True), weight="bold", va="top")
        before = reason
        name = f"{scenes.data.classes[int(scenes.labels[image])]}\nimage {image}"
        name = style.wrapped(name, LEFT - EDGE - 6, SMALL)
        ax.text(EDGE, top + TILE, name, va="bottom", size=SMALL, color=MUTED, parse_math=False)
        _outline_box(_tile(page, LEFT, top, scenes.pixels[image]), scenes, image)
        for left, each in columns:
            _outline_hull(_tile(page, left, top, overlay(scenes.pixels[image], each.heat.maps[image])), scenes, image)
            line = score.loc[(each.teacher, each.temperature, each.reading, each.seed, image)]
            ax.text(left + TILE / 2, top + TILE + 10, _under(line), ha="center", va="center", size=SMALL)
    bar = page.place(width - 40, first + 2 * ROW, 10, 2 * TILE)
    page.figure.colorbar(ScalarMappable(cmap=COLOURS), cax=bar, ticks=[0, 0.5, 1])
    bar.set_title("heat", size=SMALL, loc="center", color=MUTED)
    bar.tick_params(labelsize=SMALL, length=2, pad=2)
    return page.figure


def _columns(seen: Sequence[Subject], reading: str) -> list[tuple[float, Subject]]:
    """Right of the image the explained models, then for each of them its students by T = 5, T = 20 and adaptive.

    Each with its left edge in px: groups are a little apart.
    """
    explained = [each for each in seen if each.temperature == "teacher"]
    groups = [explained]
    for big in explained:
        of = [each for each in seen if each.teacher == big.teacher and each.reading in (reading, "three steps")]
        groups.append([each for T in ("T=5", "T=20", "adaptive") for each in of if each.temperature == T])
    columns, left = [], LEFT + TILE + GAP
    for group in filter(None, groups):
        columns += [(left + i * (TILE + GAP), each) for i, each in enumerate(group)]
        left += len(group) * (TILE + GAP) + GAP / 2
    return columns


def _column_heads(ax: Axes, columns: Sequence[tuple[float, Subject]], bottom: float) -> None:
    """A name over each column, and over each explained model's students whose they are."""
    lefts: dict[tuple[str, str], list[float]] = {}  # of students, by themselves and their teacher
    for left, each in columns:
        name, look = f"{each.teacher}\nexplained", {}
        if each.temperature != "teacher":
            name, look = each.temperature, {"color": style.COLOURS[each.temperature], "weight": "bold"}
            lefts.setdefault((each.student, each.teacher), []).append(left)
        ax.text(left + TILE / 2, bottom - 10, name, **CENTRED, **look)
    for (student, teacher), of in lefts.items():
        start, end = of[0], of[-1] + TILE
        ax.plot([start, end], [bottom - 31, bottom - 31], color=MUTED, lw=0.8)
        ax.text((start + end) / 2, bottom - 35, f"{student} taught by {teacher}", **CENTRED)


def _tile(page: Page, left: float, top: float, pixels: np.ndarray) -> Axes:
    """A TILE × TILE px picture."""
    ax = page.place(left, top + TILE, TILE, TILE)
    px = len(pixels)
    ax.imshow(pixels, extent=(0, px, px, 0), interpolation="nearest", aspect="auto")
    ax.set(xlim=(0, px), ylim=(px, 0))
    ax.set_axis_off()
    return ax


def _outline_box(ax: Axes, scenes: Scenes, image: int) -> None:
    box = scenes.box(image)
    if box is not None:
        xmin, ymin, xmax, ymax = box
        ax.add_patch(Rectangle((xmin, ymin), xmax - xmin, ymax - ymin, fill=False, ec=BOX, lw=1.4))


def _outline_hull(ax: Axes, scenes: Scenes, image: int) -> None:
    if scenes.masks is not None:
        fine, px = scenes.masks[image].repeat(4, 0).repeat(4, 1).astype(float), scenes.data.px
        ax.contour(fine, [0.5], colors=[BOX], linewidths=0.9, extent=(0, px, 0, px))


def _under(line: pd.Series) -> str:
    mark = "✓" if line["correct"] else "✗"
    if line["empty"]:
        return f"empty map {mark}"
    return f"{100 * line['energy_mask']:.0f} % {mark}" if "energy_mask" in line else mark


# ---- tables ----------------------------------------------------------------------------------------------------------


def score_table(frame: pd.DataFrame, plan: Plan, rows: Sequence[Row]) -> Table:
    """Every score over the whole test split, mean and t-interval over seeds, for students, teachers and controls."""
    means, region = by_seed(frame[frame["temperature"] != "oracle"]), region_of(frame)
    planted = "energy_shortcut" in means
    measures = [
        Measure("accuracy", "test Top-1 %", scale=100),
        Measure("energy_mask", f"on {region} %", scale=100, dots=True, limits=(0, 100)),
        Measure("energy_box", "in box %", scale=100),
        Measure("pointing", "pointing %", scale=100),
        Measure("iou", "IoU %", scale=100),
        Measure("road", "ROAD ×100", scale=100),
        Measure("energy_shortcut", "on shortcut %", scale=100),
        Measure("agreement", "ρ to teacher ×100", scale=100, dots=True, limits=(-100, 100)),
        Measure("empty", "empty %", scale=100),
    ]
    against = (
        f"on {region}, in box{', on shortcut' * planted}: shares of the map's energy",
        f"pointing game and IoU (at half of the map's maximum) against the {region}",
    )
    means = means.sort_values("teacher", key=lambda names: names.map(list(names.unique()).index), kind="stable")
    cells = means.groupby(BY, sort=False).agg(list).reset_index()
    cells["maps of"] = [_name(t, r, region) for t, r in zip(cells["temperature"], cells["reading"], strict=True)]
    return compared_table(
        cells.rename(columns={"teacher": "explained model"}),
        ["explained model", "maps of"],
        measures,
        title="Where they look, as numbers: means over the whole test split",
        caption=caption(
            plan,
            rows,
            BAND,
            *against * ("energy_mask" in means),
            "ROAD on every tenth image or fewer",
            *["shortcut: over images with a float in view"] * planted,
        ),
        width=1560,
    )


def _name(temperature: str, reading: str, region: str) -> str:
    named = {
        "teacher": "the model itself",
        "uniform map": "uniform (chance)",
        "coarse oracle": f"{region} in coarse cells",
        "oracle": f"oracle (the {region})",
    }
    return f"{temperature}, {reading}" if reading else named.get(temperature, temperature)


def agreement_table(frame: pd.DataFrame, plan: Plan, rows: Sequence[Row]) -> Table:
    """Rank correlation and SSIM with the teacher's maps, on right and on wrong predictions."""
    shown = {
        "rank correlation": "agreement", "where the student is right": "agreement_right",
        "where it is wrong": "agreement_wrong", "SSIM": "ssim",
    }  # fmt: skip
    lines = [
        {"explained model": teacher, "maps of": _name(temperature, reading, region_of(frame))}
        | {title: plus_minus(cell[column], digits=2) for title, column in shown.items()}
        for (teacher, temperature, reading), cell in by_seed(frame).groupby(BY, sort=False)
        if cell["agreement"].notna().any()
    ]
    return plain_table(
        pd.DataFrame(lines),
        title="Does the student look where its teacher looks?",
        caption=caption(
            plan, rows, "same image, same (true) class; mean over images ± half the 95 % interval over seeds"
        ),
        merge=["explained model"],
    )


def comparison_table(frame: pd.DataFrame, plan: Plan, rows: Sequence[Row]) -> Table:
    """Adaptive against T = 5 and T = 20, pair by pair."""
    told = comparisons(frame)
    if told.empty:
        told = pd.DataFrame({"explained model": ["no student at a fixed T finished"]})
    return plain_table(
        told,
        title="Adaptive less fixed T, on the same image and seed",
        caption=caption(
            plan, rows, "percentage points, with the wider of the 95 % t-intervals over seeds and over images"
        ),
        merge=["explained model"],
        max_width=1400,
    )


def sanity_table(frame: pd.DataFrame, plan: Plan, rows: Sequence[Row]) -> Table:
    """Controls: a map that knows nothing, untrained networks, trained ones, and the hull itself."""
    means, region = by_seed(frame), region_of(frame)
    kinds = {
        "uniform map (chance)": means["temperature"] == "uniform map",
        "students before training": means["temperature"] == "random weights",
        "explained models": means["temperature"] == "teacher",
        "students after training": means["temperature"].isin(style.COLOURS),
        f"coarse oracle: the {region} in few cells": means["temperature"] == "coarse oracle",
        f"oracle: the {region}'s own mask": means["temperature"] == "oracle",
    }
    shown = {
        "pointing %": "pointing", f"energy on {region} %": "energy_mask", "energy in box %": "energy_box",
        "IoU %": "iou", "best IoU %": "iou_best", "on shortcut %": "energy_shortcut", "ROAD ×100": "road",
        "empty maps %": "empty",
    }  # fmt: skip
    lines = [
        {"maps of": kind}
        | {name: number(100 * means.loc[which, column].mean(), 1) for name, column in shown.items() if column in means}
        for kind, which in kinds.items()
        if which.any()
    ]
    return plain_table(
        pd.DataFrame(lines),
        title="Are the scores sane? Controls",
        caption=caption(plan, rows, "means over images, explained models and seeds"),
    )


def cam_verdicts(claims: pd.DataFrame, plan: Plan, rows: Sequence[Row]) -> Table:
    """The claims as a table; beside the intervals that decide those over images."""
    says = (
        "percentage points; rank correlation × 100",
        "the wider interval of those over seeds and images decides",
        "over images: 95 % t",
        "p: Wilcoxon's signed-rank test over images",
    )
    title = "Section 2.5's claims about heat maps, judged"
    return judged_table(claims, title, caption(plan, rows, *says), merge=["claim"])
