"""The figures: functions of runs, frames and logits that return a `matplotlib.figure.Figure`, never through pyplot.

Each takes a `title` and a `caption` (see `style.source_line`) and keeps all its text inside the canvas. `Softened` and
`GradientTerms` are panels that a widget updates instead of drawing anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from matplotlib.transforms import ScaledTranslation
from torch import Tensor

from kit.errors import KitError
from kit.losses import soft_cross_entropy, softened, temperature_gradient
from kit.runtime.threads import one_thread
from kit.show import style
from kit.show.style import DPI, INK, MUTED, RULE, SMALL, STUDENT, TEACHER, TEXT, WIDTH, ZEBRA
from kit.show.tables import batches_per_epoch, curves, interval, with_interval


def in_style(draw):
    """Runs a drawing function under the kit's settings."""

    @wraps(draw)
    def drawn(*args, **kwargs):
        with style.styled():
            return draw(*args, **kwargs)

    return drawn


# ---------------------------------------------------------------------------------------------------------------------
# Curves over training


@in_style
def accuracy_curves(
    runs: Mapping[str, Sequence[Any]],
    metric: str = "test_top1",
    *,
    title: str = "Accuracy against iteration",
    caption: str = "",
    width: float = WIDTH,
    height: float = 430,
) -> Figure:
    """Fig. 1: accuracy (%) against iteration, training and test side by side.

    A line per label, the mean over its seeds, with a 95 % t-interval as a band. `metric` ends in `top1` or `top5`. The
    numbers drawn are those of `tables.curves`.
    """
    top = metric.removeprefix("test_").removeprefix("train_")
    panels = {f"train_{top}": "training split, running mean of the epoch", f"test_{top}": "test split"}
    data = curves(runs, list(panels))
    look = style.looks(runs)
    figure = style.sheet(width, height, title, caption)
    axes = figure.subplots(1, 2, sharex=True)
    for ax, (column, name) in zip(axes, panels.items(), strict=True):
        for label, line in data.groupby("label", sort=False):
            few = {"marker": look[label].marker, "ms": 4} if len(line) <= 15 else {}
            colour, face = look[label].colour, look[label].face
            ax.plot(line["iteration"], line[column], color=colour, ls=look[label].line, mfc=face, zorder=3, **few)
            band = line.dropna(subset=[f"{column}_low"])
            low, high = band[f"{column}_low"], band[f"{column}_high"]
            ax.fill_between(band["iteration"], low, high, color=colour, alpha=0.14, lw=0)
        ax.set_ylim(*_accuracy_limits(data, column))
        ax.set_xlim(0, data["iteration"].max() * 1.02)
        ax.set_title(name)
        ax.set_xlabel(_iterations(runs))
        ax.set_ylabel(f"{_metric_name(top)} (%)")
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    last = data.groupby("label", sort=False).tail(1)
    names = [f"{row.label}  {getattr(row, f'test_{top}'):.1f} %" for row in last.itertuples()]
    _label_ends(axes[1], last["iteration"], last[f"test_{top}"], names, [look[label].colour for label in last["label"]])
    return style.settle(figure)


def _metric_name(top: str) -> str:
    return {"top1": "Top-1", "top5": "Top-5"}.get(top, top)


def _iterations(runs: Mapping[str, Sequence[Any]]) -> str:
    per_epoch = {round(batches_per_epoch(run)) for seeds in runs.values() for run in seeds}
    return f"iteration (batches; {per_epoch.pop()} make an epoch)" if len(per_epoch) == 1 else "iteration (batches)"


def _accuracy_limits(data: pd.DataFrame, column: str) -> tuple[float, float]:
    """Limits in % that show every line, and as much of the bands as leaves the lines most of the room."""
    low, high = data[column].min(), data[column].max()
    room = max(high - low, 2.0)
    low = max(min(low, data[f"{column}_low"].min()), low - 0.25 * room)
    high = min(max(high, data[f"{column}_high"].max()), high + 0.25 * room)
    return max(0.0, low - 0.06 * room), min(100.0 + 0.02 * room, high + 0.06 * room)


def _label_ends(ax: Axes, x: Sequence[float], y: Sequence[float], names: Sequence[str], colours: Sequence[str]) -> None:
    """Writes each line's name right of the axes at its last point (x, y), moved apart where they would overlap."""
    texts = [
        ax.annotate(
            name, (1, 0.5), (19, 0), xycoords="axes fraction", textcoords="offset points", fontsize=SMALL + 0.5,
            va="center", color=colour, annotation_clip=False, parse_math=False,
        )
        for name, colour in zip(names, colours, strict=True)
    ]  # fmt: skip
    ax.figure.draw_without_rendering()  # the axes now have their final place, with room for the names
    box = ax.get_window_extent()
    ends = ax.transAxes.inverted().transform(ax.transData.transform(np.column_stack([x, y])))  # (n, 2) axes fractions
    sizes = np.full(len(ends), style.line_height(SMALL + 0.5) / box.height)
    for text, end, place, colour in zip(
        texts, ends, style.spread(ends[:, 1], sizes, -0.02, 1.02), colours, strict=True
    ):
        text.xy = (1, place)
        _thin_line(ax, end, (1 + 23 / box.width, place), colour)


