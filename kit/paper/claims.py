"""The paper's claims, each judged by computation: it holds here, does not hold here, or cannot be told.

A claim is a statement that some quantity is above zero. The verdict looks at its interval alone, so nobody's hope
can move it. Whether the effect is also as large as the paper says stands beside it as `paper`.

A table's claims are judged together. `moderated` lets those of one quantity tell each other how much it scatters from
seed to seed: with three seeds, two degrees of freedom of a claim's own say little. Of the verdicts told in a table at
most 5 % are wrong on average (Benjamini & Hochberg, 1995), and the intervals shown are those that agree with it
(Benjamini & Yekutieli, 2005). docs/evidence.md has what simulations say of both.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import optimize, special, stats

from kit.data.base import Dataset, Split

HOLDS, FAILS, OPEN = "holds here", "does not hold here", "cannot be told from these data"
NONE = "no verdict: fewer than two seeds"
CONFIDENCE = 0.95
WRONG = 1 - CONFIDENCE  # the share of the verdicts told that may be wrong
MOST_SEEDS = 100  # that anybody would ask for
SHARED = 0.25  # squared correlation of two differences from one baseline, where the three scatter alike
COUNTED = {HOLDS: "hold", FAILS: "do not", OPEN: "cannot be told", NONE: "have no verdict"}
NUMBERS = ["effect", "low", "high", "df", "p", "q", "level", "printed"]  # columns for pictures and files

Side = tuple[str, str]  # of a comparison: a row's label and reading
Data = Mapping[str, Dataset]  # by role; without them nothing is said of guessing and of rounding


# ---- means -------------------------------------------------------------------------------------------------------


class Estimate(NamedTuple):
    """A mean with its 95 % interval over n observations (seeds, unless said otherwise)."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def bounds(self) -> str:
        return bounds(self.low, self.high, self.n)

    def __str__(self) -> str:
        return f"{self.mean:+.1f} {self.bounds}"


def bounds(low: float, high: float, n: int) -> str:
    """`[+1.0, +5.0]`, or that there is no interval."""
    return f"none (n = {n})" if math.isnan(low) else f"[{low:+.1f}, {high:+.1f}]"


def t_interval(values: Iterable[float]) -> Estimate:
    """Student's t interval of the mean, NaNs left out. One value has no interval (NaN), and none has no mean either."""
    found = np.array([value for value in values if not math.isnan(value)], dtype=float)
    n = len(found)
    mean = float(found.mean()) if n else math.nan
    if n < 2:
        return Estimate(mean, math.nan, math.nan, n)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * found.std(ddof=1) / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, n)


def plus_minus(values: Iterable[float], digits: int = 1) -> str:
    """`57.3 ± 1.2`: mean and half the 95 % interval; the mean alone where there is one value, a dash where none."""
    estimate = t_interval(values)
    half = "" if estimate.n < 2 else f" ± {estimate.high - estimate.mean:.{digits}f}"
    return number(estimate.mean, digits) + half


def number(value: float, digits: int = 0) -> str:
    """`12`, or a dash where there is none."""
    return "–" if math.isnan(value) else f"{value:z.{digits}f}"


def percent(fractions: pd.Series) -> str:
    return plus_minus(100 * fractions)


# ---- differences, paired by seed ----------------------------------------------------------------------------------


def gain(frame: pd.DataFrame, ours: Side, theirs: Side, column: str) -> pd.Series:
    """What ours gains on theirs in a column, or a sum of columns like 'a+b', by the seeds at which both finished: of an
    accuracy points, of a cost what is saved of theirs, in %."""
    values = sum(frame[part] for part in column.split("+"))
    by_seed = frame.assign(value=values).pivot_table(index="seed", columns=["temperature", "reading"], values="value")
    both = by_seed.reindex(columns=[ours, theirs]).dropna()  # a procedure that failed at every seed has no column
    a, b = both.iloc[:, 0], both.iloc[:, 1]
    return 100 * (a - b) if is_accuracy(column) else 100 * (1 - a / b)


def is_accuracy(column: str) -> bool:
    return column.endswith(("top1", "top5"))


