"""[13], second reading: distillation that is stopped early (Cho & Hariharan, ICCV 2019)."""

from __future__ import annotations

from kit import recipe
from kit.methods.base import Method, straight
from kit.recipe import Eq1, HardLabels, Stage
from kit.temperature import Fixed

SOFT_END = 0.5  # where the teacher is dropped, as a share of the run


def stages(T: float, soft_end: float = SOFT_END, alpha: float = recipe.ALPHA) -> tuple[Stage, ...]:
    """Ordinary distillation at a fixed T up to `soft_end`, then hard labels alone."""
    return (
        Stage(
            name="big teacher",
            teacher="big",
            objective=Eq1(reading="hinton", alpha=alpha),
            temperature=Fixed(T=T),
            until=soft_end,
        ),
        Stage(name="hard labels", objective=HardLabels(), until=1),
    )


METHOD = Method(
    key="[13]",
    title="early-stopped distillation",
    reading="ordinary distillation for the first half of the steps, then hard labels",
    cite="the paper does not say what [13] is; second reading: Cho & Hariharan, ICCV 2019",
    build=straight(stages),
)