def _thin_line(ax: Axes, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
    """A line between two points in axes fractions that may leave the axes."""
    ax.plot(*zip(start, end, strict=True), transform=ax.transAxes, color=colour, lw=0.8, alpha=0.7, clip_on=False)


@in_style
def temperature_trace(
    run: Any | Sequence[Any],
    *,
    k: float | None = None,
    title: str = "The temperature during training",
    caption: str = "",
    width: float = 900,
    height: float = 400,
) -> Figure:
    """t and ⌊t⌋ against the step, the stages shaded and named, with what ended each.

    Of several runs the first gives the stages and ⌊t⌋; the others' t are thin lines. `k` is drawn as K (by default t's
    highest value).
    """
    runs = list(run) if isinstance(run, Sequence) else [run]
    values = pd.concat([r.steps["t"] for r in runs]).dropna()
    highest = float(values.max()) if len(values) else 1.0
    k = highest if k is None else k
    moves = values.nunique() > 1
    figure = style.sheet(width, height, title, caption)
    ax = figure.subplots()
    first, last = int(runs[0].steps["step"].min()), max(int(r.steps["step"].max()) for r in runs)
    ax.set_xlim(first, last + 1)
    ax.set_ylim(0, max(k, highest) * 1.08)
    ax.set_ylabel("temperature")
    ax.set_xlabel(f"step (batches; {round(batches_per_epoch(runs[0]))} make an epoch)", loc="right")
    lines = {}
    for other in runs[1:]:
        name = f"other seeds' t ({len(runs) - 1})"
        lines[name] = _by_stage(ax, other.steps, "t", color=style.VERMILLION, lw=0.8, alpha=0.45)
    if moves:
        look = {"color": style.BLUE, "lw": 1.6, "zorder": 3, "drawstyle": "steps-post"}
        lines = {"⌊t⌋, which the losses use": _by_stage(ax, runs[0].steps, "t_used", **look)} | lines
    name = "t, which the gradient moves" if moves else "T, fixed"
    lines = {name: _by_stage(ax, runs[0].steps, "t", color=style.VERMILLION, lw=1.5, zorder=4)} | lines
    if len(values):
        sign = "K" if moves else "T"
        for level in (1, k):
            ax.axhline(level, color=MUTED, lw=0.8, ls=(0, (2, 2)))
        between = [t for t in MaxNLocator(5, integer=True).tick_values(0, k) if 1 < t < 0.94 * k]
        ax.set_yticks(sorted({1.0, *between, k}))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda t, _: f"{sign}={t:g}" if t == k else f"{t:g}"))
        below = ax.transAxes + ScaledTranslation(0, -22 / 72, figure.dpi_scale_trans)
        look = {"loc": "upper left", "ncols": 3, "borderaxespad": 0, "handlelength": 1.6}
        ax.legend(lines.values(), lines.keys(), bbox_to_anchor=(0, 0), bbox_transform=below, **look)
    else:
        ax.set_yticks([])
        ax.text(0.5, 0.5, "no temperature: hard labels only", transform=ax.transAxes, ha="center", color=MUTED)
    _shade_stages(ax, runs[0])
    return style.settle(figure)


def _by_stage(ax: Axes, steps: pd.DataFrame, column: str, **look: Any) -> Any:
    """Draws a column against the step, a line per stage: t is reset between them. Returns one of the lines."""
    for _, part in steps.groupby(_stage_number(steps)):
        (line,) = ax.plot(part["step"], part[column], **look)
    return line


def _stage_number(steps: pd.DataFrame) -> pd.Series:
    return (steps["stage"] != steps["stage"].shift()).cumsum()


def stage_spans(run: Any) -> list[dict[str, Any]]:
    """The stages a run has been through: name, first and last step, the epoch at the end, what ended it ('' so far)."""
    steps = run.steps
    ends = [stage.get("ended_by", "") for stage in (getattr(run, "metrics", None) or {}).get("stages", ())]
    spans = []
    for i, (_, part) in enumerate(steps.groupby(_stage_number(steps), sort=True)):
        start, end = part.iloc[0], part.iloc[-1]
        spans.append({"name": start["stage"], "first": int(start["step"]), "last": int(end["step"])})
        spans[-1] |= {"epoch": float(end["epoch"]), "ended_by": ends[i] if i < len(ends) else ""}
    return spans


