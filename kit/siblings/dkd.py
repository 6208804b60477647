"""DKD: what the teacher says of the true class, and of the others, weighed apart (Zhao et al., CVPR 2022).

KL(p ‖ q) = TCKD + (1 − p_y)·NCKD: the divergence of (p_y, 1 − p_y), and that over the other classes among themselves.
DKD replaces the factor 1 − p_y, which is small where the teacher is sure, by the constant β. With two classes nothing
is left of NCKD.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor
from torch.nn import functional as F

from kit.losses import Temperature, sides, squared
from kit.siblings.base import WARM_UP, Share, Weighed, Weight, always, by_image, one_stage
from kit.temperature import Fixed
from kit.training.moment import Moment


class Parts(NamedTuple):
    """The two divergences of each image, (N,)."""

    target: Tensor  # TCKD
    others: Tensor  # NCKD


def decoupled(zt: Tensor, zs: Tensor, y: Tensor, t: Temperature) -> Parts:
    """TCKD and NCKD of each image, in logarithms throughout, so that a sure teacher gives no log of zero."""
    log_p, log_q = (F.log_softmax(z / side, dim=-1) for z, side in zip((zt, zs), sides(t), strict=True))  # (N, C)
    true = F.one_hot(y, zt.shape[-1]).bool()
    # log(1 − p_y), (N,)
    rest_p, rest_q = (log.masked_fill(true, -float("inf")).logsumexp(-1) for log in (log_p, log_q))
    of_true_p, of_true_q = log_p[true], log_q[true]  # (N,)
    target = of_true_p.exp() * (of_true_p - of_true_q) + rest_p.exp() * (rest_p - rest_q)
    among_p, among_q = (
        (log - rest[:, None])[~true].view(len(y), -1) for log, rest in ((log_p, rest_p), (log_q, rest_q))
    )
    return Parts(target, (among_p.exp() * (among_p - among_q)).sum(-1))


class Decoupled(Weighed):
    """CE + w·T²·(α·TCKD + β·NCKD)."""

    kind: Literal["dkd"] = "dkd"
    soft: Weight = 1.0
    hard: Weight = 1.0
    warm_up: Share = WARM_UP
    alpha: Weight = 1.0
    beta: Weight = 8.0

    def soft_losses(self, zt: Tensor, t: Temperature, at: Moment) -> Tensor:
        parts = decoupled(zt, at.zs, at.y, t)
        return by_image(squared(t), self.alpha * parts.target + self.beta * parts.others)


stages = always(one_stage(Decoupled(), Fixed(T=4.0)))
