"""The moving temperature against torch.optim on log t, with autograd and a cross-entropy written out here."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_trainings import logits

from kit.losses import entropy_gradient
from kit.temperature import Adaptive, Fixed, Scheduled
from kit.training import thermostat as heating
from kit.training.moment import Moment

pytestmark = pytest.mark.numerics


def log_softmax(z: torch.Tensor) -> torch.Tensor:
    return z - torch.log(torch.exp(z - z.amax(1, keepdim=True)).sum(1, keepdim=True)) - z.amax(1, keepdim=True)


def cross_entropy(zt: torch.Tensor, zs: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return -(torch.exp(log_softmax(zt / t)) * log_softmax(zs / t)).sum(1).mean()


def divergence(zt: torch.Tensor, zs: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return cross_entropy(zt, zs, t) - cross_entropy(zt, zt, t)


class Thermostat(heating.Thermostat):
    """A stage's thermostat, told of logits as a training tells it."""

    def __init__(self, policy, per_epoch: int, steps: int) -> None:
        super().__init__(policy)
        self.stage = {"stage_steps": steps, "steps_per_epoch": per_epoch}
        self.seen = 0

    def observe(self, zt: torch.Tensor, zs: torch.Tensor) -> None:
        super().observe(Moment(None, None, zs, {"big": zt}, step=self.seen, **self.stage))
        self.seen += 1

    @property
    def used(self) -> float:
        return self.policy.used(self.t)

    @property
    def gradient(self) -> float:
        return self.memory["gradient"]


def heat(policy, zt, zs, steps: int, per_epoch: int = 1) -> Thermostat:
    thermostat = Thermostat(policy, per_epoch, steps)
    for _ in range(steps):
        thermostat.observe(zt, zs)
    return thermostat


# ---- why it moves ----------------------------------------------------------------------------------------------------


def test_it_falls_to_one_under_a_student_that_copies_its_teacher():
    zt = logits(0)
    thermostat = Thermostat(Adaptive(k=20, rate=5), 10, 1000)
    seen = [thermostat.t]
    while not thermostat.is_cold and len(seen) < 1000:
        thermostat.observe(zt, zt.clone())
        assert thermostat.gradient > 0
        seen.append(thermostat.t)
    assert thermostat.used == 1.0
    assert thermostat.is_cold
    assert all(later < earlier for earlier, later in pairwise(seen))


def test_it_stays_at_k_under_a_student_unrelated_to_its_teacher():
    zt, zs = logits(0, n=512), logits(1, n=512)
    thermostat = heat(Adaptive(k=20, rate=5), zt, zs, 300, per_epoch=10)
    assert thermostat.t == 20.0
    assert thermostat.gradient < 0
    from_below = Thermostat(Adaptive(k=20, rate=5), 10, 300)
    from_below.t = 8.0
    from_below.observe(zt, zs)
    assert from_below.t > 8.0


def test_it_waits_under_a_student_that_says_nothing():
    zt = logits(0)
    thermostat = heat(Adaptive(k=20, rate=5), zt, torch.zeros_like(zt), 100)
    assert thermostat.t == 20.0
    assert thermostat.gradient == pytest.approx(0, abs=1e-12)


def test_the_gradient_of_kl_does_not_let_it_fall():
    zt = logits(0)
    copied = heat(Adaptive(k=20, rate=5, follows="kl"), zt, zt.clone(), 300, per_epoch=10)
    assert copied.t == pytest.approx(20.0, abs=1e-9)
    near = heat(Adaptive(k=20, rate=5, follows="kl"), zt, zt + 0.3 * logits(1), 300, per_epoch=10)
    assert near.t == 20.0
    assert near.gradient < 0


# ---- the update ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("follows", ["cross-entropy", "kl"])
@pytest.mark.parametrize(
    ("name", "optimiser"),
    [("sgd", torch.optim.SGD), ("adam", lambda theta, lr: torch.optim.Adam(theta, lr, betas=(0.9, 0.999), eps=1e-8))],
)
def test_it_is_torchs_optimiser_on_log_t(name, optimiser, follows):
    loss_of = cross_entropy if follows == "cross-entropy" else divergence
    per_epoch, rate, k = 25, 3.0 if name == "sgd" else 0.2, 20.0  # Adam's steps are all about as long as its rate
    thermostat = Thermostat(Adaptive(k=k, rate=rate, optimiser=name, follows=follows), per_epoch, 50)
    theta = torch.nn.Parameter(torch.tensor(math.log(12.0), dtype=torch.float64))
    thermostat.t = 12.0  # away from both bounds, so that nothing is clamped
    reference = optimiser([theta], lr=rate / per_epoch)
    for step in range(50):
        zt = logits(step)
        zs = zt + 0.5 * logits(1000 + step)
        loss = loss_of(zt, zs, theta.exp())
        reference.zero_grad()
        loss.backward()
        thermostat.observe(zt, zs)
        assert thermostat.gradient == pytest.approx(theta.grad.item(), abs=1e-9)
        reference.step()
        assert 1 < thermostat.t < k
        assert thermostat.t == pytest.approx(theta.exp().item(), abs=1e-9)
    assert abs(thermostat.t - 12.0) > 0.01


