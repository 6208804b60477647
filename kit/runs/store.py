"""The cache's folder of a run: how it is written, verified, looked up and set aside."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from kit.errors import KitError, few
from kit.files import CHECKSUMS, cache_folder, changed_at, complaint, locked, sealed, sha256, write, writing_to
from kit.networks.flops import flops_per_image
from kit.networks.named import Network, described
from kit.runs.spec import DataSpec, HeldOutSpec, Run, hash_of, versions
from kit.trainer import Training
from kit.training.history import Diverged

FORMAT = 1  # of the cache's folders; those that say nothing are of format 1
FILES = ("run.json", "steps.csv", "epochs.csv", "metrics.json", "student.safetensors")
DIVERGED_FILES = ("run.json", "steps.csv", "diverged.json")
NOT_A_RUN = (ValueError, TypeError, KeyError, AttributeError, RecursionError)  # raised by foreign files


@dataclass(frozen=True)
class Result:
    """A finished run's result, read from its folder."""

    run: Run
    folder: Path
    metrics: dict[str, Any]
    versions: dict[str, str]  # by which it was trained, as `kit.runs.spec.versions` lists them; of an older kit, fewer

    @property
    def seed(self) -> int:
        return self.run.seed

    @property
    def seconds(self) -> float:
        """Seconds that the student's procedure took: process CPU seconds on one thread, or a GPU's own clock."""
        return self.metrics["gpu_s"] if self.run.device == "cuda" else self.metrics["cpu_s"]

    @property
    def seal(self) -> str:
        """The sha256 of its files' checksums: of everything that came out of it."""
        return sha256(self.folder / CHECKSUMS)

    @property
    def student_sha256(self) -> str:
        """The sha256 of its student's weights, which are the same however long they took."""
        return json.loads((self.folder / CHECKSUMS).read_text())["student.safetensors"]

    @cached_property
    def steps(self) -> pd.DataFrame:
        return pd.read_csv(self.folder / "steps.csv")

    @cached_property
    def epochs(self) -> pd.DataFrame:
        return pd.read_csv(self.folder / "epochs.csv")

    def student(self) -> nn.Module:
        """The trained network, in evaluation mode."""
        return with_weights(self.run.student, self.folder)


def with_weights(spec: Network, folder: Path) -> nn.Module:
    """Builds a run's student with the weights in its folder, in evaluation mode. KitError for weights that are none, or
    another network's."""
    network = spec.build(seed=0)
    try:
        weights = load_file(folder / "student.safetensors")
        network.load_state_dict(weights)
    except (SafetensorError, RuntimeError) as error:
        first = str(error).splitlines()[0]
        raise KitError(f"run {folder.name}: student.safetensors does not fit {spec.title}: {first}") from None
    if not all(tensor.isfinite().all() for tensor in weights.values()):
        raise KitError(
            f"run {folder.name}: its student's weights are not finite numbers, so it neither answers nor teaches; "
            f"allowed: the run trained anew, once {folder} is removed"
        )
    return network.eval()


@dataclass(frozen=True)
class Failure:
    """A run that did not finish, and why, in one line; `step` is where it diverged. Tables show it as such."""

    run: Run
    reason: str
    step: int | None = None

    @property
    def status(self) -> str:
        """How it ended, as a table's line has it: `diverged: …`."""
        return f"{'did not finish' if self.step is None else 'diverged'}: {self.reason}"

    @property
    def metrics(self) -> NoReturn:
        """Raises KitError: whoever asks has a Result in mind."""
        raise KitError(f"run {self.run.hash} ({self.run.title}) has no metrics, it {self.status}")


class Damaged(KitError):
    """A folder in the cache that is cut short, altered or another run's."""


def folder_of(run_hash: str) -> Path:
    return cache_folder() / "runs" / run_hash


def files_of(folder: Path) -> tuple[str, ...]:
    """Lists the names of a run's own files: of one that diverged, or else of one that finished."""
    diverged = os.path.exists(folder / "diverged.json")  # not so either in a folder that may not be read
    return DIVERGED_FILES if diverged else FILES


