"""kit/derivation/numeric.py: tensors against autograd, their limits, and how steps shrink."""

from __future__ import annotations

import math

import pytest
import torch

from kit.derivation import numeric
from kit.derivation.claims import student_near_labels
from kit.derivation.numeric import (
    Cases,
    K,
    Slopes,
    autograd_check,
    autograd_slopes,
    decay_exponents,
    directions,
    gradient_curves,
    limits_on_grid,
    loss_of,
    sample_cases,
    several_check,
    size_of,
    slopes,
    steps_to_one,
)
from kit.derivation.printed import printed_formula, readings, scale_check
from kit.derivation.symbolic import LOSSES, several_difference
from kit.errors import KitError

pytestmark = pytest.mark.numerics


@pytest.mark.parametrize("seed", [0, 1])
def test_all_forms_agree_with_autograd(seed):
    table = autograd_check(64, seed)
    assert table["max absolute error"].max() <= 1e-10
    per_batch = table["source"].str.startswith("kit.losses")
    assert set(table["checks"][per_batch]) == {3 * 6} and set(table["checks"][~per_batch]) == {64 * 3 * 6}


def test_autograd_check_sees_a_wrong_form(monkeypatch):
    right = slopes
    monkeypatch.setattr(numeric, "slopes", lambda cases, t: Slopes(*(s + 1e-6 for s in right(cases, t))))
    assert autograd_check(8)["max absolute error"].max() > 1e-7


def test_limits_are_reached_on_the_grid():
    table = limits_on_grid(64, ts=(1e-3, 1e5)).set_index(["loss", "t"])
    for loss in LOSSES:
        assert table.loc[(loss, 1e-3), "÷ form at 0"] == pytest.approx(1, abs=5e-3)
        assert table.loc[(loss, 1e5), "÷ form at ∞"] == pytest.approx(1, abs=5e-3)
        assert table.loc[(loss, 1e5), "value"] == pytest.approx(0 if loss == "KL" else math.log(10), abs=1e-3)


def test_kl_raises_t_where_cross_entropy_lowers_it():
    curves = gradient_curves(64, low=K, high=1000, points=9).set_index(["loss", "student"])["derivative"]
    assert (curves["CE", "student = teacher"] > 0).all() and (curves["CE", "half-trained"] > 0).all()
    assert (curves["KL", "half-trained"] < 0).all() and (curves["KL", "untrained"] < 0).all()
    assert curves["KL", "student = teacher"].abs().max() < 1e-15


def test_a_step_shrinks_as_the_cube_in_t_and_the_square_in_log_t():
    table = decay_exponents(64).set_index("loss")
    assert table["power of t, step in t"].round(1).to_dict() == {"CE": -3.0, "KL": -3.0, "hard": -2.0}
    assert table["power of t, step in log t"].round(1).to_dict() == {"CE": -2.0, "KL": -2.0, "hard": -1.0}
    steps = steps_to_one(64).set_index("descends on")
    assert steps.loc["t", "steps"] / steps.loc["log t", "steps"] == pytest.approx((K**2 + 1) / 2, rel=0.15)
    assert (steps["steps"] / steps["estimate"]).between(0.7, 1.3).all()
    assert steps.loc["t", "t after 100 steps"] > 19.5 and steps.loc["log t", "t after 100 steps"] == 1


@pytest.mark.parametrize("ts", [(), (0.0, 1.0), (-1.0,), (math.nan,), (math.inf,)])
@pytest.mark.parametrize("table", [limits_on_grid, autograd_check, several_check, directions, readings])
def test_what_is_no_temperature_is_refused(table, ts):
    with pytest.raises(KitError, match="temperatures: .* is not allowed; allowed: 1 or more, finite and above 0"):
        table(ts=ts)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda cases: decay_exponents(8, between=(0, 1e3)), "temperatures: .* is not allowed"),
        (lambda cases: decay_exponents(8, between=(10, 10)), "allowed: two temperatures that differ"),
        (lambda cases: slopes(cases, 0), "temperatures: 0.0 is not allowed"),
        (lambda cases: loss_of("CE", cases, 0), "temperatures: 0.0 is not allowed"),
        (lambda cases: printed_formula("L_CE", cases, 0, factor="1/t"), "temperatures: 0.0 is not allowed"),
        (lambda cases: scale_check(cases, scale=0), "scale: 0 is not allowed; allowed: above 0, and not 1"),
        (lambda cases: scale_check(cases, scale=1), "scale: 1 is not allowed"),
        (lambda cases: student_near_labels(cases, 1), "confidence: 1 is not allowed; allowed: above 0 and below 1"),
        (lambda cases: several_difference(0), "teachers: 0 is not allowed; allowed: 1 and more"),
    ],
)
def test_numbers_that_no_logarithm_takes_are_refused(call, said, cases):
    with pytest.raises(KitError, match=said):
        call(cases)


def test_one_temperature_is_not_taken_for_one_a_class(cases):
    with pytest.raises(RuntimeError, match="10 elements"):
        autograd_slopes("CE", cases, torch.ones(10))


def test_wrong_input_is_named():
    with pytest.raises(KitError, match="preset 'big' is not known; allowed: smoke, quick, paper"):
        size_of("big")
    with pytest.raises(KitError, match="student 'lazy' is not known"):
        sample_cases(student="lazy")
    with pytest.raises(KitError, match="cases: shapes"):
        Cases(torch.zeros(2, 3), torch.zeros(2, 4), torch.zeros(2))
    for y in ([0, 3], [-1, 0], [0.0, 1.0]):
        with pytest.raises(KitError, match="labels .* are not allowed; allowed: whole numbers from 0 to 2"):
            Cases(torch.zeros(2, 3).double(), torch.zeros(2, 3).double(), torch.tensor(y))
    with pytest.raises(KitError, match="cases: zs in torch.float32 is not allowed; allowed: torch.float64"):
        Cases(torch.zeros(2, 3).double(), torch.zeros(2, 3), torch.zeros(2).long())
    with pytest.raises(KitError, match="cases: zt holds what is no finite number"):
        Cases(torch.full((2, 3), math.nan).double(), torch.zeros(2, 3).double(), torch.zeros(2).long())
    for images, classes in ((0, 10), (4, 1), (-1, 10), (4, -1)):
        with pytest.raises(KitError, match=f"cases: {images} images of {classes} classes are not allowed"):
            sample_cases(images, classes)
    for low, points in ((0, 5), (-1, 5), (math.inf, 5), (1, 0)):
        with pytest.raises(KitError, match=f"{points} temperatures from {low} to 1000.0 are not allowed"):
            gradient_curves(8, low=low, points=points)
    with pytest.raises(KitError, match="rate: 0 is not allowed; allowed: above 0"):
        steps_to_one(8, rate=0)
    with pytest.raises(KitError, match="start: 0 is not allowed; allowed: 1 and more"):
        steps_to_one(8, start=0)
