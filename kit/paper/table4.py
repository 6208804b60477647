"""Table 4: the paper's method against five others, each run for real, under equal budgets.

    comparison = compare(plan, seeds=3)      # or `run(plan, 3)`, its frame alone
    summary(comparison.frame)

Equal budget is read twice, and each reading is a table. `steps`: the whole procedure (assistants, candidates and the
final student) takes as many student gradient steps as an ordinary student takes in the preset's epochs. `time`: the
whole procedure takes as long as ours took there, by the seconds per epoch measured in the first table; a search costs
what it cost, and its final student gets what is left. Searches are run once a seed and shared by both tables.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from kit import recipe
from kit.errors import KitError
from kit.grid.engines import Engine
from kit.grid.training import train_all
from kit.methods import plain, student_search
from kit.methods.base import Method, Procedure, SearchSize, Setting, steps_of
from kit.methods.rows import METHODS
from kit.methods.search import AT_CHANCE, Found, Spent, search_all
from kit.paper.claims import Claim, Data, Side, guessing, has, is_accuracy, number, plus_minus, rounding
from kit.paper.plan import Plan, Row, accuracies, cells, judging, tops, with_columns
from kit.paper.printed import TABLE_4, TABLE_4_EPOCHS, UNPRINTED, Timed
from kit.runs.spec import Run
from kit.runs.store import Failure, Result, find

ROLE, BIG, SMALL, STUDENT, T = "cifar-100", "resnet50", "vgg16", "vgg19", 20.0
ROLES = (ROLE,)
BUDGETS = {"steps": "the same student gradient steps in total", "time": "the time that ours takes"}

# What a search may spend. A larger one gives the controller more to learn from: with these few samples at preset quick
# it is close to its random twin.
SEARCHES = {
    "smoke": SearchSize(rounds=2, candidates=2, epochs=1),
    "quick": SearchSize(rounds=4, candidates=2, epochs=1),
    "paper": SearchSize(rounds=8, candidates=4, epochs=2, held_out=0.2),
}
EPOCHS = {"smoke": 2, "quick": 12, "paper": TABLE_4_EPOCHS}  # of an ordinary student


def setting(
    plan: Plan, seed: int = 0, assistants: Sequence[str] = (SMALL,), cost_target: float | None = None
) -> Setting:
    """What all rows share at a seed. Assistants are as wide as teachers are; `cost_target` is the student search's."""
    teachers = plan.teachers_seed(seed)
    return Setting(
        student=plan.student(STUDENT, ROLE, lambda epochs: recipe.hard_labels(), BIG).student,
        big=plan.teacher(BIG, ROLE, teachers),
        small=plan.teacher(SMALL, ROLE, teachers),
        assistants=tuple(plan.teacher(name, ROLE).student for name in assistants),
        T=T,
        epochs=EPOCHS[plan.preset.name],
        search=SEARCHES[plan.preset.name],
        cost_target=cost_target,
    )


def known(plan: Plan, seeds: int) -> list[Row]:
    """Rows whose runs no search decides, for equal steps: they can be trained together with other tables' runs."""
    given = {seed: setting(plan, seed) for seed in plan.seeds(seeds)}
    procedures = {m: [m.build(given[seed], seed) for seed in given] for m in METHODS if not m.search}
    return [Row(m.key, m.title, tuple(run for p in each for run in p.runs), ROLE) for m, each in procedures.items()]


def foreseen(plan: Plan, seeds: int, equal_time: bool = False) -> list[Run]:
    """What is trained beyond `known`, as far as it can be told before: runs of about that work, one for each to come.

    Searched networks are taken to be as large as the table's student, and no candidate is proposed twice. In a second
    table, of `equal_time`, a search's final student has what it had, and every other method takes as long as ours.
    """
    given, searches = setting(plan), sum(method.search is not None for method in METHODS)
    size, stages, teachers = given.search, recipe.eq1(given.T, "hinton"), {"big": given.big}
    shown = given.data.model_copy(update={"train_images": round(given.data.train_images * (1 - size.held_out))})
    candidate = given.run(stages, teachers, 0, epochs=size.epochs, data=shown)
    tried = size.rounds * size.candidates
    left = given.left_after(tried * steps_of(shown, given.batch, size.epochs))
    final = given.run(stages, teachers, 0, epochs=left)
    others = len(METHODS) - searches - 1
    again = searches * [final] + others * [plain.OURS.build(given, 0).final] if equal_time else []
    return seeds * [*searches * [*tried * [candidate], final], *again]


