"""The paper's four datasets as roles, each filled by real images where they are on disk, else by an embedded stand-in.

A folder may be an ImageFolder tree itself, hold one as `<role>/`, or hold CIFAR as torchvision extracts it.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from kit.data.base import Dataset, Split, TensorImages
from kit.errors import KitError, not_one_of

__all__ = ["ROLES", "SOURCES", "Dataset", "Split", "TensorImages", "download", "load", "prepare"]

ROLES = ("cifar-10", "cifar-100", "imagenet", "hrsc2016")
SOURCES = ("auto", "embedded", "real")
LEVELS = ("ship", "category", "type")
PX_RANGE = (8, 512)


def load(
    role: str,
    *,
    px: int,
    train_per_class: int | None = None,
    test_per_class: int | None = None,
    source: str = "auto",
    folder: Path | None = None,
    level: str | None = None,
) -> Dataset:
    """The dataset that fills a role, every image px × px, at most so many images a class (None: all there are).

    source: `real` only from the folder, `embedded` only the stand-in, `auto` the real one where the folder has it.
    level: of hrsc2016's labels (ship, category, type; None: type), not for other roles.
    folder: where real images are; without it the environment's KIT_DATA, if set. The same arguments give the same
    object. KitError for what is not allowed, a folder that is missing, and real data that is missing or incomplete.
    """
    check_arguments(role, px, train_per_class, test_per_class, source, level)
    folder = real_folder(folder)
    strict = os.environ.get("KIT_STRICT", "") not in ("", "0")
    return _load(role, px, train_per_class, test_per_class, source, folder, strict, level)


@lru_cache(maxsize=8)
def _load(
    role: str,
    px: int,
    train: int | None,
    test: int | None,
    source: str,
    folder: Path | None,
    strict: bool,
    level: str | None,
) -> Dataset:
    if role == "hrsc2016":
        from kit.data.hrsc import load_hrsc

        options = {"px": px, "train_per_class": train, "test_per_class": test, "source": source, "folder": folder}
        return load_hrsc(**options, strict=strict, **({"level": level} if level else {}))
    if source != "embedded" and folder is not None:
        real = _real(role, px, train, test, folder, strict)
        if real is not None:
            return real
    if source == "real":
        where = f"in {folder}" if folder else "as no folder is given and KIT_DATA names none"
        published = "" if role == "imagenet" else f", or {role}'s batches as torchvision extracts them"
        allowed = f"an ImageFolder tree there or in {role}/{published}"
        raise KitError(f"no real images for {role} {where}; allowed: {allowed}")
    return _embedded(role, px, train, test)


def _real(role: str, px: int, train: int | None, test: int | None, folder: Path, strict: bool) -> Dataset | None:
    from kit.data.cifar import find_batches, published_cifar
    from kit.data.folder import find_tree, folder_dataset

    if (root := find_batches(role, folder)) is not None:
        return published_cifar(role, px, train, test, root)
    if (tree := find_tree(role, folder)) is not None:
        return folder_dataset(tree, role, px, train, test, streamed=role == "imagenet", strict=strict)
    return None


def _embedded(role: str, px: int, train: int | None, test: int | None) -> Dataset:
    if role == "cifar-10":
        from kit.data.digits import digits

        return digits(px, train, test)
    if role == "cifar-100":
        from kit.data.generated import generated

        return generated(px, train, test)
    from kit.data.generated_tree import generated_tree

    return generated_tree(px, train, test)


def real_folder(folder: Path | str | None) -> Path | None:
    """The folder for real data: the one given, which must exist, else KIT_DATA's, if that exists."""
    if folder is not None:
        if not Path(folder).is_dir():
            raise KitError(f"folder {str(folder)!r} is not there; allowed: an existing folder with real images")
        return Path(folder).resolve()
    from_environment = os.environ.get("KIT_DATA")
    if from_environment and Path(from_environment).is_dir():
        return Path(from_environment).resolve()
    return None


def check_arguments(
    role: str,
    px: int,
    train_per_class: int | None = None,
    test_per_class: int | None = None,
    source: str = "auto",
    level: str | None = None,
) -> None:
    """KitError for a role, size, count, source or level outside what is allowed."""
    if role not in ROLES:
        raise not_one_of("role", role, ROLES)
    if source not in SOURCES:
        raise not_one_of("source", source, SOURCES)
    low, high = PX_RANGE
    if type(px) is not int or not low <= px <= high:
        raise KitError(f"px {px!r} is not allowed; allowed: a whole number from {low} to {high}")
    for what, count in (("train_per_class", train_per_class), ("test_per_class", test_per_class)):
        if count is not None and (type(count) is not int or count < 1):
            raise KitError(f"{what} {count!r} is not allowed; allowed: a whole number from 1 up, or None for all")
    if level is not None and (role != "hrsc2016" or level not in LEVELS):
        raise KitError(f"level {level!r} is not allowed for role {role!r}; allowed: {', '.join(LEVELS)}, for hrsc2016")


def download(role: str, folder: Path) -> Path:
    """Fetches CIFAR-10 or CIFAR-100 from its home page through torchvision into `folder`; never done unasked."""
    from kit.data.cifar import PUBLISHED, download_cifar

    if role not in PUBLISHED:
        raise not_one_of("role to download", role, PUBLISHED)
    return download_cifar(role, Path(folder))


def prepare(
    role: str,
    px: int,
    folder: Path | None = None,
    train_per_class: int | None = None,
    test_per_class: int | None = None,
) -> Dataset:
    """Builds what loading with these arguments would build on first use: trees, caches, checksums."""
    return load(role, px=px, train_per_class=train_per_class, test_per_class=test_per_class, folder=folder)
