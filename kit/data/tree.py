"""An ImageFolder tree on disk: `train/` and `test/` or `val/`, a folder a class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes, make_dataset

from kit.data.memory import each_class, rank
from kit.errors import KitError

LAYOUT = "train/ and test/ or val/, each with a folder a class"


@dataclass(frozen=True)
class Half:
    """One split of a tree: its folder, its images' paths below it (with /), and their labels (N,)."""

    folder: Path
    paths: tuple[str, ...]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.paths)

    def choose(self, per_class: int | None) -> Half:
        """Chooses at most `per_class` images of every class, always the same ones, and part of any larger choice."""
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
    """Finds an ImageFolder tree for the role: `<folder>/<role>`, else the folder itself, else nowhere."""
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
