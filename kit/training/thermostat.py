"""A stage's temperature while a student trains: its policy decides, `Thermostat` remembers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from numbers import Real
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from kit.errors import KitError
from kit.losses import Scalar, Sides, sides
from kit.parallel.ranks import Ranks
from kit.temperature import Policy, State
from kit.training.moment import Moment


class Thermostat:
    """t moves as its policy says; `memory` is what the policy keeps during the stage."""

    def __init__(self, policy: Policy, teachers: Sequence[str] = ("big",)) -> None:
        self.policy, self.teachers = policy, tuple(teachers)
        self.t: State = policy.begin(self.teachers)
        self.memory: dict[str, float] = {}

    @property
    def asked(self) -> tuple[str, ...]:
        """The teachers whose logits the next batch needs: where the policy uses a t a teacher, those it uses."""
        used = self.policy.used(self.t)
        return tuple(used) if isinstance(used, Mapping) else self.teachers

    def given(self, at: Moment) -> dict[str, Sides]:
        """By teacher, the temperatures in the losses of a batch or a part of it. KitError for what is none."""
        given = self.policy.given(self.t, replace(at, memory=self.memory))
        named = given if isinstance(given, Mapping) else dict.fromkeys(self.asked, given)
        if missing := [name for name in self.asked if name not in named]:
            raise self._none("gives", f"none for teacher {missing[0]!r}", "one for each, or one for all")
        of, by_image = {name: sides(named[name]) for name in self.asked}, (len(at.zs), 1)
        for t in (side for each in of.values() for side in each):
            shape = tuple(t.shape) if isinstance(t, Tensor) else () if isinstance(t, Real) else None
            if shape not in ((), by_image):  # of (N,) the losses would take one a class
                what = repr(t) if shape is None else f"a tensor {shape}"
                raise self._none("gives", what, f"a number, or a tensor {by_image} by image")
        return {name: Sides(*map(above_zero, each)) for name, each in of.items()}

    def observe(self, at: Moment, parts: Sequence[Moment] = ()) -> None:
        """Moves t after a batch, whose losses may have left gradients in the temperatures given for its parts. Of a
        policy that knows nothing of ranks, which see a part each, it becomes the mean of theirs."""
        slopes = {name: slope for name in self.teachers if (slope := slope_of(name, parts, at.ranks)) is not None}
        aside = at.beside if self.policy.early else None
        with torch.cuda.stream(aside) if aside else nullcontext():  # for None, too, torch would take hold of a GPU
            after = self.policy.next(self.t, replace(at, memory=self.memory, slopes=slopes))
        for t in after.values() if isinstance(after, Mapping) else [after]:
            if not isinstance(t, Real) and not (isinstance(t, Tensor) and t.numel() == 1):
                raise self._none("goes on with", repr(t), "one number, or one a teacher")
        agreed = at.ranks.agreed
        if isinstance(after, Mapping):
            self.t = {name: agreed(plain(t)) for name, t in after.items()}
        else:
            self.t = agreed(plain(after))
        self.memory = {name: plain(number) for name, number in self.memory.items()}

    def _none(self, does: str, what: str, allowed: str) -> KitError:
        return KitError(f"temperature {self.policy.kind!r} {does} {what}; allowed: {allowed}")

    def trace(self, parts: Sequence[Moment]) -> dict[str, float]:
        """Numbers to record of a batch: t, also by teacher; what was used, a mean over images, and its extremes."""
        used = [[side for each in at.temperatures.values() for side in each] for at in parts]
        means, images = [mean(each) for each in used], [len(at.y) for at in parts]
        by_teacher = {f"t_{name}": t for name, t in self.t.items()} if isinstance(self.t, Mapping) else {}
        numbers = by_teacher | {"t": mean(self.t), "t_used": means[0] if len(set(means)) == 1 else fmean(means, images)}
        by_image = [t.detach() for each in used for t in each if isinstance(t, Tensor) and t.ndim > 0]  # each (n, 1)
        if by_image:
            numbers |= {"t_least": min(float(t.min()) for t in by_image)}
            numbers |= {"t_most": max(float(t.max()) for t in by_image)}
        return numbers

    def steer(self, policy: Policy) -> None:
        """Goes on by a policy with other values in its fields."""
        self.policy, self.t = policy, policy.steered(self.t)

    @property
    def is_cold(self) -> bool:
        return self.policy.is_cold(self.t)

    def state(self) -> dict[str, Any]:
        """Where it stands, as plain numbers: what `restore` needs in a thermostat of the same stage."""
        return {"t": self.t, "memory": dict(self.memory)}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.t, self.memory = state["t"], dict(state["memory"])


def plain(number: Any) -> Any:
    """A tensor's or numpy's number as Python's, which a checkpoint keeps; what else there is as it is."""
    return number.item() if hasattr(number, "item") else number


def above_zero(t: Scalar) -> Scalar:
    """The temperature, or NaN where it is none above 0: so is the loss then, and the run has diverged at this step."""
    return t if (bool((t > 0).all()) if isinstance(t, Tensor) else t > 0) else math.nan


def slope_of(name: str, parts: Sequence[Moment], ranks: Ranks) -> float | None:
    """∂loss/∂t of the temperatures given for a teacher, over all parts of a batch and both sides."""
    tensors = (t for at in parts for t in at.temperatures.get(name, ()) if isinstance(t, Tensor))
    gradients = {id(t): t.grad for t in tensors if t.is_leaf and t.grad is not None}
    return math.fsum(float(ranks.mean(grad.sum())) for grad in gradients.values()) if gradients else None


def mean(t: Any) -> float:
    """One number for a temperature: itself, or its mean over images, sides and teachers."""
    if isinstance(t, Mapping):
        t = list(t.values())
    if isinstance(t, Sequence):
        numbers = [mean(each) for each in t]
        return numbers[0] if len(set(numbers)) == 1 else sum(numbers) / len(numbers)
    return float(t.detach().mean()) if isinstance(t, Tensor) else float(t)
