"""Several teachers and t²·KL, by sympy and against finite differences and autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from kit.derivation.numeric import (
    WEIGHTS,
    directions,
    pooled_slope,
    sample_cases,
    several_check,
    several_slope,
    t_squared_slope,
)
from kit.derivation.symbolic import several_difference, t_squared_difference

pytestmark = pytest.mark.numerics
CASES = sample_cases(16)
TEACHERS = [CASES.zt, CASES.zt.flip(1), sample_cases(16, seed=3).zs]


def cross_entropy(zt: torch.Tensor, zs: torch.Tensor, t: float) -> float:
    return -(softmax(zt.numpy() / t, 1) * log_softmax(zs.numpy() / t, 1)).sum(1).mean()


def entropy(zt: torch.Tensor, t: float) -> float:
    return cross_entropy(zt, zt, t)


def differences(loss, t: float, h: float = 1e-4) -> float:
    """∂loss/∂t by central differences of the fourth order."""
    return (8 * (loss(t + h) - loss(t - h)) - loss(t + 2 * h) + loss(t - 2 * h)) / (12 * h)


def test_sympy_agrees():
    assert several_difference() == 0
    assert t_squared_difference(2) == 0


@pytest.mark.parametrize("t", [1.0, 4.0, 20.0])
def test_several_teachers_against_finite_differences(t):
    def loss(t: float) -> float:
        return sum(w * cross_entropy(zt, CASES.zs, t) for w, zt in zip(WEIGHTS, TEACHERS, strict=True))

    right = differences(loss, t)
    assert several_slope(TEACHERS, CASES.zs, WEIGHTS, t).item() == pytest.approx(right, rel=1e-7)
    assert abs(pooled_slope(TEACHERS, CASES.zs, WEIGHTS, t).item() / right - 1) > 0.01
    mean = torch.tensor(sum(w * softmax(zt.numpy() / t, 1) for w, zt in zip(WEIGHTS, TEACHERS, strict=True)))
    of_mean = -(mean.numpy() * log_softmax(CASES.zs.numpy() / t, 1)).sum(1).mean()
    assert loss(t) == pytest.approx(of_mean)  # linear in p: the loss of the mean distribution


def test_copies_of_one_teacher_are_one_teacher():
    alone = several_slope([CASES.zt], CASES.zs, [1.0], 4.0).item()
    for slope in (several_slope, pooled_slope):
        assert slope([CASES.zt] * 3, CASES.zs, WEIGHTS, 4.0).item() == pytest.approx(alone)


@pytest.mark.parametrize("t", [1.0, 4.0, 20.0])
def test_t_squared_against_finite_differences(t):
    right = differences(lambda t: t**2 * (cross_entropy(CASES.zt, CASES.zs, t) - entropy(CASES.zt, t)), t)
    assert t_squared_slope(CASES, t).item() == pytest.approx(right, rel=1e-6)


def test_the_tables_say_so():
    errors = several_check(16)["max absolute error"].to_list()
    assert errors[0] < 1e-12 and errors[1] > 1e-3 and errors[2] < 1e-12
    signs = np.sign(directions(64).set_index("t"))
    assert (signs["∂L_D/∂t"] == 1).all() and (signs["∂KL/∂t"] == -1).all()
    assert signs["∂t² KL/∂t"].tolist() == [1, -1, -1, -1]  # between the two, and it turns around
