"""Temperatures that a stranger brings: each a class in a file of its own, which knows nothing of the kit's inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from kit.losses import Sides
from kit.temperature import Policy
from kit.training.moment import Moment


class ByImage(Policy):
    """Divides each image's logits by their own spread, times `pull`: one temperature an image."""

    kind: Literal["by image"] = "by image"
    moves: ClassVar[bool] = False
    pull: float = Field(default=2.0, gt=0)
    steerable: ClassVar[tuple[str, ...]] = ("pull",)

    @property
    def start(self) -> float:
        return self.pull

    def steered(self, t: float) -> float:
        return self.pull

    def given(self, t: float, at: Moment) -> Tensor:
        return t * at.zt.std(-1, keepdim=True)  # (N, 1)


class Graduating(Policy):
    """Cools each teacher as fast as the student agrees with it; the stage is over when all are cold."""

    kind: Literal["graduating"] = "graduating"
    k: float = Field(default=8.0, ge=1)
    rate: float = Field(default=4.0, gt=0)
    steerable: ClassVar[tuple[str, ...]] = ("k", "rate")

    @property
    def start(self) -> float:
        return self.k

    def begin(self, teachers: Sequence[str]) -> dict[str, float]:
        return dict.fromkeys(teachers, self.k)

    def steered(self, t: Mapping[str, float]) -> dict[str, float]:
        return {name: min(each, self.k) for name, each in t.items()}

    def next(self, t: Mapping[str, float], at: Moment) -> dict[str, float]:
        agreed = torch.stack([(zt.argmax(-1) == at.zs.argmax(-1)).double().mean() for zt in at.logits.values()])
        shares = zip(at.logits, at.ranks.mean(agreed).tolist(), strict=True)
        return {name: max(1.0, t[name] - self.rate * (0.1 + share) / at.steps_per_epoch) for name, share in shares}

    def is_cold(self, t: Mapping[str, float]) -> bool:
        return max(t.values()) <= 1


class Learned(Policy):
    """Climbs the loss: t is a tensor that collects a gradient, as in curricula that make distillation harder."""

    kind: Literal["learned"] = "learned"
    lr: float = Field(default=1.0, gt=0)

    @property
    def start(self) -> float:
        return 4.0

    def given(self, t: float, at: Moment) -> Tensor:
        return torch.tensor(t, requires_grad=True)

    def next(self, t: float, at: Moment) -> float:
        return max(1.0, t + self.lr * at.slopes["big"])


class BySide(Policy):
    """A sharper student: one temperature for the teacher's logits and one for the student's."""

    kind: Literal["by side"] = "by side"
    moves: ClassVar[bool] = False
    of_teacher: float = Field(default=4.0, gt=0)
    of_student: float = Field(default=2.0, gt=0)

    @property
    def start(self) -> float:
        return self.of_teacher

    def given(self, t: float, at: Moment) -> Sides:
        return Sides(self.of_teacher, self.of_student)
