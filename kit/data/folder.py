"""ImageFolder trees as datasets.

Small sets are held in memory. Large ones (the imagenet role) are streamed: each image is decoded and resized once into
a memory-mapped file in the kit's cache, or, where that would not fit its budget, decoded anew for every batch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from kit.data.base import Dataset, Split
from kit.data.decode import decode_file
from kit.data.memory import in_memory
from kit.data.survey import files_fingerprint, survey_in_memory, survey_on_disk
from kit.data.tree import Half, read_tree, titled
from kit.errors import KitError
from kit.runtime.machine import cores

BUDGET_MB = 2048  # for both splits' pixels on disk, unless KIT_IMAGE_BUDGET_MB says otherwise


def folder_dataset(
    root: Path,
    role: str,
    px: int,
    train_per_class: int | None = None,
    test_per_class: int | None = None,
    *,
    streamed: bool,
    strict: bool = False,
    name: str | None = None,
    source: str = "real",
) -> Dataset:
    """Loads the tree at `root` as a Dataset, shorter sides resized to px and centre-cropped.

    Damaged images are left out and listed in `skipped`; with `strict` the first one is a KitError. `streamed` keeps
    pixels on disk (at most KIT_IMAGE_BUDGET_MB, see the module's head); otherwise they are in memory.
    """
    tree = read_tree(root)
    name = name or titled(root)
    halves = [tree.train.choose(train_per_class), tree.test.choose(test_per_class)]
    if streamed:
        on_disk = sum(map(len, halves)) * px * px * 3 <= image_budget_mb() * 2**20
        surveys = [survey_on_disk(half, px, on_disk) for half in halves]
    else:
        surveys = [survey_in_memory(half, px) for half in halves]

    skipped = tuple(f"{path}: {reason}" for survey in surveys for path, reason in survey.damaged)
    if strict and skipped:
        raise KitError(f"{root}: {skipped[0]}; allowed: readable images only, as --strict or KIT_STRICT has it")
    for survey, per_class in zip(surveys, (train_per_class, test_per_class), strict=True):
        if lost := set(range(len(tree.classes))) - set(survey.half.labels.tolist()):
            folder, among = survey.half.folder / tree.classes[min(lost)], f" among the {per_class} chosen"
            raise KitError(f"{folder} holds no readable image{among if per_class else ''}; allowed: one or more")

    available = len(tree.train), len(tree.test)
    left = {"skipped": skipped, "passed_over": tree.passed_over, "left_out": tree.left_out, "available": available}
    if not streamed:
        splits = [survey.pixels for survey in surveys]
        return in_memory(role, name, source, tree.classes, splits[0], splits[1], True, **left)
    train, test = (
        Split(survey.images or FolderImages(survey.half, survey.hashes, px), survey.half.labels) for survey in surveys
    )
    fingerprint = files_fingerprint(tree.classes, surveys)
    return Dataset(role, name, source, fingerprint, tree.classes, train, test, px, True, **left)


def image_budget_mb() -> int:
    """Says how many MB of a dataset's pixels the cache may hold: KIT_IMAGE_BUDGET_MB, else 2048; 0 caches none."""
    value = os.environ.get("KIT_IMAGE_BUDGET_MB", str(BUDGET_MB))
    if not value.isdecimal():
        raise KitError(f"KIT_IMAGE_BUDGET_MB {value!r} is not allowed; allowed: a whole number of MB, 0 for no cache")
    return int(value)


@lru_cache(maxsize=1)
def _threads(process: int) -> ThreadPoolExecutor:
    """Decoding threads (Pillow works outside Python's lock); a forked process gets its own."""
    return ThreadPoolExecutor(min(8, cores()), thread_name_prefix="decode")


@dataclass(frozen=True)
class FolderImages:
    """Images decoded anew each time they are taken, by threads, which `begin` sets to work ahead."""

    half: Half
    hashes: Sequence[str]  # what each file was when it was surveyed
    px: int
    stored: ClassVar[str] = "decoded from files"

    def __len__(self) -> int:
        return len(self.half)

    def take(self, indices: Tensor) -> Tensor:
        """Decodes a batch, uint8 (B, px, px, 3). KitError for a file that is no longer what it was."""
        return self.begin(indices)()

    def begin(self, indices: Tensor) -> Callable[[], Tensor]:
        """Begins to decode a batch; what it returns waits for the batch, gives it and raises as `take` does."""
        futures = [_threads(os.getpid()).submit(self._one, i) for i in indices.tolist()]
        return lambda: torch.from_numpy(np.stack([future.result() for future in futures]))

    def _one(self, i: int) -> ndarray:
        path = self.half.folder / self.half.paths[i]
        decoded = decode_file(path, self.px)
        if decoded.pixels is None or decoded.file_hash != self.hashes[i]:
            raise KitError(f"{path}: {decoded.reason or 'has changed'}; allowed: images that stay as they were")
        return decoded.pixels
