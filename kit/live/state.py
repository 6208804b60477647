"""How a session stands, for whoever watches it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from torch import Tensor, nn

from kit.data.base import Split
from kit.paper.settings import Settings
from kit.runs.spec import Run
from kit.temperature import Policy
from kit.temperature import State as Temperature
from kit.training.steering import Event
from kit.training.thermostat import mean

Phase = Literal["loading", "ready", "teachers", "running", "paused", "finished", "failed", "closed"]


class History(dict[str, np.ndarray]):
    """By batch, each (n,): loss and batch_top1 (0…1); t and what the losses saw of it, t_used: ⌊t⌋ or T, NaN in a stage
    without a temperature; the two terms of ∂L_D/∂log t, NaN where t does not follow a gradient; further traces, such as
    t_small, pull_small. Windows on what the training has written and will not write again."""

    def of(self, what: str) -> dict[str, np.ndarray]:
        """The traces of a kind by what they are of: of t, pull or weight by teacher, of t also its least and most."""
        names = (name for name in self if name.startswith(f"{what}_") and name not in COLUMNS)
        return {name.removeprefix(f"{what}_"): self[name] for name in names}


COLUMNS = ("loss", "batch_top1", "t", "t_used", "dlogt_mismatch", "dlogt_spread")  # of every history
NOTHING = History.fromkeys(COLUMNS, np.empty(0))


@dataclass(frozen=True)
class Look:
    """The picked image in the networks' eyes: logits (C,), the teacher's being None in a run without one."""

    image: int
    zs: Tensor
    zt: Tensor | None
    teacher: str | None


@dataclass(frozen=True)
class State:
    """How a session stands. Never changed once it is out: the next one replaces it."""

    phase: Phase = "loading"
    message: str = ""
    described: Settings | Run | None = None  # what to train
    run: Run | None = None  # the run of it; None until it is described and its images are loaded
    pictures: Split | None = None  # the test images to pick from, likewise
    networks: Mapping[str, nn.Module] = field(default_factory=dict)  # copies at the start, for whoever watches
    held: bool = False  # it would run, but nobody watches
    share: float = 0.0  # of the teachers' training, 0…1
    step: int = 0
    total: int = 0
    steps_per_epoch: int = 1
    history: History = field(default_factory=lambda: NOTHING)
    stages: tuple[tuple[str, int], ...] = ()  # name, first step
    progress: float = 0.0  # of the stage's budget
    epochs: tuple[tuple[int, float], ...] = ()  # step, Top-1 of the test split
    events: tuple[Event, ...] = ()
    policy: Policy | None = None  # of the stage's temperature, as steered
    at: Temperature | None = None  # the temperature: a number, or one a teacher
    images_a_second: float = 0.0
    look: Look | None = None
    weights: dict[str, Tensor] | None = None  # the student's, not older than SKETCHING

    @property
    def t(self) -> float | None:
        """The temperature as one number; None in a stage without one."""
        return None if self.at is None else mean(self.at)

    @property
    def used(self) -> float | None:
        """What the losses use of t; where each image has its own, the mean over the last batch."""
        if self.policy is not None and self.is_by_image:
            return float(self.history["t_used"][-1])
        return None if self.policy is None else mean(self.policy.used(self.at))

    @property
    def is_by_image(self) -> bool:
        return bool(np.isfinite(self.history.get("t_least", NOTHING["t"])[-1:]).any())

    @property
    def k(self) -> float | None:
        return getattr(self.policy, "k", None)
