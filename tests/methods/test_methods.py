"""Table 4's methods without a search, against formulas, finite differences and plain distillation."""

import dataclasses
from itertools import pairwise

import pytest
import torch
from safetensors.torch import load_file
from small_runs import Here
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from kit import recipe
from kit.errors import KitError
from kit.losses import sides
from kit.methods.annealing import AnnealedRegression, phi, stopped_early
from kit.methods.annealing import stages as annealing_stages
from kit.methods.complexity import ComplexityGap, HeldNear, input_gradient_norms
from kit.methods.plain import ORDINARY
from kit.methods.rows import METHODS
from kit.methods.teacher_assistant import build as teacher_assistant
from kit.methods.teacher_assistant import chain_epochs
from kit.models import ModelSpec
from kit.networks.flops import flops_per_image
from kit.paper import table4
from kit.paper.plan import Plan
from kit.recipe import Eq1, Moment, Recipe, Stage
from kit.runs.spec import with_teachers
from kit.runs.training import train
from kit.temperature import Fixed, Scheduled
from kit.trainer import Training
from kit.training.evaluation import agreement, evaluate

pytestmark = pytest.mark.numerics


def moment(z_s, z_t, y, t=4.0, x=None, student=None, teacher=None):
    return Moment(
        x=x,
        y=y,
        zs=z_s,
        logits={"big": z_t},
        temperatures={"big": sides(t)},
        student=student,
        teachers={"big": teacher},
    )


class Smooth(nn.Module):
    """A small differentiable network without kinks, for finite differences."""

    def __init__(self, seed):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softplus(), nn.Flatten(), nn.Linear(36, 5)).double()

    def forward(self, x):
        return self.layers(x)


# ---- [9] teacher assistant ----------------------------------------------------------------------------------------


def test_no_assistant_is_plain_distillation_bit_for_bit(setting):
    alone = dataclasses.replace(setting, assistants=())
    procedure = teacher_assistant(alone, seed=3)
    assert procedure.before == () and procedure.notes == ()
    ours = load_file(train(procedure.final).folder / "student.safetensors")
    teacher = train(setting.big).student()
    plain = Recipe(stages=recipe.eq1(20, "hinton"), epochs=setting.epochs, batch=setting.batch)
    training = Training(plain, setting.data.load(), setting.student.build(3), {"big": teacher}, seed=3).run()
    theirs = training.student.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert procedure.final == ORDINARY.build(alone, seed=3).final


@pytest.mark.parametrize("names", [("vgg16",), ("resnet34", "vgg16", "cnn")])
def test_each_network_of_a_chain_learns_from_the_one_before(setting, names):
    networks = tuple(ModelSpec(name=name, classes=100, width=4, stem="small") for name in names)
    procedure = teacher_assistant(dataclasses.replace(setting, assistants=networks, epochs=9), seed=0)
    chain = [*procedure.before, procedure.final]
    assert [run.student for run in chain] == [*networks, setting.student]
    assert chain[0].recipe.teachers == ("big",) and chain[0].teachers == {"big": setting.big}
    for earlier, later in pairwise(chain):
        assert later.recipe.teachers == ("assistant",)
        assert later.teachers == {"assistant": earlier, "big": setting.big}
    assert sum(run.recipe.epochs for run in chain) == 9
    assert all(isinstance(run.recipe.stages[0].objective, Eq1) for run in chain)
    assert with_teachers([chain[-1]])[-1] == chain[-1] and set(chain) <= set(with_teachers([chain[-1]]))