def has(frame: pd.DataFrame, column: str) -> bool:
    """Whether there is such a column, or all of a sum: of five classes or fewer there is no Top-5."""
    return all(part in frame for part in column.split("+"))


def time_ratio(frame: pd.DataFrame) -> pd.Series:
    """Each run's seconds over those of T = 5 as printed with the same seed, in the same group."""
    of_t5 = frame["seconds"].where(frame["temperature"].eq("T=5") & frame["reading"].eq("printed"))
    return frame["seconds"] / of_t5.groupby([frame["group"], frame["seed"]], dropna=False).transform("first")


def guessing(frame: pd.DataFrame, sides: Sequence[Side], column: str, data: Data | None) -> str:
    """Which sides' Top-1 or Top-5 is not told from guessing, by its 95 % interval over seeds; '' where all are.

    Who guesses says the k most frequent classes: k/C where the C are alike.
    """
    found = []
    for label, reading in sides if data else ():
        side = frame[(frame["temperature"] == label) & (frame["reading"] == reading)]
        chance = side["role"].map({role: guessed(split_of(data[role], column), int(column[-1])) for role in data})
        if t_interval((side[column] - chance).groupby(side["seed"]).mean()).low <= 0:
            found.append(f"{label}, {reading} (chance {100 * chance.mean():.3g} %)")
    return "; ".join(found)


def guessed(split: Split, k: int) -> float:
    """The share of the images that are of the k most frequent classes."""
    return split.labels.bincount().sort(descending=True).values[:k].sum().item() / len(split)


def rounding(frame: pd.DataFrame, column: str, data: Data | None) -> float:
    """By how many points a difference of accuracies scatters, at least, as images are whole: a standard deviation.

    Each accuracy is rounded to 1/n of its n images, with a variance of 1/(12 n²); the mean over the frame's groups.
    """
    if not data:
        return 0.0
    images = [len(split_of(data[role], column)) for role in frame.drop_duplicates("group")["role"]]
    return 100 * math.sqrt(sum(1 / (6 * n**2) for n in images)) / len(images)


def split_of(data: Dataset, column: str) -> Split:
    """The images of which a column such as `test_top1` is the accuracy."""
    return data.train if column.startswith("train") else data.test


# ---- verdicts ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Claim:
    """What the paper says, where, how large it says it is, and what was measured here."""

    text: str
    where: str
    paper: str  # the printed figure, with its unit
    unit: str
    differences: pd.Series  # measured, in that unit, by seed; above zero where the claim is right
    against: str  # the baseline and its reading
    quantity: str = ""  # a table's claims of one quantity moderate each other; '' scatters in its own way
    images: Sequence[float] = ()  # the same mean as differences by test image, where its interval may be the wider
    at_chance: str = ""  # what of it is not told from guessing
    rounding: float = 0.0  # a standard deviation below which differences do not scatter, by `rounding`
    left_out: str = ""  # of how many configurations it is, where not of all

    @classmethod
    def of(
        cls, frame: pd.DataFrame, ours: Side, theirs: Side, column: str, data: Data | None = None, **said: str
    ) -> Claim:
        """The claim that ours gains on theirs in a column, measured; what is not said follows from these.

        By seed it is the mean over the frame's groups, NaN at a seed at which a group has nothing. Groups that have
        nothing at any seed are left out, and counted.
        """
        groups = frame.groupby("group", sort=False, dropna=False)
        measured = pd.DataFrame({name: gain(here, ours, theirs, column) for name, here in groups})
        kept = measured.dropna(axis="columns", how="all")
        there, all_of_them = kept.shape[1], measured.shape[1]
        fields = {
            "text": "", "where": "", "paper": "", "unit": "%", "against": ", ".join(theirs), "quantity": column,
            "differences": kept.mean(axis="columns", skipna=False),
            "left_out": f", {there} of {all_of_them} configurations" if there < all_of_them > 1 else "",
        }  # fmt: skip
        if is_accuracy(column):
            near, whole = guessing(frame, (ours, theirs), column, data), rounding(frame, column, data)
            fields |= {"unit": "points", "at_chance": near, "rounding": whole}
        return cls(**fields | said)


