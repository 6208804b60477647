"""Tables as pictures: frames, and measured values beside the paper's with their intervals drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
from kit.show.style import INK, MUTED, RULE, SMALL, WIDTH, ZEBRA
from kit.show.tables import interval

ROW_PAD, COLUMN_GAP = 8, 22  # px
HEADER = SMALL + 0.5  # pt


@dataclass
class Column:
    """A table's column as drawn: lines of text, `"left"` or `"right"` aligned, `width` in px."""

    header: str
    cells: list[str]
    align: Literal["left", "right"]
    colour: str = INK

    @property
    def width(self) -> float:
        head = style.text_size(self.header, HEADER, bold=True)[0]
        return max([head, *(style.text_size(cell)[0] for cell in self.cells)])


def as_columns(df: pd.DataFrame) -> list[Column]:
    """Each column as text: numbers at the right, words at the left."""
    columns = []
    for name in df.columns:
        texts = [f"{value:.6g}" if isinstance(value, float) else str(value) for value in df[name]]
        cells = ["" if missing else text for text, missing in zip(texts, df[name].isna(), strict=True)]
        filled = [cell for cell in cells if cell not in ("", "–")]
        numbers = bool(filled) and all(_is_number(cell) for cell in filled)
        columns.append(Column(str(name), cells, "right" if numbers else "left"))
    return columns


def _is_number(cell: str) -> bool:
    """Whether a cell starts with a figure: `57.3 ± 1.2`, `1.23 TFLOP`, `−4`, `12 %`."""
    bare = cell.lstrip("+-−±~≈<> ")
    return bare[:1].isdigit()


def _width(columns: list[Column]) -> float:
    """The table's width in px, its edges included."""
    return sum(c.width for c in columns) + COLUMN_GAP * (len(columns) - 1) + 2 * EDGE


def _fit(columns: list[Column], width: float) -> None:
    """Breaks the cells of the widest text columns into lines until the table is at most `width` px wide."""
    for column in columns:
        column.header, column.cells = drawable(column.header), [drawable(cell) for cell in column.cells]
    for _ in range(40):
        over = _width(columns) - width
        texts = [c for c in columns if c.align == "left" and c.width > 60]
        if over <= 0 or not texts:
            return
        widest = max(texts, key=lambda c: c.width)
        target = max(60, widest.width - max(over / 2, 10))
        cells = [style.wrapped(cell.replace("\n", " "), target) for cell in widest.cells]
        if cells == widest.cells:
            widest.header = style.wrapped(widest.header.replace("\n", " "), target, HEADER, bold=True)
            if widest.width > target + 1:
                return  # a single long word
        widest.cells = cells


def _tops(columns: list[Column], top: float) -> np.ndarray:
    """Where the rows begin and the last one ends, (rows + 1,), in px; the header begins at `top`."""
    head = max(style.text_size(c.header, HEADER)[1] for c in columns) + ROW_PAD
    rows = zip(*(c.cells for c in columns), strict=True)
    heights = [max(style.text_size(cell)[1] for cell in cells) + ROW_PAD for cells in rows]
    return top + head + np.cumsum([0.0, *heights])


