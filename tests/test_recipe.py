"""Recipes: what is refused and how, objectives against formulas written out here, the paper's three steps as data."""

from __future__ import annotations

import math
import shlex
from typing import Literal

import pytest
import torch
from pydantic import ValidationError

from kit import recipe
from kit.errors import KitError, one_line
from kit.losses import sides
from kit.paper.settings import Settings
from kit.recipe import Eq1, HardLabels, Improved, Moment, Objective, Recipe, Stage
from kit.several import Graduation, Together, Weighted
from kit.siblings import SIBLINGS
from kit.siblings.ctkd import Learned
from kit.temperature import Adaptive, Fixed, Policy, Scheduled

ADAPTIVE = Adaptive(rate=5)


def moment(t: float, with_teacher: bool = True) -> Moment:
    generator = torch.Generator().manual_seed(4)
    zs, zt = (3 * torch.randn(6, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    y = torch.randint(0, 5, (6,), generator=generator)
    return Moment(x=None, y=y, zs=zs, logits={"big": zt} if with_teacher else {}, temperatures={"big": sides(t)})


def softmax(z: torch.Tensor) -> torch.Tensor:
    return torch.exp(z) / torch.exp(z).sum(1, keepdim=True)


def soft(at: Moment, t: float) -> torch.Tensor:
    """L_D: −Σ p_i(zt, t) log p_i(zs, t), batch mean."""
    return -(softmax(at.zt / t) * torch.log(softmax(at.zs / t))).sum(1).mean()


def hard(at: Moment, t: float = 1.0) -> torch.Tensor:
    """L_S: −log p_y(zs, t), batch mean."""
    return -torch.log(softmax(at.zs / t)[torch.arange(6), at.y]).mean()


# ---- objectives ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [1.0, 5.0, 20.0])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_eq1_in_both_readings(t, alpha):
    at = moment(t)
    printed = alpha * soft(at, t) + (1 - alpha) * hard(at, t)
    hinton = alpha * t * t * soft(at, t) + (1 - alpha) * hard(at)
    torch.testing.assert_close(Eq1(reading="printed", alpha=alpha)(at), printed)
    torch.testing.assert_close(Eq1(reading="hinton", alpha=alpha)(at), hinton)


@pytest.mark.parametrize("t", [1.0, 7.0, 20.0])
@pytest.mark.parametrize("t_squared", [True, False])
@pytest.mark.parametrize("alpha", [1.0, 0.9, 0.0])
def test_improved_loss(t, t_squared, alpha):
    at = moment(t)
    wanted = alpha * (t * t if t_squared else 1) * soft(at, t) + (1 - alpha) * hard(at)
    torch.testing.assert_close(Improved(alpha=alpha, t_squared=t_squared)(at), wanted)


def test_hard_labels_need_no_teacher():
    at = moment(20.0, with_teacher=False)
    torch.testing.assert_close(HardLabels()(at), hard(at))
    assert not HardLabels.needs_teacher
    assert Eq1.needs_teacher
    assert Improved.needs_teacher


def test_defaults_are_the_papers():
    assert Eq1() == Eq1(reading="printed", alpha=0.5)
    assert Improved() == Improved(alpha=1.0, t_squared=True)
    assert recipe.adaptive(30).k == 20
    assert Recipe(stages=recipe.hard_labels(), epochs=1).batch == 128


def test_an_objective_of_ones_own_keeps_its_fields_in_a_recipe():
    class Mean(Objective):
        kind: str = "mean"
        weight: float = 2.0

        def __call__(self, at: Moment) -> torch.Tensor:
            return self.weight * at.zs.mean()

    stage = Stage(name="mine", objective=Mean(weight=3), teacher="big", temperature=Fixed(T=4), until=1)
    dumped = Recipe(stages=(stage,), epochs=1).model_dump(mode="json")
    assert dumped["stages"][0]["objective"].items() >= {"kind": "mean", "weight": 3.0}.items()
    assert Objective.needs_teacher


# ---- stages ----------------------------------------------------------------------------------------------------------


def test_the_papers_three_steps():
    stages = recipe.small_teacher(ADAPTIVE)
    assert [(s.name, s.teacher, s.objective.kind) for s in stages] == [
        ("small teacher", "small", "improved"),
        ("big teacher", "big", "improved"),
        ("hard labels", None, "hard"),
    ]
    assert stages[0].temperature == stages[1].temperature == ADAPTIVE  # t is reset to K
    assert stages[2].temperature is None
    assert 0 < stages[0].until < stages[1].until < stages[2].until == 1
    assert all(s.objective.alpha == 1 and s.objective.t_squared for s in stages[:2])
    assert Recipe(stages=stages, epochs=3).teachers == ("small", "big")


def test_readings_reach_the_stages():
    stages = recipe.small_teacher(ADAPTIVE, alpha=0.8, t_squared=False, soft_ends=(0.2, 0.3))
    assert [(s.objective.alpha, s.objective.t_squared) for s in stages[:2]] == [(0.8, False)] * 2
    assert [s.until for s in stages] == [0.2, 0.3, 1]
    (only,) = recipe.eq1(5, "hinton", 0.7)
    assert (only.teacher, only.until, only.temperature) == ("big", 1, Fixed(T=5))
    assert only.objective == Eq1(reading="hinton", alpha=0.7)


def test_adaptive_without_a_small_teacher():
    stages = recipe.big_teacher_only(ADAPTIVE, soft_end=0.6)
    assert [(s.teacher, s.until) for s in stages] == [("big", 0.6), (None, 1)]
    assert Recipe(stages=stages, epochs=1).teachers == ("big",)
    assert Recipe(stages=recipe.hard_labels(), epochs=1).teachers == ()


def test_the_default_rate_spreads_over_the_epochs():
    assert recipe.adaptive(12).rate == pytest.approx(100)
    assert recipe.adaptive(150).rate == pytest.approx(8)
    assert recipe.adaptive(12, normalised=False).rate == pytest.approx(5)
    assert recipe.adaptive(12, rate=3).rate == 3


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("adaptive", Adaptive(k=9, rate=2, follows="kl", optimiser="adam", floor=False, normalised=True)),
        ("schedule", Scheduled(k=9, floor=False)),
        ("5", Fixed(T=5)),
        ("2.5e1", Fixed(T=25)),
    ],
)
def test_words_name_policies(word, wanted):
    readings = {"k": 9, "rate": 2, "follows": "kl", "optimiser": "adam", "floor": False}
    assert Settings(student="cnn", temperature=word, **readings).policy(10) == wanted


