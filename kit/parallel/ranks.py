"""How a batch is shared among processes, as the trainer sees it; `ALONE` is one process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Ranks:
    """How a batch is shared among `count` processes, of which this is number `number`. By default there is but one."""

    number: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes and prints."""
        return self.number == 0

    def share(self, batch: Tensor) -> Tensor:
        """This rank's share of a batch (N, …), of which `count` is a divisor: rows in order, equally many each."""
        return batch

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network to train by: gradients are averaged in its backward pass. The network itself, already on its
        device, keeps the weights; its layers that look at the whole batch are exchanged in place."""
        return network

    def sum(self, x: Tensor) -> Tensor:
        """x summed over all ranks, in x's own type."""
        return x

    def mean(self, x: Tensor) -> Tensor:
        """x's mean over all ranks, taken in double precision."""
        return x

    def stacked(self, x: Tensor) -> Tensor:
        """Every rank's x, in order: (count, …)."""
        return x[None]

    def part(self, n: int) -> Tensor:
        """Which of n things this rank looks at, int64. All ranks look at equally many, if need be at the last again."""
        return torch.arange(n)

    def joined(self, x: Tensor, n: int) -> Tensor:
        """What all ranks found out about their `part` of n things, (n, …) in order."""
        return x

    def told(self, answer: bool) -> bool:
        """The first rank's answer."""
        return answer

    def wait(self) -> None:
        """Until all ranks have come here."""

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is done inside ends with KitError where another process has ended before its time."""
        yield


ALONE = Ranks()
