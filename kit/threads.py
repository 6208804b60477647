"""How many threads torch uses: one, wherever runs are compared, timed or drawn beside each other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread in the calling thread (a training thread that runs keeps its own number), then as before.

    The same run gives the same bits however many cores there are. And for small tensors it is quicker: on a busy
    machine waking the other threads turns a softmax of 10 µs into 20 ms.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
