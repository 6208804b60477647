"""CIFAR-10 and CIFAR-100 as published: torchvision's batches, checked by their md5, downloaded only when asked."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets.utils import check_integrity

from kit.data.base import Dataset, chosen, in_memory
from kit.data.tree import folders_in, spelt
from kit.errors import KitError, one_of

PUBLISHED = {"cifar-10": (CIFAR10, "CIFAR-10"), "cifar-100": (CIFAR100, "CIFAR-100")}


def find_batches(role: str, folder: Path) -> Path | None:
    """Finds the folder with torchvision's extracted batches (not the batches' own), or None where there is no trace.

    KitError for an archive that is half-downloaded or not extracted.
    """
    if role not in PUBLISHED:
        return None
    kind, title = PUBLISHED[role]
    named = [child for child in folders_in(folder) if spelt(child.name) == spelt(role)]
    for root in (*named, folder, *([folder.parent] if folder.name == kind.base_folder else [])):
        batches = root / kind.base_folder
        if os.path.isdir(batches):
            return root
        if os.path.isfile(archive := root / kind.filename):
            state = "not extracted" if check_integrity(str(archive), kind.tgz_md5) else "half-downloaded or changed"
            raise KitError(
                f"{archive} is {state}; allowed: {title} downloaded and extracted by torchvision, to {batches}"
            )
    return None


def published_cifar(role: str, px: int, train_per_class: int | None, test_per_class: int | None, root: Path) -> Dataset:
    """Reads the published images at px × px, at most so many a class, from what `find_batches` found.

    Raises KitError naming the first file that is missing or has another md5 than the published one.
    """
    kind, title = PUBLISHED[role]
    batches = root / kind.base_folder
    for name, md5 in [*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])]:
        file = batches / name
        if not check_integrity(str(file), md5):
            state = "has another md5 than the published file" if file.exists() else "is missing"
            raise KitError(f"{batches}: {name} {state}; allowed: the files of {title} as published (md5 {md5} here)")
    train, test = (kind(str(root), train=is_train, download=False) for is_train in (True, False))
    halves = [
        chosen(torch.from_numpy(half.data), torch.tensor(half.targets), per_class, px)
        for half, per_class in ((train, train_per_class), (test, test_per_class))
    ]
    return in_memory(role, title, "real", train.classes, *halves, flip=True, available=(len(train), len(test)))


def download(role: str, folder: Path) -> Path:
    """Downloads CIFAR-10 or CIFAR-100 from its home page through torchvision into `folder`, unless it is there already;
    never done unasked."""
    kind, title = PUBLISHED[one_of("role to download", role, PUBLISHED)]
    try:
        kind(str(folder), download=True)
    except (OSError, RuntimeError) as error:
        raise KitError(f"{title} could not be downloaded into {folder}: {error}") from error
    return Path(folder) / kind.base_folder
