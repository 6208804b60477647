"""kit/derivation/claims.py: verdicts that follow their input."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from kit.derivation import claims
from kit.derivation.claims import (
    CONDITION,
    FAILS,
    HOLDS,
    OPEN,
    higher_t_flattens,
    loss_measures_closeness,
    resting_temperature,
    section_1_1_claims,
)
from kit.derivation.numeric import Cases, K, sample_cases, slopes
from kit.errors import KitError

pytestmark = pytest.mark.numerics

AT_INFINITY = "As t → ∞ the teacher's term in ∂L_D/∂t goes to 0"
AT_ZERO = "As t → 0 the teacher's term in ∂L_D/∂t goes to 0"
STUDENT_ONLY = "so there t depends on the student's distribution only"
TENDS_TO_ONE = "As the student's distribution nears the labels, t tends to 1"
SIMILAR = "The temperature gradients of soft and hard loss are similar"
FLATTER = "A higher T shrinks the differences between the classes' probabilities"
WRONG = "A high T voids the teacher's dark knowledge and the student learns a wrong distribution"
CLOSENESS = "L_D expresses how close the student's distribution is to the teacher's"
T_FALLS = "In the soft loss T falls as the student's accuracy rises and ends at 1"
HARD_AT_ONE = "The hard loss's temperature is 1, while Eq. (1) prints T in it"


@pytest.fixture(scope="module")
def table(cases) -> pd.DataFrame:
    return section_1_1_claims(cases)


@pytest.fixture(scope="module")
def verdicts(table) -> dict[str, str]:
    return dict(zip(table["claim"], table["verdict"], strict=True))


def verdicts_of(cases: Cases, **options: float) -> dict[str, str]:
    table = section_1_1_claims(cases, **options)
    return dict(zip(table["claim"], table["verdict"], strict=True))


def test_verdicts_of_the_random_logits(verdicts):
    assert verdicts == {
        FLATTER: HOLDS,
        WRONG: CONDITION,
        CLOSENESS: CONDITION,
        "∂L_D/∂t is as printed": FAILS,
        "∂L_CE/∂t is as printed": FAILS,
        AT_INFINITY: HOLDS,
        AT_ZERO: FAILS,
        STUDENT_ONLY: FAILS,
        TENDS_TO_ONE: CONDITION,
        "The teacher only affects the student's final accuracy, t its speed of convergence": OPEN,
        "An adaptive t therefore learns faster, saves time and memory and makes a better student": OPEN,
        SIMILAR: CONDITION,
        T_FALLS: CONDITION,
        HARD_AT_ONE: CONDITION,
    }


def test_a_teacher_that_knows_nothing_changes_the_verdicts_it_should(cases, verdicts):
    blank = verdicts_of(Cases(0 * cases.zt, cases.zs, cases.y))
    changed = {claim: verdict for claim, verdict in blank.items() if verdict != verdicts[claim]}
    assert changed == {
        AT_ZERO: HOLDS,
        STUDENT_ONLY: HOLDS,
        TENDS_TO_ONE: FAILS,  # nothing to follow: t never falls
        T_FALLS: FAILS,
        CLOSENESS: HOLDS,  # the teacher's entropy is log C at every t
        SIMILAR: changed[SIMILAR],  # with all logits equal the "right" images are those of class 0
    }


def test_a_teacher_as_sure_as_a_label_has_the_hard_losss_gradient(cases, verdicts):
    sure = verdicts_of(Cases(1e3 * F.one_hot(cases.y, 10).double(), cases.zs, cases.y))
    assert verdicts[SIMILAR] == CONDITION and sure[SIMILAR] == HOLDS
    assert sure[WRONG] == FAILS  # the labels add nothing to such a teacher


def test_a_teacher_against_the_labels_keeps_t_up(cases):
    wrong = verdicts_of(Cases(-cases.zt, cases.zs, cases.y))
    assert wrong[TENDS_TO_ONE] == FAILS
    assert wrong[SIMILAR] == OPEN  # it is right on no image


def test_alpha_1_leaves_nothing_wrong_to_learn(cases, verdicts):
    soft_only = verdicts_of(cases, alpha=1.0)
    assert {c for c in verdicts if soft_only[c] != verdicts[c]} == {WRONG}
    assert soft_only[WRONG] == FAILS


def test_a_student_that_knows_nothing_has_the_same_hard_loss_at_every_temperature(cases):
    assert verdicts_of(Cases(cases.zt, 0 * cases.zs + 1, cases.y))[HARD_AT_ONE] == HOLDS


def test_flattening_would_be_refuted_by_a_sharpening_softmax(cases, monkeypatch):
    monkeypatch.setattr(claims, "softened", lambda z, t: torch.softmax(z * t, -1))
    assert higher_t_flattens(cases).verdict == FAILS


def test_closeness_would_be_refuted_by_a_loss_that_the_teacher_does_not_minimise(cases, monkeypatch):
    monkeypatch.setattr(claims, "loss_of", lambda loss, c, t: (0.5 * c.zt - c.zs).square().mean() * t)
    assert loss_measures_closeness(cases).verdict == FAILS


def test_resting_temperature_is_a_zero_of_the_derivative():
    cases = sample_cases(128)
    rest = resting_temperature(cases, points=4000)
    inside = (rest > 0.06) & (rest < 0.99 * K)
    assert inside.any()
    for i in inside.nonzero()[:5, 0]:
        one = Cases(cases.zt[i : i + 1], cases.zs[i : i + 1], cases.y[i : i + 1])
        above, below = (slopes(one, rest[i].item() * f).ce.item() for f in (1.003, 0.997))
        assert above > 0 > below


def test_evidence_carries_computed_numbers(table):
    """All but of the claims that need training runs, and of what is 0 or 1 for any logits."""
    assert (section_1_1_claims(sample_cases(64, seed=1))["evidence"] != table["evidence"]).sum() == 13


def test_wrong_alpha_is_named():
    with pytest.raises(KitError, match="alpha: 2 is not allowed; allowed: 0 to 1"):
        section_1_1_claims(alpha=2)
