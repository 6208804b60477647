"""Data-parallel training: one run after another, each by all of torchrun's processes."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping

from kit import parallel
from kit.parallel.ranks import Ranks
from kit.runs.spec import Run, with_teachers
from kit.runs.store import Failure, Result, folder_of
from kit.runs.training import outcome_of
from kit.runtime.bars import Bar
from kit.trainer import check_shareable


def without_a_teacher(teachers: Iterable[Run], results: Mapping[Run, Result | Failure]) -> str | None:
    """Says why a run cannot be trained, where one of its teachers has failed."""
    for outcome in map(results.__getitem__, teachers):
        if isinstance(outcome, Failure):
            return f"its teacher ({outcome.run.title}) did not finish: {outcome.reason}"
    return None


def tell(outcome: Result | Failure) -> None:
    """Says why a run did not finish; warns of a given network that answers its test split no better than by chance,
    which was given by mistake."""
    run = outcome.run
    if isinstance(outcome, Failure):
        print(f"run {run.hash} ({run.title}) did not finish: {outcome.reason}", file=sys.stderr)
    elif run.is_given:
        images, by_chance, found = len(run.data.load().test), 1 / run.data.classes, outcome.metrics["test_top1"]
        if found <= by_chance + 2 * math.sqrt(by_chance * (1 - by_chance) / images):
            print(
                f"warning: {run.title}: test Top-1 {found:.1%} on {images} images is at chance level, {by_chance:.1%}; "
                f"the order of its classes, its normalisation or its images' size may be others than this role's",
                file=sys.stderr,
            )


# ---- one run after another, each by all of torchrun's processes ---------------------------------------------------


def train_together(runs: list[Run], show_progress: bool) -> Mapping[Run, Result | Failure]:
    """`train_all` in one of several processes that all call it: every missing run data-parallel, teachers first. The
    first of them locks, writes and shows progress. Raises KitError where they cannot share a run, before the first."""
    everything = with_teachers(runs)
    for run in everything:
        check_shareable(run.recipe, run.data.train_images, Ranks(count=parallel.count()))
    done: dict[Run, Result | Failure] = {}
    for run in everything:
        ranks, reason = parallel.ranks_on(run.device), without_a_teacher(run.teachers.values(), done)
        if reason is not None:
            outcome: Result | Failure = Failure(run, reason)
        else:
            is_shown = show_progress and ranks.is_first and not folder_of(run.hash).exists()
            with ranks.together(), Bar(total=1, desc=f"training {run.title}", disable=not is_shown) as bar:
                outcome = outcome_of(run, bar.update, ranks)
        if ranks.is_first:
            tell(outcome)
        done[run] = outcome
    return {run: done[run] for run in runs}
