"""A run's student on pictures that are not the run's: what it says of a folder of them, and how often it is right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.stats import binomtest
from torch import Tensor, nn

from kit.data.augment import normalise
from kit.data.folder import decode_all
from kit.data.hrsc.dataset import CONTEXT
from kit.data.picture import EXTENSIONS
from kit.data.tree import Half, images_below, reading, shown
from kit.errors import KitError
from kit.runs.store import Stored, stored
from kit.training.evaluation import EVALUATION_BATCH

FURTHER = 5  # classes that are named of each image, where there are more than these
UNKNOWN = -1  # the label of an image whose class its folder does not say
SQUARE = f"one ship a picture: a square around its upright box, {CONTEXT:g} times as wide as the box's longer side"
FRAMINGS = {"hrsc2016": SQUARE}  # by role


@dataclass(frozen=True)
class Classifier:
    """A network and how its images are prepared: px, and mean and std (3,) in 0 … 255. `framing` says what of a scene
    one image was, where it was not all of it."""

    network: nn.Module
    px: int
    mean: Tensor
    std: Tensor
    classes: tuple[str, ...]
    framing: str | None = None

    @classmethod
    def of(cls, run: Stored) -> Classifier:
        """Takes a run's student as it is stored. KitError for an older run, which says nothing of its images."""
        kept = run.images
        if kept is None:
            raise KitError(
                f"run {run.folder.name} was stored without mean, deviation and classes of its training images, by an "
                "older kit; allowed: newer runs, or this one trained anew, once it is pruned from the cache"
            )
        mean, std = (torch.tensor(kept[name], dtype=torch.float32) for name in ("mean", "std"))
        data = run.description["data"]
        return cls(run.student(), data["px"], mean, std, tuple(kept["classes"]), FRAMINGS.get(data["role"]))

    def inputs(self, pixels: Tensor) -> Tensor:
        """Normalises images as in training: uint8 (N, px, px, 3) to float32 (N, 3, px, px)."""
        return normalise(pixels, self.mean, self.std)

    @torch.inference_mode()
    def logits(self, pixels: Tensor) -> Tensor:
        """Answers images uint8 (N, px, px, 3) with logits (N, C)."""
        return self.network(self.inputs(pixels))


class Accuracy(NamedTuple):
    """How many of so many images are classified rightly."""

    correct: int
    images: int

    @property
    def top1(self) -> float:
        return self.correct / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """Computes Wilson's 95 % interval: it holds for few images, and for accuracies near 0 and 1, too."""
        low, high = binomtest(self.correct, self.images).proportion_ci(method="wilson")
        return float(low), float(high)

    def __str__(self) -> str:
        low, high = self.interval
        return f"Top-1 {self.top1:.1%} (95 % interval {low:.1%} to {high:.1%}; {self.correct} of {self.images} images)"


@dataclass(frozen=True)
class Predictions:
    """A line an image in `table`; `damaged` and `passed_over` are the files that have none, each with its reason.

    `accuracy` is that on the images whose folder is named after a class; None where there are none. `framing` says what
    one image was in training, where it was not a whole picture.
    """

    run: str  # its hash
    title: str
    table: pd.DataFrame
    damaged: tuple[str, ...]
    passed_over: tuple[str, ...]
    accuracy: Accuracy | None
    framing: str | None


def predict(run_hash: str, images: Path | str) -> Predictions:
    """Classifies every picture at or below a folder, or one picture, by a finished run's student.

    Pictures are read as the kit's loaders read them. The table's columns: image, class, probability; of more than
    FURTHER classes class_2, probability_2, … as well; and `true` where folders are named after the run's classes.
    KitError for a run that has no student, and where no picture can be read.
    """
    run = stored(run_hash)
    classifier = Classifier.of(run)
    half, passed = pictures(Path(images), classifier.classes)
    damaged: list[str] = []
    tables = [*answers(classifier, half, damaged)]
    if not tables:
        raise KitError(f"{images} holds no readable image, first {damaged[0]}")
    table = pd.concat(tables, ignore_index=True)
    known, accuracy = table.dropna(subset="true"), None
    if known.empty:
        table = table.drop(columns="true")
    else:
        accuracy = Accuracy(int((known["class"] == known["true"]).sum()), len(known))
    return Predictions(run.hash, run.title, table, tuple(damaged), passed, accuracy, classifier.framing)


@reading()
def pictures(images: Path, classes: tuple[str, ...]) -> tuple[Half, tuple[str, ...]]:
    """Lists a folder's pictures, their labels by the first folder's name below it, and what is passed over. KitError
    where there are none, or a folder cannot be entered."""
    if images.is_file():
        return Half(images.parent, (images.name,), torch.tensor([UNKNOWN])), ()
    if not images.is_dir():
        raise KitError(f"images {str(images)!r} are not there; allowed: a picture, or a folder of them")
    passed: list[str] = []
    found = images_below(images, (), lambda path, why: passed.append(f"{shown(below(path, images))}: {why}"))
    paths = [below(path, images) for path in found]
    if not paths:
        raise KitError(f"{images} holds no images; allowed: {', '.join(EXTENSIONS)}")
    known = {name: label for label, name in enumerate(classes)}
    labels = [known.get(shown(path.partition("/")[0]), UNKNOWN) if "/" in path else UNKNOWN for path in paths]
    return Half(images, tuple(paths), torch.tensor(labels)), tuple(passed)


def below(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def answers(classifier: Classifier, half: Half, damaged: list[str]) -> Iterator[pd.DataFrame]:
    """Yields the images' lines, batch by batch, so that a folder need not fit the memory; damaged ones are put down."""
    k = FURTHER if len(classifier.classes) > FURTHER else 1
    names = np.array([*classifier.classes, None], dtype=object)  # of each label; None of UNKNOWN
    files = readable(half, classifier.px, damaged)
    while batch := list(islice(files, EVALUATION_BATCH)):
        paths, labels, pixels = zip(*batch, strict=True)
        p, c = classifier.logits(torch.from_numpy(np.stack(pixels))).double().softmax(1).topk(k)  # (n, k) each
        columns = {"image": paths}
        for place in range(k):
            suffix = f"_{place + 1}" if place else ""
            columns |= {f"class{suffix}": names[c[:, place]], f"probability{suffix}": p[:, place]}
        yield pd.DataFrame(columns | {"true": names[[*labels]]})


def readable(half: Half, px: int, damaged: list[str]) -> Iterator[tuple[str, int, np.ndarray]]:
    for path, label, decoded in zip(half.paths, half.labels.tolist(), decode_all(half, px), strict=True):
        if decoded.pixels is None:
            damaged.append(f"{shown(path)}: {decoded.reason}")
        else:
            yield shown(path), label, decoded.pixels