def test_per_variance_it_is_torchs_sgd_on_the_loss_over_the_teachers_variance():
    thermostat = Thermostat(Adaptive(k=20, rate=40, normalised=True), 25, 50)
    theta = torch.nn.Parameter(torch.tensor(math.log(12.0), dtype=torch.float64))
    thermostat.t, reference = 12.0, torch.optim.SGD([theta], lr=40 / 25)
    for step in range(50):
        zt = 3 * logits(step)
        zs = zt + 0.5 * logits(1000 + step)
        reference.zero_grad()
        (cross_entropy(zt, zs, theta.exp()) / np.var(zt.numpy(), axis=1).mean()).backward()
        reference.step()
        thermostat.observe(zt, zs)
        assert thermostat.t == pytest.approx(theta.exp().item(), abs=1e-9)
    assert abs(thermostat.t - 12.0) > 0.1


def test_per_variance_the_teachers_scale_does_not_matter_and_else_its_square_does():
    zt = logits(0)
    zt = zt / zt.std(1, keepdim=True)

    def fall(scale: float, normalised: bool) -> float:
        policy = Adaptive(k=20, rate=0.5, normalised=normalised)
        return math.log(20) - math.log(heat(policy, scale * zt, scale * zt, 1, per_epoch=1).t)

    assert fall(2, True) == pytest.approx(fall(1, True), rel=0.1)
    assert fall(2, False) == pytest.approx(4 * fall(1, False), rel=0.1)


def test_the_bounds_hold_theta_as_a_clamped_parameter_would():
    theta, per_epoch = torch.nn.Parameter(torch.tensor(math.log(4.0), dtype=torch.float64)), 2
    thermostat = Thermostat(Adaptive(k=4, rate=20, floor=False), per_epoch, 60)
    reference = torch.optim.SGD([theta], lr=20 / per_epoch)
    bounds = set()
    for step in range(60):
        zt = logits(step, scale=1.5)
        zs = logits(step + 500, scale=3.0) if step < 15 else zt.clone()
        reference.zero_grad()
        cross_entropy(zt, zs, theta.exp()).backward()
        reference.step()
        with torch.no_grad():
            theta.clamp_(0.0, math.log(4.0))
        thermostat.observe(zt, zs)
        assert thermostat.t == pytest.approx(theta.exp().item(), abs=1e-9)
        bounds |= {thermostat.t} & {1.0, 4.0}
    assert bounds == {1.0, 4.0}


def test_entropy_gradient_is_autograds():
    zt, t = logits(3), torch.tensor(6.5, dtype=torch.float64, requires_grad=True)
    (wanted,) = torch.autograd.grad(cross_entropy(zt, zt.detach(), t), t)
    assert entropy_gradient(zt, 6.5).item() == pytest.approx(wanted.item(), abs=1e-12)


def test_the_rate_is_per_epoch_whatever_the_number_of_batches():
    zt = logits(0)
    few, many = (heat(Adaptive(k=20, rate=1, floor=False), zt, zt, 3 * n, n) for n in (20, 40))
    assert 20 - few.t > 1  # it has moved
    assert many.t == pytest.approx(few.t, rel=0.02)
    one_epoch_more = heat(Adaptive(k=20, rate=1, floor=False), zt, zt, 80, 20)
    assert few.t - one_epoch_more.t > 10 * abs(few.t - many.t)


# ---- reading it ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [20.0, 5.0, 3.0, 7.0, 19.0, 100.0])
@pytest.mark.parametrize("kind", [Adaptive, Scheduled])
def test_it_starts_at_k_exactly(kind, k):
    policy = kind(k=k, rate=1) if kind is Adaptive else kind(k=k)
    thermostat = Thermostat(policy, 10, 10)
    assert (thermostat.t, thermostat.used, thermostat.policy.k) == (k, k, k)
    assert not thermostat.is_cold


@pytest.mark.parametrize(("t", "used"), [(19.999, 19.0), (2.0, 2.0), (1.999, 1.0), (1.0, 1.0)])
def test_the_losses_see_the_floor(t, used):
    floored, plain = (Thermostat(Adaptive(rate=1, floor=floor), 10, 10) for floor in (True, False))
    floored.t = plain.t = t
    assert (floored.used, plain.used) == (used, t)
    assert floored.is_cold == (used == 1)
    assert plain.is_cold == (t == 1)


