"""The training loop against steps written out in plain PyTorch, scikit-learn, scipy and numpy."""

from __future__ import annotations

import copy
import math
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from sklearn.metrics import top_k_accuracy_score
from small_trainings import DATA, PX, cnn, dataset, hard, history, linear, same_weights, teachers, three_steps
from torch import Tensor, nn

from kit import recipe
from kit.data.augment import EpochPlan
from kit.data.base import Split
from kit.errors import KitError
from kit.losses import cross_entropies
from kit.models import build
from kit.recipe import HardLabels, Improved, Moment, Objective, Recipe, Stage
from kit.siblings.rising import Rising
from kit.temperature import Adaptive, Fixed, Scheduled
from kit.trainer import Training
from kit.training.evaluation import agreement, evaluate, topk_correct
from kit.training.forward import frozen, teach
from kit.training.history import Diverged
from kit.training.optimiser import learning_rate, sgd

pytestmark = pytest.mark.numerics


class Copy(nn.Module):
    """A teacher that says what another network says at that moment."""

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        self.original = [original]  # in a list, so that it is no part of this module

    def forward(self, x):
        return self.original[0](x)


# ---- one step is what it should be -----------------------------------------------------------------------------------


def augmented(plan: EpochPlan, i: int) -> np.ndarray:
    """Image i of the training split: padded by reflection, cropped, mirrored; (H, W, 3) in 0 … 255."""
    pad, (top, left) = plan.pad, plan.offsets[i].tolist()
    image = np.pad(DATA.train.images.pixels[i].numpy(), ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
    image = image[top : top + PX, left : left + PX]
    return image[:, ::-1] if plan.flips[i] else image


@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_steps_are_those_of_plain_pytorch(momentum):
    made = Recipe(stages=recipe.eq1(4, "hinton", 0.3), epochs=1, batch=8, lr=0.05, warmup=0.5, pad=1, momentum=momentum)
    student, teacher = cnn(1), cnn(2, 4)
    ours = copy.deepcopy(student)
    by_hand = copy.deepcopy(student).train()
    training = Training(made, DATA, ours, {"big": copy.deepcopy(teacher)}, seed=7)
    losses = []

    weights = [p for name, p in by_hand.named_parameters() if p.ndim > 1]
    rest = [p for name, p in by_hand.named_parameters() if p.ndim <= 1]
    groups = [{"params": weights, "weight_decay": 5e-4}, {"params": rest, "weight_decay": 0.0}]
    optimiser = torch.optim.SGD(groups, lr=1.0, momentum=momentum, nesterov=momentum > 0, fused=False, foreach=False)
    plan = EpochPlan(len(DATA.train), 7, 0, 1, True)
    assert plan.flips.any()
    pixels = DATA.train.images.pixels.numpy().astype(np.float64)
    mean, std = pixels.mean((0, 1, 2)), pixels.std((0, 1, 2), ddof=1)
    teacher.eval()
    for step, indices in enumerate(list(plan.batches(8))[:4]):
        next(iter(training))
        x = np.stack([(augmented(plan, i) - mean) / std for i in indices.tolist()])
        x, y = torch.from_numpy(x).permute(0, 3, 1, 2).float(), DATA.train.labels[indices]
        zs = by_hand(x)
        with torch.no_grad():
            zt = teacher(x)
        soft = -(torch.exp(zt / 4) / torch.exp(zt / 4).sum(1, keepdim=True) * torch.log_softmax(zs / 4, 1)).sum(1)
        loss = 0.3 * 16 * soft.mean() + 0.7 * -torch.log_softmax(zs, 1)[torch.arange(8), y].mean()
        for group in optimiser.param_groups:  # 6 steps, 3 of them rising: 1/4, 2/4, 3/4, then the peak
            group["lr"] = 0.05 * (step + 1) / 4
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert training.step == 4
    for name, tensor in by_hand.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], tensor, rtol=1e-5, atol=1e-6, msg=name)
    assert [row["loss"] for row in training.steps()] == pytest.approx(losses, rel=1e-5)
    assert not same_weights(ours, student)


