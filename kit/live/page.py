"""Is anyone watching? A widget without a face that tells the kernel when its page comes, goes, or falls silent."""

from __future__ import annotations

import time
from collections.abc import Callable

import anywidget
import traitlets

BEAT = 15  # seconds between two signs of life
SETTLED = 3  # seconds after which a page that came has all its widgets, and says again that it is there
SILENCE = 150  # seconds without one: the browser is gone. A hidden page's timers may come only once a minute


class Page(anywidget.AnyWidget):
    """`tell` is called with False when the page is closed or reloaded, with True when one is there (again).

    A page that closes says so at once; one whose browser has died is missed after SILENCE (see `is_silent`). A page of
    Voilà's takes its kernel along when it is left: while something would be `lost`, the browser asks first.
    """

    lost = traitlets.Bool().tag(sync=True)

    _esm = f"""
    export default {{
      initialize({{ model }}) {{
        const say = (there) => model.send({{ there }});
        const come = () => say(true);
        const seen = () => {{ if (!document.hidden) come(); }};  // a page that goes is hidden after it has said so
        const go = () => say(false);
        window.addEventListener("pagehide", go);
        window.addEventListener("pageshow", come);
        document.addEventListener("visibilitychange", seen);
        const stay = (event) => {{ if (document.body.dataset.voila && model.get("lost")) event.preventDefault(); }};
        window.addEventListener("beforeunload", stay);
        const beat = window.setInterval(come, {1000 * BEAT});
        come();
        window.setTimeout(come, {1000 * SETTLED});
        return () => {{
          window.clearInterval(beat);
          window.removeEventListener("beforeunload", stay);
          window.removeEventListener("pagehide", go);
          window.removeEventListener("pageshow", come);
          document.removeEventListener("visibilitychange", seen);
        }};
      }},
      render() {{}},
    }};
    """

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
