"""What of the machine the process may use, where control groups, affinity and memory are others than they are here."""

from __future__ import annotations

import os
from pathlib import Path

import joblib
import psutil
import pytest

from kit.grid import engines
from kit.grid.engines import default_jobs
from kit.runtime import machine
from kit.runtime.machine import cores, free_memory

GB = 2**30

V2 = "0::/"
V1 = "9:memory:/docker/4f\n7:cpu,cpuacct:/docker/4f\n1:name=systemd:/docker/4f"  # the host's path, as Docker shows it


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Fakes a machine: its cores, what `/proc/meminfo` says, and files of control groups."""

    def make(of_cores: int, free: float, groups: dict[str, str], membership: str = V2) -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(of_cores)), raising=False)
        proc = tmp_path / "proc"
        proc.mkdir(exist_ok=True)
        words = {"MemTotal": 64, "MemFree": free, "MemAvailable": free, "Buffers": 0, "Cached": 0, "SReclaimable": 0}
        zeros = dict.fromkeys(("Shmem", "Active", "Inactive", "Slab", "SwapTotal", "SwapFree"), 0)
        (proc / "meminfo").write_text("".join(f"{k}: {int(v * 2**20)} kB\n" for k, v in (words | zeros).items()))
        monkeypatch.setattr(psutil, "PROCFS_PATH", str(proc))
        for name, content in groups.items():
            path = tmp_path / "groups" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        (proc / "cgroup").write_text(membership + "\n")
        monkeypatch.setattr(machine, "MEMBERSHIP", proc / "cgroup")
        monkeypatch.setattr(machine, "GROUPS", tmp_path / "groups")
        engines._say_bounded.cache_clear()

    return make


def test_a_container_with_a_quota_of_2_of_64_cores(made, capsys):
    made(64, 60.0, {"cpu.max": "200000 100000", "memory.max": "max", "memory.current": str(9 * GB)})
    assert (cores(), default_jobs()) == (2, 2)
    assert capsys.readouterr().err == ""


def test_a_machine_of_64_cores_with_4_gb_free(made, capsys):
    made(64, 4.0, {"cpu.max": "max 100000", "memory.max": "max"})
    assert cores() == 64
    jobs = default_jobs()
    assert engines.FIRST_WORKER + (jobs - 1) * engines.FURTHER_WORKER <= 4 * GB
    assert engines.FIRST_WORKER + jobs * engines.FURTHER_WORKER > 4 * GB
    assert default_jobs() == jobs
    (line,) = capsys.readouterr().err.splitlines()  # once
    assert line.startswith(f"warning: {jobs} jobs side by side, not 64: 4.0 GB of memory are free, 64 may need ")
    assert default_jobs(tasks=jobs) == jobs
    assert capsys.readouterr().err == ""


def test_a_container_of_both_has_what_its_limit_leaves_of_a_large_machine(made, capsys):
    stat = f"anon 17\ninactive_file {1 * GB}\nactive_file 5\n"  # files that can be dropped are no use of memory
    limits = {"memory.max": str(8 * GB), "memory.current": str(5 * GB), "memory.stat": stat}
    made(64, 60.0, {"cpu.max": "200000 100000", **limits})
    assert free_memory() == 4 * GB
    assert cores() == 2
    assert default_jobs() == min(2, 1 + (4 * GB - engines.FIRST_WORKER) // engines.FURTHER_WORKER)


def test_a_container_of_the_older_kind(made):
    cpu = {"cpu/cpu.cfs_quota_us": "150000\n", "cpu/cpu.cfs_period_us": "100000\n"}
    stat = f"inactive_file 1\ntotal_inactive_file {GB // 8}\n"
    memory = {"memory.limit_in_bytes": f"{2 * GB}\n", "memory.usage_in_bytes": f"{GB}\n", "memory.stat": stat}
    made(64, 60.0, cpu | {f"memory/{name}": content for name, content in memory.items()}, V1)
    assert cores() == 2  # a core and a half
    assert free_memory() == 9 * GB // 8
    assert default_jobs() == 1


def test_no_limit_of_the_older_kind(made):
    unlimited = {"memory/memory.limit_in_bytes": "9223372036854771712", "memory/memory.usage_in_bytes": str(GB)}
    made(8, 60.0, unlimited | {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, V1)
    assert (cores(), free_memory()) == (8, 60 * GB)


def test_a_group_within_a_group_has_the_least_that_any_of_them_has(made):
    """As `systemd-run -p CPUQuota=` and batch systems limit a job."""
    outer = {"jobs/cpu.max": "400000 100000", "jobs/memory.max": str(6 * GB), "jobs/memory.current": str(5 * GB)}
    inner = {"jobs/7/cpu.max": "max 100000", "jobs/7/memory.max": str(3 * GB), "jobs/7/memory.current": str(GB)}
    made(64, 60.0, outer | inner, "0::/jobs/7")
    assert (cores(), free_memory()) == (4, GB)
    assert default_jobs() == 1


def test_a_system_without_control_groups(made, tmp_path, monkeypatch):
    made(3, 60.0, {})
    monkeypatch.setattr(machine, "MEMBERSHIP", tmp_path / "nowhere")
    assert (cores(), free_memory(), default_jobs()) == (3, 60 * GB, 3)


def test_this_machine_as_others_see_it():
    """joblib sees affinity and the outermost group's quota; no group within it can have more."""
    assert 1 <= cores() <= joblib.cpu_count()
    assert 0 < free_memory() <= psutil.virtual_memory().total
    assert Path("/proc/self/cgroup").exists() == machine.MEMBERSHIP.exists()
