"""Looks a dataset over: opens every image, counts them, and says what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from kit.data import check_arguments, load, real_folder
from kit.data.base import Dataset
from kit.data.cifar import find_batches
from kit.data.folder import Half, Survey, files_fingerprint, find_tree, named, open_all, read_tree, survey_in_memory
from kit.data.memory import fingerprint
from kit.errors import KitError


@dataclass
class Report:
    """What fills a role and how sound it is. `counts` has the readable images: split → class → number."""

    role: str
    source: str = "real"
    name: str = ""
    fingerprint: str = ""  # as of the dataset loaded whole at the size checked
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    damaged: list[tuple[str, str]] = field(default_factory=list)  # (path, reason)
    problems: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        return not self.damaged and not self.problems


def check(role: str, folder: Path | None = None, px: int = 32, level: str | None = None) -> Report:
    """Opens every image of what fills the role (as `load` finds it) and reports; KitError only for wrong arguments.

    A tree is read anew and nothing is taken from the cache. `px` matters only to the fingerprint of in-memory sets;
    `level` is that of hrsc2016's labels.
    """
    check_arguments(role, px, level=level)
    folder = real_folder(folder)
    try:
        tree = None
        if folder is not None and role != "hrsc2016" and find_batches(role, folder) is None:
            tree = find_tree(role, folder)
        return check_tree(role, tree, px) if tree else check_dataset(load(role, px=px, folder=folder, level=level))
    except KitError as error:
        return Report(role, problems=[str(error)])


def check_dataset(data: Dataset) -> Report:
    """The report on a dataset that was checked while it was loaded."""
    report = Report(data.role, data.source, data.name, data.fingerprint)
    report.counts = {
        "train": counted(data.train.labels, data.classes),
        "test": counted(data.test.labels, data.classes),
    }
    for line in data.skipped:
        path, _, reason = line.partition(": ")
        report.damaged.append((path, reason))
    return report


def check_tree(role: str, root: Path, px: int) -> Report:
    """The report on an ImageFolder tree: damaged files, emptied classes, and images that are in both splits."""
    tree = read_tree(root)
    report = Report(role, name=f"image folder {root.name}")
    surveys, kept = [], []
    for half in (tree.train, tree.test):
        survey = survey_in_memory(half, px) if role != "imagenet" else Survey(None, *open_all(half, px, lambda _: None))
        surveys.append(survey)
        kept.append(half.only(survey.kept(len(half))))
        report.damaged += named(half, survey.damaged)
        split = half.folder.name
        report.counts[split] = counted(kept[-1].labels, tree.classes)
        report.problems += [f"{split}/{c} has no readable image" for c, n in report.counts[split].items() if n == 0]
    hashes = [survey.hashes for survey in surveys]
    report.problems += shared_images(kept, hashes)
    if role == "imagenet":
        report.fingerprint = files_fingerprint(tree.classes, kept, hashes)
    else:
        pixels = [(survey.images.pixels, half.labels) for survey, half in zip(surveys, kept, strict=True)]
        report.fingerprint = fingerprint(tree.classes, *pixels)
    return report


def counted(labels: Tensor, classes: Sequence[str]) -> dict[str, int]:
    """How many images each class has, classes without any included."""
    return dict(zip(classes, torch.bincount(labels, minlength=len(classes)).tolist(), strict=True))


def shared_images(halves: Sequence[Half], hashes: Sequence[Sequence[str]]) -> list[str]:
    """A line if files of the test split are byte for byte in the training split too."""
    (train, test), (train_hashes, test_hashes) = halves, hashes
    seen = dict(zip(train_hashes, train.paths, strict=True))
    shared = [(path, seen[h]) for path, h in zip(test.paths, test_hashes, strict=True) if h in seen]
    if not shared:
        return []
    path, twin = shared[0]
    return [f"{len(shared)} test images are training images too, first {test.folder.name}/{path} = train/{twin}"]
