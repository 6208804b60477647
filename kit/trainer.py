"""The one training loop. Iterate over a `Training` and it trains, one step a batch; everyone drives this same loop.

training = Training(recipe, data, student, teachers, seed=0)
for step in training:      # or `training.run()`
    ...                    # look at training.thermostat.t, training.steer("k", 5), stop whenever you like
training.metrics()
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from kit.data.augment import EpochPlan
from kit.data.base import Dataset
from kit.recipe import Recipe
from kit.runtime.process import keep_freed_memory
from kit.training.batches import MicroBatches, Prefetch
from kit.training.captured import Captured, Learner
from kit.training.forward import ON_CPU, Machine, answering, augmented, beside, on_device, single
from kit.training.moment import Moment, joined, one_number
from kit.training.optimiser import sgd
from kit.training.record import Recorded
from kit.training.steering import Event
from kit.training.teachers import CachedLogits, Teachers


class Training(Recorded):
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
        machine: Machine = ON_CPU,
        cached_logits: Mapping[str, CachedLogits] | None = None,
        logits: torch.dtype = torch.float32,
    ) -> None:
        keep_freed_memory()
        super().__init__(recipe, data, events, machine)
        self.seed = seed
        self.student = on_device(student, self.device).train()
        self.learner = Learner(self.ranks.wrap(self.student), len(data.classes))  # its gradients are all ranks' mean
        self.teachers = Teachers(teachers, recipe, machine, cached_logits or {}, logits)
        nesterov = recipe.nesterov and recipe.momentum > 0
        self.optimiser = sgd(student, recipe, recipe.lr, nesterov=nesterov, fused=True)
        as_drawn = partial(augmented, pad=recipe.pad, padding=recipe.padding, mean=self.mean, std=self.std)
        self.images, self.augmented = Prefetch(data.train, self.device), Captured(as_drawn)
        self.beside, self.micro_batches = beside(self.device), MicroBatches()
        self.enter_stage()

    def __iter__(self) -> Iterator[int]:
        while self.step < self.total_steps:
            epoch, done = divmod(self.step, self.steps_per_epoch)
            plan = EpochPlan(len(self.data.train), self.seed, epoch, self.recipe.pad, self.data.flip)
            batches = [*map(self.ranks.shard, plan.batches(self.batch, self.recipe.keep_last))][done:]
            for indices, following in zip(batches, [*batches[1:], None], strict=True):
                self.steer_as_planned()
                with self.spent.clock(self.device):
                    self._train_on(plan, indices, following)
                if self.step % self.steps_per_epoch == 0:
                    self.end_epoch(epoch + 1)  # before the caller sees the step, who may stop here and go on later
                yield self.step

    def run(self) -> Training:
        for _ in self:
            pass
        return self

    def _train_on(self, plan: EpochPlan, indices: Tensor, following: Tensor | None) -> None:
        """One step on the batch of these images (N,); the `following` one's begin to come."""
        if not self.student.training:
            self.student.train()
        for group in self.optimiser.param_groups:
            group["lr"] = self.lr
        epoch, batches = divmod(self.step, self.steps_per_epoch)
        known = self.teachers.known(epoch, batches * self.batch, len(indices), self.spent)
        loss, parts = self.micro_batches.run(self, partial(self._gradient, plan, indices, following, known))
        at = joined(parts)
        self.optimiser.step()
        self.images.expect(following)  # now, as the temperature's step waits for a GPU that still works on this one
        self.history.record(self.step, loss, at, len(self.stages) - 1)
        if self.thermostat is not None:
            self.history.trace(self.step, self.thermostat.trace(parts))
            self.thermostat.observe(at, parts)
        self.spent.step(self.stage, self.teachers.present, len(indices) * self.ranks.count)
        self.end_step()

    def _gradient(
        self, plan: EpochPlan, indices: Tensor, following: Tensor | None, known: Mapping[str, Tensor]
    ) -> tuple[Tensor, Sequence[Moment]]:
        """The batch's gradient, in parts that add up to it; its loss (), and the parts' moments."""
        self.optimiser.zero_grad(set_to_none=True)
        parts = self.micro_batches.of((indices, *self.images.take(indices, following)), known)
        losses, moments = zip(*[self._part(plan, len(part[0]) / len(indices), *part) for part in parts], strict=True)
        return sum(losses), moments

    def _part(
        self, plan: EpochPlan, share: float, indices: Tensor, pixels: Tensor, y: Tensor, known: Mapping[str, Tensor]
    ) -> tuple[Tensor, Moment]:
        """Adds a part's share to the student's gradient; its share of the loss, and the moment it comes from."""
        stage, first = self.stage, self.stages[-1].first_step
        x = self.augmented(pixels, *plan.changes(indices, self.device))  # (N, 3, H, W)
        if stage.objective.needs_input_gradient:
            x = x.detach().requires_grad_()
        with answering(self.device, self.machine.precision):
            zs, logits = self.learner(x), self.teachers.answer(x, known)  # (N, C)
        at = Moment(
            x=x, y=y, zs=single(zs), logits={name: single(zt) for name, zt in logits.items()},
            student=self.student, teachers=self.teachers.present, beside=self.beside(), step=self.step - first,
            stage_steps=self.last_step - first, steps_per_epoch=self.steps_per_epoch, lr=self.lr, ranks=self.ranks,
        )  # fmt: skip
        at = at if self.thermostat is None else replace(at, temperatures=self.thermostat.given(at))
        loss = one_number(f"objective {stage.objective.kind!r}", stage.objective(at)) * share
        loss.backward()
        self.teachers.learn(at)
        return loss.detach(), at
