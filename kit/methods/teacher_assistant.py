"""[9] Teacher assistants: each network of a chain is distilled from the one before it (Mirzadeh et al., AAAI 2020)."""

from __future__ import annotations

from functools import partial

from kit import recipe
from kit.errors import KitError
from kit.methods.base import Method, Procedure, Setting
from kit.networks.flops import parameter_count
from kit.networks.named import Network
from kit.runs.spec import TEACHERS


def build(setting: Setting, seed: int, given: bool = False) -> Procedure:
    """Big teacher → assistants in order → student, each hop trained to its end by ordinary distillation.

    Per hop: (1−λ)·CE(y, zs) + λ·T²·KL(p(zt,T) ‖ p(zs,T)), λ = α. Without assistants it is ordinary distillation.
    The budget is split evenly over the hops, or the student's alone: then assistants are `given`, as the small teacher
    is to ours, each trained for as long as that. The student's agreement is still measured with the explained model.
    """
    hops, assistants = (*setting.assistants, setting.student), len(setting.assistants)
    whole = [*[setting.small.recipe.epochs] * assistants, setting.epochs]
    split = whole if given else chain_epochs(setting.epochs, len(hops))
    own_seed = seed if setting.big.seed < TEACHERS else 2 * TEACHERS + seed  # assistants', where teachers have one
    seeds = [*[own_seed] * assistants, seed]
    chain = [setting.big]
    for network, epochs, own in zip(hops, split, seeds, strict=True):
        name = "big" if len(chain) == 1 else "assistant"
        stages, teachers = recipe.eq1(setting.T, "hinton", teacher=name), {name: chain[-1], "big": setting.big}
        chain.append(setting.run(stages, teachers, own, epochs=epochs, student=network))
    _, *before, final = chain
    warnings = (size_warning(network, setting.big.student) for network in setting.assistants)
    return Procedure(final, before=() if given else tuple(before), notes=tuple(filter(None, warnings)))


def size_warning(assistant: Network, teacher: Network) -> str | None:
    """A line where an assistant has more parameters than the teacher that it stands in for."""
    ours, theirs = (parameter_count(spec.build()) for spec in (assistant, teacher))
    if ours <= theirs:
        return None
    return f"assistant {assistant.title} is larger than its teacher {teacher.title} ({ours:,} parameters, {theirs:,})"


def chain_epochs(epochs: int, hops: int) -> list[int]:
    """A budget in whole epochs, split over so many trainings; the last gets what is left over."""
    if epochs < hops:
        raise KitError(f"a budget of {epochs} epochs is too short for {hops} trainings, each of at least one epoch")
    share = epochs // hops
    return [share] * (hops - 1) + [epochs - share * (hops - 1)]


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