def test_agreement_is_with_the_explained_model_not_with_the_assistant(setting):
    procedure = teacher_assistant(setting, seed=0)
    train(procedure.before[0])
    outcome = train(procedure.final)
    data = setting.data.load()
    of = {
        name: evaluate(train(run).student(), data.test, *data.mean_std).logits
        for name, run in (("student", procedure.final), ("big", setting.big), ("assistant", procedure.before[0]))
    }
    measured = outcome.metrics["agreement"]["kl"]
    assert measured == pytest.approx(agreement(of["big"], of["student"])["kl"], rel=1e-4)
    assert measured != pytest.approx(agreement(of["assistant"], of["student"])["kl"], rel=1e-2)
    assert set(outcome.metrics) >= {"student_flops", "teacher_flops"}
    images = sum(stage["steps"] for stage in outcome.metrics["stages"]) * setting.batch
    assistant = flops_per_image(setting.assistants[0], setting.data.px)[0]
    assert outcome.metrics["teacher_flops"] == images * assistant  # measuring agreement is not part of the procedure


def test_an_assistant_larger_than_the_teacher_is_allowed_with_a_warning(setting):
    large = ModelSpec(name="vgg19", classes=100, width=40, stem="small")
    procedure = teacher_assistant(dataclasses.replace(setting, assistants=(large,)), seed=0)
    assert len(procedure.before) == 1
    (note,) = procedure.notes
    assert "larger than its teacher ResNet-50" in note and "\n" not in note
    assert teacher_assistant(setting, seed=0).notes == ()


def test_a_budget_shorter_than_the_chain_is_refused():
    assert chain_epochs(10, 3) == [3, 3, 4]
    with pytest.raises(KitError, match="budget of 2 epochs is too short for 3 trainings"):
        chain_epochs(2, 3)


# ---- [10] complexity gap ------------------------------------------------------------------------------------------


def test_input_gradient_norms_match_finite_differences():
    torch.manual_seed(0)
    x, y, network, h = torch.randn(2, 3, 5, 5, dtype=torch.double), torch.tensor([1, 4]), Smooth(1), 1e-5
    loss = nn.CrossEntropyLoss(reduction="sum")
    expected = []
    for i in range(2):
        total = 0.0
        for position in range(75):
            step = torch.zeros(2, 75, dtype=torch.double)
            step[i, position] = h
            up, down = (loss(network(x + sign * step.view_as(x)), y).item() for sign in (1, -1))
            total += ((up - down) / (2 * h)) ** 2
        expected.append(total**0.5)
    leaf = x.clone().requires_grad_()
    assert input_gradient_norms(network(leaf), y, leaf).tolist() == pytest.approx(expected, rel=1e-6)


def test_the_jacobian_terms_gradient_matches_finite_differences():
    torch.manual_seed(1)
    x, y = torch.randn(3, 3, 5, 5, dtype=torch.double), torch.tensor([0, 2, 4])
    student, teacher = Smooth(2), Smooth(3)
    objective, plain = ComplexityGap(gap=0.7, level=0.3), ComplexityGap(gap=0, level=0)

    def term():
        leaf = x.clone().requires_grad_()
        at = moment(student(leaf), teacher(leaf), y, x=leaf)
        return objective(at) - plain(at)

    term().backward()
    weight, h = student.layers[0].weight, 1e-5
    for position in ((0, 0, 0, 0), (2, 1, 2, 1), (3, 2, 1, 1)):
        analytic = float(weight.grad[position])
        with torch.no_grad():
            weight[position] += h
        up = term().item()
        with torch.no_grad():
            weight[position] -= 2 * h
        down = term().item()
        with torch.no_grad():
            weight[position] += h
        assert analytic == pytest.approx((up - down) / (2 * h), rel=1e-4, abs=1e-9)


def test_without_its_terms_the_complexity_loss_is_ordinary_distillation():
    torch.manual_seed(2)
    x, y, student, teacher = torch.randn(3, 3, 5, 5, dtype=torch.double), torch.tensor([0, 2, 4]), Smooth(2), Smooth(3)
    leaf = x.clone().requires_grad_()
    at = moment(student(leaf), teacher(leaf), y, x=leaf)
    assert ComplexityGap(gap=0, level=0)(at).item() == pytest.approx(Eq1(reading="hinton")(at).item(), rel=1e-12)


