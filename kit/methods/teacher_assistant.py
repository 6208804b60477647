"""[9] Teacher assistants: each network of a chain is distilled from the one before it (Mirzadeh et al., AAAI 2020)."""

from __future__ import annotations

from functools import partial

from kit import recipe
from kit.methods.base import Method, Procedure, chain_epochs, size_warning
from kit.methods.setting import Setting


def build(setting: Setting, seed: int, given: bool = False) -> Procedure:
    """Big teacher → assistants in order → student, each hop trained to its end by ordinary distillation.

    Per hop: (1−λ)·CE(y, zs) + λ·T²·KL(p(zt,T) ‖ p(zs,T)), λ = α. Without assistants it is ordinary distillation.
    The budget is split evenly over the hops, or the student's alone: then assistants are `given`, as the small teacher
    is to ours, each trained for as long as that. The student's agreement is still measured with the explained model.
    """
    hops = (*setting.assistants, setting.student)
    whole = [*[setting.small.recipe.epochs] * len(setting.assistants), setting.epochs]
    split = whole if given else chain_epochs(setting.epochs, len(hops))
    chain, notes, teacher = [], [], setting.big
    for hop, (network, epochs) in enumerate(zip(hops, split, strict=True)):
        if hop < len(setting.assistants) and (warning := size_warning(network, setting.big.student)):
            notes.append(warning)
        if hop == 0:
            stages, teachers = recipe.eq1(setting.T, "hinton"), {"big": setting.big}
        else:
            stages = recipe.eq1(setting.T, "hinton", teacher="assistant")
            teachers = {"assistant": teacher, "big": setting.big}
        own = seed if network is setting.student else setting.assistants_seed(seed)
        teacher = setting.run(stages, teachers, own, epochs=epochs, student=network)
        chain.append(teacher)
    return Procedure(chain[-1], before=() if given else tuple(chain[:-1]), notes=tuple(notes))


METHOD = Method(
    key="[9]",
    title="teacher assistant",
    reading="ordinary distillation at each hop, the budget split evenly over the hops",
    cite="Mirzadeh et al., AAAI 2020; certain: the text speaks of an assistant network, VGG-16",
    build=build,
)
GIVEN = Method(
    key="[9]",
    title="teacher assistant, given",
    reading="the same, its assistant trained as long as teachers are and not charged, like ours' small teacher",
    cite="Mirzadeh et al., AAAI 2020",
    build=partial(build, given=True),
)
