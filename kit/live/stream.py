"""Torch's one random stream, which dropout draws from, lent to one session at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

from kit.runs.spec import Run
from kit.runs.training import own_stream
from kit.trainer import Training

LENT = threading.Lock()  # held by whichever session's thread draws


class Stream:
    """A run's random stream: it begins as in `kit.runs.training.train`, and goes on where it was whenever it is lent,
    whatever others draw meanwhile."""

    def __init__(self, run: Run) -> None:
        self._devices = (torch, torch.cuda) if run.device == "cuda" else (torch,)
        with LENT, own_stream(run):
            self._states = [device.get_rng_state() for device in self._devices]

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Puts the stream in the place of torch's, and that one back."""
        with LENT:
            self._change_places()
            try:
                yield
            finally:
                self._change_places()

    def steps(self, training: Training) -> Iterator[int]:
        """Goes through a training whose networks draw from this stream. Those that do not at their first batch, which
        are most, wait for nobody."""
        steps, draws, begin = iter(training), True, self._states
        while training.step < training.total_steps:
            with self.lent() if draws else nullcontext():
                step = next(steps)
            draws = draws and not all(map(torch.equal, begin, self._states))
            yield step

    def _change_places(self) -> None:
        others = [device.get_rng_state() for device in self._devices]
        for device, state in zip(self._devices, self._states, strict=True):
            device.set_rng_state(state)
        self._states = others
