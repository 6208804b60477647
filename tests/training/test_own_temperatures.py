"""A temperature of one's own, in a file of its own: by image, by side, one a teacher, learned. It trains, resumes, is
steered, described, replayed by worker processes and drawn, and the losses it gives are those written out here."""

from __future__ import annotations

import copy
import json
import math
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from own_temperatures import ByImage, BySide, Graduating, Learned
from pydantic import ValidationError
from safetensors.torch import load_file
from scipy.special import log_softmax, softmax
from small_runs import hard, taught
from small_trainings import DATA, cnn, teachers

from kit import recipe
from kit.errors import KitError
from kit.grid import train_all
from kit.recipe import Improved, Recipe, Stage
from kit.runs.checkpoint import Checkpoints
from kit.runs.spec import Run, replayed
from kit.runs.store import Failure, lookup
from kit.runs.training import start, train
from kit.show.plots import temperature_trace
from kit.temperature import Adaptive, Policy
from kit.trainer import Training
from kit.training.history import Diverged
from kit.training.steering import Event


def stages(temperature, teacher="big") -> tuple[Stage, ...]:
    soft = Stage(name="soft", objective=Improved(), teacher=teacher, temperature=temperature, until=0.75)
    return (soft, Stage(name="hard labels", objective=recipe.HardLabels(), until=1))


def made(temperature, teacher="big", epochs=2) -> Recipe:
    return Recipe(stages=stages(temperature, teacher), epochs=epochs, batch=8, pad=1, lr=0.05)


def training(temperature, teacher="big", epochs=2, events=()) -> Training:
    return Training(made(temperature, teacher, epochs), DATA, cnn(5), teachers(), seed=3, events=events)


def first_batch(trained: Training) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
    """What student and teachers answer to the first batch, and its labels, asked for outside the loop."""
    from kit.data.augment import EpochPlan

    plan = EpochPlan(len(DATA.train), 3, 0, 1, DATA.flip)
    indices = next(iter(plan.batches(8)))
    x = trained.augmented(DATA.train.images.take(indices), *plan.changes(indices, trained.device))
    student = copy.deepcopy(cnn(5)).train()
    with torch.no_grad():
        zt = {name: net.eval()(x).double().numpy() for name, net in teachers().items()}
        return student(x).double().numpy(), zt, DATA.train.labels[indices].numpy()


def cross_entropy(zt: np.ndarray, zs: np.ndarray, tt, ts) -> np.ndarray:
    return -(softmax(zt / tt, axis=1) * log_softmax(zs / ts, axis=1)).sum(1)  # (N,)


# ---- the losses ------------------------------------------------------------------------------------------------------


def test_a_temperature_by_image_weighs_each_image_by_its_own_square():
    trained = training(ByImage(pull=3))
    next(iter(trained))
    zs, zt, _ = first_batch(trained)
    t = 3 * zt["big"].std(1, ddof=1, keepdims=True)
    wanted = (t[:, 0] ** 2 * cross_entropy(zt["big"], zs, t, t)).mean()
    assert float(trained.history.loss[0]) == pytest.approx(wanted, rel=1e-4)
    row = trained.steps()[0]
    assert (row["t_used"], row["t_least"], row["t_most"]) == pytest.approx((t.mean(), t.min(), t.max()), rel=1e-5)


def test_of_a_batch_in_parts_what_was_used_is_the_mean_over_its_images():
    whole, parted = training(ByImage(pull=3)), training(ByImage(pull=3))
    parted.micro_batches.count = 3  # of 8 images: 3, 3 and 2
    for each in (whole, parted):
        next(iter(each))
    ours, theirs = ([each.steps()[0][name] for name in ("t_used", "t_least", "t_most")] for each in (parted, whole))
    assert ours == pytest.approx(theirs, rel=1e-6)  # they are the teacher's alone, who has no statistics to move


def test_what_is_given_for_a_teacher_that_does_not_teach_is_not_recorded():
    trained = training(Shaped(gives={"big": 4.0, "small": 9.0}))
    next(iter(trained))
    assert trained.steps()[0]["t_used"] == 4


