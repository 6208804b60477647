"""A new last layer for given weights: a linear probe, which is logistic regression on what the frozen body answers.

The minimum of mean cross-entropy + ‖W‖² / 2N, over features that are standardised by their training images, is unique:
it is that of scikit-learn's StandardScaler and LogisticRegression(C=1), found by torch's L-BFGS without any chance.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kit.data.augment import normalise
from kit.data.base import Split
from kit.errors import KitError
from kit.networks.named import images
from kit.networks.view import Viewing
from kit.training.evaluation import EVALUATION_BATCH

ITERATIONS = 200  # of L-BFGS, which stops before where the gradient vanishes


def head_of(network: nn.Module, px: int, title: str) -> str:
    """Finds the name of the linear layer that gives a network's logits. Raises KitError where there is none."""
    own = _inside(network).eval()
    answers: dict[str, Tensor] = {}

    def listen(name: str, layer: nn.Linear) -> None:
        layer.register_forward_hook(lambda _, given, z: answers.update({name: z}))

    linear = [(name, layer) for name, layer in own.named_modules() if isinstance(layer, nn.Linear)]
    for name, layer in linear:
        listen(name, layer)
    with torch.inference_mode():
        logits = network.to(memory_format=torch.channels_last)(images(px))  # (2, C)
    for name, layer in linear:
        if layer.bias is not None and name in answers and torch.equal(answers[name], logits):
            return name
    raise KitError(f"{title} has no head to be trained; allowed: a linear layer with a bias that gives the logits")


@torch.no_grad()
def train_head(network: nn.Module, name: str, split: Split, mean: Tensor, std: Tensor) -> int:
    """Trains a network's head on a split's clean images, its body frozen and in evaluation mode; returns how many FLOPs
    the head has cost, the body's answers not counted."""
    head = cast(nn.Linear, _inside(network).get_submodule(name))
    network.eval().to(mean.device).to(memory_format=torch.channels_last)
    seen: list[Tensor] = []
    listening = head.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    for indices in torch.arange(len(split)).split(EVALUATION_BATCH):
        network(normalise(split.images.take(indices).to(mean.device), mean, std))
    listening.remove()
    x, y = torch.cat(seen), split.labels.to(mean.device)  # (N, D), (N,)
    centre, scale = x.mean(0), x.std(0, correction=0)
    scale = torch.where(scale > 0, scale, 1.0)  # of features that never change
    w, b, passes = regression((x - centre) / scale, y, head.out_features)
    head.weight.copy_(w / scale)
    head.bias.copy_(b - (w / scale) @ centre)
    return passes * 6 * x.numel() * head.out_features  # forward, and twice as much backward


@torch.enable_grad()
def regression(x: Tensor, y: Tensor, classes: int) -> tuple[Tensor, Tensor, int]:
    """Fits logistic regression to features (N, D) and labels (N,): weights (C, D), biases (C,), passes over all."""
    w, b = (torch.zeros(*shape, device=x.device, requires_grad=True) for shape in ((classes, x.shape[1]), (classes,)))
    optimiser = torch.optim.LBFGS(
        [w, b],
        max_iter=ITERATIONS,
        max_eval=2 * ITERATIONS,
        tolerance_grad=1e-6,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )
    passes = 0

    def loss() -> Tensor:
        nonlocal passes
        passes += 1
        optimiser.zero_grad()
        value = F.cross_entropy(x @ w.T + b, y) + w.square().sum() / (2 * len(x))
        value.backward()
        return value

    optimiser.step(loss)
    return w.detach(), b.detach(), passes


def _inside(network: nn.Module) -> nn.Module:
    """The network itself, whose names its state has, without the view that it stands behind."""
    return network.network if isinstance(network, Viewing) else network