def test_a_fixed_temperature_stays_and_never_gets_cold():
    zt = logits(0)
    for T in (0.5, 1.0, 4.7):
        thermostat = heat(Fixed(T=T), zt, zt, 20)
        assert (thermostat.t, thermostat.used) == (T, T)
        assert not thermostat.policy.moves
        assert not thermostat.is_cold


def test_k_may_be_changed_at_any_time():
    thermostat = Thermostat(Adaptive(k=20, rate=1), 10, 10)
    thermostat.steer(Adaptive(k=8, rate=1))
    assert (thermostat.t, thermostat.policy.k) == (8.0, 8.0)
    thermostat.steer(Adaptive(k=30, rate=1))  # a wider range leaves t where it is
    assert (thermostat.t, thermostat.policy.k) == (8.0, 30.0)
    for _ in range(500):
        thermostat.observe(logits(0), -logits(0))
    assert thermostat.t == 30.0
    thermostat.steer(Adaptive(k=1, rate=1))  # the least there is
    assert thermostat.t == 1.0


# ---- schedules -------------------------------------------------------------------------------------------------------


def test_schedules_go_from_k_to_one_over_the_stage():
    zt = logits(0)
    linear = Thermostat(Scheduled(k=16, shape="linear", floor=False), 5, 30)
    exponential = Thermostat(Scheduled(k=16, shape="exponential", floor=False), 5, 30)
    for step in range(1, 31):
        linear.observe(zt, -zt)
        exponential.observe(zt, zt)
        assert linear.t == pytest.approx(16 - 15 * step / 30)
        assert exponential.t == pytest.approx(math.exp(math.log(16) * (1 - step / 30)))
        assert linear.is_cold == exponential.is_cold == (step == 30)
    linear.observe(zt, zt)
    assert linear.t == 1.0  # a stage that goes on stays there


def test_a_floored_schedule_is_cold_below_two():
    zt = logits(0)
    thermostat = Thermostat(Scheduled(k=10), 5, 10)  # falls by 0.9 a step, so it is 2.8 after the eighth
    cold = []
    for _ in range(10):
        thermostat.observe(zt, zt)
        cold.append(thermostat.is_cold)
    assert cold == [False] * 8 + [True] * 2


# ---- whatever the logits are -----------------------------------------------------------------------------------------

numbers = st.floats(allow_nan=True, allow_infinity=True, width=32)
policies = st.one_of(
    st.builds(
        Adaptive,
        k=st.floats(1, 1e6),
        rate=st.floats(1e-6, 1e6),
        optimiser=st.sampled_from(["sgd", "adam"]),
        follows=st.sampled_from(["cross-entropy", "kl"]),
        floor=st.booleans(),
    ),
    st.builds(Scheduled, k=st.floats(1, 1e6), shape=st.sampled_from(["linear", "exponential"]), floor=st.booleans()),
)
batches = st.lists(st.tuples(numbers, numbers), min_size=6, max_size=6)


@settings(deadline=None, max_examples=300)
@given(policies, st.lists(batches, min_size=1, max_size=4), st.booleans())
def test_t_stays_between_one_and_k_whatever_comes(policy, seen, double):
    thermostat = Thermostat(policy, 3, len(seen))
    for batch in seen:
        pair = torch.tensor(batch, dtype=torch.float64 if double else torch.float32)
        thermostat.observe(pair[:, 0].reshape(2, 3), pair[:, 1].reshape(2, 3))
        assert 1 <= thermostat.t <= policy.k
        assert 1 <= thermostat.used <= policy.k


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
@pytest.mark.parametrize("size", [1e4, 1e18, 1e100, 1e150])
def test_a_diverging_student_does_not_break_it(size, optimiser):
    zt = logits(0)
    for zs in (size * zt, -size * zt, size * logits(1)):
        thermostat = heat(Adaptive(k=20, rate=60, optimiser=optimiser), zt, zs, 5)
        assert 1 <= thermostat.t <= 20


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_it_keeps_its_value_when_the_logits_are_not_numbers(bad):
    zt = logits(0)
    thermostat = heat(Adaptive(k=20, rate=1), zt, zt, 3)
    before = thermostat.t
    thermostat.observe(zt, torch.full_like(zt, bad))
    assert thermostat.t == before


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
@pytest.mark.parametrize("zs", [torch.zeros(32, 10), logits(1)])
def test_it_waits_under_a_teacher_whose_logits_are_all_alike(optimiser, zs):
    thermostat = heat(Adaptive(k=20, rate=60, optimiser=optimiser, normalised=True), torch.ones(32, 10), zs, 5)
    assert thermostat.t == 20
