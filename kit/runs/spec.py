"""A run is a frozen description; its hash names its folder in a cache."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SerializeAsAny, field_serializer, model_validator
from torch import nn
from torch.backends.cpu import get_cpu_capability

from kit.data import roles
from kit.data.augment import batch_sizes
from kit.data.base import IMAGE_FOLDER, Dataset, held_out
from kit.errors import Described, KitError
from kit.networks.named import Network
from kit.recipe import Recipe
from kit.runs.weights import Weights
from kit.training.forward import Precision
from kit.training.steering import Event, checked
from kit.training.teachers import check_teachers

NUMERICS = 3  # raised whenever the same description would give another student: old cache entries are then not used
TEACHERS = 1000  # added to a seed for its own teachers, so that no student has its teacher's weights, batches and crops
PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn")
EXPECTED_DATA = "KIT_EXPECTED_DATA"  # tells a notebook's kernel the fingerprints of its runs' data, by what was asked
ABOUT = ("title", "versions", "format", "notes")  # in `run.json` beside the description


class DataSpec(Described):
    """Describes a dataset: enough to load it again, and the fingerprint that it must then have."""

    role: str
    name: str
    source: str
    fingerprint: str
    px: int
    classes: int
    train_images: int
    train_per_class: int | None
    test_per_class: int | None
    level: str | None = Field(default=None, exclude_if=lambda level: level is None)  # of hrsc2016's labels
    folder: str | None = Field(default=None, exclude=True)  # where they lie on this machine: not part of the identity

    @field_serializer("name", when_used="json")
    def _without_the_folders(self, name: str) -> str:
        """A folder's name is for captions: moved or renamed, it holds the same images."""
        return IMAGE_FOLDER if self.source == "real" and name.startswith(IMAGE_FOLDER) else name

    @classmethod
    def of(
        cls,
        role: str,
        px: int,
        train_per_class: int | None = None,
        test_per_class: int | None = None,
        source: str = "auto",
        folder: Path | None = None,
        level: str | None = None,
    ) -> DataSpec:
        """Describes what fills the role now; arguments as for `kit.data.load`."""
        sizes: dict[str, Any] = {"px": px, "train_per_class": train_per_class, "test_per_class": test_per_class}
        sizes["level"] = level
        data = roles.load(role, source=source, folder=folder, **sizes)
        found = cls(
            role=role,
            name=data.name,
            source=data.source,
            fingerprint=data.fingerprint,
            classes=len(data.classes),
            train_images=len(data.train),
            folder=str(folder) if folder else None,
            **sizes,
        )
        expected = json.loads(os.environ.get(EXPECTED_DATA, "{}")).get(found.asked, data.fingerprint)
        if data.fingerprint != expected:
            raise KitError(
                f"{role} is filled by {data.name} ({data.source}, fingerprint {data.fingerprint[:12]}), but the runs "
                f"to be drawn were described with {expected[:12]}; allowed: the same images"
            )
        return found

    @property
    def asked(self) -> str:
        """What was asked for, as JSON: all but what was found."""
        found = {"name", "source", "fingerprint", "classes", "train_images"}
        return json.dumps(self.model_dump(mode="json", exclude=found), sort_keys=True)

    @property
    def title(self) -> str:
        """What they are called in a run's title: by their role; a folder that is a role of its own by its own name."""
        return self.name.removeprefix(IMAGE_FOLDER).strip() or self.role if self.role == roles.OWN else self.role

    def load(self) -> Dataset:
        """Loads the dataset. Raises KitError where the images on disk are no longer the ones described."""
        sizes = {name: getattr(self, name) for name in ("px", "train_per_class", "test_per_class", "level")}
        data = roles.load(self.role, source=self.source, folder=Path(self.folder) if self.folder else None, **sizes)
        if data.fingerprint != self.fingerprint:
            raise KitError(
                f"data for role {self.role!r} has fingerprint {data.fingerprint[:12]}, "
                f"but the run was described with {self.fingerprint[:12]}: the images have changed"
            )
        return data


LevelSpec = DataSpec  # of hrsc2016 labelled at a given level


class HeldOutSpec(DataSpec):
    """Describes the training images alone, a share of them held out as test split: a search's validation data."""

    held_out: float = Field(gt=0, lt=1)

    @classmethod
    def split(cls, whole: DataSpec, share: float) -> HeldOutSpec:
        kept = len(held_out(whole.load(), share).train)
        fields = {name: getattr(whole, name) for name in type(whole).model_fields}
        return cls(**fields | {"train_images": kept, "held_out": share})

    def load(self) -> Dataset:
        return held_out(super().load(), self.held_out)


