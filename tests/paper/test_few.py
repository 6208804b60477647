"""Small numbers: one image a class, two classes, one seed. Every table works, or says in a line what is too little."""

from __future__ import annotations

import pytest
from image_trees import build_tree
from made_cache import make_all

from kit.beyond import TABLES
from kit.errors import KitError
from kit.grid import train_all
from kit.methods import METHODS
from kit.paper import table1, table2, table4
from kit.paper.claims import NONE
from kit.paper.plan import Plan, collect, runs_of
from kit.paper.printed import TABLE_3
from kit.paper.settings import Settings
from kit.show import beyond_figures, paper_figures, several_figures


@pytest.fixture
def two_images(own_cache, tmp_path):
    """A folder with one image of either class in either split."""
    return build_tree(tmp_path / "pets", ("cat", "dog"), (1, 1), "test")


def test_a_student_and_its_teachers_train_on_one_image_a_class(two_images):
    settings = Settings(
        student="cnn", teacher="cnn", small_teacher="cnn", role="cifar-10", preset="smoke", data=str(two_images)
    )
    run = settings.run()
    assert (run.data.classes, run.data.train_images) == (2, 2)
    metrics = train_all([run], jobs=1)[run].metrics
    assert metrics["test_top1"] in (0.0, 0.5, 1.0) and metrics["test_top5"] == 1.0


def test_a_table_of_one_seed_and_two_classes_has_no_verdict_and_a_picture(two_images):
    plan = Plan.of("smoke", folder=two_images)
    rows = table2.table(plan, 1)
    make_all(runs_of(rows))
    frame = table2.run(plan, 1, jobs=1)
    claims = table2.verdicts(frame, plan)
    assert set(claims["verdict"]) == {NONE}
    paper_figures.table_2(plan, rows, frame).picture()
    paper_figures.verdicts(plan, rows, claims, "Judged").picture()


@pytest.mark.parametrize("number", ["1", "2", "3", "5", "6"])
def test_a_table_of_two_classes_has_no_top_5(number, two_images):
    plan, table = Plan.of("smoke", {"cifar-10": "real", "cifar-100": "real"}, two_images), TABLES[number]
    of_cifar = {"1": [("cifar-10",)], "3": [[each for each in TABLE_3 if each.role.startswith("cifar")]]}
    rows = table.table(plan, 2, *of_cifar.get(number, []))
    make_all(runs_of(rows))
    frame = collect(rows, train_all(runs_of(rows), jobs=1))
    draw = {"5": beyond_figures.table_5, "6": several_figures.table_6}
    draw |= {each: getattr(paper_figures, f"table_{each}") for each in "123"}
    shown = draw[number](plan, rows, frame)
    picture = shown.picture()
    drawn = {text.get_text() for ax in picture.axes for text in ax.texts}
    named = {*table.summary(frame), *table.verdicts(frame, plan)["claim"], *drawn}
    assert {"test Top-1", "test Top-1 %"} <= named and not any("Top-5" in name for name in named if "paper" not in name)
    assert "Top-5" not in shown.html


def test_table_4_of_two_classes_judges_no_top_5(two_images, monkeypatch):
    def making(runs, *how):
        make_all(runs)
        return train_all(runs, *how)

    monkeypatch.setattr(table4, "train_all", making)
    plan, methods = Plan.of("smoke", {"cifar-100": "real"}, two_images), [each for each in METHODS if not each.search]
    frame = table4.compare(plan, 2, 1, methods=methods, show_progress=False).frame
    claims = table4.verdicts(frame, plan)
    named = [*table4.summary(frame), *claims["claim"]]
    assert "test Top-1" in named and not any("Top-5" in name for name in named if "paper" not in name)


def test_where_one_role_alone_has_two_classes_the_others_keep_their_top_5(two_images):
    plan = Plan.of("smoke", {"cifar-10": "real", "cifar-100": "embedded"}, two_images)
    rows = table1.table(plan, 1, ("cifar-10", "cifar-100"))
    make_all(runs_of(rows))
    shown = table1.summary(collect(rows, train_all(runs_of(rows), jobs=1)))
    assert (shown["test Top-5"] == "–").tolist() == (shown["role"] == "cifar-10").tolist()


def test_a_search_needs_images_to_hold_out(two_images):
    with pytest.raises(
        KitError, match="2 training images of .* are too few to hold 40% of a class out; allowed: a class"
    ):
        table4.compare(Plan.of("smoke", folder=two_images), 1, 1)
