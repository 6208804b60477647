"""Predicted durations of runs on this machine: counted FLOPs over the FLOP/s of finished runs.

    pace = Pace.from_cache(cache_folder())
    pace.seconds(run)      # expected seconds of its training: one thread's, or a GPU's

What runs of the same make took is known best: they differ in seed and epochs only. Else each network of a run, student
or teacher, goes at the median rate of the runs that trained it; else at that of its family, of all, or a nominal one.

`pace.json` in the cache notes what is not a run: the seconds that each notebook took to draw.
"""

from __future__ import annotations

import json
import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from filelock import FileLock

from kit.data.augment import trained_on
from kit.files import write
from kit.networks.flops import flops_per_image
from kit.networks.layered import LayeredSpec
from kit.networks.named import NamedSpec, Network, described
from kit.training.teachers import needs_graph

if TYPE_CHECKING:
    from kit.runs.spec import Run

NOMINAL = {"cpu": 30e9, "cuda": 20e12}  # FLOP/s of a thread or a GPU of which nothing is known
# What foreign folders raise.
NOT_A_RUN = (OSError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError)


class Work(NamedTuple):
    """A kind of pass: a network's forward and backward pass of a training step, or (`teaching`) a teacher's forward
    pass."""

    network: Network
    px: int
    teaching: bool = False
    device: str = "cpu"
    precision: str = "float32"

    @property
    def kind(self) -> Work:
        """The same work of a network for two classes, wherever its code lies: how many there are hardly changes how
        fast it is."""
        alike = {"shapes": "", "path": None} if isinstance(self.network, NamedSpec) else {}
        return self._replace(network=self.network.model_copy(update={"classes": 2} | alike))

    @property
    def family(self) -> tuple[str, str, str]:
        """Names the family of the network, of similar FLOP/s there; all searched networks are one family."""
        name = "searched" if isinstance(self.network, LayeredSpec) else self.network.name.rstrip("0123456789")
        return name, *self.machine

    @property
    def machine(self) -> tuple[str, str]:
        return self.device, self.precision


class Passes(NamedTuple):
    """A network's passes in one stage of a run, counted."""

    work: Work
    flops: float
    spared_by: str | None = None  # the teacher whose logits, where they are known, make it needless


@dataclass(frozen=True)
class Seen:
    """What a finished run tells of durations."""

    make: str
    work: Work  # its student's
    images: int  # that the student was trained on
    seconds: float
    flops: float  # of the student's training and its teachers' forward passes


@dataclass(frozen=True)
class Pace:
    """Predicts durations from `rates`, FLOP/s by kind of work, and `makes`, seconds an image of the student's training,
    by the make of run."""

    rates: Mapping[Work, float] = field(default_factory=dict)
    makes: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_cache(cls, cache: Path) -> Pace:
        """Measures the finished runs in a cache folder. Those that are damaged, or are no runs, are left out."""
        return cls.from_runs(seen_in(cache))

    @classmethod
    def from_runs(cls, seen: Iterable[Seen]) -> Pace:
        seen = list(seen)
        rates = _medians((one.work.kind, one.flops / one.seconds) for one in seen)
        return cls(rates, _medians((one.make, one.seconds / one.images) for one in seen))

    def with_rates(self, rates: Mapping[Work, float]) -> Pace:
        """Adds rates measured in another way, for the kinds of work that it has none of."""
        return Pace({**{work.kind: rate for work, rate in rates.items()}, **self.rates}, self.makes)

    def seconds(self, run: Run, read: Mapping[str, float] | None = None) -> float:
        """Predicts the seconds of the run's training, comparable with `Result.seconds`; its teachers' training is
        apart.

        `read` says, by teacher, for which share of its forward passes the run reads logits that are known instead. Of
        a make of run that was never seen, a stage that ends when its temperature is cold counts with its whole budget.
        """
        if run.is_given:  # at most its body answers for a new head, whose own passes cost less
            has_head = run.weights is not None and run.weights.head is not None
            return self._answering(run, run.student, run.data.train_images) if has_head else 0.0
        shares = dict[str | None, float]((read or {}).items())
        parts = [(each.flops / self.rate(each.work), shares.get(each.spared_by, 0.0)) for each in passes_of(run)]
        whole, spared = math.fsum(s for s, _ in parts), math.fsum(s * share for s, share in parts)
        known = self.makes.get(make_of(run))
        return (whole if known is None else images_of(run) * known) * (1 - spared / whole)

    def asking(self, run: Run, name: str, images: int) -> float:
        """Predicts the seconds of a teacher's forward passes over so many images."""
        return self._answering(run, run.teachers[name].student, images)

    def _answering(self, run: Run, network: Network, images: int) -> float:
        """Predicts the seconds of a network's forward passes over so many of a run's images."""
        px = run.data.px
        return images * flops_per_image(network, px)[0] / self.rate(Work(network, px, True, run.device, run.precision))

    def evaluating(self, run: Run, test_images: int) -> float:
        """Predicts the seconds that its recorded time leaves out: the test split after every epoch, and at the end the
        training split and the explained model's logits."""
        own = self._answering(run, run.student, test_images * run.recipe.epochs + run.data.train_images)
        return own + (self.asking(run, "big", test_images) if "big" in run.teachers else 0.0)

    def knows(self, work: Work) -> bool:
        """Whether there is a rate of the network or its family."""
        return any(work.family == other.family for other in self.rates)

    def rate(self, work: Work) -> float:
        """Looks up FLOP/s: the network's own, its family's median, that of all at its precision, that of all on its
        device, or a nominal one."""
        for same in (work.kind, work.kind._replace(teaching=not work.teaching)):
            if same in self.rates:
                return self.rates[same]
        for what in ("family", "machine", "device"):
            if alike := [rate for other, rate in self.rates.items() if getattr(other, what) == getattr(work, what)]:
                return median(alike)
        return NOMINAL["cpu" if work.device == "cpu" else "cuda"]


