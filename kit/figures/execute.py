"""One notebook's execution by papermill, in a worker process. It imports little, so that the worker is soon at work."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import papermill
from jupyter_client.kernelspec import NATIVE_KERNEL_NAME, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError
from traitlets import default

from kit.files import writing_to
from kit.runtime.environment import variables

# It logs each notebook, and warns of parameters that `kit.figures` has already checked.
logging.getLogger("papermill").setLevel(logging.ERROR)

STARTS = 3  # of a kernel


@dataclass(frozen=True)
class Drawing:
    """A notebook to execute: it draws into `scratch`, as `parameters` say; with its outputs it becomes `executed`."""

    path: Path
    executed: Path
    scratch: Path
    parameters: Mapping[str, Any]
    told: dict[str, str] = field(default_factory=dict)  # variables of its kernel's environment
    beside: frozenset[str] = frozenset()  # the notebooks that are drawn together with it


def execute(drawing: Drawing, tick: Callable[[float], None]) -> str | None:
    """Executes a notebook; returns None when all is drawn, else one line that says what went wrong. KitError where the
    disk cannot take it."""
    # its kernel has this process' modules, and one thread for tensors as workers have
    kernels = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with writing_to(drawing.scratch.parent):
        drawing.executed.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(drawing.scratch, ignore_errors=True)  # of an attempt whose worker vanished
        drawing.scratch.mkdir()
        try:
            with variables(kernels | drawing.told):
                _executed(drawing)
        except PapermillExecutionError as error:  # counted from 0 after the cell put in for parameters: from 1 without
            return f"cell {error.cell_index}: {': '.join([error.ename, *error.evalue.splitlines()[:1]])}"
        except DeadKernelError:
            return "its kernel died"
        from kit.figures.pages import Page  # only now: its parser of HTML takes a while to import

        Page(drawing.executed, drawing.path, drawing.scratch, drawing.scratch.parent, drawing.beside).write()
    return None


def _executed(drawing: Drawing) -> None:
    """Has papermill execute a notebook, anew where its kernel could not start: another program, such as the kernel of
    the notebook beside it, may take a port between its being found free and the kernel's taking it."""
    for left in reversed(range(STARTS)):
        try:
            papermill.execute_notebook(
                str(drawing.path),
                str(drawing.executed),
                parameters={**drawing.parameters, "out": str(drawing.scratch)},
                cwd=str(drawing.path.parent),
                progress_bar=False,
                kernel_name=NATIVE_KERNEL_NAME,
                kernel_manager_class=OwnPython,
                start_timeout=120,
                extra_arguments=["--IPKernelApp.log_level=50"],  # to be interrupted when it ends is an error to it
            )
        except DeadKernelError:
            raise
        except RuntimeError:  # "Kernel died before replying to kernel_info"; what a cell raises is papermill's error
            if not left:
                raise
        else:
            return


class OwnPython(AsyncKernelManager):
    """Starts kernels of the Python that runs the kit, whatever kernels else go by that name here."""

    @default("kernel_spec_manager")
    def _only_the_native_one(self) -> KernelSpecManager:
        return KernelSpecManager(kernel_dirs=[])
