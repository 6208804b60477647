"""What is answered: a table, verdicts of the kit's statistics, and one sentence of recommendation that they decide."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import fmean

import pandas as pd

from kit.data.base import Dataset, uneven
from kit.judge.question import Method, counted
from kit.paper.claims import FAILS, HOLDS, NONE, OPEN, Claim, guessing, judged, number, percent, plus_minus
from kit.paper.plan import Row, accuracies, cells, collect, ended
from kit.runs.spec import Run
from kit.runs.store import Failure, Result, find
from kit.runs.training import recalls_of
from kit.training.evaluation import balanced_accuracy

MEASURE = "test_top1"  # what verdicts are about


@dataclass(frozen=True)
class Answer:
    """The runs, a line each; the table and the verdicts made of them; the sentence, and notes beside it."""

    frame: pd.DataFrame
    table: pd.DataFrame
    verdicts: pd.DataFrame
    sentence: str
    notes: tuple[str, ...]

    @property
    def lost(self) -> bool:
        """Whether there is a row of which no run finished."""
        return any(map(ended, (cell for _, cell in self.frame.groupby(["temperature", "reading"]))))


def answer(methods: Sequence[Method], rows: Sequence[Row], results: Mapping[Run, Result | Failure]) -> Answer:
    """Makes a table, verdicts and the sentence of what became of the rows' runs."""
    frame, asked = priced(rows, results), rows[0].runs[0].data
    data = asked.load()
    verdicts = judge(methods, frame, {asked.role: data})
    sentence = recommendation(methods, frame, verdicts, data)
    return Answer(frame, summary(methods, frame), verdicts, sentence, tuple(notes(methods, rows, results)))


# ---- the table ----------------------------------------------------------------------------------------------------


def priced(rows: Sequence[Row], results: Mapping[Run, Result | Failure]) -> pd.DataFrame:
    """`collect`s a line a run, and adds what it costs from nothing: `all_seconds` and `all_flops`, teachers trained.
    Where classes are uneven, also `test_balanced`, and the accuracy on each class, the rarest first."""
    frame, data = collect(rows, results), rows[0].runs[0].data.load()
    if uneven(data):
        lines = [by_class(results[run], data) for row in rows for run in row.runs]
        frame = frame.join(pd.DataFrame(lines, index=frame.index, dtype=float))
    of_teachers = {run.hash: teachers_flops(run, results[run]) for row in rows for run in row.runs}
    return frame.assign(
        all_seconds=frame["seconds"] + frame["teacher_seconds"],
        all_flops=frame["student_flops"] + frame["teacher_flops"] + frame["run"].map(of_teachers),
    )


CLASS = "test of "  # begins the name of a column that has the accuracy on one class


def by_class(outcome: Result | Failure, data: Dataset) -> dict[str, float | None]:
    """Computes a run's balanced accuracy and its accuracy on each class, the rarest first; None for one that failed."""
    failed = isinstance(outcome, Failure)
    recalls = [None] * len(data.classes) if failed else recalls_of(outcome)
    rarest_first = data.train.labels.bincount(minlength=len(data.classes)).argsort(stable=True).tolist()
    of_classes = {f"{CLASS}{data.classes[i]}": recalls[i] for i in rarest_first}
    return {"test_balanced": None if failed else balanced_accuracy(recalls), **of_classes}


def rarest(frame: pd.DataFrame) -> dict[str, str]:
    """Returns the columns of balanced accuracy and of the rarest class, by what they are called in a table."""
    of_class = next((name for name in frame if name.startswith(CLASS)), None)
    return {} if of_class is None else {"balanced": "test_balanced", of_class.removeprefix("test "): of_class}


def teachers_flops(run: Run, outcome: Result | Failure) -> float:
    """Counts the FLOPs that trained a finished run's teachers; NaN of one that failed."""
    if isinstance(outcome, Failure):
        return math.nan
    return math.fsum(find(run.teachers[name]).metrics["student_flops"] for name in run.recipe.teachers)


