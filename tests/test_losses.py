"""kit/losses.py against independent sources: autograd, finite differences, torch and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import entropy

from kit.losses import hard_cross_entropy, kl_divergence, soft_cross_entropy, softened, temperature_gradient

pytestmark = pytest.mark.numerics

EXACT = 1e-10
TEMPERATURES = (0.5, 1.0, 3.0, 20.0)
N, C = 16, 7


@pytest.fixture(params=range(3))
def logits(request) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(request.param)
    zt, zs = (3 * torch.randn(N, C, generator=g, dtype=torch.float64) for _ in range(2))
    return zt, zs, torch.randint(C, (N,), generator=g)


def scipy_soft_cross_entropy(zt: torch.Tensor, zs: torch.Tensor, t: float) -> float:
    p, q = softmax(zt.numpy() / t, axis=1), softmax(zs.numpy() / t, axis=1)
    return float(np.mean(entropy(p, axis=1) + entropy(p, q, axis=1)))  # H(p) + KL(p ‖ q)


# --- the losses ---


@pytest.mark.parametrize("t", TEMPERATURES)
def test_softened_is_scipys_softmax(logits, t):
    np.testing.assert_allclose(softened(logits[0], t), softmax(logits[0].numpy() / t, axis=1), atol=EXACT)


@pytest.mark.parametrize("t", TEMPERATURES)
def test_soft_cross_entropy_and_kl_are_scipys(logits, t):
    zt, zs, _ = logits
    p, q = softmax(zt.numpy() / t, axis=1), softmax(zs.numpy() / t, axis=1)
    assert soft_cross_entropy(zt, zs, t).item() == pytest.approx(scipy_soft_cross_entropy(zt, zs, t), abs=EXACT)
    assert kl_divergence(zt, zs, t).item() == pytest.approx(entropy(p, q, axis=1).mean(), abs=EXACT)


@pytest.mark.parametrize("t", TEMPERATURES)
def test_losses_are_torchs_modules(logits, t):
    zt, zs, y = logits
    kl = torch.nn.KLDivLoss(reduction="batchmean")(torch.log_softmax(zs / t, 1), torch.softmax(zt / t, 1))
    soft = torch.nn.CrossEntropyLoss()(zs / t, torch.softmax(zt / t, 1))
    torch.testing.assert_close(kl_divergence(zt, zs, t), kl, atol=EXACT, rtol=0)
    torch.testing.assert_close(soft_cross_entropy(zt, zs, t), soft, atol=EXACT, rtol=0)
    torch.testing.assert_close(hard_cross_entropy(zs, y, t), torch.nn.CrossEntropyLoss()(zs / t, y), atol=EXACT, rtol=0)


def test_hard_labels_are_the_limit_of_a_sure_teacher(logits):
    _, zs, y = logits
    sure = 1e6 * torch.nn.functional.one_hot(y, C).double()
    torch.testing.assert_close(soft_cross_entropy(sure, zs, 2.0), hard_cross_entropy(zs, y, 2.0), atol=EXACT, rtol=0)


def test_two_classes_by_hand():
    # At t = 2 the logits (2 log 3, 0) give (3/4, 1/4), (0, 0) give (1/2, 1/2) and (2 log 4, 0) give (4/5, 1/5).
    zt, none, sure = (torch.tensor([[2 * math.log(x), 0.0]], dtype=torch.float64) for x in (3, 1, 4))
    h = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert soft_cross_entropy(zt, none, 2.0).item() == pytest.approx(math.log(2), abs=EXACT)
    assert kl_divergence(zt, none, 2.0).item() == pytest.approx(math.log(2) - h, abs=EXACT)
    want = -0.75 * math.log(0.8) - 0.25 * math.log(0.2)
    assert soft_cross_entropy(zt, sure, 2.0).item() == pytest.approx(want, abs=EXACT)
    assert hard_cross_entropy(sure, torch.tensor([1]), 2.0).item() == pytest.approx(math.log(5), abs=EXACT)
    # E_p[zs] − E_q[zs] = (3/4 − 4/5) · 2 log 4, over 4; Cov_p = 3/4 · 1/4 · 2 log 3 · 2 log 4, over 8.
    mismatch, spread = temperature_gradient(zt, sure, 2.0)
    assert mismatch.item() == pytest.approx(-0.05 * 2 * math.log(4) / 4, abs=EXACT)
    assert spread.item() == pytest.approx(3 / 16 * 4 * math.log(3) * math.log(4) / 8, abs=EXACT)


def test_kl_and_cross_entropy_have_the_same_gradient_for_the_student(logits):
    zt, zs, _ = logits
    zs.requires_grad_()
    of_ce, of_kl = (torch.autograd.grad(loss(zt, zs, 4.0), zs)[0] for loss in (soft_cross_entropy, kl_divergence))
    want = (softened(zs, 4.0) - softened(zt, 4.0)) / 4 / N
    torch.testing.assert_close(of_ce, want, atol=EXACT, rtol=0)
    torch.testing.assert_close(of_kl, want, atol=EXACT, rtol=0)


# --- the temperature's gradient ---


@pytest.mark.parametrize("t", TEMPERATURES)
def test_temperature_gradient_is_autograds(logits, t):
    zt, zs, _ = logits
    leaf = torch.tensor(t, dtype=torch.float64, requires_grad=True)
    (want,) = torch.autograd.grad(soft_cross_entropy(zt, zs, leaf), leaf)
    torch.testing.assert_close(temperature_gradient(zt, zs, t).total, want, atol=EXACT, rtol=0)


@pytest.mark.parametrize("t", TEMPERATURES)
def test_temperature_gradient_is_a_finite_difference(logits, t):
    zt, zs, _ = logits
    f, h = (lambda x: scipy_soft_cross_entropy(zt, zs, x)), 1e-3 * t
    want = (8 * (f(t + h) - f(t - h)) - (f(t + 2 * h) - f(t - 2 * h))) / (12 * h)  # error of order h⁴
    assert temperature_gradient(zt, zs, t).total.item() == pytest.approx(want, abs=1e-8)


def test_gradient_takes_a_tensor_temperature_and_is_a_batch_mean(logits):
    zt, zs, _ = logits
    whole = temperature_gradient(zt, zs, torch.tensor(3.0, dtype=torch.float64))
    each = [temperature_gradient(zt[i : i + 1], zs[i : i + 1], 3.0).total for i in range(N)]
    torch.testing.assert_close(whole.total, torch.stack(each).mean(), atol=EXACT, rtol=0)
    assert whole.mismatch.shape == whole.spread.shape == ()


# --- laws that hold for all logits ---

rows = st.lists(st.floats(-20, 20), min_size=2 * C, max_size=2 * C)
temperatures = st.floats(0.5, 50)


def halves(values: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    zt, zs = torch.tensor(values, dtype=torch.float64).reshape(2, 1, C)
    return zt, zs


@settings(max_examples=100, deadline=None)
@given(rows, temperatures, st.floats(-20, 20), st.floats(-20, 20))
def test_a_constant_added_to_the_logits_changes_nothing(values, t, a, b):
    zt, zs = halves(values)
    y = torch.tensor([0])
    for loss in (soft_cross_entropy, kl_divergence):
        torch.testing.assert_close(loss(zt + a, zs + b, t), loss(zt, zs, t), atol=EXACT, rtol=0)
    torch.testing.assert_close(hard_cross_entropy(zs + b, y, t), hard_cross_entropy(zs, y, t), atol=EXACT, rtol=0)
    moved, still = temperature_gradient(zt + a, zs + b, t), temperature_gradient(zt, zs, t)
    torch.testing.assert_close(moved.mismatch, still.mismatch, atol=EXACT, rtol=0)
    torch.testing.assert_close(moved.spread, still.spread, atol=EXACT, rtol=0)


def test_the_temperature_gradient_of_logits_with_a_large_common_offset():
    zt, zs = (4 * torch.randn(64, 100, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    zs = zt + zs
    exact = temperature_gradient(zt.double(), zs.double(), 5.0)
    shifted = temperature_gradient(zt + 1e4, zs + 1e4, 5.0)
    for found, wanted in zip(shifted, exact, strict=True):
        assert found.item() == pytest.approx(wanted.item(), rel=5e-3)


@settings(max_examples=100, deadline=None)
@given(rows, temperatures)
def test_kl_is_not_negative_and_cross_entropy_not_below_the_entropy(values, t):
    zt, zs = halves(values)
    assert kl_divergence(zt, zs, t).item() >= -1e-12
    assert kl_divergence(zt, zt, t).item() == pytest.approx(0, abs=1e-12)
    h = entropy(softmax(zt.numpy() / t, axis=1), axis=1).item()
    assert soft_cross_entropy(zt, zs, t).item() >= h - 1e-10
    assert soft_cross_entropy(zt, zs, t).item() - kl_divergence(zt, zs, t).item() == pytest.approx(h, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(rows, temperatures)
def test_gradient_of_a_student_equal_to_its_teacher_is_the_variance(values, t):
    z, _ = halves(values)
    p, x = softmax(z.numpy()[0] / t), z.numpy()[0]
    variance = np.sum(p * (x - np.sum(p * x)) ** 2)
    gradient = temperature_gradient(z, z, t)
    assert gradient.mismatch.item() == 0
    assert gradient.total.item() == pytest.approx(variance / t**3, abs=EXACT)


@settings(max_examples=100, deadline=None)
@given(rows, temperatures, st.floats(0.5, 4))
def test_gradient_scales_with_the_power_minus_one(values, t, c):
    zt, zs = halves(values)
    scaled, plain = temperature_gradient(c * zt, c * zs, c * t).total, temperature_gradient(zt, zs, t).total
    torch.testing.assert_close(c * scaled, plain, atol=1e-9, rtol=1e-9)
