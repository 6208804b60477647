"""Curves: functions of runs and frames that return a `matplotlib.figure.Figure`, never through pyplot.

Each takes a `title` and a `caption` (see `style.source_line`) and keeps all its text inside the canvas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from matplotlib.transforms import ScaledTranslation

from kit.errors import KitError, one_of
from kit.show import style
from kit.show.style import DPI, INK, MUTED, SMALL, WIDTH
from kit.show.tables import batches_per_epoch, curves

HEIGHT = 430  # px, of curves in two panels
# What a history calls the range of a temperature that each image has for itself.
OVER_IMAGES = {"t_least": "t of the coldest image", "t_most": "t of the hottest image"}


@style.styled()
def accuracy_curves(
    runs: Mapping[str, Sequence[Any]],
    metric: str = "test_top1",
    *,
    title: str = "Accuracy against iteration",
    caption: str = "",
    height: float = HEIGHT,
) -> Figure:
    """Fig. 1: accuracy (%) against iteration, training and test side by side.

    A line per label, the mean over its seeds, with a 95 % t-interval as a band. `metric` ends in `top1` or `top5`. The
    numbers drawn are those of `tables.curves`.
    """
    if not (runs and all(runs.values())):
        raise KitError("there is no run to draw; allowed: at least one for each label")
    top = metric.removeprefix("test_").removeprefix("train_")
    panels = {f"train_{top}": "training split, running mean of the epoch", f"test_{top}": "test split"}
    data = curves(runs, list(panels))
    look = style.looks(runs)
    figure = style.sheet(WIDTH, height, title, caption)
    axes = figure.subplots(1, 2, sharex=True)
    for ax, (column, name) in zip(axes, panels.items(), strict=True):
        for label, line in data.groupby("label", sort=False):
            few = {"marker": look[label].marker, "ms": 4} if len(line) <= 15 else {}
            colour, face = look[label].colour, look[label].face
            ax.plot(line["iteration"], line[column], color=colour, ls=look[label].line, mfc=face, zorder=3, **few)
            band = line.dropna(subset=[f"{column}_low"])
            low, high = band[f"{column}_low"], band[f"{column}_high"]
            ax.fill_between(band["iteration"], low, high, color=colour, alpha=0.14, lw=0)
        ax.set_ylim(*_accuracy_limits(data, column))
        ax.set_xlim(0, data["iteration"].max() * 1.02)
        ax.set_title(name)
        ax.set_xlabel(_iterations(runs))
        ax.set_ylabel(f"{top.replace('top', 'Top-')} (%)")
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    last = data.groupby("label", sort=False).tail(1)
    names = [f"{row.label}  {getattr(row, f'test_{top}'):.1f} %" for row in last.itertuples()]
    _label_ends(axes[1], last["iteration"], last[f"test_{top}"], names, [look[label].colour for label in last["label"]])
    return style.settle(figure)


def _iterations(runs: Mapping[str, Sequence[Any]]) -> str:
    per_epoch = {round(batches_per_epoch(run)) for seeds in runs.values() for run in seeds}
    return f"iteration (batches; {per_epoch.pop()} make an epoch)" if len(per_epoch) == 1 else "iteration (batches)"


def _accuracy_limits(data: pd.DataFrame, column: str) -> tuple[float, float]:
    """Limits in % that show every line and band, as far as an accuracy can be."""
    drawn = data[[column, f"{column}_low", f"{column}_high"]].to_numpy().clip(0, 100)
    low, high = np.nanmin(drawn), np.nanmax(drawn)
    room = 0.06 * max(high - low, 2.0)
    return max(0.0, low - room), min(102.0, high + room)


def _label_ends(ax: Axes, x: Sequence[float], y: Sequence[float], names: Sequence[str], colours: Sequence[str]) -> None:
    """Writes each line's name right of the axes at its last point (x, y), moved apart where they would overlap."""
    texts = [
        ax.annotate(
            name, (1, 0.5), (19, 0), xycoords="axes fraction", textcoords="offset points", fontsize=SMALL + 0.5,
            va="center", color=colour, annotation_clip=False, parse_math=False,
        )
        for name, colour in zip(names, colours, strict=True)
    ]  # fmt: skip
    ax.figure.draw_without_rendering()  # the axes now have their final place, with room for the names
    box = ax.get_window_extent()
    ends = ax.transAxes.inverted().transform(ax.transData.transform(np.column_stack([x, y])))  # (n, 2) axes fractions
    sizes = np.full(len(ends), style.line_height(SMALL + 0.5) / box.height)
    for text, end, place, colour in zip(
        texts, ends, style.spread(ends[:, 1], sizes, -0.02, 1.02), colours, strict=True
    ):
        text.xy = (1, place)
        _thin_line(ax, end, (1 + 23 / box.width, place), colour)


