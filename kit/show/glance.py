"""All claims at a glance: one picture of what every table's verdicts are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from kit.errors import KitError
from kit.paper.claims import FAILS, HOLDS, NONE, OPEN, tally
from kit.show import style
from kit.show.pages import EDGE, Page
from kit.show.style import INK, MUTED, RULE, SMALL, WIDTH, ZEBRA, Look

LOOKS = {  # of a verdict; told apart by shape, too
    HOLDS: Look(style.BLUE),
    FAILS: Look(style.VERMILLION, marker="X"),
    OPEN: Look(style.GREY, filled=False),
    NONE: Look(style.GREY, marker="_"),
}
SAID = {HOLDS: "holds here", FAILS: "does not hold here", OPEN: "cannot be told", NONE: "no verdict: n < 2"}
PAPER = {"marker": "D", "color": INK, "mfc": "none", "ms": 8, "mew": 0.9}
LIMIT, TICKS = 30.0, (-10, -1, 0, 1, 10)  # half-widths; what lies beyond is an arrow at the edge
COLUMNS, GAP, LABEL, INDENT = 2, 26, 296, 10  # px but for the first
LINE, HEADER = style.line_height(SMALL) + 0.5, 24.0  # px


@dataclass(frozen=True)
class _Line:
    """A line of the picture: a table's name, the words that several claims share, or (with numbers) a claim."""

    text: str
    height: float
    numbers: pd.Series | None = None
    indent: float = 0.0  # px


@style.styled()
def claims_at_a_glance(frames: Mapping[str, pd.DataFrame], caption: str = "") -> Figure:
    """Draws one row a claim: its effect over half its interval, so that what lies beyond ±1 is told.

    `frames` are verdict tables (`kit.paper.claims.judged`) by the name to stand above them. The scale is linear between
    −1 and 1 and logarithmic beyond. A diamond is the paper's figure over the same half-width.
    """
    if not frames:
        raise KitError("there is no verdict to draw; allowed: at least one table of them")
    blocks = [_block(name, frame) for name, frame in frames.items()]
    columns = _columns(blocks)
    title = f"All claims at a glance: {tally(pd.concat([frame[['verdict']] for frame in frames.values()]))}"
    text = " · ".join(filter(None, [caption, "across: effect / half its interval; grey band: the interval holds zero"]))
    head, foot = style.frame_heights(WIDTH, title, text)
    top = head + 2 * LINE + 10  # under the legend and the scale
    bottom = top + max(sum(line.height for line in column) for column in columns)
    page = Page(WIDTH, bottom + LINE + foot, title, text)
    _legend(page, head + LINE / 2, {each for frame in frames.values() for each in frame["verdict"]})
    width = (WIDTH - 2 * EDGE - GAP * (COLUMNS - 1)) / COLUMNS
    for i, column in enumerate(columns):
        left = EDGE + i * (width + GAP)
        _draw_column(page, column, left, left + width, top)
    return page.figure


def _block(name: str, frame: pd.DataFrame) -> list[_Line]:
    """A table's lines. Claims of the same words stand together; a baseline that is always the same is left out."""
    lines = [_Line(f"{name}: {tally(frame)}", HEADER)]
    alone = frame["against"].nunique() == 1
    for words, claims in frame.groupby("claim", sort=False):
        shared = len(claims) > 1 and not alone
        if shared:
            lines.append(_text(str(words), 2 * LABEL))
        effect, printed = over_half(claims)
        for _, claim in claims.assign(effect=effect, printed=printed).iterrows():
            of = claim["against"] if shared else words if alone else f"{words} · {claim['against']}"
            lines.append(_text(str(of), LABEL - INDENT, claim, INDENT * shared))
    return lines


def _text(text: str, width: float, numbers: pd.Series | None = None, indent: float = 0.0) -> _Line:
    wrapped = style.wrapped(text, width, SMALL)
    return _Line(wrapped, LINE * (1 + wrapped.count("\n")), numbers, indent)