def test_a_temperature_a_side_weighs_by_their_product():
    trained = training(BySide(of_teacher=4, of_student=2))
    next(iter(trained))
    zs, zt, _ = first_batch(trained)
    assert float(trained.history.loss[0]) == pytest.approx(8 * cross_entropy(zt["big"], zs, 4, 2).mean(), rel=1e-4)


def test_several_teachers_count_alike_each_at_its_own_temperature():
    trained = training(Graduating(k=6, rate=3), teacher=("small", "big"))
    steps = iter(trained)
    next(steps)
    zs, zt, _ = first_batch(trained)
    losses = [36 * cross_entropy(zt[name], zs, 6, 6).mean() for name in ("small", "big")]
    assert float(trained.history.loss[0]) == pytest.approx(np.mean(losses), rel=1e-4)
    agreed = {name: (zt[name].argmax(1) == zs.argmax(1)).mean() for name in ("small", "big")}
    wanted = {name: 6 - 3 * (0.1 + share) / trained.steps_per_epoch for name, share in agreed.items()}
    assert trained.thermostat.t == pytest.approx(wanted)
    next(steps)
    row = trained.steps()[1]
    assert (row["t_small"], row["t_big"]) == pytest.approx((wanted["small"], wanted["big"]))
    assert trained.spent.teacher_images == {"small": 16, "big": 16}


def test_a_learned_temperature_gets_the_gradient_of_the_loss():
    trained = training(Learned(lr=0.5))
    next(iter(trained))
    zs, zt, _ = first_batch(trained)

    def loss(t: float) -> float:
        return t**2 * cross_entropy(zt["big"], zs, t, t).mean()

    slope = (loss(4 + 1e-5) - loss(4 - 1e-5)) / 2e-5
    assert trained.thermostat.t == pytest.approx(4 + 0.5 * slope, rel=1e-4)


# ---- a run of it -----------------------------------------------------------------------------------------------------


class InTensors(Policy):
    """Goes on with what it computes, without a thought to plain numbers: a tensor, in its memory one of numpy's."""

    kind: Literal["in tensors"] = "in tensors"
    start: ClassVar[float] = 4.0

    def next(self, t: float, at):
        at.memory["seen"] = np.float32(at.memory.get("seen", 0) + 0.1)
        return 0.9 * t + at.zs.std() * at.memory["seen"]


OWN = {"by image": (ByImage(), "big"), "one a teacher": (Graduating(k=3, rate=6), ("small", "big")),
       "learned": (Learned(), "big"), "by side": (BySide(), "big"), "in tensors": (InTensors(), "big")}  # fmt: skip


@pytest.mark.parametrize("name", OWN)
def test_it_goes_on_elsewhere_as_if_never_stopped(name, tmp_path):
    whole = training(*OWN[name]).run()
    stopped = training(*OWN[name])
    for step in stopped:
        if step == 4:
            Checkpoints(tmp_path, {}).save(stopped)
            break
    again = training(*OWN[name])
    Checkpoints(tmp_path, {}).resume(again)
    assert again.step == 4
    again.run()
    assert json.dumps(again.steps()) == json.dumps(whole.steps())
    for ours, theirs in zip(again.student.state_dict().values(), whole.student.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


def run_of(temperature, teacher) -> Run:
    small = hard(seed=2) if "small" in teacher else None
    return taught(hard(seed=1), small, stages=stages(temperature, teacher), epochs=4)


@pytest.mark.parametrize("name", ["by image", "one a teacher"])
def test_a_steered_training_is_described_replayed_by_a_worker_and_drawn(name):
    run = run_of(*OWN[name])
    field, value = ("pull", 5.0) if name == "by image" else ("k", 2.0)
    for teacher in run.teachers.values():
        train(teacher)
    live = start(run)
    for step in live:
        if step == 2:
            live.steer(field, value)
    steered = replayed(run, live.events)
    assert steered.hash != run.hash and steered.recipe.stages[0].temperature == OWN[name][0]
    result = train_all([steered], jobs=1, show_progress=False)[steered]  # in a process of its own
    ours, theirs = live.student.state_dict(), load_file(result.folder / "student.safetensors")
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[weight], theirs[weight]) for weight in ours)
    traces = {"by image": ["t_least", "t_most"], "one a teacher": ["t_small", "t_big"]}[name]
    assert set(traces) <= set(result.steps.columns)
    if name == "one a teacher":
        assert (result.steps["t_big"].dropna()[2:] <= 2).all()
    axes = temperature_trace(result).axes[0]
    said = {text.get_text() for text in axes.get_legend().get_texts()}
    assert said >= {"t_least": {"t of the coldest image", "t of the hottest image"},
                    "t_small": {"t of teacher 'small'", "t of teacher 'big'"}}[traces[0]]  # fmt: skip
    drawn = [np.asarray(line.get_ydata()) for line in axes.get_lines()]
    for trace in traces:
        values = result.steps[trace].dropna().to_numpy()
        assert any(len(line) >= len(values) and np.array_equal(line[: len(values)], values) for line in drawn), trace