@dataclass(frozen=True)
class Trial:
    """One method from one seed under one budget: what was run and how it ended."""

    budget: str
    method: Method
    seed: int
    setting: Setting
    procedure: Procedure
    outcome: Result | Failure

    @property
    def line(self) -> dict[str, object]:
        """What it is a reading of, what it took as a whole and for the final student alone, how it ended."""
        method, procedure, final = self.method, self.procedure, self.procedure.final
        line: dict[str, object] = {
            "budget": self.budget,
            "method": method.key,
            **{name: getattr(method, name) for name in ("title", "label", "reading", "cite")},
            "role": final.data.role,
            "data": final.data.name,
            "source": final.data.source,
            "seed": self.seed,
            "student": final.student.title,
            "network": getattr(final.student, "widths", ""),
            "epochs": final.recipe.epochs,
            "epochs_total": sum(run.recipe.epochs for run in procedure.runs),  # less candidates
            "run": final.hash,
            "notes": "; ".join(procedure.notes),
            "status": "finished",
        }
        if isinstance(self.outcome, Failure):
            return line | {"status": self.outcome.status}
        metrics, last = self.outcome.metrics, Spent.of(self.outcome)
        search = procedure.found.spent if procedure.found else Spent()
        whole = last + sum((Spent.of(find(run)) for run in procedure.before), Spent()) + search
        big, small = self.setting.big, self.setting.small
        teachers = {run: find(run).seconds for run in (big, small) if run in final.teachers.values()}
        return line | {
            "steps": whole.steps,
            "steps_student": last.steps,
            "seconds_total": whole.seconds,
            "seconds_student": last.seconds,
            "seconds_search": search.seconds,
            "seconds_teachers": math.fsum(teachers.values()),  # their own training, apart
            "seconds_small": teachers.get(small, 0.0),
            "wall_total": whole.wall_s,
            "flops": whole.flops,
            "flops_student": last.flops,
            **{name: metrics[name] for name in sorted(tops(final))},
            **{f"agreement_{name}": value for name, value in metrics.get("agreement", {}).items()},
        }


@dataclass(frozen=True)
class Comparison:
    """Table 4 here: its rows and what the searches found."""

    plan: Plan
    settings: Mapping[int, Setting]  # by seed
    rows: tuple[Trial, ...]
    found: Mapping[tuple[str, int], Found]  # by the method's label and seed

    @cached_property
    def frame(self) -> pd.DataFrame:
        """A line a method, seed and budget."""
        frame = pd.DataFrame([row.line for row in self.rows])
        return with_columns(frame, [*sorted(tops(self.rows[0].procedure.final)), *MEASURED])

    @property
    def setting(self) -> Setting:
        """The first seed's: only the teachers differ from seed to seed."""
        return next(iter(self.settings.values()))

    @property
    def outcomes(self) -> dict[Run, Result | Failure]:
        """How every assistant's and final student's run ended; candidates are in the searches' logs."""
        before = {run: find(run) or row.outcome for row in self.rows for run in row.procedure.before}
        return before | {row.procedure.final: row.outcome for row in self.rows}

    def results(self, label: str, budget: str = "steps") -> list[Result]:
        """The finished final students of one row of the table."""
        rows = [row for row in self.rows if (row.method.label, row.budget) == (label, budget)]
        return [row.outcome for row in rows if isinstance(row.outcome, Result)]

    def trained(
        self, budget: str, epochs: Mapping[tuple[Method, int], int], jobs: int | Engine | None, show_progress: bool
    ) -> Comparison:
        """With the rows of a budget, too: methods, each from a seed and for its epochs."""
        procedures = {}
        for (method, seed), own in epochs.items():
            found = (self.found[method.label, seed],) if method.search else ()
            procedures[method, seed] = method.build(replace(self.settings[seed], epochs=own), seed, *found)
        results = train_all([run for procedure in procedures.values() for run in procedure.runs], jobs, show_progress)
        rows = []
        for (method, seed), procedure in procedures.items():
            failed = (results[run] for run in procedure.runs if isinstance(results[run], Failure))
            outcome = next(failed, results[procedure.final])
            rows.append(Trial(budget, method, seed, self.settings[seed], procedure, outcome))
        return replace(self, rows=(*self.rows, *rows))

    def epochs_for_equal_time(self) -> dict[tuple[Method, int], int]:
        """Each procedure's budget, in epochs, in which it takes as long as ours does by equal steps: whole epochs, so
        to within half of one."""
        cells = dict(iter(self.frame[self.frame["status"] == "finished"].groupby("label")))
        ours = next((row.method.label for row in self.rows if row.method.key == "ours"), None)
        if ours not in cells:
            return {}
        time, per_epoch = cells[ours]["seconds_total"].mean(), steps_of(self.setting.data, self.setting.batch)
        budgets = {}
        for method, seed in ((row.method, row.seed) for row in self.rows if row.method.label in cells):
            cell = cells[method.label]
            training = (cell["seconds_total"] - cell["seconds_search"]).mean()
            trained = (cell["epochs_total"] * (time - cell["seconds_search"].mean()) / training).mean()
            least = 1 + (len(self.setting.assistants) if method.key == "[9]" else 0)
            searched = math.ceil(self.found[method.label, seed].spent.steps / per_epoch) if method.search else 0
            budgets[method, seed] = max(least, round(trained)) + searched
        return budgets


