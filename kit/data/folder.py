"""ImageFolder trees: `train/` and `test/` or `val/`, a folder a class, read with Pillow.

Small sets are held in memory. Large ones (the imagenet role) are streamed: each image is decoded and resized once into
a memory-mapped file in the kit's cache, or, where that would not fit its budget, decoded anew for every batch.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import platformdirs
import torch
from filelock import FileLock
from numpy import ndarray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes, make_dataset
from tqdm.auto import tqdm

from kit.data.base import Dataset, Images, Split, TensorImages
from kit.data.memory import each_class, in_memory, rank
from kit.errors import KitError
from kit.files import sha256

BUDGET_MB = 2048  # for both splits' pixels on disk, unless KIT_IMAGE_BUDGET_MB says otherwise
MANY = 2000  # images from which worker processes are worth it
LAYOUT = "train/ and test/ or val/, each with a folder a class"


# ---- the tree ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Half:
    """One split of a tree: its folder, its images' paths below it (with /), and their labels (N,)."""

    folder: Path
    paths: tuple[str, ...]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.paths)

    def choose(self, per_class: int | None) -> Half:
        """At most `per_class` images of every class, always the same ones, and part of any larger choice."""
        if per_class is None:
            return self
        chosen = []
        for of_class in each_class(self.labels):
            chosen += sorted(of_class.tolist(), key=lambda i: rank(self.paths[i]))[:per_class]
        return self.only(sorted(chosen))

    def only(self, indices: Sequence[int]) -> Half:
        return Half(self.folder, tuple(self.paths[i] for i in indices), self.labels[torch.tensor(indices)])


@dataclass(frozen=True)
class Tree:
    root: Path
    classes: tuple[str, ...]
    train: Half
    test: Half


def find_tree(role: str, folder: Path) -> Path | None:
    """Where an ImageFolder tree for the role is: `<folder>/<role>`, else the folder itself, else nowhere."""
    if (folder / role).is_dir():
        return folder / role
    return folder if (folder / "train").is_dir() else None


def read_tree(root: Path) -> Tree:
    """Lists a tree as torchvision's ImageFolder does: classes and files in sorted order.

    KitError for a missing split, a split without classes, a class without images, and splits whose classes differ.
    """
    test_folder = next((root / name for name in ("test", "val") if (root / name).is_dir()), None)
    if not (root / "train").is_dir() or test_folder is None:
        missing = "test/ or val/" if (root / "train").is_dir() else "train/"
        raise KitError(f"{root} has no {missing}; allowed: {LAYOUT}")
    listed = {}
    for folder in (root / "train", test_folder):
        try:
            classes, numbers = find_classes(str(folder))
        except FileNotFoundError as error:
            raise KitError(f"{folder} has no class folders; allowed: {LAYOUT}") from error
        samples = make_dataset(str(folder), numbers, extensions=IMG_EXTENSIONS, allow_empty=True)
        labels = torch.tensor([label for _, label in samples], dtype=torch.int64)
        empty = sorted(set(range(len(classes))) - set(labels.tolist()))
        if empty:
            raise KitError(f"{folder / classes[empty[0]]} holds no images; allowed: {', '.join(IMG_EXTENSIONS)}")
        paths = tuple(Path(path).relative_to(folder).as_posix() for path, _ in samples)
        listed[folder] = classes, Half(folder, paths, labels)
    (train_classes, train), (test_classes, test) = listed.values()
    if train_classes != test_classes:
        lone = min(set(train_classes) ^ set(test_classes))
        where = "train/" if lone in train_classes else f"{test_folder.name}/"
        raise KitError(f"{root}: class {lone!r} is only in {where}; allowed: the same classes in both")
    return Tree(root, tuple(train_classes), train, test)


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
    budget_mb: int | None = None,
) -> Dataset:
    """The tree at `root` as a Dataset, shorter sides resized to px and centre-cropped.

    Damaged images are left out and listed in `skipped`; with `strict` the first one is a KitError. `streamed` keeps
    pixels on disk (at most `budget_mb`, see the module's head); otherwise they are in memory.
    """
    tree = read_tree(root)
    halves = [tree.train.choose(train_per_class), tree.test.choose(test_per_class)]
    name = name or f"image folder {root.name}"
    if streamed:
        budget = image_budget_mb() if budget_mb is None else budget_mb
        on_disk = sum(map(len, halves)) * px * px * 3 <= budget * 2**20
        surveys = [survey_on_disk(half, px, on_disk) for half in halves]
    else:
        surveys = [survey_in_memory(half, px) for half in halves]

    skipped = [
        f"{path}: {reason}"
        for half, survey in zip(halves, surveys, strict=True)
        for path, reason in named(half, survey.damaged)
    ]
    if strict and skipped:
        raise KitError(f"{root}: {skipped[0]}; allowed: readable images only, while KIT_STRICT is set")
    kept = [half.only(survey.kept(len(half))) for half, survey in zip(halves, surveys, strict=True)]
    for half in kept:
        if lost := set(range(len(tree.classes))) - set(half.labels.tolist()):
            raise KitError(f"{half.folder / tree.classes[min(lost)]} holds no readable image; allowed: one or more")

    if not streamed:
        splits = [(survey.images.pixels, half.labels) for survey, half in zip(surveys, kept, strict=True)]
        return in_memory(role, name, source, tree.classes, *splits, flip=True, skipped=skipped)
    train, test = (
        Split(survey.images or FolderImages(half.folder, half.paths, px), half.labels)
        for survey, half in zip(surveys, kept, strict=True)
    )
    hashes = [survey.hashes for survey in surveys]
    fingerprint = files_fingerprint(tree.classes, kept, hashes)
    return Dataset(role, name, source, fingerprint, tree.classes, train, test, px, flip=True, skipped=tuple(skipped))


