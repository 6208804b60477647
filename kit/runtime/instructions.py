"""The same instructions on every x86-64 processor, so that the same training gives the same bits on all of them."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

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
