"""Progress bars that say no more than they know."""

from __future__ import annotations

import time
from typing import Any

from tqdm.auto import tqdm

EVIDENCE = 0.03  # of all there is to do: from then on the time that is left is estimated
IN_A_FILE = 30.0  # seconds from line to line where nobody watches


class Bar(tqdm):
    """A tqdm bar that estimates what is left by all that is done, once there is evidence; into a file it writes lines,
    one now and then."""

    n: float  # how much is done
    _said_at = 0.0

    @property
    def format_dict(self) -> dict[str, Any]:
        known, whole = super().format_dict, self.total or 0
        tail = "{elapsed}<{remaining}" if EVIDENCE * whole <= self.n < whole else "{elapsed}"  # at the end none remains
        done = min(self.n, whole)  # which parts may exceed by rounding
        # tqdm's own rate is of the last few parts, which are of very different kinds: without it, it takes the mean
        return known | {"n": done, "rate": None, "bar_format": f"{{desc}}: {{percentage:3.0f}}%|{{bar}}| {tail}"}

    def __exit__(self, *raised: Any) -> None:
        """Fills the bar when its block ends without an exception: parts add up to the whole only nearly."""
        if raised[0] is None:
            self.n = max(self.n, self.total)
        super().__exit__(*raised)

    def display(self, *arguments: Any, **options: Any) -> Any:
        if hasattr(self, "container") or self.fp.isatty():  # a notebook's bar, or a terminal's
            return super().display(*arguments, **options)
        now = time.monotonic()
        if self.disable or now - self._said_at >= IN_A_FILE:  # disabled: it is being closed, which ends the line
            self._said_at = now
            self.fp.write(str(self) + "\n" * (not self.disable))
        return True