def named(half: Half, damaged: dict[int, str]) -> list[tuple[str, str]]:
    """Damaged files as (path below the tree's root, reason)."""
    return [(f"{half.folder.name}/{half.paths[i]}", reason) for i, reason in damaged.items()]


def files_fingerprint(classes: Sequence[str], halves: Sequence[Half], hashes: Sequence[Sequence[str]]) -> str:
    """sha256 over class names and, split by split, sorted paths, sizes and contents (`hashes`: "<size> <sha256>")."""
    digest = hashlib.sha256("\n".join(classes).encode())
    for half, of_half in zip(halves, hashes, strict=True):
        digest.update(f"\n\n{len(half)}".encode())
        for path, file_hash in sorted(zip(half.paths, of_half, strict=True)):
            digest.update(f"\n{path} {file_hash}".encode())
    return digest.hexdigest()


# ---- decoding ------------------------------------------------------------------------------------------------------


class Decoded(NamedTuple):
    """One file: its image uint8 (px, px, 3), or None and the reason; and "<size> <sha256>" of its bytes."""

    pixels: ndarray | None
    reason: str
    file_hash: str


def decode(content: bytes, px: int) -> ndarray:
    """An image file's bytes → uint8 (px, px, 3): RGB, shorter side resized to px (bilinear), centre crop."""
    with Image.open(io.BytesIO(content)) as image:
        image.draft(None, (2 * px, 2 * px))  # a much larger JPEG is decoded at a half, a quarter or an eighth
        image = image.convert("RGB")
        if image.size != (px, px):
            image = ImageOps.fit(image, (px, px), Image.Resampling.BILINEAR)
        return np.asarray(image)


def decode_file(path: Path, px: int) -> Decoded:
    """Reads and decodes one file; whatever is wrong with it becomes the reason."""
    content = b""
    try:
        content = path.read_bytes()
        pixels, reason = decode(content, px), ""
    except UnidentifiedImageError:
        pixels, reason = None, "not an image" if content else "an empty file"
    except OSError as error:
        pixels, reason = None, error.strerror or str(error)
    except (ValueError, SyntaxError, EOFError, IndexError, Image.DecompressionBombError) as error:
        pixels, reason = None, str(error) or type(error).__name__
    return Decoded(pixels, reason.splitlines()[0] if reason else "", f"{len(content)} {_sha256(content)}")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class _Files(torch.utils.data.Dataset):
    """What DataLoader's workers index: files to decode."""

    folder: Path
    paths: tuple[str, ...]
    px: int

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> Decoded:
        return decode_file(self.folder / self.paths[i], self.px)


