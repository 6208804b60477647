"""How a student is trained: stages, each saying from whom it learns, by which loss, at what temperature, until when.

The paper's three steps are data here: `small_teacher()`. Ordinary distillation is one stage, `eq1()`; training without
a teacher is `hard_labels()`. Everything the paper leaves open is a field with a default and a comment.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationError, model_validator
from torch import Tensor, nn

from kit.errors import KitError
from kit.losses import eq1_hinton, eq1_printed, hard_cross_entropy, soft_cross_entropy
from kit.temperature import Adaptive, Fixed, Scheduled, TemperaturePolicy

K = 20.0  # the paper's temperature threshold
ALPHA = 0.5  # the paper's α in Eq. (1)

# θ's learning rate over a whole run: spread over the epochs it is the default rate per epoch. It is set so that the two
# soft stages end near 40 % and 65 % of the epochs; notebook 02 shows what other rates do.
RATE = 60.0


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True)
class Moment:
    """What an objective sees of one training step. Images x (N, 3, H, W), labels y (N,), logits (N, C)."""

    x: Tensor
    y: Tensor
    zs: Tensor
    zt: Tensor | None  # None in a stage without a teacher
    t: float  # what the losses use: ⌊t⌋, or T
    student: nn.Module
    teacher: nn.Module | None
    progress: float  # of the stage's budget, 0…1


class Objective(Part):
    """A stage's loss: a frozen description that can be called on a `Moment`. Subclass it to bring your own."""

    kind: str
    needs_teacher: ClassVar[bool] = True
    needs_input_gradient: ClassVar[bool] = False  # x.requires_grad is set first, and zt keeps its graph to x
    trains_teacher: ClassVar[bool] = False  # a copy of the teacher learns along, by `teacher_loss` at `teacher_lr`
    student_work: ClassVar[float] = 1  # a step's FLOPs, as a multiple of the student's forward and backward pass
    teacher_work: ClassVar[float] = 1  # likewise, of the teacher's forward pass

    def __call__(self, at: Moment) -> Tensor:
        raise NotImplementedError

    def teacher_loss(self, at: Moment) -> Tensor:
        """Where `trains_teacher`: the teacher's own loss of the same moment; zt has its graph."""
        raise NotImplementedError


class HardLabels(Objective):
    """L_S(y, p(zs, 1)): the last step, and training without a teacher."""

    kind: Literal["hard"] = "hard"
    needs_teacher: ClassVar[bool] = False

    def __call__(self, at: Moment) -> Tensor:
        return hard_cross_entropy(at.zs, at.y)


class Eq1(Objective):
    """Eq. (1), as `printed` (T in both terms, no T²) or as `hinton` has it (T² on the soft term, hard term at T=1)."""

    kind: Literal["eq1"] = "eq1"
    reading: Literal["printed", "hinton"] = "printed"
    alpha: float = Field(default=ALPHA, ge=0, le=1)

    def __call__(self, at: Moment) -> Tensor:
        eq1 = eq1_printed if self.reading == "printed" else eq1_hinton
        return eq1(at.zt, at.zs, at.y, at.t, self.alpha)


class Improved(Objective):
    """The improved loss while 1 < t ≤ K: L_D(p(zt,t), p(zs,t)). `alpha` < 1 mixes the hard labels back in.

    `t_squared` is a reading: without t² the gradient at t = 20 is too small for the student to learn, and t rises.
    """

    kind: Literal["improved"] = "improved"
    alpha: float = Field(default=1.0, ge=0, le=1)
    t_squared: bool = True

    def __call__(self, at: Moment) -> Tensor:
        weight = at.t**2 if self.t_squared else 1.0
        soft = weight * soft_cross_entropy(at.zt, at.zs, at.t)
        return soft if self.alpha == 1 else self.alpha * soft + (1 - self.alpha) * hard_cross_entropy(at.zs, at.y)


class Stage(Part):
    """One step of the procedure. It ends when its temperature is cold, or with its budget."""

    name: str
    objective: SerializeAsAny[Objective]
    teacher: str | None = None  # a key of the run's teachers
    temperature: TemperaturePolicy | None = None
    until: float = Field(gt=0, le=1, description="the share of the run's epochs by which the stage ends at the latest")

    @model_validator(mode="after")
    def _teacher_and_objective_agree(self) -> Stage:
        if self.objective.needs_teacher != (self.teacher is not None):
            raise ValueError(
                f"stage {self.name!r}: objective {self.objective.kind!r} and teacher {self.teacher!r} differ"
            )
        if self.teacher is not None and self.temperature is None:
            raise ValueError(f"stage {self.name!r} has a teacher but no temperature")
        return self


