"""Many runs, packed onto an engine's slots: costliest chains first, teachers before students, shared logits once.

results = train_all([run, …])      # side by side, one thread each
results[run].metrics["test_top1"]
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass

from tqdm.auto import tqdm

from kit import parallel
from kit.engines import Engine, Progress, Task, engine_for
from kit.errors import KitError
from kit.models import flops_per_image
from kit.pace import Pace, Work, images_of, seen_at, seen_in
from kit.parallel import Ranks
from kit.runs import (
    Failure,
    Result,
    Run,
    cache_folder,
    compute_logits,
    folder_of,
    found,
    locked,
    outcome,
    teacher_logits,
    train,
    train_missing,
    usable,
    with_teachers,
)
from kit.teacher_logits import TeacherLogits, limit
from kit.trainer import Diverged, check_shareable, needs_graph

BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
SHARED_BY = 2  # so many runs must want a teacher's logits of an epoch for these to be computed apart


# ---- any tasks ----------------------------------------------------------------------------------------------------


def run_tasks(
    tasks: Iterable[Task],
    engine: Engine,
    cost: Callable[[Task], float],
    ended: Callable[[Task, str | None], None],
    skip: Callable[[Task], str | None] = lambda task: None,
    bar: tqdm | None = None,
) -> None:
    """Does the tasks as slots get free, of those that can begin always the one that begins the costliest chain.

    `ended` hears of each task, and why it failed if it did; `skip` may say, just before a task, why it is pointless.
    `bar` counts in the costs that the tasks have when this begins.
    """
    waiting = {task.key: task for task in tasks}
    running: dict[Future, Task] = {}
    to_tell = {key: cost(task) for key, task in waiting.items()}  # of each task's cost, what the bar has not heard of
    whole = dict(to_tell)

    def tell(key: str, part: float) -> None:
        part = min(part, to_tell[key])
        to_tell[key] -= part
        if bar is not None:
            bar.update(part)

    while waiting or running:
        unfinished = waiting.keys() | {task.key for task in running.values()}
        can_begin = [task for task in waiting.values() if not task.needs & unfinished]
        if can_begin and len(running) < engine.slots:
            chains = critical_path(waiting.values(), cost)
            can_begin.sort(key=lambda task: -chains[task.key])
            for task in can_begin:
                if len(running) >= engine.slots:
                    break
                del waiting[task.key]
                reason = skip(task)
                if reason is None:
                    running[engine.submit(task)] = task
                else:
                    ended(task, reason)
        finished, _ = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
        for key, share in engine.progress():
            tell(key, share * whole[key])
        for future in finished:
            task = running.pop(future)
            ended(task, future.result())
            tell(task.key, whole[task.key])


def critical_path(tasks: Iterable[Task], cost: Callable[[Task], float]) -> dict[str, float]:
    """For each task the cost of the costliest chain of tasks that begins with it."""
    tasks = list(tasks)
    heirs: dict[str, list[Task]] = defaultdict(list)
    for task in tasks:
        for key in task.needs:
            heirs[key].append(task)
    chains: dict[str, float] = {}

    def chain(task: Task) -> float:
        if task.key not in chains:
            chains[task.key] = cost(task) + max(map(chain, heirs[task.key]), default=0.0)
        return chains[task.key]

    for task in tasks:
        chain(task)
    return chains


# ---- runs, and logits that several of them share ------------------------------------------------------------------


@dataclass(frozen=True)
class SharedLogits:
    """A teacher's logits in some epochs, as `run` and others need them."""

    key: str
    run: Run
    teacher: str
    epochs: tuple[int, ...]


def train_all(
    runs: Iterable[Run], jobs: int | Engine | None = None, show_progress: bool = True
) -> Mapping[Run, Result | Failure]:
    """Trains what is missing, side by side in `jobs` processes of one thread each, and gives every run's result.

    `jobs` may be an engine instead: `kit.cluster.DaskCluster` trains on the machines of a Dask cluster. Teachers shared
    by several runs are trained once, and their logits in an epoch computed once. A run that diverges becomes a Failure;
    the others go on. A damaged folder in the cache is set aside and its run trained anew. Processes that torchrun
    started all call this, and train one run after another together.
    """
    runs = list(runs)
    if parallel.count() > 1:
        return train_together(runs, show_progress)
    grid = Grid(runs)
    if grid.tasks:
        about, total = f"training {len(grid.missing)} runs", sum(map(grid.cost, grid.tasks))
        engine = engine_for(jobs, len(grid.tasks))
        with engine, tqdm(total=total, desc=about, disable=not show_progress, bar_format=BAR) as bar:
            run_tasks(grid.tasks, engine, grid.cost, grid.ended, grid.skip, bar)
    return {run: grid.results[run] for run in runs}


