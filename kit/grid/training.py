"""The runs of a grid: which of them are missing, and the tasks that train those, or torchrun's processes together."""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial

from kit import parallel
from kit.files import cache_folder
from kit.grid.durations import Pace, seen_at, seen_in
from kit.grid.engines import Engine, Task, engine_for
from kit.grid.schedule import run_tasks
from kit.parallel.ranks import Ranks
from kit.recipe import Recipe
from kit.runs.checkpoint import difference
from kit.runs.logits import TeacherLogits, limit
from kit.runs.spec import Run, versions, with_teachers
from kit.runs.store import Failure, Result, clear_damage, folder_of, lookup
from kit.runs.training import compute_logits, outcome_of, readable_logits, teacher_logits
from kit.runtime.bars import Bar
from kit.runtime.progress import Progress
from kit.training.batches import check_shareable

SHARED_BY = 2  # so many runs must want a teacher's logits of an epoch for these to be computed apart


def train_all(
    runs: Iterable[Run], jobs: int | Engine | None = None, show_progress: bool = True
) -> Mapping[Run, Result | Failure]:
    """Trains the missing runs, side by side in `jobs` processes of one thread each, and returns every run's result.

    `jobs` may be an engine instead: `kit.grid.DaskCluster` trains on the machines of a Dask cluster. Teachers shared
    by several runs are trained once, and their logits in an epoch computed once. A run that diverges, raises an
    exception or whose process is killed becomes a Failure with its reason; the others go on. A damaged folder in the
    cache is set aside and its run trained anew. Processes that torchrun started all call this, and train one run after
    another together.
    """
    runs = list(runs)
    if parallel.count() > 1:
        return train_together(runs, show_progress)
    grid = Grid(runs)
    return grid.train(runs, grid.engine(jobs), partial(grid.bar, show_progress))


def begin_all(
    runs: Iterable[Run], jobs: int | Engine | None = None, show_progress: bool = True
) -> Future[Mapping[Run, Result | Failure]]:
    """Begins to train as `train_all` does, on a thread, and returns at once; the future's `result()` waits for it.

    A notebook shows the progress below the cell that began it, whichever runs meanwhile.
    """
    runs = list(runs)
    grid = Grid(runs)
    engine, bar = grid.engine(jobs), grid.bar(show_progress)  # here, for the bar is the running cell's

    def trained() -> Mapping[Run, Result | Failure]:
        with bar:
            return grid.train(runs, engine, lambda: bar)

    return ThreadPoolExecutor(1, "training").submit(copy_context().run, trained)


class Grid:
    """Holds runs and their teachers: the results that are cached, and the tasks that train the rest.

    A task costs the seconds that it is expected to take, by the pace of the runs that have finished so far, here too.
    """

    def __init__(self, runs: Iterable[Run]) -> None:
        everything = with_teachers(runs)
        self.results: dict[Run, Result | Failure] = {}
        for run in everything:
            clear_damage(run)
            outcome = lookup(run)
            if outcome is not None:
                self.results[run] = outcome
                tell(outcome)
        tell_versions(self.results.values())
        self.missing = [run for run in everything if run not in self.results]
        shared = shared_logits(self.missing)
        self.tasks = [self._training(run, shared) for run in self.missing] + [self._computing(each) for each in shared]
        self._seen = list(seen_in(cache_folder())) if self.missing else []
        self.pace = Pace.from_runs(self._seen)
        self._costs: dict[str, float] = {}
        epochs = {each.key: set(each.epochs) for each in shared}
        self._read = {run: share_read(run, epochs) for run in self.missing}

    def engine(self, jobs: int | Engine | None) -> Engine | None:
        """Chooses what trains the missing runs; None where none is missing. KitError for jobs that are not allowed."""
        devices = {run.device for run in self.missing}
        return engine_for(jobs, len(self.tasks), devices) if self.tasks else None

    def bar(self, shown: bool) -> Bar:
        """Begins a bar, of which nothing is shown where no run is missing."""
        about, total = f"training {len(self.missing)} runs", sum(map(self.cost, self.tasks))
        return Bar(total=total, desc=about, disable=not (shown and self.tasks))

    def train(
        self, runs: Iterable[Run], engine: Engine | None, begin: Callable[[], Bar]
    ) -> Mapping[Run, Result | Failure]:
        """Trains what is missing, and gives the results of these runs. The bar begins once the engine has."""
        if engine is not None:
            with engine, begin() as bar:
                run_tasks(self.tasks, engine, self.cost, self.ended, self.skip, bar)
        return {run: self.results[run] for run in runs}

    def _training(self, run: Run, shared: Iterable[SharedLogits]) -> Task:
        wanted = {kept.key for kept in readable_logits(run).values()}
        of_logits = {each.key for each in shared if each.key in wanted}
        teachers = {teacher.hash for teacher in run.teachers.values()}
        return Task(run.hash, run.title, train_in_worker, run, frozenset(teachers | of_logits))

    def _computing(self, shared: SharedLogits) -> Task:
        teacher = shared.run.teachers[shared.teacher]
        title = f"logits of {teacher.title}"
        return Task(shared.key, title, compute_in_worker, shared, frozenset({teacher.hash}))

    def cost(self, task: Task) -> float:
        """Predicts the seconds of one thread; a run that reads cached logits costs less by that."""
        if task.key not in self._costs:
            self._costs[task.key] = self._seconds(task.about)
        return self._costs[task.key]

    def _seconds(self, about: Run | SharedLogits) -> float:
        if isinstance(about, SharedLogits):
            images = len(about.epochs) * teacher_logits(about.run, about.teacher).rows
            return self.pace.answering(about.run, about.run.teachers[about.teacher].student, images)
        return self.pace.seconds(about, self._read[about])

    def skip(self, task: Task) -> str | None:
        """Says why a task is left out: one of its teachers has failed."""
        about = task.about
        needed = about.teachers.values() if isinstance(about, Run) else [about.run.teachers[about.teacher]]
        return without_a_teacher(needed, self.results)

    def ended(self, task: Task, reason: str | None) -> None:
        if isinstance(task.about, SharedLogits):
            if reason is not None and self.skip(task) is None:  # the runs will ask the teacher themselves
                print(f"warning: {task.title} are not shared: {reason}", file=sys.stderr)
            return
        run = task.about
        outcome = lookup(run) if reason is None else Failure(run, reason)
        if outcome is None:
            outcome = Failure(run, "its engine did not leave it in the cache")
        self.results[run] = outcome
        tell(outcome)
        if isinstance(outcome, Result):
            self._learn(outcome)

    def _learn(self, result: Result) -> None:
        """Updates the predicted durations by a run that has finished."""
        one = seen_at(result.folder)
        if one is not None:
            self._seen.append(one)
            self.pace = Pace.from_runs(self._seen)
            self._costs.clear()