def _shade_stages(ax: Axes, run: Any) -> None:
    """Shades the stages and names them above the axes; names are moved apart where their stages are short."""
    spans = stage_spans(run)
    shades = style.stage_shades(span["name"] for span in spans)
    left, right = ax.get_xlim()
    names, middles = [], []
    for i, span in enumerate(spans):
        end = right if i == len(spans) - 1 else span["last"] + 1
        ax.axvspan(span["first"], end, color=shades[span["name"]], lw=0, zorder=0)
        if i < len(spans) - 1:
            ax.axvline(end, color=INK, lw=1, zorder=2)
        ended = [f"ended by {span['ended_by']}", f"at epoch {span['epoch']:.1f}"] if span["ended_by"] else []
        names.append([span["name"], *ended])
        middles.append(((span["first"] + end) / 2 - left) / (right - left))
    size, most = SMALL + 0.5, max(map(len, names))
    texts = [
        [
            ax.annotate(
                line, (0, 1), (0, 9 + (most - 1 - i) * style.line_height(size) * 72 / DPI), xycoords="axes fraction",
                textcoords="offset points", ha="center", va="baseline", fontsize=size, annotation_clip=False,
                color=INK if i == 0 else MUTED, parse_math=False,
            )
            for i, line in enumerate(lines)
        ]
        for lines in names
    ]  # fmt: skip
    ax.figure.draw_without_rendering()  # the axes now have their final place, with room for the names
    box = ax.get_window_extent()
    widths = np.array([style.text_size("\n".join(lines), size)[0] + 14 for lines in names]) / box.width
    beyond = 12 / box.width  # names may reach a little over the axes' ends
    places = style.spread(middles, widths, -beyond, 1 + beyond)
    for lines, middle, place in zip(texts, middles, places, strict=True):
        for text in lines:
            text.xy = (place, 1)
        foot = 9 + (most - len(lines)) * style.line_height(size)
        _thin_line(ax, (middle, 1), (place, 1 + foot / box.height), MUTED)


@in_style
def sensitivity(
    df: pd.DataFrame,
    x: str,
    y: str | Sequence[str],
    *,
    names: Mapping[str, str] | None = None,
    reference: Mapping[str, Mapping[str, float]] | None = None,
    title: str = "",
    caption: str = "",
    width: float | None = None,
    height: float = 340,
) -> Figure:
    """A sweep: each column `y` against column `x`, with columns `<y>_low` and `<y>_high` as intervals where they exist.

    `names` gives axis labels by column. `reference` gives horizontal lines: `{y: {label: value}}`.
    """
    columns = [y] if isinstance(y, str) else list(y)
    names, reference = names or {}, reference or {}
    width = width or min(WIDTH, 80 + 480 * len(columns))
    df = df.sort_values(x)
    figure = style.sheet(width, height, title, caption)
    panels = figure.subplots(1, len(columns), squeeze=False)[0]
    for ax, column in zip(panels, columns, strict=True):
        if f"{column}_low" in df:
            ax.vlines(df[x], df[f"{column}_low"], df[f"{column}_high"], color=style.VERMILLION, lw=1.6, alpha=0.6)
        ax.plot(df[x], df[column], color=style.VERMILLION, marker="o", ms=5, lw=1.2)
        ax.set_xlabel(names.get(x, x))
        ax.set_ylabel(names.get(column, column))
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(FixedLocator(_apart(df[x].unique())))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xlim(df[x].min() / 1.25, df[x].max() * 1.25)
        lines = reference.get(column, {})
        if lines:
            for label, look in style.looks(lines).items():
                ax.axhline(lines[label], color=look.colour, ls=look.line, lw=1.3)
            ends = [ax.get_xlim()[1]] * len(lines)
            ax.margins(y=0.1)
            colours = [look.colour for look in style.looks(lines).values()]
            _label_ends(ax, ends, list(lines.values()), list(lines), colours)
    return style.settle(figure)


def _apart(values: np.ndarray) -> list[float]:
    """Of rising values those that are at least a factor of 1.3 apart, so that their tick labels do not touch."""
    kept: list[float] = []
    for value in sorted(values):
        if not kept or value >= 1.3 * kept[-1]:
            kept.append(float(value))
    return kept


# ---------------------------------------------------------------------------------------------------------------------
# Tables and intervals

ROW_PAD, COLUMN_GAP, EDGE = 8, 22, 12  # px


@dataclass
class _Column:
    """A table's column as drawn: lines of text, `"left"` or `"right"` aligned, `width` in px."""

    header: str
    cells: list[str]
    align: Literal["left", "right"]
    colours: list[str] | None = None

    @property
    def width(self) -> float:
        head = style.text_size(self.header, SMALL + 0.5, bold=True)[0]
        return max([head, *(style.text_size(cell)[0] for cell in self.cells)])


