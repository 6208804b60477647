"""The paper's losses and the temperature's gradient: pure functions of logits.

Shapes: teacher and student logits `zt`, `zs` are `(N, C)`, labels `y` are `(N,)` integers. A temperature `t` is a
positive number or 0-d tensor, or a tensor `(N, 1)` with one an image; `Sides` gives teacher and student one each.
Every loss is a mean over the batch, in nats. p(z, t) = softmax(z / t).
"""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

Scalar = float | Tensor


class Sides(NamedTuple):
    """A temperature for the teacher's logits and one for the student's."""

    teacher: Scalar
    student: Scalar


Temperature = Scalar | Sides


def sides(t: Temperature) -> Sides:
    """The temperature of either side; one that is no `Sides` is both sides'."""
    return t if isinstance(t, Sides) else Sides(t, t)


def softened(z: Tensor, t: Scalar) -> Tensor:
    """p(z, t) = softmax(z / t), shape (N, C)."""
    return F.softmax(z / t, dim=-1)


def cross_entropies(zt: Tensor, zs: Tensor, t: Temperature) -> Tensor:
    """−Σ_i p_i(zt, t) log p_i(zs, t) of each image, shape (N,)."""
    tt, ts = sides(t)
    return -(softened(zt, tt) * F.log_softmax(zs / ts, dim=-1)).sum(-1)


def soft_cross_entropy(zt: Tensor, zs: Tensor, t: Temperature, weight: Scalar = 1.0) -> Tensor:
    """L_D(p(zt, t), p(zs, t)): the paper's "soft log cross-entropy". `weight` is a number, or (N, 1) by image."""
    return weighed_mean(cross_entropies(zt, zs, t), weight)


def weighed_mean(losses: Tensor, weight: Scalar) -> Tensor:
    """The mean of losses (N,) times a number, or times (N, 1) by image."""
    if isinstance(weight, Tensor) and weight.ndim > 0:
        return (weight.flatten() * losses).mean()
    return weight * losses.mean()


def kl_divergences(zt: Tensor, zs: Tensor, t: Temperature) -> Tensor:
    """KL(p(zt, t) ‖ p(zs, t)) of each image, shape (N,)."""
    tt, ts = sides(t)
    log_p, log_q = F.log_softmax(zt / tt, dim=-1), F.log_softmax(zs / ts, dim=-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def kl_divergence(zt: Tensor, zs: Tensor, t: Temperature) -> Tensor:
    """KL(p(zt, t) ‖ p(zs, t)): L_D less the teacher's entropy. Same gradient for the student, another one for t."""
    return kl_divergences(zt, zs, t).mean()


def hard_cross_entropy(zs: Tensor, y: Tensor, t: Scalar = 1.0) -> Tensor:
    """L_S(y, p(zs, t)) = −log p_y(zs, t)."""
    return F.cross_entropy(zs / t, y)


def eq1_printed(zt: Tensor, zs: Tensor, y: Tensor, t: Temperature, alpha: float) -> Tensor:
    """Eq. (1) to the letter: α·L_D(p(zt,T), p(zs,T)) + (1−α)·L_S(y, p(zs,T)); T in both terms and no T²."""
    return alpha * soft_cross_entropy(zt, zs, t) + (1 - alpha) * hard_cross_entropy(zs, y, sides(t).student)


def eq1_hinton(zt: Tensor, zs: Tensor, y: Tensor, t: Temperature, alpha: float) -> Tensor:
    """Eq. (1) as Hinton et al. (2015) weigh it: α·T²·L_D + (1−α)·L_S(y, p(zs, 1))."""
    return soft_cross_entropy(zt, zs, t, alpha * squared(t)) + (1 - alpha) * hard_cross_entropy(zs, y)


def squared(t: Temperature) -> Scalar:
    """T²; of two sides the product, by which the student's gradient keeps its size (Hinton et al. 2015)."""
    tt, ts = sides(t)
    return tt * ts


class TemperatureGradient(NamedTuple):
    """∂L_D/∂t, batch mean, as the two terms it is made of (each a 0-d tensor)."""

    mismatch: Tensor  # (E_p[zs] − E_q[zs]) / t²: negative while the student does not follow its teacher, so t rises
    spread: Tensor  #   Cov_p(zt, zs) / t³: positive once it does, so t falls

    @property
    def total(self) -> Tensor:
        return self.mismatch + self.spread


def temperature_gradient(zt: Tensor, zs: Tensor, t: Scalar, weight: Scalar = 1.0) -> TemperatureGradient:
    """∂L_D/∂t of the soft cross-entropy in closed form, p = p(zt, t), q = p(zs, t); t a number, `weight` one or (N,).

    ∂CE/∂t = (E_p[zs] − E_q[zs]) / t² + Cov_p(zt, zs) / t³, the corrected form of the paper's Section 1.1 (its printed
    formula is damaged; notebook 01 derives this one). ∂CE/∂log t is `t * total`.
    """
    p, q = softened(zt, t), softened(zs, t)  # (N, C)
    zt, zs = (z - (p * z).sum(-1, keepdim=True) for z in (zt, zs))  # no common offset
    mismatch, covariance = ((p - q) * zs).sum(-1), (p * zt * zs).sum(-1)  # (N,)
    return TemperatureGradient((weight * mismatch / t**2).mean(), (weight * covariance / t**3).mean())


def entropy_gradient(zt: Tensor, t: float, weight: Scalar = 1.0) -> Tensor:
    """∂H(p(zt, t))/∂t = Var_p(zt) / t³ ≥ 0, batch mean: what the soft cross-entropy has and KL lacks."""
    p = softened(zt, t)
    variance = (p * (zt - (p * zt).sum(-1, keepdim=True)) ** 2).sum(-1)
    return (weight * variance / t**3).mean()