def repeats_blank(df: pd.DataFrame, columns: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Blanks the cells of `columns` that repeat the row above, as far as all columns left of them do.

    Also which these cells are, (rows, columns).
    """
    for name in columns:
        one_of("column", name, df)
    words = df[list(columns)].astype(str)
    repeats = words.eq(words.shift()).cummin(axis=1)
    return df.assign(**df[list(columns)].astype(object).mask(repeats, "")), repeats


def _draw_table(
    page: Page, columns: list[Column], tops: np.ndarray, repeats: pd.DataFrame, table: float, row: float
) -> None:
    """Header, rules, zebra rows and cells; `tops` (rows + 1,) are the rows' in px.

    Where not all of `repeats` are true, a group of rows starts. The table proper ends at `table` px, its rows at `row`.
    """
    ax = page.axes
    repeated = repeats.sum(axis=1).tolist()
    for i, (top, bottom) in enumerate(pairwise(tops)):
        if i % 2:
            ax.add_patch(Rectangle((EDGE - 6, top), row - EDGE + 12, bottom - top, color=ZEBRA, lw=0, zorder=0))
        if i and repeated[i] < repeats.shape[1]:
            ax.plot([EDGE, row], [top, top], color=RULE if repeated[i] else MUTED, lw=0.7, zorder=1)
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


@style.styled()
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
    shown, repeats = repeats_blank(df, merge)
    columns = as_columns(shown)
    _fit(columns, max_width)
    table = _width(columns)
    width = max(table, min(max_width, max(420, style.text_size(title, style.TITLE, bold=True)[0] + 2 * EDGE)))
    head, foot = style.frame_heights(width, title, caption)
    tops = _tops(columns, head)
    page = Page(width, tops[-1] + foot + 6, title, caption)
    _draw_table(page, columns, tops, repeats, table - EDGE, table - EDGE)
    return page.figure


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


def measured_columns(df: pd.DataFrame, measure: Measure, paper: pd.DataFrame) -> list[Column]:
    """A measure as text, `mean ± half the 95 % interval` or how its row ended; then the paper's figures, if any."""
    one_of("column", measure.column, df)
    rows = [np.asarray(values, float) * measure.scale for values in df[measure.column]]
    cells = [plus_minus(values, measure.digits) for values in rows]
    if "ended" in df:
        cells = [said or cell for said, cell in zip(df["ended"], cells, strict=True)]
    columns = [Column(measure.title, cells, "right")]
    if measure.column in paper:
        printed = [round(float(number), measure.digits + 1) for number in paper[measure.column]]
        cells = ["" if np.isnan(number) else f"{number:.10g}" for number in printed]
        columns.append(Column("paper", cells, "right", MUTED))
    return columns


def intervals_of(df: pd.DataFrame, measure: Measure) -> np.ndarray:
    """Each row's mean, low and high, (rows, 3), within what the measure can be."""
    return np.array([interval(np.asarray(v, float) * measure.scale) for v in df[measure.column]]).clip(*measure.limits)


def printed_beside(df: pd.DataFrame, paper: pd.DataFrame | None) -> pd.DataFrame:
    """The paper's numbers, a row for each of `df`; no columns where it has none. Raises KitError for other rows."""
    paper = pd.DataFrame(index=df.index) if paper is None else paper
    if len(paper) != len(df):
        raise KitError(f"paper has {len(paper)} rows and df {len(df)}; allowed: as many in both")
    return paper


def looks_of(df: pd.DataFrame, label: str) -> list[style.Look]:
    """Each row's look, by the column that gives it its colour."""
    names = df[label].astype(str)
    return names.map(style.looks(names)).tolist()


@style.styled()
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
    """Tables 1 to 4: text columns, each measure as `mean ± half the 95 % interval` beside the paper's figure, and the
    measures with `dots=True` drawn at the right, row by row, with the paper's as hollow diamonds.

    `df` has the text columns and one column per measure holding sequences (one value a seed). `paper` has as many rows;
    its columns are measures, in printed units (%, s), NaN where the paper has none. A column `ended` of `df` holds what
    stands instead of numbers in a row that has none ('' in others). `label` names the text column that
    gives a row its colour (by default the last).
    """
    paper = printed_beside(df, paper)
    shown, repeats = repeats_blank(df[list(text)], text[:-1])
    columns = as_columns(shown)
    columns += [column for measure in measures for column in measured_columns(df, measure, paper)]
    dotted = [measure for measure in measures if measure.dots]
    gap, least, most = 30, 130, 330  # px between panels, and how wide they may be
    _fit(columns, width - len(dotted) * (least + gap))
    table = _width(columns)
    panel = min(most, max(least, (width - table) / len(dotted) - gap)) if dotted else 0
    key, ticks = (14, 26) if dotted else (0, 0)  # the line that says what dots are; the dots' scale
    width = table + len(dotted) * (panel + gap)
    head, foot = style.frame_heights(width, title, caption)
    tops, right = _tops(columns, head + key), width - EDGE
    page = Page(width, tops[-1] + ticks + foot + 6, title, caption)
    _draw_table(page, columns, tops, repeats, table - EDGE, right)
    middles = (tops[:-1] + tops[1:]) / 2
    looks = looks_of(df, label or text[-1])
    for i, measure in enumerate(dotted):
        left = table - EDGE + gap + i * (panel + gap)
        ax = page.place(left, tops[-1], panel, tops[-1] - tops[0], facecolor="none", ylim=(tops[-1], tops[0]))
        printed = paper[measure.column].to_numpy(float) if measure.column in paper else None
        _draw_dots(ax, middles, intervals_of(df, measure), looks, printed, measure.reference)
        ax.set_yticks([])
        _write_header(page, left, tops[0], measure.title, "left")
    if dotted:
        diamonds = "   ◇ the paper's figure" if any(m.column in paper for m in dotted) else ""
        page.write(right, head + 2, "● mean and 95 % t-interval" + diamonds, "right", SMALL, MUTED)
    return page.figure


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
    for height, interval_of, look in zip(y, values, looks, strict=True):
        draw_interval(ax, height, interval_of, look)
    if paper is not None:
        ax.plot(paper, y, marker="D", ms=5, color=INK, mfc="white", mew=1, ls="", zorder=3)
    limits = dots_scale(values, paper, reference)
    if limits:
        low, high = limits
        ax.set_xlim(low, high)
        for height, (_, start, end), look in zip(y, values, looks, strict=True):  # arrows where an interval goes on
            for edge, beyond, marker in ((low, start < low, "<"), (high, end > high, ">")):
                if beyond:
                    ax.plot([edge], [height], marker=marker, ms=5, color=look.colour, ls="", clip_on=False, zorder=4)
    ax.xaxis.set_major_locator(MaxNLocator(4) if limits else NullLocator())
    ax.spines["left"].set_visible(False)
    ax.grid(axis="y", visible=False)


def draw_interval(ax: Axes, y: float, values: Sequence[float], look: style.Look, size: float = 6) -> None:
    """Draws a mean and its interval (mean, low, high) at a height; one value alone has no interval."""
    mean, low, high = values
    ax.plot([low, high], [y, y], color=look.colour, lw=2.2, alpha=0.55, solid_capstyle="butt", zorder=2)
    ax.plot([mean], [y], ms=size, mew=1.4, ls="", zorder=4, **look.mark)


def dots_scale(values: np.ndarray, paper: np.ndarray | None, reference: float | None) -> tuple[float, float] | None:
    """From where to where a column's dots are drawn; None where there are none. `values` (n, 3): mean, low, high.

    The interval of two seeds can be very wide: limits follow means, the paper and the reference, and intervals as far
    as they leave these a quarter of the width. What differs by less than 2 % is not drawn as if it differed.
    """
    others = [] if reference is None else [reference]
    points = np.concatenate([values[:, 0], others, [] if paper is None else paper])
    points = points[np.isfinite(points)]
    if not len(points):
        return None
    ends = values[:, 1:][np.isfinite(values[:, 1:])]
    room = max(np.ptp(points), 0.02 * np.abs(points).max()) or 1.0
    low = max(min([points.min(), *ends]), points.min() - 1.5 * room)
    high = min(max([points.max(), *ends]), points.max() + 1.5 * room)
    margin = max(0.06 * (high - low), (room - (high - low)) / 2)
    return low - margin, high + margin