@dataclass(frozen=True)
class Stored:
    """A run's folder as found: what is wrong with it if anything is, else the run's description as JSON. That is enough
    to use a student that has finished, not to train it again."""

    folder: Path
    description: dict[str, Any]  # empty where something is wrong
    complaint: str | None = None
    is_damaged: bool = False  # and of no use to anybody: not one that another kit, or another user, reads

    @property
    def hash(self) -> str:
        return self.folder.name

    @property
    def title(self) -> str:
        return str(self.description.get("title")) if self.description else ""

    @property
    def device(self) -> str:
        return str(self.description.get("device", ""))

    @property
    def diverged(self) -> int | None:
        """The step at which the run diverged, if it did."""
        return None if self.complaint else _outcome_in(self.folder).get("diverged")

    @property
    def status(self) -> str:
        return self.complaint or ("whole" if self.diverged is None else f"diverged at step {self.diverged}")

    @property
    def needs(self) -> frozenset[str]:
        """The hashes of the runs it learnt from, and theirs."""
        return frozenset(_ancestors(self.description) if self.description else ())

    def data(self, folder: Path | None = None) -> DataSpec:
        """Describes the data that it was trained on; `folder` is where real images lie on this machine. KitError for
        one where the kit's own images are its data."""
        fields = self.description["data"]
        if folder and fields["source"] != "real":
            raise KitError(
                f"--data {str(folder)!r} has no use: run {self.hash} was trained on {fields['name']}, which the kit "
                f"has; allowed: without it"
            )
        kind = HeldOutSpec if "held_out" in fields else DataSpec
        return kind(**fields, folder=str(folder) if folder else None)

    def student(self) -> nn.Module:
        """The trained network, in evaluation mode."""
        return with_weights(described(self.description["student"]), self.folder)

    @property
    def metrics(self) -> dict[str, Any]:
        return json.loads((self.folder / "metrics.json").read_text(encoding="utf-8"))

    @property
    def images(self) -> dict[str, Any] | None:
        """What the student must know of its training images: mean and std in 0 … 255, classes; None in older runs.
        And what they are called, where a run is not older than that."""
        return self.metrics.get("images")


Entry = Stored  # as a listing calls it

_whole: dict[Path, tuple[tuple[int, ...], ...]] = {}  # folders verified in this process, with their files' stamps


def entry_of(folder: Path) -> Stored:
    """Reads a run's folder: whether it is whole, unaltered, the run's own, and of this format. A process verifies its
    checksums once, and again when one of its files has changed."""
    stamps = _stamps(folder)
    if not stamps or _whole.get(folder) != stamps:
        why = _verified(folder)
        if why is not None:
            of_others = withheld(folder)
            return Stored(folder, {}, of_others or why, is_damaged=of_others is None)
        _whole[folder] = stamps
    return Stored(folder, json.loads((folder / "run.json").read_text(encoding="utf-8")))


def _stamps(folder: Path) -> tuple[tuple[int, ...], ...]:
    """Reads inode, size and times of each of a folder's files, which change when somebody alters or replaces one."""
    try:
        stats = [path.lstat() for path in sorted(folder.glob("*"))]
    except OSError:  # another process moves it away
        return ()
    return tuple((each.st_ino, each.st_size, each.st_mtime_ns, each.st_ctime_ns) for each in stats)


def _verified(folder: Path) -> str | None:
    """Reads a run's whole folder and says what is wrong with it; None where nothing is."""
    why = complaint(folder, files_of(folder))
    if why is not None:
        return why
    try:
        description = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        described, _ = hash_of(description), list(_ancestors(description))
        _outcome_in(folder)
    except NOT_A_RUN:
        return "its files are not those of a run"
    if described != folder.name:
        return f"run.json describes run {described}"
    return None if description.get("format", 1) == FORMAT else "it is of another format"


