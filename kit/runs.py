"""A run is a frozen description; its hash names its folder in a cache; asked twice, it is trained once.

    result = train(run)                # its teachers first; `kit.grid.train_all` trains many, side by side
    result.metrics["test_top1"]

A run's folder holds `run.json` (the description), `steps.csv` and `epochs.csv` (the history), `metrics.json`,
`student.safetensors` and `checksums.json`; of a run that diverged, `run.json`, `steps.csv`, `diverged.json` and
`checksums.json`. It is written beside its place and renamed into it: it is whole or absent.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import platformdirs
import torch
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

import kit.data
from kit.checkpoint import Checkpoints
from kit.data.augment import mixed
from kit.data.base import Dataset, held_out
from kit.engines import Progress
from kit.errors import KitError
from kit.layered import LayeredSpec
from kit.models import ModelSpec, flops_per_image
from kit.parallel import ALONE, Ranks
from kit.recipe import Recipe
from kit.sealed import CHECKSUMS, complaint, sealed, sha256, sweep, write, writing_to
from kit.steering import Event
from kit.teacher_logits import DTYPES, Drawn, TeacherLogits
from kit.threads import one_thread
from kit.trainer import Diverged, Precision, Training

NUMERICS = 2  # raised whenever the same description would give another student: old cache entries are then not used
FORMAT = 1  # of the cache's folders; those that say nothing are of format 1
PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn")
FILES = ("run.json", "steps.csv", "epochs.csv", "metrics.json", "student.safetensors")
ABOUT = ("title", "versions", "format", "notes")  # in `run.json` beside the description
DIVERGED_FILES = ("run.json", "steps.csv", "diverged.json")


class DataSpec(BaseModel):
    """Which images: enough to load them again, and the fingerprint that they must then have."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: str
    name: str
    source: str
    fingerprint: str
    px: int
    classes: int
    train_images: int
    train_per_class: int | None
    test_per_class: int | None
    folder: str | None = Field(default=None, exclude=True)  # where they lie on this machine: not part of the identity

    @classmethod
    def of(
        cls,
        role: str,
        px: int,
        train_per_class: int | None = None,
        test_per_class: int | None = None,
        source: str = "auto",
        folder: Path | None = None,
        **options: str,
    ) -> DataSpec:
        """What fills the role now; arguments as for `kit.data.load`, `options` those of a subclass."""
        sizes = {"px": px, "train_per_class": train_per_class, "test_per_class": test_per_class}
        data = kit.data.load(role, **sizes, source=source, folder=folder, **options)
        return cls(
            role=role,
            name=data.name,
            source=data.source,
            fingerprint=data.fingerprint,
            classes=len(data.classes),
            train_images=len(data.train),
            folder=str(folder) if folder else None,
            **sizes,
            **options,
        )

    @property
    def options(self) -> dict[str, str]:
        """What else `kit.data.load` must be told."""
        return {}

    def load(self) -> Dataset:
        """The dataset. Raises KitError where the images on disk are no longer the ones described."""
        sizes = {"px": self.px, "train_per_class": self.train_per_class, "test_per_class": self.test_per_class}
        folder = Path(self.folder) if self.folder else None
        data = kit.data.load(self.role, **sizes, source=self.source, folder=folder, **self.options)
        if data.fingerprint != self.fingerprint:
            raise KitError(
                f"data for role {self.role!r} has fingerprint {data.fingerprint[:12]}, "
                f"but the run was described with {self.fingerprint[:12]}: the images have changed"
            )
        return data


class LevelSpec(DataSpec):
    """hrsc2016 labelled at a level that was asked for: ship, category or type."""

    level: str

    @property
    def options(self) -> dict[str, str]:
        return {"level": self.level}


class HeldOutSpec(DataSpec):
    """The training images alone, a share of them held out as test split: what a search judges its candidates by."""

    held_out: float = Field(gt=0, lt=1)

    @classmethod
    def split(cls, whole: DataSpec, share: float) -> HeldOutSpec:
        kept = len(held_out(whole.load(), share).train)
        fields = {name: getattr(whole, name) for name in DataSpec.model_fields}
        return cls(**fields | {"train_images": kept, "held_out": share})

    def load(self) -> Dataset:
        return held_out(super().load(), self.held_out)


