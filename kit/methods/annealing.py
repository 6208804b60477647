"""[13] The paper does not say what it is. Default reading: Annealing-KD (Jafari et al., EACL 2021); second reading:
distillation that is stopped early (Cho & Hariharan, ICCV 2019).

Section 2.4's "+3.37 %" and "33 % less time" against the traditional method at T=5 are in Table 4 ours less [13] (Top-5
86.95 − 83.58, and 1 − 7921/11775), so the text may take that row for ordinary distillation at T=5.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from kit.methods.base import Method, straight
from kit.recipe import Moment, Objective, Stage, eq1, hard_labels
from kit.temperature import Scheduled

SOFT_END = 0.7  # the share of the run that stage I takes
STOPPED_AT = 0.5  # where the teacher is dropped in the second reading, as a share of the run


def phi(T: float, T_max: float) -> float:
    """Φ(T) = 1 − (T−1)/T_max: how much of the teacher's logits the student is asked for; 1 at T = 1."""
    return 1 - (T - 1) / T_max


class AnnealedRegression(Objective):
    """Stage I: ‖zs − Φ(T)·zt‖², a mean over the batch and the classes, T falling from T_max to 1."""

    kind: Literal["annealed regression"] = "annealed regression"
    T_max: float = Field(ge=1)

    def __call__(self, at: Moment) -> Tensor:
        return F.mse_loss(at.zs, phi(at.t, self.T_max) * at.zt)


def stages(T_max: float) -> tuple[Stage, ...]:
    """Regression on annealed logits, then hard labels. T falls every batch, not every epoch, and is not floored."""
    return (
        Stage(
            name="annealed logits",
            teacher="big",
            objective=AnnealedRegression(T_max=T_max),
            temperature=Scheduled(k=T_max, floor=False),
            until=SOFT_END,
        ),
        *hard_labels(),
    )


def stopped_early(T: float) -> tuple[Stage, ...]:
    """Ordinary distillation at a fixed T up to STOPPED_AT, then hard labels alone."""
    (distilled,) = eq1(T, "hinton")
    return (distilled.model_copy(update={"until": STOPPED_AT}), *hard_labels())


METHOD = Method(
    key="[13]",
    title="Annealing-KD",
    reading="mean squared error between zs and Φ(T)·zt, Φ(T) = 1−(T−1)/T_max, T from 20 to 1; then hard labels "
    "(its code: T_max 10, and a fresh optimiser for the hard labels)",
    cite="the paper does not say what [13] is; default reading: Jafari et al., EACL 2021",
    build=straight(stages),
)
EARLY_STOPPED = Method(
    key="[13]",
    title="early-stopped distillation",
    reading="ordinary distillation for the first half of the steps, then hard labels",
    cite="the paper does not say what [13] is; second reading: Cho & Hariharan, ICCV 2019",
    build=straight(stopped_early),
)