def run(plan: Plan, seeds: int, jobs: int | Engine | None = None, **options: object) -> pd.DataFrame:
    """Trains and searches what is missing; a line a method, seed and budget. Options as for `compare`."""
    return compare(plan, seeds, jobs, **options).frame


def compare(
    plan: Plan,
    seeds: int | None = None,
    jobs: int | Engine | None = None,
    assistants: Sequence[str] = (SMALL,),
    cost_target: float | None = None,
    methods: Sequence[Method] = METHODS,
    show_progress: bool = True,
    equal_time: bool = False,
) -> Comparison:
    """Trains and searches whatever is not in the cache. `cost_target`: FLOPs an image; None: the table student's.

    With `equal_time` every method is trained once more, for as long as ours takes.
    """
    seeds = plan.preset.seeds if seeds is None else seeds
    given = {seed: setting(plan, seed, assistants, cost_target) for seed in plan.seeds(seeds)}
    first = given[plan.first_seed]
    for method in methods:
        if method.search is None:
            method.build(first, plan.first_seed)  # refuses a budget that is too short before training
    if cost_target is not None:
        student_search.search(first, seed=0)  # and a target that cannot be met
    how = (jobs, show_progress)
    teachers = train_all([run for each in given.values() for run in (each.big, each.small)], *how)
    for outcome in teachers.values():
        if isinstance(outcome, Failure):
            raise KitError(f"a teacher of all rows ({outcome.run.title}) did not finish: {outcome.reason}")
    searching = [(method, seed) for seed in given for method in methods if method.search]
    searches = {(method.label, seed): method.search(given[seed], seed) for method, seed in searching}
    found = dict(zip(searches, search_all(list(searches.values()), *how), strict=True))
    epochs = {(method, seed): given[seed].epochs for method in methods for seed in given}
    comparison = Comparison(plan, given, (), found).trained("steps", epochs, *how)
    return comparison.trained("time", comparison.epochs_for_equal_time(), *how) if equal_time else comparison


# ---- the table ----------------------------------------------------------------------------------------------------


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """One line a method and budget: the paper's figures, and this kit's as mean ± half of the 95 % interval."""
    lines = []
    for (budget, label), cell in frame.groupby(["budget", "label"], sort=False):
        method, title = cell[["method", "title"]].iloc[0]
        line = {"equal": budget, "method": method, "title": title, **printed(frame, method, label).told(2)}
        measures = accuracies(cell, "test Top-1", "test Top-5", "train Top-1") | {
            "CPU s whole": plus_minus(cell["seconds_total"]),
            "CPU s student": plus_minus(cell["seconds_student"]),
            "GFLOP whole": number(cell["flops"].mean() / 1e9),
            "GFLOP student": number(cell["flops_student"].mean() / 1e9),
            "steps": number(cell["steps"].mean()),
            "teachers' own training, CPU s": number(cell["seconds_teachers"].mean()),
        }
        lines.append(line | cells(cell, measures) | {"notes": "; ".join(sorted(set(cell["notes"].dropna()) - {""}))})
    return pd.DataFrame(lines)


MEASURED = ("seconds_total", "seconds_student", "flops", "flops_student", "steps", "seconds_teachers", "seconds_small")


