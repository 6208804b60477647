"""What a row of Table 4 is: what it is a reading of, and how its runs follow from what all methods are given alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kit.errors import KitError
from kit.methods.search import Found, Search
from kit.methods.setting import Setting
from kit.networks.flops import parameter_count
from kit.networks.named import Network
from kit.recipe import Objective, Stage, eq1
from kit.runs.spec import Run
from kit.temperature import Fixed


@dataclass(frozen=True)
class Procedure:
    """One method from one seed: the student in full, and the runs that had to come first."""

    final: Run
    before: tuple[Run, ...] = ()  # assistants; their cost is the procedure's
    found: Found | None = None  # a search's outcome; its cost is the procedure's too
    notes: tuple[str, ...] = ()  # warnings and fallbacks, for the record

    @property
    def runs(self) -> tuple[Run, ...]:
        return (*self.before, self.final)


@dataclass(frozen=True)
class Method:
    """A row. `build` gives a procedure for one seed; a method that searches is given what its search has found."""

    key: str  # as Table 4 has it: "[9]" … "ours"; or a row of ours that the paper lacks
    title: str
    reading: str  # what it is a reading of, in a sentence
    cite: str  # the paper, and how certain it is that this paper is meant
    build: Callable[..., Procedure]  # (setting, seed), or (setting, seed, found)
    search: Callable[[Setting, int], Search] | None = None

    @property
    def label(self) -> str:
        return f"{self.key} {self.title}"


def straight(stages: Callable[[float], Sequence[Stage]]) -> Callable[[Setting, int], Procedure]:
    """The procedure that is one training under the explained model, for the whole budget, by `stages(T)`."""

    def build(setting: Setting, seed: int) -> Procedure:
        return Procedure(setting.run(stages(setting.T), {"big": setting.big}, seed))

    return build


def throughout(objective: Objective) -> Callable[[float], tuple[Stage, ...]]:
    """One stage for the whole budget: this objective under the explained model at a fixed T."""
    return lambda T: (Stage(name="big teacher", teacher="big", objective=objective, temperature=Fixed(T=T), until=1),)


def in_full(setting: Setting, seed: int, found: Found) -> Procedure:
    """The network that a search found, distilled as the candidates were, with what the search left of the budget."""
    left, notes = setting.left_after(found.spent.steps), found.notes
    if left == 1 and setting.epochs > 1:
        notes = (*notes, "the search took (nearly) the whole budget: the final student has one epoch")
    run = setting.run(eq1(setting.T, "hinton"), {"big": setting.big}, seed, epochs=left, student=found.chosen)
    return Procedure(run, found=found, notes=notes)


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
