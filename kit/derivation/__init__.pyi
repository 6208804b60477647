from .beyond import (
    directions as directions,
)
from .beyond import (
    several_check as several_check,
)
from .beyond import (
    several_difference as several_difference,
)
from .beyond import (
    t_squared_difference as t_squared_difference,
)
from .claims import (
    CONDITION as CONDITION,
)
from .claims import (
    FAILS as FAILS,
)
from .claims import (
    HOLDS as HOLDS,
)
from .claims import (
    OPEN as OPEN,
)
from .claims import (
    Finding as Finding,
)
from .claims import (
    resting_temperature as resting_temperature,
)
from .claims import (
    section_1_1_claims as section_1_1_claims,
)
from .claims import (
    student_near_labels as student_near_labels,
)
from .claims import (
    teacher_part as teacher_part,
)
from .claims import (
    verdict_of as verdict_of,
)
from .numeric import (
    SIZES as SIZES,
)
from .numeric import (
    STUDENTS as STUDENTS,
)
from .numeric import (
    Cases as Cases,
)
from .numeric import (
    K as K,
)
from .numeric import (
    Slopes as Slopes,
)
from .numeric import (
    autograd_check as autograd_check,
)
from .numeric import (
    autograd_slopes as autograd_slopes,
)
from .numeric import (
    decay_exponents as decay_exponents,
)
from .numeric import (
    gradient_curves as gradient_curves,
)
from .numeric import (
    infinite_t_coefficient as infinite_t_coefficient,
)
from .numeric import (
    limits_on_grid as limits_on_grid,
)
from .numeric import (
    loss_of as loss_of,
)
from .numeric import (
    sample_cases as sample_cases,
)
from .numeric import (
    size_of as size_of,
)
from .numeric import (
    slopes as slopes,
)
from .numeric import (
    steps_to_one as steps_to_one,
)
from .numeric import (
    zero_t_gap as zero_t_gap,
)
from .printed import (
    BRACKETS as BRACKETS,
)
from .printed import (
    FACTORS as FACTORS,
)
from .printed import (
    FORMS as FORMS,
)
from .printed import (
    INDEX_J as INDEX_J,
)
from .printed import (
    WEIGHTS as WEIGHTS,
)
from .printed import (
    printed_formula as printed_formula,
)
from .printed import (
    readings as readings,
)
from .printed import (
    scale_check as scale_check,
)
from .symbolic import (
    LOSSES as LOSSES,
)
from .symbolic import (
    NAMES as NAMES,
)
from .symbolic import (
    Symbols as Symbols,
)
from .symbolic import (
    compact_form as compact_form,
)
from .symbolic import (
    difference as difference,
)
from .symbolic import (
    general_difference as general_difference,
)
from .symbolic import (
    large_t_coefficient as large_t_coefficient,
)
from .symbolic import (
    large_t_difference as large_t_difference,
)
from .symbolic import (
    lemma_differences as lemma_differences,
)
from .symbolic import (
    symbolic_closed_form as symbolic_closed_form,
)
from .symbolic import (
    symbolic_derivative as symbolic_derivative,
)
from .symbolic import (
    symbolic_limits as symbolic_limits,
)
from .symbolic import (
    symbolic_loss as symbolic_loss,
)
from .symbolic import (
    symbolic_softmax as symbolic_softmax,
)
from .symbolic import (
    symbols as symbols,
)
