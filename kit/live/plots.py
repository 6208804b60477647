"""The cockpit's pictures: curves of one or two sessions by step, with bands of stages, and marks where it changed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from kit.live.session import History, State
from kit.show import style
from kit.show.style import BLUE, GREEN, INK, MUTED, PURPLE, VERMILLION, stage_shades

POINTS = 500  # a line has at most so many: there are no more pixels
LANES = ((VERMILLION, "-"), (BLUE, (0, (5, 2))))  # colour and line of session A and of B
SYMBOLS = {"k": "K", "alpha": "α", "rate": "rate"}


class LiveCurves:
    """Loss, accuracy, t and what moves t, each against step, in four panels of a figure.

    `update` moves lines (`moving`); what seldom changes (axes, bands) is in the key `background`.
    """

    def __init__(
        self,
        figure: Figure,
        panels: Sequence[tuple[float, float, float, float]],
        lanes: int = 1,
        compact: bool = False,
    ) -> None:
        self.loss, self.t, self.accuracy, self.slope = (figure.add_axes(box) for box in panels)
        self.axes = (self.loss, self.t, self.accuracy, self.slope)
        if compact:  # loss and t alone
            self.accuracy.set_visible(False)
            self.slope.set_visible(False)
        for ax in self.axes:
            ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        for ax in (self.loss, self.t):
            ax.tick_params(labelbottom=compact)
        for ax in (self.loss, self.t) if compact else (self.accuracy, self.slope):
            ax.set_xlabel("batches")
        self.loss.set_yscale("log")
        self.loss.yaxis.set_minor_locator(NullLocator())
        self.loss.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        self.accuracy.set_ylim(0, 1.02)
        self.accuracy.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f}"))
        self.slope.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        self.slope.axhline(0, color=MUTED, lw=0.8)
        self.titles = [
            ax.set_title(text)
            for ax, text in (
                (self.loss, "loss of the batch (log scale)"),
                (self.t, ""),
                (self.accuracy, "Top-1 %: line batches, dots test split"),
                (self.slope, r"$\partial L_D\,/\,\partial\log t$: above 0, t falls"),
            )
        ]
        self.lanes = [_Lane(self, *LANES[i]) for i in range(lanes)]
        first = self.lanes[0]
        self.slope.legend([first.mismatch, first.spread, first.both], ["mismatch", "spread", "sum"],
                          loc="lower right", bbox_to_anchor=(1, 1), ncols=3, handlelength=1.8, borderaxespad=0.3,
                          borderpad=0, columnspacing=1.2)  # fmt: skip
        self.t.legend([first.t, first.used, first.k], ["t", "⌊t⌋ in the losses", "K"], loc="lower right", ncols=3,
                      bbox_to_anchor=(1, 1), handlelength=1.8, borderaxespad=0.3, borderpad=0,
                      columnspacing=1.2)  # fmt: skip
        if lanes > 1:
            names = ["A, whose stages are shaded", "B"]
            self.loss.legend([lane.loss for lane in self.lanes], names, loc="lower right", bbox_to_anchor=(1, 1),
                             ncols=2, handlelength=1.8, borderaxespad=0.3, borderpad=0, columnspacing=1.2)  # fmt: skip
        self.marks = [ax.plot([], [], color=INK, lw=0.9, ls=(0, (1, 1.5)), zorder=1.5)[0] for ax in self.axes]
        self.last = self.t.text(0, 0, "", fontsize=style.SMALL, color=INK, ha="left", va="bottom", zorder=6,
                                transform=self.t.get_xaxis_transform(), clip_on=True)  # fmt: skip
        self.bands: list = []
        moving = [line for lane in self.lanes for line in lane.lines] + [*self.marks, self.last, self.titles[1]]
        self.moving = [artist for artist in moving if artist.axes.get_visible()]
        self.background: tuple = ()

    def update(self, states: Sequence[State], k: float | None = None) -> None:
        """Shows the sessions; `k` is the bound asked for, which may be newer than the first one's."""
        total = max(1, *(state.total for state in states))
        histories = [state.history for state in states]
        top = max([*(float(np.nanmax(h.t, initial=1)) for h in histories), k or 1, *(s.k or 1 for s in states)])
        t_top = max(2.0, math.ceil(top * 1.05))
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
        self.titles[1].set_text(
            "t is 1: hard labels" if states[0].t is None and len(histories[0]) else _t_title(states)
        )

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
        if state.events:
            event = state.events[-1]
            self.last.set_text(f" {SYMBOLS[event.name]} → {event.value:.3g}")
            right = event.step > 0.75 * state.total
            self.last.set(position=(event.step, 0.07), ha="right" if right else "left")
        else:
            self.last.set_text("")