TAUGHT = {"student": "cnn", "teacher": "resnet34"}
TWO = TAUGHT | {"third_teacher": "cnn"}


def test_a_siblings_name_brings_its_stages_with_k_where_it_has_one():
    for (label, _), stages in SIBLINGS.items():
        assert Settings(**TAUGHT, temperature=label).stages(10) == stages(10)
    assert Settings(**TAUGHT, temperature="rising", k=9).stages(10)[0].temperature.k == 9
    assert "--temperature DTKD" in Settings(**TAUGHT, temperature="DTKD").command()


def test_all_teachers_at_once_then_hard_labels():
    three = {**TAUGHT, "small_teacher": "vgg16", "third_teacher": "cnn", "k": 9, "rate": 2, "alpha": 0.5}
    one = Settings(**three, temperature="together", follows="kl", optimiser="adam", floor=False)
    together, hard = one.stages(10)
    assert together.teacher == ("small", "big", "third") and hard == recipe.hard_labels()[0]
    moves = {"k": 9, "rate": 2, "follows": "kl", "optimiser": "adam", "floor": False, "normalised": True}
    assert together.temperature == Together(**moves) and together.objective == Weighted(alpha=0.5)
    each = Settings(**three, temperature="graduation")
    assert each.stages(10)[0].temperature == Graduation(k=9, rate=2)
    words = iter(shlex.split(each.command())[4:])
    given = {option.removeprefix("--").replace("-", "_"): value for option, value in zip(words, words, strict=True)}
    assert Settings(**given).run() == each.run()
    two = Settings(**TAUGHT, small_teacher="vgg16", temperature="graduation")
    assert [*two.run().teachers] == ["small", "big"]


def test_a_command_has_every_bit_of_a_number():
    words = Settings(**TAUGHT, rate=100 / 3, lr=0.1, k=12.0, data="pets1.0", role="own").command().split()
    assert float(words[words.index("--rate") + 1]) == 100 / 3
    assert words[words.index("--k") + 1] == "12" and words[words.index("--data") + 1] == "pets1.0"


OTHERWISE = {  # a value that is not the usual one
    "temperature": "7", "reading": "hinton", "k": 9.0, "alpha": 0.3, "rate": 2.0, "follows": "kl", "optimiser": "adam",
    "normalised": False, "floor": False, "t_squared": False,
}  # fmt: skip
SMALL = TAUGHT | {"small_teacher": "cnn"}


class OfOnesOwn(Policy):
    kind: Literal["of one's own"] = "of one's own"
    k: float = 3.0

    @property
    def start(self):
        return self.k


