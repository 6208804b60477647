"""What a training writes down."""

from __future__ import annotations

from dataclasses import dataclass


class Diverged(RuntimeError):
    """The loss stopped being a number; `step` says at which batch (counted from 1)."""

    def __init__(self, step: int) -> None:
        super().__init__(f"the loss is not a finite number at step {step}")
        self.step = step


@dataclass
class StageRecord:
    """How a stage went. `ended_by` is `temperature` or `budget`; steps are counted from the run's start."""

    name: str
    first_step: int
    t_start: float | None
    steps: int = 0
    t_end: float | None = None
    ended_by: str | None = None


# ---- what the loop is made of, each usable alone ------------------------------------------------------------------

HISTORIES = ("loss", "hits", "temperatures", "stage_index")  # of a Training: filled in place, a row a step
