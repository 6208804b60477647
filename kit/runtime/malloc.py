"""glibc's malloc, kept from returning freed memory: each training step allocates the same large tensors again."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # glibc's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD
LARGEST = 2**31 - 1


@cache
def keep_freed_memory() -> bool:
    """Tells glibc to keep freed memory instead of returning it to the system; False where there is no glibc.

    Without it every step gets its activations as untouched pages, thousands of page faults; with it a VGG-16's step is
    10 to 20 % shorter on a CPU, and the process keeps its peak memory until it ends. The arithmetic is not touched.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    return all([libc.mallopt(MMAP_THRESHOLD, 2**30), libc.mallopt(TRIM_THRESHOLD, LARGEST)])
