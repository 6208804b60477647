"""Imports once, in the process that `kit.grid.engines` forks workers from, what each of them would import otherwise.

Torch and what comes with it take seconds and 400 MB, which forked workers share as long as nobody writes to them.
"""
# ruff: noqa: E402, F401

from kit.runtime.process import collect_rarely

collect_rarely()

from kit.data import digits, generated
from kit.data.hrsc import dataset
from kit.grid.training import train_in_worker
