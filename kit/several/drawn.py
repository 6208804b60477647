"""Random weights: what any way to choose weights has to beat."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from kit.data.augment import mixed
from kit.recipe import Moment
from kit.several.base import Weights


class Drawn(Weights):
    """In each batch a point of the simplex, all equally likely; by `seed` and the stage's batch the same each time."""

    kind: Literal["drawn"] = "drawn"
    seed: int = Field(default=0, ge=0)

    def of(self, at: Moment) -> Tensor:
        generator = torch.Generator().manual_seed(mixed(self.seed, at.step))
        drawn = torch.empty(len(at.logits)).exponential_(generator=generator)  # normalised, a flat Dirichlet
        return (drawn / drawn.sum()).to(at.zs)
