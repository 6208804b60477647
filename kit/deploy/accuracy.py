"""An accuracy and how sure it is."""

from __future__ import annotations

from typing import NamedTuple

from scipy.stats import binomtest


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
