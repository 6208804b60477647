"""The number of torch's threads: one, wherever runs are compared, timed or drawn beside each other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Sets torch's number of threads in the calling thread (a training thread keeps its own), and restores it
    afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def one_thread() -> AbstractContextManager[None]:
    """Sets torch to one thread, and restores it; also a decorator.

    On one machine the same run gives the same bits, however many of its cores are free. And for small tensors it is
    quicker: on a busy machine waking the other threads turns a softmax of 10 µs into 20 ms.
    """
    return threads(1)
