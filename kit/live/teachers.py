"""The teachers that a session misses: how long they will take here, and their training in a process of its own."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection

import torch

from kit.data.throughput import FASTEST, rate
from kit.errors import KitError
from kit.grid.durations import Pace, images_of
from kit.grid.engines import end_with_parent
from kit.recipe import hard_labels
from kit.runs.spec import Run
from kit.runs.training import own_stream, train
from kit.trainer import Training
from kit.training.forward import Machine
from kit.training.history import Diverged

MEASURING = 0.15  # seconds of a teacher's training, to tell how long it will take


def teach_alone(missing: list[Run], sender: Connection) -> None:
    """In a process of its own: trains what is missing and sends each share that is done, or why it could not."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who interrupts the kernel does not mean this
    end_with_parent()
    with sender:
        for run, part in shares(missing).items():
            try:
                train(run, lambda share, part=part: sender.send((share * part, None)))
            except (Diverged, KitError) as error:
                sender.send((0.0, str(error)))
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
    epochs = 1 + int(MEASURING * FASTEST) * run.recipe.batch // run.data.train_images
    recipe = run.recipe.model_copy(update={"stages": hard_labels(), "epochs": epochs})
    with own_stream(run):
        student, machine = run.student.build(run.seed), Machine(run.device, run.precision)
        training = Training(recipe, run.data.load(), student, {}, run.seed, machine=machine)
        steps = iter(training)
        return images_of(run) / rate(lambda _: next(steps), training.batch, MEASURING)
