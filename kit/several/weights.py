"""What each teacher counts in a batch: weights that add up to 1."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from kit.data.augment import mixed
from kit.losses import Scalar, Sides, cross_entropies, softened, temperature_gradient
from kit.training.kind import Kind
from kit.training.moment import Moment


class Weights(Kind):
    """What each teacher counts in a batch. Subclass it and say so in `of`; one teacher alone always counts 1."""

    needs_labels: ClassVar[bool] = False

    def __call__(self, at: Moment) -> dict[str, Tensor]:
        """By teacher, its weight: a number (), or (N,) by image. Of all teachers they add up to 1."""
        if len(at.logits) == 1:
            return {name: zt.new_ones(()) for name, zt in at.logits.items()}
        with torch.no_grad():
            return dict(zip(at.logits, self.of(at), strict=True))

    def of(self, at: Moment) -> Tensor:
        """Of two teachers and more in their order: (K,), or (K, N) by image."""
        raise NotImplementedError


class Equal(Weights):
    """1/K each: AVER, the mean of the losses."""

    kind: Literal["equal"] = "equal"

    def of(self, at: Moment) -> Tensor:
        return at.zs.new_full((len(at.logits),), 1 / len(at.logits))


class Entropy(Weights):
    """EBKD's: the surer a teacher is of an image, whatever the label, the more it counts.

    w_k = (1 − H_k/ΣH)/(K − 1), with the entropy H_k of the teacher's p at t = 1. As compared in CA-MKD's code (Zhang et
    al., ICASSP 2022), where the weights add up to K − 1 and the loss is divided by K; here they add up to 1.
    """

    kind: Literal["entropy"] = "entropy"

    def of(self, at: Moment) -> Tensor:
        entropies = torch.stack([cross_entropies(zt, zt, 1.0) for zt in at.logits.values()])  # (K, N)
        total = entropies.sum(0)
        shares = torch.where(total > 0, entropies / total, 1 / len(entropies))  # all entirely sure: alike
        return (1 - shares) / (len(entropies) - 1)


class Confidence(Weights):
    """CA-MKD's: the better a teacher knows an image's label, the more it counts (Zhang et al., ICASSP 2022).

    w_k = (1 − softmax_k(L_S(y, p(zt_k, 1))))/(K − 1): of two teachers one may count all, of three at most half. Its
    logits' part alone; the code divides that by K once more, which the paper does not: here the weights add up to 1.
    """

    kind: Literal["confidence"] = "confidence"
    needs_labels: ClassVar[bool] = True

    def of(self, at: Moment) -> Tensor:
        losses = [F.cross_entropy(zt, at.y, reduction="none") for zt in at.logits.values()]  # (N,) each
        return (1 - torch.stack(losses).softmax(0)) / (len(losses) - 1)


class Drawn(Weights):
    """Random weights, what any way to choose weights has to beat: in each batch a point of the simplex, all equally
    likely; by `seed` and the stage's batch the same each time."""

    kind: Literal["drawn"] = "drawn"
    seed: int = Field(default=0, ge=0)

    def of(self, at: Moment) -> Tensor:
        generator = torch.Generator().manual_seed(mixed(self.seed, at.step))
        drawn = torch.empty(len(at.logits)).exponential_(generator=generator)  # normalised, a flat Dirichlet
        return (drawn / drawn.sum()).to(at.zs)


class Followed(Weights):
    """Weights by the temperature's own terms, one a batch: how far the student already follows each teacher. Ours,
    without a twin.

    ∂L_D/∂t has two terms (`kit.losses.TemperatureGradient`): mismatch, negative while the student does not follow, and
    spread, positive once it does. spread/(spread + |mismatch|) goes from 0 to 1 with how far it does; the teachers'
    shares of the sum are their weights. It asks for no label, and a teacher that cannot be followed loses its say.
    """

    kind: Literal["followed"] = "followed"

    def of(self, at: Moment) -> Tensor:
        followed = []
        for zt, t in at.taught().values():
            terms = temperature_gradient(zt / t.teacher, at.zs / t.student, 1.0)  # both times t: the share is the same
            mismatch, spread = at.ranks.mean(torch.stack(terms))
            followed.append(spread.clamp(min=0) / (spread.clamp(min=0) + mismatch.abs()))
        shares = torch.stack(followed).nan_to_num(0.0)  # (K,); 0/0 where a network gives the same logit everywhere
        return shares / shares.sum() if shares.sum() > 0 else torch.full_like(shares, 1 / len(shares))


class MinNorm(Weights):
    """AEKD's, one a batch, at most `most` each: the step on which the teachers agree most (Du et al., NeurIPS 2020).

    Of the K gradients at the student's logits, each a mean over the batch, it is the point of least norm in their hull,
    no weight above `most`. The reference code finds it by a one-class ν-SVM on their Gram matrix, ν = 1/(most·K). So
    does this, though of two teachers it is known in closed form, and of a Gram matrix brought to a mean diagonal of 1:
    the solver's tolerance is absolute, and small gradients meet it before they have moved.
    """

    kind: Literal["min-norm"] = "min-norm"
    most: float = Field(default=0.6, ge=0.5, le=1, description="the paper's tolerance C")

    def of(self, at: Moment) -> Tensor:
        gradients = torch.stack([pull(zt, at.zs, t).mean(0) for zt, t in at.taught().values()])  # (K, C)
        gradients = at.ranks.mean(gradients).double()
        return torch.as_tensor(min_norm_weights(gradients @ gradients.T, self.most)).to(at.zs)


def pull(zt: Tensor, zs: Tensor, t: Sides, factor: Scalar = 1.0) -> Tensor:
    """∂/∂zs of each image's factor·t_s²·L_D(p(zt, t_t), p(zs, t_s)), (N, C): factor · t_s · (q − p)."""
    return factor * t.student * (softened(zs, t.student) - softened(zt, t.teacher))


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
