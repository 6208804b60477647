"""How a student is trained: stages, each saying from whom it learns, by which loss, at what temperature, until when.

The paper's three steps are data here: `small_teacher()`. Ordinary distillation is one stage, `eq1()`; training without
a teacher is `hard_labels()`. Everything the paper leaves open is a field with a default and a comment.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

from pydantic import Field, SerializeAsAny, model_validator
from torch import Tensor

from kit.errors import Described, KitError
from kit.losses import eq1_hinton, eq1_printed, hard_cross_entropy, soft_cross_entropy, squared
from kit.temperature import Adaptive, Fixed, Policy
from kit.training.kind import Kind
from kit.training.moment import Moment
from kit.training.optimiser import Updates

K = 20.0  # the paper's temperature threshold
ALPHA = 0.5  # the paper's α in Eq. (1)

# θ's learning rate over a whole run: spread over the epochs it is the default rate per epoch. It is set so that the two
# soft stages end near a third and a half of the epochs; notebook 02 shows what other rates do. Without dividing the
# gradient by the variance of the teacher's logits the rate depends on the teacher.
RATE, RATE_OF_RAW = 1200.0, 60.0


class Objective(Kind):
    """A stage's loss: a frozen description that can be called on a `Moment`. Subclass it to bring your own."""

    steerable: ClassVar[tuple[str, ...]] = ()  # fields that may be changed while a student trains
    needs_teacher: ClassVar[bool] = True
    needs_input_gradient: ClassVar[bool] = False  # x.requires_grad is set first, and zt keeps its graph to x
    trains_teacher: ClassVar[bool] = False  # a copy of the teacher learns along, by `teacher_loss` at its `teacher_lr`
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
    """Eq. (1), as `printed` (T in both terms, no T²) or as `hinton` has it (T² on the soft term, hard term at T=1).

    Of several teachers the losses' mean is taken, here and in `Improved`.
    """

    kind: Literal["eq1"] = "eq1"
    reading: Literal["printed", "hinton"] = "printed"
    alpha: float = Field(default=ALPHA, ge=0, le=1)
    steerable: ClassVar[tuple[str, ...]] = ("alpha",)

    def __call__(self, at: Moment) -> Tensor:
        eq1 = eq1_printed if self.reading == "printed" else eq1_hinton
        return mean(eq1(zt, at.zs, at.y, t, self.alpha) for zt, t in at.taught().values())


class Improved(Objective):
    """The improved loss while 1 < t ≤ K: L_D(p(zt,t), p(zs,t)). `alpha` < 1 mixes the hard labels back in.

    `t_squared` is a reading: without t² the gradient at t = 20 is too small for the student to learn, and t rises.
    """

    kind: Literal["improved"] = "improved"
    alpha: float = Field(default=1.0, ge=0, le=1)
    t_squared: bool = True
    steerable: ClassVar[tuple[str, ...]] = ("alpha",)

    def __call__(self, at: Moment) -> Tensor:
        weighed = ((zt, t, squared(t) if self.t_squared else 1.0) for zt, t in at.taught().values())
        soft = mean(soft_cross_entropy(zt, at.zs, t, weight) for zt, t, weight in weighed)
        return soft if self.alpha == 1 else self.alpha * soft + (1 - self.alpha) * hard_cross_entropy(at.zs, at.y)


def mean(losses: Iterable[Tensor]) -> Tensor:
    """The mean of one or several losses ()."""
    losses = list(losses)
    return sum(losses[1:], losses[0]) / len(losses)


