"""What a row of Table 4 is: what all methods are given alike, and how a method's runs follow from that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from kit.errors import Described
from kit.models import ModelSpec
from kit.networks.named import Network
from kit.recipe import Objective, Recipe, Stage, eq1
from kit.runs.spec import DataSpec, HeldOutSpec, Run, changed
from kit.temperature import Fixed

if TYPE_CHECKING:
    from kit.methods.search import Found, Search


class SearchSize(Described):
    """How much a search may spend: rounds of so many candidates, each trained for so many epochs.

    Candidates train on the training images less the held-out share, and are judged on that share.
    """

    rounds: int = Field(ge=1)
    candidates: int = Field(ge=1, description="a round")
    epochs: int = Field(ge=1, description="of a candidate")
    held_out: float = Field(default=0.4, gt=0, lt=1)


@dataclass(frozen=True)
class Setting:
    """What all methods are given alike: networks, T, and a budget of student gradient steps, in epochs.

    Data, batch, preset, device and precision are those of the explained model's own training.
    """

    student: ModelSpec
    big: Run  # the explained model
    small: Run  # the small teacher
    assistants: tuple[ModelSpec, ...]
    T: float
    epochs: int  # the budget of the whole procedure
    search: SearchSize
    cost_target: float | None = None  # of a searched student, in FLOPs an image; None: the table student's own

    @property
    def data(self) -> DataSpec:
        return self.big.data

    @property
    def searched_on(self) -> HeldOutSpec:
        """The training images with a share held out, on which candidates train and are judged."""
        return HeldOutSpec.split(self.data, self.search.held_out)

    @property
    def batch(self) -> int:
        return self.big.recipe.batch

    def run(
        self, stages: Sequence[Stage], teachers: Mapping[str, Run], seed: int, epochs: int | None = None, **changes: Any
    ) -> Run:
        """A training in this setting; by default of the table's student, on all training images, for the budget.
        `changes` are to `student` or `data`."""
        recipe = Recipe(stages=tuple(stages), epochs=epochs or self.epochs, batch=self.batch, lr=self.big.recipe.lr)
        of_student = {"student": self.student, "data": self.data, "recipe": recipe, "seed": seed} | changes
        return changed(self.big, teachers=dict(teachers), **of_student)

    def candidate(self, stages: Sequence[Stage], student: Network, seed: int) -> Run:
        """A search's short training, judged on held-out training images: its "test" accuracy never saw the test."""
        data = self.searched_on
        return self.run(stages, {"big": self.big}, seed, epochs=self.search.epochs, student=student, data=data)

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

    @property
    def runs(self) -> tuple[Run, ...]:
        return (*self.before, self.final)


@dataclass(frozen=True)
class Method:
    """A row. `build` gives a procedure for one seed; a method that searches is given what its search has found."""

    key: str  # as Table 4 has it: "[9]" … "ours"; or a row of ours that the paper lacks
    title: str
    reading: str  # what it is a reading of, in a sentence
    cite: str  # the paper, and how certain it is that this paper is meant
    build: Callable[..., Procedure]  # (setting, seed), or (setting, seed, found)
    search: Callable[[Setting, int], Search] | None = None

    @property
    def label(self) -> str:
        return f"{self.key} {self.title}"


def straight(
    stages: Callable[[float], Sequence[Stage]], teachers: Sequence[str] = ("big",)
) -> Callable[[Setting, int], Procedure]:
    """The procedure that is one training for the whole budget, by `stages(T)`, under the explained model or others."""

    def build(setting: Setting, seed: int) -> Procedure:
        return Procedure(setting.run(stages(setting.T), {name: getattr(setting, name) for name in teachers}, seed))

    return build


def throughout(objective: Objective) -> Callable[[float], tuple[Stage, ...]]:
    """One stage for the whole budget: this objective under the explained model at a fixed T."""
    return lambda T: (Stage(name="big teacher", teacher="big", objective=objective, temperature=Fixed(T=T), until=1),)


def in_full(setting: Setting, seed: int, found: Found) -> Procedure:
    """The network that a search found, distilled as the candidates were, with what the search left of the budget."""
    left, notes = setting.left_after(found.spent.steps), found.notes
    if left == 1 and setting.epochs > 1:
        notes = (*notes, "the search took (nearly) the whole budget: the final student has one epoch")
    run = setting.run(eq1(setting.T, "hinton"), {"big": setting.big}, seed, epochs=left, student=found.chosen)
    return Procedure(run, found=found, notes=notes)
