"""What the siblings share: a soft loss of each image, weighed beside the hard labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import Field
from torch import Tensor

from kit.losses import Temperature, hard_cross_entropy, kl_divergences, squared
from kit.recipe import Objective, Stage, mean
from kit.temperature import Policy
from kit.training.moment import Moment

WARM_UP = 20 / 240  # of a run: the epochs over which DKD and DTKD let their soft loss rise
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Weighed(Objective):
    """soft · w(progress) · L_soft + hard · L_S(y, p(zs, 1)), where w rises from 0 to 1 over the share `warm_up`.

    L_soft of each image is t²·KL, where a subclass gives no other; of several teachers the mean is taken.
    """

    soft: Weight = 0.9
    hard: Weight = 0.1
    warm_up: Share = 0.0

    def soft_losses(self, zt: Tensor, t: Temperature, at: Moment) -> Tensor:
        """The soft loss of each image, (N,)."""
        return tempered(zt, at.zs, t)

    def __call__(self, at: Moment) -> Tensor:
        rises = min(1.0, at.progress / self.warm_up) if self.warm_up else 1.0
        soft = mean(self.soft_losses(zt, t, at).mean() for zt, t in at.taught().values())
        return self.soft * rises * soft + self.hard * hard_cross_entropy(at.zs, at.y)


def by_image(t: Tensor | float, losses: Tensor) -> Tensor:
    """A factor of each image's loss (N,): one number for all, or (N, 1)."""
    return t.flatten() * losses if isinstance(t, Tensor) else t * losses


def tempered(zt: Tensor, zs: Tensor, t: Temperature) -> Tensor:
    """t²·KL of each image, shape (N,); of two sides T_t·T_s·KL."""
    return by_image(squared(t), kl_divergences(zt, zs, t))


def one_stage(objective: Objective, temperature: Policy) -> tuple[Stage, ...]:
    """The big teacher straight to the student, to the end of the run."""
    return (Stage(name="big teacher", teacher="big", objective=objective, temperature=temperature, until=1),)


def always(stages: tuple[Stage, ...]) -> Callable[[int], tuple[Stage, ...]]:
    """These stages, however many epochs a run has."""
    return lambda epochs: stages
