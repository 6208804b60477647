"""Predicted durations of runs on this machine: counted FLOPs over the FLOP/s of finished runs.

    pace = Pace.from_cache(cache_folder())
    pace.seconds(run)      # expected seconds of its training: one thread's, or a GPU's

What runs of the same make took is known best: they differ in seed and epochs only. Else a run goes at the median rate
of the runs that trained its student's network; else at that of all at its precision, of all on its device, or a
nominal one.

The cache's folder `drawing` notes what is not a run: the seconds that each notebook took to draw.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from kit.data.augment import trained_on
from kit.files import cache_folder, write_atomically
from kit.networks.flops import flops_per_image
from kit.networks.named import Network

if TYPE_CHECKING:
    from kit.runs.spec import Run

NOMINAL = {"cpu": 30e9, "cuda": 20e12}  # FLOP/s of a thread or a GPU of which nothing is known
FORWARD = 2 / 3  # seconds a FLOP of forward passes alone over those in training; preset quick's teachers: 0.60 to 0.85
# What foreign folders raise.
NOT_A_RUN = (OSError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError)


class Seen(NamedTuple):
    """What a finished run tells of durations."""

    make: str
    kinds: tuple[Hashable, ...]  # of its student's computing
    images: int  # that the student was trained on
    seconds: float
    flops: float  # as many in training as the student's and its teachers' were


@dataclass(frozen=True)
class Pace:
    """Predicts durations from `rates`, FLOP/s in training by kind of computing, and `makes`, seconds an image of the
    student's training, by the make of run."""

    rates: Mapping[Hashable, float] = field(default_factory=dict)
    makes: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_cache(cls, cache: Path) -> Pace:
        """Measures the finished runs in a cache folder. Those that are damaged, or are no runs, are left out."""
        return cls.from_runs(seen_in(cache))

    @classmethod
    def from_runs(cls, seen: Iterable[Seen]) -> Pace:
        seen = list(seen)
        rates = _medians((kind, one.flops / one.seconds) for one in seen for kind in one.kinds)
        return cls(rates, _medians((one.make, one.seconds / one.images) for one in seen))

    def with_rates(self, rates: Mapping[tuple[Network, int], float]) -> Pace:
        """Adds FLOP/s of networks at image sizes, measured on a thread, for the kinds that it has none of."""
        measured = _medians((kind, rate) for of, rate in rates.items() for kind in kinds_of(*of))
        return Pace({**measured, **self.rates}, self.makes)

    def seconds(self, run: Run, read: Mapping[str, float] | None = None) -> float:
        """Predicts the seconds of the run's training, comparable with `Result.seconds`; its teachers' training is
        apart.

        `read` says, by teacher, for which share of its forward passes the run reads logits that are known instead. Of
        a make of run that was never seen, a stage that ends when its temperature is cold counts with its whole budget.
        """
        if run.is_given:  # at most its body answers for a new head, whose own passes cost less
            has_head = run.weights is not None and run.weights.head is not None
            return self.answering(run, run.student, run.data.train_images) if has_head else 0.0
        training, asking = flops_of(run)
        whole = training + FORWARD * sum(asking.values())
        spared = FORWARD * sum(asking[name] * share for name, share in (read or {}).items())
        if (known := self.makes.get(make_of(run))) is not None:
            return images_of(run) * known * (1 - spared / whole)
        return (whole - spared) / self.rate(run.student, run.data.px, run.device, run.precision)

    def answering(self, run: Run, network: Network, images: int) -> float:
        """Predicts the seconds of a network's forward passes over so many of a run's images."""
        flops = images * flops_per_image(network, run.data.px)[0]
        return FORWARD * flops / self.rate(network, run.data.px, run.device, run.precision)

    def evaluating(self, run: Run, test_images: int) -> float:
        """Predicts the seconds that its recorded time leaves out: the test split after every epoch, and at the end the
        training split and the explained model's logits."""
        own = self.answering(run, run.student, test_images * run.recipe.epochs + run.data.train_images)
        return own + (self.answering(run, run.teachers["big"].student, test_images) if "big" in run.teachers else 0.0)

    def knows(self, network: Network, px: int) -> bool:
        """Whether there is a rate of this very network on a thread."""
        return kinds_of(network, px)[0] in self.rates

    def rate(self, network: Network, px: int, device: str = "cpu", precision: str = "float32") -> float:
        """Looks up FLOP/s in training: of the most particular kind that is known, or a nominal one."""
        known = (self.rates[kind] for kind in kinds_of(network, px, device, precision) if kind in self.rates)
        return next(known, NOMINAL[device])


def _medians(pairs: Iterable[tuple[Any, float]]) -> dict[Any, float]:
    by_key: dict[Any, list[float]] = defaultdict(list)
    for key, value in pairs:
        by_key[key].append(value)
    return {key: median(values) for key, values in by_key.items()}


# ---- a run that is to come ----------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def flops_of(run: Run) -> tuple[float, Mapping[str, float]]:
    """Counts the FLOPs of the student's training, and by teacher those of its forward passes, every stage with its
    whole budget."""
    images, px, begun, training = images_of(run), run.data.px, 0.0, 0.0
    asking = dict.fromkeys(run.recipe.teachers, 0.0)
    for stage in run.recipe.stages:
        in_stage, begun, objective = images * (stage.until - begun), stage.until, stage.objective
        training += in_stage * objective.student_work * flops_per_image(run.student, px)[1]
        for name in stage.teachers:
            asking[name] += in_stage * objective.teacher_work * flops_per_image(run.teachers[name].student, px)[0]
    return training, asking


