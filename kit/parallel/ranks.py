"""`Ranks`: the collective operations of data-parallel training, as the trainer sees them; `ALONE` is one process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Ranks:
    """Shards batches among `count` processes, of which this is number `number`. By default there is but one."""

    number: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Is true of rank 0, which alone writes and prints."""
        return self.number == 0

    def shard(self, batch: Tensor) -> Tensor:
        """Gives this rank's shard of a batch (N, …), of which `count` is a divisor: rows in order, as many each."""
        return batch.tensor_split(self.count)[self.number]

    def wrap(self, network: nn.Module) -> nn.Module:
        """Wraps a network, already on its device, for training: its backward pass averages gradients over ranks.

        The network itself keeps the weights; its batch norms and dropouts are exchanged in place for synchronised ones.
        """
        return network

    def sum(self, x: Tensor) -> Tensor:
        """Sums x over all ranks, in x's own type."""
        return x

    def mean(self, x: Tensor) -> Tensor:
        """Averages x over all ranks, in double precision."""
        return x

    def agreed(self, number: float) -> float:
        """Gives the number where all ranks have the same, else their mean."""
        every = self.all_gather(torch.tensor(number, dtype=torch.float64)).tolist()
        return number if len(set(every)) == 1 else fmean(every)

    def all_gather(self, x: Tensor) -> Tensor:
        """Gathers every rank's x, in order: (count, …)."""
        return x[None]

    def part(self, n: int) -> Tensor:
        """Gives the indices, int64, of this rank's part of n things; as many on each rank, padded by the last one."""
        size = -(-n // self.count)
        return torch.arange(self.number * size, (self.number + 1) * size).clamp_max(n - 1)

    def gather(self, x: Tensor, n: int) -> Tensor:
        """Gathers all ranks' results on their `part` of n things: (n, …) in order, without the padding."""
        return self.all_gather(x).flatten(0, 1)[:n]

    def broadcast(self, answer: bool) -> bool:
        """Broadcasts the first rank's answer."""
        return answer

    def wait(self) -> None:
        """Waits until all ranks have come here: a barrier."""

    @contextmanager
    def together(self) -> Iterator[None]:
        """Raises KitError where another process ends while this one works inside."""
        yield


ALONE = Ranks()
