"""How fast this machine is, and how long each notebook will take on it, before anything is trained.

speeds = [speed(network, px, batch=64, seconds=1) for network, px in networks_of(runs)]
Prediction.of(plan, Pace.from_cache(cache_folder()).with_rates(measured_rates(speeds, runs)))
"""

from __future__ import annotations

import json
import multiprocessing
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from kit import recipe
from kit.data.base import Dataset, Split, TensorImages
from kit.data.throughput import rate
from kit.engines import default_jobs
from kit.figures import FOLLOWING, NEEDS, notebooks
from kit.folding import folded
from kit.grid import read_from, seconds_reading, shared_logits
from kit.machine import cores
from kit.methods import METHODS
from kit.models import ModelSpec, flops_per_image
from kit.pace import NOMINAL, NOT_A_RUN, Pace, Work, expected_drawing
from kit.paper import table4
from kit.paper.plan import Plan, runs_of
from kit.paper.scale import PUBLISHED, PublishedPlan
from kit.recipe import Recipe
from kit.runs import Run, cache_folder, folder_of, teacher_logits, with_teachers
from kit.threads import threads
from kit.trainer import Training, frozen, teach

STEPS = 8  # in an epoch of the images made up for measuring
FASTEST = 5_000  # steps a second that no network makes
AROUND_A_RUN = 0.2  # seconds to load, check and store what a run needs and leaves
HOPELESS_DAYS = 14


# ---- images a second ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Speed:
    """Images a second of a network: training steps, and forward passes as a teacher; on one thread and on all cores."""

    network: ModelSpec
    px: int
    batch: int
    training: float
    training_all: float
    teaching: float
    teaching_all: float

    @property
    def rates(self) -> dict[Work, float]:
        """FLOP/s on one thread, by task."""
        forward, both = flops_per_image(self.network, self.px)
        return {
            Work(self.network, self.px): self.training * both,
            Work(self.network, self.px, teaching=True): self.teaching * forward,
        }


def networks_of(runs: Iterable[Run]) -> list[tuple[ModelSpec, int]]:
    """Each named network at each image size, once: of those that differ in classes alone, the one with the most."""
    found: dict[tuple, tuple[ModelSpec, int]] = {}
    for run in with_teachers(runs):
        spec, px = run.student, run.data.px
        if isinstance(spec, ModelSpec):
            key = (px, spec.name, spec.width, spec.stem, spec.batch_norm)
            if key not in found or found[key][0].classes < spec.classes:
                found[key] = (spec, px)
    return [found[key] for key in sorted(found)]


def speed(network: ModelSpec, px: int, batch: int, seconds: float) -> Speed:
    """Measured by the trainer itself on made-up images, each of four numbers for so many seconds.

    Where a whole batch would take far longer than that, as at the paper's sizes, it is a smaller one.
    """
    affordable = int(seconds * NOMINAL["cpu"] / flops_per_image(network, px)[1])
    batch = max(2, min(batch, affordable))
    rates = []
    for work in (_training, _teaching):
        for count in (1, cores()):
            with threads(count):
                rates.append(rate(work(network, px, batch, seconds), batch, seconds))
    return Speed(network, px, batch, *rates)


def _training(network: ModelSpec, px: int, batch: int, seconds: float):
    epochs = 2 + int(seconds * FASTEST / STEPS)
    made = Recipe(stages=recipe.hard_labels(), epochs=epochs, batch=batch)
    steps = iter(Training(made, _made_up(px, network.classes, batch), network.build(0), {}, seed=0))
    return lambda _: next(steps)


def _teaching(network: ModelSpec, px: int, batch: int, seconds: float):
    teacher = folded(frozen(network.build(0), torch.device("cpu")))
    x = torch.randn(batch, 3, px, px).to(memory_format=torch.channels_last)
    return lambda _: teach(teacher, x)


def _made_up(px: int, classes: int, batch: int) -> Dataset:
    """Noise, an epoch of STEPS batches, and as good as nothing to be tested on."""
    generator = torch.Generator().manual_seed(0)

    def split(n: int) -> Split:
        pixels = torch.randint(0, 256, (n, px, px, 3), generator=generator, dtype=torch.uint8)
        return Split(TensorImages(pixels), torch.arange(n) % classes)

    names = tuple(map(str, range(classes)))
    return Dataset("cifar-10", "noise", "embedded", "", names, split(STEPS * batch), split(2), px, flip=True)


