"""What the cockpit shows, written to files, with the line that trains the same student again."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator, PercentFormatter

from kit.errors import KitError
from kit.live.lane import NETWORKS, Lane
from kit.live.plots import Curves, curves
from kit.live.state import State
from kit.networks.named import parts
from kit.paper.presets import preset_named
from kit.paper.settings import Settings
from kit.runs.spec import Run, replayed
from kit.runtime.environment import absolute, folder_from
from kit.show import style
from kit.show.artefacts import save
from kit.show.panels import Softened
from kit.show.style import INK, MUTED
from kit.show.widgets import WIDTH
from kit.temperature import Policy
from kit.training import steering

PLACE = {"left": 0.055, "right": 0.985, "bottom": 0.45, "top": 0.91, "wspace": 0.188, "hspace": 0.3}  # of the curves


def written(shown: Sequence[Lane], folder: Path) -> tuple[Path, dict[str, str]]:
    """Writes what the lanes show into a new folder in this one: `cockpit.png`, `.svg`, `.csv`, `settings.json`, and
    where something was steered `events.json`; gives the new folder, and of each session the line that trains its
    student again, wherever pasted.

    A session that has not begun is left out. Raises KitError where none has.
    """
    lanes = [(lane, state) for lane in shown if (state := lane.session.state).step]
    if not lanes:
        raise KitError("there is nothing to save yet: press Start first")
    _, state = lanes[0]
    base = f"{state.described.role}-{Path(state.described.student).name}-step{state.step:05d}"
    taken = (folder / (base if i == 1 else f"{base}-{i}") for i in range(1, 10_000))
    place = next(path for path in taken if not path.exists()).absolute()
    columns = [(lane.name, {"step": range(1, state.step + 1)} | state.history) for lane, state in lanes]
    frames = [pd.DataFrame(each).assign(session=name) for name, each in columns]
    save(figure_of(lanes), "cockpit", place, pd.concat(frames, ignore_index=True))
    described = {}
    for lane, state in lanes:
        events = None
        if state.events:
            events = place / ("events.json" if len(lanes) == 1 else f"events-{lane.name}.json")
            events.write_text(steering.text(state.events), encoding="utf-8")
        described[lane.name] = {
            "settings": state.described.model_dump(mode="json"),
            "events": [event.model_dump() for event in state.events],
            "run": replayed(state.run, state.events).hash,
            "step": state.step,
            "command": again(state.described, state.run, events),
        }
    (place / "settings.json").write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
    return place, {name: each["command"] for name, each in described.items()}


def again(settings: Settings, run: Run, events: Path | None) -> str:
    """The line that trains the same student again, by the Python that trained it, from the same images and files: a
    command, or Python where no command can name its temperature."""
    given = {name: anywhere(name, value) for name, value in settings if value is not None}
    given |= {"data": str(run.data.folder or folder_from("KIT_DATA"))} if run.data.source == "real" else {}
    settings = settings.model_copy(update=given)
    if not isinstance(settings.temperature, Policy):
        words = shlex.split(settings.command(str(events) if events else None))
        return shlex.join([sys.executable, *words[1:]])
    fields = Settings.model_fields
    given = ", ".join(f"{name}={value!r}" for name, value in settings if value != fields[name].default)
    line = f"Settings({given}).run()"
    line = f"replayed({line}, steering.read(Path({str(events)!r})))" if events else line
    return f"no command can name a temperature of one's own; in Python: train({line})"


def anywhere(name: str, value: Any) -> Any:
    """A setting's value, with an absolute path where it names a file of one's own."""
    if name.endswith(("_weights", "_classes")):
        return str(absolute(value))
    place, function = parts(value) if name in NETWORKS else ("", "")
    return f"{absolute(place)}:{function}" if place.endswith(".py") else value


def figure_of(lanes: Sequence[tuple[Lane, State]]) -> Figure:
    """Curves and distributions as one figure with its caption."""
    _, state = lanes[0]
    settings, run = state.described, state.run
    source = style.source_line({settings.role: f"{run.data.name} ({run.data.source})"}, settings.preset, 1,
                               preset_named(settings.preset).says)  # fmt: skip
    with style.styled():
        figure = style.new_figure(WIDTH, 780)
        style.frame(figure, f"{run.title}, after {state.step} of {state.total} batches", source)
        draw(curves([state for _, state in lanes]), figure.subplots(2, 2, sharex=True, gridspec_kw=PLACE).flat)
        for i, (lane, state) in enumerate(lanes):
            panel = Softened(figure.add_axes((0.13 + 0.505 * i, 0.105, 0.345, 0.255)), run.data.load().classes)
            look = state.look
            panel.update(look.zt, look.zs, lane.t, int(state.pictures.labels[look.image]))
            panel.title.set_text(f"{lane.name}: {panel.title.get_text()}, test image {look.image}")
    return figure


def draw(shown: Curves, axes: Iterable[Axes]) -> None:
    """Draws each panel into axes of its own."""
    for panel, ax in zip(shown.panels, axes, strict=True):
        title, lowest = panel.title.replace("L_D", "$L_D$"), ax.get_subplotspec().is_last_row()
        ax.set(xlim=(0, shown.total), ylim=(panel.low, panel.high), title=title, xlabel="batches" if lowest else "")
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        if panel.scale == "log":
            ax.set_yscale("log")
            ax.yaxis.set_minor_locator(NullLocator())
        percent, plain = PercentFormatter(1, decimals=0, symbol=None), FuncFormatter(lambda value, _: f"{value:g}")
        ax.yaxis.set_major_formatter(percent if panel.scale == "percent" else plain)
        if panel.low < 0:
            ax.axhline(0, color=MUTED, lw=0.8)
        for name, first, end, shade in shown.bands:
            ax.axvspan(first, end, color=shade, lw=0, zorder=0)
            if panel.scale == "percent" and (end - first) / shown.total > 0.06:
                text = style.shortened(name, 500 * (end - first) / shown.total)
                ax.text(first + 0.01 * shown.total, 0.98, text, fontsize=style.SMALL, color=MUTED, va="top",
                        transform=ax.get_xaxis_transform())  # fmt: skip
        for mark in shown.marks:
            ax.axvline(mark, color=INK, lw=0.9, ls=(0, (1, 1.5)), zorder=1.5)
        if panel.note:
            right = shown.marks[-1] > 0.75 * shown.total
            ax.text(shown.marks[-1], 0.07, f" {panel.note} ", fontsize=style.SMALL, ha="right" if right else "left",
                    transform=ax.get_xaxis_transform())  # fmt: skip
        for line in panel.lines:
            looks = {"lw": line.width, "ls": (0, line.dash) if line.dash else "-"}
            if line.marker:
                looks = {"ls": "", "marker": line.marker, "ms": line.width, "mec": "white", "mew": 0.6}
            ax.plot(line.x, line.y, color=line.colour, alpha=line.opacity, label=line.name or "_",
                    drawstyle="steps-post" if line.steps else "default", **looks)  # fmt: skip
        if any(line.name for line in panel.lines):
            ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, handlelength=1.8, borderaxespad=0.3,
                      borderpad=0, columnspacing=1.2)  # fmt: skip
