"""The siblings against numpy, scipy, torch's own optimiser, and identities."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.special import logsumexp, rel_entr, softmax
from scipy.stats import pearsonr
from small_trainings import DATA, cnn, history, logits, same_weights, teachers

from kit import recipe
from kit.losses import Sides, kl_divergence, sides
from kit.recipe import Moment, Recipe
from kit.siblings import SIBLINGS, crd
from kit.siblings.ctkd import Climbed, Learned
from kit.siblings.dist import Correlated
from kit.siblings.dkd import Decoupled, decoupled
from kit.siblings.dtkd import BothSides, Dynamic
from kit.siblings.lskd import stages as standardised
from kit.siblings.normkd import ByDeviation, TeacherSquared
from kit.siblings.rising import Rising
from kit.siblings.ttm import Matched, TeacherAlone
from kit.trainer import Training
from kit.training.thermostat import Thermostat

N, C = 12, 7
CLOSE = {"rtol": 1e-9, "atol": 1e-12}


Y = torch.arange(N) % C
ZT, ZS = logits(1, N, C), logits(2, N, C)


def moment(t, zt=ZT, zs=ZS, **more) -> Moment:
    return Moment(
        x=torch.empty(0), y=Y, zs=zs, logits={"big": zt}, temperatures={"big": sides(t)},
        **{"step": 50, "stage_steps": 100} | more,
    )  # fmt: skip


def hard(zs=ZS) -> float:
    z = zs.numpy()
    return float((logsumexp(z, axis=1) - z[np.arange(N), Y]).mean())


def kl(zt, zs, tt, ts) -> np.ndarray:
    """By scipy, of each image."""
    return rel_entr(softmax(zt / tt, axis=1), softmax(zs / ts, axis=1)).sum(1)


def test_normkd_softens_each_image_by_its_own_deviation_and_weighs_it_by_the_teachers():
    t = ByDeviation().given(2.0, moment(1.0))["big"]
    tt, ts = (2 * z.numpy().std(1, ddof=1, keepdims=True) for z in (ZT, ZS))
    np.testing.assert_allclose(t.teacher.numpy(), tt, rtol=1e-6)
    wanted = 0.9 * (tt[:, 0] ** 2 * kl(ZT.numpy(), ZS.numpy(), tt, ts)).mean() + 0.1 * hard()
    assert TeacherSquared()(moment(t)).item() == pytest.approx(wanted, rel=1e-6)


def test_standardised_logits_are_z_scores_whatever_their_scale():
    (stage,) = standardised(10)
    z_scored = [(z - z.mean(1, keepdim=True)) / z.std(1, keepdim=True) for z in (ZT, ZS)]
    wanted = 9 * 4 * kl(*(z.numpy() for z in z_scored), 2.0, 2.0).mean() + 0.1 * hard()
    for scale in (1.0, 2.0, 30.0):  # of the teacher's logits
        t = stage.temperature.given(2.0, moment(1.0, zt=scale * ZT))["big"]
        assert stage.objective(moment(t, zt=scale * ZT)).item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("sharpness", ["maximum", "logsumexp"])
def test_dtkd_softens_the_surer_side_more(sharpness):
    of = {"maximum": lambda z: z.max(1), "logsumexp": lambda z: logsumexp(z, axis=1)}[sharpness]
    u, v = (np.maximum(of(z.numpy()), 1.0)[:, None] for z in (ZT, ZS))
    tt, ts = 8 * u / (u + v), 8 * v / (u + v)
    t = Dynamic(sharpness=sharpness).given(4.0, moment(1.0))["big"]
    np.testing.assert_allclose(t.student.numpy(), ts, **CLOSE)
    moving = (tt * ts)[:, 0] * kl(ZT.numpy(), ZS.numpy(), tt, ts)
    wanted = (3 * moving + 16 * kl(ZT.numpy(), ZS.numpy(), 4.0, 4.0)).mean() + hard()
    assert BothSides()(moment(t)).item() == pytest.approx(wanted, rel=1e-9)
    begun = BothSides()(moment(t, step=5))  # of 100: the soft loss has risen to 5 / (100 / 12)
    assert begun.item() == pytest.approx(0.6 * (wanted - hard()) + hard(), rel=1e-9)


def test_dtkd_guards_against_a_student_whose_logits_are_all_below_zero():
    t = Dynamic().given(4.0, moment(1.0, zs=-5 - ZS.abs()))["big"]
    assert all((side > 0).all() and side.isfinite().all() for side in t)


@pytest.mark.parametrize("weighted", [False, True])
def test_ttm_is_the_divergence_from_the_teachers_power(weighted):
    p = softmax(ZT.numpy(), axis=1)
    power = p**0.2
    losses = rel_entr(power / power.sum(1, keepdims=True), softmax(ZS.numpy(), axis=1)).sum(1)
    wanted = 4 * (losses * (power.sum(1) if weighted else 1)).mean() + hard()
    t = TeacherAlone(T=5.0).given(5.0, moment(1.0))
    assert t == Sides(5.0, 1.0)
    assert Matched(soft=4.0, weighted=weighted)(moment(t)).item() == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("t", [1.0, 4.0])
def test_dkds_parts_add_up_to_the_divergence(t):
    parts = decoupled(ZT, ZS, Y, t)
    p_y = torch.softmax(ZT / t, 1)[range(N), Y]
    whole = kl(ZT.numpy(), ZS.numpy(), t, t)
    np.testing.assert_allclose((parts.target + (1 - p_y) * parts.others).numpy(), whole, rtol=1e-9)
    assert (parts.target + (1 - p_y) * parts.others).mean().item() == pytest.approx(kl_divergence(ZT, ZS, t).item())
    by_hand = rel_entr(*([softmax(np.delete(z[0].numpy(), int(Y[0])) / t) for z in (ZT, ZS)])).sum()
    assert parts.others[0].item() == pytest.approx(by_hand)
    found = Decoupled()(moment(t)).item()
    assert found == pytest.approx(t**2 * (parts.target + 8 * parts.others).mean().item() + hard(), rel=1e-9)


def test_dkd_of_a_teacher_that_is_sure_is_finite_and_so_is_its_gradient():
    zt = torch.zeros(N, C).scatter(1, Y[:, None], 200.0)
    zs = torch.zeros(N, C, requires_grad=True)
    Decoupled()(moment(1.0, zt=zt, zs=zs)).backward()
    assert zs.grad.isfinite().all()
    assert decoupled(ZT[:, :2], ZS[:, :2], Y % 2, 4.0).others.abs().max() == 0  # two classes: no others


@pytest.mark.parametrize("t_squared", [True, False])
def test_dist_is_one_less_pearsons_correlation_by_image_and_by_class(t_squared):
    p, q = (softmax(z.numpy() / 4, axis=1) for z in (ZT, ZS))
    rows = np.mean([1 - pearsonr(a, b).statistic for a, b in zip(p, q, strict=True)])
    columns = np.mean([1 - pearsonr(a, b).statistic for a, b in zip(p.T, q.T, strict=True)])
    wanted = 2 * (16 if t_squared else 1) * (rows + columns) + hard()
    assert Correlated(t_squared=t_squared)(moment(4.0)).item() == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("names", [("big",), ("big", "small")])
@pytest.mark.parametrize("own", [None, 0.05])
def test_ctkd_climbs_as_sgd_on_a_turned_gradient_does(names, own):
    """Against torch's SGD on g, its gradient by autograd times λ, over steps in which λ rises and the student's
    learning rate falls."""
    thermostat = Thermostat(Learned(lr=own), names)
    assert thermostat.t == pytest.approx(15.62, abs=0.005)
    g = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    sgd = torch.optim.SGD([g], lr=0.05, momentum=0.9, weight_decay=5e-4)
    for step in range(8):
        zs, falling = logits(10 + step, N, C), 0.05 * 0.5**step
        zt = {name: logits(30 + i, N, C) for i, name in enumerate(names)}
        at = replace(moment(1.0, zs=zs, step=step, stage_steps=96, lr=falling), logits=zt)  # λ has risen after 4 of 96
        taught = replace(at, temperatures=thermostat.given(at))
        Climbed()(taught).backward()
        thermostat.observe(at, [taught])
        sgd.zero_grad()
        tau = 1 + 20 * torch.sigmoid(g)
        Climbed()(replace(at, temperatures=dict.fromkeys(names, sides(tau)))).backward()
        strength = 0.5 * (math.cos(math.pi * min(1.0, (step / 96) / (10 / 240))) + 1) - 1
        g.grad *= strength
        sgd.param_groups[0]["lr"] = own or falling
        sgd.step()
        assert thermostat.t == pytest.approx(1 + 20 / (1 + math.exp(-g.item())), rel=1e-4)  # τ itself is float32


def test_ctkds_learning_rate_in_a_training_is_the_students():
    seen = []

    class Watched(Learned):
        def next(self, t, at):
            seen.append(at.lr)
            return super().next(t, at)

    (stage,) = SIBLINGS["CTKD", "global"](2)
    made = Recipe(stages=(stage.model_copy(update={"temperature": Watched()}),), epochs=2, batch=8, pad=1)
    training = Training(made, DATA, cnn(3), {"big": teachers()["big"]}, seed=0).run()
    assert seen == [row["lr"] for row in training.steps()] and seen[-1] < 0.1 * max(seen)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Decoupled(soft=-1), lambda: Decoupled(warm_up=2), lambda: Decoupled(beta=-8), lambda: Matched(hard=-1),
        lambda: Correlated(soft=-2), lambda: BothSides(alpha=-3), lambda: Climbed(soft=-1), lambda: crd.stages(4, 1.5),
        lambda: crd.stages(4, "a"), lambda: Learned(momentum=1), lambda: Learned(weight_decay=-1e-4),
    ],
)  # fmt: skip
def test_weights_that_would_turn_a_loss_round_are_refused(make):
    with pytest.raises(ValidationError):
        make()


def test_rising_ends_at_k():
    thermostat, seen = Thermostat(Rising(k=20), ["big"]), []
    for step in range(10):
        seen.append(thermostat.t)
        thermostat.observe(moment(1.0, step=step, stage_steps=10))
    assert seen == sorted(seen) and seen[0] == 1 and thermostat.t == 20 and not thermostat.is_cold


@pytest.mark.parametrize("name", SIBLINGS, ids=" ".join)
def test_each_sibling_trains_and_its_run_is_described(name):
    stages = SIBLINGS[name](2)
    made = Recipe(stages=stages, epochs=2, batch=16, pad=1)
    given = {"big": teachers()["big"]}
    training = Training(made, DATA, cnn(3), given, seed=0).run()
    assert math.isfinite(training.steps()[-1]["loss"])
    assert made.teachers == ("big",)
    again = Training(made, DATA, cnn(3), given, seed=0).run()
    assert history(again) == history(training) and same_weights(again.student, training.student)
    assert made.model_dump(mode="json")["stages"][0]["temperature"]["kind"]
    assert stages[-1].until == 1 and recipe.Recipe(stages=stages, epochs=5).stages == stages
