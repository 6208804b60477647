"""kit/derivation.py: the derivation, its limits, the printed formulas, and verdicts that follow their input."""

from __future__ import annotations

import math

import pytest
import sympy as sp
import torch
import torch.nn.functional as F
from scipy.special import softmax

from kit import derivation as d
from kit.errors import KitError

pytestmark = pytest.mark.numerics


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # small tensors
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def cases() -> d.Cases:
    return d.sample_cases(64)


@pytest.fixture(scope="module")
def verdicts(cases) -> dict[str, str]:
    return verdicts_of(cases)


def verdicts_of(cases: d.Cases, **options: float) -> dict[str, str]:
    table = d.section_1_1_claims(cases, **options)
    return dict(zip(table["claim"], table["verdict"], strict=True))


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


# --- sympy ---


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("loss", d.LOSSES)
def test_closed_forms_equal_sympys_derivative(loss, classes):
    assert d.difference(loss, classes) == 0
    assert d.large_t_difference(loss, classes) == 0


def test_difference_sees_a_wrong_closed_form(monkeypatch):
    right = d.symbolic_closed_form
    monkeypatch.setattr(d, "symbolic_closed_form", lambda loss, classes=3: right(loss, classes) / d.symbols(classes).t)
    assert d.difference("CE") != 0


def test_lemmas_and_general_step():
    assert d.lemma_differences() == (0, 0)
    assert all(d.general_difference(classes) == 0 for classes in (2, 4, 7))


def test_symbolic_limits():
    table = d.symbolic_limits().set_index(["loss", "student"])
    for loss in d.LOSSES:
        assert list(table.loc[(loss, "agrees")]) == [0, 0 if loss == "KL" else sp.log(2), 0, 0]
        assert list(table.loc[(loss, "disagrees")]) == [sp.oo, 0 if loss == "KL" else sp.log(2), -sp.oo, 0]


@pytest.mark.parametrize("loss", d.LOSSES)
def test_compact_form_has_the_closed_forms_value(loss):
    z, t = {"zt": (1.0, -2.0, 0.5), "zs": (0.3, 1.1, -0.7)}, 1.7
    p, q = softmax([x / t for x in z["zt"]]), softmax([x / t for x in z["zs"]])
    e_zt, e_zs = p @ z["zt"], p @ z["zs"]
    moments = {
        r"\mathbb{E}_p[z^s]": e_zs,
        r"\mathbb{E}_q[z^s]": q @ z["zs"],
        r"\mathrm{Cov}_p(z^t, z^s)": sum(p * z["zt"] * z["zs"]) - e_zt * e_zs,
        r"\mathrm{Var}_p(z^t)": sum(p * z["zt"] * z["zt"]) - e_zt**2,
        "z^s_y": z["zs"][0],
    }
    s = d.symbols(3)
    compact = d.compact_form(loss).rhs.subs({sp.Symbol(k): v for k, v in moments.items()}).subs(s.t, t)
    written = d.symbolic_closed_form(loss).subs(dict(zip((*s.zt, *s.zs, s.t), (*z["zt"], *z["zs"], t), strict=True)))
    assert float(compact) == pytest.approx(float(written), abs=1e-12)


# --- numbers ---


@pytest.mark.parametrize("seed", [0, 1])
def test_all_forms_agree_with_autograd(seed):
    assert d.max_error(n=64, seed=seed) <= 1e-10


def test_max_error_sees_a_wrong_form(monkeypatch):
    right = d.slopes
    monkeypatch.setattr(d, "slopes", lambda cases, t: d.Slopes(*(s + 1e-6 for s in right(cases, t))))
    assert d.max_error(n=8) > 1e-7


def test_limits_are_reached_on_the_grid():
    table = d.limits_on_grid(64, ts=(1e-3, 1e5)).set_index(["loss", "t"])
    for loss in d.LOSSES:
        assert table.loc[(loss, 1e-3), "÷ form at 0"] == pytest.approx(1, abs=5e-3)
        assert table.loc[(loss, 1e5), "÷ form at ∞"] == pytest.approx(1, abs=5e-3)
        assert table.loc[(loss, 1e5), "value"] == pytest.approx(0 if loss == "KL" else math.log(10), abs=1e-3)