def decode_all(half: Half, px: int) -> Iterator[Decoded]:
    """Every file of a split, in order; by worker processes where there are many and we may have some."""
    files = _Files(half.folder, half.paths, px)
    loader = DataLoader(
        files,
        batch_size=32,
        collate_fn=list,
        num_workers=worker_processes(len(files)),
        generator=torch.Generator(),  # its own, so that torch's stream is left alone
    )
    with tqdm(total=len(files), desc=f"reading {half.folder.name}", unit="img", delay=3) as bar:
        for batch in loader:
            yield from batch
            bar.update(len(batch))


def worker_processes(images: int) -> int:
    """How many processes decode: none in a notebook, in a process that may not have children, or for few images."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if images < MANY or hasattr(shell, "kernel") or multiprocessing.current_process().daemon:
        return 0
    return min(8, _cores())


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# ---- surveys: what is in a split's files ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Survey:
    """A split, every file opened once. `images` and `hashes` are of the readable ones; None: decode them on the fly."""

    images: Images | None
    hashes: list[str]
    damaged: dict[int, str]  # position in the split → reason

    def kept(self, n: int) -> list[int]:
        return [i for i in range(n) if i not in self.damaged]


def open_all(half: Half, px: int, keep: Callable[[ndarray], object]) -> tuple[list[str], dict[int, str]]:
    """Decodes every file of a split, hands the images (px, px, 3) to `keep`; returns a Survey's hashes and damaged."""
    hashes, damaged = [], {}
    for i, decoded in enumerate(decode_all(half, px)):
        if decoded.pixels is None:
            damaged[i] = decoded.reason
        else:
            keep(decoded.pixels)
            hashes.append(decoded.file_hash)
    return hashes, damaged


def survey_in_memory(half: Half, px: int) -> Survey:
    """Decodes a split into one tensor uint8 (N, px, px, 3)."""
    pixels = np.empty((len(half), px, px, 3), np.uint8)
    free = iter(pixels)
    hashes, damaged = open_all(half, px, lambda image: np.copyto(next(free), image))
    return Survey(TensorImages(torch.from_numpy(pixels[: len(hashes)])), hashes, damaged)


HEADER = 128  # bytes of a .npy file before its pixels, whatever their number


def survey_on_disk(half: Half, px: int, keep_pixels: bool) -> Survey:
    """A survey kept in the cache: `<key>.json` and, with `keep_pixels`, `<key>.npy` memory-mapped.

    The key covers size, date and path of every file. The .json is written last and holds the .npy's checksum, so
    neither a half-written nor a changed file is ever trusted. KitError where the disk is full or not writable.
    """
    folder = cache_folder("images")
    key = survey_key(half, px)
    with cache_errors(folder), FileLock(folder / f"{key}.lock"):
        known = known_survey(folder / key, keep_pixels)
        if known is None:
            write_survey(folder / key, half, px, keep_pixels)
            known = known_survey(folder / key, keep_pixels)
    if known is None:
        raise KitError(f"{folder / key}.npy does not read back as written; allowed: a disk that keeps what it is given")
    return known


def survey_key(half: Half, px: int) -> str:
    digest = hashlib.sha256(f"survey 1, px {px}, {half.folder.resolve()}".encode())
    for path in half.paths:
        try:
            status = (half.folder / path).stat()
            digest.update(f"\n{path} {status.st_size} {status.st_mtime_ns}".encode())
        except OSError:
            digest.update(f"\n{path} unreadable".encode())
    return digest.hexdigest()[:32]


