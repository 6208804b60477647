"""Many runs, packed onto an engine's slots: costliest chains first, teachers before students, shared logits once.

results = train_all([run, …])      # side by side, one thread each
results[run].metrics["test_top1"]
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass

from tqdm.auto import tqdm

from kit.engines import Engine, Task, Tick, engine_for
from kit.errors import KitError
from kit.models import flops_per_image
from kit.runs import Failure, Result, Run, compute_logits, found, outcome, teacher_logits, train, with_teachers
from kit.teacher_logits import limit
from kit.trainer import Diverged

BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
SHARED_BY = 2  # so many runs must want a teacher's logits of an epoch for these to be computed apart


# ---- any tasks ----------------------------------------------------------------------------------------------------


def carry_out(
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
            chains = urgency(waiting.values(), cost)
            can_begin.sort(key=lambda task: -chains[task.key])
            for task in can_begin[: engine.slots - len(running)]:
                del waiting[task.key]
                reason = skip(task)
                if reason is None:
                    running[engine.submit(task)] = task
                else:
                    ended(task, reason)
        finished, _ = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
        for key, share in engine.heard():
            tell(key, share * whole[key])
        for future in finished:
            task = running.pop(future)
            ended(task, future.result())
            tell(task.key, whole[task.key])


def urgency(tasks: Iterable[Task], cost: Callable[[Task], float]) -> dict[str, float]:
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
    runs: Iterable[Run], jobs: int | Engine | None = None, show_progress: bool = True, engine: Engine | None = None
) -> Mapping[Run, Result | Failure]:
    """Trains what is missing, side by side in `jobs` processes of one thread each, and gives every run's result.

    An `engine`, or one given as `jobs`, trains elsewhere: `kit.cluster.DaskCluster` on the machines of a Dask cluster.
    Teachers shared by several runs are trained once, and their logits in an epoch computed once. A run that diverges
    becomes a Failure; the others go on. A damaged folder in the cache is set aside and its run trained anew.
    """
    runs = list(runs)
    grid = Grid(runs)
    if grid.tasks:
        engine = engine or engine_for(jobs, len(grid.tasks))
        total = sum(map(grid.cost, grid.tasks))
        about = f"training {len(grid.missing)} runs"
        with engine, tqdm(total=total, desc=about, disable=not show_progress, bar_format=BAR) as bar:
            carry_out(grid.tasks, engine, grid.cost, grid.ended, grid.skip, bar)
    return {run: grid.results[run] for run in runs}


class Grid:
    """Runs and all they learn from: what is known of them, and the tasks that find out the rest."""

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

    def _training(self, run: Run, shared: Iterable[SharedLogits]) -> Task:
        wanted = {teacher_logits(run, name).key for name in run.recipe.teachers}
        of_logits = {each.key for each in shared if each.key in wanted}
        teachers = {teacher.hash for teacher in run.teachers.values()}
        return Task(run.hash, run.title, train_in_worker, run, frozenset(teachers | of_logits))

    def _computing(self, shared: SharedLogits) -> Task:
        teacher = shared.run.teachers[shared.teacher]
        title = f"logits of {teacher.title}"
        return Task(shared.key, title, compute_in_worker, shared, frozenset({teacher.hash}))

    def cost(self, task: Task) -> float:
        """Expected FLOPs."""
        if isinstance(task.about, Run):
            return task.about.cost
        run = task.about.run
        forward, _ = flops_per_image(run.teachers[task.about.teacher].student, run.data.px)
        return forward * run.data.train_images * len(task.about.epochs)

    def skip(self, task: Task) -> str | None:
        """Where a teacher has failed there is nobody to learn from."""
        about = task.about
        needed = about.teachers.values() if isinstance(about, Run) else [about.run.teachers[about.teacher]]
        ended = (self.results[teacher] for teacher in needed)
        failed = next((each for each in ended if isinstance(each, Failure)), None)
        return failed and f"its teacher ({failed.run.title}) did not finish: {failed.reason}"

    def ended(self, task: Task, reason: str | None) -> None:
        if isinstance(task.about, SharedLogits):
            if reason is not None and self.skip(task) is None:  # the runs will ask the teacher themselves
                print(f"warning: {task.title} are not shared: {reason}", file=sys.stderr)
            return
        run = task.about
        self.results[run] = outcome(run) if reason is None else Failure(run, reason)
        if isinstance(self.results[run], Failure):
            tell(self.results[run])


def shared_logits(runs: Iterable[Run]) -> list[SharedLogits]:
    """What of their teachers' logits to compute apart: what several of these runs want and nobody has computed."""
    wanted: dict[str, list[tuple[Run, str]]] = defaultdict(list)
    for run in runs:
        for name in run.recipe.teachers:
            wanted[teacher_logits(run, name).key].append((run, name))
    shared = []
    for key, users in wanted.items():
        run, name = users[0]
        kept = teacher_logits(run, name)
        counts: dict[int, int] = defaultdict(int)
        for each, its_name in users:
            for epoch in each.recipe.epochs_with(its_name):
                counts[epoch] += 1
        epochs = kept.missing(epoch for epoch in sorted(counts) if counts[epoch] >= SHARED_BY)
        if epochs and len(epochs) * kept.bytes_an_epoch <= limit():
            shared.append(SharedLogits(key, run, name, tuple(epochs)))
    return shared


def tell(failure: Failure) -> None:
    run = failure.run
    print(f"run {run.hash} ({run.title}) did not finish: {failure.reason}", file=sys.stderr)


# ---- in a worker process ------------------------------------------------------------------------------------------


def train_in_worker(run: Run, tick: Tick) -> str | None:
    """Trains a run; None when its outcome is in the cache, else why not."""
    try:
        train(run, tick)
    except Diverged:
        return None  # written down
    except KitError as error:
        return str(error)
    return None


def compute_in_worker(shared: SharedLogits, tick: Tick) -> str | None:
    """Computes logits that runs share; None when they are in the cache, else why not."""
    try:
        for _ in compute_logits(shared.run, shared.teacher, shared.epochs):
            tick(1 / len(shared.epochs))
    except KitError as error:
        return str(error)
    return None
