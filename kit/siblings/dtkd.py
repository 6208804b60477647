"""DTKD: the side that is surer is softened more (Wei & Bai, arXiv 2404.12711).

Of sharpnesses u of an image's teacher logits and v of its student's, T_t = 2u/(u+v)·T₀ and T_s = 2v/(u+v)·T₀. The
paper derives logsumexp as sharpness, the reference code takes the maximum; the code is the default reading. A young
student's maximum is near or below zero, where the code has tiny or negative temperatures: here sharpness is at least
`least`. T_s keeps its graph, as in the code. The authors' own erratum says that two of the paper's formulas are
derived wrongly, and that the results stand as measured.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from kit.losses import Sides, Temperature
from kit.siblings.base import WARM_UP, Share, Weighed, Weight, always, one_stage, tempered
from kit.temperature import Policy
from kit.training.moment import Moment


class Dynamic(Policy):
    """A temperature an image and a side, by their shares of the sharpness."""

    kind: Literal["dtkd"] = "dtkd"
    T: float = Field(default=4.0, gt=0)
    sharpness: Literal["maximum", "logsumexp"] = "maximum"
    least: float = Field(default=1.0, gt=0)

    @property
    def start(self) -> float:
        return self.T

    def given(self, t: float, at: Moment) -> dict[str, Sides]:
        v = self._sharpness(at.zs)  # (N, 1)
        surer = {name: self._sharpness(zt) for name, zt in at.logits.items()}
        return {name: Sides(2 * u / (u + v) * t, 2 * v / (u + v) * t) for name, u in surer.items()}

    def _sharpness(self, z: Tensor) -> Tensor:
        found = z.amax(-1, keepdim=True) if self.sharpness == "maximum" else z.logsumexp(-1, keepdim=True)
        return found.clamp(min=self.least)


class BothSides(Weighed):
    """CE + w·(α·T_t·T_s·KL + β·T₀²·KL at T₀): the moving temperatures beside the fixed one."""

    kind: Literal["dtkd"] = "dtkd"
    soft: Weight = 1.0
    hard: Weight = 1.0
    warm_up: Share = WARM_UP
    alpha: Weight = 3.0
    beta: Weight = 1.0
    T: float = Field(default=4.0, gt=0)

    def soft_losses(self, zt: Tensor, t: Temperature, at: Moment) -> Tensor:
        return self.alpha * tempered(zt, at.zs, t) + self.beta * tempered(zt, at.zs, self.T)


stages = always(one_stage(BothSides(), Dynamic()))