def _as_columns(df: pd.DataFrame) -> list[_Column]:
    """Each column as text: numbers at the right, words at the left."""
    columns = []
    for name in df.columns:
        texts = [f"{value:.6g}" if isinstance(value, float) else str(value) for value in df[name]]
        cells = ["" if missing else text for text, missing in zip(texts, df[name].isna(), strict=True)]
        filled = [cell for cell in cells if cell not in ("", "–")]
        numbers = bool(filled) and all(_is_number(cell) for cell in filled)
        columns.append(_Column(str(name), cells, "right" if numbers else "left"))
    return columns


def _is_number(cell: str) -> bool:
    """Whether a cell starts with a figure: `57.3 ± 1.2`, `1.23 TFLOP`, `−4`, `12 %`."""
    bare = cell.lstrip("+-−±~≈<> ")
    return bare[:1].isdigit()


def _fit(columns: list[_Column], width: float) -> None:
    """Breaks the cells of the widest text columns into lines until the table is at most `width` px wide."""
    for _ in range(40):
        over = sum(c.width for c in columns) + COLUMN_GAP * (len(columns) - 1) - width
        texts = [c for c in columns if c.align == "left" and c.width > 60]
        if over <= 0 or not texts:
            return
        widest = max(texts, key=lambda c: c.width)
        target = max(60, widest.width - max(over / 2, 10))
        cells = [style.wrapped(cell.replace("\n", " "), target) for cell in widest.cells]
        if cells == widest.cells:
            widest.header = style.wrapped(widest.header.replace("\n", " "), target, SMALL + 0.5, bold=True)
            if widest.width > target + 1:
                return  # a single long word
        widest.cells = cells


@dataclass
class _Grid:
    """Where a table's rows are, in px from the top: tops (rows + 1,), and the header's top."""

    header: float
    tops: np.ndarray

    @property
    def middles(self) -> np.ndarray:
        return (self.tops[:-1] + self.tops[1:]) / 2


def _grid(columns: list[_Column], top: float) -> _Grid:
    head = max(style.text_size(c.header, SMALL + 0.5)[1] for c in columns) + ROW_PAD
    rows = len(columns[0].cells)
    heights = [max(style.text_size(c.cells[i])[1] for c in columns) + ROW_PAD for i in range(rows)]
    return _Grid(top, top + head + np.concatenate([[0.0], np.cumsum(heights)]))


def _draw_table(
    ax: Axes, columns: list[_Column], grid: _Grid, groups: Mapping[int, int], table: float, row: float
) -> None:
    """Header, rules, zebra rows and cells on axes whose units are px, y downwards.

    `groups` are rows that start a group with their rank: 0 for a change in the first column. The table proper ends at
    `table` px, its rows at `row` px.
    """
    for i, (top, bottom) in enumerate(zip(grid.tops[:-1], grid.tops[1:], strict=True)):
        if i % 2:
            ax.add_patch(Rectangle((EDGE - 6, top), row - EDGE + 12, bottom - top, color=ZEBRA, lw=0, zorder=0))
        if i and i in groups:
            ax.plot([EDGE, row], [top, top], color=MUTED if groups[i] == 0 else RULE, lw=0.7, zorder=1)
    ax.plot([EDGE, row], [grid.tops[0]] * 2, color=INK, lw=1.2, zorder=2)
    ax.plot([EDGE, table], [grid.tops[-1]] * 2, color=INK, lw=0.8, zorder=2)
    x = float(EDGE)
    for column in columns:
        anchor = x if column.align == "left" else x + column.width
        head = {"size": SMALL + 0.5, "colour": MUTED, "bold": True}
        head_middle = grid.tops[0] - ROW_PAD / 2 - style.text_size(column.header, SMALL + 0.5)[1] / 2
        _write(ax, anchor, head_middle, column.header, column.align, **head)
        for i, (middle, cell) in enumerate(zip(grid.middles, column.cells, strict=True)):
            _write(ax, anchor, middle, cell, column.align, colour=column.colours[i] if column.colours else INK)
        x += column.width + COLUMN_GAP


def _write(
    ax: Axes, x: float, middle: float, text: str, align: str, size: float = TEXT, colour: str = INK, bold: bool = False
) -> None:
    """Lines of text about a height, in px; baselines do not depend on which letters there are."""
    lines = text.split("\n")
    step = style.line_height(size)
    for i, line in enumerate(lines):
        if line:
            baseline = middle + (i - (len(lines) - 1) / 2) * step + 0.36 * size * DPI / 72  # half a capital's height
            weight = "bold" if bold else "normal"
            ax.text(
                x, baseline, line, ha=align, va="baseline", size=size, color=colour, weight=weight, parse_math=False
            )


