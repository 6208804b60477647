"""Table 4's rows. A new method is a file beside this one that makes a `Method`, and its row here."""

from kit.methods import annealing, complexity, layer_removal, plain, student_search, teacher_assistant
from kit.methods.base import Method

# In the order of the table. Where a key has several readings, the default comes first.
METHODS: tuple[Method, ...] = (
    plain.HARD_LABELS,
    plain.ORDINARY,
    plain.SMALL_ALONE,
    teacher_assistant.METHOD,
    teacher_assistant.GIVEN,
    complexity.METHOD,
    complexity.HELD_NEAR,
    student_search.METHOD,
    student_search.RANDOM_TWIN,
    layer_removal.METHOD,
    layer_removal.RANDOM_TWIN,
    annealing.METHOD,
    annealing.EARLY_STOPPED,
    plain.OURS,
)
