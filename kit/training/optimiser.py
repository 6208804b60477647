"""How weights are updated: batches, augmentation, SGD and its learning rate, as data and as done."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field, field_validator
from torch import nn

from kit.data.augment import Padding
from kit.errors import Described, KitError

FALL = 0.1  # what the learning rate is multiplied by at a milestone


class Updates(Described):
    """How weights are updated. The paper names none of it but the batch of 128."""

    batch: int = Field(default=128, ge=2)
    lr: float = Field(default=0.1, gt=0, description="peak learning rate")
    warmup: float = Field(default=0.1, ge=0, lt=1, description="share of the run with a rising learning rate")
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0)
    pad: int = Field(default=2, ge=0, description="augmentation: pixels of padding before the random crop")
    # what follows is described, and so hashed, only where it is not the default
    milestones: tuple[float, ...] = Field(
        default=(),
        exclude_if=lambda milestones: not milestones,
        description="shares of the run at which the learning rate falls to a tenth; without any: half a cosine to 0",
    )
    nesterov: bool = Field(default=True, exclude_if=lambda nesterov: nesterov)
    decays: Literal["weights", "all"] = Field(
        default="weights",
        exclude_if=lambda decays: decays == "weights",
        description="what weight decay is for: weights of convolutions and linear layers, or biases and norms too",
    )
    padding: Padding = Field(default="reflect", exclude_if=lambda padding: padding == "reflect")
    keep_last: bool = Field(
        default=False,
        exclude_if=lambda keep_last: not keep_last,
        description="whether an epoch's last, smaller batch is trained on",
    )

    @field_validator("milestones")
    @classmethod
    def _are_in_order(cls, milestones: tuple[float, ...]) -> tuple[float, ...]:
        if list(milestones) != sorted(set(milestones)) or not all(0 < share < 1 for share in milestones):
            raise ValueError("milestones must rise between 0 and 1")
        return milestones


def sgd(network: nn.Module, updates: Updates, lr: float, **options: bool) -> torch.optim.SGD:
    """SGD with weight decay for weights of convolutions and linear layers; for biases and norms where all decays.

    Raises KitError for a network without a parameter that can be trained.
    """
    parameters = list(network.parameters())
    if not any(p.requires_grad for p in parameters):
        raise KitError(
            f"network {type(network).__name__} has no parameter that can be trained; allowed: at least one, and a "
            f"network that is not its own teacher, as teachers are frozen"
        )
    decay = updates.weight_decay
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": decay if updates.decays == "all" else 0.0},
    ]
    return torch.optim.SGD(groups, lr=lr, momentum=updates.momentum, **options)


def learning_rate(updates: Updates, step: int, steps: int) -> float:
    """Linear warm-up to the peak, then milestones or a half cosine to 0, over the whole run and not restarted by
    stages."""
    rising = updates.warmup * steps
    if step < rising:
        return updates.lr * (step + 1) / (rising + 1)
    if updates.milestones:
        return updates.lr * FALL ** sum(step >= share * steps for share in updates.milestones)
    return updates.lr * 0.5 * (1 + math.cos(math.pi * (step - rising) / (steps - rising)))
