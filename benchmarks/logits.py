"""Distillation from cached teacher logits against training on hard labels, and against asking the teacher live.

python -m benchmarks.logits --json    # about 5 minutes on a quiet core

VGG-16 ← VGG-19 and ResNet-34 ← ResNet-34 twice as wide, 32 px, batch 128, one thread. The same student starts from the
same weights and sees the same batches in each arm; arms alternate in one process, in another order in each repeat.
An arm's time is the process CPU seconds of its training steps: `spent.cpu_s` less `cached_logits_s`, which is what
computing the logits had once taken and a run is charged though it did not do it. What finding, checking and reading
the cached logits takes is in it: it happens within the first step of an epoch. Evaluation is in none of the arms.
That cached and live give the same student, bit for bit, and that every logit was read, is checked each time.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from functools import partial
from statistics import median
from typing import Annotated, Optional

import torch
import typer
from tqdm.auto import tqdm

from benchmarks.report import Spread, command, pairs_wanted, words
from benchmarks.task import PAIRS, on_digits
from kit import recipe
from kit.runs.spec import Run
from kit.runs.training import compute_logits, start, train
from kit.runtime.threads import one_thread
from kit.trainer import Training

ARMS = ("hard", "cached", "live")


def runs_of(student: str, epochs: int, batch: int) -> tuple[Run, Run]:
    """The student on hard labels, and by Hinton's loss from its teacher (of one epoch: what it knows takes no time)."""
    run = partial(on_digits, px=32, images=(batch, 1), batch=batch)  # ten classes: ten steps an epoch
    _, name, times = PAIRS[student]
    teacher = run(name, recipe.hard_labels(), 1, width=8 * times)
    hard = run(student, recipe.hard_labels(), epochs)
    return hard, run(student, recipe.eq1(5, "hinton"), epochs, big=teacher)


def trained(arm: str, hard: Run, taught: Run) -> Training:
    training = start(hard if arm == "hard" else taught)
    if arm == "live":
        training.teachers.cached.clear()
    with one_thread():
        return training.run()


def measure(student: str, epochs: int, batch: int, repeats: int, bar: tqdm) -> dict[str, list[float]]:
    """Seconds of each arm's steps, repeat by repeat."""
    hard, taught = runs_of(student, epochs, batch)
    train(taught.teachers["big"])
    for _ in compute_logits(taught, "big", range(epochs)):
        pass
    seconds: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for repeat in range(repeats + 1):  # the first warms up
        students = {}
        for arm in ARMS[repeat % 3 :] + ARMS[: repeat % 3]:
            training = trained(arm, hard, taught)
            spent, students[arm] = training.spent, training.student.state_dict()
            if spent.cached_logits_images != (spent.student_images if arm == "cached" else 0):
                raise RuntimeError(f"{arm}: {spent.cached_logits_images} images' logits were read from the cache")
            if repeat > 0:
                seconds[arm].append(spent.cpu_s - spent.cached_logits_s)
            bar.update()
        if not all(torch.equal(students["cached"][name], tensor) for name, tensor in students["live"].items()):
            raise RuntimeError("cached and live logits gave different students")
    return seconds


def main(
    pair: Annotated[Optional[str], typer.Option(help="vgg16 or resnet34; default: both")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="of every arm")] = 7,
    epochs: Annotated[int, typer.Option(min=1, help="of ten steps, in every arm")] = 2,
    batch: Annotated[int, typer.Option(min=2, max=128, help="images a step")] = 128,
    as_json: Annotated[bool, typer.Option("--json", help="end with lines of JSON")] = False,
) -> None:
    """Time the same student on hard labels, with cached and with live teacher logits."""
    pairs = pairs_wanted(pair, PAIRS)
    found: dict[str, dict[str, object]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="kit-logits-") as cache,
        tqdm(total=len(pairs) * 3 * (repeats + 1), desc="trainings", disable=not sys.stderr.isatty()) as bar,
    ):
        os.environ["KIT_CACHE"] = cache
        for student in pairs:
            seconds = measure(student, epochs, batch, repeats, bar)
            found[student] = {
                "cached_over_hard": Spread.of_ratio(seconds["cached"], seconds["hard"]).rounded(),
                "live_over_hard": Spread.of_ratio(seconds["live"], seconds["hard"]).rounded(),
                "hard_s": round(median(seconds["hard"]), 3),
            }
    for student, of in found.items():
        for name in ("cached_over_hard", "live_over_hard"):
            print(f"{student:9} {name:17} {words(of[name])}")
    if as_json:
        print(json.dumps(found | {"repeats": repeats}))
        print(json.dumps({"cached_over_hard": max(of["cached_over_hard"]["median"] for of in found.values())}))


if __name__ == "__main__":
    command(main)
