"""Loops side by side, each in a process of its own, trained in turns of a few steps: all see the same machine."""

from __future__ import annotations

import math
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.task import Loop, Task

WARM_UP = 3  # steps
PROFILED = 4  # steps
HOW = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
# A server that has imported torch, but never used it, forks every process: imports are waited for once.
CONTEXT = multiprocessing.get_context(HOW)
CONTEXT.set_forkserver_preload(["benchmarks.rungs"])


class Ended(RuntimeError):
    """A loop's process ended; the message says which and why."""


@dataclass(frozen=True)
class Place:
    """What a loop's process has to itself: threads of torch, a folder on its import path, environment variables."""

    threads: int = 2
    path: Path | None = None
    environment: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Failure:
    """What a loop's process answers when it cannot."""

    why: str


class Served:
    """One rung, built in a process of its own that then waits to be asked."""

    def __init__(self, rung: str, task: Task, place: Place) -> None:
        self.rung, self._batch = rung, task.batch
        self._connection, theirs = CONTEXT.Pipe()
        self._process = CONTEXT.Process(target=serve, args=(theirs, rung, task, place))
        self._process.start()
        theirs.close()
        self.warm_up_s = math.nan

    def warm_up(self) -> None:
        """Waits until it is built, and has it take its first WARM_UP steps. Raises Ended, as all that follows does."""
        self._answer()
        self.warm_up_s = self._ask("go", WARM_UP)

    def images_per_s(self, steps: int) -> float:
        return steps * self._batch / self._ask("go", steps)

    def profile(self, steps: int = PROFILED) -> dict[str, float]:
        """The share of the CPU time of so many steps that each operator takes by itself, largest first."""
        return self._ask("profile", steps)

    def close(self) -> None:
        self._connection.close()
        self._process.join(20)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _ask(self, word: str, steps: int) -> object:
        self._connection.send((word, steps))
        return self._answer()

    def _answer(self) -> object:
        try:
            answer = self._connection.recv()
        except EOFError:
            self._process.join()
            raise Ended(f"{self.rung}: its process ended with status {self._process.exitcode}") from None
        if isinstance(answer, Failure):
            raise Ended(f"{self.rung}: {answer.why}")
        return answer


@contextmanager
def served(rungs: Mapping[str, Place] | Sequence[str], task: Task) -> Iterator[dict[str, Served]]:
    """All of these rungs: started together, then warmed up one by one. One that cannot be had ends it all: Ended."""
    places = rungs if isinstance(rungs, Mapping) else dict.fromkeys(rungs, Place())
    processes: dict[str, Served] = {}
    try:
        for rung, place in places.items():
            processes[rung] = Served(rung, task, place)
        for process in processes.values():
            process.warm_up()
        yield processes
    finally:
        for process in processes.values():
            process.close()


def taken_in_turns(processes: Mapping[str, Served], steps: int, repeats: int) -> dict[str, list[float]]:
    """Images a second of each, a number a round; every other round goes backwards, so that none is always first."""
    rates: dict[str, list[float]] = {name: [] for name in processes}
    for i in range(repeats):
        for name in list(processes)[:: 1 if i % 2 == 0 else -1]:
            rates[name].append(processes[name].images_per_s(steps))
    return rates


@dataclass(frozen=True)
class Spread:
    """A median with the least and the largest value beside it."""

    median: float
    least: float
    largest: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))

    @classmethod
    def of_ratio(cls, above: list[float], below: list[float]) -> Spread:
        """Round by round: what disturbs a round disturbs both."""
        return cls.of([a / b for a, b in zip(above, below, strict=True)])


# ---- in the process that is measured ------------------------------------------------------------------------------


def serve(asked: Connection, rung: str, task: Task, place: Place) -> None:
    """Builds the loop and says so, then does as it is asked: ("go", steps) or ("profile", steps)."""
    import torch

    from benchmarks.rungs import RUNGS

    sys.stdout = sys.stderr  # whatever a library prints belongs to no table
    multiprocessing.set_start_method(None, force=True)  # a DataLoader's workers start as they do elsewhere
    os.environ.update(place.environment or {})
    if place.path is not None:
        sys.path.insert(0, str(place.path))
    torch.set_num_threads(place.threads)
    torch.manual_seed(task.seed)
    try:
        loop = RUNGS[rung](task)
        asked.send("ready")
        while True:
            word, steps = asked.recv()
            asked.send(seconds(loop, steps) if word == "go" else profiled(loop, steps))
    except EOFError:
        return  # nobody asks any more
    except Exception as error:  # whatever a loop raises: whoever asked hears of it
        asked.send(Failure(f"{type(error).__name__}: {error}"))


def seconds(loop: Loop, steps: int) -> float:
    """From the beginning of an epoch to the end of its last step that is wanted."""
    begin = time.perf_counter()
    done = sum(1 for _ in islice(loop.epoch(), steps))
    took = time.perf_counter() - begin
    if done != steps:
        raise RuntimeError(f"only {done} of {steps} steps could be done")
    return took


def profiled(loop: Loop, steps: int) -> dict[str, float]:
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # else it says that it has found no GPU
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        seconds(loop, steps)
    spent = {event.key: event.self_cpu_time_total for event in profiler.key_averages()}
    total = sum(spent.values())
    return {name: time_ / total for name, time_ in sorted(spent.items(), key=lambda item: -item[1])}
