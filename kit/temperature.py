"""What the temperature is next: fixed, adaptive (the paper's), or on a schedule.

A policy is frozen, validated data; `Thermostat` is the moving part that a training stage reads and feeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from kit.losses import TemperatureGradient, softened, temperature_gradient
from kit.parallel.ranks import ALONE, Ranks

COLD = 1.0  # the temperature at which a soft stage is over
LARGEST_EXPONENT = 700.0  # exp of more is no float: a diverging student's gradient asks for it


class Policy(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Fixed(Policy):
    """T stays where it is: the paper's rows T = 5 and T = 20."""

    kind: Literal["fixed"] = "fixed"
    T: float = Field(gt=0)

    @property
    def start(self) -> float:
        return self.T


class Adaptive(Policy):
    """θ = log t follows the gradient of L_D, from t = K down to t = 1 (Section 1.1; the readings are the options)."""

    kind: Literal["adaptive"] = "adaptive"
    k: float = Field(default=20.0, ge=1, description="the paper's K, the temperature threshold; t stays in [1, K]")
    rate: float = Field(gt=0, description="learning rate of θ in one epoch; a step takes rate / steps per epoch")
    optimiser: Literal["sgd", "adam"] = "sgd"
    follows: Literal["cross-entropy", "kl"] = "cross-entropy"  # whose gradient moves t; KL's drives t up to K
    floor: bool = True  # the losses see ⌊t⌋, as the paper says

    @property
    def start(self) -> float:
        return self.k


class Scheduled(Policy):
    """t falls from K to 1 over its stage's budget whatever the student does: what adapting has to beat."""

    kind: Literal["schedule"] = "schedule"
    k: float = Field(default=20.0, ge=1)
    shape: Literal["linear", "exponential"] = "linear"
    floor: bool = True

    @property
    def start(self) -> float:
        return self.k


TemperaturePolicy = Annotated[Fixed | Adaptive | Scheduled, Field(discriminator="kind")]


class Thermostat:
    """A stage's temperature. `t` moves; `used` is what the losses see; `is_cold` says that the stage is over.

    `k`, the upper bound, may be changed at any time; t follows into [1, k] at once. Where a batch is shared among
    ranks the gradient is the mean over them, so t is one number everywhere; `terms` are this rank's own.
    """

    def __init__(self, policy: TemperaturePolicy, steps_per_epoch: int, stage_steps: int, ranks: Ranks = ALONE) -> None:
        self.policy, self.ranks = policy, ranks
        self.t = float(policy.start)
        self.gradient = math.nan  # ∂L_D/∂θ at the last observed batch
        self.terms: TemperatureGradient | None = None  # of ∂L_D/∂t there, for the cross-entropy
        self._k = float(policy.start)
        self._steps_per_epoch = steps_per_epoch
        self._stage_steps = max(1, stage_steps)
        self._seen = 0
        self._moments = (0.0, 0.0)  # Adam's running mean and square of the gradient

    @property
    def moves(self) -> bool:
        return self.policy.kind != "fixed"

    @property
    def used(self) -> float:
        """The temperature in the losses: ⌊t⌋ where the policy floors, else t."""
        return float(math.floor(self.t)) if self.moves and self.policy.floor else self.t

    @property
    def is_cold(self) -> bool:
        return self.moves and self.used <= COLD

    @property
    def k(self) -> float:
        return self._k

    @k.setter
    def k(self, value: float) -> None:
        self._k = max(COLD, float(value))
        if self.moves:
            self.t = min(self.t, self._k)

    def state(self) -> dict[str, object]:
        """Where it stands, as plain numbers: what `restore` needs in a thermostat of the same stage."""
        moving = {"t": self.t, "gradient": self.gradient, "k": self._k, "seen": self._seen}
        return moving | {"moments": list(self._moments)}

    def restore(self, state: Mapping[str, object]) -> None:
        self.t, self.gradient, self._k, self._seen = (state[name] for name in ("t", "gradient", "k", "seen"))
        self._moments = tuple(state["moments"])

    def observe(self, zt: Tensor, zs: Tensor) -> None:
        """Moves t after a batch with teacher's and student's logits (N, C), taken before the student's update."""
        self._seen += 1
        if self.policy.kind == "adaptive":
            self._follow(zt, zs)
        elif self.policy.kind == "schedule":
            left = max(0.0, 1 - self._seen / self._stage_steps)
            start = self._k
            self.t = COLD + (start - COLD) * left if self.policy.shape == "linear" else start**left

    def _follow(self, zt: Tensor, zs: Tensor) -> None:
        self.terms = temperature_gradient(zt, zs, self.t)
        slope = self.terms.total
        if self.policy.follows == "kl":
            slope = slope - entropy_gradient(zt, self.t)
        self.gradient = self.t * float(self.ranks.mean(slope))  # ∂L_D/∂θ = t · ∂L_D/∂t
        if not math.isfinite(self.gradient):
            return  # the student has diverged: the trainer will say so; t keeps its last value
        step = self.policy.rate / self._steps_per_epoch
        # θ ← θ − step·∂L_D/∂θ, written for t = exp(θ) so that t = K is exactly K
        change = min(-step * self._direction(), LARGEST_EXPONENT)
        self.t = min(max(self.t * math.exp(change), COLD), self._k)

    def _direction(self) -> float:
        if self.policy.optimiser == "sgd":
            return self.gradient
        mean = 0.9 * self._moments[0] + 0.1 * self.gradient
        square = 0.999 * self._moments[1] + 0.001 * (self.gradient * self.gradient)  # ** would raise on overflow
        self._moments = (mean, square)
        return (mean / (1 - 0.9**self._seen)) / (math.sqrt(square / (1 - 0.999**self._seen)) + 1e-8)


def entropy_gradient(zt: Tensor, t: float) -> Tensor:
    """∂H(p(zt, t))/∂t = Var_p(zt) / t³ ≥ 0, batch mean: what the soft cross-entropy has and KL lacks."""
    p = softened(zt, t)
    variance = (p * zt**2).sum(-1) - (p * zt).sum(-1) ** 2
    return (variance / t**3).mean()
