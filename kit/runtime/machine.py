"""Cores and memory that the process may use: by affinity and quota, and by free memory and limit.

Quotas and limits are those of the process's control groups (a container's, a batch job's, a service's), of version 1
and 2, and of the groups around them. psutil knows none of them; joblib's and loky's `cpu_count` know the outermost
group's quota of cores and no limit of memory.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import psutil

MEMBERSHIP, GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def cores() -> int:
    """Counts the cores that affinity and quota allow; a quota of 1.5 cores counts as 2."""
    affinity = getattr(os, "sched_getaffinity", None)
    counts = [len(affinity(0)) if affinity else os.cpu_count() or 1]
    for group in _groups("cpu"):
        quota = _words(group / "cpu.max") or _words(group / "cpu.cfs_quota_us") + _words(group / "cpu.cfs_period_us")
        if len(quota) == 2 and quota[0] not in ("max", "-1"):
            counts.append(math.ceil(int(quota[0]) / int(quota[1])))
    return max(1, min(counts))


def free_memory() -> int:
    """Returns the bytes that can be allocated without swapping; the system's file cache counts as free."""
    free = [psutil.virtual_memory().available]
    for group in _groups("memory"):
        limit = _words(group / "memory.max") or _words(group / "memory.limit_in_bytes")
        used = _words(group / "memory.current") or _words(group / "memory.usage_in_bytes")
        if limit and used and limit[0] != "max":
            words = _words(group / "memory.stat")
            stat = dict(zip(words[::2], words[1::2], strict=False))
            cached = stat.get("total_inactive_file", stat.get("inactive_file", "0"))  # of version 1: with inner groups
            free.append(int(limit[0]) - int(used[0]) + int(cached))
    return max(0, min(free))


def _groups(controller: str) -> Iterator[Path]:
    """Lists the folders of the control groups that the process is in, innermost first; none outside Linux."""
    for line in _lines(MEMBERSHIP):
        _, controllers, path = line.split(":", 2)
        if not controllers or controller in controllers.split(","):
            top = GROUPS / controller if controllers else GROUPS
            inner = top / path.lstrip("/")  # not there where a container sees its own group as the outermost
            yield from (group for group in (inner, *inner.parents) if group.is_relative_to(top))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()
