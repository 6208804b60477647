"""`Group`: the processes that torchrun started, and what they print only once."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kit.errors import KitError
from kit.parallel.layers import synchronised
from kit.parallel.ranks import ALONE, Ranks

TIMEOUT = timedelta(minutes=30)  # how long a process waits for the others before it gives up
STORE_TIMEOUT = timedelta(seconds=5)
LOST = (
    "another process of this training has ended, or cannot be reached any more; finished runs are kept, and the others "
    "go on from their checkpoints when the same is asked again"
)


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

    def broadcast(self, answer: bool) -> bool:
        word = torch.tensor(answer)
        torch.distributed.broadcast(word, src=0)
        return bool(word)

    def wait(self) -> None:
        self.sum(torch.zeros(1))

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
    with ExitStack() as stack:
        if os.environ["RANK"] != "0":
            nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(redirect_stdout(nowhere))
            stack.enter_context(redirect_stderr(nowhere))
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
