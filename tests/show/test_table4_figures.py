"""Table 4's pictures from runs that nobody trained: what is drawn of which row, and what stands where a row failed."""

from __future__ import annotations

from dataclasses import replace

import made_cache
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from small_trainings import cnn, dataset

from kit.data.augment import normalise
from kit.grid import train_all
from kit.methods import search
from kit.methods.complexity import complexity
from kit.methods.rows import METHODS
from kit.networks.flops import flops_per_image
from kit.paper import table4
from kit.paper.plan import Plan
from kit.runs.store import Failure, Result
from kit.show import table4_figures as drawn

WHY = "the loss is not a finite number at step 3"
SEEDS = 2


def made(runs, *how):
    made_cache.make_all(runs)
    return train_all(runs, jobs=1, show_progress=False)


@pytest.fixture(scope="module")
def comparison():
    """All rows from two seeds; the cache is that of all tests, so the first seed is one that no other test has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made_cache, "DIVERGING", 0.0)
        patch.setattr(table4, "train_all", made)
        patch.setattr(search, "train_all", made)
        return table4.compare(Plan.of("smoke", first_seed=7300), SEEDS, show_progress=False, equal_time=True)


def failed(comparison, *keys):
    """The same, all of whose rows with these keys failed; without ours no time is there that others could be given."""
    rows = [replace(row, outcome=Failure(row.procedure.final, WHY)) if row.method.key in keys else row
            for row in comparison.rows if row.budget == "steps" or "ours" not in keys]  # fmt: skip
    return replace(comparison, rows=tuple(rows))


def texts(shown) -> str:
    figure = shown if isinstance(shown, Figure) else shown.picture()
    return " ".join(text.get_text() for at in (figure, *figure.axes) for text in at.texts).replace("\n", " ")


def test_a_curve_of_the_assistants_picture_is_of_one_row(comparison):
    figure, numbers = drawn.chain_figure(comparison)
    assert numbers["seeds"].max() == SEEDS == len(comparison.settings)
    last = numbers.groupby("label").tail(1).set_index("label")["epoch"]
    split, given = (last[f"student of {which} assistant"] for which in ("the", "a given"))
    assert split + last["assistant 1: VGG-16"] == given == table4.EPOCHS["smoke"]
    assert "student of a given assistant" in texts(figure)


def test_complexity_is_of_images_of_all_classes():
    """A split that is ordered by class: whose first images are of its first classes."""
    data = dataset(classes=6, test=30)
    order = data.test.labels.argsort(stable=True)
    data = replace(data, test=replace(data.test, images=replace(data.test.images, pixels=data.test.images.take(order)),
                                      labels=data.test.labels[order]))  # fmt: skip
    network, found = cnn(0).eval(), []
    for i in np.linspace(0, 29, 6).astype(int):
        x = normalise(data.test.images.take(torch.tensor([i])), *data.mean_std).requires_grad_()
        network(x).log_softmax(1)[0, data.test.labels[i]].backward()
        found.append(x.grad.norm().item())
    assert complexity(network, data, 6).tolist() == pytest.approx(found, rel=1e-4)
    assert len(complexity(network, data, 500)) == 30


def test_the_complexity_picture_counts_the_images_that_there_are(comparison, monkeypatch):
    monkeypatch.setattr(Result, "student", lambda self: self.run.student.build(0))
    figure, numbers = drawn.complexity_figure(comparison)
    images = len(comparison.setting.data.load().test)
    assert images < 500 and len(numbers) == images and f"quartiles of {images} test images" in texts(figure)


def test_the_searchs_line_is_at_its_target(comparison):
    setting = comparison.setting
    own = flops_per_image(setting.student, setting.data.px)[0] / 1e6
    for target, at, named in ((None, own, "VGG-19 (the target)"), (1e6, 1.0, "the target")):
        settings = {seed: replace(each, cost_target=target) for seed, each in comparison.settings.items()}
        right = drawn.search_figure(replace(comparison, settings=settings)).axes[1]
        (note,), line = right.texts, right.lines[-1]
        assert (note.get_text(), line.get_xdata()[0]) == (named, pytest.approx(at))


ROWS = tuple(dict.fromkeys(method.key for method in METHODS))


@pytest.mark.parametrize("keys", [("ours",), ("[13]",), ("[9]", "hinton"), ROWS])
def test_a_row_that_failed_costs_no_picture_of_the_others(comparison, monkeypatch, keys):
    monkeypatch.setattr(Result, "student", lambda self: self.run.student.build(0))
    lost = failed(comparison, *keys)
    for draw, of in ((drawn.chain_figure, ("[9]", "hinton")), (drawn.complexity_figure, ()),
                     (drawn.annealing_figure, ("[13]",)), (drawn.ours_figure, ("ours",))):  # fmt: skip
        shown = draw(lost)[0]
        assert isinstance(shown, Figure) == (not of or not {*of} <= {*keys})
        assert (WHY in texts(shown)) == (not isinstance(shown, Figure))
    drawn.search_figure(lost), drawn.removal_figure(lost), drawn.readings_figure(lost)
    for budget in table4.BUDGETS:
        assert "did not finish" in texts(drawn.table_4(lost, budget))
    table4.summary(lost.frame)


def test_searches_all_of_whose_candidates_failed_are_drawn(comparison):
    found = {}
    for method in (method for method in METHODS if method.search):
        for seed, setting in comparison.settings.items():
            searching = method.search(setting, seed)
            while not searching.is_over:
                searching.tell({run: Failure(run, WHY, 3) for run in searching.ask()})
            found[method.label, seed] = searching.found()
    lost = replace(comparison, found=found)
    assert len(drawn.removal_figure(lost)[1]) == len(found["[12] layer removal", 7300].log)
    assert "reward" in texts(drawn.search_figure(lost))


def test_both_tables_share_a_search_where_there_are_two(comparison):
    assert "shared by both tables: " in texts(drawn.table_4(comparison))
    alone = replace(comparison, rows=tuple(row for row in comparison.rows if row.budget == "steps"))
    assert "one search a seed: " in texts(drawn.table_4(alone))
