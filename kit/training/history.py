"""What a training writes down: a row a batch, a line an epoch, a record a stage."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from kit.errors import KitError
from kit.parallel.ranks import Ranks
from kit.recipe import Recipe
from kit.training.captured import Captured
from kit.training.evaluation import topk_correct
from kit.training.moment import Moment
from kit.training.optimiser import learning_rate

OVER_RANKS = {"t_least": torch.amin, "t_most": torch.amax}  # of what they have traced; of all else the mean
ROW = ("step", "epoch", "stage", "loss", "t", "t_used", "lr", "batch_top1")  # of every batch; traces have other names


class Diverged(RuntimeError):
    """What must be a number is none; `step` says at which batch (counted from 1). Without a reason it is the loss."""

    def __init__(self, step: int, reason: str = "") -> None:
        super().__init__(reason or f"the loss is not a finite number at step {step}")
        self.step, self.reason = step, reason


class History:
    """By batch, filled in place so that no step waits for the device: loss, correct answers, temperatures, stage.

    `traces` are further numbers by name, NaN where there was none: a policy's, such as a temperature a teacher, and an
    objective's.
    """

    def __init__(self, steps: int, device: torch.device) -> None:
        self.loss = torch.zeros(steps, device=device)
        self.correct = torch.zeros(steps, 2, dtype=torch.int64, device=device)  # top-1, top-5
        self.temperatures = torch.full((steps, 2), math.nan, dtype=torch.float64)  # t, and what the losses used
        self.stage = torch.zeros(steps, dtype=torch.int64)
        self.traces: dict[str, Tensor] = {}  # each (steps,)
        self._correct = Captured(topk_correct)
        self._agreed = 0  # steps of which loss and correct are those of all ranks

    def record(self, step: int, loss: Tensor, at: Moment, stage: int) -> None:
        """Writes down a batch and its loss (), and what its objective records."""
        self.loss[step] = loss
        self.correct[step] = self._correct(at.zs, at.y)
        self.stage[step] = stage
        self._write(step, at.recorded)

    def trace(self, step: int, numbers: dict[str, float]) -> None:
        """Writes down a batch's temperatures: t, t_used, and others by their names."""
        self.temperatures[step] = torch.tensor([numbers.pop("t"), numbers.pop("t_used")], dtype=torch.float64)
        self._write(step, numbers)

    def _write(self, step: int, numbers: Mapping[str, float | Tensor]) -> None:
        for name, value in numbers.items():
            if name not in self.traces:
                if name in ROW or torch.as_tensor(value).numel() != 1:
                    allowed = f"one number, by another name than {', '.join(ROW)}"
                    raise KitError(f"to record {name!r} of {value!r} is not allowed; allowed: {allowed}")
                where = value.device if isinstance(value, Tensor) else None
                self.traces[name] = torch.full_like(self.temperatures[:, 0], math.nan, device=where)
            self.traces[name][step] = value

    def agree(self, step: int, ranks: Ranks) -> None:
        """What ranks have recorded, each of its own share, becomes what is true of all; before anything is read."""
        new = slice(self._agreed, step)
        self.loss[new], self.correct[new] = ranks.mean(self.loss[new]), ranks.sum(self.correct[new])
        self.temperatures[new] = ranks.mean(self.temperatures[new])
        for name, trace in sorted(self.traces.items()):
            trace[new] = OVER_RANKS.get(name, torch.mean)(ranks.all_gather(trace[new]), 0)
        self._agreed = step

    def accuracy(self, first: int, end: int, images: int) -> list[float]:
        """Top-1 and Top-5 over these steps' images, as fractions. Raises Diverged where a loss is not a number."""
        not_finite = (~torch.isfinite(self.loss[first:end])).nonzero()
        if len(not_finite):
            raise Diverged(first + int(not_finite[0]) + 1)
        return (self.correct[first:end].sum(0).double() / images).tolist()

    def rows(self, recipe: Recipe, steps: int, sizes: Sequence[int]) -> list[dict[str, Any]]:
        """One row a batch: step, epoch, stage, loss, t, t_used, lr, batch_top1, and the traces there are. `sizes` are
        those of an epoch's batches."""
        names = [stage.name for stage in recipe.stages]
        columns: dict[str, Sequence[Any]] = {
            "step": range(1, steps + 1),
            "epoch": [i / len(sizes) for i in range(1, steps + 1)],
            "stage": [names[i] for i in self.stage[:steps].tolist()],
            "loss": self.loss[:steps].tolist(),
            "t": self.temperatures[:steps, 0].tolist(),
            "t_used": self.temperatures[:steps, 1].tolist(),
            "lr": [learning_rate(recipe, i, len(self.loss)) for i in range(steps)],
            "batch_top1": [hits / sizes[i % len(sizes)] for i, hits in enumerate(self.correct[:steps, 0].tolist())],
            **{name: trace[:steps].tolist() for name, trace in sorted(self.traces.items())},
        }
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def tensors(self, steps: int) -> dict[str, Tensor]:
        """What has been written so far, by name: what `restore` needs."""
        own = {f"history.{name}": getattr(self, name) for name in ("loss", "correct", "temperatures", "stage")}
        traces = {f"trace.{name}": trace for name, trace in sorted(self.traces.items())}
        return {name: tensor[:steps] for name, tensor in (own | traces).items()}

    def restore(self, tensors: Mapping[str, Tensor], steps: int) -> None:
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "history":
                getattr(self, rest)[:steps] = tensor
            elif kind == "trace":
                self.traces[rest] = torch.full_like(self.temperatures[:, 0], math.nan, device=tensor.device)
                self.traces[rest][:steps] = tensor
        self._agreed = steps
