"""Image files decoded with Pillow, one by one or a whole split by worker processes."""

from __future__ import annotations

import hashlib
import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy import ndarray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from kit.data.picture import read
from kit.data.tree import Half
from kit.runtime.machine import cores

MANY = 2000  # images from which worker processes are worth it


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


def decode_files(folder: Path, px: int, paths: Sequence[str]) -> list[Decoded]:
    return [decode_file(folder / path, px) for path in paths]


def decode_all(half: Half, px: int) -> Iterator[Decoded]:
    """Decodes every file of a split, in order; by worker processes where there are many and we may have some."""
    loader = DataLoader(
        half.paths,
        batch_size=32,
        collate_fn=partial(decode_files, half.folder, px),  # which a worker calls
        num_workers=worker_processes(len(half)),
        generator=torch.Generator(),  # its own, so that torch's stream is left alone
    )
    with tqdm(total=len(half), desc=f"reading {half.folder.name}", unit="img", delay=3) as bar:
        for batch in loader:
            yield from batch
            bar.update(len(batch))


def worker_processes(images: int) -> int:
    """Says how many processes decode: none in a notebook, in a process that may have no children, or for few images."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if images < MANY or hasattr(shell, "kernel") or multiprocessing.current_process().daemon:
        return 0
    return min(8, cores())
