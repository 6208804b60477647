"""What a timed training loop is given, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn
from torchvision import transforms

from kit.data.base import Dataset, Split, TensorImages
from kit.models import build

# Student and teacher, the teacher's width as a multiple of the student's.
PAIRS = {"vgg16": ("vgg16", "vgg19", 1), "resnet34": ("resnet34", "resnet34", 2)}


@dataclass(frozen=True)
class Task:
    """One distillation, described. `images` is a set that a loop goes through once, from its warm-up to its end."""

    pair: str
    width: int  # the student's first channel count
    images: int
    batch: int = 128
    px: int = 32
    classes: int = 10
    T: float = 5.0
    alpha: float = 0.5
    lr: float = 0.02
    momentum: float = 0.9
    weight_decay: float = 5e-4
    pad: int = 2
    flip: bool = True
    seed: int = 0

    @cached_property
    def data(self) -> Dataset:
        """Random pixels and labels: a step takes as long on them as on photographs."""
        generator = torch.Generator().manual_seed(self.seed)
        size = (self.images, self.px, self.px, 3)
        pixels = torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)
        labels = torch.randint(0, self.classes, (self.images,), generator=generator)
        train, test = (Split(TensorImages(pixels[:n]), labels[:n]) for n in (self.images, 2))
        names = tuple(str(c) for c in range(self.classes))
        return Dataset("benchmark", "random pixels", "embedded", "", names, train, test, self.px, self.flip)

    def transform(self) -> transforms.Compose:
        """torchvision's transforms of one PIL image, as tutorials write them: crop, mirror, normalise."""
        mean, std = self.data.mean_std
        return transforms.Compose(
            [
                transforms.RandomCrop(self.px, padding=self.pad or None, padding_mode="reflect"),
                transforms.RandomHorizontalFlip(0.5 if self.flip else 0.0),
                transforms.ToTensor(),
                transforms.Normalize((mean / 255).tolist(), (std / 255).tolist()),
            ]
        )

    def networks(self) -> tuple[nn.Module, nn.Module]:
        """Student and teacher with the weights that every loop starts from."""
        student, teacher, times = PAIRS[self.pair]
        return (
            build(student, self.classes, self.width, "small", self.seed),
            build(teacher, self.classes, times * self.width, "small", self.seed + 1),
        )


@dataclass(frozen=True)
class Loop:
    """A training loop that is ready to go: each item of an epoch is one step done."""

    student: nn.Module
    epoch: Callable[[], Iterator[object]]
