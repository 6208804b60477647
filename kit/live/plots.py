"""The cockpit's pictures: curves of one or two sessions by step, with bands of stages, and marks where it changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator, PercentFormatter

from kit.live.session import History, State
from kit.show import style
from kit.show.style import BLUE, GREEN, INK, MUTED, PURPLE, VERMILLION, stage_shades

POINTS = 500  # a line has at most so many: there are no more pixels
LANES = ((VERMILLION, "-"), (BLUE, (0, (5, 2))))  # colour and line of session A and of B
SYMBOLS = {"k": "K", "alpha": "α"}
LEGEND = {
    "loc": "lower right", "bbox_to_anchor": (1, 1), "handlelength": 1.8, "borderaxespad": 0.3, "borderpad": 0,
    "columnspacing": 1.2,
}  # fmt: skip
Box = tuple[float, float, float, float]  # left, bottom, width and height, as shares of a figure's
NOWHERE: tuple[Box, Box] = ((0, 0, 1e-3, 1e-3),) * 2  # for panels that are not shown


class LiveCurves:
    """Loss, accuracy, t and what moves t, each against step, in four panels of a figure; of two panels loss and t.

    `update` moves lines (`moving`); what seldom changes (axes, bands) is in the key `background`. `traces` are the
    names of further temperatures to show.
    """

    def __init__(self, figure: Figure, panels: Sequence[Box], lanes: int = 1, traces: Sequence[str] = ()) -> None:
        self.axes = tuple(figure.add_axes(box) for box in [*panels, *NOWHERE][:4])
        self.loss, self.t, self.accuracy, self.slope = self.axes
        for ax in self.axes[len(panels) :]:
            ax.set_visible(False)
        for ax in self.axes:
            ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        lowest = self.axes[: len(panels)][-2:]
        for ax in lowest:
            ax.set_xlabel("batches")
        for ax in (self.loss, self.t):
            ax.tick_params(labelbottom=ax in lowest)
        self.loss.set_yscale("log")
        self.loss.yaxis.set_minor_locator(NullLocator())
        for ax in (self.loss, self.slope):
            ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        self.accuracy.set_ylim(0, 1.02)
        self.accuracy.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=None))
        self.slope.axhline(0, color=MUTED, lw=0.8)
        self.loss.set_title("loss of the batch (log scale)")
        self.accuracy.set_title("Top-1 %: line batches, dots test split")
        self.slope.set_title(r"$\partial L_D\,/\,\partial\log t$: above 0, t falls")
        self.title = self.t.set_title("")
        self.lanes = [_Lane(self, colour, dash, traces) for colour, dash in LANES[:lanes]]
        first = self.lanes[0]
        self.slope.legend([first.mismatch, first.spread, first.both], ["mismatch", "spread", "sum"], ncols=3, **LEGEND)
        self.t.legend([first.t, first.used, first.k], ["t", "⌊t⌋ in the losses", "K"], ncols=3, **LEGEND)
        if traces:
            names = [name.removeprefix("t_").replace("_", " ") for name in traces]
            self.t.add_artist(self.t.get_legend())
            self.t.legend(first.traces.values(), names, loc="upper right", title="each t", handlelength=1.8)
        if lanes > 1:
            names = ["A, whose stages are shaded", "B"]
            self.loss.legend([lane.loss for lane in self.lanes], names, ncols=2, **LEGEND)
        self.marks = [ax.plot([], [], color=INK, lw=0.9, ls=(0, (1, 1.5)), zorder=1.5)[0] for ax in self.axes]
        self.last = self.t.text(0, 0, "", fontsize=style.SMALL, color=INK, ha="left", va="bottom", zorder=6,
                                transform=self.t.get_xaxis_transform(), clip_on=True)  # fmt: skip
        self.bands: list = []
        moving = [line for lane in self.lanes for line in lane.lines] + [*self.marks, self.last, self.title]
        self.moving = [artist for artist in moving if artist.axes.get_visible()]
        self.background: tuple = ()

    def update(self, states: Sequence[State]) -> None:
        """Shows the sessions."""
        total = max(1, *(state.total for state in states))
        histories = [state.history for state in states]
        temperatures = [np.append(t, state.k or 1) for state in states for t in state.history.temperatures]
        t_top = max(2.0, math.ceil(1.05 * max(float(np.nanmax(t)) for t in temperatures)))
        low, high = _decades(np.concatenate([h.loss for h in histories]))
        reach = _nice(max((float(np.nanmax(np.abs(h.mismatch + h.spread), initial=0)) for h in histories), default=0))
        names = states[0].stages
        background = (total, t_top, low, high, reach, names)
        if background != self.background:
            self.background = background
            for ax in self.axes:
                ax.set_xlim(0, total)
            self.t.set_ylim(0, t_top)
            self.loss.set_ylim(low, high)
            self.slope.set_ylim(-reach, reach)
            self._shade(names, total)
        for lane, state in zip(self.lanes, states, strict=True):
            lane.update(state)
        self._mark(states[0])
        hard = states[0].t is None and len(histories[0])
        values = " and ".join(f"{state.t:.2f}" for state in states if state.t is not None)
        self.title.set_text("t is 1: hard labels" if hard else f"temperature {values}")

    def _shade(self, stages: Sequence[tuple[str, int]], total: int) -> None:
        for band in self.bands:
            band.remove()
        shades = stage_shades(name for name, _ in stages)
        ends = [first for _, first in stages[1:]] + [total] * bool(stages)
        self.bands = [
            ax.axvspan(first, end, color=shades[name], lw=0, zorder=0)
            for (name, first), end in zip(stages, ends, strict=True)
            for ax in self.axes
            if end > first
        ]
        self.bands += [
            self.accuracy.text(first + 0.01 * total, 0.98, style.shortened(name, 500 * (end - first) / total),
                               fontsize=style.SMALL, color=MUTED, va="top",
                               transform=self.accuracy.get_xaxis_transform())
            for (name, first), end in zip(stages, ends, strict=True)
            if (end - first) / total > 0.06
        ]  # fmt: skip

    def _mark(self, state: State) -> None:
        at = sorted({event.step for event in state.events})
        for ax, line in zip(self.axes, self.marks, strict=True):
            low, high = ax.get_ylim()
            line.set_data(np.repeat(at, 3).astype(float), np.tile([low, high, np.nan], len(at)))
        self.last.set_text("")
        if state.events:
            event = state.events[-1]
            self.last.set_text(f" {SYMBOLS.get(event.name, event.name)} → {event.value:.3g}")
            right = event.step > 0.75 * state.total
            self.last.set(position=(event.step, 0.07), ha="right" if right else "left")


class _Lane:
    """One session's lines."""

    def __init__(self, curves: LiveCurves, colour: str, dash: object, traces: Sequence[str]) -> None:
        self.lines: list[Line2D] = []

        def line(ax: Axes, colour: str = colour, **look: object) -> Line2D:
            self.lines += ax.plot([], [], **{"color": colour, "ls": dash, "lw": 1.6} | look)
            return self.lines[-1]

        second = colour != LANES[0][0]
        self.loss, self.top1 = line(curves.loss), line(curves.accuracy, lw=1.1, alpha=0.75)
        self.test = line(curves.accuracy, ls="", marker="s" if second else "o", ms=5, mec="white", mew=0.6)
        self.used = line(curves.t, lw=1.0, alpha=0.6, drawstyle="steps-post")
        self.t = line(curves.t, lw=2.0)
        looks = zip(traces, cycle((PURPLE, GREEN, BLUE, MUTED)), strict=False)
        self.traces = {name: line(curves.t, colour, lw=1.2) for name, colour in looks}
        self.k = line(curves.t, INK, lw=1.0, ls=(0, (1, 1)), drawstyle="steps-post")
        self.mismatch = line(curves.slope, PURPLE, ls=(0, (5, 2)), lw=1.4, visible=not second)  # of B only the sum
        self.spread = line(curves.slope, GREEN, ls=(0, (1.5, 1.2)), lw=1.4, visible=not second)
        self.both = line(curves.slope, BLUE if second else INK, lw=1.2)

    def update(self, state: State) -> None:
        history = state.history
        x = thinned(np.arange(1.0, len(history) + 1))
        for name in ("loss", "top1", "t", "mismatch", "spread"):
            getattr(self, name).set_data(x, thinned(getattr(history, name)))
        self.both.set_data(x, thinned(history.mismatch + history.spread))
        self.used.set_data(x, thinned(history.used, mean=False))
        for name, line in self.traces.items():
            line.set_data(x, thinned(history.traces.get(name, np.full(len(history), np.nan))))
        self.test.set_data(*np.array(state.epochs, float).reshape(-1, 2).T)
        self.test.set_markersize(5 if len(state.epochs) <= 40 else 3)
        self.k.set_data(*bound(state))


