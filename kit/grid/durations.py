"""How long a run will take on this machine: counted FLOPs, corrected by the seconds that finished runs took.

    pace = Pace.from_cache(cache_folder())
    pace.seconds(run)      # expected seconds of its training: one thread's, or a GPU's

What runs of the same make took is known best: they differ in seed and epochs only. Else a run is taken apart: its
student's training and each teacher's forward passes, counted FLOPs over the rate at which that network was seen to do
them; else the rate of its nearest relative, else the median of all, else a nominal one.

`pace.json` in the cache notes what is not a run: the seconds that each notebook took to draw.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from filelock import FileLock

from kit.files import write, writing_to
from kit.models import ModelSpec
from kit.networks.flops import flops_per_image
from kit.networks.layered import LayeredSpec
from kit.recipe import Eq1, HardLabels, Improved

if TYPE_CHECKING:
    from kit.runs.spec import Run


from kit.grid.shared import teaching_share
from kit.runs.spec import Run

Spec = ModelSpec | LayeredSpec

NOMINAL = {"cpu": 30e9, "cuda": 20e12}  # FLOP/s of a thread or a GPU of which nothing is known
NOISE = 0.1  # a share of a run's seconds that is too small to be told from the rest of it
PLAIN = frozenset(objective.model_fields["kind"].default for objective in (HardLabels, Eq1, Improved))
NOT_A_RUN = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)  # what foreign folders raise


class Work(NamedTuple):
    """A network at work: a training step's forward and backward pass, or (`teaching`) a teacher's forward pass."""

    network: Spec
    px: int
    teaching: bool = False
    device: str = "cpu"


class Make(NamedTuple):
    """What runs that differ only in seed, epochs or the temperature's numbers have in common."""

    student: Spec
    px: int
    device: str
    stages: tuple[tuple[str, Spec | None, float, str | None], ...]  # objective, teacher, until, temperature


@dataclass(frozen=True)
class Seen:
    """A finished run, as far as its pace is concerned."""

    make: Make
    images: int  # that the student was trained on
    seconds: float
    student_flops: float
    teacher_flops: float
    teachers: frozenset[Spec]  # that it has really learnt from

    @property
    def is_plain(self) -> bool:
        """Whether its steps are a forward and backward pass, and a teacher's forward pass, and little else."""
        return all(objective in PLAIN for objective, *_ in self.make.stages)

    @property
    def task(self) -> Work:
        return Work(self.make.student, self.make.px, False, self.make.device)

    @property
    def teaching(self) -> Work | None:
        """Its teacher's forward passes, where it had one teacher; None where none or several."""
        return Work(*self.teachers, self.make.px, True, self.make.device) if len(self.teachers) == 1 else None


@dataclass(frozen=True)
class Pace:
    """`rates`: FLOP/s by task; `makes`: seconds an image of the student's training, by the make of run."""

    rates: Mapping[Work, float] = field(default_factory=dict)
    makes: Mapping[Make, float] = field(default_factory=dict)

    @classmethod
    def from_cache(cls, cache: Path) -> Pace:
        """From the finished runs in a cache folder. Those that are damaged, or are no runs, are passed over."""
        return cls.from_runs(seen_in(cache))

    @classmethod
    def from_runs(cls, seen: Iterable[Seen]) -> Pace:
        seen = list(seen)
        return cls(_rates(seen), _ratio({}, ((one.make, one.seconds, one.images) for one in seen)))

    def with_rates(self, rates: Mapping[Work, float]) -> Pace:
        """The same with rates measured in another way where it has none of its own."""
        return Pace({**rates, **self.rates}, self.makes)

    def seconds(self, run: Run) -> float:
        """Expected seconds of the run's training, comparable with `Result.seconds`; its teachers' training is apart.

        Of a make of run that was never seen, a stage that ends when its temperature is cold counts with its whole
        budget: rather too long than too short.
        """
        known = self.makes.get(make_of(run))
        if known is not None:
            return images_of(run) * known
        return math.fsum(flops / self.rate(task) for task, flops in work_of(run))

    def evaluating(self, run: Run, test_images: int) -> float:
        """Expected seconds of what its recorded time leaves out: the test split after every epoch, and at the end both
        splits and the explained model's logits."""
        px = run.data.px
        passes = test_images * (run.recipe.epochs + 1) + run.data.train_images
        seconds = passes * flops_per_image(run.student, px)[0] / self.rate(Work(run.student, px, True, run.device))
        if "big" in run.teachers:
            big = run.teachers["big"].student
            seconds += test_images * flops_per_image(big, px)[0] / self.rate(Work(big, px, True, run.device))
        return seconds

    def rate(self, task: Work) -> float:
        """FLOP/s: the task's own, its nearest relative's, the median, or a nominal one."""
        if task in self.rates:
            return self.rates[task]
        same = {other: rate for other, rate in self.rates.items() if other.device == task.device}
        for teaching in (task.teaching, not task.teaching):
            wanted = task._replace(teaching=teaching)
            related = {other: d for other in same if (d := distance(wanted, other)) is not None}
            if related:
                return same[min(related, key=related.get)]
        return median(same.values()) if same else NOMINAL["cpu" if task.device == "cpu" else "cuda"]


