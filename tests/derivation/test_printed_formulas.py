"""kit/derivation/printed.py: which reading of the print matches, and which laws it breaks."""

from __future__ import annotations

import pytest
import torch
from scipy.special import softmax

from kit.derivation.numeric import Cases, sample_cases
from kit.derivation.printed import INDEX_J, WEIGHTS, printed_formula, readings, scale_check
from kit.errors import KitError

pytestmark = pytest.mark.numerics


def test_no_reading_to_the_letter_matches(cases):
    table = readings(cases)
    literal = table[table["as printed"]]
    assert len(literal) == 2 * len(INDEX_J) * len(WEIGHTS)
    assert (literal["relative error"] > 1).all()
    assert (literal["after constant"] > 0.5).all()
    assert (literal["correlation"].abs() < 0.9).all()


def test_one_repair_of_the_hard_formula_is_exact_and_none_of_the_soft_one():
    table = readings(sample_cases(256))  # enough images for a teacher that is wrong on some
    exact = table[table["relative error"] < 1e-9]
    assert exact[["target", "j", "weight", "form", "factor"]].values.tolist() == [
        ["L_CE", "j = label", "p of the student", "zs_i − zs_j", "1/t²"]
    ]


def test_the_soft_formula_can_be_repaired_for_a_student_equal_to_its_teacher(cases):
    table = readings(Cases(cases.zt, cases.zt, cases.y))
    best = table[table["target"] == "L_D"].sort_values("after constant").iloc[0]
    assert (best["form"], best["j"], best["factor"]) == ("zs_i − zs_j", "pairs, p_i p_j", "1/t²")
    assert best["constant"] == pytest.approx(-0.5) and best["after constant"] < 1e-9


def test_literal_reading_is_the_printed_sum():
    zs, y, t = [0.4, -1.2, 2.0], 1, 3.0
    cases = Cases(torch.zeros(1, 3, dtype=torch.float64), torch.tensor([zs], dtype=torch.float64), torch.tensor([y]))
    p = softmax([z / t for z in zs])
    soft = -sum(zs[i] * zs[j] * (1 + (zs[i] - zs[j]) / t) * p[i] for i in range(3) for j in range(3))
    hard = -sum(zs[i] * zs[y] * p[i] for i in range(3))
    assert printed_formula("L_D", cases, t).item() == pytest.approx(soft, abs=1e-12)
    assert printed_formula("L_CE", cases, t, j="j = label").item() == pytest.approx(hard, abs=1e-12)


@pytest.mark.parametrize(
    "option",
    ["target", "j", "weight", "form", "bracket", "factor"],
)
def test_an_unknown_reading_is_named(cases, option):
    with pytest.raises(KitError, match=f"^{option} 'mine' is not known; allowed: "):
        printed_formula(**{"target": "L_D", "cases": cases, "t": 2.0, option: "mine"})


def test_scale_check_tells_the_print_from_the_truth(cases):
    table = scale_check(cases).set_index("formula")
    printed = table.index.str.contains("as printed")
    assert table.loc[~printed, "degree"].to_numpy() == pytest.approx(-1)
    assert table.loc[printed, "degree"].to_numpy() == pytest.approx(2)
    assert (table.loc[~printed, "change under a shift"] < 1e-12).all()
    assert (table.loc[printed, "change under a shift"] > 0.1).all()
