"""[10], second reading: the teacher learns along and is held near its student (ProKT; Shi et al., 2021)."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from kit.losses import eq1_hinton, hard_cross_entropy, kl_divergence
from kit.methods.base import Method, straight, throughout
from kit.recipe import ALPHA, Moment, Objective


class HeldNear(Objective):
    """Student: Eq. (1), reading `hinton`. Teacher: (1−hold)·CE(y, zt) + hold·KL(p(zs,1) ‖ p(zt,1)), a step a batch.

    The teacher starts from its trained weights (ProKT's starts from a language model's) and keeps its batch norms'
    statistics. Both take their step on the same batch, each with the other's logits from before that step.
    """

    kind: Literal["held near"] = "held near"
    alpha: float = Field(default=ALPHA, ge=0, le=1)
    hold: float = Field(default=0.5, ge=0, le=1)
    teacher_lr: float = Field(default=0.01, gt=0)
    trains_teacher: ClassVar[bool] = True
    teacher_work: ClassVar[float] = 3  # forward and backward

    def __call__(self, at: Moment) -> Tensor:
        return eq1_hinton(at.zt.detach(), at.zs, at.y, at.t, self.alpha)

    def teacher_loss(self, at: Moment) -> Tensor:
        near = kl_divergence(at.zs.detach(), at.zt, 1.0)
        return (1 - self.hold) * hard_cross_entropy(at.zt, at.y) + self.hold * near


stages = throughout(HeldNear())
METHOD = Method(
    key="[10]",
    title="complexity gap, teacher held near",
    reading="teacher and student trained together, the teacher on the labels and on the student's distribution, the "
    "student by Eq. (1) (ProKT: by KL alone at T=1, from the updated teacher, whose classifier starts at zero)",
    cite="unknown reference; second reading after ProKT, Shi et al., 2021",
    build=straight(stages),
)