def test_weight_decay_is_for_weights_alone():
    network = cnn(0)
    decayed, free = sgd(network, hard(1, weight_decay=0.01), lr=0.1).param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.01, 0.0)
    of_weights = [m.weight for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert {id(p) for p in decayed["params"]} == {id(p) for p in of_weights}
    assert len(decayed["params"]) + len(free["params"]) == len(list(network.parameters()))


def test_learning_rate_schedule():
    training = Training(hard(4, batch=12, lr=0.4, warmup=0.25), DATA, cnn(0), {}, seed=0)  # 16 steps, 4 rising
    assert training.total_steps == 16
    rising = [learning_rate(training.recipe, step, training.total_steps) for step in range(4)]
    assert rising == pytest.approx([0.08, 0.16, 0.24, 0.32])
    assert learning_rate(training.recipe, 4, training.total_steps) == pytest.approx(0.4)
    # a third of the way: cos 60° = 1/2
    assert learning_rate(training.recipe, 8, training.total_steps) == pytest.approx(0.4 * (2 + 1) / 4)
    assert learning_rate(training.recipe, 10, training.total_steps) == pytest.approx(0.2)
    assert learning_rate(training.recipe, 16, training.total_steps) == pytest.approx(0.0)
    flat = Training(hard(1, warmup=0.0), DATA, cnn(0), {}, seed=0)
    assert learning_rate(flat.recipe, 0, flat.total_steps) == 0.1
    training.run()
    assert [row["lr"] for row in training.steps()][:5] == pytest.approx([0.08, 0.16, 0.24, 0.32, 0.4])


def test_hard_labels_learn_what_is_separable():
    training = Training(hard(25, lr=0.05), DATA, cnn(3, 4), {}, seed=0).run()
    metrics = training.metrics()
    assert metrics["train_top1"] > 0.95
    assert metrics["test_top1"] > 0.9
    assert training.epochs[0]["test_top1"] < 0.6
    assert [e["epoch"] for e in training.epochs] == list(range(1, 26))
    assert training.steps()[-1]["loss"] < 0.3 * training.steps()[0]["loss"]


def test_a_student_learns_from_soft_labels_alone():
    big = Training(hard(20, lr=0.05), DATA, cnn(3, 6), {}, seed=0).run().student
    stages = (Stage(name="s", objective=Improved(), teacher="big", temperature=Fixed(T=4), until=1),)
    made = Recipe(stages=stages, epochs=25, batch=8, lr=0.02, pad=1)
    relabelled = copy.copy(DATA)
    object.__setattr__(relabelled, "train", Split(DATA.train.images, torch.zeros_like(DATA.train.labels)))
    student = Training(made, relabelled, cnn(4, 4), {"big": big}, seed=1).run().student
    assert evaluate(student, DATA.test, *DATA.mean_std).top1 > 0.8  # though every label it could see was 0


# ---- determinism and stepping ----------------------------------------------------------------------------------------


def test_a_seed_decides_everything():
    def trained(seed: int, start: int = 5) -> Training:
        return Training(three_steps(3, 20), DATA, cnn(start), teachers(), seed).run()

    first, second = trained(0), trained(0)
    assert same_weights(first.student, second.student)
    assert history(first) == history(second)
    assert not same_weights(first.student, trained(1).student)
    assert not same_weights(first.student, trained(0, start=6).student)


def test_it_does_not_hang_on_torchs_own_stream():
    results = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        results.append(Training(hard(2), DATA, cnn(5), {}, seed=0).run().student)
    assert same_weights(*results)


def test_stepping_is_running():
    whole = Training(three_steps(3, 20), DATA, cnn(5), teachers(), seed=3).run()
    stepped = Training(three_steps(3, 20), DATA, cnn(5), teachers(), seed=3)
    seen = []
    for step in stepped:
        seen.append(step)
        stepped.metrics()  # looking does no harm
    assert seen == list(range(1, 19))
    assert same_weights(whole.student, stepped.student)
    assert history(whole) == history(stepped)


def test_stopping_anywhere_and_going_on_is_running():
    whole = Training(three_steps(3, 20), DATA, cnn(5), teachers(), seed=3).run()
    restarted = Training(three_steps(3, 20), DATA, cnn(5), teachers(), seed=3)
    while restarted.step < restarted.total_steps:  # a new loop for every step, the last of an epoch among them
        next(iter(restarted))
    assert same_weights(whole.student, restarted.student)
    assert history(whole) == history(restarted)
    assert len(restarted.epochs) == 3
    assert list(restarted) == []


def test_a_batch_larger_than_the_data_is_the_data():
    training = Training(hard(2, batch=500), DATA, cnn(0), {}, seed=0).run()
    assert (training.batch, training.steps_per_epoch, training.total_steps) == (48, 1, 2)
    assert training.spent.student_images == 96


# ---- stages ----------------------------------------------------------------------------------------------------------


def test_stages_end_by_temperature_and_t_is_reset():
    student = linear(0, scale=10)
    mirror = {"small": Copy(student), "big": Copy(student)}
    training = Training(three_steps(10, rate=60, lr=1e-6), DATA, student, mirror, seed=0).run()
    first, second, last = training.stages
    assert [s.name for s in training.stages] == ["small teacher", "big teacher", "hard labels"]
    assert [s.ended_by for s in training.stages] == ["temperature", "temperature", "budget"]
    assert [s.t_start for s in training.stages] == [20.0, 20.0, None]
    assert 1 <= first.t_end < 2
    assert 1 <= second.t_end < 2
    assert last.t_end is None
    assert first.steps < 0.45 * 60
    assert first.steps + second.steps + last.steps == training.total_steps == 60
    assert [s.first_step for s in training.stages] == [0, first.steps, first.steps + second.steps]

    rows = training.steps()
    for stage in (first, second):
        mine = rows[stage.first_step : stage.first_step + stage.steps]
        assert {row["stage"] for row in mine} == {stage.name}
        assert (mine[0]["t"], mine[0]["t_used"]) == (20.0, 20.0)
        assert [row["t_used"] for row in mine] == [math.floor(row["t"]) for row in mine]
        assert all(row["t_used"] > 1 for row in mine)  # it ends at the first batch after which ⌊t⌋ is 1
        assert all(b["t"] < a["t"] for a, b in pairwise(mine))
    assert all(math.isnan(row["t"]) for row in rows[last.first_step :])


def test_stages_end_by_budget_under_a_teacher_that_nobody_can_follow():
    student = linear(0, scale=10)
    unlike = {"small": linear(1, scale=10), "big": linear(2, scale=10)}
    training = Training(three_steps(10, rate=60, lr=1e-6), DATA, student, unlike, seed=0).run()
    assert [s.ended_by for s in training.stages] == ["budget", "budget", "budget"]
    assert [s.steps for s in training.stages] == [27, 21, 12]  # 45 %, 80 % and all of 60 steps
    assert [s.t_end for s in training.stages[:2]] == [20.0, 20.0]


@pytest.fixture(scope="module")
def mixed() -> Training:
    """Under a small teacher that the student copies, and a big one that it cannot follow."""
    student = linear(0, scale=10)
    given = {"small": Copy(student), "big": linear(2, scale=10)}
    return Training(three_steps(10, rate=60, lr=1e-6), DATA, student, given, seed=0).run()


def test_one_stage_may_end_by_temperature_and_the_next_by_budget(mixed):
    first, second, _ = mixed.stages
    assert (first.ended_by, second.ended_by) == ("temperature", "budget")
    assert first.steps + second.steps == 48  # the second stage gets what the first left, up to 80 %


def test_a_fixed_temperature_runs_by_the_clock():
    stages = recipe.small_teacher(Fixed(T=1))
    training = Training(Recipe(stages=stages, epochs=2, batch=8, pad=1), DATA, cnn(0), teachers(), seed=0).run()
    assert [s.ended_by for s in training.stages] == ["budget"] * 3
    assert [s.t_end for s in training.stages] == [1.0, 1.0, None]


@pytest.mark.parametrize("policy", [Adaptive(rate=20), Scheduled(), Rising(), Fixed(T=4)])
def test_stages_without_a_step_left_are_passed_over_and_recorded_as_such(policy):
    made = Recipe(stages=recipe.small_teacher(policy), epochs=1, batch=48, pad=1)  # one step: shares 0.45, 0.35, 0.2
    training = Training(made, DATA, cnn(5), teachers(), seed=3).run()
    assert [stage.steps for stage in training.stages] == [0, 1, 0]
    assert [(stage.ended_by, stage.t_end is None) for stage in training.stages[::2]] == [
        ("budget", False),
        ("budget", True),
    ]
    assert training.spent.teacher_images == {"big": 48}
    without = Recipe(stages=recipe.big_teacher_only(policy), epochs=1, batch=48, pad=1)
    assert same_weights(training.student, Training(without, DATA, cnn(5), teachers(), seed=3).run().student)


def test_a_cold_last_stage_goes_on_to_its_budget():
    student = linear(0, scale=10)
    stages = (Stage(name="only", objective=Improved(), teacher="big", temperature=Adaptive(rate=500), until=1),)
    made = Recipe(stages=stages, epochs=2, batch=8, pad=1, lr=1e-6)
    training = Training(made, DATA, student, {"big": Copy(student)}, seed=0).run()
    (only,) = training.stages
    assert (only.ended_by, only.steps) == ("budget", 12)
    assert only.t_end == 1.0


def test_objectives_see_the_moment():
    seen = []

    class Watching(Objective):
        kind: str = "watching"
        needs_input_gradient = True

        def __call__(self, at: Moment):
            ours, theirs = (torch.autograd.grad(z.sum(), at.x, create_graph=True)[0] for z in (at.zs, at.zt))
            seen.append((at.t, round(at.progress, 6), tuple(theirs.shape), at.student.training, at.teacher.training))
            return (ours - theirs).square().mean()

    stage = Stage(name="w", objective=Watching(), teacher="big", temperature=Fixed(T=3), until=1)
    made = Recipe(stages=(stage,), epochs=1, batch=12, pad=1)
    Training(made, DATA, cnn(0), {"big": cnn(1)}, seed=0).run()
    assert seen == [(3.0, p, (12, 3, PX, PX), True, False) for p in (0.0, 0.25, 0.5, 0.75)]


# ---- cost ------------------------------------------------------------------------------------------------------------


def test_teachers_count_only_in_their_stages(mixed):
    first, second, _ = mixed.stages
    assert mixed.spent.student_images == 60 * 8
    assert mixed.spent.teacher_images == {"small": first.steps * 8, "big": second.steps * 8}
    assert mixed.epochs[-1]["teacher_images"] == mixed.spent.teacher_images
    assert mixed.epochs[0]["student_images"] == 48
    assert 0 < mixed.spent.cpu_s
    assert 0 < mixed.epochs[0]["wall_s"] < mixed.epochs[-1]["wall_s"] == mixed.spent.wall_s


def test_hard_labels_have_no_teacher_images():
    alone, measured = (Training(hard(1), DATA, cnn(0), given, seed=0).run() for given in ({}, {"big": cnn(1)}))
    assert alone.spent.teacher_images == measured.spent.teacher_images == {}
    assert same_weights(alone.student, measured.student)
    assert "agreement" not in alone.metrics()
    assert set(measured.metrics()["agreement"]) == {"kl", "top1", "top5"}  # a big teacher not learnt from is compared


def test_looking_costs_nothing():
    training = Training(hard(1), DATA, cnn(0), {}, seed=0).run()
    before = (training.spent.wall_s, training.spent.cpu_s, training.spent.student_images)
    training.metrics()
    assert (training.spent.wall_s, training.spent.cpu_s, training.spent.student_images) == before


def test_a_teacher_is_not_changed():
    given = teachers()
    before = {name: copy.deepcopy(network.state_dict()) for name, network in given.items()}
    training = Training(three_steps(2, 20), DATA, cnn(0), given, seed=0).run()
    training.metrics()
    for name, network in given.items():
        assert all(torch.equal(tensor, before[name][key]) for key, tensor in network.state_dict().items())
        assert not network.training
        assert all(p.grad is None for p in network.parameters())


@pytest.mark.parametrize("classes", [1, 5, 7])
def test_a_teacher_of_other_classes_is_refused_and_nothing_is_broadcast(classes):
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(3 * PX * PX, classes))
    learning = Training(Recipe(stages=recipe.eq1(5), epochs=1, batch=8), DATA, linear(0), {"big": teacher}, seed=0)
    with pytest.raises(KitError, match=rf"teacher 'big' gives logits of shape \(8, {classes}\); allowed: .*\(8, 6\)"):
        learning.run()
    compared = Training(hard(1), DATA, linear(0), {"big": teacher}, seed=0).run()
    with pytest.raises(KitError, match=rf"teacher 'big' gives logits of shape \(\d+, {classes}\)"):
        compared.metrics()


