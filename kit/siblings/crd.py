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

from kit.recipe import Recipe, Stage
from kit.siblings.base import Weighed, one_stage
from kit.temperature import Fixed

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

# Top-1 on CIFAR-100 in % as RepDistiller prints it, by names of `kit.networks.cifar`: teacher, student alone, KD(4).
PRINTED = {
    ("wrn_40_2", "wrn_16_2"): (75.61, 73.26, 74.92),
    ("wrn_40_2", "wrn_40_1"): (75.61, 71.98, 73.54),
    ("resnet56", "resnet20"): (72.34, 69.06, 70.66),
    ("resnet110", "resnet20"): (74.31, 69.06, 70.67),
    ("resnet110", "resnet32"): (74.31, 71.14, 73.08),
    ("resnet32x4", "resnet8x4"): (79.42, 72.50, 73.33),
    ("vgg13", "vgg8"): (74.64, 70.36, 72.98),
    ("vgg13", "mobilenetv2"): (74.64, 64.60, 67.37),
    ("resnet50", "mobilenetv2"): (79.34, 64.60, 67.35),
    ("resnet50", "vgg8"): (79.34, 70.36, 73.81),
    ("resnet32x4", "shufflenetv1"): (79.42, 70.50, 74.07),
    ("resnet32x4", "shufflenetv2"): (79.42, 71.82, 74.45),
    ("wrn_40_2", "shufflenetv1"): (75.61, 70.50, 74.83),
}


class Distilled(Weighed):
    """hard·CE + soft·KD(T): Eq. (1) as `hinton` has it, less the teacher's entropy, so with the same gradient."""

    kind: Literal["kd"] = "kd"


def stages(T: float = T, alpha: float = ALPHA) -> tuple[Stage, ...]:
    """(1 − α)·CE + α·KD(T), from the big teacher, to the end."""
    soft = Distilled(soft=alpha).soft  # checked to be a number
    return one_stage(Distilled(soft=soft, hard=round(1 - soft, 12)), Fixed(T=T))


def recipe(of: Sequence[Stage] | None = None, network: str = "", epochs: int = EPOCHS, **changes: Any) -> Recipe:
    """These stages, or the protocol's own, for a student of this name, by which its learning rate goes. Milestones are
    where they were, as shares of the epochs."""
    how = {"batch": BATCH, "lr": LRS.get(network, LR)} | UPDATES | changes
    return Recipe(stages=tuple(stages() if of is None else of), epochs=epochs, **how)
