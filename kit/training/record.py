"""A training as it goes through its stages and is written down: history, cost, a line an epoch, metrics at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kit.data.augment import batch_sizes
from kit.data.base import Dataset, Split
from kit.errors import KitError
from kit.recipe import Recipe, Stage
from kit.training.batches import MicroBatches, check_shareable
from kit.training.cost import Spent
from kit.training.evaluation import Evaluation, agreement, evaluate, recalls
from kit.training.forward import Machine
from kit.training.history import Diverged, History
from kit.training.moment import same_shape
from kit.training.optimiser import learning_rate
from kit.training.steering import Event, checked, steered
from kit.training.teachers import Teachers
from kit.training.thermostat import Thermostat, mean

MEAN = "mean of teachers"  # what their averaged probabilities are called


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


class Recorded:
    """A student that is taught stage after stage, with everything recorded. Subclasses do the teaching.

    `step` are batches done; `thermostat` is the present stage's, if it has one. `events` is what has been steered, in
    order; those given are planned, each to be made at its step.
    """

    student: nn.Module
    teachers: Teachers
    optimiser: torch.optim.SGD
    micro_batches: MicroBatches

    def __init__(self, recipe: Recipe, data: Dataset, events: Sequence[Event], machine: Machine) -> None:
        check_shareable(recipe, len(data.train), machine.ranks)
        self.recipe, self.data, self.machine, self.ranks = recipe, data, machine, machine.ranks
        self.sizes = batch_sizes(len(data.train), recipe.batch, recipe.keep_last)  # of an epoch's batches
        self.batch, self.steps_per_epoch = self.sizes[0], len(self.sizes)
        self.total_steps, self.step = recipe.epochs * self.steps_per_epoch, 0
        self.device = machine.here()
        self.mean, self.std = (stat.to(self.device) for stat in data.mean_std)  # (3,), in 0…255
        self.planned = sorted(events, key=lambda event: event.step)  # stable: events of one step keep their order
        if self.planned and self.planned[-1].step >= self.total_steps:
            late = f"step {self.planned[-1].step} is not allowed for an event"
            raise KitError(f"{late}; allowed: before the last of {self.total_steps} batches")
        self.events: list[Event] = []
        self.stages: list[StageRecord] = []
        self.spent = Spent()
        self.history = History(self.total_steps, self.device)
        self.epochs: list[dict[str, Any]] = []
        self._tested: tuple[int, Evaluation] | None = None  # after which step, and how
        self.notes: list[str] = []  # what a reader of the result should know, in a line each

    # ---- the way through the stages ----------------------------------------------------------------------------------

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

    def enter_stage(self) -> None:
        """Goes on to the next stage, and through it where no step is left for it."""
        self.stages.append(StageRecord(self.recipe.stages[len(self.stages)].name, self.step, None))
        temperature = self.stage.temperature
        self.thermostat = Thermostat(temperature, self.stage.teachers) if temperature else None
        self.stages[-1].t_start = mean(self.thermostat.t) if self.thermostat else None
        self.teachers.enter(self.stage, self.asked)
        if self.step >= self.last_step:
            self._maybe_end_stage()

    def end_step(self) -> None:
        """Counts a step, and goes on to the next stage where this one is over."""
        self.step += 1
        self.teachers.attend(self.asked)  # a teacher may have been the last time
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
            self.enter_stage()

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

    # ---- what is written down ----------------------------------------------------------------------------------------

    def agree(self) -> None:
        """What ranks have recorded, each of its own share, becomes what is true of all; before anything is read."""
        self.spent.settle()
        if self.ranks.count > 1:
            self.history.agree(self.step, self.ranks)
            self.spent.agree(self.ranks)

    def end_epoch(self, epoch: int) -> None:
        """Writes down an epoch, counted from 1. Raises Diverged where a loss or logits are not numbers."""
        self.agree()
        first = (epoch - 1) * self.steps_per_epoch
        top1, top5 = self.history.accuracy(first, self.step, sum(self.sizes))  # running, of augmented batches
        stage = self.recipe.stages[int(self.history.stage[self.step - 1])].name
        line = {"epoch": epoch, "stage": stage, "train_top1": top1, "train_top5": top5}
        self.epochs.append(line | self.tested().scores("test") | self.spent.so_far())

    def steps(self) -> list[dict[str, Any]]:
        """The history so far, one row a batch."""
        return self.history.rows(self.recipe, self.step, self.sizes)

    def metrics(self) -> dict[str, Any]:
        """Where the student stands: accuracies on both splits (clean images), cost, stages, likeness to its teacher."""
        self.agree()
        train, test = self.evaluated(self.data.train), self.tested()
        stages = {"stages": [stage.row(self.steps_per_epoch) for stage in self.stages]}
        metrics = train.scores("train") | test.scores("test") | self.spent.record() | stages
        metrics["test_recalls"] = recalls(test.logits, self.data.test.labels)  # by class
        several = self.recipe.teachers if any(len(stage.teachers) > 1 for stage in self.recipe.stages) else ()
        asked = (*several, "big") if "big" in self.teachers.networks else several
        logits = {name: self.answers(name) for name in asked}
        if "big" in logits:
            metrics["agreement"] = agreement(logits["big"], test.logits)
        if several:
            mean = torch.stack([logits[name].softmax(-1) for name in several]).mean(0)  # (N, C)
            logits[MEAN] = mean.clamp(min=torch.finfo(mean.dtype).tiny).log()  # their softmax is that mean
            metrics["agreements"] = {name: agreement(logits[name], test.logits) for name in (*several, MEAN)}
        return metrics

    def tested(self) -> Evaluation:
        """How the student answers on the test split after this step: the run's last is an epoch's last, too."""
        if self._tested is None or self._tested[0] != self.step:
            self._tested = self.step, self.evaluated(self.data.test)
        return self._tested[1]

    def answers(self, name: str) -> Tensor:
        """A teacher's logits (N, C) of the test split, for which it is asked once."""
        known = self.teachers.answers[name]
        if known.logits is None:
            known.logits = self.evaluated(self.data.test, name).logits
        same_shape(f"teacher {name!r}", known.logits, self.tested().logits)
        return known.logits

    def evaluated(self, split: Split, teacher: str | None = None) -> Evaluation:
        """How the student, or a teacher, answers on a split. Raises Diverged where its logits are no numbers."""
        network = self.student if teacher is None else self.teachers.networks[teacher]
        found = evaluate(network, split, self.mean, self.std, self.ranks)
        if not found.logits.isfinite().all():
            whose = "the student's" if teacher is None else f"teacher {teacher}'s"
            raise Diverged(self.step, f"{whose} logits are not finite numbers after step {self.step}")
        return found

    # ---- what it needs to go on elsewhere ---------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that the next step hangs on, and the history: tensors by name, and the rest as plain JSON."""
        self.agree()
        tensors = network_state("student", self.student, self.optimiser)
        if self.teachers.learning:
            tensors |= network_state("teacher", *self.teachers.learning)
        tensors |= self.history.tensors(self.step)
        tensors["random.cpu"] = torch.get_rng_state()  # dropout draws from torch's own stream
        if self.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.device)
        plain = {
            "step": self.step,
            "micro_batches": self.micro_batches.count,
            "notes": self.notes,
            "events": [event.model_dump() for event in self.events],
            "stages": [asdict(record) for record in self.stages],
            "epochs": self.epochs,
            "thermostat": self.thermostat.state() if self.thermostat else None,
            "spent": self.spent.record(),
        }
        return tensors, plain

    def restore(self, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> None:
        """Puts a training made with the same arguments where a state was taken; torch's own stream with it."""
        self.events = [Event(**event) for event in plain["events"]]
        self.planned = [event for event in self.planned if event.step >= plain["step"]]
        *before, current = (StageRecord(**record) for record in plain["stages"])
        self.stages, self.step = before, current.first_step
        self.enter_stage()
        self.stages[-1], self.step = current, plain["step"]
        self.micro_batches.count, self.notes = plain["micro_batches"], list(plain["notes"])
        restore_network("student", self.student, self.optimiser, tensors)
        if self.teachers.learning:
            restore_network("teacher", *self.teachers.learning, tensors)
        if self.thermostat is not None:
            self.thermostat.restore(plain["thermostat"])
            self.teachers.attend(self.asked)
        self.history.restore(tensors, self.step)
        self.epochs = [dict(epoch) for epoch in plain["epochs"]]
        self.spent = Spent(**plain["spent"])
        torch.set_rng_state(tensors["random.cpu"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random.cuda"], self.device)


def network_state(prefix: str, network: nn.Module, optimiser: torch.optim.SGD) -> dict[str, Tensor]:
    """A network's weights and buffers, and its optimiser's momentum, by name under `prefix`."""
    weights = {f"{prefix}.{name}": tensor for name, tensor in network.state_dict().items()}
    momenta = {name: optimiser.state[p].get("momentum_buffer") for name, p in network.named_parameters()}
    return weights | {f"{prefix}-momentum.{name}": m for name, m in momenta.items() if m is not None}


def restore_network(prefix: str, network: nn.Module, optimiser: torch.optim.SGD, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of `network_state`. Momentum gets its weight's memory layout: fused steps walk both in step."""
    network.load_state_dict({name: tensors[f"{prefix}.{name}"] for name in network.state_dict()})
    for name, parameter in network.named_parameters():
        saved = tensors.get(f"{prefix}-momentum.{name}")
        if saved is not None:
            optimiser.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(saved).detach()