def distance(one: Work, other: Work) -> float | None:
    """How far apart two tasks are: octaves of width and of image size; None for another family or kind of task."""
    if (family(one.network), one.teaching, one.device) != (family(other.network), other.teaching, other.device):
        return None
    depth = 0.0 if one.network.title == other.network.title else 0.5
    return depth + abs(math.log2(width(one.network) / width(other.network))) + abs(math.log2(one.px / other.px))


def family(network: Spec) -> str:
    return network.name.rstrip("0123456789") if isinstance(network, ModelSpec) else "layered"


def width(network: Spec) -> int:
    return network.width if isinstance(network, ModelSpec) else network.layers[0].channels


def images_of(run: Run) -> int:
    """Training images that the student sees; an epoch leaves out what does not fill a batch."""
    return _images(run.recipe.epochs, run.recipe.batch, run.data.train_images)


def _images(epochs: int, batch: int, train_images: int) -> int:
    batch = min(batch, train_images)
    return epochs * (train_images // batch) * batch


def work_of(run: Run) -> Iterator[tuple[Work, float]]:
    """The run's counted FLOPs, by stage: its student's training and its teacher's forward passes, to every budget."""
    images, px, begun = images_of(run), run.data.px, 0.0
    for stage in run.recipe.stages:
        share, begun = stage.until - begun, stage.until
        work = stage.objective.student_work * flops_per_image(run.student, px)[1]
        yield Work(run.student, px, False, run.device), images * share * work
        for name in stage.teachers:
            teacher = run.teachers[name].student
            work = stage.objective.teacher_work * flops_per_image(teacher, px)[0]
            yield Work(teacher, px, True, run.device), images * share * work


def make_of(run: Run) -> Make:
    stages = tuple(
        (
            stage.objective.kind,
            run.teachers[stage.teachers[0]].student if stage.teachers else None,
            stage.until,
            stage.temperature.kind if stage.temperature else None,
        )
        for stage in run.recipe.stages
    )
    return Make(run.student, run.data.px, run.device, stages)


# ---- rates from finished runs -------------------------------------------------------------------------------------


def _rates(seen: Iterable[Seen]) -> dict[Work, float]:
    """FLOP/s by task: first of students without a teacher; then of teachers, from the seconds that such a student
    leaves over; then of students whose teacher is known; of what is left, the run's as a whole."""
    plain = [one for one in seen if one.is_plain]
    taught = [one for one in plain if one.teaching is not None]
    rates = _ratio({}, ((one.task, one.student_flops, one.seconds) for one in plain if not one.teachers))

    def student(one: Seen) -> tuple[Work, float]:
        return one.task, one.student_flops

    def teacher(one: Seen) -> tuple[Work, float]:
        return one.teaching, one.teacher_flops

    def left_over(part: Callable[[Seen], tuple[Work, float]], beside: Callable[[Seen], tuple[Work, float]]) -> None:
        """Adds the rates of one part of the runs, from the seconds that the other, where its rate is known, leaves."""
        apart = [(part(one), beside(one), one.seconds) for one in taught if beside(one)[0] in rates]
        measured = ((task, flops, seconds - other / rates[of]) for (task, flops), (of, other), seconds in apart)
        least = ((task, NOISE * seconds) for (task, _), _, seconds in apart)
        rates.update(_ratio(rates, measured, least))

    left_over(teacher, beside=student)
    left_over(student, beside=teacher)
    whole = ((one.task, one.student_flops + one.teacher_flops, one.seconds) for one in plain)
    return rates | _ratio(rates, whole)


def _ratio(
    known: Mapping[Any, float],
    measured: Iterable[tuple[Any, float, float]],
    least: Iterable[tuple[Any, float]] = (),
) -> dict[Any, float]:
    """Sum over sum for each key that is not known; without those whose denominator is below the sum of its `least`."""
    above: dict[Any, float] = {}
    below: dict[Any, float] = {}
    floor: dict[Any, float] = {}
    for key, numerator, denominator in measured:
        above[key] = above.get(key, 0.0) + numerator
        below[key] = below.get(key, 0.0) + denominator
    for key, smallest in least:
        floor[key] = floor.get(key, 0.0) + smallest
    return {
        key: above[key] / below[key]
        for key in above
        if key not in known and below[key] > floor.get(key, 0.0) and above[key] > 0
    }


def seen_in(cache: Path) -> Iterator[Seen]:
    """Every finished run in a cache folder that can be read; checksums are not looked at."""
    for folder in (cache / "runs").glob("[0-9a-f]*"):
        one = seen_at(folder)
        if one is not None:
            yield one


def seen_at(folder: Path) -> Seen | None:
    """The finished run in a folder; None where there is none that can be read."""
    try:
        return _seen(
            json.loads((folder / "run.json").read_text(encoding="utf-8")),
            json.loads((folder / "metrics.json").read_text(encoding="utf-8")),
        )
    except NOT_A_RUN:
        return None


def _seen(described: Mapping[str, Any], metrics: Mapping[str, Any]) -> Seen:
    """A run from its `run.json` and `metrics.json`. Raises one of NOT_A_RUN where they are not a run's."""
    stages, data, recipe = described["recipe"]["stages"], described["data"], described["recipe"]
    teachers = {name: _spec(teacher["student"]) for name, teacher in described["teachers"].items()}
    device = str(described["device"])
    make = Make(
        _spec(described["student"]),
        int(data["px"]),
        device,
        tuple(
            (
                stage["objective"]["kind"],
                teachers[stage["teacher"]] if stage["teacher"] else None,
                float(stage["until"]),
                stage["temperature"]["kind"] if stage["temperature"] else None,
            )
            for stage in stages
        ),
    )
    seen = Seen(
        make,
        _images(int(recipe["epochs"]), int(recipe["batch"]), int(data["train_images"])),
        float(metrics["gpu_s" if device == "cuda" else "cpu_s"]),
        float(metrics["student_flops"]),
        float(metrics["teacher_flops"]),
        frozenset(
            teachers[stage["teacher"]]
            for stage, went in zip(stages, metrics["stages"], strict=True)
            if stage["teacher"] and went["steps"] > 0
        ),
    )
    if not (0 < seen.seconds < math.inf and 0 < seen.student_flops < math.inf and 0 <= seen.teacher_flops < math.inf):
        raise ValueError(f"{seen.seconds} s for {seen.student_flops} + {seen.teacher_flops} FLOPs")
    if seen.images < 1 or seen.make.px < 1 or device not in NOMINAL:
        raise ValueError(f"{seen.images} images of {seen.make.px} px on {device}")
    hash(make)  # a description may hold lists where words are meant
    return seen


def _spec(fields: Mapping[str, Any]) -> Spec:
    return (LayeredSpec if "layers" in fields else ModelSpec)(**fields)


# ---- the ledger of what is not a run ------------------------------------------------------------------------------

LEDGER = "pace.json"


# Two cores, preset quick, all runs there.
TYPICAL_DRAWING_S = {
    "00_start_here": 11, "01_derivation": 14, "02_temperature_curves": 8, "03_table1_teachers": 11,
    "04_table2_adaptive": 9, "05_table3_small_teacher": 15, "06_table4_methods": 21, "07_gradcam": 54,
    "08_playground": 8,
}  # fmt: skip
UNKNOWN_DRAWING_S = 10  # of a notebook that is not one of these


def expected_drawing(cache: Path, preset: str) -> Callable[[str], float]:
    """Seconds that a notebook, by its name, will take to draw: what it took last in this cache, or takes elsewhere."""
    seen = drawing_seconds(cache)
    return lambda notebook: seen.get((preset, notebook), TYPICAL_DRAWING_S.get(notebook, UNKNOWN_DRAWING_S))


def drawing_seconds(cache: Path) -> dict[tuple[str, str], float]:
    """Seconds that a notebook last took to draw, by (preset, notebook). A damaged ledger is as good as none."""
    try:
        noted = json.loads((cache / LEDGER).read_text(encoding="utf-8"))["drawing"]
        found = {
            (str(preset), str(notebook)): float(seconds)
            for preset, of_preset in noted.items()
            for notebook, seconds in of_preset.items()
        }
    except NOT_A_RUN:
        return {}
    return {key: seconds for key, seconds in found.items() if 0 <= seconds < math.inf}


def note_drawing(cache: Path, preset: str, notebook: str, seconds: float) -> None:
    """Writes down how long a notebook took to draw; its runs were trained before. KitError where the disk refuses."""
    with writing_to(cache):
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f"{LEDGER}.lock"):
            noted = drawing_seconds(cache) | {(preset, notebook): seconds}
            content: dict[str, dict[str, float]] = {}
            for (of_preset, name), took in sorted(noted.items()):
                content.setdefault(of_preset, {})[name] = round(took, 2)
            draft = cache / f"{LEDGER}.draft"
            write(draft, json.dumps({"drawing": content}, indent=1) + "\n")
            os.replace(draft, cache / LEDGER)


def seconds_reading(run: Run, read: Mapping[str, float], pace: Pace) -> float:
    """Expected seconds of a run that is spared, by teacher, a share of its forward passes, as it reads what they give."""
    images = images_of(run)
    spared = sum(share * images * teaching_share(run, name) * asking(run, name, pace) for name, share in read.items())
    in_parts = Pace(pace.rates).seconds(run)  # as if its make had never been seen: each part at its rate
    return pace.seconds(run) * (1 - spared / in_parts)


def asking(run: Run, name: str, pace: Pace) -> float:
    """Seconds in which a run's teacher gives an image's logits."""
    teacher, px = run.teachers[name].student, run.data.px
    return flops_per_image(teacher, px)[0] / pace.rate(Work(teacher, px, True, run.device))
