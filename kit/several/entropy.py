"""EBKD's weights: a teacher counts the more, the surer it is of an image, whatever the label.

w_k = (1 − H_k/ΣH)/(K − 1), with the entropy H_k of the teacher's p at t = 1. As compared in CA-MKD's code (Zhang et
al., ICASSP 2022), where the weights add up to K − 1 and the loss is divided by K; here they add up to 1.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kit.losses import cross_entropies
from kit.recipe import Moment
from kit.several.base import Weights


class Entropy(Weights):
    """By image, the less entropy the more weight."""

    kind: Literal["entropy"] = "entropy"

    def of(self, at: Moment) -> Tensor:
        entropies = torch.stack([cross_entropies(zt, zt, 1.0) for zt in at.logits.values()])  # (K, N)
        total = entropies.sum(0)
        shares = torch.where(total > 0, entropies / total, 1 / len(entropies))  # all entirely sure: alike
        return (1 - shares) / (len(entropies) - 1)