def test_kl_raises_t_where_cross_entropy_lowers_it():
    curves = d.gradient_curves(64, low=d.K, high=1000, points=9).set_index(["loss", "student"])["derivative"]
    assert (curves["CE", "student = teacher"] > 0).all() and (curves["CE", "half-trained"] > 0).all()
    assert (curves["KL", "half-trained"] < 0).all() and (curves["KL", "untrained"] < 0).all()
    assert curves["KL", "student = teacher"].abs().max() < 1e-15


def test_a_step_shrinks_as_the_cube_in_t_and_the_square_in_log_t():
    table = d.decay_exponents(64).set_index("loss")
    assert table["power of t, step in t"].round(1).to_dict() == {"CE": -3.0, "KL": -3.0, "hard": -2.0}
    assert table["power of t, step in log t"].round(1).to_dict() == {"CE": -2.0, "KL": -2.0, "hard": -1.0}
    steps = d.steps_to_one(64).set_index("descends on")
    assert steps.loc["t", "steps"] / steps.loc["log t", "steps"] == pytest.approx((d.K**2 + 1) / 2, rel=0.15)
    assert (steps["steps"] / steps["estimate"]).between(0.7, 1.3).all()
    assert steps.loc["t", "t after 100 steps"] > 19.5 and steps.loc["log t", "t after 100 steps"] == 1


# --- as printed ---


def test_no_reading_to_the_letter_matches(cases):
    table = d.readings(cases)
    literal = table[table["as printed"]]
    assert len(literal) == 2 * len(d.INDEX_J) * len(d.WEIGHTS)
    assert (literal["relative error"] > 1).all()
    assert (literal["after constant"] > 0.5).all()
    assert (literal["correlation"].abs() < 0.9).all()


def test_one_repair_of_the_hard_formula_is_exact_and_none_of_the_soft_one():
    table = d.readings(d.sample_cases(256))  # enough images for a teacher that is wrong on some
    exact = table[table["relative error"] < 1e-9]
    assert exact[["target", "j", "weight", "form", "factor"]].values.tolist() == [
        ["L_CE", "j = label", "p of the student", "zs_i − zs_j", "1/t²"]
    ]


def test_the_soft_formula_can_be_repaired_for_a_student_equal_to_its_teacher(cases):
    table = d.readings(d.Cases(cases.zt, cases.zt, cases.y))
    best = table[table["target"] == "L_D"].sort_values("after constant").iloc[0]
    assert (best["form"], best["j"], best["factor"]) == ("zs_i − zs_j", "pairs, p_i p_j", "1/t²")
    assert best["constant"] == pytest.approx(-0.5) and best["after constant"] < 1e-9


def test_literal_reading_is_the_printed_sum():
    zs, y, t = [0.4, -1.2, 2.0], 1, 3.0
    cases = d.Cases(torch.zeros(1, 3, dtype=torch.float64), torch.tensor([zs], dtype=torch.float64), torch.tensor([y]))
    p = softmax([z / t for z in zs])
    soft = -sum(zs[i] * zs[j] * (1 + (zs[i] - zs[j]) / t) * p[i] for i in range(3) for j in range(3))
    hard = -sum(zs[i] * zs[y] * p[i] for i in range(3))
    assert d.printed_formula("L_D", cases, t).item() == pytest.approx(soft, abs=1e-12)
    assert d.printed_formula("L_CE", cases, t, j="j = label").item() == pytest.approx(hard, abs=1e-12)


def test_scale_check_tells_the_print_from_the_truth(cases):
    table = d.scale_check(cases).set_index("formula")
    printed = table.index.str.contains("as printed")
    assert table.loc[~printed, "degree"].to_numpy() == pytest.approx(-1) and table.loc[
        printed, "degree"
    ].to_numpy() == pytest.approx(2)
    assert (table.loc[~printed, "change under a shift"] < 1e-12).all()
    assert (table.loc[printed, "change under a shift"] > 0.1).all()


# --- claims ---


