"""[13], second reading: distillation that is stopped early (Cho & Hariharan, ICCV 2019)."""

from __future__ import annotations

from kit import recipe
from kit.methods.base import Method, straight
from kit.recipe import Stage

SOFT_END = 0.5  # where the teacher is dropped, as a share of the run


def stages(T: float, soft_end: float = SOFT_END, alpha: float = recipe.ALPHA) -> tuple[Stage, ...]:
    """Ordinary distillation at a fixed T up to `soft_end`, then hard labels alone."""
    (distilled,) = recipe.eq1(T, "hinton", alpha)
    return (distilled.model_copy(update={"until": soft_end}), *recipe.hard_labels())


METHOD = Method(
    key="[13]",
    title="early-stopped distillation",
    reading="ordinary distillation for the first half of the steps, then hard labels",
    cite="the paper does not say what [13] is; second reading: Cho & Hariharan, ICCV 2019",
    build=straight(stages),
)