def _thin_line(ax: Axes, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
    """A line between two points in axes fractions that may leave the axes."""
    ax.plot(*zip(start, end, strict=True), transform=ax.transAxes, color=colour, lw=0.8, alpha=0.7, clip_on=False)


@style.styled()
def temperature_trace(
    run: Any | Sequence[Any], *, title: str = "The temperature during training", caption: str = ""
) -> Figure:
    """t and ⌊t⌋ against the step, the stages shaded and named, with what ended each.

    Of several runs the first gives the stages, ⌊t⌋ and further temperatures (one a teacher, or their range over
    images); the others' t are thin lines. t's highest value is drawn as K.
    """
    runs = list(run) if isinstance(run, Sequence) else [run]
    if not runs:
        raise KitError("there is no run to draw; allowed: at least one")
    steps, *others = map(traced, runs)
    traces = [name for name in steps if name.startswith("t_") and name != "t_used"]
    values = pd.concat([each["t"] for each in (steps, *others)] + [steps[name] for name in traces]).dropna()
    k = float(values.max()) if len(values) else 1.0
    moves = values.nunique() > 1
    figure = style.sheet(900, 400, title, caption)
    ax = figure.subplots()
    first, last = int(runs[0].steps["step"].min()), max(int(r.steps["step"].max()) for r in runs)
    ax.set_xlim(first, last + 1)
    ax.set_ylim(0, k * 1.08)
    ax.set_ylabel("temperature")
    ax.set_xlabel(f"step (batches; {round(batches_per_epoch(runs[0]))} make an epoch)", loc="right")
    lines = {}  # by name, from below to above
    for other in others:
        name = f"other seeds' t ({len(others)})"
        lines[name] = _by_stage(ax, other, "t", color=style.VERMILLION, lw=0.8, alpha=0.45)
    if moves:
        look = {"color": style.BLUE, "lw": 1.6, "zorder": 3, "drawstyle": "steps-post"}
        lines["what the losses use" if traces else "⌊t⌋, which the losses use"] = _by_stage(ax, steps, "t_used", **look)
    for name, colour in zip(traces, cycle((style.GREEN, style.PURPLE, style.ORANGE, style.SKY)), strict=False):
        of = OVER_IMAGES.get(name, f"t of teacher {name.removeprefix('t_')!r}")
        lines[of] = _by_stage(ax, steps, name, color=colour, lw=1.2, ls=(0, (4, 2)))
    name = "t" if traces else "t, which the gradient moves" if moves else "T, fixed"
    lines[name] = _by_stage(ax, steps, "t", color=style.VERMILLION, lw=1.5, zorder=4)
    if len(values):
        sign = "K" if moves else "T"
        top = f"{k:.3g}" if traces else f"{sign}={k:g}"
        for level in (1, k):
            ax.axhline(level, color=MUTED, lw=0.8, ls=(0, (2, 2)))
        between = [t for t in MaxNLocator(5, integer=True).tick_values(0, k) if 1 < t < 0.94 * k]
        ax.set_yticks(sorted({1.0, *between, k}))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda t, _: top if t == k else f"{t:g}"))
        below = ax.transAxes + ScaledTranslation(0, -22 / 72, figure.dpi_scale_trans)
        look = {"loc": "upper left", "ncols": 3, "borderaxespad": 0, "handlelength": 1.6}
        named = list(lines.values())[::-1], list(lines)[::-1]
        ax.legend(*named, bbox_to_anchor=(0, 0), bbox_transform=below, **look)
    else:
        ax.set_yticks([])
        ax.text(0.5, 0.5, "no temperature: hard labels only", transform=ax.transAxes, ha="center", color=MUTED)
    _shade_stages(ax, runs[0])
    return style.settle(figure)


