"""Widgets of the page's own: the kernel sends what is shown, a few kilobytes whatever has been trained, and the page
draws it; `Page` tells the kernel whether anyone is watching."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import anywidget
import traitlets

HERE = Path(__file__).parent
SILENCE = 150  # seconds without a sign of life: the browser is gone. A hidden page's timers may come only once a minute


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


class Page(anywidget.AnyWidget):
    """Calls `tell` with False when the page is closed or reloaded, with True when one is there (again).

    A page that closes says so at once; one whose browser has died is missed after SILENCE (see `is_silent`). A page of
    Voilà's takes its kernel along when it is left: while something would be `lost`, the browser asks first.
    """

    _esm = HERE / "page.js"
    lost = traitlets.Bool().tag(sync=True)

    def __init__(self, tell: Callable[[bool], None]) -> None:
        super().__init__()
        self.layout.display = "none"
        self._tell = tell
        self._last: float | None = None  # nobody has ever looked: a script, or a notebook that is executed headlessly
        self.on_msg(self._heard)

    def _heard(self, _: object, content: dict, __: object) -> None:
        there = bool(content.get("there"))
        self._last = time.monotonic() if there else None
        self._tell(there)

    @property
    def is_silent(self) -> bool:
        return self._last is not None and time.monotonic() - self._last > SILENCE