@pytest.mark.parametrize(
    ("head", "gives"),
    [
        (nn.Flatten(), r"logits of shape \(8, 4\)"),
        (nn.Unflatten(1, (4, 1)), r"logits of shape \(8, 4, 1\)"),
        (nn.LSTM(4, 4), "a tuple"),
    ],
)
def test_a_student_without_a_logit_for_each_class_is_refused(head, gives):
    student = nn.Sequential(nn.Flatten(), nn.Linear(3 * PX * PX, 4), head)
    with pytest.raises(KitError, match=rf"^student Sequential gives {gives}; allowed: logits \(N, 6\), .*classes$"):
        Training(hard(1), DATA, student, {}, seed=0).run()


def test_a_teacher_that_answers_a_tuple_is_refused():
    teacher = nn.Sequential(nn.Flatten(), nn.LSTM(3 * PX * PX, 6))
    made = Recipe(stages=recipe.eq1(5), epochs=1, batch=8)
    with pytest.raises(KitError, match=r"^a teacher gives a tuple; allowed: logits \(N, C\)$"):
        Training(made, DATA, linear(0), {"big": teacher}, seed=0).run()


class Shifting(nn.Module):
    """A network that works on its images in place."""

    def __init__(self) -> None:
        super().__init__()
        self.network = linear(0)

    def forward(self, x):
        x -= 1
        return self.network(x)


