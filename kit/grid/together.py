"""Data-parallel training: one run after another, each by all of torchrun's processes."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from contextlib import nullcontext, suppress

from kit import parallel
from kit.errors import KitError
from kit.files import cache_folder, locked
from kit.parallel.ranks import Ranks
from kit.runs.spec import Run, with_teachers
from kit.runs.store import Failure, Result, clear_damage, folder_of, lookup
from kit.runs.training import train_missing
from kit.runtime.bars import Bar
from kit.training.batches import check_shareable
from kit.training.history import Diverged


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
            with ranks.together():
                outcome = _train_shared(run, ranks, show_progress)
        if ranks.is_first:
            tell(outcome)
        done[run] = outcome
    return {run: done[run] for run in runs}


def _train_shared(run: Run, ranks: Ranks, show_progress: bool) -> Result | Failure:
    if ranks.is_first:
        clear_damage(run)
    with locked(folder_of(run.hash)) if ranks.is_first else nullcontext():
        if ranks.broadcast(ranks.is_first and lookup(run) is None):
            quiet = not (show_progress and ranks.is_first)
            bar = Bar(total=100, desc=f"training {run.title}", disable=quiet)
            with suppress(Diverged), bar:  # that is written down
                train_missing(run, lambda share: bar.update(100 * share), ranks)
        ranks.wait()  # for the first to have written
    outcome = lookup(run)
    if outcome is None:
        raise KitError(
            f"run {run.hash} is not in {cache_folder()}, though the first process has stored it; allowed: a cache, by "
            f"KIT_CACHE, in a folder that all processes see"
        )
    return outcome
