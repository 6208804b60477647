"""Losses that fail in ways of their own, for workers to import."""

from __future__ import annotations

import os
import signal
from typing import ClassVar, Literal

from torch import Tensor

from kit.recipe import HardLabels, Objective
from kit.training.moment import Moment


class Faulty(Objective):
    needs_teacher: ClassVar[bool] = False

    def __call__(self, at: Moment) -> Tensor:
        if at.step >= 2:
            self.fail()
        return HardLabels()(at)

    def fail(self) -> None:
        raise NotImplementedError


class Raises(Faulty):
    """What the CPU's allocator raises, and what a bug would."""

    kind: Literal["raises"] = "raises"

    def fail(self) -> None:
        raise RuntimeError("not enough memory: you tried to allocate 68719476736 bytes.")


class Dies(Faulty):
    """As a process that the kernel's out-of-memory killer has chosen."""

    kind: Literal["dies"] = "dies"

    def fail(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)
