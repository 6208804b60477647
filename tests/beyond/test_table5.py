"""Table 5 of a cache that nobody trained: its rows, what it says of them, and its claims, recomputed by hand."""

from __future__ import annotations

from html import unescape
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from made_cache import make_all
from small_runs import measured

from kit.beyond import TABLES, table5
from kit.paper.plan import Plan, collect, runs_of
from kit.runs.store import Failure, Result, find
from kit.show import beyond_figures
from kit.show.plots import temperatures
from kit.siblings import SIBLINGS


@pytest.fixture(scope="module")
def made(module_cache):
    plan = Plan.of("smoke", {"cifar-100": "embedded"})
    rows = table5.table(plan, 3)
    make_all(runs_of(rows))
    return plan, rows, table5.run(plan, 3, jobs=1)


def test_every_sibling_is_a_row_under_the_same_budget(made):
    plan, rows, _ = made
    names = [(row.label, row.reading) for row in rows]
    assert names == [*table5.PROCEDURES] and names[-len(SIBLINGS) :] == [*SIBLINGS]
    for seed in range(3):
        runs = [row.runs[seed] for row in rows]
        assert len({(run.data, run.student, run.seed) for run in runs}) == 1
        assert len({run.recipe.model_copy(update={"stages": ()}) for run in runs}) == 1
        assert {teacher for run in runs for teacher in run.teachers.values()} == {
            plan.teacher(table5.BIG, table5.ROLE, seed)
        }
    raw, ours = (rows[names.index(name)].runs[0].recipe.stages[0].temperature for name in (table5.RAW, table5.OURS))
    assert ours.normalised and not raw.normalised
    assert TABLES["5"] is table5


def test_a_row_says_what_was_measured_and_what_is_printed_elsewhere(made):
    _, rows, frame = made
    shown = table5.summary(frame).set_index(["temperature", "reading"])
    assert shown.index.tolist() == [(row.label, row.reading) for row in rows]
    for row in rows:
        finished = [outcome for outcome in map(find, row.runs) if isinstance(outcome, Result)]
        alike = [result.metrics["agreement"]["top1"] for result in finished if "agreement" in result.metrics]
        said = shown.loc[(row.label, row.reading), "as the teacher %"]
        assert said.split(" ± ")[0] == (f"{100 * np.mean(alike):.1f}" if alike else "–")
    over_kd = np.mean(np.subtract(table5.TOP1["DKD"], table5.TOP1["T=4"]))
    assert shown.loc[("DKD", "β = 8"), "elsewhere, Top-1 over KD"] == f"{over_kd:+.1f}" == "+2.0"
    assert shown.loc[("NormKD", "2 · std"), "elsewhere, Top-1 over KD"] == ""
    own = table5.summary(frame.replace({"reading": {"β = 8": "mine"}})).set_index(["temperature", "reading"])
    assert own.loc[("DKD", "mine"), "elsewhere, Top-1 over KD"] == ""  # what is printed is of the sibling
    assert all(len(top1) == len(table5.PAIRS) for top1 in table5.TOP1.values())
    assert set(table5.TOP1) <= set(frame["temperature"])


def test_claims_are_differences_by_seed_and_the_best_sibling_is_found_at_each():
    ctkd, dkd = ("CTKD", "global"), ("DKD", "β = 8")
    top1 = {table5.OURS: (0.7, 0.8, 0.75), table5.FIXED: (0.6, 0.6, 0.6), ctkd: (0.65, 0.9, 0.7), dkd: (0.75, 0.1, 0.2)}
    frame = measured(test_top1=dict.fromkeys(SIBLINGS, (0.1, 0.1, 0.1)) | top1, role="cifar-100")
    found = {(claim.text, claim.against): claim for claim in table5.claims(frame)}
    fixed = ", ".join(table5.FIXED)
    assert found["CTKD beats a fixed temperature", fixed].differences.tolist() == pytest.approx([5, 30, 10])
    assert found["CTKD beats a fixed temperature", fixed].paper == "+0.7 points"
    ours = found["the adaptive temperature beats its sibling", "DKD, β = 8"].differences
    assert ours.tolist() == pytest.approx([-5, 70, 55])
    (best,) = (claim for claim in table5.claims(frame) if "no sibling" in claim.text)
    assert best.differences.tolist() == pytest.approx([-5, -10, 5]) and not best.quantity
    last = frame[(frame["temperature"] != "NormKD") | (frame["seed"] > 0)]
    (open_at_one,) = (claim for claim in table5.claims(last) if "no sibling" in claim.text)
    assert open_at_one.differences.tolist() == pytest.approx([-10, 5])  # NormKD might have been the best at the first
    assert len(found) == len(table5.claims(frame)) == 7 + 2 * len(SIBLINGS)


