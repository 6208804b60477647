"""What is in a split's files: every one opened once, its pixels kept in memory or in the cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from numpy import ndarray
from torch import Tensor

from kit.data.base import TensorImages
from kit.data.decode import decode_all, decode_file
from kit.data.tree import Half
from kit.errors import KitError
from kit.files import cache_folder, in_cache, sha256, write_atomically, written

ANY_BYTES = "surrogateescape"  # a file's name need not be UTF-8


@dataclass(frozen=True)
class Survey:
    """A split, every file opened once: its readable files with their `hashes`, and its damaged ones with a reason."""

    images: TensorImages | None  # None: to be decoded on the fly
    half: Half  # the readable files alone
    hashes: list[str]  # of each: "<size> <sha256>", and how it is read where that is not plain
    damaged: list[tuple[str, str]]  # (path below the tree's root, reason)

    @classmethod
    def of(cls, half: Half, images: TensorImages | None, hashes: list[str], damaged: dict[int, str]) -> Survey:
        """Makes a half's survey; `damaged` has the reasons by position in it."""
        readable = half.only([i for i in range(len(half)) if i not in damaged])
        named = [(half.named(half.paths[i]), reason) for i, reason in damaged.items()]
        return cls(images, readable, hashes, named)

    @property
    def pixels(self) -> tuple[Tensor, Tensor]:
        """Returns the pixels, uint8 (N, px, px, 3), and labels, int64 (N,), of a survey that has its images."""
        return self.images.pixels, self.half.labels


def open_all(half: Half, px: int, keep: Callable[[ndarray], object]) -> tuple[list[str], dict[int, str]]:
    """Decodes every file of a split and hands the images (px, px, 3) to `keep`; hashes, and what is damaged."""
    hashes, damaged = [], {}
    for i, decoded in enumerate(decode_all(half, px)):
        if decoded.pixels is None:
            damaged[i] = decoded.reason
        else:
            keep(decoded.pixels)
            hashes.append(decoded.file_hash)
    return hashes, damaged


def survey_files(half: Half, px: int) -> Survey:
    """Decodes a split and keeps no pixels."""
    return Survey.of(half, None, *open_all(half, px, lambda _: None))


def survey_in_memory(half: Half, px: int) -> Survey:
    """Decodes a split into one tensor uint8 (N, px, px, 3)."""
    pixels = np.empty((len(half), px, px, 3), np.uint8)
    free = iter(pixels)
    hashes, damaged = open_all(half, px, lambda image: np.copyto(next(free), image))
    return Survey.of(half, TensorImages(torch.from_numpy(pixels[: len(hashes)])), hashes, damaged)


HEADER = 128  # bytes of a .npy file before its pixels, whatever their number


def survey_on_disk(half: Half, px: int, keep_pixels: bool) -> Survey:
    """Takes a survey and keeps it in the cache: `<key>.json` and, with `keep_pixels`, `<key>.npy` memory-mapped.

    The key covers size, date and path of every file. The .json is written last and holds the .npy's checksum, so
    neither a half-written nor a changed file is ever trusted. KitError where the disk is full or not writable.
    """
    key = survey_key(half, px)
    known = known_survey(cache_folder() / "images" / key, half, px, keep_pixels)
    if known is not None:  # also where the cache can only be read
        return known
    with in_cache("images") as folder, FileLock(folder / f"{key}.lock"):
        known = known_survey(folder / key, half, px, keep_pixels)
        if known is None:
            write_survey(folder / key, half, px, keep_pixels)
            known = known_survey(folder / key, half, px, keep_pixels)
    if known is None:
        raise KitError(f"{folder / key}.npy does not read back as written; allowed: a disk that keeps what it is given")
    return known


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


def known_survey(stem: Path, half: Half, px: int, keep_pixels: bool) -> Survey | None:
    """Reads the survey of this name if it is complete and unchanged, with its pixels if these are asked for.

    What was damaged is opened again: a disk or network that failed for once left size and date as they are.
    """
    try:
        record = json.loads(stem.with_suffix(".json").read_text())
        hashes, damaged = record["hashes"], {int(i): reason for i, reason in record["damaged"]}
        if any(decode_file(half.folder / half.paths[i], px).pixels is not None for i in damaged):
            return None
        if not keep_pixels:
            return Survey.of(half, None, hashes, damaged)
        pixels = stem.with_suffix(".npy")
        if record["npy_sha256"] is None or sha256(pixels) != record["npy_sha256"]:
            return None
        mapped = np.load(pixels, mmap_mode="c")  # copy on write: torch wants a writable array, the file stays as it is
        return Survey.of(half, TensorImages(torch.from_numpy(mapped), "memory-mapped"), hashes, damaged)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_survey(stem: Path, half: Half, px: int, keep_pixels: bool) -> None:
    """Decodes a split once, pixels straight into the .npy file; then the record that vouches for it."""
    npy_sha256 = None
    if keep_pixels:
        npy = stem.with_suffix(".npy")
        with written(npy) as file:
            file.write(bytes(HEADER))  # the number of readable images is only known at the end
            hashes, damaged = open_all(half, px, lambda image: file.write(image.tobytes()))
            file.seek(0)
            header = {"descr": "|u1", "fortran_order": False, "shape": (len(hashes), px, px, 3)}
            np.lib.format.write_array_header_1_0(file, header)
            assert file.tell() == HEADER
        npy_sha256 = sha256(npy)
    else:
        hashes, damaged = open_all(half, px, lambda _: None)
    record = {"hashes": hashes, "damaged": list(damaged.items()), "npy_sha256": npy_sha256}
    write_atomically(stem.with_suffix(".json"), json.dumps(record))


def files_fingerprint(classes: Sequence[str], surveys: Sequence[Survey]) -> str:
    """Computes the sha256 over class names and, split by split, sorted paths, sizes and contents."""
    digest = hashlib.sha256("\n".join(classes).encode())
    for survey in surveys:
        digest.update(f"\n\n{len(survey.half)}".encode())
        for path, file_hash in sorted(zip(survey.half.paths, survey.hashes, strict=True)):
            digest.update(f"\n{path} {file_hash}".encode(errors=ANY_BYTES))
    return digest.hexdigest()
