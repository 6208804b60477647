"""Tables to read: a notebook shows them as HTML, and saves them as the pictures of `table_pictures`.

HTML wraps, is copied as text, follows the page's theme and is sorted by a click on a column's head. It is whole without
a kernel and without script: what a page does not trust it leaves out (the sorting, the bars), and numbers, signs and
words stay. pandas' Styler has no `scope` for heads and no cells that span rows by themselves, so a template of jinja2
writes it, which escapes every text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from html import escape
from importlib.resources import files

import numpy as np
import pandas as pd
from jinja2 import Environment, Template
from matplotlib.figure import Figure

from kit.derivation import claims as section
from kit.derivation.symbolic import NAMES
from kit.errors import KitError
from kit.paper.claims import FAILS, HOLDS, NONE, OPEN, explained, readable, tally
from kit.show import glance, style, themes
from kit.show.style import WIDTH
from kit.show.table_pictures import (
    Column,
    Measure,
    as_columns,
    compare_table,
    dots_scale,
    intervals_of,
    looks_of,
    measured_columns,
    printed_beside,
    repeats_blank,
    table_picture,
)

BAR, TALL = 96, 12  # px: a drawn interval's box
INHERITED = "currentColor"
DRAWN = {colour[1:].lower() for colour in (*style.COLOURS.values(), *style.SPARE)}  # intervals' colours, rrggbb


@dataclass(frozen=True)
class Table:
    """A table as HTML for a notebook's output; `picture()` draws it as the Figure that is saved."""

    title: str
    html: str = field(repr=False)
    picture: Callable[[], Figure] = field(repr=False)

    def _repr_html_(self) -> str:
        return self.html


@dataclass(frozen=True)
class Sign:
    """A verdict's sign, told apart by shape, by fill and by a colour of Okabe and Ito's."""

    text: str
    style: str


SIGNS = {
    HOLDS: Sign("✓", f"background: {style.BLUE}; border-color: {style.BLUE}; color: #ffffff"),
    FAILS: Sign("✗", f"background: {style.VERMILLION}; border-color: {style.VERMILLION}; color: #000000"),
    OPEN: Sign("?", f"border-color: {INHERITED}"),
    NONE: Sign("–", "border-color: transparent"),
}
SECTION_1_1 = {  # its verdicts, with what is said of several, and their signs
    section.HOLDS: ("hold", SIGNS[HOLDS]),
    section.CONDITION: ("hold with a condition", Sign("(✓)", f"border-color: {style.BLUE}")),
    section.FAILS: ("do not", SIGNS[FAILS]),
    section.OPEN: ("cannot be told", SIGNS[OPEN]),
}
RECOMPUTED = {"follows": ("follow", SIGNS[HOLDS]), "does not follow": ("do not", SIGNS[FAILS])}


@dataclass(frozen=True)
class _Cell:
    """A cell: its text, and what is drawn with it. A cell that `names` its row may stand for several `rows`."""

    text: str
    style: str = ""
    names: bool = False
    rows: int = 1
    sign: Sign | None = None
    bar: str = ""  # SVG


def plain_table(
    df: pd.DataFrame, title: str = "", caption: str = "", *, merge: Sequence[str] = (), max_width: float = WIDTH
) -> Table:
    """A small frame as a table; `merge` names leading columns whose repeats stand once for all their rows."""
    columns = as_columns(df)
    rows = _rows(columns, _spans(df, merge), names=max(1, len(merge)))
    picture = partial(table_picture, df, title, caption, merge=merge, max_width=max_width)
    return Table(title, _html(title, "", caption, columns, rows), picture)