def speeds_table(speeds: Sequence[Speed]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "network": each.network.title,
            "width": each.network.width,
            "px": each.px,
            "batch": each.batch,
            "training images/s": each.training,
            "all cores": each.training_all,
            "teaching images/s": each.teaching,
            "all cores ": each.teaching_all,
        }
        for each in speeds
    )


def measured_rates(speeds: Sequence[Speed], runs: Iterable[Run]) -> dict[Work, float]:
    """FLOP/s for every network of the runs that a measured one stands for."""
    by_shape = {_shape(task): rate for each in speeds for task, rate in each.rates.items()}
    wanted = {Work(run.student, run.data.px, teaching) for run in with_teachers(runs) for teaching in (False, True)}
    return {task: by_shape[_shape(task)] for task in wanted if _shape(task) in by_shape}


def _shape(task: Work) -> tuple:
    fields = task.network.model_dump(exclude={"classes"}) if isinstance(task.network, ModelSpec) else {}
    return (*fields.values(), task.px, task.teaching)


# ---- minutes ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Expected:
    """A notebook: what it adds to those before it. Seconds are of one thread, drawing apart."""

    notebook: str
    runs: int
    finished: int  # of those, in the cache
    seconds: float
    left: float  # of those seconds, of runs that are not in the cache
    drawing: float
    foreseen: int = 0  # runs that only searches will decide, in `runs` and `seconds` too


@dataclass(frozen=True)
class Prediction:
    """What `figures` will take at a preset, notebook by notebook."""

    preset: str
    jobs: int
    notebooks: tuple[Expected, ...]
    starting: float  # seconds until processes are up, for all times that runs are trained
    longest: float  # seconds of the longest chain of a run and its teachers that is left

    @classmethod
    def of(cls, plan: Plan, pace: Pace, jobs: int | None = None, seeds: int | None = None) -> Prediction:
        """Runs are counted where `figures` meets them first. Nothing is trained."""
        drawing, jobs = expected_drawing(cache_folder(), plan.preset.name), jobs or default_jobs()
        before: dict[Run, float] = {}
        found, starts = [], 0
        needs = {name: with_teachers(runs_of(needed(plan, seeds))) for name, needed in NEEDS.items()}
        foreseen = {name: table4.foreseen(plan, seeds or table4.seeds(plan)) for name in FOLLOWING}
        everything = [*dict.fromkeys(chain(*needs.values())), *chain(*foreseen.values())]
        users = users_of_logits(everything)
        for name in notebooks():
            new = [run for run in needs.get(name, ()) if run not in before]
            before |= {run: whole(run, pace, plan, users) for run in new}
            left = [run for run in new if not is_finished(run)]
            starts = max(starts, 1 if left else 0)
            following = foreseen.get(name, [])
            later = sum(whole(run, pace, plan, users) for run in following)
            done = len(left) == 0 and bool(following) and searches_are_known(plan, seeds or table4.seeds(plan))
            if following and not done:
                starts += table4.SEARCHES[plan.preset.name].rounds + len(table4.BUDGETS)
            found.append(
                Expected(
                    notebook=name,
                    runs=len(new) + len(following),
                    finished=len(new) - len(left) + (len(following) if done else 0),
                    seconds=sum(before[run] for run in new) + later,
                    left=sum(before[run] for run in left) + (0.0 if done else later),
                    drawing=drawing(name),
                    foreseen=len(following),
                )
            )
        left_over = {run: 0.0 if is_finished(run) else seconds for run, seconds in before.items()}
        chains = [
            seconds + max((left_over[t] for t in r.teachers.values()), default=0.0) for r, seconds in left_over.items()
        ]
        starting = starts * starting_seconds() if starts else 0.0
        return cls(plan.preset.name, jobs, tuple(found), starting, max(chains, default=0.0))

    @cached_property
    def training(self) -> float:
        """Seconds of all training from an empty cache, runs side by side; starting processes left out."""
        return sum(each.seconds for each in self.notebooks) / self.jobs

    @property
    def left(self) -> float:
        """Seconds of what is left to do, drawing included."""
        return max(sum(each.left for each in self.notebooks) / self.jobs, self.longest) + self.starting + self.drawing

    @property
    def drawing(self) -> float:
        return sum(each.drawing for each in self.notebooks)

    @property
    def table(self) -> pd.DataFrame:
        """A line a notebook, in minutes."""
        return pd.DataFrame(
            {
                "notebook": each.notebook,
                "runs": f"{each.runs}" if not each.foreseen else f"about {each.runs}",
                "in the cache": each.finished,
                "training": each.seconds / self.jobs / 60,
                "drawing": each.drawing / 60,
                "left to do": (each.left / self.jobs + each.drawing) / 60,
            }
            for each in self.notebooks
        )


