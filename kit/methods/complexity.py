"""[10] A loss that makes teacher and student alike in complexity, and both simple. The reference is unknown.

The text: the loss "makes the complexity of both smallest in training, and so controls how the transfer generalises".
Default reading: a network's complexity on an image is how steep its loss is there, n(x) = ‖∂CE(y, z(x))/∂x‖₂. The
teacher is trained already, so only the student's can fall: it is pulled to the teacher's and kept small.
Second reading: the teacher learns along and is held near its student (ProKT; Shi et al., 2021).
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kit.data.augment import normalise
from kit.data.base import Dataset, sample
from kit.losses import eq1_hinton, hard_cross_entropy, kl_divergence
from kit.methods.base import Method, straight, throughout
from kit.recipe import ALPHA, Moment, Objective

AT_ONCE = 100  # images: all that a network computes of them is kept, at the paper's widths some 37 MB of each


def input_gradient_norms(z: Tensor, y: Tensor, x: Tensor, create_graph: bool = False) -> Tensor:
    """n_i = ‖∂ Σ_j CE(y_j, z_j) / ∂x_i‖₂, shape (N,), for logits z (N, C) computed from images x (N, 3, H, W).

    In training mode batch norm couples a batch's images, so n_i then also holds what image i does to the others' loss.
    """
    loss = F.cross_entropy(z, y, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, x, create_graph=create_graph, retain_graph=True)  # (N, 3, H, W)
    return (gradient.flatten(1).square().sum(1) + 1e-12).sqrt()  # the square root's own gradient is finite at 0


def complexity(network: nn.Module, data: Dataset, images: int = 500) -> Tensor:
    """n of so many clean test images, spread over the classes, in evaluation mode: how steep the loss is at each."""
    some = sample(data, images)
    norms = []
    for part in torch.arange(len(some)).split(AT_ONCE):
        x = normalise(some.images.take(part), *data.mean_std).requires_grad_()
        norms.append(input_gradient_norms(network.eval()(x), some.labels[part], x))
    return torch.cat(norms)


class ComplexityGap(Objective):
    """Eq. (1), reading `hinton`, + gap·mean (n_s − n_t)² + level·mean n_s², n being the input gradient's norm."""

    kind: Literal["complexity gap"] = "complexity gap"
    alpha: float = Field(default=ALPHA, ge=0, le=1)
    gap: float = Field(default=0.1, ge=0)
    level: float = Field(default=0.01, ge=0)
    needs_input_gradient: ClassVar[bool] = True
    student_work: ClassVar[float] = 2  # forward, ∂/∂x, and the backward pass of both; counted in the tests
    teacher_work: ClassVar[float] = 2  # forward and ∂/∂x

    def __call__(self, at: Moment) -> Tensor:
        n_s = input_gradient_norms(at.zs, at.y, at.x, create_graph=True)  # (N,)
        n_t = input_gradient_norms(at.zt, at.y, at.x)  # (N,), a constant
        complexity = self.gap * (n_s - n_t).square().mean() + self.level * n_s.square().mean()
        return eq1_hinton(at.zt.detach(), at.zs, at.y, at.t, self.alpha) + complexity


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


stages, held_near = throughout(ComplexityGap()), throughout(HeldNear())
METHOD = Method(
    key="[10]",
    title="complexity gap, Jacobian",
    reading="ordinary distillation + penalties on the gap of the loss's input gradients and on the student's own",
    cite="unknown reference, read from its one sentence in the text",
    build=straight(stages),
)
HELD_NEAR = Method(
    key="[10]",
    title="complexity gap, teacher held near",
    reading="teacher and student trained together, the teacher on the labels and on the student's distribution, the "
    "student by Eq. (1) (ProKT: by KL alone at T=1, from the updated teacher, whose classifier starts at zero)",
    cite="unknown reference; second reading after ProKT, Shi et al., 2021",
    build=straight(held_near),
)