def derived_table(df: pd.DataFrame, title: str, digits: str = ".3g", *, merge: Sequence[str] = ()) -> Table:
    """A frame of the derivation as a table: its losses by the paper's letters, terms and truths as one reads them."""

    def read(entry: object) -> object:
        if isinstance(entry, bool | np.bool_):
            return "yes" if entry else "no"
        if isinstance(entry, float):
            return None if math.isnan(entry) else f"{entry:{digits}}".replace("-", "−")
        return str(entry).translate(_MATHS).replace("oo", "∞") if hasattr(entry, "free_symbols") else entry

    named = df.replace({"loss": NAMES}) if "loss" in df else df
    return plain_table(named.astype(object).map(read), title, merge=merge)


_MATHS = str.maketrans({"*": "·", "-": "−"})


def judged_table(
    claims: pd.DataFrame,
    title: str,
    caption: str,
    n: str = "seeds",
    *,
    merge: Sequence[str] = (),
    max_width: float = WIDTH,
) -> Table:
    """Judged claims as a table: first how many hold, then each with its verdict's sign and its interval drawn. `n`
    says of what n is.

    Intervals are drawn over half their width, as `glance` does, so that claims in points and in % share a scale.
    """
    df, told, notes = readable(claims).reset_index(drop=True), tally(claims), f"{caption} · {explained(claims, n)}"
    picture = partial(table_picture, df, f"{title}: {told}", notes, merge=merge, max_width=max_width)
    columns = as_columns(df)
    rows = _rows(columns, _spans(df, merge), names=1)
    named = list(df.columns)
    measured, bounds, verdict = (named.index(name) for name in ("measured", "interval", "verdict"))
    for row, (_, claim) in zip(rows, claims.iterrows(), strict=True):
        late = len(row) - len(named)  # cells of the row above stand for this one, too
        row[measured + late] = _Cell(claim["measured"], "kit-number", bar=_claim_bar(claim))
        row[bounds + late] = _Cell(claim["interval"], "kit-wide")
        row[verdict + late] = _Cell(claim["verdict"], sign=SIGNS[claim["verdict"]])
    if claims["low"].notna().any():
        notes += " · drawn: effect / half its interval, from −30 to 30, the line at 0; ◇ the paper's figure"
    return Table(title, _html(title, told, notes, columns, rows), picture)


def signed_table(claims: pd.DataFrame, title: str, verdicts: Mapping[str, tuple[str, Sign]]) -> Table:
    """Claims told without intervals, as a table: first how many hold, then each with its verdict's sign.

    `verdicts` are those that there are: `SECTION_1_1` of the derivation, `RECOMPUTED` of the headline claims.
    """
    if unknown := set(claims["verdict"]) - set(verdicts):
        raise KitError(f"verdict {unknown.pop()!r} is not known; allowed: {', '.join(verdicts)}")
    columns = as_columns(claims)
    rows = _rows(columns, _spans(claims, ()), names=1)
    place, counts = list(claims.columns).index("verdict"), claims["verdict"].value_counts()
    for row, said in zip(rows, claims["verdict"], strict=True):
        row[place] = _Cell(said, sign=verdicts[said][1])
    says = ", ".join(f"{counts.get(each, 0)} {said}" for each, (said, _) in verdicts.items())
    return Table(
        title, _html(title, says, "", columns, rows), partial(table_picture, claims, title, max_width=WIDTH + 200)
    )