class Recipe(Part):
    """Stages in order, and how weights are updated. The paper names none of the latter but the batch of 128."""

    stages: tuple[Stage, ...] = Field(min_length=1)
    epochs: int = Field(ge=1)
    batch: int = Field(default=128, ge=2)
    lr: float = Field(default=0.1, gt=0, description="peak learning rate")
    warmup: float = Field(default=0.1, ge=0, lt=1, description="share of the run with a rising learning rate")
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0)
    pad: int = Field(default=2, ge=0, description="augmentation: pixels of padding before the random crop")

    @model_validator(mode="after")
    def _stages_are_in_order(self) -> Recipe:
        ends = [stage.until for stage in self.stages]
        if ends != sorted(set(ends)) or ends[-1] != 1:
            raise ValueError(f"stages must end in rising order, the last at 1: got {ends}")
        return self

    @property
    def teachers(self) -> tuple[str, ...]:
        """The teachers it needs, by name, in order."""
        return tuple(dict.fromkeys(stage.teacher for stage in self.stages if stage.teacher))

    def epochs_with(self, teacher: str) -> range:
        """The epochs, counted from 0, in which it may learn from the teacher; a stage whose t moves may end early."""
        spans, begin = [], 0.0
        for stage in self.stages:
            if stage.teacher == teacher:
                spans.append((begin, stage.until))
            moves = stage.temperature is not None and stage.temperature.kind != "fixed"
            begin = begin if moves else stage.until
        first, last = min(begin for begin, _ in spans), max(until for _, until in spans)
        return range(math.floor(first * self.epochs), math.ceil(last * self.epochs))


def hard_labels() -> tuple[Stage, ...]:
    """No teacher: how the teachers themselves are trained, and the row every table needs."""
    return (Stage(name="hard labels", objective=HardLabels(), until=1),)


def eq1(T: float, reading: Literal["printed", "hinton"] = "printed", alpha: float = ALPHA) -> tuple[Stage, ...]:
    """The text's "traditional method": the big teacher straight to the student by Eq. (1) at a fixed T."""
    return (
        Stage(
            name="big teacher",
            teacher="big",
            objective=Eq1(reading=reading, alpha=alpha),
            temperature=Fixed(T=T),
            until=1,
        ),
    )


def adaptive(epochs: int, k: float = K, rate: float | None = None, **readings: object) -> Adaptive:
    """The adaptive temperature for a run of so many epochs. `rate` is per epoch; by default RATE / epochs."""
    return Adaptive(k=k, rate=RATE / max(1, epochs) if rate is None else rate, **readings)


def small_teacher(
    temperature: TemperaturePolicy,
    alpha: float = 1.0,
    t_squared: bool = True,
    soft_ends: tuple[float, float] = (0.45, 0.8),
) -> tuple[Stage, ...]:
    """The paper's three steps: small teacher, then big teacher with t reset to K, then hard labels alone.

    With a fixed temperature the same three steps run by the clock, each soft stage ending with its budget.
    """
    objective = Improved(alpha=alpha, t_squared=t_squared)
    return (
        Stage(name="small teacher", teacher="small", objective=objective, temperature=temperature, until=soft_ends[0]),
        Stage(name="big teacher", teacher="big", objective=objective, temperature=temperature, until=soft_ends[1]),
        Stage(name="hard labels", objective=HardLabels(), until=1),
    )


def big_teacher_only(
    temperature: TemperaturePolicy, alpha: float = 1.0, t_squared: bool = True, soft_end: float = 0.8
) -> tuple[Stage, ...]:
    """The adaptive temperature without a small teacher, as Fig. 1 and Table 2 have it (Section 2.3 names none)."""
    objective = Improved(alpha=alpha, t_squared=t_squared)
    return (
        Stage(name="big teacher", teacher="big", objective=objective, temperature=temperature, until=soft_end),
        Stage(name="hard labels", objective=HardLabels(), until=1),
    )


def procedure(
    temperature: TemperaturePolicy,
    has_teacher: bool = True,
    has_small_teacher: bool = False,
    reading: Literal["printed", "hinton"] = "printed",
    alpha: float | None = None,
    t_squared: bool = True,
) -> tuple[Stage, ...]:
    """The stages that follow from which teachers there are. `alpha` None: 0.5 in Eq. (1), 1 in the improved loss."""
    if not has_teacher:
        return hard_labels()
    if has_small_teacher:
        return small_teacher(temperature, 1.0 if alpha is None else alpha, t_squared)
    if temperature.kind == "fixed":
        return eq1(temperature.T, reading, ALPHA if alpha is None else alpha)
    return big_teacher_only(temperature, 1.0 if alpha is None else alpha, t_squared)


def policy(
    word: str,
    epochs: int,
    k: float = K,
    rate: float | None = None,
    follows: str = "cross-entropy",
    optimiser: str = "sgd",
    floor: bool = True,
) -> TemperaturePolicy:
    """The temperature that a word names: `adaptive`, `schedule`, or a number for a fixed T."""
    if word == "adaptive":
        return adaptive(epochs, k, rate, follows=follows, optimiser=optimiser, floor=floor)
    if word == "schedule":
        return Scheduled(k=k, floor=floor)
    try:
        return Fixed(T=float(word))
    except ValueError as error:
        if isinstance(error, ValidationError):
            raise
        raise KitError(f"temperature {word!r} is not known; allowed: adaptive, schedule, or a number above 0") from None
