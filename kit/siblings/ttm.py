"""TTM and WTTM: the teacher alone is softened, the student learns at t = 1 (Zheng & Yang, ICLR 2024).

The teacher's p^γ, normalised, is p(zt, 1/γ). There is no T². WTTM weighs each image by U = Σ_i p_i^γ, which is large
where the teacher is unsure. Weights were chosen by pair of networks; the default is the published example's.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from kit.losses import Sides, Temperature, kl_divergences, sides, softened
from kit.siblings.base import Weighed, Weight, always, one_stage
from kit.temperature import Policy
from kit.training.moment import Moment


class TeacherAlone(Policy):
    """T for the teacher, 1 for the student."""

    kind: Literal["teacher alone"] = "teacher alone"
    T: float = Field(default=10.0, gt=0)

    @property
    def start(self) -> float:
        return self.T

    def given(self, t: float, at: Moment) -> Sides:
        return Sides(t, 1.0)


class Matched(Weighed):
    """CE + soft·KL(p^γ ‖ q), by image times U where it is `weighted`."""

    kind: Literal["ttm"] = "ttm"
    soft: Weight = 45.0
    hard: Weight = 1.0
    weighted: bool = False

    def soft_losses(self, zt: Tensor, t: Temperature, at: Moment) -> Tensor:
        losses = kl_divergences(zt, at.zs, t)
        if not self.weighted:
            return losses
        return (softened(zt, 1.0) ** (1 / sides(t).teacher)).sum(-1) * losses  # U (N,)


stages = always(one_stage(Matched(), TeacherAlone()))
weighted_stages = always(one_stage(Matched(soft=4.0, weighted=True), TeacherAlone(T=5.0)))