class Grid:
    """Runs and all they learn from: what is known of them, and the tasks that find out the rest.

    A task costs the seconds that it is expected to take, by the pace of the runs that have finished so far, here too.
    """

    def __init__(self, runs: Iterable[Run]) -> None:
        everything = with_teachers(runs)
        known = {run: found(run) for run in everything}
        self.results: dict[Run, Result | Failure] = {run: each for run, each in known.items() if each is not None}
        for each in self.results.values():
            if isinstance(each, Failure):
                tell(each)
        self.missing = [run for run in everything if run not in self.results]
        shared = shared_logits(self.missing)
        self.tasks = [self._training(run, shared) for run in self.missing] + [self._computing(each) for each in shared]
        self._seen = list(seen_in(cache_folder())) if self.missing else []
        self._pace, self._costs = Pace.from_runs(self._seen), {}
        epochs = {each.key: set(each.epochs) for each in shared}
        self._read = {run: dict(_share_read(run, epochs)) for run in self.missing}

    def _training(self, run: Run, shared: Iterable[SharedLogits]) -> Task:
        wanted = {teacher_logits(run, name).key for name in read_from(run)}
        of_logits = {each.key for each in shared if each.key in wanted}
        teachers = {teacher.hash for teacher in run.teachers.values()}
        return Task(run.hash, run.title, train_in_worker, run, frozenset(teachers | of_logits))

    def _computing(self, shared: SharedLogits) -> Task:
        teacher = shared.run.teachers[shared.teacher]
        title = f"logits of {teacher.title}"
        return Task(shared.key, title, compute_in_worker, shared, frozenset({teacher.hash}))

    def cost(self, task: Task) -> float:
        """Expected seconds of one thread; a run that reads logits computed apart costs less by that."""
        if task.key not in self._costs:
            self._costs[task.key] = self._seconds(task.about)
        return self._costs[task.key]

    def _seconds(self, about: Run | SharedLogits) -> float:
        if isinstance(about, SharedLogits):
            images = len(about.epochs) * teacher_logits(about.run, about.teacher).rows
            return images * asking(about.run, about.teacher, self._pace)
        return seconds_reading(about, self._read[about], self._pace)

    def skip(self, task: Task) -> str | None:
        """Where a teacher has failed there is nobody to learn from."""
        about = task.about
        needed = about.teachers.values() if isinstance(about, Run) else [about.run.teachers[about.teacher]]
        return without_a_teacher(needed, self.results)

    def ended(self, task: Task, reason: str | None) -> None:
        if isinstance(task.about, SharedLogits):
            if reason is not None and self.skip(task) is None:  # the runs will ask the teacher themselves
                print(f"warning: {task.title} are not shared: {reason}", file=sys.stderr)
            return
        run = task.about
        self.results[run] = outcome(run) if reason is None else Failure(run, reason)
        if isinstance(self.results[run], Failure):
            tell(self.results[run])
        else:
            self._learn(self.results[run])

    def _learn(self, result: Result) -> None:
        """What is left to do is expected to go as what has been done."""
        one = seen_at(result.folder)
        if one is not None:
            self._seen.append(one)
            self._pace = Pace.from_runs(self._seen)
            self._costs.clear()


def seconds_reading(run: Run, read: Mapping[str, float], pace: Pace) -> float:
    """Expected seconds of a run that is spared, by teacher, a share of its forward passes, as it reads what they give.
    """
    images = images_of(run)
    spared = sum(share * images * teaching_share(run, name) * asking(run, name, pace) for name, share in read.items())
    in_parts = Pace(pace.rates).seconds(run)  # as if its make had never been seen: each part at its rate
    return pace.seconds(run) * (1 - spared / in_parts)


def asking(run: Run, name: str, pace: Pace) -> float:
    """Seconds in which a run's teacher gives an image's logits."""
    teacher, px = run.teachers[name].student, run.data.px
    return flops_per_image(teacher, px)[0] / pace.rate(Work(teacher, px, True, run.device))


def read_from(run: Run) -> list[str]:
    """The teachers, by name, whose logits the run reads where they are known; the others it asks itself in any case."""
    stages = run.recipe.stages
    return [
        name
        for name in run.recipe.teachers
        if not all(needs_graph(stage.objective) for stage in stages if stage.teacher == name)
    ]


def teaching_share(run: Run, name: str) -> float:
    """Forward passes of a teacher for each image that the student sees, at most."""
    stages, begun = run.recipe.stages, (0.0, *(stage.until for stage in run.recipe.stages))
    return sum(
        (stage.until - begin) * stage.objective.teacher_work
        for begin, stage in zip(begun, stages, strict=False)
        if stage.teacher == name and not needs_graph(stage.objective)
    )