def bound(state: State) -> tuple[list[float], list[float]]:
    """K against step as a staircase, from the start to where it stands; empty in a run without a K."""
    policies = [stage.temperature for stage in state.run.recipe.stages] if state.run else []
    values = [policy.k for policy in policies if hasattr(policy, "k")][:1]
    if not values:
        return [], []
    moved = [event for event in state.events if event.name == "k"]
    values += [event.value for event in moved]
    return [0.0, *(float(event.step) for event in moved), float(state.step)], [*values, values[-1]]


def thinned(values: np.ndarray, mean: bool = True) -> np.ndarray:
    """At most POINTS values (n,): means of neighbours, or one of them. NaN where all are."""
    size = -(-len(values) // POINTS)
    if size <= 1:
        return values
    padded = np.append(values, np.full(-len(values) % size, np.nan)).reshape(-1, size)
    if not mean:
        return padded[:, 0]
    counts = np.isfinite(padded).sum(1)
    return np.where(counts > 0, np.nansum(padded, 1) / np.maximum(counts, 1), np.nan)


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


def table(history: History) -> dict[str, np.ndarray]:
    """A history as columns of a CSV."""
    return {
        "step": np.arange(1, len(history) + 1),
        "loss": history.loss,
        "batch_top1": history.top1,
        "t": history.t,
        "t_used": history.used,
        "dlogt_mismatch": history.mismatch,
        "dlogt_spread": history.spread,
        **history.traces,
    }
