"""What is asked: rows as `python -m kit train` would train them, one by one."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from kit.errors import KitError
from kit.judge.question import Question, lesson, seeds_of
from kit.models import build
from kit.paper.plan import Plan, papers, rows
from kit.runs.spec import TEACHERS

ASKED = {"role": "cifar-100", "student": "resnet34", "teacher": "resnet50", "small_teacher": "vgg19", "preset": "smoke"}


def test_with_table_2s_networks_the_rows_are_table_2s_runs():
    asked = Question(**ASKED, temperature=5, seeds=2).rows()
    procedures = papers(
        ("hard labels", "no teacher"), ("T=5", "hinton"), ("adaptive", "big teacher only"), ("adaptive", "three steps")
    )
    paper = rows(Plan.of("smoke"), procedures, 2, "cifar-100", "resnet34", "resnet50", "vgg19")
    assert asked == paper
    assert [run.seed for run in asked[0].runs] == [0, 1]
    assert [run.teachers["big"].seed for run in asked[1].runs] == [TEACHERS, TEACHERS + 1]


def test_without_anything_it_is_about_the_embedded_digits_and_a_narrow_student():
    question = Question(preset="smoke")
    run = question.rows()[-1].runs[0]
    assert (run.data.name, run.data.source) == ("scikit-learn digits", "embedded")
    assert run.student.width == run.teachers["big"].student.width // 2
    assert [run.teachers[name].student.name for name in ("small", "big")] == ["cnn", "vgg16"]


def test_beside_networks_of_ones_own_it_is_said_that_the_small_teacher_is_the_kits():
    said = "\nsmall teacher: the kit's CNN; another by --small-teacher"
    for named, asked in (
        (True, {"student": "timm:test_resnet"}),
        (True, {"teacher": "timm:test_resnet"}),
        (False, {"student": "timm:test_resnet", "small_teacher": "timm:test_resnet"}),
        (False, {"student": "resnet34"}),
        (False, {}),
    ):
        question = Question(preset="smoke", seeds=1, **asked)
        assert (said in question.about(question.rows())) == named


def test_without_a_small_teacher_there_is_no_row_of_one():
    for word in (None, "none"):
        question = Question(preset="smoke", small_teacher=word)
        assert question.command() == "python -m kit judge --small-teacher none --preset smoke"
        found = question.rows()
        assert [row.label for row in found] == ["hard labels", "T=4", "adaptive"]
        assert not any("small" in run.teachers for row in found for run in row.runs)


def test_what_else_is_said_of_a_teacher_goes_with_it():
    """A row without a teacher says nothing of one: neither its weights nor how it sees images."""
    said = {"teacher_weights": "t.pth", "teacher_px": 20, "small_teacher_args": "{}", "student_weights": "s.pth"}
    question = Question(preset="smoke", teacher_normalise="imagenet", **said)
    hard, ordinary, _, whole = (question.settings(method, 0) for method in question.methods)
    assert (hard.teacher, hard.teacher_weights, hard.teacher_px, hard.teacher_normalise) == (None, None, None, "role")
    assert (ordinary.teacher_weights, ordinary.teacher_px, ordinary.teacher_normalise) == ("t.pth", 20, "imagenet")
    assert (ordinary.small_teacher, ordinary.small_teacher_args) == (None, None)
    assert (whole.small_teacher, whole.small_teacher_args) == ("cnn", "{}")
    assert {each.student_weights for each in (hard, ordinary, whole)} == {"s.pth"}


def test_a_row_is_one_line_for_train_and_the_question_one_for_judge():
    question = Question(preset="smoke", seeds=2, k=10, temperature=2)
    assert question.command() == "python -m kit judge --temperature 2 --k 10 --preset smoke --seeds 2"
    method = question.methods[1]
    line = question.settings(method, 1).command()
    wanted = "--student cnn --role cifar-10 --teacher vgg16 --temperature 2 --reading hinton --width 2 --seed 1"
    assert line == f"python -m kit train {wanted} --preset smoke --source embedded"


def test_which_teachers_all_seeds_share_is_said(tmp_path, own_cache):
    """A teacher that is given is the same for all, while another is trained for each."""
    for name in ("cnn", "vgg16"):
        torch.save(build(name, 10, width=4, stem="small").state_dict(), tmp_path / f"{name}.pth")
    big, small = {"teacher_weights": f"{tmp_path}/vgg16.pth"}, {"small_teacher_weights": f"{tmp_path}/cnn.pth"}
    for given, said in (
        ({}, "each with its own teachers"),
        (big, "all with the same big teacher, each with its own small teacher"),
        (small, "all with the same small teacher, each with its own big teacher"),
        (big | small, "all with the same teachers"),
        (big | {"small_teacher": "none"}, "all with the same teachers"),
    ):
        assert seeds_of(Question(preset="smoke", seeds=2, **given).rows()) == f"2 seeds, {said}"


def test_two_teach_and_one_teaches():
    two, one = (Question(preset="smoke", **asked).rows()[-1].runs[0] for asked in ({}, {"small_teacher": "none"}))
    assert (lesson(two), lesson(one)) == ("CNN and VGG-16 teach CNN", "VGG-16 teaches CNN")


def test_a_row_has_those_options_alone_that_change_it():
    asked = Question(preset="smoke", k=10, alpha=0.7, t_squared=False, logits="float16", follows="kl")
    hard, ordinary, adaptive, whole = (asked.settings(method, 0) for method in asked.methods)
    assert hard.run() == Question(preset="smoke").settings(asked.methods[0], 0).run()
    assert (ordinary.k, ordinary.alpha, ordinary.t_squared, ordinary.logits) == (20, 0.7, True, "float16")
    for one in (adaptive, whole):
        assert (one.k, one.alpha, one.t_squared, one.logits, one.follows) == (10, 0.7, False, "float16", "kl")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"seeds": 0}, "seeds"),
        ({"seeds": TEACHERS + 1}, "less than or equal to 1000"),
        ({"temperature": 0}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"reading": "loose"}, "reading"),
        ({"teacher": ""}, "teacher"),
        ({"teacher": "tiny"}, "model 'tiny'"),
        ({"student": "tiny"}, "model 'tiny'"),
        ({"small_teacher": "tiny"}, "model 'tiny'"),
        ({"small_teacher": ""}, "small_teacher"),
        ({"small_teacher": "none", "small_teacher_weights": "s.pth"}, "--small-teacher-weights 's.pth' is not allowed"),
        ({"source": "real"}, "--source 'real' is not allowed; allowed: 'auto', as neither --data nor --role"),
        ({"recipe": "crd", "reading": "printed"}, "--reading 'printed' is not allowed; allowed: 'hinton', as recipe"),
        ({"width": 0}, "width"),
        ({"role": "mnist"}, "role 'mnist'"),
        ({"preset": "huge"}, "preset 'huge'"),
        ({"k": 0.5}, "k"),
        ({"seed": -1}, "seed: -1"),
        ({"data": "/no/such/folder"}, "/no/such/folder"),
    ],
)
def test_what_is_not_allowed_is_refused_by_name(asked, said):
    with pytest.raises((KitError, ValidationError), match=said):
        Question(**{"preset": "smoke"} | asked).rows()