class Run(BaseModel):
    """One training, described. Teachers are runs themselves, so a run names its whole ancestry.

    `teachers` are those its recipe learns from; one called "big" may be there only to measure agreement with it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: SerializeAsAny[DataSpec]
    student: ModelSpec | LayeredSpec
    recipe: Recipe
    teachers: dict[str, Run] = {}
    seed: int = Field(default=0, ge=0, lt=2**63)
    preset: str = "custom"
    device: str = "cpu"
    numerics: int = NUMERICS
    # what teachers' logits are rounded to, cached or not; described, and so hashed, only where it is not the default
    logits: Literal["float32", "float16"] = Field(default="float32", exclude_if=lambda name: name == "float32")
    # what is steered on the way; a run without events is described, and so hashed, as if there were no such thing
    events: tuple[Event, ...] = Field(default=(), exclude_if=lambda events: not events)
    # of student's and teachers' answers in training; float32, as all runs once were, is not part of the description
    precision: Precision = Field(default="float32", exclude_if=lambda precision: precision == "float32")

    @model_validator(mode="after")
    def _has_its_teachers(self) -> Run:
        missing = set(self.recipe.teachers) - set(self.teachers)
        if missing:
            raise ValueError(f"the recipe needs teachers {sorted(missing)}, which the run does not have")
        if self.student.classes != self.data.classes:
            raise ValueError(f"the student has {self.student.classes} classes, the data {self.data.classes}")
        return self

    @model_validator(mode="after")
    def _is_steered_while_it_runs(self) -> Run:
        batches = self.recipe.epochs * (self.data.train_images // min(self.recipe.batch, self.data.train_images))
        at = [event.step for event in self.events]
        if at != sorted(at) or (at and at[-1] >= batches):
            raise ValueError(f"events must be in order and before the last of {batches} batches: got steps {at}")
        return self

    @cached_property
    def hash(self) -> str:
        """16 hex digits over everything that can change the result."""
        return hash_of(self.model_dump(mode="json"))

    def model_copy(self, **changes: Any) -> Run:
        """A copy, changed by `update={…}`: another run with a hash of its own."""
        copied = super().model_copy(**changes)
        copied.__dict__.pop("hash", None)  # pydantic copies what is cached too
        return copied

    def __hash__(self) -> int:
        return hash(self.hash)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and self.hash == other.hash

    @property
    def title(self) -> str:
        taught = " ← ".join(teacher.student.title for teacher in self.teachers.values())
        steered = f", steered {len(self.events)}×" if self.events else ""
        how = steered if self.precision == "float32" else f"{steered}, {self.precision}"
        return f"{self.student.title}{' ← ' + taught if taught else ''} on {self.data.role}, seed {self.seed}{how}"

    @property
    def cost(self) -> float:
        """Expected FLOPs, with every teacher in use all the time: for scheduling and progress, not for tables."""
        images = self.recipe.epochs * self.data.train_images
        teacher = max((flops_per_image(t.student, self.data.px)[0] for t in self.teachers.values()), default=0)
        return images * (flops_per_image(self.student, self.data.px)[1] + teacher)


def hash_of(description: Mapping[str, Any]) -> str:
    """The hash of the run that a description, a run's JSON or a `run.json`, is of."""
    fields = {name: value for name, value in description.items() if name not in ABOUT}
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def replayed(run: Run, events: Iterable[Event]) -> Run:
    """The run with these changes made on the way. Raises ValidationError where they do not fit into it."""
    return changed(run, events=tuple(events))


def changed(run: Run, **fields: Any) -> Run:
    """The run with other values in these fields, checked as a new one's are. Raises ValidationError."""
    return Run(**{name: getattr(run, name) for name in Run.model_fields} | fields)


