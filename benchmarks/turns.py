"""A cockpit that draws by turns: one training, in one process, for a second with its page drawn and the next without.

Two processes differ, and a machine is now quicker and now slower: what a page costs is smaller than either.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.stats import mstats

from kit.live import lane
from kit.live.cockpit import Cockpit

SETTLING = 0.2  # seconds of a turn in which the former one's messages are still drawn
TRIMMED = (0.1, 0.1)  # shares of the turns left out at either end: another process came between


def by_turns(cockpit: Cockpit, notes: Path, seconds: float) -> Cockpit:
    """Has a cockpit, which it returns, draw in every second turn of so many seconds, from the first batch on. After
    about a tenth of a second each, it notes the time, how many batches are trained, and the turn."""
    lane.ATTENDING /= 2  # of all seconds: only half of them are drawn
    session, hear = cockpit.lanes[0].session, cockpit.lanes[0].session._hear
    file = notes.open("w", buffering=1)

    def turn() -> int:
        return int(time.perf_counter() / seconds)

    def in_its_turn(draw: Callable[[], None]) -> Callable[[], object]:
        return lambda: (turn() % 2 == 0 or session.state.phase != "running") and draw()

    def hear_and_note() -> None:
        if session.state.phase == "running":
            file.write(f"{time.perf_counter()},{session.state.step},{turn()}\n")
        hear()

    session._hear = hear_and_note
    cockpit._draw_curves, cockpit._draw_networks = map(in_its_turn, (cockpit._draw_curves, cockpit._draw_networks))
    return cockpit


def slowdown(notes: Path) -> tuple[float, tuple[float, float], int]:
    """By how much longer a batch takes in a turn with drawing than in the turns about it: the mean without the TRIMMED,
    its 95 % interval, and the number of turns. Of each turn counts what comes after SETTLING."""
    at, step, turn = np.loadtxt(notes, delimiter=",").T  # (n,) each
    batch = {}  # seconds of a batch, by turn
    for number in np.unique(turn)[1:-1]:
        mine = turn == number
        mine &= at >= at[mine][0] + SETTLING
        if mine.sum() > 1:
            batch[int(number)] = (at[mine][-1] - at[mine][0]) / (step[mine][-1] - step[mine][0])
    between = [number for number in batch if number % 2 == 0 and {number - 1, number + 1} <= batch.keys()]
    ratios = [2 * batch[number] / (batch[number - 1] + batch[number + 1]) for number in between]
    low, high = mstats.trimmed_mean_ci(ratios, limits=TRIMMED)
    return float(mstats.trimmed_mean(ratios, limits=TRIMMED)) - 1, (float(low) - 1, float(high) - 1), len(ratios)
