"""Temperatures of several teachers: one t for all of them, or one each until they graduate.

`level`: with their logits on one level first, each divided by its own deviation, times the mean of all. Two copies of
one teacher, the logits of one twice those of the other, should count alike; at one t the larger ones are sharper and
pull harder. Brought to one deviation they are the same. A teacher alone stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from pydantic import Field, SerializeAsAny
from torch import Tensor

from kit.losses import Sides, Temperature, sides
from kit.parallel.ranks import Ranks
from kit.recipe import K
from kit.several.weights import Equal, Weights
from kit.temperature import COLD, Adaptive, Policy
from kit.training.moment import Moment

Each = dict[str, float]  # t by teacher


class Together(Adaptive):
    """One t for all teachers: θ = log t follows the weighted sum of their gradients, by the weights that the loss has.

    ∂/∂t Σ_k w_k·L_D(p_k, q) = Σ_k w_k·g_k(t), with the g_k of `kit.losses.temperature_gradient`; by image the mean over
    images of Σ_k w_k(x)·g_k(t, x). One curve, one ⌊t⌋; the stage is over when it is cold. `Adaptive` is the case of
    equal weights.
    """

    kind: Literal["together"] = "together"  # type: ignore[assignment]
    weights: SerializeAsAny[Weights] = Equal()
    level: bool = False

    def given(self, t: float, at: Moment) -> Mapping[str, Sides]:
        if self.level:
            return levelling(dict.fromkeys(at.logits, self.used(t)), at.logits, at.ranks)
        return dict.fromkeys(at.logits, sides(self.used(t)))

    def next(self, t: float, at: Moment) -> float:
        weights = self.weights(replace(at, temperatures=self.given(t, at)))  # as the loss has them
        logits = levelled(at.logits, at.ranks) if self.level else at.logits
        terms = [self.terms(zt, at.zs, t, weights[name]) for name, zt in logits.items()]
        return self.moved(t, torch.stack(terms).sum(0), at)


class Graduation(Policy):
    """One t a teacher: each is an `Adaptive` temperature of this K and rate, and falls as the student follows its own
    teacher. Who is cold graduates.

    A graduate is not asked any more, and costs no forward pass; the stage is over when all have graduated. The paper's
    sequence, small teacher then big, is the case where one is on at a time.
    """

    kind: Literal["graduation", "one at a time"] = "graduation"
    k: float = Field(default=K, ge=1, description="where each t starts, and its bound")
    rate: float = Field(gt=0, description="learning rate of each θ in one epoch")
    normalised: bool = True
    level: bool = False
    early: ClassVar[bool] = True
    steerable: ClassVar[tuple[str, ...]] = ("k", "rate")

    @property
    def each(self) -> Adaptive:
        return Adaptive(k=self.k, rate=self.rate, normalised=self.normalised)

    @property
    def start(self) -> float:
        return self.k

    def begin(self, teachers: Sequence[str]) -> Each:
        return dict.fromkeys(teachers, self.k)

    def used(self, t: Each) -> Each:
        """⌊t⌋ of those that have not graduated. Where no stage comes after, all stay at its end, at t = 1."""
        used = {name: self.each.used(each) for name, each in t.items()}
        return {name: each for name, each in used.items() if each > COLD} or used

    def given(self, t: Each, at: Moment) -> Mapping[str, Temperature]:
        used = self.used(t)
        return levelling(used, at.logits, at.ranks) if self.level else used

    def next(self, t: Each, at: Moment) -> Each:
        logits = levelled(at.logits, at.ranks) if self.level else at.logits
        return t | {name: self._moved(name, t[name], replace(at, logits={name: zt})) for name, zt in logits.items()}

    def _moved(self, name: str, t: float, at: Moment) -> float:
        """One teacher's t after a batch; what its policy says of it is kept as `small.gradient`, …"""
        own: dict[str, float] = {}
        moved = self.each.next(t, replace(at, memory=own))
        at.memory.update({f"{name}.{key}": value for key, value in own.items()})
        return moved

    def steered(self, t: Each) -> Each:
        return {name: self.each.steered(each) for name, each in t.items()}

    def is_cold(self, t: Each) -> bool:
        return all(self.each.is_cold(each) for each in t.values())


class OneAtATime(Graduation):
    """One teacher after the other, in the stage's order: the next begins when the one before has graduated.

    `turns` are the shares of the stage by which the first teachers graduate at the latest.
    """

    kind: Literal["one at a time"] = "one at a time"
    turns: tuple[float, ...] = Field(default=(), description="such as 0.5625 for the first of two")

    def used(self, t: Each) -> Each:
        """⌊t⌋ of the first that has not graduated; where no stage comes after, the last one stays."""
        used = [*super().used(t).items()]
        return dict([used[-1 if self.is_cold(t) else 0]])

    def next(self, t: Each, at: Moment) -> Each:
        t = super().next(t, at)
        over = [name for name, turn in zip(t, self.turns, strict=False) if at.step + 1 >= round(turn * at.stage_steps)]
        return t | dict.fromkeys(over, COLD)


def deviations(logits: Mapping[str, Tensor], ranks: Ranks) -> dict[str, Tensor]:
    """By teacher, its logits' deviation over classes, a mean over the batch, over the mean of all teachers': ()."""
    own = ranks.mean(torch.stack([zt.std(-1, correction=0).mean() for zt in logits.values()]))  # (K,)
    return dict(zip(logits, own / own.mean() if len(own) > 1 else torch.ones_like(own), strict=True))


def levelled(logits: Mapping[str, Tensor], ranks: Ranks) -> dict[str, Tensor]:
    """The logits (N, C) with the same deviation each."""
    return {name: logits[name] / each for name, each in deviations(logits, ranks).items()}


def levelling(t: Mapping[str, float], logits: Mapping[str, Tensor], ranks: Ranks) -> dict[str, Sides]:
    """The temperatures by which the teachers' logits are softened as the levelled ones are by t, by teacher."""
    return {name: Sides(t[name] * each, t[name]) for name, each in deviations(logits, ranks).items()}