class Counting(TorchDispatchMode):
    """FLOPs by torch's own formulas; its FlopCounterMode cannot be used around autograd.grad."""

    flops = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        self.flops += formula(*args, **(kwargs or {}), out_val=out) if formula else 0
        return out


@pytest.mark.parametrize("objective", [ComplexityGap(), HeldNear()])
def test_declared_work_is_what_torch_counts(setting, objective):
    """A step's FLOPs, counted by torch, against student_work and teacher_work times those of one image."""
    stage = Stage(name="s", teacher="big", objective=objective, temperature=Fixed(T=20), until=1)
    training = Training(
        Recipe(stages=(stage,), epochs=1, batch=16),
        setting.data.load(),
        setting.student.build(0),
        {"big": setting.big.student.build(0)},
        seed=0,
    )
    steps = iter(training)
    with Counting() as counter:
        next(steps)
    px = setting.data.px
    student, teacher = flops_per_image(setting.student, px)[1], flops_per_image(setting.big.student, px)[0]
    declared = 16 * (objective.student_work * student + objective.teacher_work * teacher)
    assert counter.flops == pytest.approx(declared, rel=0.04)
    assert training.spent.student_images == 16 * objective.student_work


# ---- [10], second reading -----------------------------------------------------------------------------------------


def test_the_teacher_held_near_moves_and_the_explained_model_does_not(setting):
    stage = Stage(name="s", teacher="big", objective=HeldNear(), temperature=Fixed(T=20), until=1)
    training = Training(
        Recipe(stages=(stage,), epochs=1, batch=32),
        setting.data.load(),
        setting.student.build(0),
        {"big": train(setting.big).student()},
        seed=0,
    )
    before = {name: weight.clone() for name, weight in training.teachers.networks["big"].state_dict().items()}
    training.run()
    explained, moved = training.teachers.networks["big"].state_dict(), training.teachers.present["big"].state_dict()
    assert all(torch.equal(before[name], explained[name]) for name in before)
    assert any(not torch.equal(before[name], moved[name]) for name in before)
    assert not any(p.requires_grad for p in training.teachers.networks["big"].parameters())


def test_each_of_the_two_losses_trains_its_own_network_only():
    torch.manual_seed(3)
    zs, zt = (torch.randn(4, 5, dtype=torch.double, requires_grad=True) for _ in range(2))
    at, objective = moment(zs, zt, torch.tensor([0, 1, 2, 3])), HeldNear(hold=0.3)
    (g_s,) = torch.autograd.grad(objective(at), zs)
    assert torch.autograd.grad(objective(at), zt, allow_unused=True, materialize_grads=True)[0].abs().sum() == 0
    assert torch.autograd.grad(objective.teacher_loss(at), zs, allow_unused=True)[0] is None
    (g_t,) = torch.autograd.grad(objective.teacher_loss(at), zt)
    p, q = zs.detach().softmax(1), zt.detach().softmax(1)
    one_hot = nn.functional.one_hot(at.y, 5)
    expected = (0.7 * (q - one_hot) + 0.3 * (q - p)) / 4  # ∂CE/∂z = (q − y)/N; ∂KL(p‖q)/∂z = (q − p)/N
    assert torch.allclose(g_t, expected)
    assert g_s.abs().sum() > 0


# ---- [13] ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("T", "T_max", "expected"), [(1, 10, 1.0), (10, 10, 0.1), (4, 10, 0.7), (20, 20, 0.05)])
def test_phi_is_the_formula_of_annealing_kd(T, T_max, expected):
    assert phi(T, T_max) == pytest.approx(expected)


def test_annealed_regression_is_mean_squared_error_to_scaled_logits():
    zs, zt = torch.tensor([[1.0, -2.0], [0.5, 3.0]]), torch.tensor([[2.0, 0.0], [-1.0, 4.0]])
    at = moment(zs, zt, torch.tensor([0, 1]), t=4.0)
    target = [[0.7 * 2.0, 0.0], [-0.7, 2.8]]
    expected = sum((zs[i, j] - target[i][j]) ** 2 for i in range(2) for j in range(2)) / 4
    assert float(AnnealedRegression(T_max=10)(at)) == pytest.approx(float(expected))