def readings(frame: pd.DataFrame) -> pd.DataFrame:
    """What each row is a reading of, and how certain it is which paper is meant."""
    return frame.drop_duplicates("label")[["method", "title", "reading", "cite"]].reset_index(drop=True)


def printed(frame: pd.DataFrame, key: str, label: str) -> Timed:
    """What the paper prints of a row, if it is its key's default reading: the first of them."""
    return TABLE_4.get(key, UNPRINTED) if label in set(frame.drop_duplicates("method")["label"]) else UNPRINTED


# ---- the claims ---------------------------------------------------------------------------------------------------


def claims(frame: pd.DataFrame, data: Data | None = None) -> list[Claim]:
    """Table 4's order, and Section 2.4's "also better in classification", each judged on this kit's rows.

    A row all of whose runs failed keeps its claims, without a verdict; so does a search that could not tell its
    candidates from guessing, of its accuracies.
    """
    frame = with_columns(frame, [*MEASURED, "notes"])
    notes = frame["notes"].astype(object).fillna("")  # a CSV keeps no empty text
    by_chance = notes.str.contains(AT_CHANCE, regex=False)
    frame = frame.assign(temperature=frame["method"], reading=frame["title"], group=frame["role"], by_chance=by_chance)
    frame.loc[by_chance, frame.columns.isin(["test_top1", "test_top5"])] = math.nan
    return [*_rank_claims(frame, data), *_pair_claims(frame, data), *_own_claims(frame, data)]


verdicts = judging(claims)
SEARCHING = {method.key for method in METHODS if method.search}  # they scatter by more than others, each in its own way


def _between(
    frame: pd.DataFrame, budget: str, ours: Side, theirs: Side, column: str, data: Data | None = None, **said: str
) -> Claim:
    """The claim that under one budget a row gains on another."""
    here = frame[frame["budget"] == budget]
    if SEARCHING & {ours[0], theirs[0]}:
        said["quantity"] = ""
    claim = Claim.of(here, ours, theirs, column, data, **said)
    if not is_accuracy(column):
        return claim
    by_chance = here.groupby(["temperature", "reading"])["by_chance"].any()
    searched = [f"{', '.join(side)}: {AT_CHANCE}" for side in (ours, theirs) if by_chance.get(side, False)]
    return replace(claim, at_chance="; ".join(filter(None, [claim.at_chance, *searched])), unit="points (test)")


def _names(frame: pd.DataFrame) -> dict[str, list[Side]]:
    """The rows by their key, each as key and title; the default reading of a key comes first."""
    names: dict[str, list[Side]] = {}
    for key, title in frame.drop_duplicates("label")[["method", "title"]].itertuples(index=False, name=None):
        names.setdefault(key, []).append((key, title))
    return names


def _pair_claims(frame: pd.DataFrame, data: Data | None) -> list[Claim]:
    """Ours against each reading of [9] to [13], as far as Table 4 prints an order."""
    names, own = _names(frame), TABLE_4["ours"]
    if "ours" not in names:
        return []
    claims, (ours, *_) = [], names["ours"]
    for key, title in (row for key, rows in names.items() if key in TABLE_4 and key != "ours" for row in rows):
        printed, theirs = TABLE_4[key], (key, title)
        text, paper, against = f"ours takes less time than {key}", f"{own.saved_of(printed):+.1f} %", f"{title}, equal"
        said = {"text": text, "where": "Table 4", "paper": paper, "against": f"{against} steps"}
        claims.append(_between(frame, "steps", ours, theirs, "seconds_total", **said))
        for column, what, gap in (
            ("test_top1", "Top-1", own.top1 - printed.top1),
            ("test_top5", "Top-5", own.top5 - printed.top5),
        ):
            first, second = (ours, theirs) if gap > 0 else (theirs, ours)
            said |= {"text": f"{first[0]} beats {second[0]} in {what}", "paper": f"{abs(gap):+.2f} points"}
            for budget in frame["budget"].unique() if has(frame, column) else ():
                said["against"] = f"{against} {budget}"
                claims.append(_between(frame, budget, first, second, column, data, **said))
    return claims


