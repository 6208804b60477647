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
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader
from matplotlib.figure import Figure

from kit.derivation import claims as section
from kit.derivation.symbolic import NAMES
from kit.errors import KitError, one_of
from kit.paper.claims import FAILS, HOLDS, NONE, OPEN, explained, readable, tally
from kit.show import glance, style, themes
from kit.show.style import WIDTH
from kit.show.table_pictures import Column, Dots, Measure, as_columns, draw_table, measured_columns

WIDE = 96  # px: a drawn interval's box
INHERITED = "currentColor"
DRAWN = {colour[1:].lower() for colour in (*style.COLOURS.values(), *style.SPARE)}  # intervals' colours, rrggbb


@dataclass(frozen=True, repr=False, eq=False)
class Table:
    """A table, column by column: `html` for a notebook's output; `picture()` draws it as the Figure that is saved."""

    title: str
    columns: Sequence[Column]
    caption: str = ""
    max_width: float = WIDTH  # px, of the picture
    heads: int = 1  # leading columns, in HTML, that say what a row is
    says: str = ""  # in HTML, under its title
    key: str = ""  # in HTML, after its caption: what is drawn in its cells
    heading: str = ""  # of the picture, where it is not the title

    def __repr__(self) -> str:
        return f"Table(title={self.title!r})"

    @cached_property
    def html(self) -> str:
        """The table in HTML; one cell of those that say the same again stands for them all."""
        spans = np.ones((len(self.columns[0].cells) if self.columns else 0, len(self.columns)), int)
        for column, rows in zip(self.columns, spans.T, strict=True):
            if column.again is not None:
                starts = np.flatnonzero(~column.again)
                rows[:] = 0  # one above's
                rows[starts] = np.diff([*starts, len(rows)])
        notes = " · ".join(filter(None, [self.caption, self.key]))
        return TEMPLATES.get_template("table.html").render(vars(self), notes=notes, spans=spans)

    def _repr_html_(self) -> str:
        return self.html

    def picture(self) -> Figure:
        """The table as a Figure."""
        return draw_table(self.columns, self.heading or self.title, self.caption, self.max_width)


SIGNS = {  # of verdicts, told apart by shape, by fill and by a colour of Okabe and Ito's
    HOLDS: ("✓", f"background: {style.BLUE}; border-color: {style.BLUE}; color: #ffffff"),
    FAILS: ("✗", f"background: {style.VERMILLION}; border-color: {style.VERMILLION}; color: #000000"),
    OPEN: ("?", f"border-color: {INHERITED}"),
    NONE: ("–", "border-color: transparent"),
}
CLAIM_LOOKS = glance.LOOKS | {OPEN: replace(glance.LOOKS[OPEN], colour=INHERITED)}  # in HTML
SECTION_1_1 = {  # its verdicts, with what is said of several, and their signs
    section.HOLDS: ("hold", SIGNS[HOLDS]),
    section.CONDITION: ("hold with a condition", ("(✓)", f"border-color: {style.BLUE}")),
    section.FAILS: ("do not", SIGNS[FAILS]),
    section.OPEN: ("cannot be told", SIGNS[OPEN]),
}
RECOMPUTED = {"follows": ("follow", SIGNS[HOLDS]), "does not follow": ("do not", SIGNS[FAILS])}


def plain_table(
    df: pd.DataFrame, title: str = "", caption: str = "", *, merge: Sequence[str] = (), max_width: float = WIDTH
) -> Table:
    """A small frame as a table; `merge` names leading columns whose repeats stand once for all their rows."""
    return Table(title, as_columns(df, merge), caption, max_width, heads=max(1, len(merge)))


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


def judged_table(claims: pd.DataFrame, title: str, caption: str, *, merge: Sequence[str] = ()) -> Table:
    """Judged claims as a table: first how many hold, then each with its verdict's sign and its interval drawn.

    Intervals are drawn over half their width, as `glance` does, so that claims in points and in % share a scale.
    """
    df, told, caption = readable(claims), tally(claims), f"{caption} · {explained(claims)}"
    columns = as_columns(df, merge)
    measured, bounds, verdict = (columns[df.columns.get_loc(name)] for name in ("measured", "interval", "verdict"))
    effect, printed = (numbers.to_numpy() for numbers in glance.over_half(claims))
    looks = [CLAIM_LOOKS[each] for each in claims["verdict"]]
    dots = Dots(effect[:, None] + [0, -1, 1], looks, printed, reference=0)
    measured.bars = _bars(dots, (-glance.LIMIT, glance.LIMIT), glance.scaled)
    measured.classes, bounds.classes = "kit-below", "kit-wide"
    verdict.signs = [SIGNS[each] for each in claims["verdict"]]
    key = "drawn: effect / half its interval, from −30 to 30, the line at 0; ◇ the paper's figure"
    key *= bool(claims["low"].notna().any())
    return Table(title, columns, caption, WIDTH + 80, says=told, key=key, heading=f"{title}: {told}")


