"""What the temperature is next: fixed, adaptive (the paper's), or on a schedule.

A policy is frozen, validated data that knows where t starts, what of it a batch's losses use, what it is after that
batch, and which of its fields may be steered. Subclass `Policy` to bring your own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from kit.losses import Scalar, Temperature, entropy_gradient, temperature_gradient
from kit.training.kind import Kind
from kit.training.moment import Moment

COLD = 1.0  # the temperature at which a soft stage is over
LARGEST_EXPONENT = 700.0  # exp of more is no float: a diverging student's gradient asks for it

State = Any  # what of a temperature moves: a number, or a dictionary of one a teacher


class Policy(Kind):
    """A temperature as data with its behaviour. `kind` names it in descriptions."""

    moves: ClassVar[bool] = True  # whether t may change, and so end its stage before the budget does
    early: ClassVar[bool] = False  # whether `next` needs of a batch its logits and labels, and no gradient
    steerable: ClassVar[tuple[str, ...]] = ()  # fields that may be changed while a student trains

    @property
    def start(self) -> float:
        raise NotImplementedError(f"temperature {self.kind!r} does not say where t starts: `start`")

    def begin(self, teachers: Sequence[str]) -> State:
        """t at the begin of a stage with these teachers: one number, or one a teacher."""
        return self.start

    def used(self, t: State) -> State:
        """What the losses use of t."""
        return t

    def given(self, t: State, at: Moment) -> Temperature | Mapping[str, Temperature]:
        """What a batch's losses are given: a number, a tensor (N, 1), `Sides` of these, or one of them a teacher."""
        return self.used(t)

    def next(self, t: State, at: Moment) -> State:
        """t after a batch."""
        return t

    def steered(self, t: State) -> State:
        """t once a field of the policy has been changed to what it is now."""
        return t

    def is_cold(self, t: State) -> bool:
        """Whether the stage is over."""
        return False


class Fixed(Policy):
    """T stays where it is: the paper's rows T = 5 and T = 20."""

    kind: Literal["fixed"] = "fixed"
    moves: ClassVar[bool] = False
    T: float = Field(gt=0)

    @property
    def start(self) -> float:
        return self.T


class Falling(Policy):
    """t moves in [1, K], from K on; the losses use ⌊t⌋ where `floor` says so; where that is 1 the stage is over."""

    k: float = Field(default=20.0, ge=1, description="the paper's K, the temperature threshold; t stays in [1, K]")
    floor: bool = True  # the losses see ⌊t⌋, as the paper says
    steerable: ClassVar[tuple[str, ...]] = ("k",)

    @property
    def start(self) -> float:
        return self.k

    def used(self, t: float) -> float:
        return float(math.floor(t)) if self.floor and math.isfinite(t) else t

    def steered(self, t: float) -> float:
        return min(t, self.k)

    def is_cold(self, t: float) -> bool:
        return self.used(t) <= COLD


class Adaptive(Falling):
    """θ = log t follows the gradient of L_D, of several teachers the mean, from t = K down to t = 1 (Section 1.1; the
    readings are the options)."""

    kind: Literal["adaptive"] = "adaptive"
    rate: float = Field(gt=0, description="learning rate of θ in one epoch; a step takes rate / steps per epoch")
    optimiser: Literal["sgd", "adam"] = "sgd"
    follows: Literal["cross-entropy", "kl"] = "cross-entropy"  # whose gradient moves t; KL's drives t up to K
    # whether the gradient is taken per variance of the teacher's logits: a rate then suits any teacher and number of
    # classes. Runs from before this reading are described without it.
    normalised: bool = Field(default=False, exclude_if=lambda normalised: not normalised)
    early: ClassVar[bool] = True
    steerable: ClassVar[tuple[str, ...]] = ("k", "rate")

    def next(self, t: float, at: Moment) -> float:
        return self.moved(t, torch.stack([self.terms(zt, at.zs, t) for zt in at.logits.values()]).mean(0), at)

    def moved(self, t: float, terms: Tensor, at: Moment) -> float:
        """θ ← θ − step·∂L_D/∂θ, by `terms` (4,) of all teachers; written for t = exp(θ) so that t = K is exactly K."""
        moving, slope, mismatch, spread = (t * term for term in at.ranks.mean(terms).tolist())  # ∂/∂θ = t · ∂/∂t
        at.memory.update(gradient=slope, mismatch=mismatch, spread=spread)
        if not math.isfinite(moving):
            return t  # the student has diverged: the trainer will say so; or its teacher's logits are all alike
        step = self.rate / at.steps_per_epoch * self._direction(moving, at.memory, at.step + 1)
        change = min(-step, LARGEST_EXPONENT)
        return min(max(t * math.exp(change), COLD), self.k)

    def terms(self, zt: Tensor, zs: Tensor, t: float, weight: Scalar = 1.0) -> Tensor:
        """What moves t, the gradient ∂L_D/∂t that it comes from, and the two terms of the cross-entropy's, (4,)."""
        terms = temperature_gradient(zt, zs, t, weight)
        slope = terms.total if self.follows == "cross-entropy" else terms.total - entropy_gradient(zt, t, weight)
        scale = zt.var(-1, correction=0).mean() if self.normalised else 1.0
        return torch.stack([slope / scale, slope, *terms])

    def _direction(self, slope: float, memory: dict[str, float], seen: int) -> float:
        if self.optimiser == "sgd":
            return slope
        mean = memory["mean"] = 0.9 * memory.get("mean", 0.0) + 0.1 * slope
        square = memory["square"] = 0.999 * memory.get("square", 0.0) + 0.001 * (slope * slope)  # ** may raise
        return (mean / (1 - 0.9**seen)) / (math.sqrt(square / (1 - 0.999**seen)) + 1e-8)


class Scheduled(Falling):
    """t falls from K to 1 over its stage's budget whatever the student does: what adapting has to beat."""

    kind: Literal["schedule"] = "schedule"
    shape: Literal["linear", "exponential"] = "linear"

    def next(self, t: float, at: Moment) -> float:
        left = max(0.0, 1 - (at.step + 1) / at.stage_steps)
        return COLD + (self.k - COLD) * left if self.shape == "linear" else self.k**left
