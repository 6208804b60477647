"""Table 6 of a cache that nobody trained: its rows, what it says of them, and its claims, recomputed by hand."""

from __future__ import annotations

from html import unescape
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from made_cache import make_all
from small_runs import measured

from kit.beyond import TABLES, table5, table6
from kit.paper.plan import PROCEDURES, Plan, collect, runs_of
from kit.paper.settings import Settings
from kit.runs.store import Failure
from kit.show import several_figures


@pytest.fixture(scope="module")
def made(module_cache):
    plan = Plan.of("smoke", {"cifar-100": "embedded"})
    rows = table6.table(plan, 2)
    make_all(runs_of(rows))
    return plan, rows, table6.run(plan, 2, jobs=1)


def test_every_row_has_the_same_student_budget_and_choice_of_teachers(made):
    plan, rows, _ = made
    assert TABLES["6"] is table6
    names = [(row.label, row.reading) for row in rows]
    assert names == [*table6.PROCEDURES] and len(set(names)) == len(names)
    for seed in range(2):
        runs = [row.runs[seed] for row in rows]
        assert len({(run.data, run.student, run.seed) for run in runs}) == 1
        assert len({run.recipe.model_copy(update={"stages": ()}) for run in runs}) == 1
        teachers = {name: plan.teacher(model, table6.ROLE, seed) for name, model in table6.TEACHERS.items()}
        for run in runs:
            assert run.teachers.items() <= teachers.items() and set(run.recipe.teachers) == set(run.teachers)
    by_name = dict(zip(names, rows, strict=True))
    assert by_name[table6.AVER].runs[0].recipe.teachers == ("small", "big", "third")
    small, big, hard = by_name[table6.PAPER].runs[0].recipe.stages
    assert (small.teacher, big.teacher, hard.teacher) == ("small", "big", None)


def test_the_rows_of_all_at_once_are_what_the_command_trains(made):
    _, rows, _ = made
    here = {(row.label, row.reading): row.runs[0] for row in rows}
    networks = {f"{name}_teacher".removeprefix("big_"): model for name, model in table6.TEACHERS.items()}
    asked = {"student": table6.STUDENT, "role": table6.ROLE, "preset": "smoke", "source": "embedded"} | networks
    for row, temperature in ((table6.ONE, "together"), (table6.EACH, "graduation")):
        assert here[row] == Settings(**asked, temperature=temperature).run()


def test_rows_that_table_5_has_are_the_same_runs(made):
    plan, rows, _ = made
    here = {(row.label, row.reading): row.runs[0] for row in rows}
    there = {(row.label, row.reading): row.runs[0] for row in table5.table(plan, 1)}
    assert here[table6.HARD] == there[table5.HARD] and here[table6.ALONE["big"]] == there[table5.FIXED]


def test_a_row_of_the_readers_own_may_name_all_three(made):
    plan, _, _ = made
    own = {
        ("mine", "third alone"): table6.alone("third"),
        ("mine", "three steps"): PROCEDURES["adaptive", "three steps"],
    }
    *_, third, steps = table6.table(plan, 1, own)
    assert third.runs[0].recipe.teachers == ("third",) and steps.runs[0].recipe.teachers == ("small", "big")


def test_claims_are_differences_by_seed_and_the_best_single_teacher_is_that_of_the_mean():
    small, big, third = table6.ALONE.values()
    top1 = {table6.AVER: (0.7, 0.8), small: (0.9, 0.1), big: (0.6, 0.6), third: (0.5, 0.2)}
    top1 |= {table6.ONE: (0.8, 0.8), table6.EACH: (0.6, 0.4)}
    frame = measured(test_top1=top1, teacher_flops=top1, role="cifar-100")
    found = {(claim.text, claim.against): claim for claim in table6.claims(frame)}
    assert len(found) == len(table6.claims(frame))
    single = found["several teachers beat the best single one", ", ".join(big)]
    assert single.differences.tolist() == pytest.approx([10, 20])
    each = found["one t each, with graduation, beats one for all", ", ".join(table6.ONE)]
    assert each.differences.tolist() == pytest.approx([-20, -40])
    saved = found["graduation saves teachers' FLOPs", ", ".join(table6.ONE)]
    assert saved.differences.tolist() == pytest.approx([25, 50]) and saved.unit == "%"


def test_rows_that_failed_keep_their_place_in_table_and_pictures(made):
    plan, rows, _ = made
    failed = {run: Failure(run, "the loss is not a finite number at step 3", 3) for run in runs_of(rows)}
    nothing = collect(rows, failed)
    assert set(table6.summary(nothing)["test Top-1"]) == {"diverged"}
    assert table6.verdicts(nothing, plan)["verdict"].str.startswith("no verdict").all()
    said, _ = several_figures.graduation_figure(plan, rows[-1], rows[-3], failed)
    assert said.title == "When do teachers graduate?" and "not a finite number at step 3" in said.html


def test_a_graduate_is_drawn_to_the_temperature_at_which_it_graduates():
    """Also the last one: the record has the mean of all after the stage's last step, (1.5 + 1.2) / 2."""
    steps = {"step": [1, 2, 3, 4], "epoch": [0.25, 0.5, 0.75, 1], "stage": ["both"] * 3 + ["hard labels"]}
    t = {"t": [20, 13, 4.75, None], "t_small": [20, 10, 1.5, None], "t_big": [20, 16, 8, None]}
    pulls = {"t_used": [20, 13, 8, None], "pull_small": [0.1, 0.2, None, None], "pull_big": [0.1, 0.2, 0.3, None]}
    stages = [{"steps": 3, "ended_by": "temperature", "t_end": 1.35}, {"steps": 1, "ended_by": "budget", "t_end": None}]
    teachers = {name: SimpleNamespace(student=SimpleNamespace(title=name)) for name in ("small", "big")}
    run = SimpleNamespace(
        run=SimpleNamespace(teachers=teachers), steps=pd.DataFrame(steps | t | pulls),
        epochs=pd.DataFrame({"epoch": [1]}), metrics={"stages": stages},
    )  # fmt: skip
    heat, pull = ([line.get_xydata() for line in ax.lines] for ax in several_figures.graduation(run, run).axes)
    paper, small, small_dot, big, big_dot, _ = heat
    assert paper.tolist() == [[1, 20], [2, 13], [3, 4.75], [4, 1.35]]
    assert small.tolist() == [[1, 20], [2, 10], [3, 1.5]] and small_dot.tolist() == [[3, 1.5]]
    assert big == pytest.approx(np.array([[1, 20], [2, 16], [3, 8], [4, 1.2]])) and big_dot[0] == pytest.approx(big[-1])
    assert [line[-1].tolist() for line in pull] == [[2, 0.2]] * 2 + [[3, 0.3]] * 2
    assert several_figures.graduates(run) == "Two teachers graduate"
    run.metrics["stages"][0]["ended_by"] = "budget"
    assert several_figures.graduates(run) == "1 of 2 teachers graduates"


def test_the_table_has_all_rows_and_names_the_teachers(made):
    plan, rows, frame = made
    table = several_figures.table_6(plan, rows, frame)
    assert all(word in unescape(table.html) for row in rows for word in row.reading.split())
    assert "VGG-16 (small), ResNet-34 (big) and CNN (third) teach the CNN" in table.html
    shown = table6.summary(frame)
    assert shown["teachers"].tolist() == [row.reading for row in rows]