def _rank_claims(frame: pd.DataFrame, data: Data | None) -> list[Claim]:
    """Ours among the six by the default readings: fastest; third in Top-1, second in Top-5, and better than all.

    Where not all six were run there is no such order. To be among the best three is to beat the third best of the
    others: a difference, so it has an interval. Which row that is may be another at each seed, so these claims keep
    their own variances.
    """
    frame = frame.assign(seconds_with_small=frame["seconds_total"] + frame["seconds_small"])
    default = frame[frame["method"].isin([*TABLE_4]) & frame["label"].isin(frame.drop_duplicates("method")["label"])]
    fastest = f"{TABLE_4['ours'].saved_of(TABLE_4['[13]']):+.1f} % of the time"
    claims = []
    for budget, here in ((budget, default[default["budget"] == budget]) for budget in BUDGETS):
        if set(here["method"]) != set(TABLE_4):
            continue
        ours = _names(here)["ours"]
        costs = (
            ("ours is the fastest of the six", "seconds_total"),
            ("ours is the fastest, its small teacher's own training counted", "seconds_with_small"),
            ("ours needs the fewest FLOPs of the six", "flops"),
        )
        for text, column in costs if budget == "steps" else ():
            wide, against = _by_method(here, column), "the cheapest of the others, seed by seed, equal steps"
            measured = 100 * (1 - wide["ours"] / wide.drop(columns="ours").min(axis=1))
            claims.append(Claim(text, "Table 4, Section 2.4", fastest, "%", measured, against))
        for text, where, column, place in (
            ("ours is among the best 3 of the six in Top-1", "Table 4", "test_top1", 3),
            ("ours is better than all others in Top-1", "Section 2.4", "test_top1", 1),
            ("ours is among the best 2 of the six in Top-5", "Table 4", "test_top5", 2),
            ("ours is better than all others in Top-5", "Section 2.4", "test_top5", 1),
        ):
            if not has(frame, column):
                continue
            paper = f"{_printed_lead(column, place):+.2f} points"
            against = f"the {ORDINALS[place]} of the other five, seed by seed, equal {budget}"
            measured = 100 * _lead(_by_method(here, column), place)
            near, whole = guessing(here, ours, column, data), rounding(here, column, data)
            claim = Claim(text, where, paper, "points (test)", measured, against, at_chance=near, rounding=whole)
            claims.append(claim)
    return claims


ORDINALS = {1: "best", 2: "second best", 3: "third best"}


def _by_method(here: pd.DataFrame, column: str) -> pd.DataFrame:
    """A column of the six, seed by seed; who failed at every seed has no column, so nothing."""
    return here.pivot_table(index="seed", columns="method", values=column).reindex(columns=list(TABLE_4)).dropna()


def _lead(wide: pd.DataFrame, place: int) -> pd.Series:
    """Ours less what it must beat to be among the best `place`: of the others, so many from the top, seed by seed."""
    others = wide.drop(columns="ours")
    return wide["ours"] - np.sort(others, axis=1)[:, -place]


def _printed_lead(column: str, place: int) -> float:
    """The same by Table 4's printed figures."""
    printed = pd.DataFrame(TABLE_4, index=TABLE_4["ours"]._fields).loc[[column.removeprefix("test_")]]
    return float(_lead(printed, place).iloc[0])


def _own_claims(frame: pd.DataFrame, data: Data | None) -> list[Claim]:
    """What a reader needs to know and the paper does not say."""
    names = _names(frame)
    sides = {key: rows[0] for key, rows in names.items()}
    sides |= {f"{key} at random": rows[1] for key, rows in names.items() if key in SEARCHING and len(rows) == 2}
    compared = (
        ("ours beats hard labels in Top-1", "ours", "hard labels"),
        ("ours beats ordinary distillation in Top-1", "ours", "hinton"),
        ("ours beats its small teacher's ordinary distillation", "ours", "small alone"),
        ("ordinary distillation beats hard labels in Top-1", "hinton", "hard labels"),
        ("the controller of [11] beats random search in Top-1", "[11]", "[11] at random"),
        ("the controller of [12] beats random search in Top-1", "[12]", "[12] at random"),
    )
    said = {"where": "not in the paper", "paper": "–"}
    return [
        _between(frame, budget, sides[a], sides[b], "test_top1", data, text=text, against=f"equal {budget}", **said)
        for budget in frame["budget"].unique()
        for text, a, b in compared
        if {a, b} <= sides.keys()
    ]


def search_log(comparison: Comparison) -> pd.DataFrame:
    """All searches' candidates, one line each."""
    logs = [
        found.log.assign(method=label, seed=seed) for (label, seed), found in comparison.found.items() if len(found.log)
    ]
    return pd.concat(logs, ignore_index=True) if logs else pd.DataFrame()