def _px_axes(figure: Figure) -> Axes:
    """Axes over the whole figure whose units are px from the upper left corner."""
    width, height = figure.get_size_inches() * DPI
    ax = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    ax.set_axis_off()
    return ax


def _repeats_blank(df: pd.DataFrame, columns: Sequence[str]) -> tuple[pd.DataFrame, dict[int, int]]:
    """Blanks the cells that repeat the row above, as far as all columns left of them do.

    Also the rows at which a group starts, each with the number of the first column that changes there.
    """
    blank = df.copy()
    groups: dict[int, int] = {}
    same = pd.Series(True, index=df.index)
    for n, column in enumerate(columns):
        same = same & (df[column].astype(str) == df[column].astype(str).shift())
        groups = {i: n for i, repeated in enumerate(same) if not repeated} | groups
        blank[column] = df[column].astype(object).where(~same, "")
    return blank, groups


@in_style
def table_picture(
    df: pd.DataFrame,
    title: str = "",
    caption: str = "",
    *,
    merge: Sequence[str] = (),
    max_width: float = WIDTH,
) -> Figure:
    """A small frame as a picture: a header rule, zebra rows, columns as wide as their text, numbers at the right.

    Cells are printed as `str` gives them (floats with six digits), missing ones empty. `merge` names leading columns
    whose repeats are left blank, with a rule where they change. Long texts are broken into lines.
    """
    shown, groups = _repeats_blank(df, merge) if merge else (df, {})
    columns = _as_columns(shown)
    _fit(columns, max_width - 2 * EDGE)
    table = sum(c.width for c in columns) + COLUMN_GAP * (len(columns) - 1) + 2 * EDGE
    width = max(table, min(max_width, max(420, style.text_size(title, style.TITLE, bold=True)[0] + 2 * EDGE)))
    head, foot = style.frame_heights(width, title, caption)
    grid = _grid(columns, head)
    figure = style.new_figure(width, grid.tops[-1] + foot + 6)
    style.frame(figure, title, caption)
    _draw_table(_px_axes(figure), columns, grid, groups, table - EDGE, table - EDGE)
    return figure


@dataclass(frozen=True)
class Measure:
    """A measured column of `compare_table`: each of its cells holds a row's values, one per seed."""

    column: str
    title: str
    scale: float = 1.0  # 100 makes fractions %
    digits: int = 1
    dots: bool = False  # drawn beside the table, with 95 % intervals
    reference: float | None = None  # a line among the dots: 1 for ratios
    limits: tuple[float, float] = (-np.inf, np.inf)  # intervals are not drawn beyond what the measure can be


@in_style
def compare_table(
    df: pd.DataFrame,
    text: Sequence[str],
    measures: Sequence[Measure],
    paper: pd.DataFrame | None = None,
    *,
    label: str | None = None,
    title: str = "",
    caption: str = "",
    width: float = 1180,
) -> Figure:
    """Tables 1 to 3: text columns, each measure as `mean ± half the 95 % interval` beside the paper's figure, and the
    measures with `dots=True` drawn at the right, row by row, with the paper's as hollow diamonds.

    `df` has the text columns and one column per measure holding sequences (one value a seed). `paper` has as many rows;
    its columns are measures, in printed units (%, s), NaN where the paper has none. A column `ended` of `df` holds what
    stands instead of numbers in a row that has none ('' in others). `label` names the text column that
    gives a row its colour (by default the last).
    """
    paper = pd.DataFrame(index=df.index) if paper is None else paper
    if len(paper) != len(df):
        raise KitError(f"paper has {len(paper)} rows and df {len(df)}; allowed: as many in both")
    shown, groups = _repeats_blank(df[list(text)], list(text)[:-1])
    columns = _as_columns(shown)
    for measure in measures:
        rows = [np.asarray(values, float) * measure.scale for values in df[measure.column]]
        cells = [with_interval(values, percent=False, digits=measure.digits) for values in rows]
        if "ended" in df:
            cells = [said or cell for said, cell in zip(df["ended"], cells, strict=True)]
        columns.append(_Column(measure.title, cells, "right"))
        if measure.column in paper:
            printed = [round(float(number), measure.digits + 1) for number in paper[measure.column]]
            cells = ["" if np.isnan(number) else f"{number:.10g}" for number in printed]
            columns.append(_Column("paper", cells, "right", colours=[MUTED] * len(cells)))
    dotted = [measure for measure in measures if measure.dots]
    gap, least, most = 30, 130, 330  # px between panels, and how wide they may be
    _fit(columns, width - 2 * EDGE - len(dotted) * (least + gap))
    table = sum(c.width for c in columns) + COLUMN_GAP * (len(columns) - 1) + 2 * EDGE
    panel = min(most, max(least, (width - table) / len(dotted) - gap)) if dotted else 0
    width = table + len(dotted) * (panel + gap)
    head, foot = style.frame_heights(width, title, caption)
    key, ticks = (14, 26) if dotted else (0, 0)  # the line that says what dots are; the dots' scale
    grid = _grid(columns, head + key)
    height = grid.tops[-1] + ticks + foot + 6
    figure = style.new_figure(width, height)
    style.frame(figure, title, caption)
    ax = _px_axes(figure)
    _draw_table(ax, columns, grid, groups, table - EDGE, width - EDGE)
    names = df[label or text[-1]].astype(str)
    looks = style.looks(names)
    for i, measure in enumerate(dotted):
        left = table - EDGE + gap + i * (panel + gap)
        box = (left / width, 1 - grid.tops[-1] / height, panel / width, (grid.tops[-1] - grid.tops[0]) / height)
        dots = figure.add_axes(box, facecolor="none", ylim=(grid.tops[-1], grid.tops[0]))
        values = np.array([interval(np.asarray(v, float) * measure.scale) for v in df[measure.column]])  # (rows, 3)
        values = values.clip(*measure.limits)
        printed = paper[measure.column].to_numpy(float) if measure.column in paper else None
        _draw_dots(dots, grid.middles, values, [looks[name] for name in names], printed, measure.reference)
        dots.set_yticks([])
        head_middle = grid.tops[0] - ROW_PAD / 2 - style.line_height(SMALL + 0.5) / 2
        _write(ax, left, head_middle, measure.title, "left", SMALL + 0.5, MUTED, bold=True)
    if dotted:
        key = "● mean and 95 % t-interval" + (
            "   ◇ the paper's figure" if any(m.column in paper for m in dotted) else ""
        )
        _write(ax, width - EDGE, head + 2, key, "right", SMALL, MUTED)
    return figure


