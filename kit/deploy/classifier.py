"""A run's student, ready for pictures that are not the run's, and how often it is right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from scipy.stats import binomtest
from torch import Tensor, nn

from kit.data.augment import normalise
from kit.data.hrsc.crops import CONTEXT
from kit.errors import KitError
from kit.runs.store import Stored

SQUARE = f"one ship a picture: a square around its upright box, {CONTEXT:g} times as wide as the box's longer side"
FRAMINGS = {"hrsc2016": SQUARE}  # by role


@dataclass(frozen=True)
class Classifier:
    """A network and how its images are prepared: px, and mean and std (3,) in 0 … 255. `framing` says what of a scene
    one image was, where it was not all of it."""

    network: nn.Module
    px: int
    mean: Tensor
    std: Tensor
    classes: tuple[str, ...]
    framing: str | None = None

    @classmethod
    def of(cls, run: Stored) -> Classifier:
        """Takes a run's student as it is stored. KitError for an older run, which says nothing of its images."""
        kept = run.images
        if kept is None:
            raise KitError(
                f"run {run.folder.name} was stored without mean, deviation and classes of its training images, by an "
                "older kit; allowed: newer runs, or this one trained anew, once it is pruned from the cache"
            )
        mean, std = (torch.tensor(kept[name], dtype=torch.float32) for name in ("mean", "std"))
        data = run.description["data"]
        return cls(run.student(), data["px"], mean, std, tuple(kept["classes"]), FRAMINGS.get(data["role"]))

    def inputs(self, pixels: Tensor) -> Tensor:
        """Normalises images as in training: uint8 (N, px, px, 3) to float32 (N, 3, px, px)."""
        return normalise(pixels, self.mean, self.std)

    @torch.inference_mode()
    def logits(self, pixels: Tensor) -> Tensor:
        """Answers images uint8 (N, px, px, 3) with logits (N, C)."""
        return self.network(self.inputs(pixels))


class Accuracy(NamedTuple):
    """How many of so many images are classified rightly."""

    correct: int
    images: int

    @property
    def top1(self) -> float:
        return self.correct / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """Computes Wilson's 95 % interval: it holds for few images, and for accuracies near 0 and 1, too."""
        low, high = binomtest(self.correct, self.images).proportion_ci(method="wilson")
        return float(low), float(high)

    def __str__(self) -> str:
        low, high = self.interval
        return f"Top-1 {self.top1:.1%} (95 % interval {low:.1%} to {high:.1%}; {self.correct} of {self.images} images)"
