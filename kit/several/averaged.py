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
from kit.losses import soft_cross_entropy, softened, weighed_mean
from kit.recipe import Moment, Objective
from kit.several.base import with_labels


class Averaged(Objective):
    """α·t²·L_D(p̄, p(zs, t)) + (1 − α)·L_S, with p̄ of averaged logits or averaged probabilities."""

    kind: Literal["averaged"] = "averaged"
    of: Literal["logits", "probabilities"] = "logits"
    alpha: float = Field(default=1.0, ge=0, le=1)
    steerable: ClassVar[tuple[str, ...]] = ("alpha",)
    needs_one_t: ClassVar[bool] = True

    def __call__(self, at: Moment) -> Tensor:
        logits, temperatures = zip(*at.taught().values(), strict=True)
        t = temperatures[0].student
        if len({side for each in temperatures for side in each}) > 1:  # of tensors, the same one and not an equal one
            raise KitError(f"averaged {self.of} need one t for all teachers; allowed: weighted losses")
        if self.of == "logits":
            soft = soft_cross_entropy(torch.stack(logits).mean(0), at.zs, t, t * t)
        else:
            p = torch.stack([softened(zt, t) for zt in logits]).mean(0)  # (N, C)
            losses = -(p * F.log_softmax(at.zs / t, dim=-1)).sum(-1)  # (N,)
            soft = weighed_mean(losses, t * t)
        return with_labels(self.alpha, soft, at)