class Stage(Described):
    """One step of the procedure. It ends when its temperature is cold, or with its budget."""

    name: str
    objective: SerializeAsAny[Objective]
    teacher: str | tuple[str, ...] | None = None  # a key of the run's teachers, or several
    temperature: SerializeAsAny[Policy] | None = None
    until: float = Field(gt=0, le=1, description="the share of the run's epochs by which the stage ends at the latest")

    @model_validator(mode="after")
    def _teacher_and_objective_agree(self) -> Stage:
        if self.objective.needs_teacher != (self.teacher is not None) or self.teacher == ():
            raise ValueError(
                f"stage {self.name!r}: objective {self.objective.kind!r} and teacher {self.teacher!r} differ"
            )
        if (self.teacher is None) != (self.temperature is None):
            raise ValueError(f"stage {self.name!r}: teacher {self.teacher!r} and temperature {self.temperature} differ")
        if self.objective.trains_teacher and len(self.teachers) > 1:
            raise ValueError(f"stage {self.name!r}: objective {self.objective.kind!r} trains one teacher, not several")
        return self

    @property
    def teachers(self) -> tuple[str, ...]:
        """The teachers it learns from, by name: none, one or several."""
        return (self.teacher,) if isinstance(self.teacher, str) else self.teacher or ()


class Recipe(Updates):
    """Stages in order, for so many epochs, and how weights are updated meanwhile."""

    stages: tuple[Stage, ...] = Field(min_length=1)
    epochs: int = Field(ge=1, le=100_000)

    @model_validator(mode="after")
    def _stages_are_in_order(self) -> Recipe:
        ends = [stage.until for stage in self.stages]
        if ends != sorted(set(ends)) or ends[-1] != 1:
            raise ValueError(f"stages must end in rising order, the last at 1: got {ends}")
        return self

    @property
    def teachers(self) -> tuple[str, ...]:
        """The teachers it needs, by name, in order."""
        return tuple(dict.fromkeys(name for stage in self.stages for name in stage.teachers))


def hard_labels() -> tuple[Stage, ...]:
    """No teacher: how the teachers themselves are trained, and the row every table needs."""
    return (Stage(name="hard labels", objective=HardLabels(), until=1),)


def eq1(
    T: float, reading: Literal["printed", "hinton"] = "printed", alpha: float = ALPHA, teacher: str = "big"
) -> tuple[Stage, ...]:
    """The text's "traditional method": the big teacher straight to the student by Eq. (1) at a fixed T."""
    name, objective = f"{teacher} teacher", Eq1(reading=reading, alpha=alpha)
    return (Stage(name=name, teacher=teacher, objective=objective, temperature=Fixed(T=T), until=1),)


def adaptive(
    epochs: int, k: float = K, rate: float | None = None, normalised: bool = True, **readings: Any
) -> Adaptive:
    """The adaptive temperature for a run of so many epochs. `rate` is per epoch; by default RATE / epochs."""
    default = (RATE if normalised else RATE_OF_RAW) / max(1, epochs)
    return Adaptive(k=k, rate=default if rate is None else rate, normalised=normalised, **readings)


def small_teacher(
    temperature: Policy, alpha: float = 1.0, t_squared: bool = True, soft_ends: tuple[float, float] = (0.45, 0.8)
) -> tuple[Stage, ...]:
    """The paper's three steps: small teacher, then big teacher with t reset to K, then hard labels alone.

    With a fixed temperature the same three steps run by the clock, each soft stage ending with its budget.
    """
    if len(soft_ends) != 2:
        raise KitError(f"soft_ends {soft_ends!r} is not allowed; allowed: two shares of the epochs, as in (0.45, 0.8)")
    soft = Improved(alpha=alpha, t_squared=t_squared)
    small = Stage(name="small teacher", teacher="small", objective=soft, temperature=temperature, until=soft_ends[0])
    return (small, *big_teacher_only(temperature, alpha, t_squared, soft_ends[1]))


def big_teacher_only(
    temperature: Policy, alpha: float = 1.0, t_squared: bool = True, soft_end: float = 0.8
) -> tuple[Stage, ...]:
    """The adaptive temperature without a small teacher, as Fig. 1 and Table 2 have it (Section 2.3 names none)."""
    objective = Improved(alpha=alpha, t_squared=t_squared)
    big = Stage(name="big teacher", teacher="big", objective=objective, temperature=temperature, until=soft_end)
    return (big, Stage(name="hard labels", objective=HardLabels(), until=1))
