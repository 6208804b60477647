"""Describes the cockpit's curves of one or two sessions by step, for the page (`message`) and for a file
(kit/live/snapshot.py)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, pairwise
from typing import Any, Literal

import numpy as np

from kit.live.state import History, State
from kit.show.style import BLUE, GREEN, INK, MUTED, PURPLE, VERMILLION, stage_shades

POINTS = 400  # a line has at most so many: there are hardly more pixels, and a message is never longer
LANES: tuple[tuple[str, tuple[float, ...]], ...] = ((VERMILLION, ()), (BLUE, (5, 2)))  # colour and dash of A and of B
TEACHERS = (PURPLE, GREEN, BLUE, MUTED)  # colours, of a teacher's t and of its pull
DOTS = 100  # of the test split, at most
SYMBOLS = {"k": "K", "alpha": "α"}


@dataclass(frozen=True)
class Line:
    """y (n,) against x (n,), in px of the page; a `name` stands in the legend, markers stand in for the line."""

    x: np.ndarray
    y: np.ndarray
    colour: str
    name: str = ""
    width: float = 1.6
    dash: tuple[float, ...] = ()  # px on, px off
    opacity: float = 1.0
    steps: bool = False  # a staircase: each y lasts until the next x
    marker: Literal["", "o", "s"] = ""


@dataclass(frozen=True)
class Panel:
    """One set of axes. Its `scale` is linear, log, or percent, which shows 0…1 as 0…100."""

    title: str
    lines: tuple[Line, ...]
    low: float
    high: float
    scale: Literal["linear", "log", "percent"] = "linear"
    note: str = ""  # said at the last mark


@dataclass(frozen=True)
class Curves:
    """Panels over the same batches 0…total, the lowest two last. A band is a stage's (name, first, end, shade), a mark
    where it was steered."""

    total: int
    panels: tuple[Panel, ...]
    bands: tuple[tuple[str, float, float, str], ...]
    marks: tuple[int, ...]


# ---- what is shown --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Course:
    """A session as it is drawn: colour, dash, and its history thinned, (n,) each against the batches x (n,)."""

    state: State
    colour: str
    dash: tuple[float, ...]
    x: np.ndarray
    history: History

    @classmethod
    def of(cls, state: State, colour: str, dash: tuple[float, ...]) -> Course:
        """All columns are thinned at once: each call of numpy is one that the training waits for."""
        full = state.history
        x, *thin = thinned(np.stack([np.arange(1.0, state.step + 1), *full.values()], 1)).T  # (m,) each
        history = History(zip(full, thin, strict=True))
        history["t_used"] = full["t_used"][:: size_of(full["t_used"])]
        return cls(state, colour, dash, x, history)

    def line(self, y: np.ndarray, colour: str = "", name: str = "", width: float = 1.6, **looks: Any) -> Line:
        """Values (n,) by batch, in the session's dash and, where no other is given, its colour."""
        return Line(self.x, y, colour or self.colour, name, width, **{"dash": self.dash} | looks)


def curves(states: Sequence[State]) -> Curves:
    """Describes loss, t, accuracy and what moves t of the sessions; the first one's stages and marks are shown."""
    first, total = states[0], max(1, *(state.total for state in states))
    courses = [Course.of(state, *looks) for state, looks in zip(states, LANES, strict=False)]
    ends = [begin for _, begin in first.stages[1:]] + [total] * bool(first.stages)
    shades = stage_shades(name for name, _ in first.stages)
    return Curves(
        total,
        (
            _loss(courses),
            _temperature(courses),
            _accuracy(courses),
            (_pull if first.history.of("pull") else _slope)(courses),
        ),
        tuple((name, begin, end, shades[name]) for (name, begin), end in zip(first.stages, ends, strict=True)),
        tuple(sorted({event.step for event in first.events})),
    )


def _loss(courses: Sequence[Course]) -> Panel:
    names = ["A, whose stages are shaded", "B"] if len(courses) > 1 else [""]
    lines = [course.line(course.history["loss"], name=name) for course, name in zip(courses, names, strict=True)]
    low, high = _decades(np.concatenate([course.state.history["loss"] for course in courses]))
    return Panel("loss of the batch (log scale)", tuple(lines), low, high, "log")


