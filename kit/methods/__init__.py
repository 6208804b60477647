"""Table 4's methods. A new one is a file here that makes a `Method`, and its row in METHODS."""

from kit.methods import (
    annealing,
    complexity,
    early_stop,
    held_near,
    layer_removal,
    plain,
    student_search,
    teacher_assistant,
)
from kit.methods.base import Method, Procedure, SearchSize, Setting

__all__ = ["METHODS", "Method", "Procedure", "SearchSize", "Setting"]

# In the order of the table. Where a key has several readings, the default comes first.
METHODS: tuple[Method, ...] = (
    plain.HARD_LABELS,
    plain.ORDINARY,
    teacher_assistant.METHOD,
    complexity.METHOD,
    held_near.METHOD,
    student_search.METHOD,
    student_search.RANDOM_TWIN,
    layer_removal.METHOD,
    annealing.METHOD,
    early_stop.METHOD,
    plain.OURS,
)