@style.styled()
def temperatures(runs: Mapping[str, Any], *, title: str = "", caption: str = "") -> Figure:
    """Each run's temperature against its epochs, on one scale: at the left where all images have one, at the right
    where each has its own, as their mean with a band from the coldest to the hottest, over the last epoch's batches.

    Runs whose temperature is the same number all the way are one line, named after all of them.
    """
    traces = {label: run.steps if "t_least" in run.steps else traced(run) for label, run in runs.items()}
    drawn = {label: steps.dropna(subset=["t"]) for label, steps in traces.items()}
    alike: dict[float | str, list[str]] = {}  # labels by their fixed T, or alone
    for label, steps in drawn.items():
        is_fixed = steps["t"].nunique() == 1 and "t_least" not in steps
        alike.setdefault(float(steps["t"].iloc[0]) if is_fixed else label, []).append(label)
    names = {of[0]: ", ".join(of) + (f": {t:g}" if isinstance(t, float) else "") for t, of in alike.items()}
    look = style.looks(names)
    figure = style.sheet(WIDTH, HEIGHT, title, caption)
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    ends: tuple[list, list] = ([], [])
    for label, name in names.items():
        steps, colour = drawn[label], look[label].colour
        own, line = int("t_least" in steps), steps["t"]
        begun = steps["epoch"] - 1 / batches_per_epoch(runs[label])
        if own:
            over = int((steps["epoch"] <= 1 + 1e-9).sum())
            low, line, high = (steps[of].rolling(over, min_periods=1).mean() for of in ("t_least", "t_used", "t_most"))
            panels[1].fill_between(begun, low, high, color=colour, alpha=0.1, lw=0)
            for edge in (low, high):
                panels[1].plot(begun, edge, color=colour, lw=0.7, alpha=0.7)
        panels[own].plot(begun, line, color=colour, ls=look[label].line, zorder=3)
        ends[own].append((begun.iloc[-1], line.iloc[-1], name, colour))
    panels[0].set_ylabel("temperature in the soft loss")
    panels[0].set_xlim(0, max(runs[label].steps["epoch"].max() for label in names) * 1.02)
    for ax, which, found in zip(panels, ("one for all images", "one for each image"), ends, strict=True):
        ax.set_title(which)
        ax.set_xlabel("epoch")
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(FixedLocator([0.2, 0.5, 1, 2, 5, 10, 20, 50]))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_locator(NullLocator())
        if found:
            _label_ends(ax, *zip(*found, strict=True))
    return style.settle(figure)


def traced(run: Any) -> pd.DataFrame:
    """Returns a run's steps, with a row at the end of each stage's last step: t as that step left it."""
    spans = pd.DataFrame(stage_spans(run))
    ends = run.steps[run.steps["step"].isin(spans["last"])][["step", "epoch", "stage", "t_used"]]
    ends["t"] = spans["t_end"].to_numpy(float)
    ends["step"] += 1
    ends["epoch"] += 1 / batches_per_epoch(run)
    return pd.concat([ends.dropna(subset=["t"]), run.steps]).sort_values("step", kind="stable")[run.steps.columns]


def _by_stage(ax: Axes, steps: pd.DataFrame, column: str, **look: Any) -> Any:
    """Draws a column against the step, a line per stage: t is reset between them. Returns one of the lines."""
    begins = (steps["stage"] != steps["stage"].shift()) | (steps["step"].diff() == 0)
    for _, part in steps.groupby(begins.cumsum()):
        (line,) = ax.plot(part["step"], part[column], **look)
    return line


