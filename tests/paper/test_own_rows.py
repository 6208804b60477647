"""A procedure of one's own, with a temperature of one's own, as a row of Tables 2 and 3."""

from __future__ import annotations

import re
from typing import Literal

import made_cache
import numpy as np
import pandas as pd
import pytest
import torch
from made_cache import make_all
from small_runs import measured

from kit import recipe
from kit.beyond import table5, table6
from kit.errors import KitError
from kit.paper import printed, table2, table3
from kit.paper.plan import Plan, runs_of
from kit.runs.store import find
from kit.show import paper_figures
from kit.temperature import Fixed


class ByImage(Fixed):
    """Images of which the teacher is sure are softened more."""

    kind: Literal["by image"] = "by image"

    def given(self, t: float, at) -> torch.Tensor:
        return 1 + (t - 1) * at.zt.softmax(1).amax(1, keepdim=True)  # (N, 1)


MINE = ("mine", "by image")
OWN = {MINE: lambda epochs: recipe.big_teacher_only(ByImage(T=5))}


def test_a_temperature_of_ones_own_is_a_row_of_table_2(own_cache, monkeypatch):
    monkeypatch.setattr(made_cache, "DIVERGING", 0)
    plan = Plan.of("smoke")
    rows = table2.table(plan, 1, own=OWN)
    make_all(runs_of(rows))  # that it trains is tested with the policies themselves
    assert rows[:-1] == table2.table(plan, 1) and (rows[-1].label, rows[-1].reading) == MINE
    frame = table2.run(plan, 1, jobs=1, own=OWN)
    result = find(rows[-1].runs[0])
    shown = table2.summary(frame).set_index(["temperature", "reading"])
    assert shown.index.tolist() == [*table2.PROCEDURES, MINE]
    assert shown.loc[MINE, "test Top-1"] == f"{100 * result.metrics['test_top1']:.1f}"
    assert shown.loc[MINE, ["paper Top-1", "paper Top-5", "paper time s", "seeds"]].tolist() == ["", "", "", "1"]
    without = frame[frame["temperature"] != "mine"]
    assert shown.drop(index=[MINE]).reset_index().equals(table2.summary(without))
    assert table2.verdicts(frame, plan).equals(table2.verdicts(without, plan))  # they are about the paper's rows
    words = [text.get_text() for ax in paper_figures.table_2(plan, rows, frame).picture().axes for text in ax.texts]
    assert "mine" in words


@pytest.mark.parametrize("table", [table2, table3, table5, table6])
def test_it_is_judged_against_each_of_the_papers_rows(table):
    """By the mean over configurations, of the seeds at which all finished, apart from the paper's claims."""
    rng, roles, seeds = np.random.default_rng(0), ("cifar-10", "imagenet") if table is table3 else ("cifar-100",), 4
    keys = [*table.PROCEDURES, MINE]
    top1 = rng.uniform(0.5, 0.9, (len(roles), len(keys), seeds))
    frames = [
        measured(test_top1=dict(zip(keys, of_role, strict=True)), group=role, role=role)
        for role, of_role in zip(roles, top1, strict=True)
    ]
    frame = pd.concat(frames, ignore_index=True)
    lost = (frame["temperature"] == "mine") & (frame["seed"] == 3) & (frame["role"] == roles[-1])
    frame.loc[lost, "test_top1"] = None
    judged = table.own_verdicts(frame, Plan.of("smoke"))
    assert set(judged["claim"]) == {"mine, by image raises test Top-1"} and set(judged["n"]) == {3}
    assert judged["against"].tolist() == [", ".join(key) for key in table.PROCEDURES]
    wanted = 100 * (top1[:, -1:] - top1[:, :-1])[:, :, :3].mean(axis=(0, 2))
    assert judged["effect"].tolist() == pytest.approx(wanted.tolist())
    assert table.own_verdicts(frame[frame["temperature"] != "mine"], Plan.of("smoke")).empty


def test_it_stands_in_every_configuration_of_table_3():
    some = list(printed.TABLE_3)[:2]
    rows = table3.table(Plan.of("smoke"), 1, some, own=OWN)
    assert [row.group for row in rows if (row.label, row.reading) == MINE] == [table3.title(each) for each in some]
    assert [run.student.name for row in rows if row.label == "mine" for run in row.runs] == ["vgg16", "vgg19"]
    assert table3.printed(table3.title(some[0]), *MINE) is printed.UNPRINTED


def test_a_configuration_of_ones_own_stands_in_table_3_with_nothing_printed(own_cache, monkeypatch):
    monkeypatch.setattr(made_cache, "DIVERGING", 0)
    mine = printed.Configuration("cifar-10", "vgg19", "resnet34", "vgg16")
    plan, both = Plan.of("smoke"), [mine, table3.FIRST]
    rows = table3.table(plan, 1, both)
    make_all(runs_of(rows))
    frame = table3.run(plan, 1, jobs=1, configurations=both)
    shown = table3.summary(frame).groupby("configuration")["paper Top-5"].agg(list)
    assert shown[table3.title(mine)] == [""] * 5 and "" not in shown[table3.title(table3.FIRST)]
    words = [text.get_text() for ax in paper_figures.table_3(plan, rows, frame).picture().axes for text in ax.texts]
    assert "CIFAR-10 · VGG-19, ResNet-34 → VGG-16" in words
    assert set(table3.verdicts(frame, plan)["verdict"]) == {"no verdict: fewer than two seeds"}


@pytest.mark.parametrize("table", [table2, table3, table5, table6])
def test_a_name_of_the_tables_is_refused(table):
    """Else its runs would stand, and be judged, under the name of another procedure."""
    for label, reading in table.PROCEDURES:
        with pytest.raises(KitError, match=re.escape(f"'{label}, {reading}' is one of the table's; allowed: another")):
            table.table(Plan.of("smoke"), 1, own={(label, reading): lambda epochs: recipe.eq1(5)})


@pytest.mark.parametrize("name", ["me", ("mine", "by image", "T=5")])
def test_a_name_that_is_not_two_words_is_refused(name):
    with pytest.raises(KitError, match=re.escape(f"procedure {name!r} is not allowed; allowed: a label and a read")):
        table2.table(Plan.of("smoke"), 1, own={name: lambda epochs: recipe.eq1(5)})
