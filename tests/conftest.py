"""Tests and notebooks run at preset smoke, on one thread, in a cache of their own, one for all of xdist's workers."""

import os
import tempfile

if "PYTEST_XDIST_WORKER" not in os.environ:
    _cache = tempfile.TemporaryDirectory(prefix="kit-test-cache-")
    os.environ["KIT_CACHE"] = _cache.name
    os.environ["KIT_TEST_CACHE"] = _cache.name
os.environ["KIT_PRESET"] = "smoke"
os.environ.pop("KIT_DATA", None)
os.environ.pop("KIT_STRICT", None)

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture
def own_cache(monkeypatch, tmp_path):
    """An empty cache for one test, and no real data."""
    monkeypatch.setenv("KIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KIT_DATA", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def here(monkeypatch):
    """The command line trains in this process: no worker has to start."""
    from small_runs import Here

    from kit.cli import options

    monkeypatch.setattr(options, "engine_at", lambda *_: Here())