def _accuracy(courses: Sequence[Course]) -> Panel:
    lines = []
    for course, marker in zip(courses, ("o", "s"), strict=False):
        lines.append(course.line(course.history["batch_top1"], width=1.1, opacity=0.75))
        epochs = course.state.epochs
        every = -(-len(epochs) // DOTS)
        x, y = np.array(epochs[:: -every or None][::-1], float).reshape(-1, 2).T  # the last one always
        lines.append(Line(x, y, course.colour, width=5 if len(x) <= 40 else 3, marker=marker))
    return Panel("Top-1 %: line batches, dots test split", tuple(lines), 0, 1.02, "percent")


def _temperature(courses: Sequence[Course]) -> Panel:
    lines = []
    for course in courses:
        state, history, mine = course.state, course.history, course is courses[0]
        lines.append(course.line(history["t_used"], name="⌊t⌋ in the losses" if mine else "", width=1.0, opacity=0.6,
                               steps=True))  # fmt: skip
        lines.append(course.line(history["t"], name="t" if mine else "", width=2.0))
        for (name, trace), other in zip(history.of("t").items(), cycle(TEACHERS), strict=False):
            lines.append(course.line(trace, other, f"t of {name}" if mine else "", 1.2))
        x, k = (np.array(each) for each in bound(state))
        lines.append(Line(x, k, INK, "K" if mine else "", 1.0, (1, 1), steps=True))
    states = [course.state for course in courses]
    highest = [
        np.append(t, state.k or 1) for state in states for t in (state.history["t"], *state.history.of("t").values())
    ]
    top = max(2.0, math.ceil(1.05 * max(float(np.nanmax(t)) for t in highest)))
    state = states[0]
    said = " and ".join(f"{state.t:.2f}" for state in states if state.t is not None and state.step)
    hard = state.t is None and state.step
    title = "hard labels alone" if hard else f"temperature {said}".rstrip()
    steered = [f"{SYMBOLS.get(event.name, event.name)} → {event.value:.3g}" for event in state.events[-1:]]
    return Panel(title, tuple(lines), 0, top, note="".join(steered))


def _slope(courses: Sequence[Course]) -> Panel:
    lines = []
    for course in courses:
        mismatch, spread = (course.history[f"dlogt_{term}"] for term in ("mismatch", "spread"))
        mine = course is courses[0]
        if mine:  # of B only the sum
            lines.append(course.line(mismatch, PURPLE, "mismatch", 1.4, dash=(5, 2)))
            lines.append(course.line(spread, GREEN, "spread", 1.4, dash=(1.5, 1.2)))
        lines.append(course.line(mismatch + spread, INK if mine else "", "sum" if mine else "", 1.2))
    sums = (course.state.history["dlogt_mismatch"] + course.state.history["dlogt_spread"] for course in courses)
    reach = _nice(max(float(np.nanmax(np.abs(each), initial=0)) for each in sums))
    return Panel("∂L_D / ∂log t: above 0, t falls", tuple(lines), -reach, reach)


def _pull(courses: Sequence[Course]) -> Panel:
    """How hard each of several teachers pulls at the student: its weight as it comes out."""
    lines = []
    for course in courses:
        for (name, trace), colour in zip(course.history.of("pull").items(), cycle(TEACHERS), strict=False):
            lines.append(course.line(trace, colour, name if course is courses[0] else "", 1.4))
    reach = _nice(max((float(np.nanmax(line.y, initial=0)) for line in lines), default=0))
    return Panel("how hard each teacher pulls at the student", tuple(lines), 0, reach)


def bound(state: State) -> tuple[list[float], list[float]]:
    """K against step as a staircase, from the start to where it stands; empty in a run without a K."""
    policies = [stage.temperature for stage in state.run.recipe.stages] if state.run else []
    values = [policy.k for policy in policies if hasattr(policy, "k")][:1]
    if not values:
        return [], []
    moved = [event for event in state.events if event.name == "k"]
    values += [event.value for event in moved]
    return [0.0, *(float(event.step) for event in moved), float(state.step)], [*values, values[-1]]


def size_of(values: np.ndarray) -> int:
    """How many neighbours become one, so that at most POINTS are left."""
    return max(1, -(-len(values) // POINTS))


def thinned(values: np.ndarray) -> np.ndarray:
    """At most POINTS values (n, …): means of neighbours as far as they are numbers, NaN where none is."""
    size = size_of(values)
    if size == 1:
        return values
    missing = np.full((-len(values) % size, *values.shape[1:]), np.nan)
    blocks = np.concatenate([values, missing]).reshape(-1, size, *values.shape[1:])
    known = np.isfinite(blocks)
    counts = known.sum(1)
    return np.where(counts > 0, np.where(known, blocks, 0).sum(1) / np.maximum(counts, 1), np.nan)


def _decades(loss: np.ndarray) -> tuple[float, float]:
    """The powers of ten about the losses; 0.1 to 10 where there are none."""
    loss = loss[np.isfinite(loss) & (loss > 0)]
    if not len(loss):
        return 0.1, 10.0
    return 10.0 ** math.floor(math.log10(loss.min())), 10.0 ** math.ceil(math.log10(loss.max()) + 0.02)


def _nice(reach: float) -> float:
    """The next 1, 2 or 5 times a power of ten above a reach, so that the axis seldom changes."""
    if not math.isfinite(reach) or reach <= 0:
        return 0.01
    power = 10.0 ** math.floor(math.log10(reach))
    return next(step * power for step in (1, 2, 5, 10, 20) if reach * 1.05 <= step * power)


# ---- for the page ---------------------------------------------------------------------------------------------------


def message(shown: Curves) -> dict[str, Any]:
    """The description as a widget sends it: plain values, and all points as the bytes of 32-bit floats, in which x and
    y of a line say from where to where they go. One buffer, as each is sent by itself, for which the training waits."""
    values = [each for panel in shown.panels for line in panel.lines for each in (line.x, line.y)]
    apart = list({id(each): each for each in values}.values())  # lines of a session have the same x
    ends = np.cumsum([0, *map(len, apart)]).tolist()
    places = {id(each): place for each, place in zip(apart, pairwise(ends), strict=True)}

    def placed(line: Line) -> dict[str, Any]:
        return vars(line) | {"x": places[id(line.x)], "y": places[id(line.y)]}

    panels = [vars(panel) | {"lines": [placed(line) for line in panel.lines]} for panel in shown.panels]
    return vars(shown) | {"panels": panels, "points": np.concatenate([*apart, ()]).astype("<f4").tobytes()}
