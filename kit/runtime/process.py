"""What a process sets of itself: the processor's instructions, Python's garbage collector, glibc's malloc."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from functools import cache
from pathlib import Path

# ---- instructions, the same on every x86-64 processor: the same training gives the same bits ------------------------

CPUINFO = Path("/proc/cpuinfo")
AVX512_ON_WINDOWS = 41  # PF_AVX512F_INSTRUCTIONS_AVAILABLE of winnt.h
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2"}  # torch's, oneDNN's, MKL's


def compute_alike() -> None:
    """Has torch compute by AVX2 where the processor has AVX-512 too, in this process and those that it starts.

    Sums are added up in another order by wider instructions, and training makes another student of it. Holds from
    torch's first operation on. Variables that are set already stay, and then the others are let alone.
    """
    if not os.environ.keys() & AVX2.keys() and has_avx512():
        os.environ.update(AVX2)


def has_avx512() -> bool:
    """Whether the processor is known to have AVX-512."""
    if sys.platform == "win32":
        return bool(ctypes.windll.kernel32.IsProcessorFeaturePresent(AVX512_ON_WINDOWS))
    try:
        with CPUINFO.open() as lines:
            return "avx512f" in next((line for line in lines if line.startswith("flags")), "").split()
    except OSError:
        return False


# ---- the garbage collector ------------------------------------------------------------------------------------------

# Importing torch makes a million objects that stay as long as the process does. Python goes through them again and
# again while they come, and once more when it ends: a third of the seconds of a process that does little else.
USUAL = gc.get_threshold()
RARELY = (100_000, 50, 100)  # objects, then how many collections of one generation before the next is collected too


def collect_rarely() -> None:
    """Runs the garbage collector rarely: for a process that begins, or that mostly imports and waits."""
    gc.set_threshold(*RARELY)


def keep_what_is_there() -> None:
    """Ends `collect_rarely`: freezes the present objects, and collects new ones as usual. Does nothing where that has
    ended, as garbage of now would be kept, too."""
    if gc.get_threshold() == RARELY:
        gc.freeze()
        gc.set_threshold(*USUAL)


# ---- glibc's malloc -------------------------------------------------------------------------------------------------

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # glibc's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD
LARGEST = 2**31 - 1


@cache
def keep_freed_memory() -> bool:
    """Tells glibc to keep freed memory instead of returning it to the system; False where there is no glibc.

    Each training step allocates the same large tensors again. Without it they come as untouched pages, thousands of
    page faults; with it a VGG-16's step is 10 to 20 % shorter on a CPU, and the process keeps its peak memory until it
    ends. The arithmetic is not touched.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    return all([libc.mallopt(MMAP_THRESHOLD, 2**30), libc.mallopt(TRIM_THRESHOLD, LARGEST)])