@dataclass(frozen=True)
class Result:
    """A finished run, read from its folder."""

    run: Run
    folder: Path
    metrics: dict[str, Any]

    @property
    def seed(self) -> int:
        return self.run.seed

    @property
    def seconds(self) -> float:
        """What the student's procedure took: process CPU seconds on one thread, or a GPU's own clock."""
        return self.metrics["gpu_s"] if self.run.device == "cuda" else self.metrics["cpu_s"]

    @property
    def seal(self) -> str:
        """The sha256 of its files' checksums: of everything that came out of it."""
        return sha256(self.folder / CHECKSUMS)

    @cached_property
    def steps(self) -> pd.DataFrame:
        return pd.read_csv(self.folder / "steps.csv")

    @cached_property
    def epochs(self) -> pd.DataFrame:
        return pd.read_csv(self.folder / "epochs.csv")

    def student(self) -> nn.Module:
        """The trained network, in evaluation mode."""
        network = self.run.student.build(seed=0)
        try:
            network.load_state_dict(load_file(self.folder / "student.safetensors"))
        except (SafetensorError, RuntimeError) as error:
            first = str(error).splitlines()[0]
            raise KitError(
                f"run {self.run.hash}: student.safetensors does not fit {self.run.student.title}: {first}"
            ) from None
        return network.eval()


@dataclass(frozen=True)
class Failure:
    """A run that did not finish, and why, in one line; `step` is where it diverged. Tables show it as such."""

    run: Run
    reason: str
    step: int | None = None


class Damaged(KitError):
    """A folder in the cache that is cut short, altered or another run's; `why` in a few words."""

    def __init__(self, run: Run, why: str) -> None:
        super().__init__(
            f"run {run.hash} in {folder_of(run.hash).parent}: {why}; only whole, unaltered runs are used "
            f"('python -m kit cache prune --damaged' removes such runs)"
        )
        self.why = why


# ---- the cache ----------------------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """`KIT_CACHE`, or the user's cache folder."""
    return Path(os.environ.get("KIT_CACHE") or platformdirs.user_cache_dir("small-teacher-kit"))


def folder_of(run_hash: str) -> Path:
    return cache_folder() / "runs" / run_hash


def fault(folder: Path) -> str | None:
    """What is wrong with a run's folder, in a few words; None when it is whole, unaltered and the run's own."""
    why = complaint(folder, DIVERGED_FILES if (folder / "diverged.json").exists() else FILES)
    if why is not None:
        return why
    try:
        description = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        described, _ = hash_of(description), list(_ancestors(description))
        _outcome_in(folder)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return "its files are not those of a run"
    return None if described == folder.name else f"run.json describes run {described}"


def foreign_format(folder: Path) -> str | None:
    """`cache format 2; this kit reads 1`, where another kit wrote the folder and its `run.json` is unaltered."""
    try:
        unaltered = json.loads((folder / CHECKSUMS).read_text())["run.json"] == sha256(folder / "run.json")
        written = json.loads((folder / "run.json").read_text(encoding="utf-8")).get("format", 1)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return f"cache format {written!r}; this kit reads {FORMAT}" if unaltered and written != FORMAT else None


def _outcome_in(folder: Path) -> dict[str, Any]:
    """A whole folder's metrics, or where it diverged. Raises ValueError or KeyError where they are neither."""
    diverged = folder / "diverged.json"
    if diverged.exists():
        return {"diverged": int(json.loads(diverged.read_text())["step"])}
    metrics = json.loads((folder / "metrics.json").read_text())
    for name in ("train_top1", "train_top5", "test_top1", "test_top5", "wall_s", "cpu_s", "gpu_s"):
        float(metrics[name])
    return metrics


def outcome(run: Run) -> Result | Failure | None:
    """How the run ended, if it has been trained. Raises Damaged when its folder is cut short, altered or another's,
    and KitError when it is of another format."""
    folder = folder_of(run.hash)
    if not folder.exists():
        return None
    foreign = foreign_format(folder)
    if foreign is not None:
        raise KitError(f"run {run.hash} in {folder.parent} is of {foreign}")
    why = fault(folder)
    if why is not None:
        raise Damaged(run, why)
    found = _outcome_in(folder)
    if "diverged" in found:
        return Failure(run, str(Diverged(found["diverged"])), found["diverged"])
    return Result(run, folder, found)


