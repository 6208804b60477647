"""Which intervals deserve their level, and which verdicts come back when a table is drawn anew? On simulated tables.

    python -m benchmarks.intervals --json    # about 4 minutes on a core

Rows scatter over seeds by standard deviations that differ from row to row, searches by 14 to 20 points. Claims are
differences of two rows: of ours from each of four (Table 2), or of ours from each of eleven, ordinary distillation from
hard labels, and a search from its twin, under two budgets (Table 4). The rules:

- `plain`: Student's t of each claim's differences alone;
- `two-way`: the residual of the layout rows × seeds, searches apart;
- `limma`: Smyth's moderated t as it is for genes, searches apart;
- `kit`: `kit.paper.claims.moderated`, searches apart; `kit, all`: the same with searches among the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from scipy import special, stats

from benchmarks.report import command
from kit.cli.output import print_json
from kit.paper.claims import WRONG, moderated, prior_df

EFFECT = 8.0  # points: what power is of
EFFECTS = 10.0  # points: by how much rows differ where two draws of a table are compared


@dataclass(frozen=True)
class Layout:
    """A table's rows and claims, and which rows are searches."""

    name: str
    rows: int
    claims: tuple[tuple[int, int], ...]
    searches: frozenset[int] = frozenset()

    def own(self) -> np.ndarray:
        """Which claims have a search in them, (claims,)."""
        return np.array([not self.searches.isdisjoint(claim) for claim in self.claims])

    def differences(self, values: np.ndarray) -> np.ndarray:
        """What the claims are about, (claims, seeds), of values (rows, seeds)."""
        first, second = np.transpose(self.claims)
        return values[first] - values[second]


TABLE_2 = Layout("Table 2", 5, tuple((0, other) for other in range(1, 5)))
TABLE_4 = Layout(
    "Table 4",
    24,
    tuple((a + b, a + c) for a in (0, 12) for b, c in (*((0, other) for other in range(1, 12)), (2, 1), (9, 10))),
    frozenset({9, 10, 11, 21, 22, 23}),
)
SETTINGS = ((TABLE_2, 3, (3.0, 8.0)), (TABLE_4, 3, (3.0, 8.0)), (TABLE_4, 3, (1.0, 3.0)), (TABLE_4, 5, (1.0, 3.0)))
Judged = tuple[np.ndarray, np.ndarray]  # variance of a difference over seeds, degrees of freedom; (claims,) or of all
Rule = Callable[[Layout, np.ndarray, np.ndarray], Judged]  # of values (rows, seeds) and differences (claims, seeds)


def plain(layout: Layout, values: np.ndarray, differences: np.ndarray) -> Judged:
    return differences.var(axis=1, ddof=1), np.full(len(differences), differences.shape[1] - 1.0)


def two_way(layout: Layout, values: np.ndarray, differences: np.ndarray) -> Judged:
    kept = np.delete(values, list(layout.searches), axis=0)
    residual = kept - kept.mean(axis=1, keepdims=True) - kept.mean(axis=0) + kept.mean()
    df = (kept.shape[0] - 1) * (kept.shape[1] - 1)
    return 2 * (residual**2).sum() / df, df


def limma(layout: Layout, values: np.ndarray, differences: np.ndarray) -> Judged:
    own, d = differences.var(axis=1, ddof=1), differences.shape[1] - 1
    d0 = prior_df(own, np.full(len(own), d))
    if np.isinf(d0):
        return own.mean(), d * len(own)
    s0 = np.exp(
        np.mean(np.log(own)) - special.digamma(d / 2) + np.log(d / 2) + special.digamma(d0 / 2) - np.log(d0 / 2)
    )
    return (d0 * s0 + d * own) / (d0 + d), min(d0 + d, d * len(own))


def kit(layout: Layout, values: np.ndarray, differences: np.ndarray) -> Judged:
    return moderated(pd.DataFrame(differences))


def apart(rule: Rule) -> Rule:
    """The rule for claims without a search; those with one keep their own variance."""

    def judge(layout: Layout, values: np.ndarray, differences: np.ndarray) -> Judged:
        (variance, df), calm = plain(layout, values, differences), ~layout.own()
        variance[calm], df[calm] = rule(layout, values, differences[calm])
        return variance, df

    return judge


RULES: dict[str, Rule] = {
    "plain": plain, "two-way": apart(two_way), "limma": apart(limma), "kit": apart(kit), "kit, all": kit,
}  # fmt: skip
PROCEDURES = {"each": np.asarray, "BH": stats.false_discovery_control}  # of p values


def scatter(rng: np.random.Generator, layout: Layout, spread: tuple[float, float]) -> np.ndarray:
    """Rows' standard deviations, (rows, 1): log-uniform, those of searches apart."""
    low, high = np.log(spread)
    sd = np.exp(rng.uniform(low, high, layout.rows))
    sd[list(layout.searches)] = rng.uniform(14, 20, len(layout.searches))
    return sd[:, None]


