"""The variables by which `make numerics` has torch and oneDNN compute as another processor take effect."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

MAKEFILE = Path(__file__).parents[1] / "Makefile"
SETTINGS = re.findall(r"ATEN_CPU_CAPABILITY=(\w+) ONEDNN_MAX_CPU_ISA=(\w+)", MAKEFILE.read_text())
ONEDNN_SAYS = {"AVX2": "Intel AVX2", "SSE41": "Intel SSE4.1"}

LOOK = """
import torch
torch.nn.Conv2d(3, 64, 7, 2, 3)(torch.rand(8, 3, 64, 64))  # large enough for oneDNN
print(torch.backends.cpu.get_cpu_capability())
"""


def test_two_other_processors_are_tried():
    assert SETTINGS == [("avx2", "AVX2"), ("default", "SSE41")]


@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() == "DEFAULT", reason="needs a processor with AVX2")
@pytest.mark.parametrize(("torchs", "onednns"), SETTINGS)
def test_torch_and_onednn_compute_as_the_processor_named(torchs, onednns):
    named = {"ATEN_CPU_CAPABILITY": torchs, "ONEDNN_MAX_CPU_ISA": onednns, "ONEDNN_VERBOSE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", LOOK], capture_output=True, text=True, env=os.environ | named, check=True
    )
    said = done.stdout.splitlines()
    assert said[-1] == torchs.upper()
    assert f"onednn_verbose,v1,info,cpu,isa:{ONEDNN_SAYS[onednns]}" in said
