"""Caches for single tests."""

import os
from pathlib import Path


def new_cache(folder: Path) -> Path:
    """An empty cache, but for the generated ship scenes, which take 20 s to draw: they are those of all tests."""
    shared = Path(os.environ["KIT_TEST_CACHE"]) / "stand-ins"
    shared.mkdir(exist_ok=True)
    folder.mkdir(exist_ok=True)
    (folder / "stand-ins").symlink_to(shared)
    return folder