@pytest.mark.parametrize(
    "way",
    [
        {"student": "cnn"}, {"student": "cnn", "recipe": "crd"}, TAUGHT, SMALL, TAUGHT | {"recipe": "crd"},
        *(networks | {"temperature": OfOnesOwn()} for networks in (TAUGHT, SMALL)),
        *(networks | {"temperature": word} for networks in (TAUGHT, SMALL) for word in ("5", "schedule")),
        *(TAUGHT | {"temperature": label} for label, _ in SIBLINGS),
        *(SMALL | {"temperature": word} for word in ("together", "graduation")),
    ],
    ids=str,
)  # fmt: skip
def test_an_option_changes_a_training_or_is_refused(way):
    usual = Settings(**way).stages(10)
    for name, value in OTHERWISE.items():
        if name in way:
            continue
        asked = Settings(**way | {name: value})
        try:
            assert asked.stages(10) != usual, name
        except KitError as error:
            assert str(error).startswith(f"--{name.replace('_', '-')} {value!r} ")
            assert asked.pruned() == Settings(**way)
        else:
            assert asked.pruned() == asked


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"student": "cnn", "temperature": "CTKD"}, "--temperature 'CTKD' is not allowed; allowed: without it, as"),
        ({"student": "cnn", "temperature": "adaptive"}, "--temperature 'adaptive' is not allowed; allowed: without it"),
        ({"student": "cnn", "k": math.nan}, "--k nan is not allowed; allowed: 20.0, as there is no --teacher"),
        ({"student": "cnn", "logits": "float16"}, "--logits 'float16' is not allowed; allowed: 'float32', as"),
        (
            {"student": "cnn", "small_teacher": "cnn"},
            "--small-teacher 'cnn' is not allowed; allowed: without it, as there is no --teacher",
        ),
        (
            TAUGHT | {"temperature": 5, "k": 9},
            "--k 9.0 is not allowed; allowed: 20.0, as temperature 'fixed' has no use for it",
        ),
        (
            SMALL | {"temperature": "5", "reading": "hinton"},
            "--reading 'hinton' is not allowed; allowed: 'printed', as temperature '5' has no use for it beside "
            "a small teacher",
        ),
        (
            TAUGHT | {"temperature": "DTKD", "alpha": 0.5},
            "--alpha 0.5 is not allowed; allowed: without it, as temperat",
        ),
    ],
)
def test_an_option_without_any_use_is_refused(options, said):
    with pytest.raises(KitError) as raised:
        Settings(**options).stages(10)
    assert str(raised.value).startswith(said)


# ---- what is refused -------------------------------------------------------------------------------------------------


