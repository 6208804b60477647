"""Every test of the data has a cache of its own, and no real data."""

from __future__ import annotations

import pytest

from kit.data import roles


@pytest.fixture(autouse=True)
def no_environment(monkeypatch, tmp_path_factory):
    for name in ("KIT_DATA", "KIT_STRICT", "KIT_IMAGE_BUDGET_MB"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KIT_CACHE", str(tmp_path_factory.mktemp("cache")))
    roles._load.cache_clear()
