"""Logit standardisation: logits are divided by their deviation before they are softened (Sun et al., CVPR 2024).

softmax((z − mean)/std/τ) is softmax(z/(τ·std)), as softmax knows no common offset: a temperature by image and side. So
it wraps any logit loss, as the policy `ByDeviation` with τ. The weight is 9·τ² for every image; the student's scale is
left to the hard labels, so that agreement at t = 1 suffers by construction.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from kit.losses import Temperature, kl_divergences
from kit.siblings.base import Weighed, always, one_stage
from kit.siblings.normkd import ByDeviation
from kit.training.moment import Moment

TAU, WEIGHT = 2.0, 9.0


class Divergence(Weighed):
    """0.1·CE + soft·KL, without a factor by image."""

    kind: Literal["divergence"] = "divergence"

    def soft_losses(self, zt: Tensor, t: Temperature, at: Moment) -> Tensor:
        return kl_divergences(zt, at.zs, t)


stages = always(one_stage(Divergence(soft=WEIGHT * TAU**2), ByDeviation(times=TAU)))
