"""How often verdicts are wrong and intervals hold the truth: on simulated tables, and limma's numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from kit.paper.claims import OPEN, Claim, judged, moderated, prior_df

LIMMA = json.loads((Path(__file__).parent / "limma.json").read_text())  # made by limma.R
UNEVEN = (3.0, 8.0)  # points: between which rows' standard deviations over seeds lie (docs/evidence.md)
ALIKE = (5.0, 5.0)


def table(rng: np.random.Generator, effects: np.ndarray, seeds: int, scatter: tuple[float, float]) -> list[Claim]:
    """Our row less each of some baselines in two quantities; claims' effects are (2, baselines), in points.

    Rows scatter log-uniformly, and besides by what all rows of a seed have in common.
    """
    found = []
    for quantity, row in zip(("Top-1", "Top-5"), effects, strict=True):
        sd = np.exp(rng.uniform(*np.log(scatter), len(row) + 1))
        rows = sd[:, None] * rng.standard_normal((len(sd), seeds)) + 4 * rng.standard_normal(seeds)
        found += [
            Claim("", "", "", "points", pd.Series(effect + rows[0] - theirs), "", quantity)
            for effect, theirs in zip(row, rows[1:], strict=True)
        ]
    return found


@pytest.mark.parametrize(
    ("baselines", "seeds", "scatter"), [(4, 3, UNEVEN), (4, 3, ALIKE), (12, 3, UNEVEN), (4, 5, UNEVEN)]
)
def test_without_an_effect_verdicts_are_rare_and_intervals_hold_zero(baselines, seeds, scatter):
    rng, tables = np.random.default_rng(baselines), 250
    frames = [judged(table(rng, np.zeros((2, baselines)), seeds, scatter)) for _ in range(tables)]
    spoken = [(frame["verdict"] != OPEN).any() for frame in frames]
    assert np.mean(spoken) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / tables)  # tables with any verdict at all
    wrong = [(frame["p"] < 0.05).mean() for frame in frames]  # of intervals at 95 %, those without zero
    assert np.mean(wrong) <= 0.05 + 2 * np.std(wrong) / math.sqrt(tables)


def test_of_the_verdicts_told_few_are_wrong():
    rng, tables, effects = np.random.default_rng(1), 250, np.array([[0, 0, 15, 30], [0, 0, -15, -30]])
    share, right = [], []
    for _ in range(tables):
        frame = judged(table(rng, effects, 3, UNEVEN))
        told, none = (frame["verdict"] != OPEN).to_numpy(), effects.ravel() == 0
        share.append((told & none).sum() / max(1, told.sum()))
        right.append(
            ((frame["low"] <= effects.ravel()) & (effects.ravel() <= frame["high"]))[told].mean() if told.any() else 1
        )
    assert np.mean(share) <= 0.05 + 2 * np.std(share) / math.sqrt(tables)
    assert np.mean(right) >= 0.95 - 2 * np.std(right) / math.sqrt(tables)  # intervals of the claims told


@pytest.mark.parametrize(("seeds", "effect"), [(3, 1.0), (3, 4.0), (5, 1.0), (5, 2.0)])
def test_alone_a_claims_power_is_that_of_students_t(seeds, effect):
    """Power is the noncentral t's: P(|t| > t₀.₉₇₅) at noncentrality √n·effect/sd."""
    rng, claims = np.random.default_rng(0), 4000
    draws = effect + rng.standard_normal((claims, seeds))
    frame = judged([Claim("", "", "", "", pd.Series(row), "") for row in draws])
    at, noncentral = stats.t.isf(0.025, seeds - 1), math.sqrt(seeds) * effect
    power = stats.nct.sf(at, seeds - 1, noncentral) + stats.nct.cdf(-at, seeds - 1, noncentral)
    assert (frame["p"] < 0.05).mean() == pytest.approx(power, abs=3 * math.sqrt(power * (1 - power) / claims))


def test_together_claims_tell_more():
    rng, effects = np.random.default_rng(2), np.full((2, 4), 10.0)
    frames = [table(rng, effects, 3, UNEVEN) for _ in range(100)]
    together = np.mean([(judged(claims)["p"] < 0.05).mean() for claims in frames])
    alone = np.mean(
        [stats.ttest_1samp([claim.differences for claim in claims], 0, axis=1).pvalue < 0.05 for claims in frames]
    )
    assert together > alone + 0.1


def test_what_scatters_in_its_own_way_keeps_its_interval():
    rng = np.random.default_rng(3)
    calm = [Claim("", "", "", "", pd.Series(rng.standard_normal(3)), "", "Top-1") for _ in range(6)]
    wild = Claim("", "", "", "", pd.Series(20 * rng.standard_normal(3)), "")
    line = judged([*calm, wild]).iloc[-1]
    assert (line["df"], line["p"]) == pytest.approx((2, stats.ttest_1samp(wild.differences, 0).pvalue))
    assert line["method"] == "t, 2 df"


# ---- the moderated variance -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["uneven", "gaps", "alike"])
def test_the_priors_degrees_of_freedom_are_limmas(case):
    limma = LIMMA[case]
    found = prior_df(np.array(limma["s2"]), np.array(limma["df.residual"]))
    assert found == pytest.approx(float(limma["df.prior"][0]), rel=1e-6)


def test_a_moderated_variance_by_hand():
    # Three rows over three seeds, variances 1, 4 and 9; deviations (1,−1,0), (1,1,−2) and (1,−1,0) have r = 0, 1 and 0
    rows = pd.DataFrame([[1, -1, 0], [2 / 3**0.5, 2 / 3**0.5, -4 / 3**0.5], [3, -3, 0]], dtype=float)
    assert rows.var(axis=1).tolist() == pytest.approx([1, 4, 9])
    # mean r² = 1/3; less what chance gives with two degrees of freedom, (2/3 − 1)/1 < ¼: so ρ² = ¼, m_eff = 3/1.5 = 2
    # ln 1, ln 4, ln 9 have variance 1.2357 < trigamma(1) = 1.6449: d₀ is infinite, the others are worth (2 − 1)·2
    variance, df = moderated(rows)
    assert df.tolist() == pytest.approx([4, 4, 4])
    assert variance.tolist() == pytest.approx([(14 / 3 + own) / 2 for own in (1, 4, 9)])


def test_differences_from_one_baseline_correlate_by_a_half():
    rng = np.random.default_rng(0)
    ours, first, second = rng.standard_normal((3, 100_000))
    assert np.corrcoef(ours - first, ours - second)[0, 1] ** 2 == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("rows", [[[1, 2, 4]], [[1, 2, 4], [2, 4, 8]], [[1, 2], [5, 3]], [[1, 1, 1], [2, 2, 2]]])
def test_claims_that_say_nothing_of_each_other_keep_their_own_variance(rows):
    """One alone; two that are the same but for a factor; two seeds, at which this cannot be told; no scatter at all."""
    variance, df = moderated(pd.DataFrame(rows, dtype=float))
    assert variance == pytest.approx(np.var(rows, axis=1, ddof=1))
    assert (df == len(rows[0]) - 1).all()
