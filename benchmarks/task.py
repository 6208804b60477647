"""What a timed training loop is given, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms

from kit.data.base import Dataset
from kit.data.memory import in_memory
from kit.models import ModelSpec
from kit.networks.flops import flops_per_image
from kit.paper.presets import stem_at
from kit.training.optimiser import Updates, sgd

# Student and teacher, the teacher's width as a multiple of the student's.
PAIRS = {
    "vgg16": ("vgg16", "vgg19", 1),
    "resnet34": ("resnet34", "resnet34", 2),
    "resnet50": ("resnet34", "resnet50", 1),  # the paper's own
}


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
    device: str = "cpu"
    threads: int = 2  # of torch

    @cached_property
    def data(self) -> Dataset:
        """Random pixels and labels: a step takes as long on them as on photographs."""
        generator = torch.Generator().manual_seed(self.seed)
        size = (self.images, self.px, self.px, 3)
        pixels = torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)
        labels = torch.randint(0, self.classes, (self.images,), generator=generator)
        train, test, names = (pixels, labels), (pixels[:2], labels[:2]), [str(c) for c in range(self.classes)]
        return in_memory("benchmark", "random pixels", "embedded", names, train, test, self.flip)

    @property
    def settling(self) -> int:
        """Steps that begin a turn and are not timed: a GPU works on while its loop already prepares what comes."""
        return 0 if self.device == "cpu" else 5

    @property
    def specs(self) -> tuple[ModelSpec, ModelSpec]:
        """Student and teacher, described."""
        student, teacher, times = PAIRS[self.pair]
        width, stem = self.width, stem_at(self.px)
        return (
            ModelSpec(name=student, classes=self.classes, width=width, stem=stem),
            ModelSpec(name=teacher, classes=self.classes, width=times * width, stem=stem),
        )

    def networks(self) -> tuple[nn.Module, nn.Module]:
        """Student and teacher with the weights that every loop starts from, on the task's device."""
        student, teacher = (spec.build(self.seed + i).to(self.device) for i, spec in enumerate(self.specs))
        return student, teacher

    def flops(self) -> float:
        """Counted operations of one image: the student's forward and backward pass, its teacher's forward pass."""
        student, teacher = self.specs
        return flops_per_image(student, self.px)[1] + flops_per_image(teacher, self.px)[0]


class Pictures(torch.utils.data.Dataset):
    """Images one by one, as torchvision's CIFAR10 gives them: a PIL image from an array, then a tutorial's transforms:
    crop, mirror, normalise."""

    def __init__(self, task: Task) -> None:
        train, (mean, std) = task.data.train, task.data.mean_std
        self.pixels, self.labels = train.images.pixels.numpy(), train.labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(task.px, padding=task.pad or None, padding_mode="reflect"),
                transforms.RandomHorizontalFlip(0.5 if task.flip else 0.0),
                transforms.ToTensor(),
                transforms.Normalize((mean / 255).tolist(), (std / 255).tolist()),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), self.labels[index]


def nesterov(student: nn.Module, task: Task, **options: bool) -> torch.optim.SGD:
    """The kit's optimiser for a loop that has no recipe: biases and batch norms do not decay."""
    updates = Updates(momentum=task.momentum, weight_decay=task.weight_decay)
    return sgd(student, updates, task.lr, nesterov=True, **options)


@dataclass(frozen=True)
class Loop:
    """A training loop that is ready to go: each item of an epoch is one step done."""

    student: nn.Module
    epoch: Callable[[], Iterator[object]]


Rung = Callable[[Task], Loop]