def images_of(run: Run) -> int:
    """Counts the training images that the student sees; an epoch may leave out what does not fill a batch."""
    return run.recipe.epochs * trained_on(run.data.train_images, run.recipe.batch, run.recipe.keep_last)


@lru_cache(maxsize=4096)
def make_of(run: Run) -> str:
    return _make(run.model_dump(mode="json"))


def kinds_of(network: Network, px: int, device: str = "cpu", precision: str = "float32") -> tuple[Hashable, ...]:
    return _kinds(network.model_dump(mode="json"), px, device, precision)


# ---- of a run's description, as JSON ------------------------------------------------------------------------------


def _make(described: Mapping[str, Any]) -> str:
    """Describes, as JSON, what runs share that differ in seed, epochs or the numbers of losses and temperatures."""
    stages = [
        stage | {part: (stage[part] or {}).get("kind") for part in ("objective", "temperature")}
        for stage in described["recipe"]["stages"]
    ]
    teachers = {name: teacher["student"] for name, teacher in described["teachers"].items()}
    computed = described["data"]["px"], described["device"], _precision(described), described["recipe"]["batch"]
    return json.dumps((described["student"], teachers, computed, stages), sort_keys=True)


def _kinds(network: Mapping[str, Any], px: int, device: str, precision: str) -> tuple[Hashable, ...]:
    """Names kinds of computing, from particular to general: a network at an image size, a precision, a device. How many
    classes a network has hardly changes how fast it is."""
    alike = {name: value for name, value in network.items() if name not in ("classes", "shapes")}
    return (json.dumps(alike, sort_keys=True), px, device, precision), (device, precision), device


def _precision(described: Mapping[str, Any]) -> str:
    """Reads a run's precision, which its description leaves out where it is the usual one."""
    return str(described.get("precision", "float32"))


# ---- runs that have finished --------------------------------------------------------------------------------------


def seen_in(cache: Path) -> Iterator[Seen]:
    """Reads every finished run in a cache folder that can be read; checksums are not verified."""
    return (one for folder in (cache / "runs").glob("[0-9a-f]*") if (one := seen_at(folder)) is not None)


def seen_at(folder: Path) -> Seen | None:
    """Reads the finished run in a folder; None where there is none that can be read."""
    try:
        of_run, metrics = (
            json.loads((folder / name).read_text(encoding="utf-8")) for name in ("run.json", "metrics.json")
        )
        data, recipe, device = of_run["data"], of_run["recipe"], of_run["device"]
        seen = Seen(
            make=_make(of_run),
            kinds=_kinds(of_run["student"], int(data["px"]), device, _precision(of_run)),
            images=int(recipe["epochs"])
            * trained_on(int(data["train_images"]), int(recipe["batch"]), bool(recipe.get("keep_last"))),
            seconds=float(metrics["gpu_s" if device == "cuda" else "cpu_s"]),
            flops=float(metrics["student_flops"] + FORWARD * metrics["teacher_flops"]),
        )
        makes_sense = device in NOMINAL and seen.images >= 1
        return seen if makes_sense and 0 < seen.seconds < math.inf and 0 < seen.flops < math.inf else None
    except NOT_A_RUN:
        return None


# ---- notebooks that were drawn ------------------------------------------------------------------------------------

# Two cores, preset quick, all runs there.
TYPICAL_DRAWING_S = {
    "00_start_here": 11, "01_derivation": 14, "02_temperature_curves": 8, "03_table1_teachers": 11,
    "04_table2_adaptive": 9, "05_table3_small_teacher": 15, "06_table4_methods": 21, "07_gradcam": 54,
    "08_playground": 8, "10_siblings": 9, "11_many_teachers": 9,
}  # fmt: skip
UNKNOWN_DRAWING_S = 10  # of a notebook that is not one of these


def expected_drawing(preset: str, notebook: str) -> float:
    """Predicts the seconds that a notebook takes to draw: as last time in this cache, or as elsewhere."""
    seen = drawing_seconds(preset, notebook)
    return TYPICAL_DRAWING_S.get(notebook, UNKNOWN_DRAWING_S) if seen is None else seen


def drawing_seconds(preset: str, notebook: str) -> float | None:
    """Reads the seconds that a notebook last took to draw; None where that is not noted in this cache."""
    try:
        seconds = float(_noted(preset, notebook).read_text())
    except (OSError, ValueError):
        return None
    return seconds if 0 <= seconds < math.inf else None


def note_drawing(preset: str, notebook: str, seconds: float) -> None:
    """Writes down how long a notebook took to draw, where the disk takes it; its runs were trained before."""
    place = _noted(preset, notebook)
    with suppress(OSError):  # a cache may be read-only, and this is for estimates alone
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(place, f"{seconds:.2f}\n")


def _noted(preset: str, notebook: str) -> Path:
    return cache_folder() / "drawing" / f"{preset}-{notebook}"