def signed_table(claims: pd.DataFrame, title: str, verdicts: Mapping[str, tuple[str, tuple[str, str]]]) -> Table:
    """Claims told without intervals, as a table: first how many hold, then each with its verdict's sign.

    `verdicts` are those that there are: `SECTION_1_1` of the derivation, `RECOMPUTED` of the headline claims.
    """
    for verdict in claims["verdict"]:
        one_of("verdict", verdict, verdicts)
    columns = as_columns(claims)
    columns[claims.columns.get_loc("verdict")].signs = [verdicts[verdict][1] for verdict in claims["verdict"]]
    counts = claims["verdict"].value_counts()
    says = ", ".join(f"{counts.get(each, 0)} {said}" for each, (said, _) in verdicts.items())
    return Table(title, columns, max_width=WIDTH + 200, says=says)


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
    """Tables 1 to 6: text columns, each measure as `mean ± half the 95 % interval` beside the paper's figure, and the
    intervals of measures with `dots=True` drawn on one scale a column: in HTML in its cells, else at the table's right.

    `df` has the text columns and one column per measure holding sequences (one value a seed); measures of which it has
    no column are left out. `paper` has as many rows; its columns are measures, in printed units (%, s), NaN where the
    paper has none. A column `ended` of `df` holds what stands instead of numbers in a row that has none ('' in others).
    `label` names the text column that gives a row its colour (by default the last).
    """
    for name in (*text, label or text[-1]):
        one_of("column", name, df)
    paper = pd.DataFrame(index=df.index) if paper is None else paper
    if len(paper) != len(df):
        raise KitError(f"paper has {len(paper)} rows and df {len(df)}; allowed: as many in both")
    labels = df[label or text[-1]].astype(str)
    looks = labels.map(style.looks(labels)).tolist()
    columns, key = as_columns(df[list(text)], text[:-1]), ""
    for measure in measures:
        columns += measured_columns(df, measure, paper, looks) if measure.column in df else []
    if dotted := [column for column in columns if column.dots and column.dots.limits]:
        for column in dotted:
            column.bars = _bars(column.dots, column.dots.limits)
            column.foot = "{:.3g} … {:.3g}".format(*column.dots.limits).replace("-", "−")
        columns[0].foot = "drawn from … to"
        diamonds = "; ◇ the paper's figure" * any(column.dots.paper is not None for column in dotted)
        key = f"drawn: mean and 95 % t-interval{diamonds}"
    return Table(title, columns, caption, width, heads=len(text), key=key)


# ---- HTML ------------------------------------------------------------------------------------------------------------


_MATHS = str.maketrans({"*": "·", "-": "−"})
LETTERS = re.compile(r"\b(L|[pq]|Cov|Var|z[st])_(D|CE|S|[a-z])\b")  # of the paper's equations, with an index
LOGITS = re.compile(r"\bz([st])\b")
UNBROKEN = re.compile(r"[A-Za-z]+-\d+( %)?|[-+−]?[\d.]+ %|± [\d.]+")  # `ResNet-34`, `Top-1 %`, `12 %`


def typeset(text: str) -> str:
    """Text as HTML: escaped, letters of equations with their indices as in the paper, and names kept on one line."""
    safe = LOGITS.sub(r"z<sup>\1</sup>", LETTERS.sub(r"\1<sub>\2</sub>", escape(text)))
    return UNBROKEN.sub(r'<span class="kit-whole">\g<0></span>', safe)


TEMPLATES = Environment(autoescape=True, loader=PackageLoader("kit", "show"))
TEMPLATES.filters["typeset"] = typeset
TEMPLATES.globals |= {"dark": f":is({themes.DARK}) .kit-table {{ {themes.nights(DRAWN)} }}", "wide": WIDE}


def _bars(dots: Dots, limits: tuple[float, float], scaled: Callable[[float], float] = float) -> list[dict[str, Any]]:
    """A column's intervals, row by row on one scale, with arrows for what lies beyond its limits: px from the left of a
    line upright (`rule`), of the interval's `ends`, and of `marks`, with their shape, colour, and whether they are
    filled."""
    low, high = limits
    printed = np.full(len(dots.values), np.nan) if dots.paper is None else dots.paper

    def px(value: float) -> float:
        share = (scaled(np.clip(value, low, high)) - scaled(low)) / (scaled(high) - scaled(low))
        return 4 + (WIDE - 8) * share

    bars = []
    for (mean, start, end), theirs, look in zip(dots.values, printed, dots.looks, strict=True):
        marks = [(theirs, "D", INHERITED, False), (mean, look.marker, look.colour, look.filled)]
        marks += [(bound, "", look.colour, True) for bound in (start, end) if bound < low or bound > high]
        drawn = [
            (px(value), "<" if value < low else ">" if value > high else shape, _ink(colour), filled)
            for value, shape, colour, filled in marks
            if np.isfinite(value)
        ]
        rule = None if dots.reference is None else px(dots.reference)
        ends = (px(start), px(end)) if np.isfinite(start) else None
        bars.append({"rule": rule, "ends": ends, "ink": _ink(look.colour), "marks": drawn})
    return bars


def _ink(colour: str) -> str:
    """Returns the colour as the page's theme has it."""
    return colour if colour == INHERITED else f"var(--kit-{colour[1:].lower()},{colour})"
