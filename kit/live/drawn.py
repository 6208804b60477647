"""Widgets that the page draws: the kernel sends what is shown, a few kilobytes whatever has been trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import anywidget
import traitlets

HERE = Path(__file__).parent


class Standing(anywidget.AnyWidget):
    """Draws how sessions stand: in words, which are HTML, with lines to be copied, each with what it is about, and by
    `kit.live.plots.Curves`, sent as their `message`; the first `panels` of them. One widget, as each message costs."""

    _esm = HERE / "standing.js"
    _css = HERE / "cockpit.css"
    words = traitlets.Unicode().tag(sync=True)
    lines: Sequence[tuple[str, str]] = traitlets.List().tag(sync=True)
    shown = traitlets.Dict().tag(sync=True)
    panels = traitlets.Int(4).tag(sync=True)


class Bars(anywidget.AnyWidget):
    """Draws an image's softened distributions, see `kit.show.panels.distributions`."""

    _esm = HERE / "bars.js"
    _css = HERE / "cockpit.css"
    shown = traitlets.Dict().tag(sync=True)
