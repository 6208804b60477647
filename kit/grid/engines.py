"""Where tasks are done: an engine has so many slots, takes a task for each, and says how far they are.

An engine is entered before its first task. Left by an exception it stops what it is doing; else all is done by then.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Protocol

from kit.errors import KitError
from kit.runtime.collector import collect_rarely, keep_what_is_there
from kit.runtime.progress import Progress


@dataclass(frozen=True, eq=False)
class Task:
    """Something to do, in another process: `work(about, tick)` gives None, or in one line why it could not be done.

    `work` is a function of a module and `about` can be pickled. `needs` are keys of tasks that must have ended first.
    """

    key: str
    title: str
    work: Callable[[Any, Progress], str | None]
    about: Any
    needs: frozenset[str] = frozenset()


class Engine(Protocol):
    """Futures give what `work` gives; they raise KitError where a task was lost for good."""

    @property
    def slots(self) -> int: ...

    def submit(self, task: Task) -> Future[str | None]: ...

    def heard(self) -> Iterator[tuple[str, float]]:
        """What running tasks have told since the last call: keys and shares."""

    def __enter__(self) -> Engine: ...

    def __exit__(self, *raised: object) -> None: ...


def default_jobs() -> int:
    """As many tasks side by side as the process may use cores."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def engine_for(jobs: int | Engine | None, tasks: int) -> Engine:
    """The engine that `jobs` is, or so many processes of this machine, as far as there are tasks for them."""
    if jobs is None or isinstance(jobs, int):
        return LocalProcesses(min(jobs or default_jobs(), tasks))
    return jobs


class LocalProcesses:
    """Processes of this machine, one thread each."""

    def __init__(self, slots: int) -> None:
        self.slots = slots

    def __enter__(self) -> LocalProcesses:
        context = multiprocessing.get_context("spawn")
        self._told = context.SimpleQueue()
        self._pool = ProcessPoolExecutor(self.slots, context, initializer=_begin_worker, initargs=(self._told,))
        return self

    def submit(self, task: Task) -> Future[str | None]:
        return self._pool.submit(_work, task)

    def heard(self) -> Iterator[tuple[str, float]]:
        while not self._told.empty():
            yield self._told.get()

    def __exit__(self, kind: type[BaseException] | None, *raised: object) -> None:
        if kind is not None:  # what is finished is in the cache; the rest is not worth waiting for
            for process in list(self._pool._processes.values()):
                process.terminate()
        self._pool.shutdown()
        if kind is not None and issubclass(kind, BrokenProcessPool):
            raise KitError(
                "a worker process was killed, by hand or for lack of memory; finished runs are kept and the others "
                "go on from their checkpoints when the same is asked again (with fewer jobs they need less memory)"
            ) from None


class Lent:
    """An engine that somebody else has entered and will leave, for several turns of work."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def slots(self) -> int:
        return self._engine.slots

    def submit(self, task: Task) -> Future[str | None]:
        return self._engine.submit(task)

    def heard(self) -> Iterator[tuple[str, float]]:
        return self._engine.heard()

    def __enter__(self) -> Lent:
        return self

    def __exit__(self, *raised: object) -> None:
        pass  # what raised goes on to the one who leaves it


_told: Any = None  # in a worker process: the queue to whoever submits tasks


def _begin_worker(told: Any) -> None:
    """Torch is imported with the first task that needs it, and has one thread then."""
    global _told
    _told = told
    collect_rarely()
    os.environ["OMP_NUM_THREADS"] = "1"
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Nobody would hear of what an orphan does; the run goes on from its checkpoint when it is asked for again."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _work(task: Task) -> str | None:
    keep_what_is_there()  # what the first task needs has been imported to read it

    def tick(share: float) -> None:
        if share > 0:
            _told.put((task.key, share))

    return task.work(task.about, tick)
