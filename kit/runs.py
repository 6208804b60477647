"""A run is a frozen description; its hash names its folder in a cache; asked twice, it is trained once.

    results = train_all([run, …])      # side by side, one thread each, teachers first
    results[run].metrics["test_top1"]

A run's folder holds `run.json` (the description), `steps.csv` and `epochs.csv` (the history), `metrics.json`,
`student.safetensors` and `checksums.json`. It is written beside its place and renamed into it: it is whole or absent.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import platformdirs
import torch
from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, model_validator
from safetensors.torch import load_file, save_file
from torch import nn
from tqdm.auto import tqdm

import kit.data
from kit.data.base import Dataset, held_out
from kit.errors import KitError
from kit.layered import LayeredSpec
from kit.models import ModelSpec, flops_per_image
from kit.recipe import Recipe
from kit.steering import Event
from kit.trainer import Diverged, Training

NUMERICS = 1  # raised whenever the same description would give another student: old cache entries are then not used
PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn")
FILES = ("run.json", "steps.csv", "epochs.csv", "metrics.json", "student.safetensors")


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
    seed: int = Field(default=0, ge=0)
    preset: str = "custom"
    device: str = "cpu"
    numerics: int = NUMERICS
    # what is steered on the way; a run without events is described, and so hashed, as if there were no such thing
    events: tuple[Event, ...] = Field(default=(), exclude_if=lambda events: not events)

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
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

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
        return f"{self.student.title}{' ← ' + taught if taught else ''} on {self.data.role}, seed {self.seed}{steered}"

    @property
    def cost(self) -> float:
        """Expected FLOPs, with every teacher in use all the time: for scheduling and progress, not for tables."""
        images = self.recipe.epochs * self.data.train_images
        teacher = max((flops_per_image(t.student, self.data.px)[0] for t in self.teachers.values()), default=0)
        return images * (flops_per_image(self.student, self.data.px)[1] + teacher)


def replayed(run: Run, events: Iterable[Event]) -> Run:
    """The run with these changes made on the way. Raises ValidationError where they do not fit into it."""
    return Run(**{name: getattr(run, name) for name in Run.model_fields} | {"events": tuple(events)})


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

    @cached_property
    def steps(self) -> pd.DataFrame:
        return pd.read_csv(self.folder / "steps.csv")

    @cached_property
    def epochs(self) -> pd.DataFrame:
        return pd.read_csv(self.folder / "epochs.csv")

    def student(self) -> nn.Module:
        """The trained network, in evaluation mode."""
        network = self.run.student.build(seed=0)
        network.load_state_dict(load_file(self.folder / "student.safetensors"))
        return network.eval()


@dataclass(frozen=True)
class Failure:
    """A run that did not finish, and why, in one line. Tables show it as such."""

    run: Run
    reason: str


# ---- the cache ----------------------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """`KIT_CACHE`, or the user's cache folder."""
    return Path(os.environ.get("KIT_CACHE") or platformdirs.user_cache_dir("small-teacher-kit"))


def folder_of(run_hash: str) -> Path:
    return cache_folder() / "runs" / run_hash


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def complaint(folder: Path) -> str | None:
    """What is wrong with a run's folder, in a few words; None when it is whole and unaltered."""
    try:
        checksums = json.loads((folder / "checksums.json").read_text())
    except (OSError, ValueError):
        return "checksums.json is missing or unreadable"
    if not isinstance(checksums, dict) or set(checksums) != set(FILES):
        return "checksums.json does not list the run's files"
    for name in FILES:
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if sha256(path) != checksums[name]:
            return f"{name} does not match its checksum"
    return None


def find(run: Run) -> Result | None:
    """The run's result if it has been trained. Raises KitError when its folder is cut short or altered."""
    folder = folder_of(run.hash)
    if not folder.exists():
        return None
    why = complaint(folder)
    if why is not None:
        raise KitError(
            f"run {run.hash} in {folder.parent}: {why}; only whole, unaltered runs are used "
            f"('python -m kit cache prune --damaged' removes such runs)"
        )
    return Result(run, folder, json.loads((folder / "metrics.json").read_text()))


@dataclass(frozen=True)
class Entry:
    """A run's folder in the cache, as found: its title, and what is wrong with it if anything is."""

    hash: str
    folder: Path
    title: str
    complaint: str | None


def cached() -> list[Entry]:
    """Every run in the cache, newest first."""
    folders = (path for path in (cache_folder() / "runs").glob("*") if path.is_dir() and not path.name.startswith("."))
    return [_entry(folder) for folder in sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True)]


def _entry(folder: Path) -> Entry:
    why = complaint(folder)
    title = "" if why else json.loads((folder / "run.json").read_text())["title"]
    return Entry(folder.name, folder, title, why)