def whole(run: Run, pace: Pace, plan: Plan, users: Mapping[str, int]) -> float:
    """Seconds of one thread: training, evaluating after each epoch, and what is around it. Of a teacher's logits that
    many `users` read each is charged an equal part."""
    by_name = {name: users.get(teacher_logits(run, name).key, 1) for name in read_from(run)}
    training = seconds_reading(run, {name: 1 - 1 / count for name, count in by_name.items()}, pace)
    return training + pace.evaluating(run, test_images(plan, run)) + AROUND_A_RUN


def users_of_logits(runs: Sequence[Run]) -> Mapping[str, int]:
    """How many of the runs read the same logits, by these' key, where none were there and they are computed once."""
    shared = {each.key for each in shared_logits(runs, missing=lambda kept, epochs: epochs)}
    wanted = Counter(teacher_logits(run, name).key for run in runs for name in read_from(run))
    return {key: wanted[key] for key in shared}


def test_images(plan: Plan, run: Run) -> int:
    """How many there are; at most, where that is cheaper to tell."""
    if isinstance(plan, PublishedPlan):
        return PUBLISHED[run.data.role].test_images
    return len(plan.data(run.data.role).load().test)


def is_finished(run: Run) -> bool:
    return (folder_of(run.hash) / "metrics.json").is_file()


def searches_are_known(plan: Plan, seeds: int) -> bool:
    """Whether the cache has as many searched students of this preset, trained in full, as Table 4 has.

    Which networks they are, only their searches can tell; so the rest of Table 4 is taken to be there as well.
    """
    wanted = seeds * sum(method.search is not None for method in METHODS)
    return (
        sum(_is_searched_student(folder, plan.preset.name) for folder in (cache_folder() / "runs").glob("*")) >= wanted
    )


def _is_searched_student(folder: Path, preset: str) -> bool:
    """Of a search, and no candidate: those are judged on held-out images."""
    try:
        described = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        return (
            described["preset"] == preset and "layers" in described["student"] and "held_out" not in described["data"]
        )
    except NOT_A_RUN:
        return False


@cache
def starting_seconds() -> float:
    """How long a fresh process takes until it can train, measured by starting one."""
    begun = time.perf_counter()
    process = multiprocessing.get_context("spawn").Process(target=import_module, args=("kit.runs",))
    process.start()
    process.join()
    return time.perf_counter() - begun


def duration(seconds: float) -> str:
    """`40 s`, `12 minutes`, `3.5 hours`, `6 days`, `3 years`."""
    for unit, size, digits in (("years", 365 * 86400, 0), ("days", 86400, 0), ("hours", 3600, 1), ("minutes", 60, 0)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.{digits}f} {unit}"
    return f"{seconds:.0f} s"


def verdict(prediction: Prediction) -> str:
    """One line on what is left to do, and whether to wait for it."""
    took = f"left to do: about {duration(prediction.left)} on {prediction.jobs} cores"
    if prediction.left > HOPELESS_DAYS * 86400:
        return f"{took}: hopeless here; it wants a GPU (see PAPER.md)"
    return took


def record(prediction: Prediction, speeds: Sequence[Speed]) -> dict[str, Any]:
    """All of it for JSON: images/s, and seconds."""
    return {
        "preset": prediction.preset,
        "jobs": prediction.jobs,
        "speeds": [{**asdict(each), "network": each.network.model_dump()} for each in speeds],
        "notebooks": [asdict(each) for each in prediction.notebooks],
        "training_s": prediction.training,
        "starting_s": prediction.starting,
        "drawing_s": prediction.drawing,
        "left_s": prediction.left,
    }