def compared_table(
    df: pd.DataFrame,
    text: Sequence[str],
    measures: Sequence[Measure],
    paper: pd.DataFrame | None = None,
    *,
    label: str | None = None,
    title: str = "",
    caption: str = "",
    width: float = 1180,
) -> Table:
    """Tables 1 to 4, as `compare_table` draws them: measures with `dots=True` have their intervals in the cells, on one
    scale a column. Measures of which `df` has no column are left out."""
    measures = [measure for measure in measures if measure.column in df]
    printed = printed_beside(df, paper)
    looks = looks_of(df, label or text[-1])
    columns = as_columns(df[list(text)])
    rows = _rows(columns, _spans(df, text[:-1]), names=len(text))
    scale = [""] * len(text)
    for measure in measures:
        new = measured_columns(df, measure, printed)
        drawn, says = [""] * len(df), ""
        if measure.dots:
            theirs = printed[measure.column].to_numpy(float) if measure.column in printed else None
            drawn, says = _bars(intervals_of(df, measure), theirs, measure.reference, looks)
        for row, bar, *cells in zip(rows, drawn, *(column.cells for column in new), strict=True):
            row.append(_Cell(cells[0], "kit-number kit-wide", bar=bar))
            row += [_Cell(cell, "kit-number kit-paper") for cell in cells[1:]]
        columns += new
        scale += [says] + [""] * (len(new) - 1)
    notes = [caption]
    if any(scale):
        scale[0] = "drawn from … to"
        diamonds = "; ◇ the paper's figure" if any(m.dots and m.column in printed for m in measures) else ""
        notes.append(f"drawn: mean and 95 % t-interval{diamonds}")
    picture = partial(
        compare_table, df, text, measures, paper, label=label, title=title, caption=caption, width=width
    )  # fmt: skip
    html = _html(title, "", " · ".join(filter(None, notes)), columns, rows, scale if any(scale) else [])
    return Table(title, html, picture)


# ---- cells -----------------------------------------------------------------------------------------------------------


def _spans(df: pd.DataFrame, merge: Sequence[str]) -> np.ndarray:
    """For how many rows each cell stands, (rows, columns): 0 where one above stands for it; `merge` come first."""
    spans = np.ones(df.shape, int)
    for column, repeated in enumerate(repeats_blank(df, merge)[1].to_numpy(bool).T):
        starts = np.flatnonzero(~repeated)
        spans[:, column] = 0
        spans[starts, column] = np.diff([*starts, len(df)])
    return spans


def _rows(columns: Sequence[Column], spans: np.ndarray, names: int) -> list[list[_Cell]]:
    """The cells of each row, of which the first `names` say what it is."""
    return [
        [
            _Cell(text, "kit-number" if column.align == "right" else "", j < names, int(spans[i, j]))
            for j, (text, column) in enumerate(zip(texts, columns, strict=True))
            if spans[i, j]
        ]
        for i, texts in enumerate(zip(*(column.cells for column in columns), strict=True))
    ]


def _html(
    title: str, says: str, notes: str, columns: Sequence[Column], rows: list[list[_Cell]], scale: Sequence[str] = ()
) -> str:
    dark = f":is({themes.DARK}) .kit-table {{ {themes.nights(DRAWN)} }}"
    return _template().render(title=title, says=says, notes=notes, columns=columns, rows=rows, scale=scale, dark=dark)


@cache
def _template() -> Template:
    environment = Environment(autoescape=True)
    environment.filters["typeset"] = typeset
    return environment.from_string(files("kit.show").joinpath("table.html").read_text("utf-8"))


LETTERS = re.compile(r"\b(L|[pq]|Cov|Var|z[st])_(D|CE|S|[a-z])\b")  # of the paper's equations, with an index
LOGITS = re.compile(r"\bz([st])\b")
UNBROKEN = re.compile(r"[A-Za-z]+-\d+( %)?|[-+−]?[\d.]+ %|± [\d.]+")  # `ResNet-34`, `Top-1 %`, `12 %`


def typeset(text: str) -> str:
    """Text as HTML: escaped, letters of equations with their indices as in the paper, and names kept on one line."""
    safe = LOGITS.sub(r"z<sup>\1</sup>", LETTERS.sub(r"\1<sub>\2</sub>", escape(text)))
    return UNBROKEN.sub(r'<span class="kit-whole">\g<0></span>', safe)


# ---- intervals, drawn ------------------------------------------------------------------------------------------------

SHAPES = {  # about (0, 0)
    "o": "M-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0z",
    "s": "M-3-3h6v6h-6z",
    "D": "M0-4L4 0L0 4L-4 0z",
    "^": "M0-4L4 3H-4z",
    "v": "M0 4L4-3H-4z",
    ">": "M-3-4L4 0L-3 4z",
    "<": "M3-4L-4 0L3 4z",
    "X": "M-3-3L3 3M-3 3L3-3",
    "_": "M-4 0H4",
}


