"""One t a teacher: θ_k = log t_k follows the teacher's own gradient, and who is cold graduates.

A graduate is not asked any more, and costs no forward pass; the stage is over when all have graduated. The paper's
sequence, small teacher then big, is the case where one is on at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from kit.losses import Temperature
from kit.recipe import K, Moment
from kit.several import levels
from kit.temperature import COLD, Adaptive, Policy

Each = dict[str, float]  # t by teacher


class Graduation(Policy):
    """All teachers at once, each from K down to 1 as the student follows it. `level`: their logits on one level first.

    Each has an `Adaptive` temperature of this K and rate.
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
        return levels.given(used, at.logits, at.ranks) if self.level else used

    def next(self, t: Each, at: Moment) -> Each:
        logits = levels.levelled(at.logits, at.ranks) if self.level else at.logits
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
