"""How weights are updated: SGD and its learning rate, as a recipe says."""

from __future__ import annotations

import math

import torch
from torch import nn

from kit.recipe import Recipe


def sgd(network: nn.Module, recipe: Recipe, lr: float, **options: bool) -> torch.optim.SGD:
    """SGD with weight decay for weights of convolutions and linear layers, none for biases and batch norms."""
    parameters = list(network.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=lr, momentum=recipe.momentum, **options)


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Linear warm-up to the peak, then a half cosine to 0, over the whole run and not restarted by stages."""
    rising = recipe.warmup * steps
    if step < rising:
        return recipe.lr * (step + 1) / (rising + 1)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * (step - rising) / (steps - rising)))