def withheld(folder: Path) -> str | None:
    """Says why a folder that is not used is no damaged one: `cache format 2; this kit reads 1` where another kit wrote
    it and its `run.json` is unaltered, or which of its files this user may not read."""
    try:
        for path in filter(Path.is_file, folder.iterdir()):
            path.open("rb").close()
        unaltered = json.loads((folder / CHECKSUMS).read_text())["run.json"] == sha256(folder / "run.json")
        written = json.loads((folder / "run.json").read_text(encoding="utf-8")).get("format", 1)
    except PermissionError as error:
        return f"{Path(error.filename).name} cannot be read ({error.strerror})"
    except (OSError, *NOT_A_RUN):
        return None
    return f"cache format {written!r}; this kit reads {FORMAT}" if unaltered and written != FORMAT else None


def _outcome_in(folder: Path) -> dict[str, Any]:
    """Reads a whole folder's metrics, or the step at which it diverged. Raises ValueError or KeyError where they are
    neither."""
    diverged = folder / "diverged.json"
    if diverged.exists():
        outcome = json.loads(diverged.read_text(encoding="utf-8"))
        return {"diverged": int(outcome["step"]), "reason": str(outcome.get("reason", ""))}
    metrics = json.loads((folder / "metrics.json").read_text())
    for name in ("train_top1", "train_top5", "test_top1", "test_top5", "wall_s", "cpu_s", "gpu_s"):
        float(metrics[name])
    return metrics


def lookup(run: Run) -> Result | Failure | None:
    """Looks up how the run ended; None where it has not been trained. Raises Damaged when its folder is cut short,
    altered or another's, and KitError when it is of another format or may not be read."""
    folder = folder_of(run.hash)
    if not folder.exists():
        return None
    found = entry_of(folder)
    if found.is_damaged:
        raise Damaged(
            f"run {run.hash} in {folder.parent}: {found.complaint}; only whole, unaltered runs are used "
            f"('python -m kit cache prune --damaged' removes such runs)"
        )
    if found.complaint is not None:
        raise KitError(f"run {run.hash} in {folder.parent}: {found.complaint}")
    outcome = _outcome_in(folder)
    if "diverged" in outcome:
        return Failure(run, str(Diverged(outcome["diverged"], outcome["reason"])), outcome["diverged"])
    return Result(run, folder, outcome, found.description.get("versions", {}))


def find(run: Run) -> Result | None:
    """Finds the run's result if it has been trained to its end. Raises as `lookup` does."""
    outcome = lookup(run)
    return outcome if isinstance(outcome, Result) else None


def clear_damage(run: Run) -> None:
    """Sets the run's folder aside, whole, where it is damaged, and says so; for that, and then alone, it takes the
    run's lock."""
    folder = folder_of(run.hash)
    if _damage(folder) is None:
        return
    with locked(folder):
        why = _damage(folder)  # another process may have trained it anew meanwhile
        if why is not None:
            aside = set_aside(folder)
            print(f"warning: run {run.hash} ({run.title}): {why}; moved to {aside}, trained anew", file=sys.stderr)


def _damage(folder: Path) -> str | None:
    found = entry_of(folder) if folder.exists() else None
    return found.complaint if found is not None and found.is_damaged else None


def set_aside(folder: Path) -> Path:
    """Moves a folder out of the cache's way, into `damaged/<hash>-<n>`; nothing is removed."""
    aside = cache_folder() / "damaged"
    with writing_to(aside):
        aside.mkdir(parents=True, exist_ok=True)
        place = next(place for n in count(1) if not (place := aside / f"{folder.name}-{n}").exists())
        folder.rename(place)
    return place


def cached() -> list[Stored]:
    """Lists every run in the cache, newest first."""
    folders = (path for path in (cache_folder() / "runs").glob("*") if path.is_dir() and not path.name.startswith("."))
    return [entry_of(folder) for folder in sorted(folders, key=changed_at, reverse=True)]


def _ancestors(description: Mapping[str, Any]) -> Iterator[str]:
    for teacher in description["teachers"].values():
        yield hash_of(teacher)
        yield from _ancestors(teacher)