@pytest.mark.parametrize(
    ("faulty", "said"),
    [(lambda: linear(0).double(), r"has weights of torch.float64; allowed: torch.float32, which images are [^\n]+"),
     (lambda: cnn(0).half(), r"has weights of torch.float16; allowed: torch.float32, which images are [^\n]+"),
     (Shifting, "changes its images, which others see; allowed: x = x - 1, not x -= 1")],
)  # fmt: skip
def test_a_network_that_does_not_take_images_as_they_are_is_refused_in_one_line(faulty, said):
    made = Recipe(stages=recipe.eq1(5), epochs=1, batch=8)
    for student, teacher, whose in [(faulty(), linear(1), r"student \w+"), (linear(1), faulty(), "teacher 'big'")]:
        with pytest.raises(KitError, match=f"^{whose} {said}$"):
            Training(made, DATA, student, {"big": teacher}, seed=0).run()


def test_a_missing_teacher_and_a_student_that_cannot_learn_are_refused_in_one_line():
    made, student = Recipe(stages=recipe.eq1(5), epochs=1, batch=8), linear(0)
    for given, named in [({}, "none"), ({"small": linear(1)}, "small")]:
        with pytest.raises(KitError, match=rf"^the recipe needs teachers \['big'\]; given: {named}$"):
            Training(made, DATA, student, given, seed=0)
    for teaching, learning in [({"big": student}, student), ({"big": linear(1)}, nn.Flatten())]:
        with pytest.raises(KitError, match=rf"^network {type(learning).__name__} has no parameter that can be"):
            Training(made, DATA, learning, teaching, seed=0)


