"""Table 3: the whole method. A small teacher, then the big teacher, then hard labels, in eight configurations."""

from __future__ import annotations

from kit import recipe
from kit.paper.plan import Plan, Row
from kit.paper.printed import TABLE_3, Configuration

FIRST = next(iter(TABLE_3))  # CIFAR-10: ResNet-34 explained, VGG-19 small teacher, VGG-16 student
SWEPT = Configuration("cifar-100", "resnet50", "vgg19", "vgg16")  # where the temperature's rate is varied
RATES = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the default rate


def first_run(plan: Plan) -> Row:
    """The first row's adaptive student, once: what notebook 00 shows."""
    role, big, small, student = FIRST
    run = plan.student(student, role, lambda epochs: recipe.small_teacher(recipe.adaptive(epochs)), big, small)
    return Row("adaptive", "three steps", (run,), role)


def rates(plan: Plan, seeds: int = 2) -> list[Row]:
    """The same student at several rates of θ: how the soft stages' length and the student depend on it."""
    role, big, small, student = SWEPT

    def at(rate: float) -> Row:
        def stages(epochs: int) -> tuple[recipe.Stage, ...]:
            return recipe.small_teacher(recipe.adaptive(epochs, rate=rate * recipe.RATE / epochs))

        runs = tuple(plan.student(student, role, stages, big, small, seed) for seed in range(seeds))
        return Row("adaptive", f"rate {runs[0].recipe.stages[0].temperature.rate:g} per epoch", runs, role)

    return [at(rate) for rate in RATES]
