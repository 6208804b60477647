"""Folders that are whole or absent: files and their checksums, written beside their place and renamed into it.

    with sealed(place) as draft:
        write(draft / "metrics.json", text)
    complaint(place, ["metrics.json"])  # None, or what is wrong with it

A process killed in the middle leaves a draft whose name starts with `.`, which nothing reads; `sweep` removes it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar
from uuid import uuid4

import platformdirs
from filelock import FileLock, Timeout
from safetensors import SafetensorError

from kit.errors import KitError
from kit.runtime.environment import absolute, folder_from
from kit.runtime.progress import Progress

T = TypeVar("T")
CHECKSUMS = "checksums.json"
FLUSHED_AT_ONCE = 16  # files: a disk writes many together nearly as soon as one


@contextmanager
def sealed(place: Path) -> Iterator[Path]:
    """A draft folder to write files into; when its block ends it is checksummed, on the disk, and at `place`.

    Raises KitError where the disk cannot take it; whatever goes wrong, `place` stays as it was.
    """
    with writing_to(place.parent), drafted(place) as draft:
        yield draft
        written = sorted(path for path in draft.iterdir())
        write(draft / CHECKSUMS, json.dumps({path.name: sha256(path) for path in written}, indent=1))


@contextmanager
def drafted(place: Path) -> Iterator[Path]:
    """Yields a draft folder to write into; when its block ends it is on the disk, and at `place`."""
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = place.with_name(f".{place.name}-{uuid4().hex[:8]}")
    draft.mkdir()
    try:
        yield draft
        content, allowed = list(draft.rglob("*")), draft.stat().st_mode & 0o666  # by the umask
        for path in filter(Path.is_file, content):  # of which safetensors makes private ones; others may share a cache
            path.chmod(path.stat().st_mode | allowed)
        with ThreadPoolExecutor(FLUSHED_AT_ONCE) as threads:
            list(threads.map(flush, [*content, draft]))
        draft.rename(place)
        flush(place.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def complaint(folder: Path, names: Collection[str]) -> str | None:
    """What is wrong with a sealed folder that should hold `names`, in a few words; None when whole and unaltered."""
    try:
        checksums = json.loads((folder / CHECKSUMS).read_text())
    except (OSError, ValueError, RecursionError):
        return f"{CHECKSUMS} is missing or unreadable"
    if not isinstance(checksums, dict) or set(checksums) != set(names):
        return f"{CHECKSUMS} does not list the run's files"
    for name in names:
        path = folder / name
        if not path.exists():
            return f"{name} is missing"
        if path.is_symlink() or not path.is_file():
            return f"{name} is not a plain file"
        try:
            altered = sha256(path) != checksums[name]
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
        if altered:
            return f"{name} does not match its checksum"
    return None


def sweep(place: Path) -> None:
    """Removes what killed processes left of drafts for `place`. Only for a holder of the place's lock."""
    for draft in place.parent.glob(f".{place.name}-*"):
        shutil.rmtree(draft, ignore_errors=True)


def remove(place: Path) -> None:
    """Removes a folder with all in it; of a link, or a file in its place, that alone."""
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink()


def changed_at(place: Path) -> float:
    """Reads when a file or folder was changed last, in seconds; 0 for one that another process has just removed."""
    try:
        return place.stat().st_mtime
    except OSError:
        return 0.0


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(path: Path, text: str) -> None:
    """Writes a file as it is written on every system; what is in a draft comes to the disk with it."""
    path.write_text(text, encoding="utf-8", newline="\n")


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file that appears under its name, in place of an older one, only once it is whole and on the disk."""
    with written(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def written(path: Path) -> Iterator[BinaryIO]:
    """Yields a file to write into; when its block ends it is on the disk, and at `path`."""
    draft = path.with_name(f".{path.name}-{uuid4().hex[:8]}")
    try:
        with draft.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        flush(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """A file's content, or a folder's names, through to the disk. Windows opens no folders and needs none of it."""
    if path.is_dir() and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """What the system says against writing (disk full, read-only, no permission), as a KitError of one line."""
    try:
        yield
    except SafetensorError as error:
        raise KitError(f"cannot write to {folder}: {str(error).splitlines()[0]}") from error
    except OSError as error:
        if error.errno is None:
            raise
        raise KitError(f"cannot write to {folder}: {error.strerror}") from error


def ready_folder(folder: Path) -> Path:
    """Makes a folder, and tries whether files can be written there before what goes into it is made. KitError."""
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder


def ready_file(path: Path) -> Path:
    """Tries whether a file of this name can be written before its content is made; makes its folder. KitError."""
    ready_folder(path.parent)
    if path.is_dir():
        raise KitError(f"cannot write to {path}: it is a folder; allowed: a file's name")
    return path


# ---- the cache -----------------------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """`KIT_CACHE`, or the user's cache folder; absolute. Raises KitError where the user has no home for one."""
    try:
        return folder_from("KIT_CACHE") or absolute(platformdirs.user_cache_dir("small-teacher-kit"))
    except RuntimeError as error:  # of platformdirs: no HOME, and no entry in the system's list of users
        raise KitError(f"there is no folder for the cache ({error}); allowed: KIT_CACHE=FOLDER, or HOME") from None


WAITING_S = 0.5  # between two looks at a lock that somebody else holds


@contextmanager
def locked(place: Path, progress: Progress = lambda share: None) -> Iterator[None]:
    """Holds the place's lock, which the system frees when its holder is killed. Raises KitError where it cannot be.

    `progress` hears 0 now and then while it waits for the lock.
    """
    lock = FileLock(place.with_suffix(".lock"))
    with writing_to(place.parent):
        place.parent.mkdir(parents=True, exist_ok=True)
        while not lock.is_locked:
            try:
                lock.acquire(timeout=WAITING_S)
            except Timeout:
                progress(0.0)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def in_cache(below: str) -> Iterator[Path]:
    """Yields a folder of the cache, made if need be; a disk that cannot take it is a KitError that says what helps."""
    folder = cache_folder() / below
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    except OSError as error:
        raise KitError(
            f"cache folder {folder} cannot be written ({error.strerror or error}); allowed: KIT_CACHE set to another, "
            f"or, of a full disk, a smaller KIT_IMAGE_BUDGET_MB"
        ) from error


def kept(below: str, name: str, read: Callable[[Path], T | None], make: Callable[[Path], None]) -> T:
    """Returns what the cache keeps at a place, as `read` gives it; where that is None it is made first.

    Processes and threads that ask at once make it once. KitError as `in_cache`, and where what is made is not read.
    """
    place = cache_folder() / below / name
    if (found := read(place)) is not None:  # also where the cache can only be read
        return found
    with in_cache(below), FileLock(place.with_suffix(".lock")):
        if (found := read(place)) is None:  # another may have made it while this one waited
            make(place)
            found = read(place)
    if found is None:
        raise KitError(f"{place} does not read back as written; allowed: a disk that keeps what it is given")
    return found
