"""The order of tasks on an engine's slots: the critical path first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait

from kit.grid.engines import Engine, Task
from kit.runtime.bars import Bar


def run_tasks(
    tasks: Iterable[Task],
    engine: Engine,
    cost: Callable[[Task], float],
    ended: Callable[[Task, str | None], None],
    skip: Callable[[Task], str | None] = lambda task: None,
    bar: Bar | None = None,
    rank: Callable[[Task], float] = lambda task: 0.0,
) -> None:
    """Runs the tasks as slots get free: of those whose needs are met, the one that begins the costliest chain.

    What a task of lower `rank` waits for comes before that, unless a chain is as long as all that is left. `ended`
    hears of each task, and why it failed if it did; `skip` may say, just before a task, why it is pointless. `bar`
    counts in the costs that the tasks have when this begins.
    """
    waiting = {task.key: task for task in tasks}
    running: dict[Future, Task] = {}
    to_tell = {key: cost(task) for key, task in waiting.items()}  # of each task's cost, what the bar has not heard of
    whole, ranks = dict(to_tell), lowest_ranks(waiting.values(), rank)

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
            left = sum(map(cost, waiting.values())) / engine.slots
            can_begin.sort(key=lambda task: (chains[task.key] < left, ranks[task.key], -chains[task.key]))
            for task in can_begin:
                if len(running) >= engine.slots:
                    break
                del waiting[task.key]
                reason = skip(task)
                if reason is None:
                    running[engine.submit(task)] = task
                else:
                    ended(task, reason)
                    tell(task.key, whole[task.key])
        finished, _ = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
        for key, share in engine.progress():
            tell(key, share * whole[key])
        for future in finished:
            task = running.pop(future)
            ended(task, future.result())
            tell(task.key, whole[task.key])


def critical_path(tasks: Iterable[Task], cost: Callable[[Task], float]) -> dict[str, float]:
    """Computes for each task the cost of the costliest chain of tasks that begins with it."""
    return _from_heirs(tasks, lambda task, chains: cost(task) + max(chains, default=0.0))


def lowest_ranks(tasks: Iterable[Task], rank: Callable[[Task], float]) -> dict[str, float]:
    """Finds for each task the lowest rank among itself and those that wait for it."""
    return _from_heirs(tasks, lambda task, ranks: min([rank(task), *ranks]))


def _from_heirs(tasks: Iterable[Task], number: Callable[[Task, list[float]], float]) -> dict[str, float]:
    """Computes a number for each task, by its key, from the numbers of those that need it."""
    tasks = list(tasks)
    heirs: dict[str, list[Task]] = defaultdict(list)
    for task in tasks:
        for key in task.needs:
            heirs[key].append(task)
    found: dict[str, float] = {}

    def of(task: Task) -> float:
        if task.key not in found:
            found[task.key] = number(task, [of(heir) for heir in heirs[task.key]])
        return found[task.key]

    return {task.key: of(task) for task in tasks}
