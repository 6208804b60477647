"""Loops side by side, each in a process of its own, trained in turns of a few steps: all see the same machine."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from benchmarks.report import Ended
from benchmarks.task import Loop, Task

WARM_UP = 3  # steps
PROFILED = 4  # steps
HOW = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
# A server that has imported torch, but never used it, forks every process: imports are waited for once.
CONTEXT = multiprocessing.get_context(HOW)
CONTEXT.set_forkserver_preload(["benchmarks.rungs"])


@dataclass(frozen=True)
class Place:
    """A rung, and what its process has to itself: threads of torch, a folder on its import path."""

    rung: str
    threads: int = 2
    path: Path | None = None


class Served:
    """One rung, built in a process of its own that then waits to be asked. What fails there is Ended here."""

    def __init__(self, place: Place, task: Task) -> None:
        self.rung, self._batch = place.rung, task.batch
        self._process = ProcessPoolExecutor(1, CONTEXT)
        self._built = self._process.submit(build, place, task)

    def warm_up(self) -> None:
        """Waits until it is built, and has it take its first WARM_UP steps."""
        self._answer(self._built)
        self.warm_up_s = self._ask(seconds, WARM_UP)

    def images_per_s(self, steps: int) -> float:
        return steps * self._batch / self._ask(seconds, steps)

    def profile(self) -> dict[str, float]:
        """The share of the CPU time of a few steps that each operator takes by itself, largest first."""
        return self._ask(profiled, PROFILED)

    def close(self) -> None:
        self._process.shutdown(cancel_futures=True)

    def _ask(self, what: Callable[[int], object], steps: int) -> object:
        return self._answer(self._process.submit(what, steps))

    def _answer(self, future: Future) -> object:
        try:
            return future.result()
        except BrokenProcessPool:
            raise Ended(f"{self.rung}: its process ended") from None
        except Exception as error:  # whatever a loop raises
            raise Ended(f"{self.rung}: {type(error).__name__}: {error}") from error


@contextmanager
def served(places: Mapping[str, Place], task: Task) -> Iterator[dict[str, Served]]:
    """All of these rungs: started together, then warmed up one by one. One that cannot be had ends it all: Ended."""
    processes: dict[str, Served] = {}
    try:
        for name, place in places.items():
            processes[name] = Served(place, task)
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


# ---- in the process that is measured ------------------------------------------------------------------------------

_loop: Loop
_task: Task


def build(place: Place, task: Task) -> None:
    from benchmarks.rungs import RUNGS

    global _loop, _task
    sys.stdout = sys.stderr  # whatever a library prints belongs to no table
    multiprocessing.set_start_method(None, force=True)  # a DataLoader's workers start as they do elsewhere
    if place.path is not None:
        sys.path.insert(0, str(place.path))
    torch.set_num_threads(place.threads)
    torch.manual_seed(task.seed)
    _loop, _task = RUNGS[place.rung](task), task


def seconds(steps: int) -> float:
    """From the beginning of an epoch, or where the loop has settled, to the end of its last step that is wanted."""
    epoch = _loop.epoch()
    for _ in islice(epoch, _task.settling):
        pass
    wait_for_gpu()
    begin = time.perf_counter()
    done = sum(1 for _ in islice(epoch, steps))
    wait_for_gpu()
    took = time.perf_counter() - begin
    if _task.device == "cuda":
        torch.cuda.empty_cache()  # who waits for its turn needs none of the memory
    if done != steps:
        raise RuntimeError(f"only {done} of {steps} steps could be done")
    return took


def wait_for_gpu() -> None:
    if _task.device == "cuda":
        torch.cuda.synchronize()


def profiled(steps: int) -> dict[str, float]:
    """Of a GPU the time that its kernels take, else the processor's."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # else it says that it has found no GPU
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    on_gpu = _task.device == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * on_gpu]) as profiler:
        seconds(steps)
    spent = {
        event.key: event.self_device_time_total if on_gpu else event.self_cpu_time_total
        for event in profiler.key_averages()
        if not on_gpu or event.device_type == DeviceType.CUDA
    }
    total = sum(spent.values())
    return {name: time_ / total for name, time_ in sorted(spent.items(), key=lambda item: -item[1])}
