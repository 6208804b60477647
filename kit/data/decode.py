"""Image files decoded with Pillow, by threads: one by one, a whole split, or batches ahead of their training."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from numpy import ndarray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from tqdm.auto import tqdm

from kit.data.picture import read
from kit.data.tree import Half
from kit.errors import KitError
from kit.runtime.machine import cores

AHEAD = 64  # images that are decoded before the first of them is asked for


class Decoded(NamedTuple):
    """One file: its image uint8 (px, px, 3), or None and the reason; "<size> <sha256>" of its bytes, and how they were
    read where Pillow alone would show another picture; and the whole picture's width and height.
    """

    pixels: ndarray | None
    reason: str
    file_hash: str
    size: tuple[int, int] = (0, 0)


def decode_file(path: Path, px: int) -> Decoded:
    """Reads and decodes one file: shorter side resized to px (bilinear), centre crop. Whatever is wrong with it becomes
    the reason."""
    content, pixels, size, how, reason = b"", None, (0, 0), "", ""
    try:
        content = path.read_bytes()
        image, size, how = read(content, px)
        if image.size != (px, px):
            image = ImageOps.fit(image, (px, px), Image.Resampling.BILINEAR)
        pixels = np.asarray(image)
    except UnidentifiedImageError:
        reason = "not an image" if content else "an empty file"
    except OSError as error:
        reason = error.strerror or str(error)
    except Exception as error:  # of one file among many, from any of Pillow's plugins
        reason = str(error) or type(error).__name__
    file_hash = f"{len(content)} {hashlib.sha256(content).hexdigest()} {how}".strip()
    return Decoded(pixels, reason.splitlines()[0] if reason else "", file_hash, size)


@lru_cache(maxsize=1)
def _threads(process: int) -> ThreadPoolExecutor:
    """Decoding threads (Pillow works outside Python's lock); a forked process gets its own."""
    return ThreadPoolExecutor(min(8, cores()), thread_name_prefix="decode")


def decode_all(half: Half, px: int) -> Iterator[Decoded]:
    """Decodes every file of a split, in order."""
    with tqdm(total=len(half), desc=f"reading {half.folder.name}", unit="img", delay=3) as bar:
        for start in range(0, len(half), AHEAD):
            paths = half.paths[start : start + AHEAD]
            for decoded in _threads(os.getpid()).map(lambda path: decode_file(half.folder / path, px), paths):
                yield decoded
                bar.update()


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
        images = _threads(os.getpid()).map(self._one, indices.tolist())
        return lambda: torch.from_numpy(np.stack([*images]))

    def _one(self, i: int) -> ndarray:
        path = self.half.folder / self.half.paths[i]
        decoded = decode_file(path, self.px)
        if decoded.pixels is None or decoded.file_hash != self.hashes[i]:
            raise KitError(f"{path}: {decoded.reason or 'has changed'}; allowed: images that stay as they were")
        return decoded.pixels
