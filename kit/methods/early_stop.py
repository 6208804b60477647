"""[13], second reading: distillation that is stopped early (Cho & Hariharan, ICCV 2019)."""

from __future__ import annotations

from kit import recipe
from kit.methods.base import Method, straight
from kit.recipe import Stage

SOFT_END = 0.5  # where the teacher is dropped, as a share of the run


def stages(T: float) -> tuple[Stage, ...]:
    """Ordinary distillation at a fixed T up to SOFT_END, then hard labels alone."""
    (distilled,) = recipe.eq1(T, "hinton")
    return (distilled.model_copy(update={"until": SOFT_END}), *recipe.hard_labels())


METHOD = Method(
    key="[13]",
    title="early-stopped distillation",
    reading="ordinary distillation for the first half of the steps, then hard labels",
    cite="the paper does not say what [13] is; second reading: Cho & Hariharan, ICCV 2019",
    build=straight(stages),
)