def stage_spans(run: Any) -> list[dict[str, Any]]:
    """The stages in which a run had steps: name, first and last step, the epoch at the end, what ended it and at which
    t."""
    spans, steps = [], run.steps
    for stage in run.metrics["stages"]:
        if stage["steps"]:
            part, steps = steps.iloc[: stage["steps"]], steps.iloc[stage["steps"] :]
            first, last = part.iloc[0], part.iloc[-1]
            how = {"name": first["stage"], "ended_by": stage["ended_by"], "t_end": stage["t_end"]}
            spans.append(how | {"first": int(first["step"]), "last": int(last["step"]), "epoch": last["epoch"]})
    return spans


def _shade_stages(ax: Axes, run: Any) -> None:
    """Shades the stages and names them above the axes; names are moved apart where their stages are short."""
    spans = stage_spans(run)
    shades = style.stage_shades(span["name"] for span in spans)
    left, right = ax.get_xlim()
    names, middles = [], []
    for i, span in enumerate(spans):
        end = right if i == len(spans) - 1 else span["last"] + 1
        ax.axvspan(span["first"], end, color=shades[span["name"]], lw=0, zorder=0)
        if i < len(spans) - 1:
            ax.axvline(end, color=INK, lw=1, zorder=2)
        names.append((span["name"], f"ended by {span['ended_by']}", f"at epoch {span['epoch']:.1f}"))
        middles.append(((span["first"] + end) / 2 - left) / (right - left))
    size = SMALL + 0.5
    texts = [
        [
            ax.annotate(
                line, (0, 1), (0, 9 + (2 - i) * style.line_height(size) * 72 / DPI), xycoords="axes fraction",
                textcoords="offset points", ha="center", va="baseline", fontsize=size, annotation_clip=False,
                color=INK if i == 0 else MUTED, parse_math=False,
            )
            for i, line in enumerate(lines)
        ]
        for lines in names
    ]  # fmt: skip
    ax.figure.draw_without_rendering()  # the axes now have their final place, with room for the names
    box = ax.get_window_extent()
    widths = np.array([style.text_size("\n".join(lines), size)[0] + 14 for lines in names]) / box.width
    beyond = 12 / box.width  # names may reach a little over the axes' ends
    places = style.spread(middles, widths, -beyond, 1 + beyond)
    for lines, middle, place in zip(texts, middles, places, strict=True):
        for text in lines:
            text.xy = (place, 1)
        _thin_line(ax, (middle, 1), (place, 1 + 9 / box.height), MUTED)


@style.styled()
def sensitivity(
    df: pd.DataFrame,
    x: str,
    y: str | Sequence[str],
    *,
    names: Mapping[str, str] | None = None,
    title: str = "",
    caption: str = "",
) -> Figure:
    """A sweep: each column `y` against column `x`, with columns `<y>_low` and `<y>_high` as intervals where they exist.

    `names` gives axis labels by column.
    """
    columns = [y] if isinstance(y, str) else list(y)
    for name in (x, *columns):
        one_of("column", name, df)
    names, df = names or {}, df.sort_values(x)
    figure = style.sheet(min(WIDTH, 80 + 480 * len(columns)), 340, title, caption)
    for ax, column in zip(figure.subplots(1, len(columns), squeeze=False)[0], columns, strict=True):
        if f"{column}_low" in df:
            ax.vlines(df[x], df[f"{column}_low"], df[f"{column}_high"], color=style.VERMILLION, lw=1.6, alpha=0.6)
        ax.plot(df[x], df[column], color=style.VERMILLION, marker="o", ms=5, lw=1.2)
        ax.set_xlabel(names.get(x, x))
        ax.set_ylabel(names.get(column, column))
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(FixedLocator(_apart(df[x].unique())))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xlim(df[x].min() / 1.25, df[x].max() * 1.25)
    return style.settle(figure)


def _apart(values: np.ndarray) -> list[float]:
    """Of rising values those that are at least a factor of 1.3 apart, so that their tick labels do not touch."""
    kept: list[float] = []
    for value in sorted(values):
        if not kept or value >= 1.3 * kept[-1]:
            kept.append(float(value))
    return kept