def test_what_it_may_not_be_steered_to_is_refused():
    trained = training(ByImage())
    with pytest.raises(KitError, match="pull 0 is not allowed .Input should be greater than 0"):
        trained.steer("pull", 0)
    with pytest.raises(KitError, match="control 'push' is not known; allowed: k, rate, alpha, pull"):
        trained.steer("push", 1)
    with pytest.raises(ValidationError, match="push"):
        replayed(run_of(*OWN["by image"]), [Event(step=1, name="push", value=2)])


class Spoilt(Policy):
    """A temperature that is none from the stage's third batch on; `by image`, of one image alone."""

    kind: Literal["spoilt"] = "spoilt"
    to: Any = math.nan
    by_image: bool = False

    @property
    def start(self) -> float:
        return 4.0

    def given(self, t: float, at):
        return torch.full((len(at.y), 1), 4.0).index_fill(0, torch.tensor(0), t) if self.by_image else t

    def next(self, t: float, at) -> float:
        return self.to if at.step == 1 else t


@pytest.mark.parametrize("to", [0.0, -3.0, math.nan])
@pytest.mark.parametrize("by_image", [False, True])
def test_a_temperature_that_is_none_above_0_is_recorded_as_diverged_with_its_step(to, by_image):
    with pytest.raises(Diverged, match="the loss is not a finite number at step 3$") as raised:
        training(Spoilt(to=to, by_image=by_image)).run()
    assert raised.value.step == 3


class Shaped(Policy):
    """Gives and goes on with what a test asks for."""

    kind: Literal["shaped"] = "shaped"
    gives: Any = 4.0
    then: Any = 4.0
    start: ClassVar[float] = 4.0

    def given(self, t: float, at):
        return torch.full((len(at.y), *self.gives), 4.0) if isinstance(self.gives, tuple) else self.gives

    def next(self, t: float, at):
        return self.then


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (Shaped(gives=()), r"'shaped' gives a tensor \((\d+),\); allowed: a number, or a tensor \(\1, 1\) by image"),
        (Shaped(gives=(10,)), r"'shaped' gives a tensor \((\d+), 10\); allowed: a number, or a tensor \(\1, 1\) by"),
        (Shaped(gives="4"), "'shaped' gives '4'; allowed: a number, or a tensor"),
        (Shaped(gives={"small": 4.0}), "'shaped' gives none for teacher 'big'; allowed: one for each, or one for all"),
        (Shaped(then="4"), "'shaped' goes on with '4'; allowed: one number, or one a teacher"),
        (Shaped(then=None), "'shaped' goes on with None; allowed: one number"),
        (Shaped(then=torch.ones(2)), r"'shaped' goes on with tensor\(\[1., 1.\]\); allowed: one number"),
    ],
)
def test_what_is_no_temperature_is_said(policy, said):
    with pytest.raises(KitError, match=f"^temperature {said}"):
        training(policy).run()


def test_a_failure_that_is_asked_for_metrics_says_what_it_is():
    run = run_of(Spoilt(to=-3.0), "big")
    with pytest.raises(KitError, match=r"has no metrics, it diverged: the loss is not a finite number at step 3$"):
        _ = Failure(run, "the loss is not a finite number at step 3", 3).metrics


def test_so_it_is_in_the_cache():
    run = run_of(Spoilt(to=-3.0), "big")
    train(run.teachers["big"])
    with pytest.raises(Diverged):
        train(run)
    assert lookup(run).step == 3
    assert not Adaptive(rate=1).is_cold(math.nan)  # ⌊t⌋ of what is no number
