"""Tables, described column by column: texts, and intervals to be drawn; and the picture of such a table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, NullLocator

from kit.errors import KitError, one_of
from kit.paper.claims import plus_minus
from kit.show import style
from kit.show.letters import drawable
from kit.show.pages import EDGE, Page
from kit.show.style import INK, MUTED, RULE, SMALL, ZEBRA
from kit.show.tables import interval

ROW_PAD, COLUMN_GAP = 8, 22  # px
HEADER = SMALL + 0.5  # pt
NUMBER = re.compile(r"[-+−±~≈<> ]*\d")  # how cells of figures start: `57.3 ± 1.2`, `1.23 TFLOP`, `−4`, `12 %`
PANEL_GAP, LEAST, MOST = 30, 130, 330  # px: between panels of dots, and how wide one may be


@dataclass(frozen=True)
class Dots:
    """A column's intervals as they are drawn: `values` (rows, 3: mean, low, high), the paper's figures (rows,), and a
    line at the `reference`."""

    values: np.ndarray
    looks: Sequence[style.Look]
    paper: np.ndarray | None = None
    reference: float | None = None

    @property
    def limits(self) -> tuple[float, float] | None:
        """From where to where they are drawn; None where there are none.

        The interval of two seeds can be very wide: limits follow means, the paper and the reference, and intervals as
        far as they leave these a quarter of the width. What differs by less than 2 % is not drawn as if it differed.
        """
        others = [] if self.reference is None else [self.reference]
        points = np.concatenate([self.values[:, 0], others, [] if self.paper is None else self.paper])
        points = points[np.isfinite(points)]
        if not len(points):
            return None
        ends = self.values[:, 1:][np.isfinite(self.values[:, 1:])]
        room = max(np.ptp(points), 0.02 * np.abs(points).max()) or 1.0
        low = max(min([points.min(), *ends]), points.min() - 1.5 * room)
        high = min(max([points.max(), *ends]), points.max() + 1.5 * room)
        margin = max(0.06 * (high - low), (room - (high - low)) / 2)
        return low - margin, high + margin


@dataclass
class Column:
    """A table's column: its head, and a text for each row, `"left"` or `"right"` aligned.

    Cells of a leading column that say the row above's `again`, as all columns left of it do, are drawn once for all
    their rows. `dots` are drawn at the right of the table's picture. HTML alone has its cells' `classes`, a sign before
    and a bar after each text, and a `foot`.
    """

    header: str
    cells: list[str]
    align: Literal["left", "right"]
    colour: str = INK
    again: np.ndarray | None = None  # bool (rows,)
    dots: Dots | None = None
    classes: str = ""
    signs: Sequence[tuple[str, str]] = ()  # and their CSS
    bars: Sequence[object] = ()
    foot: str = ""

    @property
    def width(self) -> float:
        """In px, as drawn."""
        head = style.text_size(self.header, HEADER, bold=True)[0]
        return max([head, *(style.text_size(cell)[0] for cell in self.cells)])


def as_columns(df: pd.DataFrame, merge: Sequence[str] = ()) -> list[Column]:
    """Each column as text, numbers at the right and words at the left: as `str` gives it, floats with six digits,
    missing ones empty. `merge` names leading columns whose repeats stand once for all their rows."""
    for name in merge:
        one_of("column", name, df)
    if list(merge) != (first := list(df.columns[: len(merge)])):
        raise KitError(f"merge {list(merge)} is not allowed; allowed: {first}, the first columns")
    words = df.iloc[:, : len(merge)].astype(str)
    again, columns = words.eq(words.shift()).cummin(axis=1).to_numpy(bool), []
    for i, (name, values) in enumerate(df.items()):
        texts = [f"{value:.6g}" if isinstance(value, float) else str(value) for value in values]
        cells = ["" if missing else text for text, missing in zip(texts, values.isna(), strict=True)]
        filled = [cell for cell in cells if cell not in ("", "–")]
        numbers = bool(filled) and all(map(NUMBER.match, filled))
        repeats = again[:, i] if i < len(merge) else None
        columns.append(Column(str(name), cells, "right" if numbers else "left", again=repeats))
    return columns


@dataclass(frozen=True)
class Measure:
    """A measured column of a table: each of its cells holds a row's values, one per seed, or its one value."""

    column: str
    title: str
    scale: float = 1.0  # 100 makes fractions %
    digits: int = 1
    dots: bool = False  # drawn beside the table, with 95 % intervals
    reference: float | None = None  # a line among the dots: 1 for ratios
    limits: tuple[float, float] = (-np.inf, np.inf)  # intervals are not drawn beyond what the measure can be