def known_survey(stem: Path, keep_pixels: bool) -> Survey | None:
    """The survey under this name if it is complete and unchanged, with its pixels if these are asked for."""
    try:
        record = json.loads(stem.with_suffix(".json").read_text())
        hashes, damaged = record["hashes"], {int(i): reason for i, reason in record["damaged"]}
        if not keep_pixels:
            return Survey(None, hashes, damaged)
        pixels = stem.with_suffix(".npy")
        if record["npy_sha256"] is None or sha256(pixels) != record["npy_sha256"]:
            return None
        mapped = np.load(pixels, mmap_mode="c")  # copy on write: torch wants a writable array, the file stays as it is
        return Survey(TensorImages(torch.from_numpy(mapped), "memory-mapped"), hashes, damaged)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
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
        hashes, damaged = open_all(half, px, lambda image: None)
    with written(stem.with_suffix(".json")) as file:
        record = {"hashes": hashes, "damaged": list(damaged.items()), "npy_sha256": npy_sha256}
        file.write(json.dumps(record).encode())


@contextmanager
def written(path: Path) -> Iterator[io.BufferedWriter]:
    """A file that appears under its name only once it is whole and on the disk."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


# ---- the cache's folder --------------------------------------------------------------------------------------------


def cache_folder(below: str) -> Path:
    """A folder of the kit's cache, made if need be: KIT_CACHE's, else the user's cache folder."""
    folder = Path(os.environ.get("KIT_CACHE") or platformdirs.user_cache_dir("small-teacher-kit")) / below
    with cache_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def cache_errors(folder: Path) -> Iterator[None]:
    """Turns a full or unwritable disk into one line that says what may be done about it."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "is on a disk that is full" if full else f"cannot be written ({error.strerror or error})"
        fewer = ", or a smaller KIT_IMAGE_BUDGET_MB" if full else ""
        raise KitError(f"cache folder {folder} {what}; allowed: KIT_CACHE set to one with room{fewer}") from error


def image_budget_mb() -> int:
    """How many MB of pixels the cache may hold for one dataset: KIT_IMAGE_BUDGET_MB, else 2048; 0 caches none."""
    value = os.environ.get("KIT_IMAGE_BUDGET_MB", str(BUDGET_MB))
    if not value.isdecimal():
        raise KitError(f"KIT_IMAGE_BUDGET_MB {value!r} is not allowed; allowed: a whole number of MB, 0 for no cache")
    return int(value)


# ---- decoding on the fly -------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _threads(process: int) -> ThreadPoolExecutor:
    """Decoding threads (Pillow works outside Python's lock); a forked process gets its own."""
    return ThreadPoolExecutor(min(8, _cores()), thread_name_prefix="decode")


@dataclass(eq=False)
class FolderImages:
    """Images decoded anew each time they are taken, by threads; `prefetch` lets them work ahead."""

    folder: Path
    paths: tuple[str, ...]
    px: int
    ahead: int = 4  # batches
    stored: ClassVar[str] = "decoded from files"
    _coming: list[Tensor] = field(default_factory=list, repr=False)
    _started: list[tuple[Tensor, list[Future]]] = field(default_factory=list, repr=False)

    def __len__(self) -> int:
        return len(self.paths)

    def prefetch(self, batches: Sequence[Tensor]) -> None:
        """Says which batches will be taken next, in this order; a few of them are decoded in advance."""
        self._coming, self._started = list(reversed(batches)), []
        self._start_ahead()

    def take(self, indices: Tensor) -> Tensor:
        """uint8 (B, px, px, 3). KitError for a file that cannot be read any more."""
        if self._started and torch.equal(self._started[0][0], indices):
            _, futures = self._started.pop(0)
            self._start_ahead()
        else:
            futures = self._start(indices)
        return torch.from_numpy(np.stack([future.result() for future in futures]))

    def _start_ahead(self) -> None:
        while self._coming and len(self._started) < self.ahead:
            indices = self._coming.pop()
            self._started.append((indices, self._start(indices)))

    def _start(self, indices: Tensor) -> list[Future]:
        return [_threads(os.getpid()).submit(self._one, i) for i in indices.tolist()]

    def _one(self, i: int) -> ndarray:
        decoded = decode_file(self.folder / self.paths[i], self.px)
        if decoded.pixels is None:
            raise KitError(f"{self.folder / self.paths[i]}: {decoded.reason}; allowed: images that stay as they were")
        return decoded.pixels
