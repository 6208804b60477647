"""The one training loop. Iterate over a `Training` and it trains, one step a batch; everyone drives this same loop.

training = Training(recipe, data, student, teachers, seed=0)
for step in training:      # or `training.run()`
    ...                    # look at training.thermostat.t, training.steer("k", 5), stop whenever you like
training.metrics()
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from kit.allocator import keep_freed_memory
from kit.data.arrivals import Arrivals
from kit.data.augment import EpochPlan, augment, normalise
from kit.data.base import Dataset, Split
from kit.errors import KitError, not_one_of
from kit.folding import folded
from kit.losses import kl_divergence, topk_correct
from kit.parallel import ALONE, Ranks
from kit.recipe import Moment, Objective, Recipe, Stage
from kit.steering import Event, checked, steered
from kit.temperature import Thermostat

EVALUATION_BATCH = 100  # of five times as many, the activations are most of a process' memory
SMALLEST_PART = 2  # images that a batch norm needs

Precision = Literal["float32", "bfloat16"]


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


@dataclass(frozen=True)
class Cost:
    """Seconds that something took."""

    wall_s: float
    cpu_s: float
    gpu_s: float


@dataclass(frozen=True)
class EpochLogits:
    """A teacher's logits of one epoch's batches in their order, (steps · batch, C), and what computing them took."""

    logits: Tensor
    cost: Cost


Recall = Callable[[int], EpochLogits | None]  # an epoch's logits, counted from 0; None where they are not known


@dataclass
class Spent:
    """What the student's procedure has cost so far; evaluation is left out, teachers' forward passes are in."""

    wall_s: float = 0.0
    cpu_s: float = 0.0  # of this process; of all ranks together, once they have agreed
    gpu_s: float = 0.0  # by CUDA events, 0 without a GPU; likewise
    student_images: float = 0  # images the student was trained on, each as often as its objective's work says
    teacher_images: dict[str, float] = field(default_factory=dict)  # forward passes, by teacher, cached or not
    cached_logits_images: int = 0  # of these passes, those whose logits were read instead of computed
    cached_logits_s: float = 0.0  # process CPU (of a GPU: its own) seconds that computing them had taken: in the above
    _events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._agreed = self.wall_s, self.cpu_s, self.gpu_s  # when the ranks last did

    @contextmanager
    def clock(self, device: torch.device) -> Iterator[None]:
        """Times what is done inside, without waiting for a GPU."""
        wall, cpu = time.perf_counter(), time.process_time()
        if device.type == "cuda":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
        yield
        if device.type == "cuda":
            end.record()
            self._events.append((begin, end))
        self.wall_s += time.perf_counter() - wall
        self.cpu_s += time.process_time() - cpu

    def charge(self, cost: Cost, share: float, images: int, device: torch.device) -> None:
        """Adds what computing cached logits had taken, as if it had been done here."""
        self.wall_s += share * cost.wall_s
        self.cpu_s += share * cost.cpu_s
        self.gpu_s += share * cost.gpu_s
        self.cached_logits_s += share * (cost.gpu_s if device.type == "cuda" else cost.cpu_s)
        self.cached_logits_images += images

    def settle(self) -> None:
        """Adds up the GPU's time; waits for it. Called once an epoch."""
        if self._events:
            torch.cuda.synchronize()
            self.gpu_s += sum(begin.elapsed_time(end) for begin, end in self._events) / 1000
            self._events.clear()

    def agree(self, ranks: Ranks) -> None:
        """Process and GPU seconds become the sum over the ranks, which spent them side by side, wall seconds the mean.
        All ranks call it at the same step."""
        since = zip((self.wall_s, self.cpu_s, self.gpu_s), self._agreed, strict=True)
        wall, cpu, gpu = ranks.sum(torch.tensor([now - then for now, then in since], dtype=torch.float64)).tolist()
        fresh = wall / ranks.count, cpu, gpu
        self._agreed = tuple(then + more for then, more in zip(self._agreed, fresh, strict=True))
        self.wall_s, self.cpu_s, self.gpu_s = self._agreed