def measured_columns(
    df: pd.DataFrame, measure: Measure, paper: pd.DataFrame, looks: Sequence[style.Look]
) -> list[Column]:
    """A measure as text, `mean ± half the 95 % interval` or how its row ended; then the paper's figures, if any."""
    rows = [np.atleast_1d(np.asarray(values, float)) * measure.scale for values in df[measure.column]]
    cells = [plus_minus(values, measure.digits) for values in rows]
    if "ended" in df:
        cells = [said or cell for said, cell in zip(df["ended"], cells, strict=True)]
    columns = [Column(measure.title, cells, "right", classes="kit-wide")]
    printed = paper[measure.column].to_numpy(float) if measure.column in paper else None
    if measure.dots and rows:
        values = np.array([interval(row) for row in rows]).clip(*measure.limits)
        columns[0].dots = Dots(values, looks, printed, measure.reference)
    if printed is not None:
        cells = ["" if np.isnan(number) else f"{round(number, measure.digits + 1):.10g}" for number in printed.tolist()]
        columns.append(Column("paper", cells, "right", MUTED, classes="kit-paper"))
    return columns


# ---- the picture -----------------------------------------------------------------------------------------------------


@style.styled()
def draw_table(columns: Sequence[Column], title: str, caption: str, max_width: float) -> Figure:
    """Draws a table: a header rule, zebra rows, columns as wide as their text, long texts broken into lines.

    Cells that say the row above's again are left blank, with a rule where a group of rows starts. Dots are drawn at the
    right, row by row, with the paper's figures as hollow diamonds.
    """
    panels = sum(column.dots is not None for column in columns)
    columns = _fitted(columns, max_width - panels * (LEAST + PANEL_GAP))
    table = _width(columns)
    panel = min(MOST, max(LEAST, (max_width - table) / panels - PANEL_GAP)) if panels else 0
    right = table + panels * (panel + PANEL_GAP)
    width = max(right, min(max_width, max(420, style.text_size(title, style.TITLE, bold=True)[0] + 2 * EDGE)))
    key, ticks = (14, 26) if panels else (0, 0)  # the line that says what dots are; the dots' scale
    head, foot = style.frame_heights(width, title, caption)
    tops = _tops(columns, head + key)
    page = Page(width, tops[-1] + ticks + foot + 6, title, caption)
    _draw_cells(page, columns, tops, table - EDGE, right - EDGE)
    dotted = [(column.header, column.dots) for column in columns if column.dots]
    for i, (header, dots) in enumerate(dotted):
        left = table - EDGE + PANEL_GAP + i * (panel + PANEL_GAP)
        ax = page.place(left, tops[-1], panel, tops[-1] - tops[0], facecolor="none", ylim=(tops[-1], tops[0]))
        _draw_dots(ax, (tops[:-1] + tops[1:]) / 2, dots)
        _write_header(page, left, tops[0], header, "left")
    if dotted:
        diamonds = "   ◇ the paper's figure" if any(dots.paper is not None for _, dots in dotted) else ""
        page.write(right - EDGE, head + 2, "● mean and 95 % t-interval" + diamonds, "right", SMALL, MUTED)
    return page.figure


def _width(columns: Sequence[Column]) -> float:
    """The table's width in px, its edges included."""
    return sum(c.width for c in columns) + COLUMN_GAP * (len(columns) - 1) + 2 * EDGE


def _fitted(columns: Sequence[Column], width: float) -> list[Column]:
    """The columns with repeated cells blank, and the widest texts broken into lines until all are `width` px wide."""
    columns = [replace(c, header=drawable(c.header), cells=[drawable(cell) for cell in c.cells]) for c in columns]
    for column in (each for each in columns if each.again is not None):
        column.cells = ["" if blank else cell for cell, blank in zip(column.cells, column.again, strict=True)]
    for _ in range(40):
        over = _width(columns) - width
        texts = [c for c in columns if c.align == "left" and c.width > 60]
        if over <= 0 or not texts:
            break
        widest = max(texts, key=lambda c: c.width)
        target = max(60, widest.width - max(over / 2, 10))
        cells = [style.wrapped(cell.replace("\n", " "), target) for cell in widest.cells]
        if cells == widest.cells:
            widest.header = style.wrapped(widest.header.replace("\n", " "), target, HEADER, bold=True)
            if widest.width > target + 1:
                break  # a single long word
        widest.cells = cells
    return columns


