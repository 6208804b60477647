"""Engines, which do tasks: each has so many slots, takes a task for each, and reports their progress.

An engine is entered before its first task. Left by an exception it stops what it is doing; else all is done by then.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from multiprocessing import forkserver
from typing import Any, Protocol

from kit.errors import KitError, said
from kit.files import cache_folder, write
from kit.runtime.environment import folder_from, variables
from kit.runtime.machine import cores, free_memory
from kit.runtime.process import collect_rarely, keep_what_is_there
from kit.runtime.progress import Progress

# Bytes of memory that worker processes take at preset quick: the first, and each other, which on Linux shares half.
FIRST_WORKER = 1000 * 2**20
FURTHER_WORKER = 500 * 2**20 if sys.platform == "linux" else FIRST_WORKER
KILLED = (
    "its worker process was killed, by hand or for lack of memory; it goes on from its checkpoint when the same is "
    "asked again (with fewer jobs it has more memory)"
)
UNGUARDED = 70  # exit status of a worker that would begin workers, as the script does that it begins with
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


@dataclass(frozen=True, eq=False)
class Task:
    """Something to do, in another process: `work(about, progress)` returns None, or in one line why it could not be
    done.

    `work` is a function of a module and `about` can be pickled. `needs` are keys of tasks that must have ended first.
    """

    key: str
    title: str
    work: Callable[[Any, Progress], str | None]
    about: Any
    needs: frozenset[str] = frozenset()


def attempted(task: Task, progress: Progress, lets: type[Exception] | tuple[()] = ()) -> str | None:
    """Does a task; whatever it raises, but what this `lets` pass, is the reason why it could not be done. The traceback
    of what is no KitError goes into a log, whose place the reason names."""
    try:
        return task.work(task.about, progress)
    except lets:
        raise
    except KitError as error:
        return str(error)
    except (Exception, SystemExit) as error:
        log = cache_folder() / "logs" / f"{task.key}.log"
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            write(log, f"{task.title}\n{traceback.format_exc()}")
        except OSError as unwritten:
            return f"{said(error)}; its log cannot be written ({unwritten.strerror})"
        return f"{said(error)}; its log is {log}"


class Engine(Protocol):
    """Does tasks. Its futures return why a task could not be done, or None; they raise KitError where all are lost."""

    @property
    def slots(self) -> int: ...

    def submit(self, task: Task) -> Future[str | None]: ...

    def progress(self) -> Iterator[tuple[str, float]]:
        """Yields the progress of running tasks since the last call: keys and shares."""

    def __enter__(self) -> Engine: ...

    def __exit__(self, kind: type[BaseException] | None, *raised: object) -> None: ...


def default_jobs(tasks: int | None = None, devices: Collection[str] = ()) -> int:
    """Chooses how many tasks run side by side: as cores and free memory allow, and prints a line where memory is the
    limit; one where a GPU is among the `devices`, as its clock, which runs are timed by, goes on for all who use it."""
    if "cuda" in devices:
        return 1
    wanted = max(1, min(cores(), tasks or sys.maxsize))
    jobs = max(1, min(wanted, 1 + (free_memory() - FIRST_WORKER) // FURTHER_WORKER))
    if jobs < wanted:
        _say_bounded(wanted, jobs)
    return jobs


@cache
def _say_bounded(wanted: int, jobs: int) -> None:
    free, needed = free_memory() / 2**30, (FIRST_WORKER + (wanted - 1) * FURTHER_WORKER) / 2**30
    print(
        f"warning: {jobs} jobs side by side, not {wanted}: {free:.1f} GB of memory are free, {wanted} may need "
        f"{needed:.1f} GB; another number can be given",
        file=sys.stderr,
    )


def engine_for(jobs: int | Engine | None, tasks: int | None = None, devices: Collection[str] = ()) -> Engine:
    """Returns the engine that `jobs` is, or else so many processes of this machine, at most one a task. KitError."""
    if jobs is None or isinstance(jobs, int):
        if jobs is not None and jobs < 1:
            raise KitError(f"jobs {jobs!r} is not allowed; allowed: a whole number from 1 up, or None")
        return LocalProcesses(min(jobs, tasks or jobs) if jobs else default_jobs(tasks, devices))
    return jobs


class LocalProcesses:
    """Does tasks in processes of this machine, one thread each. On Linux these are forked from one that has imported
    torch."""

    def __init__(self, slots: int) -> None:
        self.slots = slots

    def __enter__(self) -> LocalProcesses:
        before_workers()
        folder_from("KIT_DATA"), folder_from("KIT_CACHE")  # absolute, before workers are told of them
        self._environment = dict(os.environ)
        self._workers: dict[int, tuple[ProcessPoolExecutor, Any]] = {}  # by place, begun when first needed
        self._beginning = threading.Lock()  # one after the other, as the environment is the whole process's
        self._idle = list(range(self.slots))
        self._threads = ThreadPoolExecutor(self.slots, thread_name_prefix="worker")
        return self

    def _worker(self, place: int) -> ProcessPoolExecutor:
        """Returns the place's pool of one process, as one that is killed takes its pool with it; beside it lies the
        queue that it tells its progress by."""
        with self._beginning:
            if place not in self._workers:
                if sys.platform == "linux":
                    _start_fork_server()
                context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
                told = context.SimpleQueue()
                own = told, self._environment
                self._workers[place] = ProcessPoolExecutor(1, context, initializer=_begin_worker, initargs=own), told
            return self._workers[place][0]

    def submit(self, task: Task) -> Future[str | None]:
        return self._threads.submit(self._do, task)

    def _do(self, task: Task) -> str | None:
        """Waits, on a thread, for a worker that does the task. One that is killed is replaced."""
        place = self._idle.pop()
        try:
            return self._worker(place).submit(attempted_in_worker, task).result()
        except BrokenProcessPool:
            pool, _ = self._workers.pop(place)
            processes = list(pool._processes.values())
            pool.shutdown()  # else, from Python 3.12 on, its thread would wait for itself when it is collected
            if UNGUARDED in [process.exitcode for process in processes]:
                raise KitError(
                    "worker processes begin by running your script, which begins workers itself; allowed: what trains "
                    'below a line `if __name__ == "__main__":`'
                ) from None
            return KILLED
        except Exception as error:  # the task or what it raised cannot travel between processes
            return said(error)
        finally:
            self._idle.append(place)

    def progress(self) -> Iterator[tuple[str, float]]:
        for _, told in list(self._workers.values()):
            while not told.empty():
                yield told.get()

    def __exit__(self, kind: type[BaseException] | None, *raised: object) -> None:
        stopped = kind is not None
        self._threads.shutdown(wait=not stopped, cancel_futures=stopped)
        while len(self._idle) < self.slots:  # what is finished is in the cache; the rest is not worth waiting for
            for pool, _ in list(self._workers.values()):
                for process in list(pool._processes.values()):
                    process.terminate()
            time.sleep(0.02)
        for pool, _ in self._workers.values():
            pool.shutdown()


def before_workers() -> None:
    """Is called before workers begin by running the user's script. A worker that comes here while it does ends; a
    script that Python reads from stdin is no file that they could run: they begin without it."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # as `multiprocessing` itself asks
        os._exit(UNGUARDED)
    script = sys.modules["__main__"]
    if getattr(script, "__file__", None) == "<stdin>":
        del script.__file__


def _start_fork_server() -> None:
    """Starts the process that workers are forked from, once, with this one's modules in sight and torch on one thread.
    Where another library has started it already, workers import by themselves."""
    forkserver.set_forkserver_preload(["kit.grid.preload"])
    with variables({"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONSAFEPATH": "1", **ONE_THREAD}):
        forkserver.ensure_running()


_told: Any = None  # in a worker process: the queue to whoever submits tasks


def _begin_worker(told: Any, environment: Mapping[str, str]) -> None:
    """Gives a worker the environment of the process that submits tasks, on one thread. What a network of the user's
    prints there goes to stderr: stdout is the command's own."""
    global _told
    _told = told
    os.environ.clear()
    os.environ.update({**environment, **ONE_THREAD})
    os.dup2(2, 1)
    collect_rarely()
    end_with_parent()


def end_with_parent() -> None:
    """Ends this worker process as soon as its parent has ended: nobody would read what an orphan computes."""
    parent = multiprocessing.parent_process()
    if parent is None:  # not a worker
        return

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def attempted_in_worker(task: Task) -> str | None:
    keep_what_is_there()  # what the first task needs has been imported to read it

    def progress(share: float) -> None:
        if share > 0:
            _told.put((task.key, share))

    return attempted(task, progress)
