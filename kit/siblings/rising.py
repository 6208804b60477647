"""A reversed schedule: t rises from 1 to K, as a study of fixed and moving temperatures under SGD advises (arXiv
2603.02430). What the paper's fall from K to 1 has to beat besides the schedule that falls."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from kit.recipe import big_teacher_only
from kit.siblings.base import always
from kit.temperature import COLD, Policy
from kit.training.moment import Moment


class Rising(Policy):
    """t rises evenly from 1 to K over its stage's budget; the stage never ends by it."""

    kind: Literal["rising"] = "rising"
    k: float = Field(default=20.0, ge=1, description="where t ends")
    steerable: ClassVar[tuple[str, ...]] = ("k",)

    @property
    def start(self) -> float:
        return COLD

    def next(self, t: float, at: Moment) -> float:
        return COLD + (self.k - COLD) * min(1.0, (at.step + 1) / at.stage_steps)


stages = always(big_teacher_only(Rising()))