def drawn(
    rng: np.random.Generator, layout: Layout, seeds: int, sd: np.ndarray, means: np.ndarray | float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """A table's values, (rows, seeds), and the differences that it claims something of, (claims, seeds)."""
    values = means + sd * rng.standard_normal((layout.rows, seeds))
    return values, layout.differences(values)


def p_values(differences: np.ndarray, variance: np.ndarray, df: np.ndarray) -> np.ndarray:
    t = differences.mean(axis=1) / np.sqrt(variance / differences.shape[1])
    return 2 * stats.t.sf(np.abs(t), df)


def levels(
    rng: np.random.Generator, layout: Layout, seeds: int, spread: tuple[float, float], tables: int
) -> pd.DataFrame:
    """By rule: how often a 95 % interval lacks the truth, of all claims without a search, of the fifth of these that
    scatters most, of those with a search; how often an effect of `EFFECT` points is seen; how many tables without any
    effect have a verdict after Benjamini and Hochberg's procedure."""
    tried = []
    for number in range(tables):
        sd = scatter(rng, layout, spread)
        values, differences = drawn(rng, layout, seeds, sd)
        scattered = np.hypot(*sd[np.transpose(layout.claims), 0])
        for name, rule in RULES.items():
            variance, df = rule(layout, values, differences)
            p, p_of_effect = (p_values(differences + effect, variance, df) for effect in (0, EFFECT))
            told = {"told": stats.false_discovery_control(p) <= WRONG, "seen": p_of_effect < WRONG}
            of_claims = {"search": layout.own(), "scattered": scattered, "outside": p < WRONG, "df": df} | told
            tried.append(pd.DataFrame({"rule": name, "table": number} | of_claims))
    claims = pd.concat(tried)
    calm = claims[~claims["search"]]
    most = calm[calm["scattered"] > calm.loc[calm["rule"] == "plain", "scattered"].quantile(0.8)]
    found = calm.groupby("rule").agg(outside=("outside", "mean"), power=("seen", "mean"), df=("df", "median"))
    found["most scattered"] = most.groupby("rule")["outside"].mean()
    found["searches"] = claims[claims["search"]].groupby("rule")["outside"].mean()
    found["any told"] = claims.groupby(["rule", "table"])["told"].any().groupby("rule").mean()
    return found.loc[list(RULES)]


def drawn_anew(
    rng: np.random.Generator, layout: Layout, seeds: int, spread: tuple[float, float], tables: int
) -> pd.DataFrame:
    """By rule and procedure, of verdicts: how many are told, how many change in a second draw of the table, and how
    many of those told are wrong. Rows differ by `EFFECTS`, the first two of each budget not at all."""
    lines = []
    for _ in range(tables):
        sd, means = scatter(rng, layout, spread), EFFECTS * rng.standard_normal((layout.rows, 1))
        means[1::12] = means[::12][: len(means[1::12])]
        truth = np.sign(layout.differences(means)[:, 0])
        draws = [drawn(rng, layout, seeds, sd, means) for _ in range(2)]
        for name, (procedure, adjusted) in product(("plain", "kit"), PROCEDURES.items()):
            one, other = (
                np.sign(differences.mean(axis=1))
                * (adjusted(p_values(differences, *RULES[name](layout, values, differences))) <= WRONG)
                for values, differences in draws
            )
            told, wrong = one != 0, (one != 0) & (one != truth)
            shares = {"told": told.mean(), "changed": (one != other).mean(), "wrong": wrong.sum() / max(1, told.sum())}
            lines.append({"rule": f"{name}, {procedure}"} | shares)
    return pd.DataFrame(lines).groupby("rule", sort=False).mean()


def main(
    tables: Annotated[int, typer.Option(min=20, help="simulated tables a setting")] = 2000,
    seed: Annotated[int, typer.Option(help="of the simulation")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="end with one line of JSON")] = False,
) -> None:
    """Compare rules for intervals over seeds on simulated tables: errors, power, and verdicts drawn anew."""
    rng, record = np.random.default_rng(seed), []
    for measure in (levels, drawn_anew):
        for layout, seeds, spread in SETTINGS:
            found = measure(rng, layout, seeds, spread, tables)
            title = f"{layout.name}, {seeds} seeds, SD {spread[0]:g} to {spread[1]:g} points"
            print(f"\n{title}\n{found.to_string(float_format='{:.3f}'.format)}")
            rules = found.to_dict("index")
            record.append({"setting": title, "tables": tables, "measure": measure.__name__, "rules": rules})
    if as_json:
        print_json(record)


if __name__ == "__main__":
    command(main)