class Training:
    """A student, its teachers and a recipe, at some step of the way.

    `student` and `teachers` map images (N, 3, px, px) to logits (N, C). A teacher called "big" is the explained model:
    agreement is measured with it, whether or not a stage learns from it. The student's start weights are the caller's;
    `seed` decides batches and augmentation. The same seed gives the same student bit for bit on one thread of one CPU.
    `steer` changes K, α or the temperature's rate on the way; `events` are such changes, each to be made at its step.
    `recall` may know logits of a teacher, by its name: those are read, not computed, and charged at what they took.
    `logits` is what teachers' logits are rounded to, cached or not, so that it makes no difference to the student.
    Under `precision` bfloat16 student and teacher answer in it where torch's autocast says so; weights, losses,
    temperature and evaluation stay float32. Of several `ranks` each has a training like this one, made alike, and they
    take every step together; epochs, metrics and state are then the same in all, and asked for by all.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: Dataset,
        student: nn.Module,
        teachers: Mapping[str, nn.Module],
        seed: int,
        device: str = "cpu",
        events: Sequence[Event] = (),
        precision: Precision = "float32",
        ranks: Ranks = ALONE,
        recall: Mapping[str, Recall] | None = None,
        logits: torch.dtype = torch.float32,
    ) -> None:
        keep_freed_memory()
        check_shareable(recipe, len(data.train), ranks)
        if precision not in get_args(Precision):
            raise not_one_of("precision", precision, get_args(Precision))
        self.recipe, self.data, self.seed = recipe, data, seed
        self.device, self.precision, self.ranks = torch.device(device), precision, ranks
        self.student = student.to(self.device, memory_format=torch.channels_last)
        self.learner = ranks.wrap(self.student)  # it answers, and learns, in the student's name
        needed = dict.fromkeys((*recipe.teachers, *teachers))
        self.teachers = {name: frozen(teachers[name], self.device) for name in needed}
        self._folded = {name: folded(self.teachers[name]) for name in recipe.teachers}
        self.recall, self.logits = dict(recall or {}), logits
        self.mean, self.std = (stat.to(self.device) for stat in data.mean_std)

        self.arrivals = Arrivals(data.train, self.device)
        self.batch = min(recipe.batch, len(data.train))
        self.steps_per_epoch = len(data.train) // self.batch
        self.total_steps = recipe.epochs * self.steps_per_epoch
        self.optimiser = torch.optim.SGD(
            parameter_groups(student, recipe.weight_decay),
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.momentum > 0,
            fused=True,
        )

        self.step = 0  # batches done
        self._agreed = 0  # steps of which the history is that of all ranks
        self.parts = 1  # in which a batch is taken, so that it fits the memory
        self.notes: list[str] = []  # what a reader of the result should know, in a line each
        self.spent = Spent()
        self.stages: list[StageRecord] = []
        self.epochs: list[dict] = []
        self.loss = torch.zeros(self.total_steps, device=self.device)  # filled in place: no sync with the device a step
        self.hits = torch.zeros(self.total_steps, 2, dtype=torch.int64, device=self.device)  # top-1, top-5
        self.temperatures = torch.full((self.total_steps, 2), math.nan, dtype=torch.float64)  # t and what was used
        self.stage_index = torch.zeros(self.total_steps, dtype=torch.int64)
        self.events: list[Event] = []  # what has been steered, in order
        self._planned = sorted(events, key=lambda event: event.step)  # to come; stable: one step's keep their order
        self._steered: dict[str, float] = {}
        self._recalled: tuple[tuple[str, int], EpochLogits | None] | None = None  # of a teacher and epoch
        self._enter_stage(0)

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
        stage, objective = self.stage, self.stage.objective
        self.student.train()
        self._set_learning_rate()
        loss, zs, zt, y = self._gradient(plan, indices)
        self.optimiser.step()
        self.arrivals.expect(following)  # now, as the temperature's step waits for a GPU that still works on this one

        self._record(loss, zs, y)
        if self.thermostat is not None:
            self.thermostat.observe(zt, zs)
        self.step += 1
        images = len(y) * self.ranks.count
        self.spent.student_images += images * objective.student_work
        if stage.teacher is not None:
            seen = self.spent.teacher_images.get(stage.teacher, 0)
            self.spent.teacher_images[stage.teacher] = seen + images * objective.teacher_work
        self._maybe_end_stage()

    def _gradient(self, plan: EpochPlan, indices: Tensor) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """The batch's gradient, in `parts` that add up to it; its loss (), zs and zt (N, C), and labels (N,)."""
        known = self._known_logits(len(indices))
        while True:
            try:
                self.optimiser.zero_grad(set_to_none=True)
                zt = [None] * self.parts if known is None else known.tensor_split(self.parts)
                batch = (indices, *self.arrivals.take(indices))
                parts = zip(*(half.tensor_split(self.parts) for half in batch), zt, strict=True)
                seen = [self._part(plan, part, pixels, y, zt, len(y) / len(indices)) for part, pixels, y, zt in parts]
                break
            except torch.OutOfMemoryError:
                pass  # and out of this block, so that what the error holds on to is free
            self._split_further(len(indices))
        losses, zs, zt, y = zip(*seen, strict=True)
        return sum(losses), torch.cat(zs), None if zt[0] is None else torch.cat(zt), torch.cat(y)

    def _part(
        self, plan: EpochPlan, indices: Tensor, pixels: Tensor, y: Tensor, zt: Tensor | None, share: float
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """Adds a part's share to the student's gradient; its share of the loss, its logits and labels. The teacher is
        asked unless zt is known; one that learns along takes its step here, from the same logits."""
        objective = self.stage.objective
        x = augmented(plan, indices, pixels, self.mean, self.std)
        if objective.needs_input_gradient:
            x.requires_grad_()
        with answering(self.device, self.precision):
            zs = self.learner(x)  # (N, C)
            if self.teacher is not None and zt is None:
                quick = self._folded[self.stage.teacher]
                zt = self.teacher(x) if needs_graph(objective) else teach(quick, x, self.logits)  # (N, C)
        zs, zt = single(zs), None if zt is None else single(zt)
        t = self.thermostat.used if self.thermostat else 1.0
        moment = Moment(x, y, zs, zt, t, self.student, self.teacher, self.stage_progress())
        loss = objective(moment) * share
        loss.backward()
        if objective.trains_teacher:
            self.teacher_optimiser.zero_grad(set_to_none=True)
            objective.teacher_loss(moment).backward()
            self.teacher_optimiser.step()
        return loss.detach(), zs.detach(), None if zt is None else zt.detach(), y

    def _split_further(self, images: int) -> None:
        """After running out of memory: half as many images at a time, from this batch on. KitError at the end of it.

        Losses that are means over images keep their gradient to rounding; batch norms see smaller batches, so a
        student that has them comes out a little different (and the failed attempt has moved their statistics once).
        """
        size = images // self.parts
        if self.ranks.count > 1:
            raise KitError(
                f"out of memory with {size} images of {self.data.px} px in each of {self.ranks.count} processes, which "
                f"cannot take them in parts; a smaller batch, a narrower network or more processes would fit"
            )
        if self.stage.objective.trains_teacher or size < 2 * SMALLEST_PART:
            raise KitError(
                f"out of memory with {size} images of {self.data.px} px at a time, and they cannot be fewer; "
                f"a narrower network, smaller images or, side by side, fewer runs would fit"
            )
        self.parts *= 2
        self.notes.append(
            f"out of memory at step {self.step + 1}: from there on batches were taken {images // self.parts} images at "
            f"a time, which changes what batch norms see"
        )
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _known_logits(self, images: int) -> Tensor | None:
        """The teacher's logits (N, C) for this step's batch, charged, where they are recalled. Not to be written to."""
        name = self.stage.teacher
        if name not in self.recall or needs_graph(self.stage.objective) or self.ranks.count > 1:
            return None
        epoch, batch = divmod(self.step, self.steps_per_epoch)
        if self._recalled is None or self._recalled[0] != (name, epoch):
            self._recalled = (name, epoch), self.recall[name](epoch)
        recalled = self._recalled[1]
        if recalled is None:
            return None
        self.spent.charge(recalled.cost, 1 / self.steps_per_epoch, images, self.device)
        rows = recalled.logits[batch * images : (batch + 1) * images]
        return rows.to(self.device, torch.float32)

    def _set_learning_rate(self) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate(self.step)

    def learning_rate(self, step: int) -> float:
        """Linear warm-up to the peak, then a half cosine to 0, over the whole run and not restarted by stages."""
        rising = self.recipe.warmup * self.total_steps
        if step < rising:
            return self.recipe.lr * (step + 1) / (rising + 1)
        return self.recipe.lr * 0.5 * (1 + math.cos(math.pi * (step - rising) / (self.total_steps - rising)))

    # ---- steering ---------------------------------------------------------------------------------------------

    def steer(self, name: str, value: float) -> None:
        """Sets `k`, `alpha` or `rate` from the next batch on, in this stage and those after it, and records it.

        t follows K into [1, K] at once; a stage entered later starts at K. What a stage lacks (a fixed temperature has
        no K, hard labels no α) it does not get. Raises KitError for values that are not allowed, and after the end.
        """
        value = checked(name, value)
        if self.step >= self.total_steps:
            raise KitError(f"{name} cannot be steered any more: all {self.total_steps} batches are done")
        self.events.append(Event(step=self.step, name=name, value=value))
        self._steered[name] = value
        if self.thermostat is not None:
            self.thermostat.policy = self.stage.temperature
            if name == "k":
                self.thermostat.k = value

    def _steer_as_planned(self) -> None:
        while self._planned and self._planned[0].step <= self.step:
            event = self._planned.pop(0)
            self.steer(event.name, event.value)

    # ---- stages -----------------------------------------------------------------------------------------------

    @property
    def stage(self) -> Stage:
        """The stage it is in, as steered."""
        return steered(self.recipe.stages[len(self.stages) - 1], self._steered)

    def _enter_stage(self, number: int) -> None:
        stage = steered(self.recipe.stages[number], self._steered)
        self._stage_last_step = round(stage.until * self.total_steps)
        budget = self._stage_last_step - self.step
        moving = (stage.temperature, self.steps_per_epoch, budget, self.ranks)
        self.thermostat = Thermostat(*moving) if stage.temperature else None
        self.teacher = self.teachers.get(stage.teacher)
        if stage.objective.trains_teacher:  # a copy learns; the original stays what agreement is measured with
            self.teacher = copy.deepcopy(self.teacher).requires_grad_()
            self.teacher_optimiser = torch.optim.SGD(
                parameter_groups(self.teacher, self.recipe.weight_decay),
                lr=stage.objective.teacher_lr,
                momentum=self.recipe.momentum,
            )
        self.stages.append(StageRecord(stage.name, self.step, self.thermostat.t if self.thermostat else None))

    def stage_progress(self) -> float:
        """How much of its budget the stage has used, 0…1."""
        first = self.stages[-1].first_step
        return (self.step - first) / max(1, self._stage_last_step - first)

    def _maybe_end_stage(self) -> None:
        record, last = self.stages[-1], len(self.stages) == len(self.recipe.stages)
        record.steps = self.step - record.first_step
        if self.thermostat is not None:
            record.t_end = self.thermostat.t
        if self.thermostat is not None and self.thermostat.is_cold and not last:
            record.ended_by = "temperature"
        elif self.step >= self._stage_last_step:
            record.ended_by = "budget"
        if record.ended_by and not last:
            self._enter_stage(len(self.stages))
            if self.step >= self._stage_last_step:  # no step is left for it
                self._maybe_end_stage()

    # ---- stopping here, going on elsewhere --------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that the next step hangs on, and the history: tensors by name, and the rest as plain JSON."""
        self.spent.settle()
        self._agree()
        tensors = network_state("student", self.student, self.optimiser)
        if self.stage.objective.trains_teacher:
            tensors |= network_state("teacher", self.teacher, self.teacher_optimiser)
        tensors |= {name: getattr(self, name)[: self.step] for name in HISTORIES}
        tensors["random.cpu"] = torch.get_rng_state()  # dropout draws from torch's own stream
        if self.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.device)
        plain = {
            "step": self.step,
            "parts": self.parts,
            "notes": self.notes,
            "events": [event.model_dump() for event in self.events],
            "stages": [asdict(record) for record in self.stages],
            "epochs": self.epochs,
            "thermostat": self.thermostat.state() if self.thermostat else None,
            "spent": {name: getattr(self.spent, name) for name in SPENT},
        }
        return tensors, plain

    def restore(self, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> None:
        """Puts a training made with the same arguments where `state` was taken; torch's own stream with it."""
        self.events = [Event(**event) for event in plain["events"]]
        self._steered = {event.name: event.value for event in self.events}
        self._planned = [event for event in self._planned if event.step >= plain["step"]]
        *before, current = (StageRecord(**record) for record in plain["stages"])
        self.stages, self.step = before, current.first_step
        self._enter_stage(len(before))
        self.stages[-1], self.step, self.parts = current, plain["step"], plain["parts"]
        self._agreed = self.step
        self.notes = list(plain["notes"])
        restore_network("student", self.student, self.optimiser, tensors)
        if self.stage.objective.trains_teacher:
            restore_network("teacher", self.teacher, self.teacher_optimiser, tensors)
        if self.thermostat is not None:
            self.thermostat.restore(plain["thermostat"])
        for name in HISTORIES:
            getattr(self, name)[: self.step] = tensors[name]
        self.epochs = [dict(epoch) for epoch in plain["epochs"]]
        self.spent = Spent(**plain["spent"])
        torch.set_rng_state(tensors["random.cpu"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random.cuda"], self.device)

    # ---- the record -------------------------------------------------------------------------------------------

    def _record(self, loss: Tensor, zs: Tensor, y: Tensor) -> None:
        self.loss[self.step] = loss
        self.hits[self.step] = topk_correct(zs, y)
        self.stage_index[self.step] = len(self.stages) - 1
        if self.thermostat is not None:
            self.temperatures[self.step, 0] = self.thermostat.t
            self.temperatures[self.step, 1] = self.thermostat.used

    def _agree(self) -> None:
        """What ranks have recorded, each of its own share, becomes what is true of all; before anything is read."""
        if self.ranks.count == 1:
            return
        new = slice(self._agreed, self.step)
        self.loss[new], self.hits[new] = self.ranks.mean(self.loss[new]), self.ranks.sum(self.hits[new])
        self.spent.agree(self.ranks)
        self._agreed = self.step

    def _end_epoch(self, epoch: int) -> None:
        self.spent.settle()
        self._agree()
        first = (epoch - 1) * self.steps_per_epoch
        not_finite = (~torch.isfinite(self.loss[first : self.step])).nonzero()
        if len(not_finite):
            raise Diverged(first + int(not_finite[0]) + 1)
        train = self.hits[first : self.step].sum(0).double() / (self.batch * self.steps_per_epoch)
        test = self._evaluated(self.student, self.data.test)
        self.epochs.append(
            {
                "epoch": epoch,
                "stage": self.recipe.stages[int(self.stage_index[self.step - 1])].name,
                "train_top1": float(train[0]),  # running, over the epoch's augmented batches
                "train_top5": float(train[1]),
                "test_top1": test.top1,
                "test_top5": test.top5,
                "wall_s": self.spent.wall_s,
                "cpu_s": self.spent.cpu_s,
                "gpu_s": self.spent.gpu_s,
                "student_images": self.spent.student_images,
                "teacher_images": dict(self.spent.teacher_images),
            }
        )

    def steps(self) -> list[dict]:
        """The history so far, one row a batch: step, epoch, stage, loss, t, t_used, lr, batch_top1."""
        loss, hits = self.loss[: self.step].tolist(), self.hits[: self.step].tolist()
        temperatures, stages = self.temperatures[: self.step].tolist(), self.stage_index[: self.step].tolist()
        return [
            {
                "step": i + 1,
                "epoch": (i + 1) / self.steps_per_epoch,
                "stage": self.recipe.stages[stages[i]].name,
                "loss": loss[i],
                "t": temperatures[i][0],
                "t_used": temperatures[i][1],
                "lr": self.learning_rate(i),
                "batch_top1": hits[i][0] / self.batch,
            }
            for i in range(self.step)
        ]

    def metrics(self) -> dict:
        """Where the student stands: accuracies on both splits (clean images), cost, stages, likeness to its teacher."""
        self._agree()
        train = self._evaluated(self.student, self.data.train)
        test = self._evaluated(self.student, self.data.test)
        metrics = {
            "train_top1": train.top1,
            "train_top5": train.top5,
            "test_top1": test.top1,
            "test_top5": test.top5,
            "wall_s": self.spent.wall_s,
            "cpu_s": self.spent.cpu_s,
            "gpu_s": self.spent.gpu_s,
            "cached_logits_s": self.spent.cached_logits_s,
            "cached_logits_images": self.spent.cached_logits_images,
            "student_images": self.spent.student_images,
            "teacher_images": dict(self.spent.teacher_images),
            "stages": [
                {
                    "name": stage.name,
                    "epochs": stage.steps / self.steps_per_epoch,
                    "steps": stage.steps,
                    "ended_by": stage.ended_by,
                    "t_start": stage.t_start,
                    "t_end": stage.t_end,
                }
                for stage in self.stages
            ],
        }
        if "big" in self.teachers:
            big = self._evaluated(self.teachers["big"], self.data.test)
            metrics["agreement"] = agreement(big.logits, test.logits)
        return metrics

    def _evaluated(self, network: nn.Module, split: Split) -> Evaluation:
        return evaluate(network, split, self.mean, self.std, self.ranks)


# ---- what the loop is made of, each usable alone ------------------------------------------------------------------

HISTORIES = ("loss", "hits", "temperatures", "stage_index")  # of a Training: filled in place, a row a step
SPENT = (
    "wall_s", "cpu_s", "gpu_s", "student_images", "teacher_images", "cached_logits_images", "cached_logits_s",
)  # fmt: skip
CIRCUMSTANCES = ("wall_s", "cpu_s", "gpu_s", "cached_logits_s", "cached_logits_images")  # how, not what came out of it


def check_shareable(recipe: Recipe, images: int, ranks: Ranks) -> None:
    """Raises KitError where such a training, on so many images, cannot be shared among the ranks."""
    batch = min(recipe.batch, images)
    if batch % ranks.count:
        raise KitError(
            f"batch {batch} is not allowed with {ranks.count} processes; allowed: their multiples up to {images} images"
        )
    for stage in recipe.stages if ranks.count > 1 else ():
        if stage.objective.trains_teacher or stage.objective.needs_input_gradient:
            raise KitError(
                f"objective {stage.objective.kind!r} (stage {stage.name!r}) is not allowed with {ranks.count} "
                f"processes; allowed: those that neither train the teacher along nor look at the images' gradient"
            )


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


def frozen(network: nn.Module, device: torch.device) -> nn.Module:
    """A teacher: in evaluation mode, without gradients."""
    return network.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)


def augmented(plan: EpochPlan, indices: Tensor, pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """The images (N, 3, H, W) float, augmented and normalised, of an epoch's pixels uint8 (N, H, W, 3)."""
    return normalise(augment(pixels, plan.offsets[indices], plan.flips[indices], plan.pad), mean, std)


def answering(device: torch.device, precision: Precision) -> torch.autocast:
    """In what networks answer inside: bfloat16 where torch's autocast says so, else as they are."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def needs_graph(objective: Objective) -> bool:
    """Whether the teacher's logits must be differentiable: then it is asked itself, in every step."""
    return objective.needs_input_gradient or objective.trains_teacher


def teach(teacher: nn.Module, x: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """The teacher's logits (N, C) for images x, free of any graph, rounded to `dtype` and float32 again."""
    with torch.inference_mode():
        logits = teacher(x).to(dtype)
    return logits.to(torch.float32, copy=True)  # an ordinary tensor, so that the student's loss may keep it


def single(logits: Tensor) -> Tensor:
    """Logits in float32 where they were less, for losses that sum exponentials; else as they are."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict]:
    """Weight decay for weights of convolutions and linear layers, none for biases and batch norms."""
    parameters = list(network.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


@dataclass(frozen=True)
class Evaluation:
    """Top-1 and Top-5 as fractions, and the logits (N, C) they come from."""

    top1: float
    top5: float
    logits: Tensor


@torch.inference_mode()
def evaluate(network: nn.Module, split: Split, mean: Tensor, std: Tensor, ranks: Ranks = ALONE) -> Evaluation:
    """Accuracy of a network on a split's clean images, in evaluation mode; each rank looks at some of them."""
    network.eval()
    device = mean.device
    logits = torch.cat(
        [
            network(normalise(split.images.take(indices).to(device), mean, std))
            for indices in ranks.part(len(split)).split(EVALUATION_BATCH)
        ]
    ).cpu()  # (N, C), of this rank's part
    logits = ranks.joined(logits, len(split))
    top1, top5 = (topk_correct(logits, split.labels).double() / len(split)).tolist()
    return Evaluation(top1, top5, logits)


def agreement(zt: Tensor, zs: Tensor) -> dict[str, float]:
    """Does the student inherit? KL at t = 1, share of images with the same Top-1, mean overlap of the Top-5 sets."""
    k = min(5, zt.shape[1])
    ours, theirs = zs.topk(k).indices, zt.topk(k).indices  # (N, k)
    overlap = (ours[:, :, None] == theirs[:, None, :]).any(2).double().mean()
    return {
        "kl": float(kl_divergence(zt, zs, 1.0)),
        "top1": float((ours[:, 0] == theirs[:, 0]).double().mean()),
        "top5": float(overlap),
    }