def store(run: Run, training: Training) -> None:
    """Writes a finished training into the cache, all or nothing."""
    place = folder_of(run.hash)
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{run.hash}-", dir=place.parent))
    try:
        description = run.model_dump(mode="json") | {
            "title": run.title,
            "versions": {name: version(name) for name in PACKAGES},
        }
        write(draft / "run.json", json.dumps(description, indent=1))
        write(draft / "steps.csv", pd.DataFrame(training.steps()).to_csv(index=False, lineterminator="\n"))
        write(
            draft / "epochs.csv",
            pd.DataFrame(priced(run, epoch) for epoch in training.epochs).to_csv(index=False, lineterminator="\n"),
        )
        write(draft / "metrics.json", json.dumps(priced(run, training.metrics()), indent=1))
        weights = {name: tensor.contiguous() for name, tensor in training.student.state_dict().items()}
        save_file(weights, draft / "student.safetensors")
        write(draft / "checksums.json", json.dumps({name: sha256(draft / name) for name in FILES}, indent=1))
        draft.chmod(0o755)
        draft.rename(place)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def write(path: Path, text: str) -> None:
    """Writes a file through to the disk."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


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


# ---- training one, and many ---------------------------------------------------------------------------------------

Tick = Callable[[float], None]


def start(run: Run) -> Training:
    """A run's training, not yet begun. Its teachers must be in the cache."""
    teachers = {}
    for name in run.teachers:
        result = find(run.teachers[name])
        if result is None:
            raise KitError(f"teacher {name!r} ({run.teachers[name].title}) has not been trained yet")
        teachers[name] = result.student()
    student = run.student.build(run.seed)
    return Training(run.recipe, run.data.load(), student, teachers, run.seed, run.device, run.events)


def train(run: Run, tick: Tick = lambda share: None) -> Result:
    """Trains one run on one thread, or finds it. Its teachers must be in the cache. `tick` hears each epoch's share.

    Raises Diverged when the loss stops being a number.
    """
    place = folder_of(run.hash)
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(place.with_suffix(".lock")):
        result = find(run)
        if result is not None:
            tick(1.0)
            return result
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            training = start(run)
            for step in training:
                if step % training.steps_per_epoch == 0:
                    tick(1 / run.recipe.epochs)
        finally:
            torch.set_num_threads(threads)
        store(run, training)
    return find(run)


def with_teachers(runs: Iterable[Run]) -> list[Run]:
    """The runs and all they learn from, each once, teachers before students."""
    ordered: dict[Run, None] = {}
    for run in runs:
        for teacher in with_teachers(run.teachers.values()):
            ordered.setdefault(teacher)
        ordered.setdefault(run)
    return list(ordered)


def default_jobs() -> int:
    """As many runs side by side as the process may use cores."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def train_all(
    runs: Iterable[Run], jobs: int | None = None, show_progress: bool = True
) -> Mapping[Run, Result | Failure]:
    """Trains what is missing, side by side in `jobs` processes of one thread each, and gives every run's result.

    Teachers shared by several runs are trained once. A run that diverges becomes a Failure; the others go on. A
    damaged folder in the cache raises KitError before anything is trained.
    """
    runs = list(runs)
    everything = with_teachers(runs)
    done: dict[Run, Result | Failure] = {run: found for run in everything if (found := find(run)) is not None}
    waiting = sorted((run for run in everything if run not in done), key=lambda run: -urgency(run, everything))
    if waiting:
        _train_waiting(waiting, done, min(jobs or default_jobs(), len(waiting)), show_progress)
    return {run: done[run] for run in runs}


def urgency(run: Run, everything: list[Run]) -> float:
    """The cost of the longest chain of runs that starts with this one: what to begin first."""
    heirs = (other for other in everything if run in other.teachers.values())
    return run.cost + max((urgency(heir, everything) for heir in heirs), default=0.0)


def _train_waiting(waiting: list[Run], done: dict[Run, Result | Failure], jobs: int, show_progress: bool) -> None:
    context = multiprocessing.get_context("spawn")
    ticks = context.SimpleQueue()
    total = sum(run.cost for run in waiting)
    bar = tqdm(total=100, desc=f"training {len(waiting)} runs", unit="%", disable=not show_progress, bar_format=BAR)
    with ProcessPoolExecutor(jobs, context, initializer=_begin_worker, initargs=(ticks,)) as pool:
        pending = {}
        try:
            while waiting or pending:
                for run in [run for run in waiting if _ready(run, done)][: jobs - len(pending)]:
                    waiting.remove(run)
                    failed = _failed_teacher(run, done)
                    if failed:
                        done[run] = Failure(run, f"its teacher ({failed.run.title}) did not finish: {failed.reason}")
                    else:
                        pending[pool.submit(_train_in_worker, run)] = run
                finished, _ = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
                for future in finished:
                    run = pending.pop(future)
                    reason = future.result()
                    done[run] = find(run) if reason is None else Failure(run, reason)
                    if reason is not None:
                        print(f"run {run.hash} ({run.title}) did not finish: {reason}", file=sys.stderr)
                while not ticks.empty():
                    bar.update(100 * ticks.get() / total)
        except BaseException:
            for process in list(
                pool._processes.values()
            ):  # finished runs are in the cache; the rest is not worth waiting for
                process.terminate()
            raise
        finally:
            bar.close()


BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"


def _ready(run: Run, done: Mapping[Run, Result | Failure]) -> bool:
    return all(teacher in done for teacher in run.teachers.values())


def _failed_teacher(run: Run, done: Mapping[Run, Result | Failure]) -> Failure | None:
    teachers = (done[teacher] for teacher in run.teachers.values())
    return next((teacher for teacher in teachers if isinstance(teacher, Failure)), None)


_ticks: Any = None  # in a worker process: the queue to the progress bar


def _begin_worker(ticks: Any) -> None:
    global _ticks
    _ticks = ticks
    torch.set_num_threads(1)


def _train_in_worker(run: Run) -> str | None:
    """Trains a run in a worker; None when it is in the cache, else why not."""
    try:
        train(run, lambda share: _ticks.put(share * run.cost))
    except (Diverged, KitError) as error:
        return str(error)
    return None
