"""What all methods of Table 4 are given alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import Field

from kit.errors import Described
from kit.models import ModelSpec
from kit.networks.named import Network
from kit.recipe import Recipe, Stage
from kit.runs.spec import TEACHERS, DataSpec, HeldOutSpec, Run, changed


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
        self,
        stages: Sequence[Stage],
        teachers: Mapping[str, Run],
        seed: int,
        *,
        epochs: int | None = None,
        student: Network | None = None,
        data: DataSpec | None = None,
    ) -> Run:
        """A training in this setting; by default of the table's student, on all training images, for the budget."""
        recipe = Recipe(stages=tuple(stages), epochs=epochs or self.epochs, batch=self.batch, lr=self.big.recipe.lr)
        of_student = {"student": student or self.student, "data": data or self.data, "recipe": recipe, "seed": seed}
        return changed(self.big, teachers=dict(teachers), **of_student)

    def candidate(self, stages: Sequence[Stage], student: Network, seed: int) -> Run:
        """A search's short training, judged on held-out training images: its "test" accuracy never saw the test."""
        data = self.searched_on
        return self.run(stages, {"big": self.big}, seed, epochs=self.search.epochs, student=student, data=data)

    def assistants_seed(self, seed: int) -> int:
        """Of the assistants of the student of this seed: one of their own, where its teachers have one."""
        return seed if self.big.seed < TEACHERS else 2 * TEACHERS + seed

    def with_epochs(self, epochs: int) -> Setting:
        return replace(self, epochs=epochs)

    def left_after(self, steps: int) -> int:
        """Whole epochs that the budget leaves after so many gradient steps, at least 1."""
        per_epoch = steps_of(self.data, self.batch)
        return max(1, (self.epochs * per_epoch - steps) // per_epoch)


def steps_of(data: DataSpec, batch: int, epochs: int = 1) -> int:
    """Gradient steps in so many epochs."""
    return epochs * (data.train_images // min(batch, data.train_images))