def _draw_dots(
    ax: Axes,
    y: np.ndarray,
    values: np.ndarray,
    looks: Sequence[style.Look],
    paper: np.ndarray | None,
    reference: float | None,
) -> None:
    """Dots at heights y (n,), intervals `values` (n, 3: mean, low, high), and the paper's figures (n,) as diamonds."""
    if reference is not None:
        ax.axvline(reference, color=MUTED, lw=1, ls=(0, (3, 2)), zorder=1)
    for height, (mean, low, high), look in zip(y, values, looks, strict=True):
        ax.plot([low, high], [height, height], color=look.colour, lw=2.2, alpha=0.55, solid_capstyle="butt", zorder=2)
        ax.plot([mean], [height], marker=look.marker, ms=6, color=look.colour, mfc=look.face, mew=1.4, ls="", zorder=4)
    if paper is not None:
        ax.plot(paper, y, marker="D", ms=5, color=INK, mfc="white", mew=1, ls="", zorder=3)
    # The interval of two seeds can be very wide: limits follow means, the paper and the reference, and intervals as far
    # as they leave these a quarter of the width.
    others = [] if reference is None else [reference]
    points = np.concatenate([values[:, 0], others, [] if paper is None else paper])
    points = points[np.isfinite(points)]
    if len(points):
        ends = values[:, 1:][np.isfinite(values[:, 1:])]
        room = max(np.ptp(points), 0.02 * np.abs(points).max(), 1e-6)
        low = max(min([points.min(), *ends]), points.min() - 1.5 * room)
        high = min(max([points.max(), *ends]), points.max() + 1.5 * room)
        low, high = low - 0.06 * (high - low) - 1e-6, high + 0.06 * (high - low) + 1e-6
        ax.set_xlim(low, high)
        for height, (_, start, end), look in zip(y, values, looks, strict=True):  # arrows where an interval goes on
            for edge, beyond, marker in ((low, start < low, "<"), (high, end > high, ">")):
                if beyond:
                    ax.plot([edge], [height], marker=marker, ms=5, color=look.colour, ls="", clip_on=False, zorder=4)
    ax.xaxis.set_major_locator(MaxNLocator(5) if len(points) else NullLocator())
    ax.spines["left"].set_visible(False)
    ax.grid(axis="y", visible=False)


# ---------------------------------------------------------------------------------------------------------------------
# Images