class Mine(Objective):
    """A loss that somebody brings: what a test makes of Eq. (1)'s soft losses, and what it records."""

    kind: Literal["mine"] = "mine"
    gives: Any
    records: Any = None

    def __call__(self, at: Moment):
        losses = cross_entropies(at.zt, at.zs, at.t)  # (N,)
        if self.records is not None:
            at.recorded.update(self.records(losses))
        return self.gives(losses)


def under(objective: Objective, parts: int = 1) -> Training:
    stage = Stage(name="mine", objective=objective, teacher="big", temperature=Fixed(T=4), until=1)
    training = Training(Recipe(stages=(stage,), epochs=1, batch=8, pad=1), DATA, linear(0), {"big": linear(1)}, seed=0)
    training.micro_batches.count = parts
    return training.run()


@pytest.mark.parametrize(
    ("gives", "said"),
    [
        (lambda losses: losses, r"a tensor \(8,\), requires_grad=True"),
        (lambda losses: losses.mean().detach(), r"a tensor \(\), requires_grad=False"),
        (lambda losses: losses.mean().item(), "a float"),
        (lambda losses: None, "a NoneType"),
    ],
)
def test_a_loss_that_is_not_one_number_with_a_gradient_is_refused(gives, said):
    with pytest.raises(KitError, match=rf"^objective 'mine' gives {said}; allowed: a tensor \(\), computed"):
        under(Mine(gives=gives))


