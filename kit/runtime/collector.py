"""Python's garbage collector in the kit's own processes, kept from scanning imported modules again and again.

Importing torch makes a million objects that stay as long as the process does. Python goes through them again and again
while they come, and once more when it ends: a third of the seconds of a process that does little else.
"""

from __future__ import annotations

import gc

USUAL = gc.get_threshold()
RARELY = (100_000, 50, 100)  # objects, then how many collections of one generation before the next is collected too


def collect_rarely() -> None:
    """Runs the garbage collector rarely: for a process that begins, or that mostly imports and waits."""
    gc.set_threshold(*RARELY)


def keep_what_is_there() -> None:
    """Ends `collect_rarely`: freezes the present objects, and collects new ones as usual. Does nothing where that has
    ended, as garbage of now would be kept, too."""
    if gc.get_threshold() == RARELY:
        gc.freeze()
        gc.set_threshold(*USUAL)