def _tops(columns: Sequence[Column], top: float) -> np.ndarray:
    """Where the rows begin and the last one ends, (rows + 1,), in px; the header begins at `top`."""
    head = max((style.text_size(c.header, HEADER)[1] for c in columns), default=0) + ROW_PAD
    rows = zip(*(c.cells for c in columns), strict=True)
    heights = [max(style.text_size(cell)[1] for cell in cells) + ROW_PAD for cells in rows]
    return top + head + np.cumsum([0.0, *heights])


def _draw_cells(page: Page, columns: Sequence[Column], tops: np.ndarray, table: float, row: float) -> None:
    """Header, rules, zebra rows and cells; `tops` (rows + 1,) are the rows' in px.

    Where not all leading cells are repeated, a group of rows starts. The table proper ends at `table` px, its rows at
    `row`.
    """
    ax, leading = page.axes, [column.again for column in columns if column.again is not None]
    for i, (top, bottom) in enumerate(pairwise(tops)):
        if i % 2:
            ax.add_patch(Rectangle((EDGE - 6, top), row - EDGE + 12, bottom - top, color=ZEBRA, lw=0, zorder=0))
        repeated = [again[i] for again in leading]
        if i and not all(repeated):
            ax.plot([EDGE, row], [top, top], color=RULE if any(repeated) else MUTED, lw=0.7, zorder=1)
    ax.plot([EDGE, row], [tops[0]] * 2, color=INK, lw=1.2, zorder=2)
    ax.plot([EDGE, table], [tops[-1]] * 2, color=INK, lw=0.8, zorder=2)
    x = float(EDGE)
    for column in columns:
        anchor = x if column.align == "left" else x + column.width
        _write_header(page, anchor, tops[0], column.header, column.align)
        for middle, cell in zip((tops[:-1] + tops[1:]) / 2, column.cells, strict=True):
            page.write(anchor, middle, cell, column.align, colour=column.colour)
        x += column.width + COLUMN_GAP


def _write_header(page: Page, x: float, bottom: float, text: str, align: str) -> None:
    middle = bottom - ROW_PAD / 2 - style.text_size(text, HEADER)[1] / 2
    page.write(x, middle, text, align, HEADER, MUTED, bold=True)


def _draw_dots(ax: Axes, y: np.ndarray, dots: Dots) -> None:
    """Draws a column's dots and intervals at heights y (rows,), and the paper's figures as diamonds."""
    if dots.reference is not None:
        ax.axvline(dots.reference, color=MUTED, lw=1, ls=(0, (3, 2)), zorder=1)
    for height, values, look in zip(y, dots.values, dots.looks, strict=True):
        draw_interval(ax, height, values, look)
    if dots.paper is not None:
        ax.plot(dots.paper, y, marker="D", ms=5, color=INK, mfc="white", mew=1, ls="", zorder=3)
    if dots.limits:
        low, high = dots.limits
        ax.set_xlim(low, high)
        for height, (_, start, end), look in zip(y, dots.values, dots.looks, strict=True):
            for edge, beyond, marker in ((low, start < low, "<"), (high, end > high, ">")):
                if beyond:  # an arrow where an interval goes on
                    ax.plot([edge], [height], marker=marker, ms=5, color=look.colour, ls="", clip_on=False, zorder=4)
    ax.xaxis.set_major_locator(MaxNLocator(4) if dots.limits else NullLocator())
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.grid(axis="y", visible=False)


def draw_interval(ax: Axes, y: float, values: Sequence[float], look: style.Look, size: float = 6) -> None:
    """Draws a mean and its interval (mean, low, high) at a height; one value alone has no interval."""
    mean, low, high = values
    ax.plot([low, high], [y, y], color=look.colour, lw=2.2, alpha=0.55, solid_capstyle="butt", zorder=2)
    ax.plot([mean], [y], ms=size, mew=1.4, ls="", zorder=4, **look.mark)
