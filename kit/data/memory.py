"""Datasets small enough to be held as one uint8 tensor: choosing images, resizing, fingerprinting."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from kit.data.base import Dataset, Split, TensorImages

D = TypeVar("D", bound=Dataset)


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


def first_per_class(labels: Tensor, per_class: int | None) -> Tensor:
    """Chooses indices of at most `per_class` images of every class, in an order fixed for good; None keeps all.

    Within a class images are ranked by a hash of their position, so a smaller choice is part of every larger one.
    """
    if per_class is None:
        return torch.arange(len(labels))
    chosen = [of_class[shuffled(len(of_class))[:per_class]] for of_class in each_class(labels)]
    return torch.cat(chosen).sort().values


def chosen(pixels: Tensor, labels: Tensor, per_class: int | None, px: int) -> tuple[Tensor, Tensor]:
    """Chooses at most `per_class` images of every class, as `first_per_class` does, at px × px, and their labels."""
    kept = first_per_class(labels, per_class)
    return resized(pixels[kept], px), labels[kept]


def each_class(labels: Tensor) -> list[Tensor]:
    """Lists the positions of class 0's images, of class 1's, and so on."""
    return list(labels.argsort(stable=True).split(torch.bincount(labels).tolist()))


def shuffled(n: int) -> Tensor:
    """Shuffles 0 … n−1 into an order that looks random and is the same on every machine, int64 (n,)."""
    return torch.tensor(sorted(range(n), key=rank), dtype=torch.int64)


def rank(key: object) -> bytes:
    """Hashes a key into what a fixed shuffle sorts by, so that adding items leaves the others' order alone."""
    return hashlib.sha256(f"shuffle 1: {key}".encode(errors="surrogateescape")).digest()


def resized(pixels: Tensor, px: int) -> Tensor:
    """Resizes square images, uint8 (N, H, W, 3) → uint8 (N, px, px, 3): bilinear, antialiased when shrinking.

    By torch's integer arithmetic, so that pixels, and with them fingerprints and runs' hashes, are the same on every
    processor; torchvision takes it only where there is AVX2, and floats elsewhere.
    """
    if pixels.shape[1] == px:
        return pixels
    resized = F.interpolate(pixels.permute(0, 3, 1, 2), size=(px, px), mode="bilinear", antialias=True)
    return resized.permute(0, 2, 3, 1).contiguous()
