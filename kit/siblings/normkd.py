"""NormKD: each image's temperature is twice its logits' deviation, for either side (Chi et al., arXiv 2308.00520)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from kit.losses import Sides, Temperature, kl_divergences, sides
from kit.siblings.base import Weighed, always, by_image, one_stage
from kit.temperature import Policy
from kit.training.moment import Moment

TINY = 1e-7  # logits that are all alike have no deviation to divide by


class ByDeviation(Policy):
    """T = `times` · std(z) over the classes, by image and side; the student's keeps its graph, as in the code."""

    kind: Literal["by deviation"] = "by deviation"
    times: float = Field(default=2.0, gt=0)

    @property
    def start(self) -> float:
        return self.times

    def given(self, t: float, at: Moment) -> dict[str, Sides]:
        return {name: Sides(t * deviation(zt), t * deviation(at.zs)) for name, zt in at.logits.items()}


def deviation(z: Tensor) -> Tensor:
    """Of each image's logits over the classes, (N, 1)."""
    return z.std(-1, keepdim=True) + TINY


class TeacherSquared(Weighed):
    """0.1·CE + 0.9·T_t²·KL: the teacher's temperature alone, by image, gives the factor."""

    kind: Literal["normkd"] = "normkd"

    def soft_losses(self, zt: Tensor, t: Temperature, at: Moment) -> Tensor:
        return by_image(sides(t).teacher ** 2, kl_divergences(zt, at.zs, t))


stages = always(one_stage(TeacherSquared(), ByDeviation()))