def test_annealing_falls_from_t_max_to_one_and_ends_in_hard_labels(setting):
    soft, hard = annealing_stages(20)
    assert isinstance(soft.temperature, Scheduled) and not soft.temperature.floor
    assert hard.objective.kind == "hard" and hard.teacher is None
    training = Training(
        Recipe(stages=(soft, hard), epochs=4, batch=32),
        setting.data.load(),
        setting.student.build(0),
        {"big": setting.big.student.build(0)},
        seed=0,
    ).run()
    t = [row["t"] for row in training.steps() if row["stage"] == soft.name]
    assert t[0] == 20 and t == sorted(t, reverse=True)
    assert 1 < t[-1] < 1 + 1.01 * 19 / len(t)  # the last step before T = 1
    assert training.stages[0].steps == round(soft.until * training.total_steps)


def test_early_stopped_distillation_drops_its_teacher_halfway():
    first, second = stopped_early(20)
    assert (first.until, first.objective.kind, first.teacher) == (0.5, "eq1", "big")
    assert (second.until, second.objective.kind, second.teacher) == (1, "hard", None)


# ---- the list -----------------------------------------------------------------------------------------------------


def test_every_row_of_the_paper_is_there_and_13_is_called_undescribed():
    keys = [method.key for method in METHODS]
    assert set(table4.TABLE_4) <= set(keys) and {"hard labels", "hinton"} <= set(keys)
    assert len({method.label for method in METHODS}) == len(METHODS)
    assert all("does not say what [13] is" in method.cite for method in METHODS if method.key == "[13]")


def test_an_assistant_that_is_given_is_not_charged_and_leaves_the_student_the_whole_budget(setting):
    charged, given = teacher_assistant(setting, seed=0), teacher_assistant(setting, seed=0, given=True)
    assert given.before == () and given.final.recipe.epochs == setting.epochs > charged.final.recipe.epochs
    assistant = given.final.teachers["assistant"]
    assert assistant.recipe.epochs == setting.small.recipe.epochs
    assert assistant.teachers == {"big": setting.big}


def test_a_budget_too_short_for_a_chain_is_refused_before_anything_trains(setting, monkeypatch):
    two = (setting.small.student, setting.big.student)
    short = dataclasses.replace(setting, assistants=two, epochs=2)
    given = teacher_assistant(short, seed=0, given=True)  # of which nothing is split
    assert [given.final.recipe.epochs, given.final.teachers["assistant"].teachers["assistant"].recipe.epochs] == [2, 3]

    def trained(runs, *how):
        raise AssertionError("something trains")

    monkeypatch.setattr(table4, "train_all", trained)
    with pytest.raises(KitError, match="a budget of 2 epochs is too short for 3 trainings"):
        table4.compare(Plan.of("smoke"), assistants=("vgg16", "cnn"))


def test_the_small_teacher_alone_is_ordinary_distillation_from_it(setting):
    (alone,) = (method for method in METHODS if method.key == "small alone")
    ordinary = ORDINARY.build(setting, 0).final
    run = alone.build(setting, 0).final
    assert run.recipe.teachers == ("small",)
    assert run.recipe.stages[0].objective == ordinary.recipe.stages[0].objective
    assert run.teachers == {"small": setting.small, "big": setting.big}


def test_a_new_method_is_one_object(setting):
    """The README's promise: an objective, a function and a row."""
    from kit.methods import Method, Procedure

    def build(setting, seed):
        return Procedure(setting.run(recipe.eq1(2.0, "hinton"), {"big": setting.big}, seed))

    mine = Method(key="mine", title="lukewarm", reading="T = 2", cite="no paper", build=build)
    comparison = table4.compare(Plan.of("smoke"), seeds=1, jobs=Here(), methods=(mine,), show_progress=False)
    assert comparison.frame[["method", "status"]].values.tolist() == [["mine", "finished"]]
