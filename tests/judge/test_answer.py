"""Every branch of the sentence, on frames made by hand; and how often it recommends what does not help."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from small_runs import labelled

from kit.judge.answer import MEASURE, judge, recommendation, summary, told_of
from kit.judge.question import Question
from kit.paper.claims import FAILS, HOLDS, NONE, OPEN, Claim, judged
from kit.paper.plan import MEASURED

METHODS = Question(preset="smoke").methods
TEN = labelled(*[1000] * 10)
NOISE = {3: (-0.4, 0.1, 0.3), 5: (-0.4, 0.2, 0.1, -0.2, 0.3), 2: (-0.1, 0.1), 1: (0.0,)}


def frame(*tops: float | None, seeds: int = 5, flops: tuple[float, ...] = (1, 2, 3, 4), scale: float = 1.0):
    """Rows of these mean test Top-1 in %, seeds scattering a little and each row in its own order; None: all failed."""
    lines = []
    for row, (method, top) in enumerate(zip(METHODS, tops, strict=True)):
        for seed in range(seeds):
            line = {"temperature": method.label, "reading": method.reading, "role": "own", "group": "", "seed": seed}
            if top is None:
                lines.append(line | {"status": "diverged: at step 3"})
                continue
            value = (top + scale * NOISE[seeds][(seed + row) % seeds]) / 100
            measured = dict.fromkeys(("train_top1", "test_top1", "test_top5"), value)
            cost = {"student_flops": flops[row] * 1e9, "teacher_flops": 0.0, "all_flops": flops[row] * 1e9}
            lines.append(
                line | {"status": "finished", **measured, **cost, "seconds": 1.0, "all_seconds": 2.0, "soft_end": 1.0}
            )
    made = pd.DataFrame(lines)
    return made.reindex(columns=list(dict.fromkeys([*made, MEASURE, *MEASURED, "all_seconds", "all_flops"])))


def said(made: pd.DataFrame, classes: int = 10) -> str:
    data = labelled(*[1000] * classes)
    return recommendation(METHODS, made, judge(METHODS, made, {"own": data}), data)


def test_ordinary_distillation_helps_and_nothing_more_can_be_told():
    sentence = said(frame(80, 83, 83.1, 83.0))
    assert sentence.startswith("On pets (5 seeds) ordinary distillation helps (+3.0 ± ")
    assert (
        " points over hard labels); the adaptive temperature and the small teacher cannot be told from it (" in sentence
    )
    assert " and cost 1.5 and 2.0 times as much, teachers included: use ordinary distillation" in sentence
    assert "; a gain as large as that of the adaptive temperature here (+0.1 points) would take " in sentence


def test_rows_that_are_equal_cannot_be_told_apart():
    sentence = said(frame(100, 100, 100, 100, seeds=3, scale=0))
    assert "is worse" not in sentence and "are worse" not in sentence
    assert "cannot be told from hard labels (+0.0 ± 0.0" in sentence and sentence.endswith("use hard labels.")


def test_each_step_up_is_a_verdict_over_the_choice_before_it():
    sentence = said(frame(80, 83, 86, 89))
    assert sentence.endswith(": use the small teacher.")
    for step in (
        "ordinary distillation helps (+3.0",
        "the adaptive temperature helps (+3.0",
        "the small teacher helps (+3.0",
    ):
        assert step in sentence
    assert "over hard labels" in sentence and "over ordinary distillation" in sentence


def test_the_adaptive_temperature_alone_may_be_what_helps():
    sentence = said(frame(80, 80.1, 85, 85))
    assert sentence.startswith("On pets (5 seeds) the adaptive temperature helps (+5.0 ± ")
    assert "ordinary distillation is worse than it (-4.9 ± " in sentence
    assert "the small teacher cannot be told from it (" in sentence and "use the adaptive temperature" in sentence


def test_nothing_helps():
    sentence = said(frame(80, 77, 76, 77))
    assert (
        "ordinary distillation, the adaptive temperature and the small teacher are worse than hard labels (" in sentence
    )
    assert sentence.endswith(" and cost 2.0, 3.0 and 4.0 times as much, teachers included: use hard labels.")


def test_nothing_can_be_told_and_what_it_would_need():
    sentence = said(frame(80, 80.2, 79.8, 80.1, seeds=3, scale=3))
    assert (
        "cannot be told from hard labels (" in sentence and ": use hard labels; a gain as large as that of " in sentence
    )
    assert "over 100 seeds to tell." in sentence
    behind = said(frame(80, 79.9, 79.8, 79.9, seeds=3, scale=3))
    assert behind.endswith("use hard labels.")  # nobody is ahead: nothing to wait for


def test_a_cheaper_row_that_is_told_better_than_the_choice_is_the_choice():
    """Ordinary distillation scatters too much to be told from hard labels, yet is told from the adaptive rows."""
    made = frame(80, 83, 81, 81)
    verdicts = judge(METHODS, made, {"own": TEN})
    verdicts.loc[0, "verdict"] = OPEN  # of ordinary distillation over hard labels
    sentence = recommendation(METHODS, made, verdicts, TEN)
    assert "the adaptive temperature helps (+1.0 ± " in sentence and "use ordinary distillation" in sentence


def test_a_dearer_row_better_than_the_one_before_alone_is_not_recommended():
    sentence = said(frame(80, 77, 80.0, 77))
    assert sentence.endswith("use hard labels.") or "use hard labels; a gain" in sentence
    assert "the adaptive temperature cannot be told from hard labels" in sentence


def test_one_seed_tells_nothing():
    assert said(frame(80, 90, 95, 99, seeds=1)) == (
        "On pets (1 seed) nothing can be told: one seed has no interval, so ask for three or more, better five."
    )


def test_at_chance_nothing_is_recommended():
    sentence = said(frame(10, 10.1, 10, 9.9, scale=5))
    assert "not even the best row is told from guessing: T=4, hinton (chance 10 %)" in sentence
    assert "use " not in sentence
    assert "use " in said(frame(10, 10.1, 10, 9.9, scale=5), classes=1000)  # where chance is 0.1 %


def test_where_one_row_alone_may_be_guessing_another_is_used():
    """Hard labels scatter around chance, so that no dearer row is told from them; ordinary distillation does not."""
    made = frame(12, 14, 10, 10)
    made.loc[made["temperature"] == "hard labels", "test_top1"] += [0.08, -0.08, 0.05, -0.05, 0.0]
    sentence = said(made)
    assert "best row" not in sentence and sentence.endswith(": use ordinary distillation.")
    assert "hard labels, the adaptive temperature and the small teacher are not told from guessing; " in sentence
    assert "hard labels cannot be told from ordinary distillation" in sentence


def lose(made: pd.DataFrame, label: str, *seeds: int) -> None:
    """Takes what was measured of a row at these seeds away."""
    gone = (made["temperature"] == label) & made["seed"].isin(seeds)
    made.loc[gone, ["test_top1", "all_flops"]] = math.nan
    made.loc[gone, "status"] = "did not finish: killed"


def test_a_row_that_shares_no_two_seeds_is_not_what_is_used():
    made = frame(80, 83, 86, 86)
    lose(made, "hard labels", 1, 2, 3, 4)
    sentence = said(made)
    assert sentence.startswith("On pets (5 seeds) the adaptive temperature helps (+3.0 ± ")
    assert "; hard labels has fewer than two seeds in common with it and costs " in sentence
    for label in ("T=4", "adaptive"):
        lose(made, label, 1, 2, 3, 4)
    assert "nothing can be told: no two rows have two seeds in common, so ask" in said(made)


def test_a_row_of_which_nothing_finished_is_said_and_left_out():
    sentence = said(frame(80, None, 83, 83.1))
    assert sentence.startswith(
        "On pets (5 seeds) ordinary distillation did not finish, and the adaptive temperature helps"
    )
    table = summary(METHODS, frame(80, None, 83, 83.1))
    assert table.loc[1, "test Top-1"] == "diverged" and table.loc[1, "seeds"] == "0, 5 diverged"
    sentence = said(frame(None, 80, 83, None))
    assert sentence.startswith("On pets (5 seeds) hard labels and the small teacher did not finish, and ")
    assert said(frame(80, None, None, None)).endswith("did not finish, and nothing can be compared: no recommendation.")
    assert said(frame(None, None, None, None)).endswith("and nothing can be compared: no recommendation.")


def test_rows_that_share_no_two_seeds_are_said():
    made = frame(80, 83, 83, 83)
    lose(made, "T=4", 1, 2, 3, 4)
    assert "ordinary distillation has fewer than two seeds in common with it and costs" in said(made)


def test_a_verdict_turned_round_is_the_same_verdict():
    made = frame(80, 83, 83, 79)
    verdicts = judge(METHODS, made, {"own": TEN})
    told = told_of(METHODS, verdicts)
    for (a, b), line in zip(combinations(METHODS, 2), verdicts.itertuples(), strict=True):
        forth, back = told[b, a], told[a, b]
        assert (forth.effect, forth.verdict) == (line.effect, line.verdict)
        assert back.effect == -forth.effect and back.half == forth.half
        assert {HOLDS: FAILS, FAILS: HOLDS}.get(forth.verdict, forth.verdict) == back.verdict
    assert {line.verdict for line in verdicts.itertuples()} == {HOLDS, FAILS, OPEN}
    assert NONE not in set(verdicts["verdict"])


def test_rows_that_are_equal_differ_by_no_signed_zero():
    told = told_of(METHODS, judge(METHODS, frame(90, 90, 90, 90, scale=0), {"own": TEN}))
    assert {str(gain)[:4] for gain in told.values()} == {"+0.0"}


def test_effects_are_paired_differences_in_points():
    made = frame(80, 83, 83, 79)
    wide = made.pivot_table(index="seed", columns=["temperature", "reading"], values="test_top1")
    for (a, b), line in zip(combinations(METHODS, 2), judge(METHODS, made, {"own": TEN}).itertuples(), strict=True):
        assert line.effect == pytest.approx(100 * (wide[b.key] - wide[a.key]).mean())


def test_two_classes_have_no_top_5():
    made = frame(80, 81, 82, 83)
    assert "test Top-5" in summary(METHODS, made) and "test Top-5" not in summary(
        METHODS, made.drop(columns="test_top5")
    )


@pytest.mark.parametrize("seeds", [3, 5])
def test_where_nothing_helps_anything_but_hard_labels_is_rarely_recommended(seeds):
    """Four rows without an effect, seeds in common and of their own: at most 5 % of tables recommend to be taught."""
    rng, tables, wrong = np.random.default_rng(seeds), 200, 0
    for _ in range(tables):
        rows = 2 * rng.standard_normal((len(METHODS), seeds)) + 3 * rng.standard_normal(seeds)
        pairs = [pd.Series(b - a) for a, b in combinations(rows, 2)]  # the first three are over hard labels
        verdicts = judged([Claim("", "", "", "points", pair, "", MEASURE) for pair in pairs])["verdict"]
        wrong += (verdicts[: len(METHODS) - 1] == HOLDS).any()
    assert wrong / tables <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / tables)
