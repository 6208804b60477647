"""Predicted durations of runs on this machine: counted FLOPs over the FLOP/s of finished runs.

    pace = Pace.from_cache(cache_folder())
    pace.seconds(run)      # expected seconds of its training: one thread's, or a GPU's

A run goes at the median rate of the runs that trained its student's network with batches of its size; else of those
that trained that network; else at that of all at its precision, of all on its device, or a nominal one.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any

from kit.data.augment import trained_on
from kit.networks.flops import flops_per_image
from kit.networks.named import Network
from kit.runs.spec import Run
from kit.runs.store import NOT_A_RUN

NOMINAL = {"cpu": 30e9, "cuda": 20e12}  # FLOP/s of a thread or a GPU of which nothing is known
FORWARD = 2 / 3  # seconds a FLOP of forward passes alone over those in training; preset quick's teachers: 0.60 to 0.85

Kinds = tuple[Hashable, ...]  # of computing, from particular to general


@dataclass(frozen=True)
class Pace:
    """Predicts durations from `rates`: FLOP/s in training, by kind of computing."""

    rates: Mapping[Hashable, float] = field(default_factory=dict)

    @classmethod
    def from_cache(cls, cache: Path) -> Pace:
        """Measures the finished runs in a cache folder. Those that are damaged, or are no runs, are left out."""
        return cls.from_runs(seen_in(cache))

    @classmethod
    def from_runs(cls, seen: Iterable[tuple[Kinds, float]]) -> Pace:
        """Takes the median rate of the runs of each kind."""
        by_kind: dict[Hashable, list[float]] = defaultdict(list)
        for kinds, rate in seen:
            for kind in kinds:
                by_kind[kind].append(rate)
        return cls({kind: median(rates) for kind, rates in by_kind.items()})

    def with_rates(self, rates: Mapping[tuple[Network, int], float]) -> Pace:
        """Adds FLOP/s of networks at image sizes, measured on a thread, for the kinds that it has none of."""
        measured = Pace.from_runs((kinds_of(*of), rate) for of, rate in rates.items())
        return Pace({**measured.rates, **self.rates})

    def seconds(self, run: Run, read: Mapping[str, float] | None = None) -> float:
        """Predicts the seconds of the run's training, comparable with `Result.seconds`; its teachers' training is
        apart.

        `read` says, by teacher, for which share of its forward passes the run reads logits that are known instead. A
        stage that ends when its temperature is cold counts with its whole budget.
        """
        if run.is_given:  # at most its body answers for a new head, whose own passes cost less
            has_head = run.weights is not None and run.weights.head is not None
            return self.answering(run, run.student, run.data.train_images) if has_head else 0.0
        training, asking = flops_of(run)
        asked = sum(flops * (1 - (read or {}).get(name, 0.0)) for name, flops in asking.items())
        return (training + FORWARD * asked) / self._rate_in(run, run.student)

    def answering(self, run: Run, network: Network, images: int) -> float:
        """Predicts the seconds of a network's forward passes over so many of a run's images."""
        return FORWARD * images * flops_per_image(network, run.data.px)[0] / self._rate_in(run, network)

    def evaluating(self, run: Run, test_images: int) -> float:
        """Predicts the seconds that its recorded time leaves out: the test split after every epoch, and at the end the
        training split and the explained model's logits."""
        own = self.answering(run, run.student, test_images * run.recipe.epochs + run.data.train_images)
        return own + (self.answering(run, run.teachers["big"].student, test_images) if "big" in run.teachers else 0.0)

    def knows(self, network: Network, px: int) -> bool:
        """Whether there is a rate of this very network on a thread."""
        return kinds_of(network, px)[0] in self.rates

    def rate(
        self, network: Network, px: int, device: str = "cpu", precision: str = "float32", batch: int | None = None
    ) -> float:
        """Looks up FLOP/s in training: of the most particular kind that is known, or a nominal one."""
        kinds = kinds_of(network, px, device, precision, batch)
        return next((self.rates[kind] for kind in kinds if kind in self.rates), NOMINAL[device])

    def _rate_in(self, run: Run, network: Network) -> float:
        return self.rate(network, run.data.px, run.device, run.precision, run.recipe.batch)


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
def kinds_of(
    network: Network, px: int, device: str = "cpu", precision: str = "float32", batch: int | None = None
) -> Kinds:
    return _kinds(network.model_dump(mode="json"), px, device, precision, batch)


def _kinds(network: Mapping[str, Any], px: int, device: str, precision: str, batch: int | None) -> Kinds:
    """Names kinds of computing: a network at an image size, in batches of a size where one is given; a precision, a
    device. How many classes a network has hardly changes how fast it is."""
    alike = {name: value for name, value in network.items() if name not in ("classes", "shapes")}
    at = json.dumps(alike, sort_keys=True), px, device, precision
    return *(() if batch is None else ((*at, batch),)), at, (device, precision), device


# ---- runs that have finished --------------------------------------------------------------------------------------


def seen_in(cache: Path) -> Iterator[tuple[Kinds, float]]:
    """Reads every finished run in a cache folder that can be read; checksums are not verified."""
    return (one for folder in (cache / "runs").glob("[0-9a-f]*") if (one := seen_at(folder)) is not None)


def seen_at(folder: Path) -> tuple[Kinds, float] | None:
    """Reads of the finished run in a folder the kinds of its student's computing, and the FLOP/s of its training; None
    where there is none that can be read."""
    try:
        of_run, metrics = (
            json.loads((folder / name).read_text(encoding="utf-8")) for name in ("run.json", "metrics.json")
        )
        device, px, batch = of_run["device"], int(of_run["data"]["px"]), int(of_run["recipe"]["batch"])
        # a description leaves the usual precision out
        kinds = _kinds(of_run["student"], px, device, str(of_run.get("precision", "float32")), batch)
        seconds = float(metrics["gpu_s" if device == "cuda" else "cpu_s"])
        rate = float(metrics["student_flops"] + FORWARD * metrics["teacher_flops"]) / seconds
        return (kinds, rate) if device in NOMINAL and 0 < rate < math.inf and 0 < seconds < math.inf else None
    except (OSError, ArithmeticError, *NOT_A_RUN):
        return None