class _Lane:
    """One session's lines."""

    def __init__(self, curves: LiveCurves, colour: str, dash: object) -> None:
        def line(ax: Axes, colour: str = colour, **look: object) -> Line2D:
            return ax.plot([], [], **{"color": colour, "ls": dash, "lw": 1.6} | look)[0]

        second = colour != LANES[0][0]
        self.loss, self.top1 = line(curves.loss), line(curves.accuracy, lw=1.1, alpha=0.75)
        self.test = line(curves.accuracy, ls="", marker="s" if second else "o", ms=5, mec="white", mew=0.6)
        self.used = line(curves.t, lw=1.0, alpha=0.6, drawstyle="steps-post")
        self.t = line(curves.t, lw=2.0)
        self.k = line(curves.t, INK, lw=1.0, ls=(0, (1, 1)), drawstyle="steps-post")
        self.mismatch = line(curves.slope, PURPLE, ls=(0, (5, 2)), lw=1.4)
        self.spread = line(curves.slope, GREEN, ls=(0, (1.5, 1.2)), lw=1.4)
        self.both = line(curves.slope, BLUE if second else INK, lw=1.2)
        self.mismatch.set_visible(not second)  # of B only the sum is shown
        self.spread.set_visible(not second)
        self.lines = [self.loss, self.top1, self.test, self.used, self.t, self.k, self.mismatch, self.spread, self.both]

    def update(self, state: State) -> None:
        history = state.history
        x = thinned(np.arange(1.0, len(history) + 1))
        for line, values in (
            (self.loss, history.loss),
            (self.top1, history.top1),
            (self.t, history.t),
            (self.mismatch, history.mismatch),
            (self.spread, history.spread),
            (self.both, history.mismatch + history.spread),
        ):
            line.set_data(x, thinned(values))
        self.used.set_data(x, thinned(history.used, mean=False))
        self.test.set_data(*np.array(state.epochs, float).reshape(-1, 2).T)
        self.test.set_markersize(5 if len(state.epochs) <= 40 else 3)
        self.k.set_data(*bound(state))


def bound(state: State) -> tuple[np.ndarray, np.ndarray]:
    """K against step as a staircase, from the start to where it stands; empty where t does not move."""
    t = state.history.t[np.isfinite(state.history.t)]
    if state.k is None and not (len(t) and t.min() < t.max()):
        return np.empty(0), np.empty(0)
    first = float(state.history.t[0]) if len(state.history) and state.history.t[0] >= 1 else state.k or np.nan
    steps, values = [0.0], [first]
    for event in state.events:
        if event.name == "k":
            steps.append(float(event.step))
            values.append(event.value)
    return np.array([*steps, max(steps[-1], float(state.step))]), np.array([*values, values[-1]])


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


def _t_title(states: Sequence[State]) -> str:
    return "temperature " + " and ".join(f"{state.t:.2f}" for state in states if state.t is not None)


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
    columns = {"step": np.arange(1, len(history) + 1), "loss": history.loss, "batch_top1": history.top1}
    return columns | {
        "t": history.t,
        "t_used": history.used,
        "dlogt_mismatch": history.mismatch,
        "dlogt_spread": history.spread,
    }