def _share_read(run: Run, computed_apart: Mapping[str, set[int]]) -> Iterator[tuple[str, float]]:
    """By teacher, for which share of its epochs logits are there, or will be when the run begins."""
    for name in read_from(run):
        kept, epochs = teacher_logits(run, name), run.recipe.epochs_with(name)
        apart = computed_apart.get(kept.key, set())
        yield name, sum(epoch in apart or kept.place(epoch).is_dir() for epoch in epochs) / len(epochs)


def shared_logits(
    runs: Iterable[Run], missing: Callable[[TeacherLogits, list[int]], list[int]] = TeacherLogits.missing
) -> list[SharedLogits]:
    """What of their teachers' logits to compute apart: what several of these runs want and nobody has computed.

    The most wanted first, as far as they are let (`kit.teacher_logits.limit`).
    """
    left = limit()
    wanted: dict[str, list[tuple[Run, str]]] = defaultdict(list)
    for run in runs:
        for name in read_from(run):
            wanted[teacher_logits(run, name).key].append((run, name))
    shared = []
    for key, users in sorted(wanted.items(), key=lambda item: -len(item[1])):
        run, name = users[0]
        kept = teacher_logits(run, name)
        counts: dict[int, int] = defaultdict(int)
        for each, its_name in users:
            for epoch in each.recipe.epochs_with(its_name):
                counts[epoch] += 1
        epochs = missing(kept, [epoch for epoch in sorted(counts) if counts[epoch] >= SHARED_BY])
        if epochs and len(epochs) * kept.bytes_an_epoch <= left:
            left -= len(epochs) * kept.bytes_an_epoch
            shared.append(SharedLogits(key, run, name, tuple(epochs)))
    return shared


def without_a_teacher(teachers: Iterable[Run], results: Mapping[Run, Result | Failure]) -> str | None:
    """Why nobody can learn from these teachers, if one of them has failed."""
    failed = next((results[run] for run in teachers if isinstance(results[run], Failure)), None)
    return failed and f"its teacher ({failed.run.title}) did not finish: {failed.reason}"


def tell(failure: Failure) -> None:
    run = failure.run
    print(f"run {run.hash} ({run.title}) did not finish: {failure.reason}", file=sys.stderr)


# ---- one run after another, each by all of torchrun's processes ---------------------------------------------------


def train_together(runs: list[Run], show_progress: bool) -> Mapping[Run, Result | Failure]:
    """`train_all` in one of several processes that all call it: every missing run data-parallel, teachers first. The
    first of them locks, writes and shows progress. Raises KitError where they cannot share a run, before the first."""
    everything = with_teachers(runs)
    for run in everything:
        check_shareable(run.recipe, run.data.train_images, Ranks(count=parallel.count()))
    done: dict[Run, Result | Failure] = {}
    for run in everything:
        ranks, reason = parallel.ranks(run.device), without_a_teacher(run.teachers.values(), done)
        if reason is not None:
            done[run] = Failure(run, reason)
        else:
            with ranks.together():
                done[run] = _train_shared(run, ranks, show_progress)
        if isinstance(done[run], Failure) and ranks.is_first:
            tell(done[run])
    return {run: done[run] for run in runs}


def _train_shared(run: Run, ranks: Ranks, show_progress: bool) -> Result | Failure:
    with locked(folder_of(run.hash)) if ranks.is_first else nullcontext():
        if ranks.told(ranks.is_first and usable(run) is None):
            quiet = not (show_progress and ranks.is_first)
            bar = tqdm(total=100, desc=f"training {run.title}", unit="%", disable=quiet, bar_format=BAR)
            with closing(bar), suppress(Diverged):  # that is written down
                train_missing(run, lambda share: bar.update(100 * share), ranks)
        ranks.wait()  # for the first to have written
    ended = outcome(run)
    if ended is None:
        raise KitError(
            f"run {run.hash} is not in {cache_folder()}, though the first process has stored it; allowed: a cache, by "
            f"KIT_CACHE, in a folder that all processes see"
        )
    return ended


# ---- in a worker process ------------------------------------------------------------------------------------------


def train_in_worker(run: Run, tick: Progress) -> str | None:
    """Trains a run; None when its outcome is in the cache, else why not."""
    try:
        train(run, tick)
    except Diverged:
        return None  # written down
    except KitError as error:
        return str(error)
    return None


def compute_in_worker(shared: SharedLogits, tick: Progress) -> str | None:
    """Computes logits that runs share; None when they are in the cache, else why not."""
    try:
        for _ in compute_logits(shared.run, shared.teacher, shared.epochs):
            tick(1 / len(shared.epochs))
    except KitError as error:
        return str(error)
    return None