def store(run: Run, training: Training) -> None:
    """Writes a finished training into the cache, all or nothing; of several ranks, which all call it, the first does.
    Raises KitError where the disk cannot take it."""
    mean, std = training.data.mean_std  # what is asked of the student's answers for other images than these
    images: dict[str, Any] = {"mean": mean.tolist(), "std": std.tolist(), "classes": list(training.data.classes)}
    images["name"] = run.data.name  # for captions: a folder's is not in the description
    images["test_images"] = len(training.data.test)  # for an interval where they are not at hand
    metrics = priced(run, training.metrics()) | {"images": images}
    if not training.ranks.is_first:
        return
    state = training.student.state_dict()
    # a copy of each, as tensors that share memory (tied weights) are not to be saved as they are
    weights = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}
    with sealed(folder_of(run.hash)) as draft:
        _describe(run, training, draft)
        write(draft / "epochs.csv", as_csv([priced(run, epoch) for epoch in training.epochs], "epoch"))
        write(draft / "metrics.json", json.dumps(metrics, indent=1))
        save_file(weights, draft / "student.safetensors")


def store_diverged(run: Run, training: Training, error: Diverged) -> None:
    """Writes down that the run diverges, so that it is not tried again, with its history up to there."""
    if not training.ranks.is_first:
        return
    with sealed(folder_of(run.hash)) as draft:
        _describe(run, training, draft)
        outcome = {"step": error.step} | ({"reason": error.reason} if error.reason else {})
        write(draft / "diverged.json", json.dumps(outcome))


def _describe(run: Run, training: Training, draft: Path) -> None:
    about = {"title": run.title, "versions": versions(), "format": FORMAT, "notes": training.notes}
    write(draft / "run.json", json.dumps(run.model_dump(mode="json") | about, indent=1))
    write(draft / "steps.csv", as_csv(training.steps(), "step"))


def as_csv(rows: list[dict[str, Any]], first: str) -> str:
    """Writes rows as CSV; of none, as a given network has, the head of the first column."""
    return pd.DataFrame(rows, columns=None if rows else [first]).to_csv(index=False, lineterminator="\n")


def procedure_flops(run: Run, student_images: int, teacher_images: Mapping[str, int]) -> dict[str, int]:
    """Counts the FLOPs of the student's procedure: its own training, and its teachers' forward passes apart."""
    px = run.data.px
    of_teachers = [n * flops_per_image(run.teachers[name].student, px)[0] for name, n in teacher_images.items()]
    return {
        "student_flops": round(student_images * flops_per_image(run.student, px)[1]),
        "teacher_flops": round(sum(of_teachers)),
    }


def priced(run: Run, record: dict[str, Any]) -> dict[str, Any]:
    """Puts FLOPs in place of the image counts of a trainer's record."""
    rest = {name: value for name, value in record.items() if name not in ("student_images", "teacher_images")}
    return rest | procedure_flops(run, record["student_images"], record["teacher_images"])


def in_full(digits: str, cached: Iterable[str]) -> str:
    """Finds the one hash of a cached run that begins with these digits, six or more. KitError for none, or several."""
    found = sorted(each for each in cached if each.startswith(digits)) if re.fullmatch("[0-9a-f]{6,16}", digits) else []
    if not found:
        allowed = "what 'python -m kit cache list' lists, by six digits or more"
        raise KitError(f"run {digits!r} is not in the cache, {cache_folder()}; allowed: {allowed}")
    if len(found) > 1:
        raise KitError(f"run {digits!r} may be {few(found)}; allowed: as many digits as tell them apart")
    return found[0]


def stored(digits: str) -> Stored:
    """Finds the run in the cache whose hash this is, or begins with this (`in_full`). Raises KitError where there is
    none, it is damaged, or it diverged."""
    name = in_full(digits, (path.name for path in (cache_folder() / "runs").glob("*") if path.is_dir()))
    found = entry_of(folder_of(name))
    if found.complaint is not None:
        raise KitError(f"run {name}: {found.complaint}; only whole, unaltered runs are used")
    if found.diverged is not None:
        raise KitError(f"run {name} diverged, so it has no student; allowed: runs that finished")
    return found
