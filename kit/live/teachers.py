"""The teachers that a session misses: how long they will take here, and their training in a process of its own."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection

import torch

from kit.errors import KitError
from kit.grid.durations import Pace
from kit.grid.engines import end_with_parent
from kit.recipe import hard_labels
from kit.runs.spec import Run
from kit.runs.training import own_stream, train
from kit.trainer import Training
from kit.training.forward import Machine
from kit.training.history import Diverged

MEASURING = 0.15  # seconds of a teacher's training, to tell how long it will take


def teach_alone(missing: list[Run], sender: Connection) -> None:
    """In a process of its own: trains what is missing and sends the share done, or why it could not."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who interrupts the kernel does not mean this
    end_with_parent()
    done, share_of = 0.0, shares(missing)
    with sender:
        for run in missing:

            def tick(share: float, run: Run = run) -> None:
                nonlocal done
                done += share * share_of[run]
                sender.send((min(1.0, done), None))

            try:
                train(run, tick)
            except (Diverged, KitError) as error:
                sender.send((done, str(error)))
                return


def shares(missing: Sequence[Run]) -> dict[Run, float]:
    """Predicts by counted FLOPs which share of the work each run is; a given one only answers."""
    pace = Pace()
    work = {run: pace.seconds(run) + pace.evaluating(run, 0) for run in missing}
    total = sum(work.values())
    return {run: each / total for run, each in work.items()}


def announcement(missing: Sequence[Run]) -> str:
    """One line that says which teachers must be trained first, and about how long that takes here."""
    names = " and ".join(
        f"{run.student.title} ({'given' if run.is_given else f'{run.recipe.epochs} epochs'})" for run in missing
    )
    return f"training teacher {names} first, about {sum(map(seconds, missing)):.0f} s"


def seconds(run: Run) -> float:
    """About how long a run takes here, from a few of its batches on hard labels; a given one's are none."""
    if run.is_given:
        return 0.0
    recipe, begin = run.recipe.model_copy(update={"stages": hard_labels()}), math.inf
    with own_stream(run):
        student = run.student.build(run.seed)
        training = Training(recipe, run.data.load(), student, {}, run.seed, machine=Machine(run.device, run.precision))
        for step in training:
            if step == 1:  # it sets up what the others find
                begin = time.perf_counter()
            elif time.perf_counter() > begin + MEASURING:
                break
    return training.total_steps * (time.perf_counter() - begin) / max(1, training.step - 1)
