"""AEKD's weights: the step on which the teachers agree most (Du et al., NeurIPS 2020).

Of the K gradients at the student's logits, each a mean over the batch, it is the point of least norm in their hull,
no weight above `most`. The reference code finds it by a one-class ν-SVM on their Gram matrix, ν = 1/(most·K). So does
this, though of two teachers it is known in closed form, and of a Gram matrix brought to a mean diagonal of 1: the
solver's tolerance is absolute, and small gradients meet it before they have moved.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from kit.recipe import Moment
from kit.several.base import Weights, pull


class MinNorm(Weights):
    """One weight a batch, at most `most` each."""

    kind: Literal["min-norm"] = "min-norm"
    most: float = Field(default=0.6, ge=0.5, le=1, description="the paper's tolerance C")

    def of(self, at: Moment) -> Tensor:
        gradients = torch.stack([pull(zt, at.zs, t).mean(0) for zt, t in at.taught().values()])  # (K, C)
        gradients = at.ranks.mean(gradients).double()
        return torch.as_tensor(min_norm_weights(gradients @ gradients.T, self.most)).to(at.zs)


def min_norm_weights(gram: Tensor, most: float) -> np.ndarray:
    """argmin wᵀGw over weights (K,) that add up to 1, none above `most`. Alike where the gradients are zero or NaN."""
    count, scale = len(gram), float(gram.trace()) / len(gram)
    if not 0 < scale < np.inf:
        return np.full(count, 1 / count)
    g = (gram / scale).cpu().numpy()
    if count == 2:
        apart = g[0, 0] + g[1, 1] - 2 * g[0, 1]  # |g_1 − g_2|²
        first = np.clip((g[1, 1] - g[0, 1]) / apart, 1 - most, most) if apart > 0 else 0.5
        return np.array([first, 1 - first])
    from sklearn.svm import OneClassSVM  # here, as it takes longer to import than all of this room

    fitted = OneClassSVM(kernel="precomputed", nu=1 / (most * count), tol=1e-10).fit(g)
    weights = np.zeros(count)
    weights[fitted.support_] = fitted.dual_coef_[0]
    return weights / weights.sum()