def test_verdicts_of_the_random_logits(verdicts):
    assert verdicts == {
        FLATTER: d.HOLDS,
        WRONG: d.CONDITION,
        CLOSENESS: d.CONDITION,
        "∂L_D/∂t is as printed": d.FAILS,
        "∂L_CE/∂t is as printed": d.FAILS,
        AT_INFINITY: d.HOLDS,
        AT_ZERO: d.FAILS,
        STUDENT_ONLY: d.FAILS,
        TENDS_TO_ONE: d.CONDITION,
        "The teacher only affects the student's final accuracy, t its speed of convergence": d.OPEN,
        "An adaptive t therefore learns faster, saves time and memory and makes a better student": d.OPEN,
        SIMILAR: d.CONDITION,
        T_FALLS: d.CONDITION,
        HARD_AT_ONE: d.CONDITION,
    }


def test_a_teacher_that_knows_nothing_changes_the_verdicts_it_should(cases, verdicts):
    blank = verdicts_of(d.Cases(0 * cases.zt, cases.zs, cases.y))
    changed = {claim: verdict for claim, verdict in blank.items() if verdict != verdicts[claim]}
    assert changed == {
        AT_ZERO: d.HOLDS,
        STUDENT_ONLY: d.HOLDS,
        TENDS_TO_ONE: d.FAILS,  # nothing to follow: t never falls
        T_FALLS: d.FAILS,
        CLOSENESS: d.HOLDS,  # the teacher's entropy is log C at every t
        SIMILAR: changed[SIMILAR],  # with all logits equal the "right" images are those of class 0
    }


def test_a_teacher_as_sure_as_a_label_has_the_hard_losss_gradient(cases, verdicts):
    sure = verdicts_of(d.Cases(1e3 * F.one_hot(cases.y, 10).double(), cases.zs, cases.y))
    assert verdicts[SIMILAR] == d.CONDITION and sure[SIMILAR] == d.HOLDS
    assert sure[WRONG] == d.FAILS  # the labels add nothing to such a teacher


def test_a_teacher_against_the_labels_keeps_t_up(cases):
    wrong = verdicts_of(d.Cases(-cases.zt, cases.zs, cases.y))
    assert wrong[TENDS_TO_ONE] == d.FAILS
    assert wrong[SIMILAR] == d.OPEN  # it is right on no image


def test_alpha_1_leaves_nothing_wrong_to_learn(cases, verdicts):
    soft_only = verdicts_of(cases, alpha=1.0)
    assert {c for c in verdicts if soft_only[c] != verdicts[c]} == {WRONG}
    assert soft_only[WRONG] == d.FAILS


def test_a_student_that_knows_nothing_has_the_same_hard_loss_at_every_temperature(cases):
    assert verdicts_of(d.Cases(cases.zt, 0 * cases.zs + 1, cases.y))[HARD_AT_ONE] == d.HOLDS


def test_flattening_would_be_refuted_by_a_sharpening_softmax(cases, monkeypatch):
    monkeypatch.setattr(d, "softened", lambda z, t: torch.softmax(z * t, -1))
    assert d._higher_t_flattens(cases).verdict == d.FAILS


def test_resting_temperature_is_a_zero_of_the_derivative():
    cases = d.sample_cases(128)
    rest = d.resting_temperature(cases, points=4000)
    inside = (rest > 0.06) & (rest < 0.99 * d.K)
    assert inside.any()
    for i in inside.nonzero()[:5, 0]:
        one = d.Cases(cases.zt[i : i + 1], cases.zs[i : i + 1], cases.y[i : i + 1])
        above, below = (d.slopes(one, rest[i].item() * f).ce.item() for f in (1.003, 0.997))
        assert above > 0 > below


def test_evidence_carries_computed_numbers(cases):
    a, b = (d.section_1_1_claims(d.sample_cases(32, seed=s))["evidence"] for s in (0, 1))
    assert (a != b).sum() >= 11


# --- wrong input ---


def test_wrong_input_is_named():
    with pytest.raises(KitError, match="preset 'big' is not known; allowed: smoke, quick, paper"):
        d.size_of("big")
    with pytest.raises(KitError, match="loss 'mse' is not known"):
        d.symbolic_loss("mse")
    with pytest.raises(KitError, match="student 'lazy' is not known"):
        d.sample_cases(student="lazy")
    with pytest.raises(KitError, match="alpha: 2 is not allowed; allowed: 0 to 1"):
        d.section_1_1_claims(alpha=2)
    with pytest.raises(KitError, match="cases: shapes"):
        d.Cases(torch.zeros(2, 3), torch.zeros(2, 4), torch.zeros(2))
