"""What a training writes down: a row a batch, a line an epoch, a record a stage."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kit.losses import topk_correct
from kit.parallel.ranks import Ranks
from kit.training.thermostat import Thermostat


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

    def row(self, steps_per_epoch: int) -> dict[str, Any]:
        """As metrics have it, with epochs."""
        row = {"name": self.name, "epochs": self.steps / steps_per_epoch, "steps": self.steps}
        return row | {"ended_by": self.ended_by, "t_start": self.t_start, "t_end": self.t_end}


class History:
    """By batch, filled in place so that no step waits for the device: loss, correct answers, temperatures, stage.

    `traces` are a policy's further temperatures by name, such as one a teacher; NaN where there was none.
    """

    def __init__(self, steps: int, device: torch.device) -> None:
        self.loss = torch.zeros(steps, device=device)
        self.correct = torch.zeros(steps, 2, dtype=torch.int64, device=device)  # top-1, top-5
        self.temperatures = torch.full((steps, 2), math.nan, dtype=torch.float64)  # t, and what the losses used
        self.stage = torch.zeros(steps, dtype=torch.int64)
        self.traces: dict[str, Tensor] = {}  # each (steps,)
        self._agreed = 0  # steps of which loss and correct are those of all ranks

    def record(
        self, step: int, loss: Tensor, zs: Tensor, y: Tensor, stage: int, thermostat: Thermostat | None
    ) -> None:
        """Writes down a batch: its loss (), the student's logits zs (N, C) and labels y (N,)."""
        self.loss[step] = loss
        self.correct[step] = topk_correct(zs, y)
        self.stage[step] = stage
        if thermostat is not None:
            trace = thermostat.trace()
            self.temperatures[step] = torch.tensor([trace.pop("t"), trace.pop("t_used")], dtype=torch.float64)
            for name, value in trace.items():
                self.traces.setdefault(name, torch.full_like(self.temperatures[:, 0], math.nan))[step] = value

    def agree(self, step: int, ranks: Ranks) -> None:
        """What ranks have recorded, each of its own share, becomes what is true of all; before anything is read."""
        new = slice(self._agreed, step)
        self.loss[new], self.correct[new] = ranks.mean(self.loss[new]), ranks.sum(self.correct[new])
        self._agreed = step

    def check(self, first: int, end: int) -> None:
        """Raises Diverged where a loss of these steps is not a number."""
        not_finite = (~torch.isfinite(self.loss[first:end])).nonzero()
        if len(not_finite):
            raise Diverged(first + int(not_finite[0]) + 1)

    def accuracy(self, first: int, end: int, batch: int) -> list[float]:
        """Running Top-1 and Top-5 over these steps' augmented batches, as fractions."""
        return (self.correct[first:end].sum(0).double() / (batch * (end - first))).tolist()

    def rows(
        self, steps: int, names: Sequence[str], steps_per_epoch: int, batch: int, lr: Callable[[int], float]
    ) -> list[dict[str, Any]]:
        """One row a batch: step, epoch, stage, loss, t, t_used, lr, batch_top1, and the traces there are."""
        loss, correct = self.loss[:steps].tolist(), self.correct[:steps].tolist()
        temperatures, stages = self.temperatures[:steps].tolist(), self.stage[:steps].tolist()
        traces = {name: trace[:steps].tolist() for name, trace in self.traces.items()}
        return [
            {
                "step": i + 1,
                "epoch": (i + 1) / steps_per_epoch,
                "stage": names[stages[i]],
                "loss": loss[i],
                "t": temperatures[i][0],
                "t_used": temperatures[i][1],
                "lr": lr(i),
                "batch_top1": correct[i][0] / batch,
                **{name: trace[i] for name, trace in traces.items()},
            }
            for i in range(steps)
        ]

    def tensors(self, steps: int) -> dict[str, Tensor]:
        """What has been written so far, by name: what `restore` needs."""
        own = {f"history.{name}": getattr(self, name) for name in ("loss", "correct", "temperatures", "stage")}
        traces = {f"trace.{name}": trace for name, trace in self.traces.items()}
        return {name: tensor[:steps] for name, tensor in (own | traces).items()}

    def restore(self, tensors: Mapping[str, Tensor], steps: int) -> None:
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "history":
                getattr(self, rest)[:steps] = tensor
            elif kind == "trace":
                self.traces[rest] = torch.full_like(self.temperatures[:, 0], math.nan)
                self.traces[rest][:steps] = tensor
        self._agreed = steps
