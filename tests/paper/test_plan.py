"""Whose student a seed is: shared teachers, own teachers, fresh draws."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from kit.data.augment import EpochPlan
from kit.errors import KitError
from kit.grid import train_all
from kit.paper import figure2, table1, table2, table3, table4
from kit.paper.plan import PROCEDURES, Plan, runs_of
from kit.runs.spec import with_teachers

pytestmark = pytest.mark.usefixtures("module_cache")


def everything(plan: Plan, seeds: int) -> list:
    tables = [module.table(plan, seeds) for module in (table1, table2, table3, figure2)]
    return with_teachers([run for rows in [*tables, table4.known(plan, seeds)] for run in runs_of(rows)])


@pytest.mark.parametrize("one_teacher", [True, False])
def test_seeds_share_their_teachers_or_have_their_own(one_teacher):
    plan = Plan.of("smoke", one_teacher=one_teacher)
    rows = [*table2.table(plan, 3), *table3.table(plan, 3), *figure2.table(plan, 3), *table4.known(plan, 3)]
    taught = [run for run in runs_of(rows) if run.teachers and "assistant" not in run.teachers and run.seed < 1000]
    for run in taught:
        wanted = 0 if one_teacher else 1000 + run.seed
        assert {teacher.seed for teacher in run.teachers.values()} == {wanted}
    cells = {run.hash for run in runs_of(table1.table(plan, 3))}
    assert {teacher.hash for run in taught for teacher in run.teachers.values()} <= cells  # no teacher is trained apart


def test_no_student_draws_what_its_own_teacher_drew():
    plan = Plan.of("smoke")
    for run in everything(plan, 2):
        for teacher in run.teachers.values():
            orders = [EpochPlan(100, each.seed, 0, 2, flip=False).order.tolist() for each in (run, teacher)]
            assert orders[0] != orders[1]


def test_a_fresh_draw_shares_no_run_but_teachers_that_all_share():
    old, fresh = (everything(Plan.of("smoke", first_seed=first), 2) for first in (0, 100))
    assert not {run.hash for run in old} & {run.hash for run in fresh}
    assert {run.seed % 1000 for run in fresh} == {100, 101}
    old, fresh = (everything(Plan.of("smoke", first_seed=first, one_teacher=True), 2) for first in (0, 100))
    shared = {run.hash for run in old} & {run.hash for run in fresh}
    assert shared == {teacher.hash for run in fresh for teacher in run.teachers.values() if teacher.seed == 0}


HARD = PROCEDURES["hard labels", "no teacher"]


@pytest.mark.parametrize(
    ("ask", "line"),
    [
        (
            lambda: Plan.of("smoke", {"cifar-11": "real"}),
            "role 'cifar-11' is not known; allowed: cifar-10, cifar-100, ",
        ),
        (lambda: Plan.of("smoke", {"cifar-10": "reel"}), "source of cifar-10 'reel' is not known; allowed: auto, "),
        (lambda: Plan.of("smoke").data("mnist"), "role 'mnist' is not known; allowed: "),
        (lambda: Plan.of("smoke").teacher("vgg17", "cifar-10"), "model 'vgg17' is not known; allowed: cnn, "),
        (lambda: Plan.of("paper").teacher("vgg17", "cifar-10"), "model 'vgg17' is not known; allowed: cnn, "),
        (lambda: Plan.of("smoke").student("vgg17", "cifar-10", HARD, "cnn"), "model 'vgg17' is not known; allowed: "),
        (lambda: Plan.of("smoke").teacher(None, "cifar-10"), "model None is not known; allowed: cnn, "),
        (lambda: Plan.of("smoke", px="all").size("cifar-10"), "px 'all' is not allowed; allowed: a whole number from "),
        (lambda: Plan.of("smoke", folder="~/nowhere").data("cifar-10"), "nowhere' is not there; allowed: an existing "),
        (
            lambda: table2.table(Plan.of("smoke"), 0),
            "0 seeds from 0 on are not allowed; allowed: a whole number from 1",
        ),
        (lambda: table1.table(Plan.of("smoke", first_seed=-1), 2), "2 seeds from -1 on are not allowed; allowed: "),
        *(
            (lambda seeds=seeds: table2.table(Plan.of("smoke"), seeds), f"{seeds!r} seeds from 0 on are not allowed; ")
            for seeds in (2.5, "two", None)
        ),
        (lambda: table1.table(Plan.of("smoke", first_seed=0.5), 1), "1 seeds from 0.5 on are not allowed; allowed: "),
        (
            lambda: table3.table(Plan.of("smoke"), 1, [("cifar-10", "resnet34", "tiny", "cnn")]),
            "model 'tiny' is not known; allowed: cnn, vgg16, ",
        ),
        (
            lambda: table3.table(Plan.of("smoke"), 1, [("mars", "resnet34", "vgg19", "cnn")]),
            "role 'mars' is not known; allowed: cifar-10, ",
        ),
        (
            lambda: figure2.table(Plan.of("smoke"), 1, readings=("loose",)),
            "procedure ('T=5', 'loose') is not known; allowed: ('hard labels', 'no teacher'), ",
        ),
        (
            lambda: figure2.table(Plan.of("smoke"), 1, explained=("vgg16",)),
            "explained model 'vgg16' is not known; allowed: resnet50, vgg19",
        ),
        (
            lambda: train_all([Plan.of("smoke").teacher("cnn", "cifar-10")], jobs=0),
            "jobs 0 is not allowed; allowed: a whole number from 1 up",
        ),
    ],
)
def test_words_are_refused_as_the_command_line_refuses_them(ask, line, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(KitError) as refused:
        ask()
    assert line in str(refused.value)


def test_a_procedure_without_its_teacher_is_refused():
    for name, missing in (("T=5", "printed"), "big"), (("adaptive", "three steps"), "small"):
        with pytest.raises(ValidationError, match=rf"the recipe needs teachers \['{missing}'\]"):
            Plan.of("smoke").student("cnn", "cifar-10", PROCEDURES[name], "cnn" if missing == "small" else None)