def _ink(colour: str) -> str:
    """Returns the colour as the page's theme has it."""
    return colour if colour == INHERITED else f"var(--kit-{colour[1:].lower()},{colour})"


def _mark(shape: str, x: float, colour: str, filled: bool = True) -> str:
    ink = _ink(colour)
    fill = ink if filled else "var(--kit-ground)"
    return (
        f'<path transform="translate({x:.1f} {TALL / 2:g})" d="{SHAPES[shape]}" fill="{fill}" stroke="{ink}" '
        f'stroke-width="{2.4 if shape == "X" else 1.4}"/>'
    )


def _line(x: float, to: float, colour: str) -> str:
    y = TALL / 2
    return f'<path d="M{x:.1f} {y:g}H{to:.1f}" stroke="{_ink(colour)}" stroke-width="2.2" stroke-opacity="0.6"/>'


def _upright(x: float) -> str:
    return f'<path d="M{x:.1f} 0V{TALL}" stroke="{INHERITED}" stroke-opacity="0.6" stroke-dasharray="2 1.5"/>'


def _svg(*drawn: str) -> str:
    """A drawing beside its number, which says the same: screen readers pass it over."""
    return f'<svg width="{BAR}" height="{TALL}" viewBox="0 0 {BAR} {TALL}" aria-hidden="true">{"".join(drawn)}</svg>'


def _bars(
    values: np.ndarray, paper: np.ndarray | None, reference: float | None, looks: Sequence[style.Look]
) -> tuple[list[str], str]:
    """A column's intervals (n, 3: mean, low, high), drawn row by row on one scale; also from where to where it goes."""
    limits = dots_scale(values, paper, reference)
    if limits is None:
        return [""] * len(values), ""
    low, high = limits

    def at(value: float) -> float:
        return 4 + (BAR - 8) * (value - low) / (high - low)

    printed = np.full(len(values), np.nan) if paper is None else paper
    bars = []
    for (mean, start, end), theirs, look in zip(values, printed, looks, strict=True):
        drawn = [] if reference is None else [_upright(at(reference))]
        if np.isfinite(start):
            drawn.append(_line(at(max(start, low)), at(min(end, high)), look.colour))
            drawn += [_mark("<", at(low), look.colour)] if start < low else []
            drawn += [_mark(">", at(high), look.colour)] if end > high else []
        if np.isfinite(mean):
            drawn.append(_mark(look.marker, at(mean), look.colour, look.filled))
        if np.isfinite(theirs):
            drawn.append(_mark("D", at(theirs), INHERITED, filled=False))
        bars.append(_svg(*drawn) if np.isfinite([mean, theirs]).any() else "")
    return bars, f"{low:.3g} … {high:.3g}".replace("-", "−")


def _claim_bar(claim: pd.Series) -> str:
    """An effect, its interval and the paper's figure in half-widths of the interval, as `glance` draws them."""
    half = (claim["high"] - claim["low"]) / 2
    if not half > 0:
        return ""
    look, limit = glance.LOOKS[claim["verdict"]], glance.LIMIT
    colour = INHERITED if claim["verdict"] == OPEN else look.colour

    def at(effect: float) -> float:
        return BAR / 2 + (BAR / 2 - 4) * glance.scaled(float(np.clip(effect, -limit, limit))) / glance.scaled(limit)

    drawn = [_upright(at(0))]
    measured, theirs = claim["effect"] / half, claim["printed"] / half
    drawn.append(_line(at(measured - 1), at(measured + 1), colour))
    for value, shape, of, filled in (
        (theirs, "D", INHERITED, False),
        (measured, look.marker, colour, look.filled),
    ):
        if np.isfinite(value):
            beyond = (">" if value > 0 else "<") if abs(value) > limit else shape
            drawn.append(_mark(beyond, at(value), of, filled))
    return _svg(*drawn)
