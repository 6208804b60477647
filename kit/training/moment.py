"""What policies and objectives see of a training step: a plain record, below everything else of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from kit.errors import KitError
from kit.losses import Sides, Temperature
from kit.parallel.ranks import ALONE, Ranks


def same_shape(whose: str, zt: Tensor, zs: Tensor) -> None:
    """Raises KitError where logits do not have the student's shape: nothing is broadcast."""
    if zt.shape != zs.shape:
        raise KitError(f"{whose} gives logits of shape {tuple(zt.shape)}; allowed: the student's, {tuple(zs.shape)}")


def one_a_class(whose: str, z: object, classes: int) -> None:
    """Raises KitError where a network does not answer by logits (N, C), one for each class at least: a label would be
    none of them."""
    if not isinstance(z, Tensor) or z.ndim != 2 or z.shape[1] < classes:
        gives = f"logits of shape {tuple(z.shape)}" if isinstance(z, Tensor) else f"a {type(z).__name__}"
        raise KitError(f"{whose} gives {gives}; allowed: logits (N, {classes}), one for each of the data's classes")


def one_number(whose: str, loss: object) -> Tensor:
    """The loss (). Raises KitError for what is not one number, or hangs on nothing that learns."""
    if not isinstance(loss, Tensor):
        raise KitError(f"{whose} gives a {type(loss).__name__}; allowed: a tensor (), computed from the logits zs")
    if loss.numel() != 1 or not loss.requires_grad:
        gives = f"a tensor {tuple(loss.shape)}, requires_grad={loss.requires_grad}"
        raise KitError(f"{whose} gives {gives}; allowed: a tensor (), computed from the logits zs")
    return loss


@dataclass(frozen=True)
class Moment:
    """What policies and objectives see of a training step: the student's logits zs (N, C), taken before its update,
    labels y (N,), images x (N, 3, H, W), and by teacher its logits (N, C), temperatures and network.

    `zt`, `t` and `teacher` are those of the first teacher, for objectives that know but one. Raises KitError for
    logits of another shape than the student's.
    """

    x: Tensor
    y: Tensor
    zs: Tensor
    logits: Mapping[str, Tensor] = field(default_factory=dict)
    temperatures: Mapping[str, Sides] = field(default_factory=dict)
    student: nn.Module | None = None
    teachers: Mapping[str, nn.Module] = field(default_factory=dict)
    step: int = 0  # batches of the stage before this one
    stage_steps: int = 1  # the stage's budget
    steps_per_epoch: int = 1
    lr: float = 0.0  # the student's learning rate
    memory: dict[str, float] = field(default_factory=dict)  # plain numbers that a policy keeps during the stage
    slopes: Mapping[str, float] = field(default_factory=dict)  # ∂loss/∂t by teacher, of temperatures with a gradient
    recorded: dict[str, float | Tensor] = field(default_factory=dict)  # numbers () that an objective writes down
    ranks: Ranks = ALONE
    beside: torch.cuda.Stream | None = None  # a GPU's stream that waits for zs and logits, and for no backward pass

    def __post_init__(self) -> None:
        for name, zt in self.logits.items():
            same_shape(f"teacher {name!r}", zt, self.zs)

    @property
    def progress(self) -> float:
        """How much of its budget the stage has used, 0…1."""
        return self.step / max(1, self.stage_steps)

    @property
    def zt(self) -> Tensor | None:
        return next(iter(self.logits.values()), None)

    @property
    def t(self) -> Temperature:
        """What the losses use: ⌊t⌋, or T; `Sides` where teacher and student have a temperature each."""
        first = next(iter(self.temperatures.values()), Sides(1.0, 1.0))
        return first.teacher if first.teacher is first.student else first

    @property
    def teacher(self) -> nn.Module | None:
        return next(iter(self.teachers.values()), None)

    def taught(self) -> dict[str, tuple[Tensor, Sides]]:
        """By teacher, its logits (N, C) with its temperature."""
        return {name: (zt, self.temperatures[name]) for name, zt in self.logits.items()}


@torch.no_grad()
def joined(parts: Sequence[Moment]) -> Moment:
    """The moment of a batch that was taken in parts, free of any graph, without images and temperatures; what its
    objective recorded is a mean over images."""
    first, y = parts[0], whole([at.y for at in parts])
    shares = [len(at.y) / len(y) for at in parts]
    return replace(
        first,
        x=torch.empty(0),
        y=y,
        zs=whole([at.zs for at in parts]),
        logits={name: whole([at.logits[name] for at in parts]) for name in first.logits},
        temperatures={},
        beside=first.beside if len(parts) == 1 else None,  # they are put together after the backward pass
        recorded={
            name: sum(at.recorded[name] * share for at, share in zip(parts, shares, strict=True))
            for name in first.recorded
        },
    )


def whole(parts: Sequence[Tensor]) -> Tensor:
    """A batch's tensor of its parts' (n, …), free of any graph; one that was taken whole is not copied."""
    return parts[0].detach() if len(parts) == 1 else torch.cat([*parts])
