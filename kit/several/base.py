"""What every method of several teachers shares: weights, the loss that they weigh, and the stage with both.

A teacher's weight is not its influence, as t_k has a say in that, too: what pulls at the student is ∂L_k/∂zs, whose
norm is recorded beside the weight, both by teacher.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field, SerializeAsAny, model_validator
from torch import Tensor

from kit.errors import KitError
from kit.losses import Scalar, Sides, hard_cross_entropy, soft_cross_entropy, softened
from kit.recipe import Objective, Stage, hard_labels
from kit.temperature import Policy
from kit.training.kind import Kind
from kit.training.moment import Moment

SOFT_END = 0.8  # the share of the epochs by which the teachers end at the latest, as in the paper's procedure


class Weights(Kind):
    """What each teacher counts in a batch. Subclass it and say so in `of`; one teacher alone always counts 1."""

    needs_labels: ClassVar[bool] = False

    def __call__(self, at: Moment) -> dict[str, Tensor]:
        """By teacher, its weight: a number (), or (N,) by image. Of all teachers they add up to 1."""
        if len(at.logits) == 1:
            return {name: zt.new_ones(()) for name, zt in at.logits.items()}
        with torch.no_grad():
            return dict(zip(at.logits, self.of(at), strict=True))

    def of(self, at: Moment) -> Tensor:
        """Of two teachers and more in their order: (K,), or (K, N) by image."""
        raise NotImplementedError


class Equal(Weights):
    """1/K each: AVER, the mean of the losses."""

    kind: Literal["equal"] = "equal"

    def of(self, at: Moment) -> Tensor:
        return at.zs.new_full((len(at.logits),), 1 / len(at.logits))


def pull(zt: Tensor, zs: Tensor, t: Sides, factor: Scalar = 1.0) -> Tensor:
    """∂/∂zs of each image's factor·t_s²·L_D(p(zt, t_t), p(zs, t_s)), (N, C): factor · t_s · (q − p)."""
    return factor * t.student * (softened(zs, t.student) - softened(zt, t.teacher))


class Weighted(Objective):
    """α·Σ_k w_k·t_k²·L_D(p(zt_k, t_k), p(zs, t_k)) + (1 − α)·L_S(y, p(zs, 1)).

    t_k is the student's, where a teacher has a t of its own side: so that its logits' scale is no weight. Weights that
    look at labels need them in the loss: α below 1, or what they gain is the labels'.
    """

    kind: Literal["weighted"] = "weighted"
    weights: SerializeAsAny[Weights] = Equal()
    alpha: float = Field(default=1.0, ge=0, le=1)
    steerable: ClassVar[tuple[str, ...]] = ("alpha",)

    @model_validator(mode="after")
    def _has_the_labels_it_needs(self) -> Weighted:
        if self.weights.needs_labels and self.alpha == 1:
            raise ValueError(f"weights {self.weights.kind!r} need labels, which a loss of alpha 1 does not have")
        return self

    def __call__(self, at: Moment) -> Tensor:
        weights, soft = self.weights(at), []
        for name, (zt, t) in at.taught().items():
            weight = weights[name] * flat(t.student * t.student)  # (), or (N,)
            soft.append(soft_cross_entropy(zt, at.zs, t, weight))
            pulls = pull(zt, at.zs.detach(), t, self.alpha * weights[name].unsqueeze(-1)).detach()  # (N, C)
            at.recorded[f"weight_{name}"] = weights[name].mean()
            at.recorded[f"pull_{name}"] = pulls.norm(dim=-1).mean()
        return with_labels(self.alpha, sum(soft[1:], soft[0]), at)


def flat(t: Scalar) -> Scalar:
    """A temperature by image (N, 1) as (N,)."""
    return t.flatten() if isinstance(t, Tensor) and t.ndim > 0 else t


def with_labels(alpha: float, soft: Tensor, at: Moment) -> Tensor:
    """α·soft + (1 − α)·L_S, both (); at α = 1 the soft loss alone."""
    return soft if alpha == 1 else alpha * soft + (1 - alpha) * hard_cross_entropy(at.zs, at.y)


def several(teachers: Sequence[str], objective: Objective, temperature: Policy, until: float = 1.0) -> Stage:
    """A stage that learns from all of these at once. KitError for fewer than two, for one that is there twice, and for
    a temperature that follows other weights than the loss has, or has one t a teacher for a loss that needs one."""
    teachers = (teachers,) if isinstance(teachers, str) else tuple(teachers)
    if len(set(teachers)) < max(2, len(teachers)):
        raise KitError(f"teachers {', '.join(teachers) or 'none'} are not allowed; allowed: two or more, each once")
    had = getattr(objective, "weights", Equal())
    if (followed := getattr(temperature, "weights", had)) != had:
        raise KitError(f"temperature {temperature.kind!r} of {followed!r} is not allowed; allowed: {had!r}, the loss's")
    apart = isinstance(temperature.begin(teachers), Mapping) or getattr(temperature, "level", False)
    if getattr(objective, "needs_one_t", False) and apart:
        raise KitError(f"temperature {temperature.kind!r} is not allowed with loss {objective.kind!r}; allowed: one t")
    return Stage(name="several teachers", teacher=teachers, objective=objective, temperature=temperature, until=until)


def at_once(teachers: Sequence[str], temperature: Policy, alpha: float = 1.0) -> tuple[Stage, ...]:
    """All of these while the temperature falls, equally weighed, then hard labels alone, as the paper's procedure ends.

    Raises KitError as `several` does.
    """
    return (several(teachers, Weighted(alpha=alpha), temperature, until=SOFT_END), *hard_labels())
