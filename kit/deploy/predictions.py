"""What a run's student says of a folder of pictures, or of one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from kit.data.decode import decode_all
from kit.data.picture import EXTENSIONS
from kit.data.tree import Half, images_below, reading, shown
from kit.deploy.accuracy import Accuracy
from kit.deploy.classifier import Classifier
from kit.errors import KitError
from kit.runs.store import stored
from kit.training.evaluation import EVALUATION_BATCH

FURTHER = 5  # classes that are named of each image, where there are more than these
UNKNOWN = -1  # the label of an image whose class its folder does not say


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
    answered = [*answers(classifier, half, damaged)]
    if not answered:
        raise KitError(f"{images} holds no readable image, first {damaged[0]}")
    labels, rows = zip(*answered, strict=True)
    table, accuracy = pd.DataFrame(rows), None
    if any(label != UNKNOWN for label in labels):
        table["true"] = [None if label == UNKNOWN else classifier.classes[label] for label in labels]
        known = table.dropna(subset="true")
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


Row = dict[str, str | float]


def answers(classifier: Classifier, half: Half, damaged: list[str]) -> Iterator[tuple[int, Row]]:
    """Yields each image's label and row, batch by batch, so that a folder need not fit the memory; damaged ones are put
    down."""
    k = FURTHER if len(classifier.classes) > FURTHER else 1
    files = readable(half, classifier.px, damaged)
    while batch := list(islice(files, EVALUATION_BATCH)):
        pixels = torch.from_numpy(np.stack([image for _, _, image in batch]))  # (n, px, px, 3)
        p, c = classifier.logits(pixels).double().softmax(1).topk(k)  # (n, k) each
        for (path, label, _), probabilities, ranked in zip(batch, p.tolist(), c.tolist(), strict=True):
            row: Row = {"image": path}
            for place, (number, probability) in enumerate(zip(ranked, probabilities, strict=True), start=1):
                suffix = "" if place == 1 else f"_{place}"
                row |= {f"class{suffix}": classifier.classes[number], f"probability{suffix}": probability}
            yield label, row


def readable(half: Half, px: int, damaged: list[str]) -> Iterator[tuple[str, int, np.ndarray]]:
    for path, label, decoded in zip(half.paths, half.labels.tolist(), decode_all(half, px), strict=True):
        if decoded.pixels is None:
            damaged.append(f"{shown(path)}: {decoded.reason}")
        else:
            yield shown(path), label, decoded.pixels
