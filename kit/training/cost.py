"""What a student's procedure has cost."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field, fields
from typing import Any

import torch

from kit.parallel.ranks import Ranks
from kit.recipe import Stage

SECONDS = ("wall_s", "cpu_s", "gpu_s")
CIRCUMSTANCES = (*SECONDS, "cached_logits_s", "cached_logits_images")  # how, not what came out of it


@dataclass
class Spent:
    """What the student's procedure has cost so far; evaluation is left out, teachers' forward passes are in."""

    wall_s: float = 0.0
    cpu_s: float = 0.0  # of this process; of all ranks together, once they have agreed
    gpu_s: float = 0.0  # by CUDA events, 0 without a GPU; likewise
    student_images: float = 0  # images the student was trained on, each as often as its objective's work says
    teacher_images: dict[str, float] = field(default_factory=dict)  # forward passes, by teacher, cached or not
    cached_logits_images: int = 0  # of these passes, those whose logits were read instead of computed
    cached_logits_s: float = 0.0  # process CPU (of a GPU: its own) seconds that computing them had taken: in the above
    _events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._agreed = self.seconds  # when the ranks last did

    @property
    def seconds(self) -> tuple[float, float, float]:
        return self.wall_s, self.cpu_s, self.gpu_s

    @contextmanager
    def clock(self, device: torch.device) -> Iterator[None]:
        """Times what is done inside, without waiting for a GPU."""
        wall, cpu = time.perf_counter(), time.process_time()
        if device.type == "cuda":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
        yield
        if device.type == "cuda":
            end.record()
            self._events.append((begin, end))
        self.wall_s += time.perf_counter() - wall
        self.cpu_s += time.process_time() - cpu

    def step(self, stage: Stage, teachers: Iterable[str], images: int) -> None:
        """Counts a batch: the student's images, and the forward passes of each teacher that was asked."""
        self.student_images += images * stage.objective.student_work
        for name in teachers:
            self.teacher_images[name] = self.teacher_images.get(name, 0) + images * stage.objective.teacher_work

    def charge(self, cost: Spent, share: float, images: int, device: torch.device) -> None:
        """Adds what computing cached logits had taken, as if it had been done here."""
        self.wall_s += share * cost.wall_s
        self.cpu_s += share * cost.cpu_s
        self.gpu_s += share * cost.gpu_s
        self.cached_logits_s += share * (cost.gpu_s if device.type == "cuda" else cost.cpu_s)
        self.cached_logits_images += images

    def settle(self) -> None:
        """Adds up the GPU's time; waits for it. Called once an epoch."""
        if self._events:
            torch.cuda.synchronize()
            self.gpu_s += sum(begin.elapsed_time(end) for begin, end in self._events) / 1000
            self._events.clear()

    def agree(self, ranks: Ranks) -> None:
        """Process and GPU seconds become the sum over the ranks, which spent them side by side, wall seconds the mean.
        All ranks call it at the same step."""
        agreed, now = torch.tensor([self._agreed, self.seconds], dtype=torch.float64)  # (3,) each
        fresh = ranks.sum(now - agreed) / torch.tensor([ranks.count, 1, 1])
        self.wall_s, self.cpu_s, self.gpu_s = (agreed + fresh).tolist()
        self._agreed = self.seconds

    def so_far(self) -> dict[str, Any]:
        """As an epoch's line has it."""
        return {name: value for name, value in self.record().items() if not name.startswith("cached")}

    def record(self) -> dict[str, Any]:
        """All of it by name, as plain numbers: `Spent(**record)` goes on from there."""
        return {f.name: copy(getattr(self, f.name)) for f in fields(self) if f.init}
