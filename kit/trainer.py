"""The one training loop. Iterate over a `Training` and it trains, one step a batch; everyone drives this same loop.

training = Training(recipe, data, student, teachers, seed=0)
for step in training:      # or `training.run()`
    ...                    # look at training.thermostat.t, training.steer("k", 5), stop whenever you like
training.metrics()
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from kit.data.augment import EpochPlan
from kit.data.base import Dataset, Split
from kit.errors import KitError
from kit.recipe import Recipe, Stage
from kit.runtime.malloc import keep_freed_memory
from kit.temperature import Moment
from kit.training.cost import Spent
from kit.training.evaluation import Evaluation, agreement, evaluate
from kit.training.forward import Machine, answering, augmented, sgd, single
from kit.training.history import History, StageRecord
from kit.training.micro_batches import MicroBatches, check_shareable
from kit.training.prefetch import Prefetch
from kit.training.state import restore_training, training_state
from kit.training.steering import Event, checked, steered
from kit.training.teachers import CachedLogits, Teachers
from kit.training.thermostat import Thermostat, mean


class Training:
    """A student, its teachers and a recipe, at some step of the way.

    `student` and `teachers` map images (N, 3, px, px) to logits (N, C). A teacher called "big" is the explained model:
    agreement is measured with it, whether or not a stage learns from it. The student's start weights are the caller's;
    `seed` decides batches and augmentation: on one thread of one machine it gives the same student bit for bit.
    `events` are changes of what may be steered, each to be made at its step. Teachers' logits are rounded to `logits`,
    whether computed here or read from `cached_logits`, by teacher, and charged at what they took. Of several ranks each
    has a training like this one, and they take every step together; epochs, metrics and state are the same in all.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: Dataset,
        student: nn.Module,
        teachers: Mapping[str, nn.Module],
        seed: int,
        events: Sequence[Event] = (),
        machine: Machine = Machine(),  # noqa: B008: frozen
        cached_logits: Mapping[str, CachedLogits] | None = None,
        logits: torch.dtype = torch.float32,
    ) -> None:
        keep_freed_memory()
        check_shareable(recipe, len(data.train), machine.ranks)
        self.recipe, self.data, self.seed, self.machine = recipe, data, seed, machine
        self.ranks, self.device = machine.ranks, torch.device(machine.device)
        self.student = student.to(self.device, memory_format=torch.channels_last)
        self.learner = self.ranks.wrap(self.student)  # answers for the student; its backward pass averages over ranks
        cached = dict(cached_logits or {}) if self.ranks.count == 1 else {}
        self.teachers = Teachers(teachers, recipe, self.device, cached, logits)
        self.mean, self.std = (stat.to(self.device) for stat in data.mean_std)
        self.images = Prefetch(data.train, self.device)
        self.batch = min(recipe.batch, len(data.train))
        self.steps_per_epoch = len(data.train) // self.batch
        self.total_steps = recipe.epochs * self.steps_per_epoch
        momentum = {"momentum": recipe.momentum, "nesterov": recipe.momentum > 0}
        self.optimiser = sgd(student, recipe.lr, weight_decay=recipe.weight_decay, fused=True, **momentum)
        self.micro_batches = MicroBatches(data.px, self.ranks)
        self.step = 0  # batches done
        self.notes: list[str] = []  # what a reader of the result should know, in a line each
        self.spent = Spent()
        self.history = History(self.total_steps, self.device)
        self.stages: list[StageRecord] = []
        self.epochs: list[dict[str, Any]] = []
        self.events: list[Event] = []  # what has been steered, in order
        self.planned = sorted(events, key=lambda event: event.step)  # to come; stable: one step's keep their order
        self.enter_stage(0)

    # ---- the loop ---------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[int]:
        while self.step < self.total_steps:
            epoch, done = divmod(self.step, self.steps_per_epoch)
            plan = EpochPlan(len(self.data.train), self.seed, epoch, self.recipe.pad, self.data.flip)
            batches = [self.ranks.share(indices) for indices in plan.batches(self.batch)][done:]
            for indices, following in zip(batches, [*batches[1:], None], strict=True):
                self._steer_as_planned()
                with self.spent.clock(self.device):
                    self._train_on(plan, indices, following)
                if self.step % self.steps_per_epoch == 0:
                    self._end_epoch(epoch + 1)  # before the caller sees the step, who may stop here and go on later
                yield self.step

    def run(self) -> Training:
        for _ in self:
            pass
        return self

    def _train_on(self, plan: EpochPlan, indices: Tensor, following: Tensor | None) -> None:
        self.student.train()
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate(self.step)
        loss, whole = self.micro_batches.run(lambda: self._gradient(plan, indices, following), self.stage, len(indices), self._note)
        self.optimiser.step()
        self.images.expect(following)  # now, as the temperature's step waits for a GPU that still works on this one
        self.history.record(self.step, loss, whole.zs, whole.y, len(self.stages) - 1, self.thermostat)
        if self.thermostat is not None:
            self.thermostat.observe(whole)
        self.spent.step(self.stage, len(indices) * self.ranks.count)
        self.step += 1
        self._maybe_end_stage()

    def _gradient(self, plan: EpochPlan, indices: Tensor, following: Tensor | None) -> tuple[Tensor, Moment]:
        """The batch's gradient, in parts that add up to it; its loss (), and what the temperature sees of it."""
        self.optimiser.zero_grad(set_to_none=True)
        epoch, batch = divmod(self.step, self.steps_per_epoch)
        known = self.teachers.known(epoch, batch, len(indices), self.steps_per_epoch, self.spent)
        parts = self.micro_batches.of((indices, *self.images.take(indices, following)), known)
        seen = [self._part(plan, *part, share=len(part[0]) / len(indices)) for part in parts]
        losses, zs, y, zt = zip(*seen, strict=True)
        logits = {name: torch.cat([each[name] for each in zt]) for name in zt[0]}
        return sum(losses), self._moment(None, torch.cat(y), torch.cat(zs), logits)

    def _part(
        self, plan: EpochPlan, indices: Tensor, pixels: Tensor, y: Tensor, known: Mapping[str, Tensor], share: float
    ) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        """Adds a part's share to the student's gradient; its share of the loss, its logits and labels."""
        objective = self.stage.objective
        x = augmented(plan, indices, pixels, self.mean, self.std)
        if objective.needs_input_gradient:
            x.requires_grad_()
        with answering(self.device, self.machine.precision):
            zs, logits = self.learner(x), self.teachers.answer(x, known)  # (N, C)
        at = self._moment(x, y, single(zs), {name: single(zt) for name, zt in logits.items()})
        loss = objective(at) * share
        loss.backward()
        self.teachers.learn(at)
        return loss.detach(), at.zs.detach(), y, {name: zt.detach() for name, zt in at.logits.items()}

    def _moment(self, x: Tensor | None, y: Tensor, zs: Tensor, logits: Mapping[str, Tensor]) -> Moment:
        """The moment of a part of the batch, with its temperatures; without its images, of the batch as a whole."""
        first = self.stages[-1].first_step
        at = Moment(
            x=x, y=y, zs=zs, logits=logits, student=self.student, teachers=self.teachers.present,
            step=self.step - first, stage_steps=self.stage_last_step - first,
            steps_per_epoch=self.steps_per_epoch, ranks=self.ranks,
        )  # fmt: skip
        if x is None or self.thermostat is None:
            return at
        return replace(at, temperatures=self.thermostat.given(at))

    def _note(self, line: str) -> None:
        self.notes.append(f"out of memory at step {self.step + 1}: from there on {line}")

    def learning_rate(self, step: int) -> float:
        """Linear warm-up to the peak, then a half cosine to 0, over the whole run and not restarted by stages."""
        rising = self.recipe.warmup * self.total_steps
        if step < rising:
            return self.recipe.lr * (step + 1) / (rising + 1)
        return self.recipe.lr * 0.5 * (1 + math.cos(math.pi * (step - rising) / (self.total_steps - rising)))

    # ---- stages, steered --------------------------------------------------------------------------------------

    @property
    def stage(self) -> Stage:
        """The stage it is in, as steered."""
        return steered(self.recipe.stages[len(self.stages) - 1], {event.name: event.value for event in self.events})

    def enter_stage(self, number: int) -> None:
        self.stages.append(StageRecord(self.recipe.stages[number].name, self.step, None))
        stage = self.stage
        self.stage_last_step = round(stage.until * self.total_steps)
        self.thermostat = Thermostat(stage.temperature, stage.teachers) if stage.temperature else None
        self.stages[-1].t_start = mean(self.thermostat.t) if self.thermostat else None
        self.teachers.enter(stage)

    def _maybe_end_stage(self) -> None:
        record, last = self.stages[-1], len(self.stages) == len(self.recipe.stages)
        record.steps = self.step - record.first_step
        if self.thermostat is not None:
            record.t_end = mean(self.thermostat.t)
        if self.thermostat is not None and self.thermostat.is_cold and not last:
            record.ended_by = "temperature"
        elif self.step >= self.stage_last_step:
            record.ended_by = "budget"
        if record.ended_by and not last:
            self.enter_stage(len(self.stages))
            if self.step >= self.stage_last_step:  # no step is left for it
                self._maybe_end_stage()

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
        if self.thermostat is not None:
            self.thermostat.steer(self.stage.temperature)

    def _steer_as_planned(self) -> None:
        while self.planned and self.planned[0].step <= self.step:
            event = self.planned.pop(0)
            self.steer(event.name, event.value)

    # ---- the record -------------------------------------------------------------------------------------------

    def agree(self) -> None:
        """What ranks have recorded, each of its own share, becomes what is true of all; before anything is read."""
        self.spent.settle()
        if self.ranks.count > 1:
            self.history.agree(self.step, self.ranks)
            self.spent.agree(self.ranks)

    def _end_epoch(self, epoch: int) -> None:
        self.agree()
        first = (epoch - 1) * self.steps_per_epoch
        self.history.check(first, self.step)
        top1, top5 = self.history.accuracy(first, self.step, self.batch)
        stage = self.recipe.stages[int(self.history.stage[self.step - 1])].name
        line = {"epoch": epoch, "stage": stage, "train_top1": top1, "train_top5": top5}  # running, augmented batches
        spent = {name: value for name, value in self.spent.record().items() if not name.startswith("cached")}
        self.epochs.append(line | self.evaluated(self.data.test).scores("test") | spent)

    def steps(self) -> list[dict[str, Any]]:
        """The history so far, one row a batch."""
        names = [stage.name for stage in self.recipe.stages]
        return self.history.rows(self.step, names, self.steps_per_epoch, self.batch, self.learning_rate)

    def metrics(self) -> dict[str, Any]:
        """Where the student stands: accuracies on both splits (clean images), cost, stages, likeness to its teacher."""
        self.agree()
        train, test = self.evaluated(self.data.train), self.evaluated(self.data.test)
        stages = [stage.row(self.steps_per_epoch) for stage in self.stages]
        metrics = train.scores("train") | test.scores("test") | self.spent.record() | {"stages": stages}
        if "big" in self.teachers.networks:
            big = self.evaluated(self.data.test, self.teachers.networks["big"])
            metrics["agreement"] = agreement(big.logits, test.logits)
        return metrics

    def evaluated(self, split: Split, network: nn.Module | None = None) -> Evaluation:
        """How the student, or another network, answers on a split."""
        return evaluate(network or self.student, split, self.mean, self.std, self.ranks)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that the next step hangs on, and the history: tensors by name, and the rest as plain JSON."""
        self.agree()
        return training_state(self)

    def restore(self, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> None:
        """Puts a training made with the same arguments where `state` was taken; torch's own stream with it."""
        restore_training(self, tensors, plain)