def own_claims(frame: pd.DataFrame, data: Data | None, papers: Collection[Side]) -> list[Claim]:
    """Claims of every row that is none of the table's against each of the table's: that it raises test Top-1."""
    named = frame[["temperature", "reading"]].drop_duplicates().itertuples(index=False, name=None)
    where = "not in the paper"
    return [
        Claim.of(frame, own, theirs, "test_top1", data, text=f"{', '.join(own)} raises test Top-1", where=where)
        for own, theirs in product([each for each in named if each not in papers], papers)
    ]


def moderated(differences: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Moderates the variances over seeds of some claims (claims × seeds): each claim's variance and degrees of freedom.

    As in Smyth's moderated t (2004) a claim's variance is averaged with the mean of all, weighted by degrees of
    freedom: d of its own, and of theirs as many as `prior_df` finds. Unlike genes, a table's claims are few, and share
    baselines: m whose differences have a mean squared correlation ρ² are worth m/(1 + (m−1)ρ²) independent ones (Box,
    1954). What the others know is only worth the others' degrees of freedom, so one claim alone has Student's t.
    """
    own, d, m = differences.var(axis=1).to_numpy(), differences.count(axis=1).to_numpy() - 1, len(differences)
    between = ~np.eye(m, dtype=bool)
    seen = differences.notna().to_numpy(int)
    freedom = (seen @ seen.T - 1)[between]
    r2 = differences.T.corr(min_periods=3).to_numpy()[between] ** 2  # by chance alone 1/freedom on average
    told = np.isfinite(r2)
    rho2 = np.clip(np.mean((r2 * freedom - 1)[told] / (freedom - 1)[told]), SHARED, 1) if told.any() else 1.0
    others = (m / (1 + (m - 1) * rho2) - 1) * d.mean()
    worth = 1 / (1 / prior_df(own, d) + 1 / others) if others > 0 and np.median(own) > 0 else 0.0
    return (worth * own.mean() + d * own) / (worth + d), worth + d


def prior_df(variances: np.ndarray, d: np.ndarray) -> float:
    """Smyth's d₀ (limma's fitFDist): of how many degrees of freedom the true variances look like an estimate.

    Infinitely many where variances, each on d degrees of freedom, differ no more than estimates of one variance do.
    """
    z = np.log(np.maximum(variances, 1e-5 * np.median(variances)))
    excess = np.var(z - special.digamma(d / 2) + np.log(d / 2), ddof=1) - special.polygamma(1, d / 2).mean()
    if excess <= 0:
        return math.inf
    return 2 * optimize.brentq(  # trigamma(y) lies between 1/y and 1/y + 1/y²
        lambda y: special.polygamma(1, y) - excess, 1 / excess, 1 / excess + excess**-0.5, xtol=1e-12
    )


def judged(claims: Sequence[Claim]) -> pd.DataFrame:
    """Judges a table's claims together: a line each, with interval and verdict; the columns of `NUMBERS` are floats.

    The intervals' confidence is 1 − `level`, at which as many exclude zero as Benjamini and Hochberg's procedure tells.
    """
    by_seed = pd.DataFrame([claim.differences for claim in claims], index=range(len(claims)), dtype=float)
    effect, n = by_seed.mean(axis=1).to_numpy(), by_seed.count(axis=1).to_numpy()
    variance, df = by_seed.var(axis=1).to_numpy(copy=True), (n - 1.0).clip(0)
    quantities = np.array([claim.quantity for claim in claims])
    for quantity in set(quantities) - {""}:
        if (of := (quantities == quantity) & (n > 1)).any():
            variance[of], df[of] = moderated(by_seed[of])
    variance = np.maximum(variance, [claim.rounding**2 for claim in claims])
    method = [f"{'moderated ' if d > own else ''}t, {round(d, 1):g} df" for own, d in zip(n - 1, df, strict=True)]
    over_images = np.array([stats.sem(claim.images) if len(claim.images) > 1 else 0 for claim in claims])
    images = np.array([max(1, len(claim.images) - 1) for claim in claims])  # degrees of freedom
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.sqrt(variance / n)
        of_images = np.where(over_images > 0, stats.t.sf(np.abs(effect) / over_images, images), 0)
        p = 2 * np.maximum(stats.t.sf(np.abs(effect) / error, df), of_images)
    q, tried = p.copy(), np.isfinite(p)
    if tried.any():
        q[tried] = stats.false_discovery_control(p[tried])
    level = WRONG * max(1, (q <= WRONG).sum()) / max(1, tried.sum())
    half, half_over_images = error * stats.t.isf(level / 2, df), over_images * stats.t.isf(level / 2, images)
    lent, wider = df - (n - 1), half_over_images > half
    for i in np.flatnonzero(wider):  # which decides
        half[i], df[i], method[i] = half_over_images[i], images[i], f"t over images, {images[i]} df"
    low, high = effect - half, effect + half
    limits = list(zip(low, high, n, strict=True))
    verdicts = [verdict(*each) for each in limits]
    seeds = [
        "" if said != OPEN else "more images" if by_images else seeds_to_tell(mean, scatter, df_lent, level)
        for said, by_images, mean, scatter, df_lent in zip(
            verdicts, wider, effect, np.sqrt(variance), lent, strict=True
        )
    ]
    paper = pd.Series([claim.paper for claim in claims], dtype=str)
    return pd.DataFrame(
        {
            "claim": [claim.text for claim in claims],
            "where": [claim.where for claim in claims],
            "against": [claim.against + claim.left_out for claim in claims],
            "paper": paper,
            "measured": [
                f"{mean:+.1f} {claim.unit}" if k else "–" for mean, k, claim in zip(effect, n, claims, strict=True)
            ],
            "interval": [bounds(*each) for each in limits],
            "n": n,
            "method": [each if count > 1 else "none" for each, count in zip(method, n, strict=True)],
            "at chance": [claim.at_chance for claim in claims],
            "verdict": verdicts,
            "seeds to tell": seeds,
            **dict(zip(NUMBERS, (effect, low, high, df, p, q, level), strict=False)),
            "printed": pd.to_numeric(paper.str.split().str[0], errors="coerce"),
        }
    )


def verdict(low: float, high: float, n: int) -> str:
    """Of the statement that a quantity is above zero, by its interval over n seeds."""
    if n < 2:
        return NONE
    if low > 0:
        return HOLDS
    if high < 0:
        return FAILS
    return OPEN


def seeds_to_tell(effect: float, scatter: float, lent: float, level: float) -> str:
    """Says how many seeds would tell an effect as large as this one, that scatter so: `about 15`, or `over 100`.

    `scatter` is the standard deviation over seeds, in the effect's unit, known to the seeds' degrees of freedom and to
    those that other claims have `lent`; `level` is what the intervals leave out.
    """
    k = np.arange(2, MOST_SEEDS + 1)
    enough = k[scatter * stats.t.isf(level / 2, k - 1 + lent) < np.sqrt(k) * abs(effect)]
    return f"about {enough[0]}" if len(enough) else f"over {MOST_SEEDS}"


def tally(frame: pd.DataFrame) -> str:
    """`10 hold, 3 do not, 9 cannot be told`."""
    counts = frame["verdict"].value_counts()
    return ", ".join(
        f"{counts.get(each, 0)} {said}" for each, said in COUNTED.items() if each != NONE or each in counts
    )


def readable(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns of a verdict table that are to be read; `at chance` and `seeds to tell` where they say anything."""
    quiet = [name for name in ("at chance", "seeds to tell") if (frame[name] == "").all()]
    return frame.drop(columns=["where", *NUMBERS, *quiet], errors="ignore")


def explained(frame: pd.DataFrame) -> str:
    """What stands under a verdict table: what n counts, and how sure intervals and verdicts are."""
    if not frame["low"].notna().any():
        return "one seed has no interval, and so no verdict"
    return (
        f"n: seeds · intervals at {100 * (1 - frame['level'].iloc[0]):.1f} %, moderated over the table's claims of one "
        f"quantity: of the verdicts told at most {100 * WRONG:.0f} % are wrong on average (Benjamini–Hochberg)"
    )
