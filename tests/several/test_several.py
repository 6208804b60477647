"""Several teachers against scipy, autograd and hand-worked cases, identities, and the paper's sequence bit for bit."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import optimize, stats
from scipy.special import log_softmax, rel_entr, softmax
from small_trainings import DATA, cnn, hard, history, linear, logits, same_weights, three_steps
from torch.nn import functional as F

from kit.errors import KitError
from kit.losses import Sides, sides, soft_cross_entropy
from kit.recipe import HardLabels, Improved, Moment, Recipe, Stage
from kit.runs.checkpoint import Checkpoints
from kit.several import (
    Averaged,
    Confidence,
    Drawn,
    Entropy,
    Equal,
    Followed,
    Graduation,
    MinNorm,
    OneAtATime,
    Together,
    Weighted,
    several,
)
from kit.several.weights import min_norm_weights
from kit.siblings.normkd import ByDeviation
from kit.temperature import Adaptive, Fixed
from kit.trainer import Training
from kit.training.history import Diverged
from kit.training.record import MEAN
from kit.training.thermostat import Thermostat

N, C, NAMES = 9, 6, ("a", "b", "c")
CLOSE = {"rtol": 1e-9, "atol": 1e-12}
WEIGHTS = [Equal(), Entropy(), MinNorm(), Confidence(), Followed(), Drawn()]


Y, ZS = torch.arange(N) % C, logits(0, N, C)
ZT = {name: logits(i + 1, N, C) + 0.5 * ZS for i, name in enumerate(NAMES)}


def moment(t=4.0, zt=ZT, zs=ZS, **more) -> Moment:
    of = t if isinstance(t, dict) else dict.fromkeys(zt, t)
    temperatures = {name: sides(each) for name, each in of.items()}
    return Moment(x=torch.empty(0), y=Y, zs=zs, logits=zt, temperatures=temperatures, **{"stage_steps": 100} | more)


def kd_gradients(t: float) -> np.ndarray:
    """∂/∂zs of each teacher's t²·KL, summed over the batch's mean, (K, C), by autograd."""
    zs = ZS.clone().requires_grad_()
    losses = [F.kl_div((zs / t).log_softmax(1), (zt / t).softmax(1), reduction="batchmean") for zt in ZT.values()]
    return np.stack([torch.autograd.grad(t**2 * loss, zs, retain_graph=True)[0].sum(0).numpy() for loss in losses])


def least_norm(gram: np.ndarray, most: float) -> np.ndarray:
    found = optimize.minimize(
        lambda w: w @ gram @ w, np.full(len(gram), 1 / len(gram)), jac=lambda w: 2 * gram @ w, method="SLSQP",
        bounds=[(0, most)] * len(gram), constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        options={"ftol": 1e-15, "maxiter": 500},
    )  # fmt: skip
    return found.x


# ---- weights -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", WEIGHTS, ids=lambda w: w.kind)
def test_weights_add_up_to_one_and_of_one_teacher_are_one(weights):
    found = weights(moment())
    total = sum(found.values())
    np.testing.assert_allclose(total.numpy(), np.ones_like(total.numpy()), rtol=1e-6)
    assert all((weight >= 0).all() for weight in found.values())
    assert weights(moment(zt={"a": ZT["a"]}))["a"] == 1


def test_an_unsure_teacher_counts_less():
    entropies = np.stack([stats.entropy(softmax(zt.numpy(), axis=1), axis=1) for zt in ZT.values()])
    wanted = (1 - entropies / entropies.sum(0)) / 2
    np.testing.assert_allclose(torch.stack([*Entropy()(moment()).values()]).numpy(), wanted, **CLOSE)
    sure = {name: torch.zeros(N, C).scatter(1, Y[:, None], 500.0) for name in "ab"}  # no entropy at all
    assert (Entropy()(moment(zt=sure, zs=ZS.float()))["a"] == 0.5).all()


def test_a_teacher_that_knows_the_label_counts_more_by_image_and_of_three_at_most_half():
    losses = np.stack([-log_softmax(zt.numpy(), axis=1)[range(N), Y] for zt in ZT.values()])
    found = torch.stack([*Confidence()(moment()).values()]).numpy()
    np.testing.assert_allclose(found, (1 - softmax(losses, axis=0)) / 2, **CLOSE)
    assert found.max() <= 0.5


@pytest.mark.parametrize("most", [0.5, 0.6, 1.0])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_the_point_of_least_norm_is_the_one_a_general_solver_finds(count, most):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        rows = rng.normal(size=(count, C)) * rng.uniform(0.2, 3, (count, 1)) + 0.7
        for scale in (1.0, 1e-5):  # young or cold gradients are small
            gram = (scale * rows) @ (scale * rows).T
            found = min_norm_weights(torch.from_numpy(gram), most)
            np.testing.assert_allclose(found, least_norm(gram / scale**2, most), atol=2e-5)


@pytest.mark.parametrize("broken", [0.0, math.nan, math.inf])
def test_gradients_that_say_nothing_give_equal_weights(broken):
    assert min_norm_weights(torch.full((3, 3), broken), 0.6).tolist() == [1 / 3] * 3


def test_min_norm_weights_are_of_the_distillation_gradients_at_the_logits():
    rows = kd_gradients(4.0)
    found = torch.stack([*MinNorm()(moment()).values()]).numpy()
    np.testing.assert_allclose(found, least_norm(rows @ rows.T / np.trace(rows @ rows.T), 0.6), atol=2e-5)


@pytest.mark.parametrize("t", [1.0, 5.0])
def test_a_teacher_counts_by_how_far_it_is_followed(t):
    """Mismatch as the derivative through the student's t alone, spread through the teacher's, both by differences."""
    followed = []
    for zt in ZT.values():
        zt, zs, h = zt.numpy(), ZS.numpy(), 1e-5

        def loss(tt: float, ts: float, zt: np.ndarray = zt, zs: np.ndarray = zs) -> float:
            return -(softmax(zt / tt, axis=1) * log_softmax(zs / ts, axis=1)).sum(1).mean()

        mismatch = (loss(t, t + h) - loss(t, t - h)) / (2 * h)
        spread = (loss(t + h, t) - loss(t - h, t)) / (2 * h)
        followed.append(max(spread, 0) / (max(spread, 0) + abs(mismatch)))
    found = [float(weight) for weight in Followed()(moment(t)).values()]
    np.testing.assert_allclose(found, np.array(followed) / sum(followed), rtol=1e-6)
    nobody = Followed()(moment(t, zs=torch.zeros(N, C, dtype=torch.float64)))
    assert list(nobody.values()) == [1 / 3] * 3


def test_random_weights_are_each_batchs_own_and_the_same_again():
    draws = np.array([[float(w) for w in Drawn()(moment(step=step)).values()] for step in range(2000)])
    assert [float(w) for w in Drawn()(moment(step=3)).values()] == draws[3].tolist()
    for teacher in draws.T:  # of a flat Dirichlet each is Beta(1, K − 1)
        assert stats.kstest(teacher, stats.beta(1, 2).cdf).pvalue > 1e-3


# ---- losses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", WEIGHTS, ids=lambda w: w.kind)
def test_the_loss_is_the_weighted_sum_and_the_recorded_pull_its_gradient(weights):
    t, zs = {"a": 2.0, "b": 5.0, "c": 9.0}, ZS.clone().requires_grad_()
    at = moment(t, zs=zs)
    found = Weighted(weights=weights, alpha=0.9)(at)
    given = {name: weight.numpy() for name, weight in weights(at).items()}
    terms = {
        name: given[name] * each**2 * -(softmax(ZT[name].numpy() / each, 1) * log_softmax(ZS.numpy() / each, 1)).sum(1)
        for name, each in t.items()
    }
    wanted = 0.9 * sum(term.mean() for term in terms.values()) - 0.1 * log_softmax(ZS.numpy(), 1)[range(N), Y].mean()
    assert found.item() == pytest.approx(wanted, rel=1e-6)
    for name, each in t.items():
        alone = 0.9 * soft_cross_entropy(ZT[name], zs, each, each**2 * torch.from_numpy(given[name]))
        (gradient,) = torch.autograd.grad(alone, zs)
        assert at.recorded[f"pull_{name}"].item() == pytest.approx(N * gradient.norm(dim=1).mean().item(), rel=1e-6)
        assert at.recorded[f"weight_{name}"].item() == pytest.approx(given[name].mean())


def test_averaged_losses_are_averaged_probabilities_and_not_averaged_logits():
    losses, gradients = [], []
    for objective in (Weighted(), Averaged(of="probabilities"), Averaged(of="logits")):
        zs = ZS.clone().requires_grad_()
        losses.append(objective(moment(4.0, zs=zs)))
        gradients.append(torch.autograd.grad(losses[-1], zs)[0])
    torch.testing.assert_close(losses[0], losses[1], **CLOSE)
    torch.testing.assert_close(gradients[0], gradients[1], **CLOSE)
    p = softmax(np.mean([zt.numpy() for zt in ZT.values()], axis=0) / 4, axis=1)
    assert losses[2].item() == pytest.approx(-16 * (p * log_softmax(ZS.numpy() / 4, axis=1)).sum(1).mean())
    assert (gradients[2] - gradients[0]).norm() > 0.05 * gradients[0].norm()
    with pytest.raises(KitError, match="averaged logits need one t for all teachers; allowed: weighted losses"):
        Averaged()(moment({"a": 2.0, "b": 5.0, "c": 9.0}))


@pytest.mark.parametrize("of", ["logits", "probabilities"])
def test_averages_have_one_temperature_by_image_or_are_refused_by_name(of):
    t = 1.5 + torch.arange(N, dtype=torch.float64)[:, None]  # (N, 1)
    z, zs, by = (np.stack([zt.numpy() for zt in ZT.values()]), ZS.numpy(), t.numpy())
    p = softmax(z.mean(0) / by, axis=1) if of == "logits" else softmax(z / by, axis=2).mean(0)
    wanted = -(by[:, 0] ** 2 * (p * log_softmax(zs / by, axis=1)).sum(1)).mean()
    assert Averaged(of=of)(moment(t)).item() == pytest.approx(wanted)
    for of_each in (dict.fromkeys(NAMES, t) | {"b": t + 1}, ByDeviation().given(2.0, moment())):
        with pytest.raises(KitError, match=f"averaged {of} need one t for all teachers; allowed: weighted losses"):
            Averaged(of=of)(moment(of_each))


@pytest.mark.parametrize("weights", WEIGHTS, ids=lambda w: w.kind)
def test_copies_of_a_teacher_are_one_teacher(weights):
    copies, alone = dict.fromkeys(NAMES, ZT["a"]), {"a": ZT["a"]}
    wanted = Improved(alpha=0.9)(moment(zt=alone))
    torch.testing.assert_close(Weighted(weights=weights, alpha=0.9)(moment(zt=copies)), wanted, rtol=1e-6, atol=0)
    one = Adaptive(rate=30.0, normalised=True).next(9.5, moment(zt=alone))
    assert Together(rate=30.0, normalised=True, weights=weights).next(9.5, moment(zt=copies)) == pytest.approx(one)
    assert Graduation(rate=30.0).next(dict.fromkeys(NAMES, 9.5), moment(zt=copies)) == dict.fromkeys(NAMES, one)


@pytest.mark.parametrize("policy", ["one t", "one each", "by deviation"])
def test_a_teacher_with_larger_logits_has_no_more_influence_once_levelled(policy):
    pair = {"once": ZT["a"], "twice": 2 * ZT["a"]}
    pulls, moved = {}, {}
    for level in (True, False):
        kinds = {
            "one t": Together(rate=50.0, normalised=True, level=level),
            "one each": Graduation(rate=50.0, level=level),
            "by deviation": ByDeviation(),
        }
        thermostat = Thermostat(kinds[policy], [*pair])
        at = moment(zt=pair)
        given = thermostat.given(at)
        Weighted()(at := moment(given, zt=pair))
        thermostat.observe(at, [at])
        pulls[level] = at.recorded["pull_twice"] / at.recorded["pull_once"]
        moved[level] = thermostat.t
    assert pulls[True].item() == pytest.approx(1, rel=1e-6)
    if policy != "by deviation":
        assert pulls[False] > 1.3
    if policy == "one each":
        assert moved[True]["once"] == pytest.approx(moved[True]["twice"], rel=1e-9)


# ---- the temperature -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [False, True])
@pytest.mark.parametrize("weights", WEIGHTS, ids=lambda w: w.kind)
def test_one_t_follows_the_weighted_gradient_by_image_too(weights, level):
    """Against autograd through t of the sum of the losses as they are weighed, at ⌊t⌋; t between whole numbers."""
    t = torch.tensor(5.6, dtype=torch.float64, requires_grad=True)
    deviations = {name: zt.numpy().std(1).mean() if level else 1.0 for name, zt in ZT.items()}
    wider = {name: each / np.mean([*deviations.values()]) for name, each in deviations.items()}
    given = weights(moment({name: Sides(5.0 * each, 5.0) for name, each in wider.items()}))
    loss = sum(soft_cross_entropy(zt / wider[name], ZS, t, given[name].detach()) for name, zt in ZT.items())
    (slope,) = torch.autograd.grad(loss, t)
    at = moment()
    found = Together(rate=2.0, weights=weights, level=level).next(5.6, at)
    assert at.memory["gradient"] == pytest.approx(5.6 * slope.item(), rel=1e-6)
    assert found == pytest.approx(5.6 * math.exp(-2.0 * 5.6 * slope.item()), rel=1e-6)


def test_equal_weights_are_the_adaptive_temperature_of_several_teachers():
    two = {name: ZT[name] for name in "ab"}
    for readings in ({}, {"normalised": True}, {"follows": "kl"}, {"optimiser": "adam"}):
        ours, theirs = Together(rate=20.0, **readings), Adaptive(rate=20.0, **readings)
        assert ours.next(7.3, moment(zt=two)) == theirs.next(7.3, moment(zt=two))


def test_who_is_cold_graduates_and_who_is_left_goes_on():
    policy = Graduation(rate=1.0)
    assert policy.begin(NAMES) == dict.fromkeys(NAMES, 20.0)
    t = {"a": 1.9, "b": 7.5, "c": 2.1}
    assert policy.used(t) == {"b": 7.0, "c": 2.0} and not policy.is_cold(t)
    left = {name: ZT[name] for name in "bc"}
    after = policy.next(t, moment(zt=left))
    assert after["a"] == 1.9 and after["b"] != 7.5
    assert policy.steered(t) == t and policy.model_copy(update={"k": 2.0}).steered(t) == {"a": 1.9, "b": 2.0, "c": 2.0}
    end = dict.fromkeys(NAMES, 1.5)
    assert policy.is_cold(end) and policy.used(end) == dict.fromkeys(NAMES, 1.0)
    assert OneAtATime(rate=1.0).used(t) == {"b": 7.0} and OneAtATime(rate=1.0).used(end) == {"c": 1.0}


# ---- trainings -----------------------------------------------------------------------------------------------------


def known(seed: int, width: int) -> torch.nn.Module:
    """A network that knows the images."""
    return Training(hard(6, lr=0.1), DATA, cnn(seed, width), {}, seed=seed).run().student.eval()


@pytest.fixture(scope="module")
def teachers() -> dict[str, torch.nn.Module]:
    return {"small": known(101, 3), "big": known(102, 4)}


def trained(stages, teachers, epochs: int = 6, **changes) -> Training:
    made = Recipe(stages=stages, epochs=epochs, **{"batch": 8, "pad": 1} | changes)
    return Training(made, DATA, cnn(3), teachers, seed=0)


def one_after_the_other(rate: float, turns=()) -> tuple[Stage, ...]:
    soft = several(("small", "big"), Weighted(), OneAtATime(rate=rate, normalised=False, turns=turns), until=0.8)
    return (soft, Stage(name="hard labels", objective=HardLabels(), until=1))


@pytest.mark.parametrize(("rate", "ended"), [(60.0, "temperature"), (1.0, "budget")])
def test_one_teacher_at_a_time_is_the_papers_sequence_bit_for_bit(rate, ended, teachers, tmp_path):
    paper = Training(three_steps(10, rate, soft_ends=(0.4, 0.8)), DATA, cnn(3), teachers, seed=0).run()
    assert [stage.ended_by for stage in paper.stages[:2]] == [ended] * 2
    ours = trained(one_after_the_other(rate, turns=(0.5,)), teachers, epochs=10)
    for _ in ours:
        if ours.asked == ("big",) and not list(tmp_path.iterdir()):
            Checkpoints(tmp_path, {}).save(ours)
    again = trained(one_after_the_other(rate, turns=(0.5,)), teachers, epochs=10)
    Checkpoints(tmp_path, {}).resume(again)
    assert again.asked == ("big",) == tuple(again.teachers.present)
    again.run()
    for training in (ours, again):
        assert same_weights(training.student, paper.student)
        for column in ("loss", "t_used", "lr", "batch_top1"):
            assert repr([row[column] for row in training.steps()]) == repr([row[column] for row in paper.steps()])
        assert training.spent.teacher_images == paper.spent.teacher_images
    assert history(ours) == history(again)


def test_the_last_of_one_at_a_time_teaches_to_the_end_where_no_stage_comes_after(teachers):
    soft = several(("small", "big"), Weighted(), OneAtATime(rate=60.0, normalised=False, turns=(0.5,)))
    ours = trained((soft,), teachers, epochs=10).run()
    small, big = three_steps(10, 60.0, soft_ends=(0.5, 0.8)).stages[:2]
    paper = trained((small, big.model_copy(update={"until": 1})), teachers, epochs=10).run()
    assert ours.steps()[-1]["t_used"] == 1 and [record.ended_by for record in paper.stages] == ["temperature", "budget"]
    assert same_weights(ours.student, paper.student)


def test_a_graduate_is_not_asked_any_more(teachers):
    stages = (
        several(("small", "big"), Weighted(), Graduation(rate=10.0, normalised=False), until=0.9),
        *one_after_the_other(1.0)[1:],
    )
    training = trained(stages, teachers, epochs=10).run()
    asked = {name: [not math.isnan(row[f"pull_{name}"]) for row in training.steps()] for name in teachers}
    steps = {name: sum(each) for name, each in asked.items()}
    assert 0 < min(steps.values()) < max(steps.values()) < training.total_steps
    assert {name: n * training.batch for name, n in steps.items()} == training.spent.teacher_images
    (first,) = (name for name in steps if steps[name] == min(steps.values()))
    (last,) = set(teachers) - {first}
    rows = training.steps()
    assert rows[steps[first] - 1][f"weight_{last}"] == 0.5 and rows[steps[first]][f"weight_{last}"] == 1
    assert training.stages[0].ended_by == "temperature" and training.stages[0].steps == steps[last]


def test_what_is_recorded_of_a_batch_in_parts_is_a_mean_over_its_images(teachers):
    """Nine images in parts of five and four, or three times three."""
    stage = several(("small", "big"), Weighted(weights=Confidence(), alpha=0.9), Fixed(T=4))
    made, rows = Recipe(stages=(stage,), epochs=2, batch=9, pad=1), []
    for parts in (1, 2, 3):
        training = Training(made, DATA, linear(3), teachers, seed=0)
        training.micro_batches.count = parts
        rows.append(training.run().steps())
    for whole, *others in zip(*rows, strict=True):
        for name in ("loss", "weight_small", "weight_big", "pull_small", "pull_big"):
            assert [other[name] for other in others] == pytest.approx([whole[name]] * 2, rel=1e-4)


@pytest.mark.parametrize("weights", [Confidence(), Followed(), MinNorm()], ids=lambda w: w.kind)
def test_a_teacher_that_knows_nothing_loses_weight(weights, teachers):
    stage = several(("big", "random"), Weighted(weights=weights, alpha=0.9), Fixed(T=4))
    training = trained((stage,), {"big": teachers["big"], "random": linear(5, scale=3)}).run()
    assert np.mean([row["weight_random"] for row in training.steps()[-6:]]) < 0.45


def test_likeness_is_measured_with_each_teacher_and_their_mean(teachers):
    training = trained((several(("small", "big"), Weighted(), Fixed(T=4)),), teachers, epochs=1).run()
    metrics = training.metrics()
    answers = {"student": training.evaluated(DATA.test), **{n: training.evaluated(DATA.test, n) for n in teachers}}
    p = {name: softmax(each.logits.double().numpy(), axis=1) for name, each in answers.items()}
    p[MEAN] = (p["small"] + p["big"]) / 2
    assert metrics["agreements"].keys() == {"small", "big", MEAN}
    for name, found in metrics["agreements"].items():
        assert found["kl"] == pytest.approx(rel_entr(p[name], p["student"]).sum(1).mean(), rel=1e-4)
        assert found["top1"] == pytest.approx((p[name].argmax(1) == p["student"].argmax(1)).mean())
    assert metrics["agreement"] == metrics["agreements"]["big"]


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("teachers", [(), ("big",), ("big", "big"), ("small", "big", "small")])
def test_a_stage_of_several_has_two_or_more_each_once(teachers):
    with pytest.raises(KitError, match=f"teachers {', '.join(teachers) or 'none'} are not allowed; allowed: two or"):
        several(teachers, Weighted(), Fixed(T=4))


def test_one_teachers_name_is_no_list_of_letters():
    with pytest.raises(KitError, match="teachers big are not allowed; allowed: two or more, each once"):
        several("big", Weighted(), Fixed(T=4))


def test_weights_by_labels_need_a_loss_with_labels():
    with pytest.raises(ValidationError, match="weights 'confidence' need labels, which a loss of alpha 1 does"):
        Weighted(weights=Confidence())


@pytest.mark.parametrize(
    ("objective", "followed"),
    [(Weighted(weights=MinNorm()), Equal()), (Weighted(), Confidence()), (Averaged(), Entropy()),
     (Weighted(weights=Drawn(seed=1)), Drawn(seed=2))],
)  # fmt: skip
def test_a_temperature_of_other_weights_than_the_loss_has_is_refused(objective, followed):
    has = getattr(objective, "weights", Equal())
    with pytest.raises(KitError) as raised:
        several(("small", "big"), objective, Together(rate=1.0, weights=followed))
    said = f"temperature 'together' of {followed!r} is not allowed; allowed: {has!r}, the loss's"
    assert str(raised.value) == said
    several(("small", "big"), objective, Together(rate=1.0, weights=has))


@pytest.mark.parametrize(
    "temperature", [Graduation(rate=1.0), OneAtATime(rate=1.0), Together(rate=1.0, level=True)], ids=lambda t: t.kind
)
def test_averages_with_one_temperature_a_teacher_are_refused_before_they_begin_to_differ(temperature):
    with pytest.raises(KitError, match=f"^temperature '{temperature.kind}' is not allowed with loss 'averaged'; "):
        several(("small", "big"), Averaged(), temperature)


def test_a_teacher_named_twice_and_one_of_other_classes_are_refused(teachers):
    twice = Stage(name="soft", teacher=("big", "big"), objective=Weighted(), temperature=Fixed(T=4), until=1)
    with pytest.raises(KitError, match="stage 'soft' has teacher 'big' twice; allowed: each once"):
        trained((twice,), teachers)
    other = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 5))
    stage = several(("small", "big"), Weighted(), Fixed(T=4))
    with pytest.raises(KitError, match=r"teacher 'big' gives logits of shape \(8, 5\); allowed: the student's, \(8, 6"):
        trained((stage,), {"small": teachers["small"], "big": other}).run()


def test_a_teacher_is_called_by_its_name_where_its_likeness_cannot_be_measured(teachers):
    class Silent(torch.nn.Flatten):  # on the test images alone
        def forward(self, x):
            return super().forward(x)[:, :6] * (math.nan if len(x) == len(DATA.test) else 1)

    stage = several(("big", "aunt"), Weighted(), Fixed(T=4))
    training = trained((stage,), {"big": teachers["big"], "aunt": Silent()}, epochs=1).run()
    with pytest.raises(Diverged, match="teacher aunt's logits are not finite numbers after step"):
        training.metrics()


def test_a_temperature_a_side_is_no_weight():
    at = moment(dict.fromkeys(NAMES, Sides(8.0, 4.0)))
    wanted = np.mean([16 * soft_cross_entropy(zt, ZS, Sides(8.0, 4.0)).item() for zt in ZT.values()])
    assert Weighted()(at).item() == pytest.approx(wanted)