# ---- teachers' logits that several runs read, cached before these begin ---------------------------------------------


@dataclass(frozen=True)
class SharedLogits:
    """A teacher's logits in some epochs, as `run` and others need them."""

    key: str
    run: Run
    teacher: str
    epochs: tuple[int, ...]


def epochs_with(recipe: Recipe, teacher: str) -> range:
    """Returns the epochs, counted from 0, in which a run may learn from the teacher; a stage whose t moves may end
    early."""
    spans, begin = [], 0.0
    for stage in recipe.stages:
        if teacher in stage.teachers:
            spans.append((begin, stage.until))
        moves = stage.temperature is not None and stage.temperature.moves
        begin = begin if moves else stage.until
    first, last = min(begin for begin, _ in spans), max(until for _, until in spans)
    return range(math.floor(first * recipe.epochs), math.ceil(last * recipe.epochs))


def share_read(run: Run, computed_apart: Mapping[str, set[int]]) -> dict[str, float]:
    """Computes by teacher the share of epochs whose logits are cached, or will be when the run begins."""
    shares = {}
    for name, kept in readable_logits(run).items():
        apart, epochs = computed_apart.get(kept.key, set()), epochs_with(run.recipe, name)
        shares[name] = sum(epoch in apart or kept.place(epoch).is_dir() for epoch in epochs) / len(epochs)
    return shares


def shared_logits(
    runs: Iterable[Run], missing: Callable[[TeacherLogits, list[int]], list[int]] = TeacherLogits.missing
) -> list[SharedLogits]:
    """Selects the teachers' logits to compute apart: those that several of these runs read and that are not cached.

    The most wanted first, as far as they are let (`kit.runs.logits.limit`).
    """
    left = limit()
    wanted: dict[str, list[tuple[Run, str]]] = defaultdict(list)
    for run in runs:
        for name, kept in readable_logits(run).items():
            wanted[kept.key].append((run, name))
    shared = []
    for key, users in sorted(wanted.items(), key=lambda item: -len(item[1])):
        run, name = users[0]
        kept = teacher_logits(run, name)
        counts: dict[int, int] = defaultdict(int)
        for each, its_name in users:
            for epoch in epochs_with(each.recipe, its_name):
                counts[epoch] += 1
        epochs = missing(kept, [epoch for epoch in sorted(counts) if counts[epoch] >= SHARED_BY])
        if epochs and len(epochs) * kept.bytes_an_epoch <= left:
            left -= len(epochs) * kept.bytes_an_epoch
            shared.append(SharedLogits(key, run, name, tuple(epochs)))
    return shared


# ---- how runs ended -----------------------------------------------------------------------------------------------


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


def tell_versions(outcomes: Iterable[Result | Failure]) -> None:
    """Says of how many results other packages or instructions made them: trained here they might be others."""
    found = [outcome.versions for outcome in outcomes if isinstance(outcome, Result)]
    if others := [theirs for theirs in found if theirs != versions()]:
        print(
            f"note: {len(others)} of the {len(found)} runs that are in the cache already were trained under other "
            f"versions, the first under {difference(others[0], versions())}",
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


# ---- in a worker process ------------------------------------------------------------------------------------------


def train_in_worker(run: Run, tick: Progress) -> None:
    """Trains a run; when this returns, its outcome is in the cache. Raises what kept it from that."""
    outcome_of(run, tick)


def compute_in_worker(shared: SharedLogits, tick: Progress) -> None:
    """Computes logits that runs share; when this returns, they are in the cache. Raises what kept them from it."""
    for _ in compute_logits(shared.run, shared.teacher, shared.epochs):
        tick(1 / len(shared.epochs))