def summary(methods: Sequence[Method], frame: pd.DataFrame) -> pd.DataFrame:
    """One line a method: accuracies as mean ± half the 95 % interval, and what it costs, without and with its teachers.

    Top-5 is there where there are more than five classes, balanced accuracy and the rarest class where they are uneven.
    """
    lines = []
    for method in methods:
        cell = of(frame, method)
        measures = {
            **accuracies(cell, "train Top-1", "test Top-1", "test Top-5"),
            **{title: percent(cell[column]) for title, column in rarest(frame).items()},
            "CPU s": plus_minus(cell["seconds"]),
            "with teachers": number(cell["all_seconds"].mean(), 1),
            "GFLOP": number((cell["student_flops"] + cell["teacher_flops"]).mean() / 1e9, 1),
            "with teachers ": number(cell["all_flops"].mean() / 1e9, 1),
            "soft stages' end, epoch": plus_minus(cell["soft_end"]),
        }
        lines.append({"row": method.title, **cells(cell, measures)})
    return pd.DataFrame(lines)


def of(frame: pd.DataFrame, method: Method) -> pd.DataFrame:
    return frame[(frame["temperature"] == method.label) & (frame["reading"] == method.reading)]


def notes(methods: Sequence[Method], rows: Sequence[Row], results: Mapping[Run, Result | Failure]) -> list[str]:
    """Says whether classes are uneven, how good the teachers are beside a student alone, and whose runs failed."""
    found = uneven(rows[0].runs[0].data.load())
    alone = [o.metrics[MEASURE] for run in rows[0].runs if isinstance(o := results[run], Result)]
    taught = {name: [run.teachers[name] for run in rows[-1].runs] for name in rows[-1].runs[0].teachers}
    for name, teachers in taught.items():
        known = [o.metrics[MEASURE] for run in dict.fromkeys(teachers) if (o := find(run)) is not None]
        if not known:
            continue
        line = f"{name} teacher {teachers[0].student.title}: test Top-1 {percent(pd.Series(known))} %"
        if len(teachers) > 1:
            line += f", {len(set(teachers))} trained" if len(set(teachers)) > 1 else ", the same for every seed"
        if alone and fmean(known) <= fmean(alone):
            by_itself = f"the student by hard labels ({percent(pd.Series(alone))} %)"
            line += f"; no better than {by_itself}, so little to learn from"
        found.append(line)
    for method, row in zip(methods, rows, strict=True):
        failed = [o for run in row.runs if isinstance(o := results[run], Failure)]
        if failed:
            found.append(f"{method.title}: {len(failed)} of {len(row.runs)} runs failed, first: {failed[0].reason}")
    return found


# ---- verdicts -----------------------------------------------------------------------------------------------------


def judge(methods: Sequence[Method], frame: pd.DataFrame, data: Mapping[str, Dataset]) -> pd.DataFrame:
    """Judges every pair of methods: that the dearer one's students have the higher test Top-1. A line a pair."""
    claims = [
        Claim.of(
            frame, better.key, worse.key, MEASURE, data, text=f"{better.said} raises test Top-1", against=worse.said
        )
        for worse, better in combinations(methods, 2)
    ]
    return judged(claims).drop(columns=["where", "paper", "printed"])


# ---- the sentence -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gain:
    """One method's test Top-1 less another's, in points, half its interval, the verdict, and what would tell."""

    effect: float
    half: float
    verdict: str
    seeds: str

    def __str__(self) -> str:
        return f"{self.effect:+.1f} ± {self.half:.1f}"


Told = Mapping[tuple[Method, Method], Gain]  # of the first over the second


def told_of(methods: Sequence[Method], verdicts: pd.DataFrame) -> Told:
    """What is told of each method over each other one."""
    found = {}
    measured = verdicts[["effect", "high", "verdict", "seeds to tell"]].itertuples(index=False)
    for (theirs, ours), (effect, high, verdict, seeds) in zip(combinations(methods, 2), measured, strict=True):
        gain = Gain(effect, high - effect, verdict, seeds)
        turned = {HOLDS: FAILS, FAILS: HOLDS}.get(gain.verdict, gain.verdict)
        found |= {(ours, theirs): gain, (theirs, ours): replace(gain, effect=0.0 - gain.effect, verdict=turned)}
    return found


