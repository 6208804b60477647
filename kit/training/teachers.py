"""Whom a student learns from: frozen networks, cached logits in their place, a teacher that learns along."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from kit.errors import KitError
from kit.networks.folding import folded
from kit.recipe import Objective, Recipe, Stage
from kit.training.captured import Captured
from kit.training.cost import Spent
from kit.training.forward import Machine, frozen, showing, teach
from kit.training.moment import Moment
from kit.training.optimiser import sgd


@dataclass(frozen=True)
class EpochLogits:
    """A teacher's logits of one epoch's batches in their order, (steps · batch, C), and what computing them took."""

    logits: Tensor
    cost: Spent


@dataclass
class Answers:
    """A teacher's logits (N, C) of the test split, once it has been asked: the same in all its students' runs."""

    logits: Tensor | None = None


CachedLogits = Callable[[int], EpochLogits | None]  # an epoch's logits, counted from 0; None where they are not known


def check_teachers(recipe: Recipe, given: Collection[str]) -> None:
    """Raises KitError where the recipe needs a teacher that is not given, or a stage names one twice."""
    if missing := sorted(set(recipe.teachers) - set(given)):
        raise KitError(f"the recipe needs teachers {missing}; given: {', '.join(given) or 'none'}")
    for stage in recipe.stages:
        if twice := [name for name in dict.fromkeys(stage.teachers) if stage.teachers.count(name) > 1]:
            raise KitError(f"stage {stage.name!r} has teacher {twice[0]!r} twice; allowed: each once")


def needs_graph(objective: Objective) -> bool:
    """Whether the teacher's logits must be differentiable: then it is asked itself, in every step."""
    return objective.needs_input_gradient or objective.trains_teacher


class Teachers:
    """A run's teachers by name. `networks` are frozen; `present` are those of the stage, of which one may learn."""

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        recipe: Recipe,
        machine: Machine,
        cached: Mapping[str, CachedLogits],
        dtype: torch.dtype,
    ) -> None:
        check_teachers(recipe, networks)
        self.recipe, self.device, self.dtype = recipe, torch.device(machine.device), dtype
        # of each, the epoch that was read last is kept
        self.cached = {name: lru_cache(1)(read) for name, read in cached.items()} if machine.ranks.count == 1 else {}
        self.networks = {
            name: frozen(networks[name], self.device) for name in dict.fromkeys((*recipe.teachers, *networks))
        }
        self.answers = {name: Answers() for name in self.networks}  # those of a process' runs may be the same ones
        # of those that have been asked: who is cached never is
        self._folded: dict[str, Captured] = {}

    def enter(self, stage: Stage, asked: Sequence[str]) -> None:
        """Where a teacher learns along, a copy does: the original stays what agreement is measured with."""
        self.stage = stage
        self.optimiser: torch.optim.SGD | None = None
        self.attend(asked)
        if stage.objective.trains_teacher:
            (name,) = stage.teachers
            self.present[name] = copy.deepcopy(self.networks[name]).requires_grad_()
            lr = getattr(stage.objective, "teacher_lr", None)
            if lr is None:
                what = f"objective {stage.objective.kind!r} trains its teacher"
                raise KitError(f"{what}, but has no field teacher_lr, a number; allowed: both, or neither")
            self.optimiser = sgd(self.present[name], self.recipe, lr)

    def attend(self, asked: Sequence[str]) -> None:
        """From here on these of the stage's teachers are asked, and charged."""
        if self.optimiser is None:  # who learns along is one, and stays
            self.present = {name: self.networks[name] for name in asked}

    @property
    def learning(self) -> tuple[nn.Module, torch.optim.SGD] | None:
        """The teacher that learns along, and its optimiser, if one does."""
        return (next(iter(self.present.values())), self.optimiser) if self.optimiser else None

    def known(self, epoch: int, first: int, images: int, spent: Spent) -> dict[str, Tensor]:
        """By teacher, the logits (N, C) of so many images of an epoch that are cached, from the `first` one in the
        epoch's order on, charged at what they took."""
        known = {}
        for name in () if needs_graph(self.stage.objective) else self.present:
            read = self.cached[name](epoch) if name in self.cached else None
            if read is not None:
                spent.charge(read.cost, images / len(read.logits), images, self.device)
                rows = read.logits[first : first + images]
                known[name] = rows.to(self.device, torch.float32, non_blocking=True)
        return known

    def answer(self, x: Tensor, known: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Each present teacher's logits (N, C) for images x; asked is who is not known to say what."""
        return {name: known[name] if name in known else self._ask(name, x) for name in self.present}

    def _ask(self, name: str, x: Tensor) -> Tensor:
        with showing(f"teacher {name!r}", self.present[name], x):
            if needs_graph(self.stage.objective):
                return self.present[name](x)
            if name not in self._folded:
                self._folded[name] = Captured(folded(self.networks[name]))
            return teach(self._folded[name], x, self.dtype)

    def learn(self, at: Moment) -> None:
        """The step of a teacher that learns along, from the same logits as the student."""
        if self.optimiser:
            self.optimiser.zero_grad()
            self.stage.objective.teacher_loss(at).backward()
            self.optimiser.step()
