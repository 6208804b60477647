"""Weights by the temperature's own terms: how far the student already follows each teacher. Ours, without a twin.

∂L_D/∂t has two terms (`kit.losses.TemperatureGradient`): mismatch, negative while the student does not follow, and
spread, positive once it does. spread/(spread + |mismatch|) goes from 0 to 1 with how far it does; the teachers' shares
of the sum are their weights. It asks for no label, and a teacher that cannot be followed loses its say.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kit.losses import temperature_gradient
from kit.recipe import Moment
from kit.several.base import Weights


class Followed(Weights):
    """One weight a batch, the further followed the more."""

    kind: Literal["followed"] = "followed"

    def of(self, at: Moment) -> Tensor:
        followed = []
        for zt, t in at.taught().values():
            terms = temperature_gradient(zt / t.teacher, at.zs / t.student, 1.0)  # both times t: the share is the same
            mismatch, spread = at.ranks.mean(torch.stack(terms))
            followed.append(spread.clamp(min=0) / (spread.clamp(min=0) + mismatch.abs()))
        shares = torch.stack(followed).nan_to_num(0.0)  # (K,); 0/0 where a network gives the same logit everywhere
        return shares / shares.sum() if shares.sum() > 0 else torch.full_like(shares, 1 / len(shares))
