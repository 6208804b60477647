"""ImageFolder trees as datasets: every file of a split opened once, which is its survey.

Small sets are held in memory. Large ones (the imagenet role) are streamed: each image is decoded and resized once into
a memory-mapped file in the kit's cache, or, where that would not fit its budget, decoded anew for every batch.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor
from tqdm.auto import tqdm

from kit.data.base import Dataset, Split, TensorImages, fingerprint
from kit.data.picture import Decoded, decode_file
from kit.data.tree import Half, read_tree, titled
from kit.errors import KitError
from kit.files import kept, sha256, write_atomically, written
from kit.runtime.environment import number_from
from kit.runtime.machine import cores

AHEAD = 64  # images that are decoded before the first of them is asked for
BUDGET_MB = 2048  # for both splits' pixels on disk, unless KIT_IMAGE_BUDGET_MB says otherwise
ANY_BYTES = "surrogateescape"  # a file's name need not be UTF-8


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
    halves = [tree.train.choose(train_per_class), tree.test.choose(test_per_class)]
    if streamed:
        budget = number_from("KIT_IMAGE_BUDGET_MB", BUDGET_MB, "MB") * 2**20
        fits = sum(map(len, halves)) * px * px * 3 <= budget
        surveys = [survey_on_disk(half, px, keep_pixels=fits) for half in halves]
    else:
        surveys = [survey_in_memory(half, px) for half in halves]

    skipped = tuple(f"{path}: {reason}" for survey in surveys for path, reason in survey.damaged)
    if strict and skipped:
        raise KitError(f"{root}: {skipped[0]}; allowed: readable images only, as --strict or KIT_STRICT has it")
    for survey, per_class in zip(surveys, (train_per_class, test_per_class), strict=True):
        if lost := set(range(len(tree.classes))) - set(survey.half.labels.tolist()):
            folder, among = survey.half.folder / tree.classes[min(lost)], f" among the {per_class} chosen"
            raise KitError(f"{folder} holds no readable image{among if per_class else ''}; allowed: one or more")

    train, test = (
        Split(survey.images or FolderImages(survey.half, survey.hashes, px), survey.half.labels) for survey in surveys
    )
    return Dataset(
        role, name or titled(root), source, fingerprint_of(tree.classes, surveys, streamed), tree.classes, train, test,
        px, flip=True, skipped=skipped, passed_over=tree.passed_over, left_out=tree.left_out,
        available=(len(tree.train), len(tree.test)),
    )  # fmt: skip


# ---- images decoded by threads ---------------------------------------------------------------------------------------


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


# ---- surveys ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Survey:
    """A split, every file opened once: its readable files with their `hashes`, and its damaged ones with a reason."""

    half: Half  # the readable files alone
    hashes: list[str]  # of each: "<size> <sha256>", and how it is read where that is not plain
    damaged: list[tuple[str, str]]  # (path below the tree's root, reason)
    images: TensorImages | None = None  # None: to be decoded on the fly


Opened = tuple[list[str], dict[int, str]]  # readable files' hashes, and of damaged ones by position the reason


def open_all(half: Half, px: int, keep: Callable[[ndarray], object] = lambda _: None) -> Opened:
    """Decodes every file of a split and hands the images (px, px, 3) to `keep`; without it no pixels are kept."""
    hashes, damaged = [], {}
    for i, decoded in enumerate(decode_all(half, px)):
        if decoded.pixels is None:
            damaged[i] = decoded.reason
        else:
            keep(decoded.pixels)
            hashes.append(decoded.file_hash)
    return hashes, damaged


def surveyed(half: Half, opened: Opened, pixels: ndarray | None = None, stored: str = "in memory") -> Survey:
    """Makes a survey; the first of the pixels (N, px, px, 3), one a readable file, are its images."""
    hashes, damaged = opened
    readable = half.only([i for i in range(len(half)) if i not in damaged])
    named = [(half.named(half.paths[i]), reason) for i, reason in damaged.items()]
    images = None if pixels is None else TensorImages(torch.from_numpy(pixels[: len(hashes)]), stored)
    return Survey(readable, hashes, named, images)


def survey_in_memory(half: Half, px: int) -> Survey:
    """Decodes a split into one tensor uint8 (N, px, px, 3)."""
    pixels = np.empty((len(half), px, px, 3), np.uint8)
    free = iter(pixels)
    return surveyed(half, open_all(half, px, lambda image: np.copyto(next(free), image)), pixels)


def survey_on_disk(half: Half, px: int, keep_pixels: bool) -> Survey:
    """Takes a survey and keeps it in the cache: `<key>.json` and, with `keep_pixels`, `<key>.npy` memory-mapped.

    The key covers size, date and path of every file. The .json is written last and holds the .npy's checksum, so
    neither a half-written nor a changed file is ever trusted. KitError where the disk is full or not writable.
    """
    return kept(
        "images",
        f"{survey_key(half, px)}.npy",
        lambda npy: known_survey(npy, half, px, keep_pixels),
        lambda npy: write_survey(npy, half, px, keep_pixels),
    )


def survey_key(half: Half, px: int) -> str:
    """Names a survey by a hash of the size, date and path of every file."""
    digest = hashlib.sha256(f"survey 2, px {px}, {half.folder.resolve()}".encode(errors=ANY_BYTES))
    for path in half.paths:
        try:
            status = (half.folder / path).stat()
            digest.update(f"\n{path} {status.st_size} {status.st_mtime_ns}".encode(errors=ANY_BYTES))
        except OSError:
            digest.update(f"\n{path} unreadable".encode(errors=ANY_BYTES))
    return digest.hexdigest()[:32]


def known_survey(npy: Path, half: Half, px: int, keep_pixels: bool) -> Survey | None:
    """Reads the survey of this name if it is complete and unchanged, with its pixels if these are asked for.

    What was damaged is opened again: a disk or network that failed for once left size and date as they are.
    """
    try:
        record = json.loads(npy.with_suffix(".json").read_text())
        opened = record["hashes"], {int(i): reason for i, reason in record["damaged"]}
        if any(decode_file(half.folder / half.paths[i], px).pixels is not None for i in opened[1]):
            return None
        if not keep_pixels:
            return surveyed(half, opened)
        if record["npy_sha256"] is None or sha256(npy) != record["npy_sha256"]:
            return None
        # copy on write: torch wants a writable array, the file stays as it is
        return surveyed(half, opened, np.load(npy, mmap_mode="c"), "memory-mapped")
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_survey(npy: Path, half: Half, px: int, keep_pixels: bool) -> None:
    """Decodes a split once, pixels straight into the .npy file; then the record that vouches for it."""
    npy_sha256 = None
    if keep_pixels:
        with written(npy) as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (len(half), px, px, 3)}
            np.lib.format.write_array_header_1_0(file, header)
            hashes, damaged = open_all(half, px, lambda image: file.write(image.tobytes()))
            file.write(bytes(len(damaged) * px * px * 3))  # in place of those that give no image
        npy_sha256 = sha256(npy)
    else:
        hashes, damaged = open_all(half, px)
    record = {"hashes": hashes, "damaged": list(damaged.items()), "npy_sha256": npy_sha256}
    write_atomically(npy.with_suffix(".json"), json.dumps(record))


def fingerprint_of(classes: Sequence[str], surveys: Sequence[Survey], streamed: bool) -> str:
    """Computes the sha256 of what splits hold: their pixels and labels, or where these are streamed the class names
    and, split by split, sorted paths, sizes and contents."""
    if not streamed:
        return fingerprint(classes, *((survey.images.pixels, survey.half.labels) for survey in surveys))
    digest = hashlib.sha256("\n".join(classes).encode())
    for survey in surveys:
        digest.update(f"\n\n{len(survey.half)}".encode())
        for path, file_hash in sorted(zip(survey.half.paths, survey.hashes, strict=True)):
            digest.update(f"\n{path} {file_hash}".encode(errors=ANY_BYTES))
    return digest.hexdigest()