def find(run: Run) -> Result | None:
    """The run's result if it has been trained to its end. Raises as `outcome` does."""
    found = outcome(run)
    return found if isinstance(found, Result) else None


def usable(run: Run) -> Result | Failure | None:
    """As `outcome`, but a damaged folder is set aside, whole, and said to be. For holders of the run's lock."""
    try:
        return outcome(run)
    except Damaged as error:
        aside = set_aside(folder_of(run.hash))
        print(f"warning: run {run.hash} ({run.title}): {error.why}; moved to {aside}, trained anew", file=sys.stderr)
        return None


def set_aside(folder: Path) -> Path:
    """Moves a folder out of the cache's way, into `damaged/<hash>-<n>`; nothing is removed."""
    aside = cache_folder() / "damaged"
    with writing_to(aside):
        aside.mkdir(parents=True, exist_ok=True)
        place = next(place for n in count(1) if not (place := aside / f"{folder.name}-{n}").exists())
        folder.rename(place)
    return place


@dataclass(frozen=True)
class Entry:
    """A run's folder in the cache, as found: its title, and what is wrong with it if anything is.

    `diverged` is the step at which the run did; `needs` are the hashes of the runs it learnt from, and theirs.
    """

    hash: str
    folder: Path
    title: str
    complaint: str | None
    diverged: int | None = None
    needs: frozenset[str] = frozenset()

    @property
    def status(self) -> str:
        return self.complaint or ("whole" if self.diverged is None else f"diverged at step {self.diverged}")


def cached() -> list[Entry]:
    """Every run in the cache, newest first."""
    folders = (path for path in (cache_folder() / "runs").glob("*") if path.is_dir() and not path.name.startswith("."))
    return [entry_of(folder) for folder in sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True)]


def entry_of(folder: Path) -> Entry:
    why = foreign_format(folder) or fault(folder)
    if why:
        return Entry(folder.name, folder, "", why)
    description = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    diverged = _outcome_in(folder).get("diverged")
    return Entry(folder.name, folder, str(description.get("title")), None, diverged, frozenset(_ancestors(description)))


def _ancestors(description: Mapping[str, Any]) -> Iterator[str]:
    for teacher in description["teachers"].values():
        yield hash_of(teacher)
        yield from _ancestors(teacher)


def store(run: Run, training: Training) -> None:
    """Writes a finished training into the cache, all or nothing; of several ranks, which all call it, the first does.
    Raises KitError where the disk cannot take it."""
    metrics = priced(run, training.metrics())
    if not training.ranks.is_first:
        return
    weights = {name: tensor.contiguous() for name, tensor in training.student.state_dict().items()}
    with sealed(folder_of(run.hash)) as draft:
        _describe(run, training, draft)
        write(
            draft / "epochs.csv",
            pd.DataFrame(priced(run, epoch) for epoch in training.epochs).to_csv(index=False, lineterminator="\n"),
        )
        write(draft / "metrics.json", json.dumps(metrics, indent=1))
        save_file(weights, draft / "student.safetensors")


def store_diverged(run: Run, training: Training, error: Diverged) -> None:
    """Writes down that the run diverges, so that it is not tried again, with its history up to there."""
    if not training.ranks.is_first:
        return
    with sealed(folder_of(run.hash)) as draft:
        _describe(run, training, draft)
        write(draft / "diverged.json", json.dumps({"step": error.step}))


def _describe(run: Run, training: Training, draft: Path) -> None:
    about = {"title": run.title, "versions": versions(), "format": FORMAT, "notes": training.notes}
    write(draft / "run.json", json.dumps(run.model_dump(mode="json") | about, indent=1))
    write(draft / "steps.csv", pd.DataFrame(training.steps()).to_csv(index=False, lineterminator="\n"))


@cache
def versions() -> dict[str, str]:
    return {name: version(name) for name in PACKAGES}


