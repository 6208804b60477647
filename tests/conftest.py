"""Tests and notebooks run at preset smoke, on one thread, in a cache of their own."""

import os
import tempfile

_cache = tempfile.TemporaryDirectory(prefix="kit-test-cache-")
os.environ["KIT_CACHE"] = _cache.name
os.environ["KIT_PRESET"] = "smoke"
os.environ.pop("KIT_DATA", None)
os.environ.pop("KIT_STRICT", None)

import torch  # noqa: E402

torch.set_num_threads(1)