def test_rows_that_failed_keep_their_place_and_their_claims(made):
    plan, rows, _ = made
    nothing = collect(
        rows, {run: Failure(run, "the loss is not a finite number at step 3", 3) for run in runs_of(rows)}
    )
    shown = table5.summary(nothing)
    assert set(shown["test Top-1"]) == {"diverged"} and set(shown["seeds"]) == {"0, 3 diverged"}
    verdicts = table5.verdicts(nothing, plan)
    assert len(verdicts) == 7 + 2 * len(SIBLINGS) and verdicts["verdict"].str.startswith("no verdict").all()


# ---- pictures --------------------------------------------------------------------------------------------------------


def words(figure) -> set[str]:
    return {text.get_text().replace("\n", " ") for ax in figure.axes for text in ax.texts}


def test_the_table_and_its_picture_have_the_same_cells(made):
    plan, rows, frame = made
    table = beyond_figures.table_5(plan, rows, frame)
    drawn = words(table.picture())
    assert {"elsewhere", "DIST", "2.0"} <= drawn
    assert all(row.reading in drawn and row.reading in unescape(table.html) for row in rows)
    assert "under another protocol" in table.html


def test_fixed_temperatures_share_a_line_and_those_by_image_have_a_band():
    own = {"t_used": [3.0, 4.0, 5.0, 6.0], "t_least": 1.5, "t_most": [9.0, 8.0, 7.0, 7.0]}
    runs = {
        "falls": run_at([8.0, 4.0, 2.0, 1.5], 1.0), "DKD": run_at(4.0, 4.0), "own": run_at(2.0, 2.0, **own),
        "DIST": run_at(4.0, 4.0),
    }  # fmt: skip
    together, own = temperatures(runs).axes
    assert {text.get_text() for text in together.texts} == {"falls", "DKD, DIST: 4"}
    assert {text.get_text() for text in own.texts} == {"own"}
    (band,) = own.collections
    assert band.get_datalim(own.transData).intervaly.tolist() == [1.5, 9.0]
    assert [3.0, 3.5, 4.5, 5.5] in [list(line.get_ydata()) for line in own.lines]  # two batches make an epoch
    drawn = [line.get_xydata().T.tolist() for line in together.lines if len(line.get_xydata()) == 5]
    begun = [0, 0.5, 1, 1.5, 2]  # a batch; and the end of the last one
    assert drawn == [[begun, [8, 4, 2, 1.5, 1]], [begun, [4] * 5]]


def run_at(t, t_end: float, **more) -> SimpleNamespace:
    """Two epochs of two batches, at a temperature each, and what the last one made of it."""
    steps = pd.DataFrame({"step": range(1, 5), "epoch": np.linspace(0.5, 2, 4), "stage": "soft", "t": t, "t_used": t})
    stages = [{"steps": 4, "ended_by": "budget", "t_end": t_end}]
    return SimpleNamespace(
        steps=steps.assign(**more), epochs=pd.DataFrame({"epoch": [1, 2]}), metrics={"stages": stages}
    )


def test_without_a_finished_run_a_table_says_what_became_of_each(made):
    plan, rows, _ = made
    results = {run: Failure(run, "the loss is not a finite number at step 3", 3) for run in runs_of(rows)}
    said = beyond_figures.temperatures_figure(plan, rows, results, "Nothing")
    assert said.title == "Nothing" and "not a finite number at step 3" in said.html
