"""A training as it is written down: history, cost, a line an epoch, and metrics at its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kit.data.base import Dataset, Split
from kit.parallel.ranks import Ranks
from kit.recipe import Recipe
from kit.training.cost import Spent
from kit.training.course import Course
from kit.training.evaluation import Evaluation, agreement, evaluate, recalls
from kit.training.history import Diverged, History
from kit.training.moment import same_shape
from kit.training.steering import Event
from kit.training.teachers import Teachers

MEAN = "mean of teachers"  # what their averaged probabilities are called


class Recorded(Course):
    """A course whose student is taught, and of which everything is recorded. Subclasses do the teaching."""

    data: Dataset
    student: nn.Module
    teachers: Teachers
    ranks: Ranks
    mean: Tensor  # of the training images, (3,), in 0…255
    std: Tensor
    sizes: Sequence[int]  # of an epoch's batches
    steps_per_epoch: int

    def __init__(self, recipe: Recipe, total_steps: int, events: Sequence[Event], device: torch.device) -> None:
        super().__init__(recipe, total_steps, events)
        self.spent = Spent()
        self.history = History(total_steps, device)
        self.epochs: list[dict[str, Any]] = []
        self._tested: tuple[int, Evaluation] | None = None  # after which step, and how
        self.notes: list[str] = []  # what a reader of the result should know, in a line each

    def agree(self) -> None:
        """What ranks have recorded, each of its own share, becomes what is true of all; before anything is read."""
        self.spent.settle()
        if self.ranks.count > 1:
            self.history.agree(self.step, self.ranks)
            self.spent.agree(self.ranks)

    def end_step(self) -> None:
        self.teachers.attend(self.asked)  # a teacher may have been the last time
        super().end_step()

    def end_epoch(self, epoch: int) -> None:
        """Writes down an epoch, counted from 1. Raises Diverged where a loss or logits are not numbers."""
        self.agree()
        first = (epoch - 1) * self.steps_per_epoch
        top1, top5 = self.history.accuracy(first, self.step, sum(self.sizes))  # running, of augmented batches
        stage = self.recipe.stages[int(self.history.stage[self.step - 1])].name
        line = {"epoch": epoch, "stage": stage, "train_top1": top1, "train_top5": top5}
        self.epochs.append(line | self.tested().scores("test") | self.spent.so_far())

    def steps(self) -> list[dict[str, Any]]:
        """The history so far, one row a batch."""
        return self.history.rows(self.recipe, self.step, self.sizes)

    def metrics(self) -> dict[str, Any]:
        """Where the student stands: accuracies on both splits (clean images), cost, stages, likeness to its teacher."""
        self.agree()
        train, test = self.evaluated(self.data.train), self.tested()
        stages = {"stages": [stage.row(self.steps_per_epoch) for stage in self.stages]}
        metrics = train.scores("train") | test.scores("test") | self.spent.record() | stages
        metrics["test_recalls"] = recalls(test.logits, self.data.test.labels)  # by class
        several = self.recipe.teachers if any(len(stage.teachers) > 1 for stage in self.recipe.stages) else ()
        asked = (*several, "big") if "big" in self.teachers.networks else several
        logits = {name: self.answers(name) for name in asked}
        if "big" in logits:
            metrics["agreement"] = agreement(logits["big"], test.logits)
        if several:
            mean = torch.stack([logits[name].softmax(-1) for name in several]).mean(0)  # (N, C)
            logits[MEAN] = mean.clamp(min=torch.finfo(mean.dtype).tiny).log()  # their softmax is that mean
            metrics["agreements"] = {name: agreement(logits[name], test.logits) for name in (*several, MEAN)}
        return metrics

    def tested(self) -> Evaluation:
        """How the student answers on the test split after this step: the run's last is an epoch's last, too."""
        if self._tested is None or self._tested[0] != self.step:
            self._tested = self.step, self.evaluated(self.data.test)
        return self._tested[1]

    def answers(self, name: str) -> Tensor:
        """A teacher's logits (N, C) of the test split, for which it is asked once."""
        known = self.teachers.answers[name]
        if known.logits is None:
            known.logits = self.evaluated(self.data.test, name).logits
        same_shape(f"teacher {name!r}", known.logits, self.tested().logits)
        return known.logits

    def evaluated(self, split: Split, teacher: str | None = None) -> Evaluation:
        """How the student, or a teacher, answers on a split. Raises Diverged where its logits are no numbers."""
        network = self.student if teacher is None else self.teachers.networks[teacher]
        found = evaluate(network, split, self.mean, self.std, self.ranks)
        if not found.logits.isfinite().all():
            whose = "the student's" if teacher is None else f"teacher {teacher}'s"
            raise Diverged(self.step, f"{whose} logits are not finite numbers after step {self.step}")
        return found
