"""What a row of Table 4 is: what it is a reading of, and how its runs follow from what all methods are given alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from kit.errors import KitError
from kit.models import ModelSpec
from kit.networks.flops import parameter_count
from kit.networks.layered import LayeredSpec
from kit.recipe import Recipe, Stage
from kit.runs.spec import DataSpec, HeldOutSpec, Run
from kit.training.forward import Precision

if TYPE_CHECKING:
    from kit.methods.search import Found, Search

Spec = ModelSpec | LayeredSpec


class SearchSize(BaseModel):
    """How much a search may spend: rounds of so many candidates, each trained for so many epochs.

    Candidates train on the training images less the held-out share, and are judged on that share.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rounds: int = Field(ge=1)
    candidates: int = Field(ge=1, description="a round")
    epochs: int = Field(ge=1, description="of a candidate")
    held_out: float = Field(default=0.4, gt=0, lt=1)


@dataclass(frozen=True)
class Setting:
    """What all methods are given alike: data, networks, T, and a budget of student gradient steps, in epochs."""

    data: DataSpec
    student: ModelSpec
    big: Run  # the explained model
    small: Run  # the small teacher
    assistants: tuple[ModelSpec, ...]
    T: float
    epochs: int  # the budget of the whole procedure
    batch: int
    search: SearchSize
    cost_target: float | None = None  # of a searched student, in FLOPs an image; None: the table student's own
    preset: str = "custom"
    device: str = "cpu"
    precision: Precision = "float32"

    def run(
        self,
        stages: Sequence[Stage],
        teachers: Mapping[str, Run],
        seed: int,
        *,
        epochs: int | None = None,
        student: Spec | None = None,
        data: DataSpec | None = None,
    ) -> Run:
        """A training in this setting; by default of the table's student, on all training images, for the budget."""
        return Run(
            data=data or self.data,
            student=student or self.student,
            recipe=Recipe(stages=tuple(stages), epochs=epochs or self.epochs, batch=self.batch),
            teachers=dict(teachers),
            seed=seed,
            preset=self.preset,
            device=self.device,
            precision=self.precision,
        )

    def candidate(self, stages: Sequence[Stage], student: Spec, seed: int) -> Run:
        """A search's short training, judged on held-out training images: its "test" accuracy never saw the test."""
        data = HeldOutSpec.split(self.data, self.search.held_out)
        return self.run(stages, {"big": self.big}, seed, epochs=self.search.epochs, student=student, data=data)

    def with_epochs(self, epochs: int) -> Setting:
        return replace(self, epochs=epochs)

    def left_after(self, steps: int) -> int:
        """Whole epochs that the budget leaves after so many gradient steps, at least 1."""
        per_epoch = steps_of(self.data, self.batch)
        return max(1, (self.epochs * per_epoch - steps) // per_epoch)


def steps_of(data: DataSpec, batch: int, epochs: int = 1) -> int:
    """Gradient steps in so many epochs."""
    return epochs * (data.train_images // min(batch, data.train_images))


@dataclass(frozen=True)
class Procedure:
    """One method from one seed: the student in full, and the runs that had to come first."""

    final: Run
    before: tuple[Run, ...] = ()  # assistants; their cost is the procedure's
    found: Found | None = None  # a search's outcome; its cost is the procedure's too
    notes: tuple[str, ...] = ()  # warnings and fallbacks, for the record


@dataclass(frozen=True)
class Method:
    """A row. `build` gives a procedure for one seed; a method that searches is given what its search has found."""

    key: str  # as Table 4 has it: "[9]" … "ours"; or a row of ours that the paper lacks
    title: str
    reading: str  # what it is a reading of, in a sentence
    cite: str  # the paper, and how certain it is that this paper is meant
    build: Callable[..., Procedure]  # (setting, seed), or (setting, seed, found)
    search: Callable[[Setting, int], Search] | None = None
    name: str = field(default="")  # tells readings of one key apart

    @property
    def label(self) -> str:
        return f"{self.key} {self.name or self.title}"


def straight(stages: Callable[[float], Sequence[Stage]]) -> Callable[[Setting, int], Procedure]:
    """The procedure that is one training under the explained model, for the whole budget, by `stages(T)`."""

    def build(setting: Setting, seed: int) -> Procedure:
        return Procedure(setting.run(stages(setting.T), {"big": setting.big}, seed))

    return build


def size_warning(assistant: Spec, teacher: Spec) -> str | None:
    """A line where an assistant has more parameters than the teacher that it stands in for."""
    ours, theirs = (parameter_count(spec.build()) for spec in (assistant, teacher))
    if ours <= theirs:
        return None
    return f"assistant {assistant.title} is larger than its teacher {teacher.title} ({ours:,} parameters, {theirs:,})"


def chain_epochs(epochs: int, hops: int) -> list[int]:
    """A budget in whole epochs, split over so many trainings; the last gets what is left over."""
    if epochs < hops:
        raise KitError(f"a budget of {epochs} epochs is too short for {hops} trainings, each of at least one epoch")
    share = epochs // hops
    return [share] * (hops - 1) + [epochs - share * (hops - 1)]