def _columns(blocks: list[list[_Line]]) -> list[list[_Line]]:
    """Lines as columns of about the same height; a table that goes on in the next one has its name there again. Claims
    of the same words stay together, unless they are so many that they would fill the column by themselves."""
    share = sum(line.height for block in blocks for line in block) / COLUMNS
    columns: list[list[_Line]] = [[]]
    height = 0.0
    for block in blocks:
        words: list[_Line] = []  # that the lines below them share
        for line in block:
            words = words if line.indent else [line] if line.numbers is None else []
            late = height - share * len(columns)
            if len(columns) < COLUMNS and (late >= 0 if not line.indent else late > share / 8):
                name = _Line(f"{block[0].text.split(':')[0]}, continued", HEADER)
                columns.append([] if line is block[0] else [name, *(words if line.indent else [])])
            columns[-1].append(line)
            height += line.height
    return columns


def _draw_column(page: Page, lines: list[_Line], left: float, right: float, top: float) -> None:
    ax, strip = page.axes, left + LABEL

    def at(effect: float) -> float:
        """Where a number of half-widths lies, in px."""
        return (strip + right) / 2 + (right - strip - 12) / 2 * scaled(effect) / scaled(LIMIT)

    edges = np.cumsum([top, *(line.height for line in lines)])
    for tick in TICKS:
        for height in (top - LINE / 2, edges[-1] + LINE / 2):
            page.write(at(tick), height, f"{tick:d}".replace("-", "−"), "center", SMALL, MUTED)
    rows = 0
    for line, above, below in zip(lines, edges, edges[1:], strict=False):
        middle = (above + below) / 2
        if line.height == HEADER:
            page.write(left, middle + 2, line.text, "left", SMALL + 1, INK, bold=True)
            ax.plot([left, right], [below - 1] * 2, color=RULE, lw=0.8)
            continue
        if line.numbers is None:
            page.write(left, middle, line.text, "left", SMALL, MUTED)
            continue
        if rows % 2:
            ax.add_patch(Rectangle((left, above), strip - left, below - above, color=ZEBRA, lw=0, zorder=0))
        rows += 1
        ax.add_patch(Rectangle((at(-1), above), at(1) - at(-1), below - above, color="#e6e6e6", lw=0, zorder=0))
        ax.plot([at(0)] * 2, [above, below], color="#888888", lw=0.7, zorder=1)
        page.write(left + line.indent, middle, line.text, "left", SMALL)
        _draw_claim(page, line.numbers, middle, at)


def _draw_claim(page: Page, claim: pd.Series, y: float, at: Callable[[float], float]) -> None:
    """The interval, the effect, and the paper's figure, in half-widths; arrows for what lies beyond the scale."""
    look, effect = LOOKS[claim["verdict"]], claim["effect"]
    if np.isnan(effect):
        page.axes.plot([at(0)], [y], ms=8, mew=1.4, ls="", zorder=4, **look.mark)
        return
    if abs(effect) <= LIMIT:
        ends = [at(effect - 1), at(effect + 1)]
        page.axes.plot(ends, [y, y], color=look.colour, lw=2, alpha=0.5, zorder=2, solid_capstyle="butt")
    for value, style_of in ((claim["printed"], PAPER), (effect, {"ms": 6.5, "mew": 1.3} | look.mark)):
        if not np.isnan(value):
            beyond = {"marker": ">" if value > 0 else "<"} if abs(value) > LIMIT else {}
            page.axes.plot([at(np.clip(value, -LIMIT, LIMIT))], [y], ls="", zorder=4, **style_of | beyond)


def over_half(claims: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Effects, and the paper's figures if any, over half of their intervals; NaN where there is none. An effect that is
    0 at every seed is 0."""
    half, effect = (claims["high"] - claims["low"]) / 2, claims["effect"]
    return (effect / half).where(half.isna() | (effect != 0), 0.0), claims.get("printed", np.nan) / half


def scaled(value: float) -> float:
    """Linear up to 1, logarithmic beyond."""
    return value if abs(value) <= 1 else float(np.sign(value) * (1 + 0.6 * np.log(abs(value))))


def _legend(page: Page, y: float, verdicts: set[str]) -> None:
    entries = [(said, {"ms": 6.5, "mew": 1.3} | LOOKS[each].mark) for each, said in SAID.items() if each in verdicts]
    entries += [("the paper's figure", PAPER), ("beyond the scale", {"marker": ">", "color": INK, "ms": 6.5})]
    x = EDGE + 5.0
    for said, look in entries:
        page.axes.plot([x], [y], ls="", **look)
        page.write(x + 13, y, said, "left", SMALL)
        x += 13 + style.text_size(said, SMALL)[0] + 26
