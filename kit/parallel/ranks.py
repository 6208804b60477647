"""`Ranks`: the collective operations of data-parallel training, as the trainer sees them; `ALONE` is one process, and a
`Group` those that torchrun started, which print only once."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from statistics import fmean

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kit.errors import KitError
from kit.parallel.layers import synchronised

TIMEOUT = timedelta(minutes=30)  # how long a process waits for the others before it gives up
STORE_TIMEOUT = timedelta(seconds=5)
LOST = (
    "another process of this training has ended, or cannot be reached any more; finished runs are kept, and the others "
    "go on from their checkpoints when the same is asked again"
)


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
        """Gives the first rank's answer."""
        return bool(self.all_gather(torch.tensor(answer))[0])

    def wait(self) -> None:
        """Waits until all ranks have come here: a barrier."""
        self.sum(torch.zeros(1))

    @contextmanager
    def together(self) -> Iterator[None]:
        """Raises KitError where another process ends while this one works inside."""
        yield


ALONE = Ranks()


# ---- torchrun's processes -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Group(Ranks):
    """Joins the processes that torchrun started, on CPUs (gloo) or on a GPU each (nccl)."""

    def wrap(self, network: nn.Module) -> nn.Module:
        learner = DistributedDataParallel(synchronised(network, self))  # from here on all have the first one's weights
        learner.broadcast_buffers = False  # batch norms agree without it
        return learner

    def sum(self, x: Tensor) -> Tensor:
        total = x.detach().clone()
        torch.distributed.all_reduce(total)
        return total

    def mean(self, x: Tensor) -> Tensor:
        return (self.sum(x.double()) / self.count).to(x.dtype)

    def all_gather(self, x: Tensor) -> Tensor:
        every = x.new_empty(self.count, *x.shape)
        torch.distributed.all_gather(list(every.unbind()), x.detach().contiguous())
        return every

    @contextmanager
    def together(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            of_gloo = any(word in str(error) for word in ("gloo/transport", "gloo::", "Gloo"))  # which has no kind
            if not of_gloo and not isinstance(error, torch.distributed.DistError):
                raise
            raise KitError(LOST) from error


def ranks_on(device: str) -> Ranks:
    """Gives the processes that torchrun started, to train on such a device; ALONE where it started none or one.

    Raises KitError where there is no GPU for each, or the first call was for another device.
    """
    return _group(device) if count() > 1 else ALONE


def count() -> int:
    """Counts the processes that torchrun started; 1 without it."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


@lru_cache(maxsize=1)
def _group(device: str) -> Group:
    if torch.distributed.is_initialized():
        raise KitError(f"device {device!r} is not allowed: these processes train on another one already")
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    if device == "cuda" and here > torch.cuda.device_count():
        raise KitError(f"{here} processes are too many here; allowed: one for each of {torch.cuda.device_count()} GPUs")
    if device == "cuda":  # before nccl, which would else guess; questions on the CPU go by gloo
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo", timeout=TIMEOUT)
    atexit.register(torch.distributed.destroy_process_group)
    return Group(torch.distributed.get_rank(), torch.distributed.get_world_size())


# ---- said once ----------------------------------------------------------------------------------------------------


@contextmanager
def first_speaks() -> Iterator[None]:
    """Silences all of torchrun's processes but the first. A traceback that leaves this block is printed by any."""
    if os.environ["RANK"] == "0":
        yield
        return
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


def say_once(line: str) -> None:
    """Prints to stderr what ended this process, unless another of torchrun's processes has said what ended it.

    They agree through torchrun's own store; where that is gone, the first process speaks.
    """
    key = f"kit/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"
    try:
        address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = torch.distributed.TCPStore(*address, is_master=False, timeout=STORE_TIMEOUT)
        speaks = store.add(f"{key}/end", 1) == 1
    except torch.distributed.DistError:
        store, speaks = None, os.environ["RANK"] == "0"
    if speaks:
        print(line, file=sys.stderr, flush=True)
    if store is None:
        return
    with suppress(torch.distributed.DistError):  # the launcher may be gone by now; all is said
        if speaks:
            store.set(f"{key}/said", "1")
        else:  # torchrun stops all processes when one has ended: not before the line is out
            store.wait([f"{key}/said"], STORE_TIMEOUT)
