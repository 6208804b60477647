"""CA-MKD's weights: a teacher counts the more, the better it knows an image's label (Zhang et al., ICASSP 2022).

w_k = (1 − softmax_k(L_S(y, p(zt_k, 1))))/(K − 1): of two teachers one may count all, of three at most half. Its logits'
part alone; the code divides that by K once more, which the paper does not: here the weights add up to 1.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from kit.recipe import Moment
from kit.several.base import Weights


class Confidence(Weights):
    """By image, the smaller the teacher's own loss the more weight."""

    kind: Literal["confidence"] = "confidence"
    needs_labels: ClassVar[bool] = True

    def of(self, at: Moment) -> Tensor:
        losses = [F.cross_entropy(zt, at.y, reduction="none") for zt in at.logits.values()]  # (N,) each
        return (1 - torch.stack(losses).softmax(0)) / (len(losses) - 1)
