"""Looks a dataset over: opens every image, counts them, and says what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from kit.data.folder import Survey, fingerprint_of, open_all, survey_in_memory, surveyed
from kit.data.hrsc.dataset import damaged_files
from kit.data.roles import ON_DISK, check_arguments, find_real, load, real_dataset, real_folder, tree_name
from kit.data.tree import read_tree
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
    passed_over: list[str] = field(default_factory=list)  # what is no image of a class, each with its reason
    left_out: list[str] = field(default_factory=list)  # examples that no class to be learnt takes, counted by reason
    problems: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        return not self.damaged and not self.problems


def check(role: str, folder: Path | None = None, px: int = 32, level: str | None = None) -> Report:
    """Opens every image of what fills the role (as `load` finds it) and reports; KitError only for wrong arguments.

    What is real is read anew, and nothing of it taken from the cache. `px` matters only to the fingerprint of in-memory
    sets; `level` is that of hrsc2016's labels.
    """
    check_arguments(role, px, level=level)
    where, given, damaged = real_folder(folder), folder is not None, []
    try:
        layout, root = (where and find_real(role, where, given)) or (None, None)
        if layout == "tree":
            return check_tree(role, tree_name(role, where, root), root, px)
        if layout == "hrsc":
            damaged = damaged_files(root)
        if layout:
            data = real_dataset(role, (px, None, None), where, given, level or "type", strict=False)
        else:
            data = load(role, px=px, folder=folder, level=level)
    except KitError as error:
        return Report(role, damaged=damaged, problems=[str(error)])
    counts = {name: counted(half.labels, data.classes) for name, half in (("train", data.train), ("test", data.test))}
    return Report(role, data.source, data.name, data.fingerprint, counts, damaged, left_out=list(data.left_out))


def check_tree(role: str, name: str, root: Path, px: int) -> Report:
    """Reports on an ImageFolder tree: damaged files, emptied classes, and images that are in both splits."""
    tree = read_tree(root)
    report = Report(role, name=name, passed_over=list(tree.passed_over), left_out=list(tree.left_out))
    streamed = role in ON_DISK
    surveys = [
        surveyed(half, open_all(half, px)) if streamed else survey_in_memory(half, px)
        for half in (tree.train, tree.test)
    ]
    for survey in surveys:
        report.damaged += survey.damaged
        split = survey.half.folder.name
        report.counts[split] = counted(survey.half.labels, tree.classes)
        report.problems += [f"{split}/{c} has no readable image" for c, n in report.counts[split].items() if n == 0]
    report.problems += shared_images(*surveys)
    report.fingerprint = fingerprint_of(tree.classes, surveys, streamed)
    return report


def counted(labels: Tensor, classes: Sequence[str]) -> dict[str, int]:
    """Counts the images of each class, classes without any included."""
    return dict(zip(classes, torch.bincount(labels, minlength=len(classes)).tolist(), strict=True))


def shared_images(train: Survey, test: Survey) -> list[str]:
    """Says in a line if files of the test split are byte for byte in the training split too."""
    seen = dict(zip(train.hashes, train.half.paths, strict=True))
    shared = [(path, seen[h]) for path, h in zip(test.half.paths, test.hashes, strict=True) if h in seen]
    if not shared:
        return []
    path, twin = shared[0]
    first = f"{test.half.named(path)} = {train.half.named(twin)}"
    return [f"test images that are training images too: {len(shared)}, first {first}"]
