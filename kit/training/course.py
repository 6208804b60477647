"""The way through a recipe's stages: which stage a training is in, as steered, and when the next one begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kit.errors import KitError
from kit.recipe import Recipe, Stage
from kit.training.optimiser import learning_rate
from kit.training.steering import Event, checked, steered
from kit.training.thermostat import Thermostat, mean


@dataclass
class StageRecord:
    """How a stage went. `ended_by` is `temperature` or `budget`; steps are counted from the run's start."""

    name: str
    first_step: int
    t_start: float | None
    steps: int = 0
    t_end: float | None = None
    ended_by: str | None = None

    def row(self, steps_per_epoch: int) -> dict[str, Any]:
        """As metrics have it, with epochs."""
        row = {"name": self.name, "epochs": self.steps / steps_per_epoch, "steps": self.steps}
        return row | {"ended_by": self.ended_by, "t_start": self.t_start, "t_end": self.t_end}


class Course:
    """Stages in order over so many steps. `step` are batches done; `thermostat` is the present stage's, if it has one.

    `events` is what has been steered, in order; those given are planned, each to be made at its step.
    """

    def __init__(self, recipe: Recipe, total_steps: int, events: Sequence[Event]) -> None:
        self.recipe, self.total_steps, self.step = recipe, total_steps, 0
        self.stages: list[StageRecord] = []
        self.events: list[Event] = []
        self.planned = sorted(events, key=lambda event: event.step)  # stable: events of one step keep their order

    @property
    def stage(self) -> Stage:
        """The stage it is in, as steered."""
        return steered(self.recipe.stages[len(self.stages) - 1], {event.name: event.value for event in self.events})

    @property
    def asked(self) -> tuple[str, ...]:
        """The stage's teachers whose logits the next batch needs."""
        return self.thermostat.asked if self.thermostat else self.stage.teachers

    @property
    def lr(self) -> float:
        """The student's learning rate at this step."""
        return learning_rate(self.recipe, self.step, self.total_steps)

    @property
    def last_step(self) -> int:
        """By which the stage ends at the latest."""
        return round(self.recipe.stages[len(self.stages) - 1].until * self.total_steps)  # not to be steered

    def enter_stage(self, number: int) -> None:
        self.stages.append(StageRecord(self.recipe.stages[number].name, self.step, None))
        temperature = self.stage.temperature
        self.thermostat = Thermostat(temperature, self.stage.teachers) if temperature else None
        self.stages[-1].t_start = mean(self.thermostat.t) if self.thermostat else None
        if self.step >= self.last_step:  # no step is left for it
            self._maybe_end_stage()

    def end_step(self) -> None:
        """Counts a step, and goes on to the next stage where this one is over."""
        self.step += 1
        self._maybe_end_stage()

    def _maybe_end_stage(self) -> None:
        record, last = self.stages[-1], len(self.stages) == len(self.recipe.stages)
        record.steps = self.step - record.first_step
        if self.thermostat is not None:
            record.t_end = mean(self.thermostat.t)
        if self.thermostat is not None and self.thermostat.is_cold and not last:
            record.ended_by = "temperature"
        elif self.step >= self.last_step:
            record.ended_by = "budget"
        if record.ended_by and not last:
            self.enter_stage(len(self.stages))

    def steer(self, name: str, value: float) -> None:
        """Sets a field that may be steered (`k`, `alpha`, `rate`, …) from the next batch on, in this stage and those
        after it, and records it.

        t follows K into [1, K] at once; a stage entered later starts at K. What a stage lacks (a fixed temperature has
        no K, hard labels no α) it does not get. Raises KitError for values that are not allowed, and after the end.
        """
        value = checked(name, value, self.recipe.stages)
        if self.step >= self.total_steps:
            raise KitError(f"{name} cannot be steered any more: all {self.total_steps} batches are done")
        self.events.append(Event(step=self.step, name=name, value=value))
        if self.thermostat is not None and self.stage.temperature is not None:
            self.thermostat.steer(self.stage.temperature)

    def steer_as_planned(self) -> None:
        while self.planned and self.planned[0].step <= self.step:
            event = self.planned.pop(0)
            self.steer(event.name, event.value)