class Run(Described):
    """Describes one training. Teachers are runs themselves, so a run names its whole ancestry.

    `teachers` are those its recipe learns from; one called "big" may be there only to measure agreement with it.
    """

    data: SerializeAsAny[DataSpec]
    student: Network
    recipe: Recipe
    teachers: dict[str, Run] = Field(default={})
    seed: int = Field(default=0, ge=0, lt=2**63)
    preset: str = "custom"
    device: str = Field(default="cpu", pattern="^(cpu|cuda)$")
    numerics: int = NUMERICS
    # what teachers' logits are rounded to, cached or not; described, and so hashed, only where it is not the default
    logits: Literal["float32", "float16"] = Field(default="float32", exclude_if=lambda name: name == "float32")
    # what is steered on the way; a run without events is described, and so hashed, as if there were no such thing
    events: tuple[Event, ...] = Field(default=(), exclude_if=lambda events: not events)
    # of student's and teachers' answers in training; float32, as all runs once were, is not part of the description
    precision: Precision = Field(default="float32", exclude_if=lambda precision: precision == "float32")

    # what the student begins with; by the recipe `Given` it is also what it ends with
    weights: Weights | None = Field(default=None, exclude_if=lambda weights: weights is None)

    @model_validator(mode="after")
    def _has_what_it_begins_with(self) -> Run:
        if self.is_given and self.weights is None:
            raise ValueError("a recipe of no epochs needs weights, which the run does not have")
        return self

    @model_validator(mode="after")
    def _has_its_teachers(self) -> Run:
        check_teachers(self.recipe, self.teachers)
        networks = {"the student": self.student, **{f"teacher {n!r}": t.student for n, t in self.teachers.items()}}
        for whose, network in networks.items():
            if network.classes != self.data.classes:
                raise ValueError(f"{whose} has {network.classes} classes, the data {self.data.classes}")
        return self

    @model_validator(mode="after")
    def _is_steered_while_it_runs(self) -> Run:
        sizes = batch_sizes(self.data.train_images, self.recipe.batch, self.recipe.keep_last)
        batches = self.recipe.epochs * len(sizes)
        at = [event.step for event in self.events]
        if at != sorted(at) or (at and at[-1] >= batches):
            raise ValueError(f"events must be in order and before the last of {batches} batches: got steps {at}")
        for event in self.events:
            checked(event.name, event.value, self.recipe.stages)
        return self

    @cached_property
    def hash(self) -> str:
        """16 hex digits over everything that can change the result."""
        return hash_of(self.model_dump(mode="json"))

    def model_copy(self, **changes: Any) -> Run:
        """Copies the run, changed by `update={…}`: another run with a hash of its own."""
        copied = super().model_copy(**changes)
        copied.__dict__.pop("hash", None)  # pydantic copies what is cached too
        return copied

    def __hash__(self) -> int:
        return hash(self.hash)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and self.hash == other.hash

    @property
    def is_given(self) -> bool:
        """Whether nothing is trained, or a new head at most: its student is what its weights are."""
        return self.recipe.epochs == 0

    def begun(self) -> nn.Module:
        """Builds the student as it begins. Raises KitError where its code or its weights are others than described."""
        network = self.student.build(self.seed)
        return network if self.weights is None else self.weights.into(network, self.student.title)

    @property
    def title(self) -> str:
        taught = " ← ".join(teacher.student.title for teacher in self.teachers.values())
        steered = f", steered {len(self.events)}×" if self.events else ""
        how = steered if self.precision == "float32" else f"{steered}, {self.precision}"
        if self.weights is not None:
            head = "" if self.weights.head is None else ", head trained"
            how += f"{'' if self.is_given else ', from'} weights {self.weights.sha256[:8]}{head}"
        seeded = ", given" if self.is_given else f", seed {self.seed}"
        return f"{self.student.title}{' ← ' + taught if taught else ''} on {self.data.title}{seeded}{how}"


def hash_of(description: Mapping[str, Any]) -> str:
    """Computes the hash of the run that a description, a run's JSON or a `run.json`, is of."""
    fields = {name: value for name, value in description.items() if name not in ABOUT}
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def replayed(run: Run, events: Iterable[Event]) -> Run:
    """Returns the run with these steering events. Raises ValidationError where they do not fit into it."""
    return changed(run, events=tuple(events))


def changed(run: Run, **fields: Any) -> Run:
    """Returns the run with other values in these fields, checked as a new one's are. Raises ValidationError."""
    return Run(**{name: getattr(run, name) for name in Run.model_fields} | fields)


@cache
def versions() -> dict[str, str]:
    """Lists what a student's bits depend on besides its description: packages, and torch's instructions."""
    return {name: version(name) for name in PACKAGES} | {"instructions": get_cpu_capability()}


def with_teachers(runs: Iterable[Run]) -> list[Run]:
    """Lists the runs and all their teachers, each once, teachers before students."""
    ordered: dict[Run, None] = {}
    for run in runs:
        for teacher in with_teachers(run.teachers.values()):
            ordered.setdefault(teacher)
        ordered.setdefault(run)
    return list(ordered)
