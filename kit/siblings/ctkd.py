"""CTKD: a temperature that is learned against the student (Li et al., AAAI 2023), in its global form.

One number g gives τ = 1 + 20·sigmoid(g), which starts at g = 1, that is τ = 15.6. It moves by the student's own kind of
step, SGD with momentum and weight decay at the student's learning rate, which falls, on the gradient of the whole loss
in τ (τ² included), whose sign is turned: τ makes the loss larger. How much, λ, rises from 0 to 1 over the first 10 of
240 epochs. The reference code has it so, in one optimiser for both; its sign sits in λ, which runs from 0 to −1.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from kit.siblings.base import Weighed, always, one_stage
from kit.temperature import Policy
from kit.training.moment import Moment

BEGIN = 1.0  # g
RISES_OVER = 10 / 240  # of the stage: the share over which λ rises


class Learned(Policy):
    """τ = least + span·sigmoid(g) climbs the loss that the student descends."""

    kind: Literal["ctkd"] = "ctkd"
    least: float = Field(default=1.0, ge=1, exclude_if=lambda least: least == 1.0)
    span: float = Field(default=20.0, gt=0, exclude_if=lambda span: span == 20.0)
    lr: float | None = Field(default=None, ge=0, description="None: the student's at each step; a number: it stays")
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0)

    @property
    def start(self) -> float:
        return self._at(BEGIN)

    def given(self, t: float, at: Moment) -> dict[str, Tensor]:
        # leaves: the loss's gradient in τ comes back as a slope, each teacher's share of it
        return {name: torch.full((), t, device=at.zs.device, requires_grad=True) for name in at.logits}

    def next(self, t: float, at: Moment) -> float:
        share = (t - self.least) / self.span  # sigmoid(g)
        g = at.memory.get("g", BEGIN)
        strength = 0.5 * (1 - math.cos(math.pi * min(1.0, at.progress / RISES_OVER)))  # |λ|
        slope = sum(at.slopes.values()) * self.span * share * (1 - share)  # ∂L/∂g
        if not math.isfinite(slope):
            return t  # the student has diverged: the trainer will say so
        step = -strength * slope + self.weight_decay * g
        at.memory["velocity"] = self.momentum * at.memory.get("velocity", 0.0) + step
        at.memory["g"] = g - (at.lr if self.lr is None else self.lr) * at.memory["velocity"]
        return self._at(at.memory["g"])

    def _at(self, g: float) -> float:
        return self.least + self.span / (1 + math.exp(-g))


class Climbed(Weighed):
    """0.1·CE + 0.9·τ²·KL, differentiable in τ."""

    kind: Literal["ctkd"] = "ctkd"


stages = always(one_stage(Climbed(), Learned()))
