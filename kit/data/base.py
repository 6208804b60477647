"""What a dataset is to the kit: uint8 images, labels, class names, and where they came from; and how one is made of
images that are small enough to be held as one tensor."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property, partial
from typing import Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from kit.errors import KitError

D = TypeVar("D", bound="Dataset")
IMAGE_FOLDER = "image folder"  # begins the name of a tree of real images; the folder's own name follows


class Images(Protocol):
    """A split's images, however they are stored. `take` gives a batch as uint8 (B, H, W, 3).

    Images that take time to come may have a method `begin` as well, which lets them come ahead (see `begin_batch`).
    """

    def __len__(self) -> int: ...

    def take(self, indices: Tensor) -> Tensor: ...


def begin_batch(images: Images, indices: Tensor) -> Callable[[], Tensor]:
    """Begins to fetch a batch where the images can do so ahead; what it returns gives the batch as `take` does."""
    begin = getattr(images, "begin", None)
    return partial(images.take, indices) if begin is None else begin(indices)


@dataclass(frozen=True)
class TensorImages:
    """Images held as one uint8 tensor (N, H, W, 3), in memory or memory-mapped."""

    pixels: Tensor
    stored: str = "in memory"

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, indices: Tensor) -> Tensor:
        return self.pixels.index_select(0, indices)  # which copies whole images, where [indices] goes pixel by pixel


@dataclass(frozen=True)
class ChosenImages:
    """Some of another split's images, by their positions, int64 (N,)."""

    images: Images
    positions: Tensor

    def __len__(self) -> int:
        return len(self.positions)

    def take(self, indices: Tensor) -> Tensor:
        return self.images.take(self.positions[indices])

    def begin(self, indices: Tensor) -> Callable[[], Tensor]:
        return begin_batch(self.images, self.positions[indices])


