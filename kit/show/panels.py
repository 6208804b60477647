"""Panels that a widget updates instead of drawing anew: softened distributions, and what moves the temperature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
from torch import Tensor

from kit.losses import soft_cross_entropy, softened, temperature_gradient
from kit.runtime.threads import one_thread
from kit.show import style
from kit.show.style import INK, MUTED, SMALL, STUDENT, TEACHER

TOP = 8  # classes whose bars are shown
LONGEST = 115  # px of a class's name
SCALES = (0.05, 0.1, 0.2, 0.5, 1.0)  # the bars' axis ends at one of these, so that it seldom changes


class Softened:
    """Bars of p(zt, t) and p(zs, t) for one image, on the teacher's `top` classes, with what is left for the others.

    `update` changes widths and names; nothing is made anew.
    """

    def __init__(self, ax: Axes, classes: Sequence[str], top: int = TOP) -> None:
        self.ax = ax
        self.classes = [style.shortened(str(name), LONGEST, SMALL + 0.5) for name in classes]
        self.top = min(top, len(self.classes))
        rows = np.arange(self.top, dtype=float)
        self.teacher = ax.barh(rows - 0.2, np.zeros(self.top), 0.38, color=TEACHER, label="teacher")
        self.student = ax.barh(rows + 0.2, np.zeros(self.top), 0.38, color=STUDENT, label="student")
        self.others = ax.text(0.99, self.top + 0.05, "", transform=ax.get_yaxis_transform(), ha="right", va="center",
                              fontsize=SMALL + 0.5, color=MUTED)  # fmt: skip
        ax.set_yticks(rows, [""] * self.top, color=INK, parse_math=False)
        ax.tick_params(axis="y", length=0)
        ax.set_ylim(self.top + 0.5 if self.top < len(self.classes) else self.top - 0.4, -0.6)
        ax.set_xlim(0, 1)
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.set_xlabel("probability (✓ true class)")
        ax.grid(axis="y", visible=False)
        above = {"loc": "lower right", "bbox_to_anchor": (1, 1), "ncols": 2}
        self.legend = ax.legend(**above, handlelength=1, borderaxespad=0.3, borderpad=0, columnspacing=1.2)
        self.title = ax.set_title("")
        self.moving = [*self.teacher, *self.student, self.others, self.title]  # what most updates change
        self.background: tuple = ()  # changes with everything else

    @one_thread()
    def update(self, zt: Tensor | None, zs: Tensor, t: float, true: int | None = None) -> None:
        """Shows logits zt, zs (C,) at temperature t, without a teacher the student's alone. `true` is the label."""
        shown = distributions(zt, zs, t, self.classes, true, self.top)
        for (_, *widths, _), *bars in zip(shown["rows"], self.teacher, self.student, strict=True):
            for bar, width in zip(bars, widths, strict=True):
                bar.set_width(width or 0.0)
        for teacher in (self.legend.legend_handles[0], self.legend.texts[0]):
            teacher.set_visible(zt is not None)
        self.ax.set_xlim(0, shown["end"])
        names = [f"✓ {name}" if is_true else name for name, _, _, is_true in shown["rows"]]
        self.ax.set_yticklabels(names)
        self.background = (shown["end"], *names)
        self.others.set_text(shown["others"])
        self.title.set_text(shown["title"])


def distributions(
    zt: Tensor | None, zs: Tensor, t: float, classes: Sequence[str], true: int | None, top: int = TOP
) -> dict[str, Any]:
    """Describes p(zt, t) and p(zs, t) of logits (C,) on the teacher's first `top` classes, in its order, with the
    student's first and the true one always among them, and what is left for the others. Without a teacher the
    student's alone."""
    chosen = first_classes(zs if zt is None else zt, zs, true, top)
    ps = softened(zs.detach().double(), t)
    pt = None if zt is None else softened(zt.detach().double(), t)
    rows = [(classes[c], None if pt is None else float(pt[c]), float(ps[c]), c == true) for c in chosen]
    names = {name: p for name, p in (("teacher", pt), ("student", ps)) if p is not None}
    said = [f"{name}: {classes[int(p.argmax())]} ({float(p.max()):.2f})" for name, p in names.items()]
    left = [f"{name} {max(0.0, 1 - float(p[chosen].sum())):.2f}" for name, p in names.items()]
    rest = len(classes) - len(chosen)
    widest = max(p or 0 for row in rows for p in row[1:3])
    return {
        "title": f"softened at t = {t:.3g}",
        "rows": rows,
        "others": f"{rest} other classes: {', '.join(left)}" if rest else "",
        "end": next((end for end in SCALES if widest <= end), 1.0),
        "words": f"t = {t:.2f} · {' · '.join(said)}",
    }


def first_classes(zt: Tensor, zs: Tensor, true: int | None, top: int) -> list[int]:
    """The teacher's first classes, in its order, with the student's first and the true one always among them."""
    order = zt.argsort(descending=True, stable=True).tolist()
    always = {int(zs.argmax())} | ({true} if true is not None else set())
    others = [c for c in order if c not in always][: max(0, top - len(always))]
    return [c for c in order if c in always or c in others][:top]


class GradientTerms:
    """L_D against t, and what moves t: ∂L_D/∂log t = t·∂L_D/∂t as its two terms, for 1 ≤ t ≤ K on a batch (N, C).

    The curves are computed once up to `k_max`; `update` moves K and the mark at the current t.
    """

    @one_thread()
    def __init__(self, loss_ax: Axes, slope_ax: Axes, zt: Tensor, zs: Tensor, k_max: float, points: int = 121) -> None:
        self.zt, self.zs = zt.detach().double(), zs.detach().double()
        self.t = np.geomspace(1, max(k_max, 1.05), points)
        self.loss, self.mismatch, self.spread = np.array([self._terms(t) for t in self.t]).T  # (points,) each
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
            ax.xaxis.set_major_formatter("{x:g}")
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

    def _terms(self, t: float) -> tuple[float, float, float]:
        """L_D, and the two terms of ∂L_D/∂log t."""
        mismatch, spread = temperature_gradient(self.zt, self.zs, t)
        return float(soft_cross_entropy(self.zt, self.zs, t)), t * float(mismatch), t * float(spread)

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
        loss, mismatch, spread = self._terms(t)
        total = mismatch + spread
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