def procedure_flops(run: Run, student_images: int, teacher_images: Mapping[str, int]) -> dict[str, int]:
    """Counted FLOPs of the student's procedure: its own training, and its teachers' forward passes apart."""
    px = run.data.px
    of_teachers = [n * flops_per_image(run.teachers[name].student, px)[0] for name, n in teacher_images.items()]
    return {
        "student_flops": round(student_images * flops_per_image(run.student, px)[1]),
        "teacher_flops": round(sum(of_teachers)),
    }


def priced(run: Run, record: dict[str, Any]) -> dict[str, Any]:
    """A record of the trainer's with FLOPs in place of its image counts."""
    rest = {name: value for name, value in record.items() if name not in ("student_images", "teacher_images")}
    return rest | procedure_flops(run, record["student_images"], record["teacher_images"])


@dataclass(frozen=True)
class Stored:
    """A finished run known by its hash alone: enough to use its student, not to train it again."""

    folder: Path
    description: dict[str, Any]

    @property
    def title(self) -> str:
        return self.description["title"]

    def data(self, folder: Path | None = None) -> DataSpec:
        """The data that it was trained on; `folder` is where real images lie on this machine."""
        fields = self.description["data"]
        kind = LevelSpec if "level" in fields else HeldOutSpec if "held_out" in fields else DataSpec
        return kind(**fields, folder=str(folder) if folder else None)

    def student(self) -> nn.Module:
        """The trained network, in evaluation mode."""
        fields = self.description["student"]
        network = (LayeredSpec if "layers" in fields else ModelSpec)(**fields).build(seed=0)
        network.load_state_dict(load_file(self.folder / "student.safetensors"))
        return network.eval()


def stored(run_hash: str) -> Stored:
    """The run in the cache with this hash. Raises KitError where there is none, or its folder is damaged."""
    folder = folder_of(run_hash)
    if not re.fullmatch("[0-9a-f]{16}", run_hash) or not folder.is_dir():
        raise KitError(
            f"run {run_hash!r} is not in the cache, {cache_folder()}; allowed: what 'python -m kit cache list' lists"
        )
    why = foreign_format(folder) or fault(folder)
    if why is not None:
        raise KitError(f"run {run_hash}: {why}; only whole, unaltered runs are used")
    if (folder / "diverged.json").exists():
        raise KitError(f"run {run_hash} diverged, so it has no student; allowed: runs that finished")
    return Stored(folder, json.loads((folder / "run.json").read_text(encoding="utf-8")))


# ---- training one, and many ---------------------------------------------------------------------------------------

WAITING_S = 0.5  # between two looks at a lock that somebody else holds


def start(run: Run, ranks: Ranks = ALONE) -> Training:
    """A run's training, not yet begun. Its teachers must be in the cache; their logits are used where they are, too."""
    teachers = {name: _trained(run, name).student() for name in run.teachers}
    recall = {name: teacher_logits(run, name) for name in run.recipe.teachers}
    student, data = run.student.build(run.seed), run.data.load()
    how = (run.seed, run.device, run.events, run.precision, ranks, recall, DTYPES[run.logits])
    return Training(run.recipe, data, student, teachers, *how)


def _trained(run: Run, name: str) -> Result:
    result = find(run.teachers[name])
    if result is None:
        raise KitError(f"teacher {name!r} ({run.teachers[name].title}) has not been trained yet")
    return result


def teacher_logits(run: Run, name: str) -> TeacherLogits:
    """Where the logits are kept that this teacher gives in this run, and in every other in which they are the same."""
    drawn = _drawn(run)
    decided_by = asdict(drawn) | {
        "teacher": run.teachers[name].hash,
        "data": run.data.model_dump(mode="json"),
        "logits": run.logits,
        "device": run.device,
        "precision": run.precision,
        "numerics": run.numerics,
        "packages": versions(),
    }
    rows = run.data.train_images // drawn.batch * drawn.batch
    folder = cache_folder() / "teacher-logits" / hash_of(decided_by)
    return TeacherLogits(folder, rows, run.data.classes, run.logits)