@dataclass(frozen=True)
class Split:
    """One half of a dataset: images and their labels, int64 (N,)."""

    images: Images
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """A role, filled. `source` is `real` or `embedded`; `fingerprint` is the sha256 of what filled it. KitError for
    images and labels that do not belong together."""

    role: str  # cifar-10, cifar-100, imagenet, hrsc2016
    name: str  # what filled it, in words for a caption: "scikit-learn digits"
    source: str
    fingerprint: str
    classes: Sequence[str]
    train: Split
    test: Split
    px: int  # height and width of every image
    flip: bool  # whether mirroring an image keeps its class (not for digits)
    skipped: Sequence[str] = field(default=())  # damaged files left out, each with its reason
    passed_over: Sequence[str] = field(default=())  # what is no image of a class in a folder, each with its reason
    left_out: Sequence[str] = field(default=())  # examples that no class to be learnt takes, counted by reason
    available: tuple[int, int] | None = None  # training and test images there are, used or not, where that is known

    def __post_init__(self) -> None:
        for half, split in (("training", self.train), ("test", self.test)):
            labels, images = split.labels, len(split.images)
            if not isinstance(labels, Tensor) or labels.dtype != torch.int64 or labels.shape != (images,) or not images:
                found = f"{labels.dtype} {tuple(labels.shape)} of {images} images"
                raise KitError(f"{half} labels are {found}; allowed: a tensor, torch.int64, one label an image")
            low, high, classes = int(labels.min()), int(labels.max()), len(self.classes)
            if low < 0 or high >= classes:
                raise KitError(f"{half} labels are {low} to {high}; allowed: 0 to {classes - 1}, of {classes} classes")
            first = split.images.take(torch.tensor([0]))[0]
            if first.dtype != torch.uint8 or first.shape != (self.px, self.px, 3):
                found = f"{first.dtype} {tuple(first.shape)}"
                raise KitError(f"{half} images are {found}; allowed: torch.uint8 {(self.px, self.px, 3)}, as px says")

    @property
    def described(self) -> str:
        """Says what it is: `scikit-learn digits (embedded): 10 classes, 200 training and 400 test images, 16 px`; where
        not all images are used, `200 of 1,400`."""
        used = len(self.train), len(self.test)
        train, test = (
            f"{n:,}" if n == there else f"{n:,} of {there:,}"
            for n, there in zip(used, self.available or used, strict=True)
        )
        about = f"{len(self.classes)} classes, {train} training and {test} test images, {self.px} px"
        return f"{self.name} ({self.source}): {about}"

    @cached_property
    def mean_std(self) -> tuple[Tensor, Tensor]:
        """Measures mean and deviation by channel over the training images, in 0…255: two (3,). Of 4,000 and more every
        second, third, … is taken, so that they are fewer than 4,000. By whole numbers, the same on every processor."""
        step, levels = max(1, len(self.train) // 2000), torch.arange(256)
        counts = torch.zeros(3, 256, dtype=torch.int64)  # of each channel's levels
        for indices in torch.arange(0, len(self.train), step).split(256):
            channels = self.train.images.take(indices).unbind(-1)  # three (n, H, W)
            counts += torch.stack([channel.flatten().bincount(minlength=256) for channel in channels])
        n, sums, squares = int(counts[0].sum()), (counts * levels).sum(1), (counts * levels**2).sum(1)
        variance = [(n * b - a * a) / (n * (n - 1)) for a, b in zip(sums.tolist(), squares.tolist(), strict=True)]
        std = torch.tensor(variance, dtype=torch.float64).sqrt()
        return (sums.double() / n).float(), std.clamp_min(1.0).float()


def held_out(dataset: Dataset, share: float) -> Dataset:
    """Splits the training images alone, of every class the last `share` as test split: for choices blind to the test.

    A class keeps at least one image to train on. The fingerprint stays that of the whole dataset.
    """
    labels = dataset.train.labels
    is_held = torch.zeros(len(labels), dtype=torch.bool)
    for of_class in each_class(labels):
        is_held[of_class[max(1, round(len(of_class) * (1 - share))) :]] = True
    if not is_held.any():
        raise KitError(
            f"{len(labels)} training images of {dataset.name} are too few to hold {share:.0%} of a class out; allowed: "
            "a class of at least two"
        )
    parts = [positions.nonzero()[:, 0] for positions in (~is_held, is_held)]
    train, test = (Split(ChosenImages(dataset.train.images, part), labels[part]) for part in parts)
    name = f"{dataset.name}, {share:.0%} of the training images held out"
    kept = {each.name: getattr(dataset, each.name) for each in fields(Dataset)}  # what else is known is of other images
    return Dataset(**kept | {"name": name, "train": train, "test": test, "available": None})


UNEVEN = 1.5  # times as many images as the rarest class has


def uneven(data: Dataset) -> list[str]:
    """Says of each split how many images its rarest and its commonest class have, where that has half as many again."""
    found = []
    for split, labels in (("training", data.train.labels), ("test", data.test.labels)):
        counts = labels.bincount(minlength=len(data.classes))
        low, high = int(counts.argmin()), int(counts.argmax())
        if counts[high] > UNEVEN * counts[low]:
            few, many = (f"{int(counts[i])} of {data.classes[i]!r}" for i in (low, high))
            found.append(f"classes are uneven: {few} to {many} {split} images; Top-1 counts images, not classes")
    return found


def sample(data: Dataset, images: int) -> Split:
    """Samples so many test images, spread evenly over the split (which is ordered by class) and copied out of it."""
    indices = torch.linspace(0, len(data.test) - 1, min(images, len(data.test))).long().unique()
    return Split(TensorImages(data.test.images.take(indices)), data.test.labels[indices])


# ---- held in memory --------------------------------------------------------------------------------------------------


def in_memory(
    role: str,
    name: str,
    source: str,
    classes: Sequence[str],
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    flip: bool,
    kind: type[D] = Dataset,
    **more: object,
) -> D:
    """Makes a Dataset of (pixels uint8 (N, px, px, 3), labels int64 (N,)) pairs, fingerprinted by all it holds.

    `more` are the other fields of its kind.
    """
    learnt, tested = (Split(TensorImages(pixels), labels) for pixels, labels in (train, test))
    px, digest = train[0].shape[1], fingerprint(classes, train, test)
    return kind(role, name, source, digest, tuple(classes), learnt, tested, px, flip, **more)


def fingerprint(classes: Sequence[str], *splits: tuple[Tensor, Tensor]) -> str:
    """Computes the sha256 over the class names and each split's shape, pixels and labels."""
    digest = hashlib.sha256("\n".join(classes).encode())
    for pixels, labels in splits:
        digest.update(repr(tuple(pixels.shape)).encode())
        digest.update(pixels.contiguous().numpy())
        digest.update(labels.contiguous().numpy())
    return digest.hexdigest()


def first_per_class(labels: Tensor, per_class: int | None, names: Sequence[str] | None = None) -> Tensor:
    """Chooses indices of at most `per_class` images of every class, in an order fixed for good; None keeps all.

    Within a class images are ranked by a hash of their names, else of their places in it: an order that looks random,
    is the same on every machine, and stays when images are added. So a smaller choice is part of every larger one.
    """
    if per_class is None:
        return torch.arange(len(labels))
    chosen: list[int] = []
    for of_class in each_class(labels):
        ranks = {i: rank(place if names is None else names[i]) for place, i in enumerate(of_class.tolist())}
        chosen += sorted(ranks, key=ranks.__getitem__)[:per_class]
    return torch.tensor(sorted(chosen))


def rank(key: object) -> bytes:
    return hashlib.sha256(f"shuffle 1: {key}".encode(errors="surrogateescape")).digest()


def chosen(pixels: Tensor, labels: Tensor, per_class: int | None, px: int) -> tuple[Tensor, Tensor]:
    """Chooses at most `per_class` images of every class, as `first_per_class` does, at px × px, and their labels."""
    kept = first_per_class(labels, per_class)
    return resized(pixels[kept], px), labels[kept]


def each_class(labels: Tensor) -> list[Tensor]:
    """Lists the positions of class 0's images, of class 1's, and so on."""
    return list(labels.argsort(stable=True).split(torch.bincount(labels).tolist()))


def resized(pixels: Tensor, px: int) -> Tensor:
    """Resizes square images, uint8 (N, H, W, 3) → uint8 (N, px, px, 3): bilinear, antialiased when shrinking.

    By torch's integer arithmetic, so that pixels, and with them fingerprints and runs' hashes, are the same on every
    processor; torchvision takes it only where there is AVX2, and floats elsewhere.
    """
    if pixels.shape[1] == px:
        return pixels
    resized = F.interpolate(pixels.permute(0, 3, 1, 2), size=(px, px), mode="bilinear", antialias=True)
    return resized.permute(0, 2, 3, 1).contiguous()
