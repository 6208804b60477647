"""Loops side by side, each in a process of its own, trained in turns of a few steps: all see the same machine."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from typing import Any

import pandas as pd
import torch

from benchmarks.report import Ended
from benchmarks.rungs import Loop, Rung, Task

WARM_UP = 3  # steps
PROFILED = 4  # steps
SHOWN = 12  # operators of a profile
HOW = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
# A server that has imported torch, but never used it, forks every process: imports are waited for once.
CONTEXT = multiprocessing.get_context(HOW)
CONTEXT.set_forkserver_preload(["benchmarks.rungs", "benchmarks.bare"])


class Served:
    """One rung, built in a process of its own that then waits to be asked. What fails there is Ended here."""

    def __init__(self, name: str, rung: Rung, task: Task) -> None:
        self._name, self._process = name, ProcessPoolExecutor(1, CONTEXT)
        self._built = self._process.submit(build, rung, task)
        self.warm_up_s = 0.0

    def warm_up(self) -> None:
        """Takes its first steps, in which whatever is compiled or recorded is."""
        wait([self._built])
        begin = time.perf_counter()
        self.ask(seconds, WARM_UP)
        self.warm_up_s = time.perf_counter() - begin

    def ask(self, what: Callable[[int], Any], steps: int) -> Any:
        try:
            self._built.result()
            return self._process.submit(what, steps).result()
        except BrokenProcessPool:
            raise Ended(f"{self._name}: its process ended") from None
        except Exception as error:  # whatever a loop raises
            raise Ended(f"{self._name}: {type(error).__name__}: {error}") from error

    def close(self) -> None:
        self._process.shutdown(cancel_futures=True)


@contextmanager
def served(rungs: Mapping[str, Rung], task: Task) -> Iterator[dict[str, Served]]:
    """All of these rungs: started together, then warmed up one by one. One that cannot be had ends it all: Ended."""
    processes = {name: Served(name, rung, task) for name, rung in rungs.items()}
    try:
        for process in processes.values():
            process.warm_up()
        yield processes
    finally:
        for process in processes.values():
            process.close()


def taken_in_turns(processes: Mapping[str, Served], steps: int, repeats: int) -> pd.DataFrame:
    """Images a second of each, a row a round; every other round goes backwards, so that none is always first."""
    order = list(processes)
    rounds = [
        {name: processes[name].ask(images_per_s, steps) for name in (order if i % 2 == 0 else reversed(order))}
        for i in range(repeats)
    ]
    return pd.DataFrame(rounds, columns=order)


# ---- in the process that is measured ------------------------------------------------------------------------------

_loop: Loop
_task: Task


def build(rung: Rung, task: Task) -> None:
    global _loop, _task
    sys.stdout = sys.stderr  # whatever a library prints belongs to no table
    multiprocessing.set_start_method(None, force=True)  # a DataLoader's workers start as they do elsewhere
    torch.set_num_threads(task.threads)
    torch.manual_seed(task.seed)
    _loop, _task = rung(task), task


def images_per_s(steps: int) -> float:
    return steps * _task.batch / seconds(steps)


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


def profile(steps: int) -> str:
    """A table of the operators that take most by themselves: of a GPU the time of its kernels, else the processor's."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # else it says that it has found no GPU
    from torch import profiler

    on_gpu = _task.device == "cuda"
    kinds = profiler.ProfilerActivity
    with profiler.profile(activities=[kinds.CPU, *[kinds.CUDA] * on_gpu]) as watched:
        seconds(steps)
    by = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    return watched.key_averages().table(sort_by=by, row_limit=SHOWN, max_name_column_width=64)
