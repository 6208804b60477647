"""Images that are easy to tell apart, networks and recipes small enough to be trained in a blink."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from kit import recipe
from kit.data.base import Dataset, Split, TensorImages
from kit.models import build
from kit.recipe import Recipe
from kit.temperature import Adaptive
from kit.trainer import Training

PX = 8


def split(n: int, classes: int, seed: int) -> Split:
    """Noise, with a bright block whose place and colour are the class: easy to tell apart."""
    rng = np.random.RandomState(seed)
    labels = np.arange(n) % classes
    pixels = rng.randint(0, 90, (n, PX, PX, 3))
    for image, label in zip(pixels, labels, strict=True):
        image[2:6, 2:6, label % 3] += 60 + 100 * (label // 3 % 2)
    return Split(TensorImages(torch.from_numpy(pixels.astype(np.uint8))), torch.from_numpy(labels))


def dataset(classes: int = 6, train: int = 48, test: int = 30, flip: bool = True) -> Dataset:
    return Dataset(
        role="cifar-10",
        name="blocks",
        source="embedded",
        fingerprint="0" * 64,
        classes=tuple(map(str, range(classes))),
        train=split(train, classes, 0),
        test=split(test, classes, 1),
        px=PX,
        flip=flip,
    )


DATA = dataset()


def logits(seed: int, n: int = 32, classes: int = 10, scale: float = 3.0) -> torch.Tensor:
    return scale * torch.randn(n, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cnn(seed: int, width: int = 2) -> nn.Module:
    return build("cnn", len(DATA.classes), width=width, stem="small", seed=seed)


def linear(seed: int, scale: float = 1.0) -> nn.Module:
    """Without batch norm, so that training and evaluation mode are the same function."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * PX * PX, len(DATA.classes)))
    with torch.no_grad():
        network[1].weight.mul_(scale)
    return network


def three_steps(epochs: int, rate: float, batch: int = 8, soft_ends=(0.45, 0.8), **changes) -> Recipe:
    stages = recipe.small_teacher(Adaptive(rate=rate), soft_ends=soft_ends)
    return Recipe(**{"stages": stages, "epochs": epochs, "batch": batch, "pad": 1} | changes)


def hard(epochs: int, batch: int = 8, **changes) -> Recipe:
    return Recipe(**{"stages": recipe.hard_labels(), "epochs": epochs, "batch": batch, "pad": 1} | changes)


def teachers() -> dict[str, nn.Module]:
    return {"small": cnn(101, 3), "big": cnn(102, 4)}


def same_weights(a: nn.Module | dict, b: nn.Module | dict) -> bool:
    """Whether two networks, or what was kept of them, have the same names and bits."""
    a, b = (each.state_dict() if isinstance(each, nn.Module) else each for each in (a, b))
    return a.keys() == b.keys() and all(torch.equal(tensor, b[name]) for name, tensor in a.items())


def history(training: Training) -> str:
    timeless = [{k: v for k, v in row.items() if k not in ("wall_s", "cpu_s")} for row in training.epochs]
    return repr(training.steps()) + repr(timeless)