def compute_logits(run: Run, name: str, epochs: Iterable[int]) -> Iterator[int]:
    """Computes what is missing of the teacher's logits, on one thread, as the run would; gives each epoch. KitError."""
    kept = teacher_logits(run, name)
    with locked(kept.folder), one_thread():
        teacher, device = _trained(run, name).student(), torch.device(run.device)
        yield from kept.compute(epochs, teacher, run.data.load(), _drawn(run), device, run.precision)


def _drawn(run: Run) -> Drawn:
    return Drawn(run.seed, min(run.recipe.batch, run.data.train_images), run.recipe.pad)


def train(run: Run, tick: Progress = lambda share: None) -> Result:
    """Trains one run on one thread, or finds it. Its teachers must be in the cache.

    `tick` hears each epoch's share, and 0 after every other batch and while another process has the run: what it raises
    stops the training there, its checkpoint left in place. A run that was killed goes on from its newest checkpoint,
    and ends as it would have ended; a damaged result is set aside. Raises Diverged when the loss stops being a number,
    now or when the run was first tried, and KitError where the cache cannot be written.
    """
    known = found(run)  # without the lock: a cache that cannot be written can be read
    if known is None:
        with locked(folder_of(run.hash), tick):
            known = usable(run)  # another process may have trained it meanwhile
            if known is None:
                train_missing(run, tick)
                return find(run)
    tick(1.0)
    if isinstance(known, Failure):
        raise Diverged(known.step)
    return known


def train_missing(run: Run, tick: Progress, ranks: Ranks = ALONE) -> None:
    """Trains and stores; the caller, or the first of its ranks, holds the run's lock."""
    if ranks.is_first:
        sweep(folder_of(run.hash))
    checkpoints = Checkpoints(cache_folder() / "checkpoints" / run.hash, {"run": run.hash} | versions())
    with one_thread(), own_stream(run):
        training = start(run, ranks)
        checkpoints.resume(training)
        tick(training.step // training.steps_per_epoch / run.recipe.epochs)
        try:
            for step in training:
                checkpoints.offer(training)
                tick(0.0 if step % training.steps_per_epoch else 1 / run.recipe.epochs)
        except Diverged as error:
            store_diverged(run, training, error)
            if ranks.is_first:
                checkpoints.discard()
            raise
        for note in training.notes:
            if note not in checkpoints.notes:  # those have been said
                print(f"warning: run {run.hash} ({run.title}): {note}", file=sys.stderr)
        if ranks.count > 1:
            training.notes.append(f"trained by {ranks.count} processes; seconds are the sum over them")
        store(run, training)
    if ranks.is_first:
        checkpoints.discard()


@contextmanager
def locked(place: Path, tick: Progress = lambda share: None) -> Iterator[None]:
    """Holds the place's lock, which the system frees when its holder is killed. Raises KitError where it cannot be.

    `tick` hears 0 now and then while it waits for the lock.
    """
    lock = FileLock(place.with_suffix(".lock"))
    with writing_to(place.parent):
        place.parent.mkdir(parents=True, exist_ok=True)
        while not lock.is_locked:
            try:
                lock.acquire(timeout=WAITING_S)
            except Timeout:
                tick(0.0)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def own_stream(run: Run) -> Iterator[None]:
    """Torch's own random stream, which dropout draws from, seeded for this run and put back afterwards."""
    with torch.random.fork_rng(devices=[run.device] if run.device == "cuda" else []):
        torch.manual_seed(mixed(run.seed, -1))  # epochs are counted from 0
        yield


def with_teachers(runs: Iterable[Run]) -> list[Run]:
    """The runs and all they learn from, each once, teachers before students."""
    ordered: dict[Run, None] = {}
    for run in runs:
        for teacher in with_teachers(run.teachers.values()):
            ordered.setdefault(teacher)
        ordered.setdefault(run)
    return list(ordered)


def found(run: Run) -> Result | Failure | None:
    """As `usable`, taking the lock only where something is to be set aside."""
    try:
        return outcome(run)
    except Damaged:
        with locked(folder_of(run.hash)):
            return usable(run)
