"""Every test of the data has a cache of its own."""

from __future__ import annotations

import pytest

from kit.data import roles


@pytest.fixture(autouse=True)
def fresh_cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("KIT_CACHE", str(tmp_path_factory.mktemp("cache")))
    roles._load.cache_clear()