def recommendation(methods: Sequence[Method], frame: pd.DataFrame, verdicts: pd.DataFrame, data: Dataset) -> str:
    """Says in one sentence what to use: the first method that is told from guessing, or step by step one that is told
    better than it.

    What cannot be told is said so, with what it would need. To be compared takes two seeds in common with another row.
    """
    told, seeds = told_of(methods, verdicts), frame["seed"].nunique()
    where = f"On {data.name} ({counted(seeds, 'seed')})"
    there = [method for method in methods if not ended(of(frame, method))]
    lost = [method for method in methods if method not in there]
    if lost:
        where += f" {listed([each.said for each in lost])} did not finish, and"
    if len(there) < 2:
        return f"{where} nothing can be compared: no recommendation."
    in_pairs = [a for a in there if any(told[b, a].verdict != NONE for b in there if b != a)]
    if not in_pairs:
        why = "one seed has no interval" if seeds == 1 else "no two rows have two seeds in common"
        return f"{where} nothing can be told: {why}, so ask for three or more, better five."
    chance = {m.key: guessing(frame, [m.key], MEASURE, dict.fromkeys(frame["role"], data)) for m in in_pairs}
    able, unable = [m for m in in_pairs if not chance[m.key]], [m.said for m in in_pairs if chance[m.key]]
    if not able:
        best = chance[max(in_pairs, key=lambda m: of(frame, m)[MEASURE].mean()).key]
        return f"{where} not even the best row is told from guessing: {best}; give more seeds, images or epochs first."
    use, steps = able[0], []
    while len(steps) < len(able) and (better := [m for m in able if m != use and told[m, use].verdict == HOLDS]):
        steps.append((better[0], use))
        use = better[0]
    clauses = [f"{listed(unable)} {'are' if len(unable) > 1 else 'is'} not told from guessing"] if unable else []
    clauses += [f"{ours.said} helps ({told[ours, theirs]} points over {theirs.said})" for ours, theirs in steps]
    passed = {use}.union(*steps)
    others = [method for method in there if method not in passed]
    clauses += compared(use, others, told, frame, "it" if steps else use.said)
    return f"{where} {'; '.join(clauses)}: use {use.said}{needs(use, others, told)}."


RELATIONS = {  # of others to the method to use, by the verdict on them: in singular, in plural
    OPEN: ("cannot be told from", "cannot be told from"),
    FAILS: ("is worse than", "are worse than"),
    NONE: ("has fewer than two seeds in common with", "have fewer than two seeds in common with"),
}


def compared(use: Method, others: Sequence[Method], told: Told, frame: pd.DataFrame, it: str) -> list[str]:
    """Says how the others do beside the method to use, called `it`, and what they cost of its cost."""
    own, found = of(frame, use)["all_flops"].mean(), []
    for verdict, relation in RELATIONS.items():
        alike = [method for method in others if told[method, use].verdict == verdict]
        if not alike:
            continue
        gains = ", ".join(str(told[method, use]) for method in alike)
        shown = f" ({gains} points)" if verdict != NONE else ""
        times = [f"{of(frame, method)['all_flops'].mean() / own:.1f}" for method in alike]
        several = len(alike) > 1
        cost = f"cost{'' if several else 's'} {listed(times)} times as much, teachers included"
        found.append(f"{listed([each.said for each in alike])} {relation[several]} {it}{shown} and {cost}")
    return found


def needs(use: Method, others: Sequence[Method], told: Told) -> str:
    """Says how many seeds would tell the largest gain that is seen over the method to use, but not told."""
    seen = [(told[method, use], method) for method in others]
    ahead = [(gain, method) for gain, method in seen if gain.verdict == OPEN and gain.effect > 0]
    if not ahead:
        return ""
    gain, method = max(ahead, key=lambda each: each[0].effect)
    return (
        f"; a gain as large as that of {method.said} here ({gain.effect:+.1f} points) would take {gain.seeds} seeds "
        f"to tell"
    )


def listed(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