@pytest.mark.parametrize("records", [lambda losses: {"loss": losses.mean()}, lambda losses: {"soft": losses}])
def test_what_a_loss_records_is_one_number_and_hides_no_column(records):
    with pytest.raises(KitError, match=r"^to record '(loss|soft)' of tensor.*allowed: one number, by another name"):
        under(Mine(gives=Tensor.mean, records=records))


@pytest.mark.parametrize("parts", [1, 3])
def test_what_a_loss_records_is_its_mean_over_images_and_holds_no_graph(parts):
    training = under(Mine(gives=Tensor.mean, records=lambda losses: {"soft": losses.mean(), "two": 2.0}), parts)
    rows = training.steps()
    assert [row["soft"] for row in rows] == pytest.approx([row["loss"] for row in rows], rel=1e-6)
    assert {row["two"] for row in rows} == {2.0} and not training.history.traces["soft"].requires_grad


def test_logits_beyond_the_classes_are_the_users_own():
    student = nn.Sequential(nn.Flatten(), nn.Linear(3 * PX * PX, len(DATA.classes) + 1))
    assert len(Training(hard(1), DATA, student, {}, seed=0).run().metrics()["test_recalls"]) == 7


def test_a_teachers_logits_may_be_used_in_a_graph():
    teacher, x = frozen(linear(1), torch.device("cpu")), torch.randn(4, 3, PX, PX)
    zs = torch.randn(4, 6, requires_grad=True)
    (teach(teacher, x) * zs).sum().backward()
    torch.testing.assert_close(zs.grad, teacher(x))


# ---- out of memory ---------------------------------------------------------------------------------------------------


class Hungry(Improved):
    """The improved loss on a device that holds so many images at a time and no more."""

    holds: int
    from_progress: float = 0.0

    def __call__(self, at: Moment):
        if len(at.y) > self.holds and at.progress >= self.from_progress:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().__call__(at)


def hungry(holds: int, **changes) -> Recipe:
    stage = Stage(
        name="h",
        objective=Hungry(holds=holds, alpha=0.7, **changes),
        teacher="big",
        temperature=Adaptive(rate=20),
        until=1,
    )
    return Recipe(stages=(stage,), epochs=3, batch=16, pad=1)


