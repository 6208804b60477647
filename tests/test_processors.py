"""All processors compute by the same instructions, and the variables by which `make numerics` has torch and oneDNN
compute as an older one take effect."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kit.runtime import process
from kit.runtime.process import AVX2, has_avx512

MAKEFILE = Path(__file__).parents[1] / "Makefile"
OLDER = re.findall(r"ATEN_CPU_CAPABILITY=(\w+) ONEDNN_MAX_CPU_ISA=(\w+)", MAKEFILE.read_text())
ONEDNN_SAYS = {"AVX2": "Intel AVX2", "SSE41": "Intel SSE4.1"}

LOOK = """
import torch
torch.nn.Conv2d(3, 64, 7, 2, 3)(torch.rand(8, 3, 64, 64))  # large enough for oneDNN
print(torch.backends.cpu.get_cpu_capability())
"""


def test_an_older_processor_is_tried():
    assert OLDER == [("default", "SSE41")]


@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() == "DEFAULT", reason="needs a processor with AVX2")
@pytest.mark.parametrize(("torchs", "onednns"), OLDER)
def test_torch_and_onednn_compute_as_the_processor_named(torchs, onednns):
    said = looked(LOOK, {"ATEN_CPU_CAPABILITY": torchs, "ONEDNN_MAX_CPU_ISA": onednns})
    assert said[-1] == torchs.upper()
    assert f"onednn_verbose,v1,info,cpu,isa:{ONEDNN_SAYS[onednns]}" in said


def looked(script: str, named: dict[str, str]) -> list[str]:
    """What a process of its own says, of those variables with only the named ones set."""
    unset = {name: value for name, value in os.environ.items() if name not in AVX2}
    environment = unset | named | {"ONEDNN_VERBOSE": "1"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True)
    return done.stdout.splitlines()


@pytest.mark.skipif(not has_avx512(), reason="needs a processor with AVX-512")
@pytest.mark.parametrize("first", ["import kit", "import torch, kit"])
def test_with_the_kit_a_wider_processor_computes_as_one_with_avx2(first):
    said = looked(first + LOOK, {})
    assert said[-1] == "AVX2" and f"onednn_verbose,v1,info,cpu,isa:{ONEDNN_SAYS['AVX2']}" in said


@pytest.mark.parametrize(
    ("flags", "environment", "then"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512dq\n", {}, AVX2),
        ("flags\t\t: fpu avx2 avx512f avx512dq\n", {"MKL_CBWR": "AUTO"}, {"MKL_CBWR": "AUTO"}),
        ("flags\t\t: fpu avx2 avx\n", {}, {}),
        ("Features\t: fp asimd\n", {}, {}),  # no x86
        (None, {}, {}),
    ],
)
def test_only_a_processor_with_avx512_is_told_and_only_where_nobody_has_said_otherwise(
    monkeypatch, tmp_path, flags, environment, then
):
    monkeypatch.setattr(process, "CPUINFO", tmp_path / "cpuinfo")
    if flags is not None:
        process.CPUINFO.write_text(f"processor\t: 0\n{flags}processor\t: 1\n")
    monkeypatch.setattr(os, "environ", dict(environment))
    process.compute_alike()
    assert os.environ == then
