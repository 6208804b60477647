"""Figures of notebook 01: the temperature's gradient, the losses' limits, and how a step shrinks with t.

Each takes the table of `kit.derivation.gradient_curves`, is 7.2 × 3.6 in at 120 dpi, and knows nothing of pyplot.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from kit.derivation.numeric import STUDENTS, K
from kit.show.style import BLUE, GREEN, MUTED, SMALL, VERMILLION, settle, sheet, styled

WIDTH, HEIGHT, DPI = 720, 360, 120  # 7.2 × 3.6 in
COLOURS = dict(zip(STUDENTS, (BLUE, VERMILLION, GREEN), strict=True))  # Okabe–Ito
DASHES = dict(zip(STUDENTS, ("-", (0, (6, 2)), (0, (3, 1.2, 1, 1.2))), strict=True))
TITLES = {"CE": "L = cross-entropy (the paper's L_D)", "KL": "L = KL divergence"}
_LIMIT = {"color": "black", "linewidth": 1.0, "linestyle": (0, (1, 1.6)), "zorder": 3}


@styled()
def gradient_figure(curves: pd.DataFrame, caption: str = "") -> Figure:
    """∂CE/∂t and ∂KL/∂t against t for three students, with their limits (D7) and (D8) dotted.

    Above 0 descent lowers t, below 0 it raises t. The vertical axis is logarithmic on both sides, linear within ±1e-8.
    """
    figure, axes = _two_panels("Cross-entropy lowers t once the student follows its teacher; KL raises it", caption)
    for ax, loss in zip(axes, TITLES, strict=True):
        for student, table in _by_student(curves, loss):
            ax.plot(table["t"], table["derivative"], color=COLOURS[student], linestyle=DASHES[student], label=student)
            far = table[(table["t"] >= 8) & (table["at infinity"] != 0)]
            ax.plot(far["t"], far["at infinity"], **_LIMIT)  # (D7)
            near = table[(table["t"] <= 0.25) & (table["at 0"] < 0)]
            ax.plot(near["t"], near["at 0"], **_LIMIT)  # (D8)
        ax.axhline(0, color=MUTED, linewidth=0.8)
        ax.set_yscale("symlog", linthresh=1e-8, linscale=0.6)
        ax.set_ylim(-4e4, 4e3)
        ax.yaxis.set_major_locator(FixedLocator([-1e4, -1, -1e-4, 0, 1e-4, 1]))
        ax.yaxis.set_minor_locator(NullLocator())
        _finish(ax, loss)
        beside = {"transform": ax.transAxes, "ha": "right", "fontsize": SMALL, "color": MUTED}
        ax.text(0.985, 0.985, "above 0: descent lowers t", va="top", **beside)
        ax.text(0.985, 0.015, "below 0: raises t", va="bottom", **beside)
    axes[0].set_ylabel("∂L/∂t (nats per unit of t)")
    axes[0].plot([], [], label="limits for t → 0 and t → ∞", **_LIMIT)
    return _settled(figure, axes[0])


@styled()
def limits_figure(curves: pd.DataFrame, caption: str = "", classes: int = 10) -> Figure:
    """CE and KL against t for three students, with the limits log C and 0 for t → ∞ dotted."""
    figure, axes = _two_panels("A large t forgets the student; a small t sees its top class only", caption)
    limits = {"CE": (math.log(classes), f"log {classes} = {math.log(classes):.3f}"), "KL": (0.0, "0")}
    for ax, loss in zip(axes, TITLES, strict=True):
        for student, table in _by_student(curves, loss):
            ax.plot(table["t"], table["value"], color=COLOURS[student], linestyle=DASHES[student], label=student)
        limit, words = limits[loss]
        ax.axhline(limit, **_LIMIT)
        ax.annotate(words, (900, limit), xytext=(0, 4), textcoords="offset points", ha="right", fontsize=SMALL)
        ax.set_ylim(-0.2, 5.2)
        _finish(ax, loss)
    axes[0].set_ylabel("L (nats, mean over the images)")
    axes[0].plot([], [], label="limit for t → ∞", **_LIMIT)
    return _settled(figure, axes[0])


@styled()
def step_figure(curves: pd.DataFrame, caption: str = "") -> Figure:
    """|∂CE/∂t| and |∂CE/∂log t| against t ≥ 1 for student = teacher: a step on t shrinks as 1/t³, on log t as 1/t²."""
    table = curves[(curves["loss"] == "CE") & (curves["student"] == STUDENTS[0]) & (curves["t"] >= 1)]
    figure = sheet(WIDTH, HEIGHT, "At t = 20 a step on t is too small to move it; a step on log t is not", caption)
    figure.set_dpi(DPI)
    ax = figure.subplots()
    lines = (
        ("step on t:  ∂CE/∂t", "derivative", VERMILLION, (0, (6, 2)), table["at infinity"]),
        ("step on log t:  ∂CE/∂log t", "log derivative", BLUE, "-", table["t"] * table["at infinity"]),  # (D9)
    )
    for name, column, colour, dash, limit in lines:
        ax.plot(table["t"], table[column], color=colour, linestyle=dash, label=name)
        ax.plot(table["t"], limit, **_LIMIT)
        at_k = math.exp(np.interp(math.log(K), np.log(table["t"]), np.log(table[column])))
        ax.plot([K], [at_k], "o", color=colour)
        place = {"xytext": (8, 5)} if column == "log derivative" else {"xytext": (-5, -15), "ha": "right"}
        ax.annotate(f"{at_k:.2g} at t = {K:g}", (K, at_k), textcoords="offset points", fontsize=SMALL, **place)
    ax.plot([], [], label="Var(z)/t³ and Var(z)/t²", **_LIMIT)
    ax.set_yscale("log")
    ax.set_ylabel("size of a step at rate 1\n(units of t; units of log t)")
    _finish(ax)
    ax.set_xlim(1, 1000)
    ax.legend(loc="upper right")
    return settle(figure)


def _two_panels(title: str, caption: str) -> tuple[Figure, list[Axes]]:
    figure = sheet(WIDTH, HEIGHT, title, caption)
    figure.set_dpi(DPI)
    return figure, list(figure.subplots(1, 2, sharey=True))


def _by_student(curves: pd.DataFrame, loss: str) -> Iterator[tuple[str, pd.DataFrame]]:
    for student in STUDENTS:
        yield student, curves[(curves["student"] == student) & (curves["loss"] == loss)]


def _finish(ax: Axes, loss: str | None = None) -> None:
    """The log axis of t, the paper's range of t shaded, the panel's title."""
    ax.axvspan(1, K, color="#f1f1f1", linewidth=0, zorder=0)
    ax.text(math.sqrt(K), 1.0, f"1 ≤ t ≤ {K:g}", transform=ax.get_xaxis_transform(), ha="center", va="bottom",
            fontsize=SMALL, color=MUTED)  # fmt: skip
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlim(0.05, 1000)
    ax.set_xlabel("temperature t (units of a logit)")
    if loss:
        ax.set_title(TITLES[loss], pad=16)


def _settled(figure: Figure, ax: Axes) -> Figure:
    """Settles the figure with its legend above the caption; the layout leaves room for one at the figure's foot."""
    within = figure.get_layout_engine().get()["rect"]
    legend = figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    settle(figure)
    legend.set_bbox_to_anchor(within)
    return figure
