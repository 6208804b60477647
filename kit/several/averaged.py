"""One teacher made of several: their logits averaged, or their probabilities.

As L_D is linear in p, averaged probabilities at one t give what averaged losses give, to the bit of rounding; averaged
logits give something else, a geometric mean of the probabilities.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from kit.errors import KitError
from kit.losses import soft_cross_entropy, softened
from kit.recipe import Moment, Objective
from kit.several.base import mixed, scores


class Averaged(Objective):
    """α·t²·L_D(p̄, p(zs, t)) + (1 − α)·L_S, with p̄ of averaged logits or averaged probabilities."""

    kind: Literal["averaged"] = "averaged"
    of: Literal["logits", "probabilities"] = "logits"
    alpha: float = Field(default=1.0, ge=0, le=1)
    steerable: ClassVar[tuple[str, ...]] = ("alpha",)

    def __call__(self, at: Moment) -> Tensor:
        logits, temperatures = zip(*scores(at).values(), strict=True)
        t = temperatures[0].student
        if any(side is not t and side != t for each in temperatures for side in each):
            raise KitError(f"averaged {self.of} need one t for all teachers; allowed: weighted losses")
        if self.of == "logits":
            soft = soft_cross_entropy(torch.stack(logits).mean(0), at.zs, t, t * t)
        else:
            p = torch.stack([softened(zt, t) for zt in logits]).mean(0)  # (N, C)
            soft = -t * t * (p * F.log_softmax(at.zs / t, dim=-1)).sum(-1).mean()
        return soft if self.alpha == 1 else mixed(self.alpha, soft, at)
