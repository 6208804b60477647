"""How every figure looks: sizes, Okabe–Ito colours fixed per label, shades of the stages, title and caption.

Figures are built and saved inside `styled()`, so a user's own matplotlib settings change neither picture nor bytes.
All sizes are in px at DPI = 100 (1 inch = 100 px); pictures are at most WIDTH px wide.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import cycle

import matplotlib.style
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.layout_engine import ConstrainedLayoutEngine
from scipy.optimize import isotonic_regression

from kit.show.letters import FAMILIES, drawable

DPI = 100
WIDTH = 1100
TEXT, SMALL, TITLE = 9.5, 8.0, 11.5  # font sizes in pt
INK, MUTED, RULE, ZEBRA = "#1a1a1a", "#555555", "#b5b5b5", "#f4f5f7"

# Okabe & Ito (2008): told apart by colour-blind readers, and in this order.
BLUE, VERMILLION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
PURPLE, SKY, GREY = "#CC79A7", "#56B4E9", "#666666"

COLOURS = {"adaptive": VERMILLION, "T=20": BLUE, "T=5": GREEN, "hard labels": GREY}
SPARE = (ORANGE, SKY, PURPLE, "#7A5C00", "#004B73", "#8C3B00")  # for labels that name none of the above
TEACHER, STUDENT = BLUE, VERMILLION
STAGES = {"small teacher": "#dceaf5", "big teacher": "#fbe6cf", "hard labels": "#e9e9e9"}
SPARE_STAGES = ("#e2f1ea", "#f3e4ee", "#fdf8d2")

_RC = {
    "figure.dpi": DPI,
    "savefig.dpi": 2 * DPI,
    "font.family": FAMILIES,
    "font.size": TEXT,
    "axes.titlesize": TEXT,
    "axes.titlelocation": "left",
    "axes.labelsize": TEXT,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#888888",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.7,
    "xtick.labelsize": SMALL + 0.5,
    "ytick.labelsize": SMALL + 0.5,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "text.color": INK,
    "legend.fontsize": SMALL + 0.5,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "svg.hashsalt": "small-teacher-kit",
    "svg.fonttype": "path",  # glyphs as outlines: the file needs no font
}
_LOCK = threading.RLock()  # rcParams are global; a live widget may draw while a cell does


@contextmanager
def styled() -> Iterator[None]:
    """matplotlib's defaults and the kit's settings, whatever the user's are; they are back when it ends."""
    with _LOCK, matplotlib.style.context(["default", _RC]):
        yield


@dataclass(frozen=True)
class Look:
    """A label's line and marker. The reading is told by line style and fill, so it needs no colour."""

    colour: str
    line: str | tuple[int, tuple[float, ...]] = "-"
    marker: str = "o"
    filled: bool = True

    @property
    def face(self) -> str:
        return self.colour if self.filled else "white"

    @property
    def mark(self) -> dict[str, str]:
        """The marker, as `plot` takes it."""
        return {"marker": self.marker, "color": self.colour, "mfc": self.face}


READINGS = {"hinton": ((0, (5, 2)), "o", False), "steps": ((0, (1.2, 1.4)), "s", False)}  # line, marker, filled


def looks(labels: Iterable[str]) -> dict[str, Look]:
    """A look for each label: its colour by what one of its parts begins with (`T=5`, `T=20`, `adaptive` or `hard
    labels`), the line by its reading (`printed` solid, filled; `hinton` dashed, hollow; `… steps` dotted, squares).

    Two labels that would look the same (two adaptive rates, say) differ by marker and dash.
    """
    spare, seen = cycle(SPARE), Counter[Look]()
    dashes = ("-", (0, (7, 2, 1.5, 2)), (0, (3, 1.2)), (0, (1.2, 1.4)))
    found = {}
    for label in dict.fromkeys(labels):
        parts = [f"{part.strip()} " for part in re.split("[,()]", label)]
        named = [COLOURS[name] for name in COLOURS if any(part.startswith(f"{name} ") for part in parts)]
        read = next((look for reading, look in READINGS.items() if reading in label), ())
        look = found[label] = Look(named[0] if named else next(spare), *read)
        if again := seen[look]:
            found[label] = replace(look, line=dashes[again % 4], marker="oD^v"[again % 4])
        seen[look] += 1
    return found


def stage_shades(names: Iterable[str]) -> dict[str, str]:
    """A pale background for each stage's name; the paper's three steps always have the same."""
    spare = cycle(SPARE_STAGES)
    return {name: STAGES.get(name) or next(spare) for name in dict.fromkeys(names)}


def source_line(roles: dict[str, str], preset: str, seeds: int, *more: str) -> str:
    """A figure's caption: what filled each role, the preset, the seeds and what the bands are.

    `source_line({"cifar-100": "generated 100 classes (embedded)"}, "quick", 3, "bands: 95 % t-interval")`
    """
    filled = [f"{role} role filled by: {source}" for role, source in roles.items()]
    return " · ".join([*filled, f"preset {preset}", f"{seeds} seed{'' if seeds == 1 else 's'}", *more])