@in_style
def contact_sheet(
    images: np.ndarray,
    titles: Sequence[str] | None = None,
    columns: int = 8,
    *,
    title: str = "",
    caption: str = "",
    tile: float = 110,
) -> Figure:
    """Images (N, H, W, 3) uint8 in a grid, each `tile` px wide, with a title above each if given."""
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise KitError(f"images {images.shape} {images.dtype} cannot be drawn; allowed: (N, H, W, 3) uint8")
    n, tall, wide, _ = images.shape
    columns = max(1, min(columns, n))
    rows = -(-n // columns)
    names = [style.wrapped(str(t), tile, SMALL) for t in titles] if titles is not None else [""] * n
    gap = 8
    # a title with one long word may be wider than its image
    step = max([tile, *(style.text_size(t, SMALL)[0] for t in names)]) + gap
    tile_height = tile * tall / wide
    name_heights = [style.text_size(t, SMALL)[1] + 4 if t else 0.0 for t in names]
    row_heights = [max(name_heights[r * columns : (r + 1) * columns]) + tile_height + gap for r in range(rows)]
    width = max(2 * EDGE + columns * step - gap, 300)
    head, foot = style.frame_heights(width, title, caption)
    height = head + sum(row_heights) + foot
    figure = style.new_figure(width, height)
    style.frame(figure, title, caption)
    ax = _px_axes(figure)
    for i, (image, name) in enumerate(zip(images, names, strict=True)):
        x = EDGE + (i % columns) * step
        bottom = head + sum(row_heights[: i // columns + 1]) - gap
        place = figure.add_axes((x / width, 1 - bottom / height, tile / width, tile_height / height))
        place.imshow(image, interpolation="nearest" if wide <= 2 * tile else "antialiased", aspect="auto")
        place.set_axis_off()
        if name:
            _write(ax, x, bottom - tile_height - 2 - style.text_size(name, SMALL)[1] / 2, name, "left", SMALL)
    return figure


# ---------------------------------------------------------------------------------------------------------------------
# Logits


class Softened:
    """Bars of p(zt, t) and p(zs, t) for one image, on the teacher's `top` classes, with what is left for the others.

    `update` changes widths and names; nothing is made anew. Class names are cut to `longest` px.
    """

    SCALES = (0.05, 0.1, 0.2, 0.5, 1.0)  # the axis ends at one of these, so that it seldom changes

    def __init__(self, ax: Axes, classes: Sequence[str], top: int = 8, longest: float = 115) -> None:
        self.ax = ax
        self.classes = [style.shortened(str(name), longest, SMALL + 0.5) for name in classes]
        self.top = min(top, len(self.classes))
        self.rest = len(self.classes) - self.top
        rows = np.arange(self.top, dtype=float)
        self.teacher = ax.barh(rows - 0.2, np.zeros(self.top), 0.38, color=TEACHER, label="teacher")
        self.student = ax.barh(rows + 0.2, np.zeros(self.top), 0.38, color=STUDENT, label="student")
        self.others = ax.text(0.99, self.top + 0.05, "", transform=ax.get_yaxis_transform(), ha="right", va="center",
                              fontsize=SMALL + 0.5, color=MUTED)  # fmt: skip
        ax.set_yticks(rows, [""] * self.top, color=INK, parse_math=False)
        ax.tick_params(axis="y", length=0)
        ax.set_ylim(self.top + 0.5 if self.rest else self.top - 0.4, -0.6)
        ax.set_xlim(0, 1)
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.set_xlabel("probability (✓ true class)")
        ax.grid(axis="y", visible=False)
        above = {"loc": "lower right", "bbox_to_anchor": (1, 1), "ncols": 2}
        ax.legend(**above, handlelength=1, borderaxespad=0.3, borderpad=0, columnspacing=1.2)
        self.title = ax.set_title("")
        self.moving = [*self.teacher, *self.student, self.others, self.title]  # what most updates change
        self.background: tuple = ()  # changes with everything else

    def chosen(self, zt: Tensor, zs: Tensor, true: int | None) -> list[int]:
        """The teacher's first classes, in its order, with the student's first and the true one always among them."""
        order = zt.argsort(descending=True, stable=True).tolist()
        always = {int(zs.argmax())} | ({true} if true is not None else set())
        others = [c for c in order if c not in always][: max(0, self.top - len(always))]
        return [c for c in order if c in always or c in others][: self.top]

    @one_thread()
    def update(self, zt: Tensor, zs: Tensor, t: float, true: int | None = None) -> None:
        """Shows logits zt, zs (C,) at temperature t. `true` marks the label's class."""
        chosen = self.chosen(zt, zs, true)
        left = []
        for bars, z in ((self.teacher, zt), (self.student, zs)):
            p = softened(z.detach().double(), t)[chosen].tolist()
            left.append(max(0.0, 1 - sum(p)))
            for bar, width in zip(bars, p, strict=True):
                bar.set_width(width)
        widest = max(bar.get_width() for bar in (*self.teacher, *self.student))
        end = next((end for end in self.SCALES if widest <= end), 1.0)
        self.ax.set_xlim(0, end)
        self.ax.set_yticklabels([f"✓ {self.classes[i]}" if i == true else self.classes[i] for i in chosen])
        self.background = (end, true, *chosen)
        if self.rest:
            self.others.set_text(f"{self.rest} other classes: teacher {left[0]:.2f}, student {left[1]:.2f}")
        self.title.set_text(f"softened at t = {t:.3g}")


class GradientTerms:
    """L_D against t, and what moves t: ∂L_D/∂log t = t·∂L_D/∂t as its two terms, for 1 ≤ t ≤ K on a batch (N, C).

    The curves are computed once up to `k_max`; `update` moves K and the mark at the current t.
    """

    @one_thread()
    def __init__(self, loss_ax: Axes, slope_ax: Axes, zt: Tensor, zs: Tensor, k_max: float, points: int = 121) -> None:
        self.zt, self.zs = zt.detach().double(), zs.detach().double()
        self.t = np.geomspace(1, max(k_max, 1.05), points)
        self.loss = np.array([float(soft_cross_entropy(self.zt, self.zs, t)) for t in self.t])
        terms = [self._terms(t) for t in self.t]
        self.mismatch, self.spread = np.array(terms).T  # (points,) each
        self.loss_ax, self.slope_ax = loss_ax, slope_ax
        loss_ax.plot(self.t, self.loss, color=INK, lw=1.5)
        slope_ax.axhline(0, color=MUTED, lw=0.8)
        slope_ax.plot(self.t, self.mismatch, color=style.PURPLE, lw=1.5, ls=(0, (5, 2)), label="mismatch")
        slope_ax.plot(self.t, self.spread, color=style.GREEN, lw=1.5, ls=(0, (1.5, 1.2)), label="spread")
        slope_ax.plot(self.t, self.mismatch + self.spread, color=INK, lw=1.8, label="sum")
        self.marks, self.lines = [], []
        for ax in (loss_ax, slope_ax):
            self.marks += ax.plot([1], [0], marker="o", ms=7, color=style.VERMILLION, mec="white", zorder=5)
            self.lines.append(ax.axvline(1, color=style.VERMILLION, lw=1, alpha=0.7))
            ax.set_xscale("log")
            ax.xaxis.set_minor_locator(NullLocator())
            ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            ax.ticklabel_format(axis="y", useOffset=False)
        loss_ax.tick_params(labelbottom=False)
        loss_ax.set_ylabel("$L_D$ (nats)")
        slope_ax.set_ylabel(r"$\partial L_D\,/\,\partial\log t$")
        slope_ax.set_xlabel("temperature t (log scale)")
        legend = slope_ax.legend(loc="upper right", ncols=3, handlelength=1.8, borderaxespad=0.1, columnspacing=1.2)
        legend.set(frame_on=True, zorder=6)
        legend.get_frame().set(facecolor="white", edgecolor="none", alpha=0.9)
        self.titles = [loss_ax.set_title(""), slope_ax.set_title("")]
        self.moving = [*self.lines, *self.marks, legend, *self.titles]  # what most updates change
        self.background: tuple = ()  # changes with everything else

    def _terms(self, t: float) -> tuple[float, float]:
        """The two terms of ∂L_D/∂log t."""
        mismatch, spread = temperature_gradient(self.zt, self.zs, t)
        return t * float(mismatch), t * float(spread)

    @one_thread()
    def update(self, t: float, k: float) -> None:
        """Marks t and shows the curves on [1, k]."""
        right = max(k, 1.05)
        if self.background != (right,):
            self.background = (right,)
            seen = self.t <= right * 1.0001
            for ax in (self.loss_ax, self.slope_ax):
                ax.set_xlim(right**-0.02, right**1.02)
                ax.xaxis.set_major_locator(FixedLocator([tick for tick in (1, 2, 3, 5, 10, 20, 40) if tick <= right]))
            _set_limits(self.loss_ax, self.loss[seen])
            both = self.mismatch + self.spread
            _set_limits(self.slope_ax, np.concatenate([self.mismatch[seen], self.spread[seen], both[seen], [0]]), 0.3)
        mismatch, spread = self._terms(t)
        loss, total = float(soft_cross_entropy(self.zt, self.zs, t)), mismatch + spread
        for mark, line, value in zip(self.marks, self.lines, (loss, total), strict=True):
            mark.set_data([t], [value])
            line.set_xdata([t, t])
        moves = "t falls" if total > 0 else "t rises" if total < 0 else "t stays"
        terms = f"mismatch {mismatch:+.3f}, spread {spread:+.3f}, sum {total:+.3f}".replace("-", "−")
        self.titles[0].set_text(f"soft loss at t = {t:.3g}, K = {k:g}: {loss:.3f}")
        self.titles[1].set_text(f"{terms}: {moves}")


def _set_limits(ax: Axes, values: np.ndarray, head: float = 0.12) -> None:
    """y limits about the values, with a share `head` of their range free above them."""
    low, high = values.min(), values.max()
    room = max(high - low, 0.01)
    ax.set_ylim(low - 0.08 * room, high + head * room)
