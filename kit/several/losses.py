"""The losses of several teachers, weighed or averaged, and the stage that has one.

A teacher's weight is not its influence, as t_k has a say in that, too: what pulls at the student is ∂L_k/∂zs, whose
norm is recorded beside the weight, both by teacher.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field, SerializeAsAny, model_validator
from torch import Tensor
from torch.nn import functional as F

from kit.errors import KitError
from kit.losses import Scalar, hard_cross_entropy, soft_cross_entropy, softened, weighed_mean
from kit.recipe import Objective, Stage, hard_labels
from kit.several.weights import Equal, Weights, pull
from kit.temperature import Policy
from kit.training.moment import Moment

SOFT_END = 0.8  # the share of the epochs by which the teachers end at the latest, as in the paper's procedure


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


class Averaged(Objective):
    """One teacher made of several: α·t²·L_D(p̄, p(zs, t)) + (1 − α)·L_S, with p̄ of averaged logits or probabilities.

    As L_D is linear in p, averaged probabilities at one t give what averaged losses give, to the bit of rounding;
    averaged logits give something else, a geometric mean of the probabilities.
    """

    kind: Literal["averaged"] = "averaged"
    of: Literal["logits", "probabilities"] = "logits"
    alpha: float = Field(default=1.0, ge=0, le=1)
    steerable: ClassVar[tuple[str, ...]] = ("alpha",)
    needs_one_t: ClassVar[bool] = True

    def __call__(self, at: Moment) -> Tensor:
        logits, temperatures = zip(*at.taught().values(), strict=True)
        t = temperatures[0].student
        if len({side for each in temperatures for side in each}) > 1:  # of tensors, the same one and not an equal one
            raise KitError(f"averaged {self.of} need one t for all teachers; allowed: weighted losses")
        if self.of == "logits":
            soft = soft_cross_entropy(torch.stack(logits).mean(0), at.zs, t, t * t)
        else:
            p = torch.stack([softened(zt, t) for zt in logits]).mean(0)  # (N, C)
            losses = -(p * F.log_softmax(at.zs / t, dim=-1)).sum(-1)  # (N,)
            soft = weighed_mean(losses, t * t)
        return with_labels(self.alpha, soft, at)


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
