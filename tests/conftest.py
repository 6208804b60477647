"""Tests and notebooks run at preset smoke, on one thread, in a cache of their own, one for all of xdist's workers."""

import os
import tempfile
from pathlib import Path

if "PYTEST_XDIST_WORKER" not in os.environ:
    _cache = tempfile.TemporaryDirectory(prefix="kit-test-cache-")
    os.environ["KIT_CACHE"] = _cache.name
    os.environ["KIT_TEST_CACHE"] = _cache.name
os.environ["KIT_PRESET"] = "smoke"
os.environ.pop("KIT_DATA", None)
os.environ.pop("KIT_STRICT", None)
os.environ.pop("KIT_IMAGE_BUDGET_MB", None)

import pytest
import torch

torch.set_num_threads(1)


def new_cache(tmp_path_factory) -> Path:
    """An empty cache, but for the generated ship scenes, which take 20 s to draw: they are those of all tests."""
    shared, cache = Path(os.environ["KIT_TEST_CACHE"]) / "stand-ins", tmp_path_factory.mktemp("cache")
    shared.mkdir(exist_ok=True)
    (cache / "stand-ins").symlink_to(shared)
    return cache


@pytest.fixture
def own_cache(monkeypatch, tmp_path_factory):
    """A cache for one test."""
    cache = new_cache(tmp_path_factory)
    monkeypatch.setenv("KIT_CACHE", str(cache))
    return cache


@pytest.fixture(scope="module")
def module_cache(tmp_path_factory):
    """A cache for one file's tests."""
    cache = new_cache(tmp_path_factory)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KIT_CACHE", str(cache))
        yield cache


@pytest.fixture
def here(monkeypatch):
    """The command line trains in this process: no worker has to start."""
    from small_runs import Here

    from kit.cli import options

    monkeypatch.setattr(options, "engine_at", lambda *_: Here())
