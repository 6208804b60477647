"""The rows that Table 4 lacks and a reader needs, and the paper's own."""

from __future__ import annotations

from functools import partial

from kit import recipe
from kit.methods.base import Method, Procedure, Setting, straight


def small_teacher(setting: Setting, seed: int) -> Procedure:
    """The paper's three steps with the adaptive temperature (Section 1.2)."""
    stages = recipe.small_teacher(recipe.adaptive(setting.epochs, k=setting.T))
    return Procedure(setting.run(stages, {"small": setting.small, "big": setting.big}, seed))


HARD_LABELS = Method(  # whoever does not beat this has not distilled anything
    key="hard labels",
    title="no teacher",
    reading="cross-entropy with the labels",
    cite="a baseline that the paper lacks",
    build=straight(lambda T: recipe.hard_labels(), teachers=()),
)
ORDINARY = Method(
    key="hinton",
    title="ordinary distillation, T=20",
    reading="Eq. (1) with T² on the soft term and the hard term at T=1",
    cite="Hinton et al. 2015; a baseline that the paper's Table 4 lacks",
    build=straight(partial(recipe.eq1, reading="hinton")),
)
SMALL_ALONE = Method(  # agreement is still measured with the explained model
    key="small alone",
    title="small teacher alone, ordinary distillation",
    reading="ordinary distillation from the small teacher, which ours is given, too",
    cite="a baseline that the paper's Table 4 lacks",
    build=straight(partial(recipe.eq1, reading="hinton", teacher="small"), teachers=("small", "big")),
)
OURS = Method(
    key="ours",
    title="small teacher, adaptive temperature",
    reading="three steps: small teacher, big teacher, hard labels; log t follows ∂L_D/∂log t",
    cite="the paper",
    build=small_teacher,
)
