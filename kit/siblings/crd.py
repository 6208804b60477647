"""The protocol of the field's CIFAR-100 tables: RepDistiller's (Tian et al., ICLR 2020), whose row "KD" others copy.

240 epochs in batches of 64, the last, smaller one too; SGD with momentum 0.9, not Nesterov's, at a learning rate of
0.05 (0.01 for MobileNetV2 and both ShuffleNets) that falls to a tenth after 150, 180 and 210 epochs; weight decay 5e-4
on everything; black padding by 4, random crop, mirroring; 0.1·CE + 0.9·KD(4), where KD(T) is T²·KL, its mean over the
images. Teachers are trained in the same way on hard labels. It is an ordinary recipe, so that any stages may follow it:

    crd.recipe()                                                       # the row "KD"
    crd.recipe(recipe.big_teacher_only(recipe.adaptive(crd.EPOCHS)))   # the adaptive temperature, to put beside it
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor

from kit.losses import Temperature
from kit.recipe import Recipe, Stage
from kit.siblings.base import Weighed, one_stage, tempered
from kit.temperature import Fixed
from kit.training.moment import Moment

EPOCHS, BATCH, LR = 240, 64, 0.05
LRS = dict.fromkeys(("cifar:mobilenetv2", "cifar:shufflenetv1", "cifar:shufflenetv2"), 0.01)
UPDATES: dict[str, Any] = {
    "warmup": 0.0,
    "milestones": (150 / EPOCHS, 180 / EPOCHS, 210 / EPOCHS),
    "momentum": 0.9,
    "nesterov": False,
    "weight_decay": 5e-4,
    "decays": "all",
    "pad": 4,
    "padding": "zeros",
    "keep_last": True,
}
T, ALPHA = 4.0, 0.9


class Distilled(Weighed):
    """hard·CE + soft·KD(T): Eq. (1) as `hinton` has it, less the teacher's entropy, so with the same gradient."""

    kind: Literal["kd"] = "kd"

    def soft_losses(self, zt: Tensor, t: Temperature, at: Moment) -> Tensor:
        return tempered(zt, at.zs, t)


def stages(T: float = T, alpha: float = ALPHA) -> tuple[Stage, ...]:
    """(1 − α)·CE + α·KD(T), from the big teacher, to the end."""
    return one_stage(Distilled(soft=alpha, hard=round(1 - alpha, 12)), Fixed(T=T))


def recipe(of: Sequence[Stage] | None = None, network: str = "", epochs: int = EPOCHS, **changes: Any) -> Recipe:
    """These stages, or the protocol's own, for a student of this name, by which its learning rate goes. Milestones are
    where they were, as shares of the epochs."""
    how = {"batch": BATCH, "lr": LRS.get(network, LR)} | UPDATES | changes
    return Recipe(stages=tuple(stages() if of is None else of), epochs=epochs, **how)