def complaint(make) -> str:
    with pytest.raises((ValidationError, KitError)) as raised:
        make()
    text = one_line(raised.value) if isinstance(raised.value, ValidationError) else str(raised.value)
    assert text
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("make", "field", "value"),
    [
        (lambda: recipe.adaptive(10, k=0.5), "k", "0.5"),
        (lambda: recipe.adaptive(10, k=-20), "k", "-20"),
        (lambda: recipe.adaptive(10, k=math.nan), "k", "nan"),
        (lambda: recipe.adaptive(10, k=math.inf), "k", "inf"),
        (lambda: recipe.adaptive(10, k="hot"), "k", "'hot'"),
        (lambda: recipe.adaptive(10, rate=0), "rate", "0"),
        (lambda: recipe.adaptive(10, rate=math.nan), "rate", "nan"),
        (lambda: recipe.adaptive(10, optimiser="lbfgs"), "optimiser", "'lbfgs'"),
        (lambda: recipe.adaptive(10, follows="mse"), "follows", "'mse'"),
        (lambda: recipe.adaptive(10, speed=1), "speed", "1"),
        (lambda: Fixed(kind="warm", T=3), "kind", "'warm'"),
        (lambda: Scheduled(shape="cosine"), "shape", "'cosine'"),
        (lambda: Settings(student="cnn", temperature="schedule", k=0.9).policy(10), "k", "0.9"),
        (lambda: Settings(student="cnn", temperature="hot").policy(10), "temperature", "'hot'"),
        (lambda: Settings(student="cnn", temperature="").policy(10), "temperature", "''"),
        (lambda: Settings(student="cnn", temperature="-1").policy(10), "T", "-1.0"),
        (lambda: Settings(student="cnn", temperature="0").policy(10), "T", "0.0"),
        (lambda: Settings(student="cnn", temperature="nan").policy(10), "T", "nan"),
        (lambda: Settings(student="cnn", temperature="inf").policy(10), "T", "inf"),
        (lambda: Settings(**TAUGHT, temperature="rising", k=0.5).stages(10), "k", "0.5"),
        (lambda: Settings(student="cnn", teacher=""), "teacher", "''"),
        (lambda: Settings(student="cnn", data=""), "data", "''"),
        (lambda: Settings(**TAUGHT, temperature="CTKD", small_teacher="cnn").stages(10), "--small-teacher", "'cnn'"),
        (lambda: Settings(**TAUGHT, temperature="ctkd").stages(10), "temperature", "'ctkd'"),
        (lambda: Settings(**TAUGHT, temperature="together").run(), "teachers", "big"),
        (lambda: Settings(student="cnn", temperature="graduation").run(), "--temperature", "'graduation'"),
        (lambda: Settings(**TAUGHT, third_teacher="cnn").run(), "--third-teacher", "'cnn'"),
        (lambda: Settings(**TAUGHT, third_teacher="cnm", temperature="together").run(), "model", "'cnm'"),
        (lambda: Settings(**TWO, temperature="graduation", k=0.5).run(), "k", "0.5"),
        (lambda: Learned(least=0.5), "least", "0.5"),
        (lambda: Learned(span=0), "span", "0"),
        (lambda: recipe.eq1(5, alpha=1.5), "alpha", "1.5"),
        (lambda: recipe.eq1(5, alpha=-0.1), "alpha", "-0.1"),
        (lambda: recipe.eq1(5, alpha=math.nan), "alpha", "nan"),
        (lambda: recipe.eq1(-5), "T", "-5"),
        (lambda: recipe.eq1(5, "loose"), "reading", "'loose'"),
        (lambda: recipe.small_teacher(ADAPTIVE, alpha=2), "alpha", "2"),
        (lambda: recipe.small_teacher(ADAPTIVE, soft_ends=(0.0, 0.5)), "until", "0.0"),
        (lambda: recipe.small_teacher(ADAPTIVE, soft_ends=(0.8,)), "soft_ends", "(0.8,)"),
        (lambda: recipe.big_teacher_only(ADAPTIVE, soft_end=1.2), "until", "1.2"),
        (lambda: Recipe(stages=(), epochs=1), "stages", "()"),
    ],
)
def test_what_is_refused_is_named(make, field, value):
    text = complaint(make)
    assert text.startswith(f"{field}: {value} ") or text.startswith(f"{field} {value} ")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0), ("epochs", -1), ("epochs", 1.5), ("batch", 1), ("lr", 0.0), ("lr", -1.0), ("lr", math.nan),
        ("lr", math.inf), ("warmup", 1.0), ("warmup", -0.1), ("momentum", 1.0), ("momentum", -0.5),
        ("weight_decay", -1e-4), ("weight_decay", math.nan), ("pad", -1), ("nestorov", True),
    ],
)  # fmt: skip
def test_a_bad_field_of_a_recipe_is_named(field, value):
    text = complaint(lambda: Recipe(**({"stages": recipe.hard_labels(), "epochs": 3} | {field: value})))
    assert text.startswith(f"{field}: {value!r} is not allowed (")


def test_stages_in_a_wrong_order_are_refused():
    small, big, hard_stage = recipe.small_teacher(ADAPTIVE)
    for stages in ((big, small, hard_stage), (small, big), (small, small, hard_stage), (hard_stage, hard_stage)):
        said = complaint(lambda s=stages: Recipe(stages=s, epochs=3))
        assert "stages must end in rising order, the last at 1" in said


def test_a_stage_whose_objective_and_teacher_differ_is_refused():
    assert "'improved' and teacher None" in complaint(lambda: Stage(name="a", objective=Improved(), until=1))
    with_teacher = {"name": "a", "objective": HardLabels(), "teacher": "big", "temperature": Fixed(T=2), "until": 1}
    assert "'hard' and teacher 'big'" in complaint(lambda: Stage(**with_teacher))
    cold = {"name": "a", "objective": Improved(), "teacher": "big", "until": 1}
    assert "teacher 'big' and temperature None differ" in complaint(lambda: Stage(**cold))
    assert "'improved' and teacher () differ" in complaint(lambda: Stage(**cold | {"teacher": ()}))
    hot = {"name": "a", "objective": HardLabels(), "temperature": Fixed(T=2), "until": 1}
    assert "teacher None and temperature kind='fixed' T=2.0 differ" in complaint(lambda: Stage(**hot))


def test_a_recipe_cannot_be_changed():
    made = Recipe(stages=recipe.hard_labels(), epochs=3)
    with pytest.raises(ValidationError, match="frozen"):
        made.epochs = 4
    with pytest.raises(ValidationError, match="frozen"):
        made.stages[0].until = 0.5