def text_size(text: str, size: float = TEXT, bold: bool = False) -> tuple[float, float]:
    """Width and height in px at DPI of `text`, which may have several lines."""
    widths = [_line_width(line, tuple(_RC["font.family"]), size, bold) for line in drawable(text).split("\n")]
    return max(widths), line_height(size) * len(widths)


@lru_cache(maxsize=4096)
def _line_width(line: str, families: tuple[str, ...], size: float, bold: bool) -> float:
    """Measured once: tables ask for the same cells' widths again and again."""
    font = FontProperties(family=families, size=size, weight="bold" if bold else "normal")
    return _RENDERER.get_text_width_height_descent(line, font, ismath=False)[0]


def line_height(size: float) -> float:
    """The distance of two lines of text, in px at DPI."""
    return size * DPI / 72 * 1.35


def wrapped(text: str, width: float, size: float = TEXT, bold: bool = False) -> str:
    """`text` with line breaks between words so that each line is at most `width` px wide, where words allow it."""
    lines = []
    for paragraph in drawable(text).replace(" %", "\u00a0%").split("\n"):
        line, *words = paragraph.split(" ")
        for word in words:
            longer = f"{line} {word}" if line else word
            if line and text_size(longer, size, bold)[0] > width:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return "\n".join(lines)


def shortened(text: str, width: float, size: float = TEXT) -> str:
    """`text`, or its beginning and `…`, at most `width` px wide."""
    text = drawable(text)
    if text_size(text, size)[0] <= width:
        return text
    while text and text_size(f"{text}…", size)[0] > width:
        text = text[:-1]
    return f"{text.rstrip()}…"


def spread(wanted: Sequence[float], sizes: Sequence[float], low: float, high: float) -> np.ndarray:
    """Centres (n,) nearest to those `wanted` at which things of these `sizes` (n,) do not overlap within [low, high].

    They keep the order of `wanted`. Where they cannot all fit, they overlap evenly.
    """
    places, widths = np.asarray(wanted, float), np.asarray(sizes, float)
    if not len(places):
        return places
    if widths.sum() > high - low:
        widths = widths * (high - low) / widths.sum()
    order = np.argsort(places, kind="stable")
    offset = np.cumsum(widths[order]) - widths[order] / 2  # centres, were they packed from 0
    slack = isotonic_regression(places[order] - offset).x  # nearest rising sequence: gaps ≥ 0
    centres = np.empty_like(places)
    centres[order] = np.clip(slack, low, high - widths.sum()) + offset
    return centres


def new_figure(width: float, height: float) -> Figure:
    """An empty Figure of so many px with an Agg canvas; pyplot never knows of it."""
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


class SteadyLayout(ConstrainedLayoutEngine):
    """A constrained layout whose boxes are the same bits each time.

    Its solver adds up in the order of its variables' addresses; matplotlib names an SVG's clip paths by the last bit.
    """

    def execute(self, fig: Figure) -> None:
        super().execute(fig)
        for axes in fig.axes:
            kept = axes.get_in_layout()
            axes.set_position([round(side, 12) for side in axes.get_position(original=True).bounds])
            axes.set_in_layout(kept)  # which a position that is set ends


def sheet(width: float, height: float, title: str = "", caption: str = "") -> Figure:
    """A Figure with its title on top, its caption line(s) at the foot, and a constrained layout between them."""
    figure = new_figure(width, height)
    head, foot = frame(figure, title, caption)
    box = (6 / width, foot / height, 1 - 16 / width, 1 - (head + foot) / height)  # left, bottom, width, height
    figure.set_layout_engine(SteadyLayout(rect=box))
    return figure


def frame_heights(width: float, title: str, caption: str) -> tuple[float, float]:
    """Heights in px that title and caption take in a figure so many px wide."""
    head = text_size(wrapped(title, width - 24, TITLE, bold=True), TITLE)[1] + 14 if title else 4
    foot = text_size(wrapped(caption, width - 24, SMALL), SMALL)[1] + 12 if caption else 4
    return head, foot


def frame(figure: Figure, title: str, caption: str) -> tuple[float, float]:
    """Writes title and caption at the figure's edges; the heights in px that they take."""
    width, height = figure.get_size_inches() * DPI
    head, foot = frame_heights(width, title, caption)
    if title:
        figure.suptitle(
            wrapped(title, width - 24, TITLE, bold=True), x=12 / width, y=1 - 9 / height, ha="left", va="top",
            fontsize=TITLE, fontweight="bold", linespacing=1.2, parse_math=False,
        ).set_in_layout(False)  # fmt: skip
    if caption:
        figure.text(
            12 / width, 7 / height, wrapped(caption, width - 24, SMALL), ha="left", va="bottom", fontsize=SMALL,
            color=MUTED, linespacing=1.2, parse_math=False, in_layout=False, gid="caption",
        )  # fmt: skip
    return head, foot


def settle(figure: Figure) -> Figure:
    """Runs the layout once and keeps it: later draws are quicker and give the same picture."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


_RENDERER = FigureCanvasAgg(Figure(figsize=(1, 1), dpi=DPI)).get_renderer()
