"""Processes of their own, forked from one that has imported what they need: Python with torch takes seconds to start.

process = forked(do, "with", "this", output=folder, KIT_CACHE="elsewhere")
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from kit.grid.engines import ONE_THREAD

context = multiprocessing.get_context("forkserver")
IMPORTED = ["kit.grid.preload", "kit.cli.main", "kit.runs.training", "kit.grid.dask", "distributed.cli.dask_worker",
            "torch.distributed.run", "torch._dynamo", "small_runs"]  # fmt: skip


def forked(do: Callable, *about: object, output: Path | None = None, **environment: str) -> BaseProcess:
    """Starts a process that calls `do`, a module's function, and writes to the files stdout and stderr of `output`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        for name, value in ONE_THREAD.items():
            patch.setenv(name, value)
        forkserver.set_forkserver_preload(IMPORTED)
        forkserver.ensure_running()  # kit's own workers are forked from it too, from now on
    process = context.Process(target=_begin, args=(do, about, os.environ | environment, output))
    process.start()
    return process


def _begin(do: Callable, about: tuple, environment: dict[str, str], output: Path | None) -> None:
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs are started without
    if output is not None:
        for descriptor, name in ((1, "stdout"), (2, "stderr")):
            with (output / name).open("a") as file:
                os.dup2(file.fileno(), descriptor)
    do(*about)
