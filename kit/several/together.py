"""One t for all teachers: it follows the weighted sum of their gradients.

∂/∂t Σ_k w_k·L_D(p_k, q) = Σ_k w_k·g_k(t), with the g_k of `kit.losses.temperature_gradient`; by image the mean over
images of Σ_k w_k(x)·g_k(t, x). One curve, one ⌊t⌋; the stage is over when it is cold. `Adaptive` is the case of equal
weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch
from pydantic import SerializeAsAny

from kit.losses import Sides, sides
from kit.recipe import Moment
from kit.several import levels
from kit.several.base import Equal, Weights
from kit.temperature import Adaptive


class Together(Adaptive):
    """θ = log t follows Σ_k w_k·g_k, by the weights that the loss has. `level`: of logits brought to one deviation."""

    kind: Literal["together"] = "together"  # type: ignore[assignment]
    weights: SerializeAsAny[Weights] = Equal()
    level: bool = False

    def given(self, t: float, at: Moment) -> Mapping[str, Sides]:
        if self.level:
            return levels.given(dict.fromkeys(at.logits, self.used(t)), at.logits, at.ranks)
        return dict.fromkeys(at.logits, sides(self.used(t)))

    def next(self, t: float, at: Moment) -> float:
        weights = self.weights(replace(at, temperatures=self.given(t, at)))  # as the loss has them
        logits = levels.levelled(at.logits, at.ranks) if self.level else at.logits
        terms = [self.terms(zt, at.zs, t, weights[name]) for name, zt in logits.items()]
        return self.moved(t, torch.stack(terms).sum(0), at)