def _medians(pairs: Iterable[tuple[Any, float]]) -> dict[Any, float]:
    by_key: dict[Any, list[float]] = defaultdict(list)
    for key, value in pairs:
        by_key[key].append(value)
    return {key: median(values) for key, values in by_key.items()}


# ---- a run that is to come ----------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def passes_of(run: Run) -> tuple[Passes, ...]:
    """Counts the run's FLOPs by stage: its student's training and its teachers' forward passes, to every budget."""
    images, px, begun, passes = images_of(run), run.data.px, 0.0, []
    for stage in run.recipe.stages:
        in_stage, begun, objective = images * (stage.until - begun), stage.until, stage.objective
        training = in_stage * objective.student_work * flops_per_image(run.student, px)[1]
        passes.append(Passes(Work(run.student, px, False, run.device, run.precision), training))
        for name in stage.teachers:
            teacher = run.teachers[name].student
            asking = in_stage * objective.teacher_work * flops_per_image(teacher, px)[0]
            spared_by = None if needs_graph(objective) else name
            passes.append(Passes(Work(teacher, px, True, run.device, run.precision), asking, spared_by))
    return tuple(passes)


def images_of(run: Run) -> int:
    """Counts the training images that the student sees; an epoch may leave out what does not fill a batch."""
    return run.recipe.epochs * trained_on(run.data.train_images, run.recipe.batch, run.recipe.keep_last)


@lru_cache(maxsize=4096)
def make_of(run: Run) -> str:
    return _make(run.model_dump(mode="json"))


def _make(described: Mapping[str, Any]) -> str:
    """Describes, as JSON, what runs share that differ in seed, epochs or the numbers of losses and temperatures."""
    stages = [
        stage | {part: (stage[part] or {}).get("kind") for part in ("objective", "temperature")}
        for stage in described["recipe"]["stages"]
    ]
    teachers = {name: teacher["student"] for name, teacher in described["teachers"].items()}
    computed = described["data"]["px"], described["device"], _precision(described), described["recipe"]["batch"]
    return json.dumps((described["student"], teachers, computed, stages), sort_keys=True)


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
            work=Work(described(of_run["student"]), int(data["px"]), False, device, _precision(of_run)),
            images=int(recipe["epochs"])
            * trained_on(int(data["train_images"]), int(recipe["batch"]), bool(recipe.get("keep_last"))),
            seconds=float(metrics["gpu_s" if device == "cuda" else "cpu_s"]),
            flops=float(metrics["student_flops"] + metrics["teacher_flops"]),
        )
        makes_sense = device in NOMINAL and min(seen.images, seen.work.px) >= 1
        return seen if makes_sense and 0 < seen.seconds < math.inf and 0 < seen.flops < math.inf else None
    except NOT_A_RUN:
        return None


# ---- the ledger of what is not a run ------------------------------------------------------------------------------

LEDGER = "pace.json"

# Two cores, preset quick, all runs there.
TYPICAL_DRAWING_S = {
    "00_start_here": 11, "01_derivation": 14, "02_temperature_curves": 8, "03_table1_teachers": 11,
    "04_table2_adaptive": 9, "05_table3_small_teacher": 15, "06_table4_methods": 21, "07_gradcam": 54,
    "08_playground": 8, "10_siblings": 9, "11_many_teachers": 9,
}  # fmt: skip
UNKNOWN_DRAWING_S = 10  # of a notebook that is not one of these


def expected_drawing(cache: Path, preset: str) -> Callable[[str], float]:
    """Predicts the seconds that a notebook, by its name, takes to draw: as last time in this cache, or as elsewhere."""
    seen = drawing_seconds(cache)
    return lambda notebook: seen.get((preset, notebook), TYPICAL_DRAWING_S.get(notebook, UNKNOWN_DRAWING_S))


def drawing_seconds(cache: Path) -> dict[tuple[str, str], float]:
    """Reads the seconds that each notebook last took to draw, by (preset, notebook). A damaged ledger counts as
    none."""
    try:
        noted = json.loads((cache / LEDGER).read_text(encoding="utf-8"))["drawing"]
        found = {(preset, book): float(seconds) for preset, of in noted.items() for book, seconds in of.items()}
    except NOT_A_RUN:
        return {}
    return {key: seconds for key, seconds in found.items() if 0 <= seconds < math.inf}


def note_drawing(cache: Path, preset: str, notebook: str, seconds: float) -> None:
    """Writes down how long a notebook took to draw, where the disk takes it; its runs were trained before."""
    with suppress(OSError):  # a cache may be read-only, and this is for estimates alone
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f"{LEDGER}.lock"):
            noted = drawing_seconds(cache) | {(preset, notebook): seconds}
            content: dict[str, dict[str, float]] = {}
            for (of_preset, name), took in sorted(noted.items()):
                content.setdefault(of_preset, {})[name] = round(took, 2)
            draft = cache / f"{LEDGER}.draft"
            write(draft, json.dumps({"drawing": content}, indent=1) + "\n")
            os.replace(draft, cache / LEDGER)