@pytest.mark.parametrize(("holds", "parts"), [(15, 2), (8, 2), (7, 4), (5, 4), (3, 8), (2, 8)])
def test_out_of_memory_a_batch_is_taken_in_parts_with_the_same_gradient(holds, parts):
    """Without batch norms: the same weights, losses and temperature to rounding."""
    whole, split_up = (Training(hungry(n), DATA, linear(1), {"big": linear(2, 5)}, seed=0).run() for n in (16, holds))
    assert (whole.micro_batches.count, split_up.micro_batches.count) == (1, parts)
    for p, q in zip(whole.student.parameters(), split_up.student.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(whole.history.loss, split_up.history.loss, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(whole.history.temperatures, split_up.history.temperatures, rtol=1e-4, atol=0)
    # two logits as near as rounding may be ranked either way
    assert (whole.history.correct - split_up.history.correct).abs().sum() <= 1
    assert whole.spent.student_images == split_up.spent.student_images
    assert whole.spent.teacher_images == split_up.spent.teacher_images
    assert whole.notes == []
    assert split_up.notes[-1].startswith(f"out of memory at step 1: from there on batches were taken {16 // parts} ")


def test_out_of_memory_with_batch_norms_is_near_but_not_the_same():
    whole, split_up = (Training(hungry(n), DATA, cnn(1), {"big": cnn(2, 4)}, seed=0).run() for n in (16, 8))
    assert not same_weights(whole.student, split_up.student)
    assert (whole.history.loss - split_up.history.loss).abs().max() < 1e-3 * whole.history.loss.abs().max()


def test_out_of_memory_half_way_is_told_by_its_step():
    training = Training(hungry(8, from_progress=0.5), DATA, linear(1), {"big": linear(2, 5)}, seed=0).run()
    (note,) = training.notes
    assert note.startswith("out of memory at step 6: ")  # step 5 of 9 begins at progress 4/9


def test_what_cannot_be_split_further_is_refused_in_one_line():
    with pytest.raises(
        KitError, match="out of memory with 2 images of 8 px at a time, and they cannot be fewer"
    ) as raised:
        Training(hungry(1), DATA, linear(1), {"big": linear(2)}, seed=0).run()
    assert "\n" not in str(raised.value)


def test_a_single_training_image_is_too_few():
    with pytest.raises(KitError, match="^training images: 1 is not allowed; allowed: 2 or more$"):
        Training(hard(1), dataset(train=1), cnn(0), {}, seed=0)


# ---- divergence ------------------------------------------------------------------------------------------------------


class NanFrom(HardLabels):
    kind: str = "nan"
    share: float

    def __call__(self, at: Moment):
        return super().__call__(at) * (math.nan if at.progress >= self.share else 1.0)


@pytest.mark.parametrize("step", [1, 6, 7, 12])
def test_a_loss_that_is_no_number_is_told_by_its_step(step):
    stages = (Stage(name="n", objective=NanFrom(share=(step - 1) / 12), until=1),)
    training = Training(Recipe(stages=stages, epochs=2, batch=8, pad=1), DATA, cnn(0), {}, seed=0)
    with pytest.raises(Diverged, match=f"not a finite number at step {step}$") as raised:
        training.run()
    assert raised.value.step == step
    assert len(training.epochs) == (step - 1) // 6  # epochs before it are kept


def test_a_learning_rate_far_too_high_diverges():
    training = Training(hard(3, lr=1e30), DATA, cnn(0), {}, seed=0)
    with pytest.raises(Diverged) as raised:
        training.run()
    losses = [row["loss"] for row in training.steps()]
    assert all(math.isfinite(loss) for loss in losses[: raised.value.step - 1])
    assert not math.isfinite(losses[raised.value.step - 1])


def test_a_diverging_student_under_an_adaptive_temperature_is_told_too():
    with pytest.raises(Diverged):
        Training(three_steps(3, 20, lr=1e30), DATA, cnn(0), teachers(), seed=0).run()


# ---- measures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [30, 501, 1003])
def test_top_k_is_scikit_learns(n):
    data = dataset(classes=9, test=n)
    network = build("cnn", 9, width=2, stem="small", seed=8)
    found = evaluate(network, data.test, *data.mean_std)
    assert found.logits.shape == (n, 9)
    labels, scores = data.test.labels.numpy(), found.logits.numpy()
    assert found.top1 == pytest.approx(top_k_accuracy_score(labels, scores, k=1, labels=range(9)))
    assert found.top5 == pytest.approx(top_k_accuracy_score(labels, scores, k=5, labels=range(9)))
    assert 0 < found.top1 < found.top5 < 1


def test_evaluation_is_of_clean_images_in_evaluation_mode():
    network = cnn(0).train()
    mean, std = DATA.mean_std
    x = (DATA.test.images.pixels.double() - mean.double()) / std.double()
    logits = evaluate(network, DATA.test, mean, std).logits
    with torch.no_grad():
        wanted = network.eval()(x.permute(0, 3, 1, 2).float())
    torch.testing.assert_close(logits, wanted)


def test_mean_and_deviation_are_of_the_training_images():
    pixels = DATA.train.images.pixels.numpy().reshape(-1, 3).astype(float)
    np.testing.assert_allclose(DATA.mean_std[0], pixels.mean(0), rtol=1e-6)
    np.testing.assert_allclose(DATA.mean_std[1], pixels.std(0, ddof=1), rtol=1e-6)


def test_batch_top1_is_the_share_of_hits():
    z = torch.tensor([[3.0, 1, 2, 0, -1, 5], [0, 9, 1, 2, 3, 4], [5, 4, 3, 2, 1, 0]])
    assert topk_correct(z, torch.tensor([5, 1, 5])).tolist() == [2, 2]
    assert topk_correct(z[:, :2], torch.tensor([1, 1, 1])).tolist() == [1, 3]  # of two classes, all
    training = Training(hard(2), DATA, cnn(0), {}, seed=0).run()
    of_epoch = [row["batch_top1"] for row in training.steps()[:6]]
    assert training.epochs[0]["train_top1"] == pytest.approx(np.mean(of_epoch))


@pytest.mark.parametrize("classes", [3, 5, 20])
def test_agreement_is_scipys_and_numpys(classes):
    generator = torch.Generator().manual_seed(classes)
    zt = 3 * torch.randn(40, classes, generator=generator)
    zs = zt + 2 * torch.randn(40, classes, generator=generator)
    found = agreement(zt, zs)

    def softmax(z):
        e = np.exp(z.double().numpy())
        return e / e.sum(1, keepdims=True)

    def best(z):
        return [set(row) for row in np.argsort(-z.numpy(), axis=1)[:, :5].tolist()]

    assert found["kl"] == pytest.approx(np.mean(entropy(softmax(zt), softmax(zs), axis=1)), rel=1e-4)
    assert found["top1"] == pytest.approx(np.mean(zt.numpy().argmax(1) == zs.numpy().argmax(1)))
    shared = [len(a & b) / min(5, classes) for a, b in zip(best(zt), best(zs), strict=True)]
    assert found["top5"] == pytest.approx(np.mean(shared))


def test_metrics_say_where_the_student_stands():
    training = Training(three_steps(2, 20), DATA, cnn(0), teachers(), seed=0).run()
    metrics = training.metrics()
    test = evaluate(training.student, DATA.test, *DATA.mean_std)
    big = evaluate(training.teachers.networks["big"], DATA.test, *DATA.mean_std)
    assert (metrics["test_top1"], metrics["test_top5"]) == (test.top1, test.top5)
    assert metrics["agreement"] == agreement(big.logits, test.logits)
    assert [s["name"] for s in metrics["stages"]] == ["small teacher", "big teacher", "hard labels"]
    assert sum(s["epochs"] for s in metrics["stages"]) == pytest.approx(2)
    assert metrics["student_images"] == 96
    assert training.epochs[-1]["test_top1"] == test.top1


def test_a_training_on_the_cpu_leaves_a_gpu_alone(monkeypatch):
    """A process that takes hold of one has half a gigabyte of its memory, and its forks cannot."""

    def taken() -> None:
        raise AssertionError("took hold of a GPU")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "_lazy_init", taken)
    training = Training(three_steps(2, 20), DATA, cnn(0), teachers(), seed=0).run()
    assert training.metrics()["stages"][1]["ended_by"]
