"""DIST: the student keeps its teacher's order, by Pearson's correlation (Huang et al., NeurIPS 2022).

Of softened outputs (N, C): 1 − ρ over each image's classes, and 1 − ρ over each class's images. The reference code
multiplies by τ², the paper does not; as a correlation has no scale, that is a plain weight, and the code's the default.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from kit.losses import Temperature, sides, softened, squared
from kit.siblings.base import Weighed, Weight, always, by_image, one_stage
from kit.temperature import Fixed
from kit.training.moment import Moment

TINY = 1e-8  # what has no deviation has no correlation


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's ρ of the rows of two matrices, (rows,)."""
    a, b = (each - each.mean(-1, keepdim=True) for each in (a, b))
    return (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1) + TINY)


class Correlated(Weighed):
    """CE + 2·τ²·((1 − ρ over classes) + (1 − ρ over images)); without τ² where `t_squared` is off, as in the paper."""

    kind: Literal["dist"] = "dist"
    soft: Weight = 2.0
    hard: Weight = 1.0
    t_squared: bool = True

    def soft_losses(self, zt: Tensor, t: Temperature, at: Moment) -> Tensor:
        p, q = (softened(z, side) for z, side in zip((zt, at.zs), sides(t), strict=True))
        losses = (1 - correlation(p, q)) + (1 - correlation(p.T, q.T)).mean()
        return by_image(squared(t), losses) if self.t_squared else losses


stages = always(one_stage(Correlated(), Fixed(T=4.0)))
