"""Anyone's own arrays as a dataset: the way from Python for images that lie in no folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.utils.data
from PIL import Image
from torch import Tensor

from kit.data.base import Dataset, in_memory
from kit.data.picture import as_rgb
from kit.data.roles import OWN, PX_RANGE
from kit.errors import KitError, few, said

Examples = torch.utils.data.Dataset | Sequence[tuple[Any, Any]]  # (image, label) by position


def from_arrays(
    train: tuple[Any, Any] | Examples,
    test: tuple[Any, Any] | Examples,
    classes: Sequence[str] | None = None,
    *,
    flip: bool = True,
    name: str = "arrays",
) -> Dataset:
    """Makes a Dataset of (images, labels), each a NumPy array or a tensor, or of torch Datasets, gone through once.

    Images are square, uint8 or floats in 0 … 1, of shape (N, H, W, 3) or (N, 3, H, W); grey ones have 1 for 3, or are
    (N, H, W); Pillow's of any mode become RGB. Labels are whole numbers (N,) from 0 up; `classes` names them, else they
    are named by their numbers. `flip`: whether mirroring an image keeps its class. All is copied. Raises KitError for
    what is none of this.
    """
    halves = []
    for half, given in (("training", train), ("test", test)):
        images, labels = copied(half, given)
        if labels.is_floating_point() or labels.is_complex():
            raise KitError(f"{half} labels are {labels.dtype}; allowed: whole numbers from 0 up")
        halves.append((pixels(half, images), labels.long()))
    learnt = set(halves[0][1].flatten().tolist())
    names = [str(each) for each in (range(len(learnt)) if classes is None else classes)]
    if twice := [repr(each) for each, count in Counter(names).items() if count > 1]:
        raise KitError(f"classes are named alike: {few(twice)}; allowed: a name for each")
    data = in_memory(OWN, name, "real", names, *halves, flip=flip)
    if lacking := [repr(each) for label, each in enumerate(names) if label not in learnt]:
        raise KitError(f"no training image is of class {few(lacking)}; allowed: labels from 0 up, one of each at least")
    return data


def copied(half: str, given: tuple[Any, Any] | Examples) -> tuple[Tensor, Tensor]:
    """Copies images and labels into a tensor each, otherwise as they are. Raises KitError for what are no numbers."""
    try:
        columns = given if isinstance(given, tuple) else zip(*(given[i] for i in range(len(given))), strict=True)
        images, labels = (
            np.array(np.asarray(each)) if hasattr(each, "__array__") else np.stack([*map(as_array, each)])
            for each in columns
        )
        return torch.from_numpy(images), torch.from_numpy(labels)
    except (LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        allowed = "(images, labels), two arrays of numbers, or a torch Dataset of images of one size"
        raise KitError(f"{half} data are no images and labels ({said(error)}); allowed: {allowed}") from None


def as_array(value: Any) -> np.ndarray:
    """Makes an array of one image or label; of Pillow's images in RGB, as a palette's numbers are no grey."""
    return np.asarray(as_rgb(value)[0] if isinstance(value, Image.Image) else value)


def pixels(half: str, images: Tensor) -> Tensor:
    """Makes images uint8 (N, px, px, 3) of those that `from_arrays` takes. Raises KitError for others."""
    shape, (low, high) = tuple(images.shape), PX_RANGE
    if images.ndim == 3:
        images = images[..., None]
    elif images.ndim == 4 and shape[1] in (1, 3) and shape[3] not in (1, 3):
        images = images.permute(0, 2, 3, 1)
    n, height, width, channels = images.shape if images.ndim == 4 else (0, 0, 0, 0)
    if not n or height != width or not low <= height <= high or channels not in (1, 3):
        allowed = f"(N, px, px, 3), (N, 3, px, px) or grey (N, px, px), px from {low} to {high}"
        raise KitError(f"{half} images are of shape {shape}; allowed: {allowed}")
    if images.is_floating_point():
        least, most = images.min().item(), images.max().item()
        if not 0 <= least <= most <= 1:  # nor where one is NaN
            found = f"floats from {least:g} to {most:g}"
            raise KitError(f"{half} images are {found}; allowed: floats in 0 … 1, not normalised, or uint8")
        images = (255 * images).round().to(torch.uint8)
    if images.dtype != torch.uint8:
        raise KitError(f"{half} images are {images.dtype}; allowed: torch.uint8, or floats in 0 … 1")
    return images.expand(-1, -1, -1, 3).contiguous()
