"""The embedded stand-in for CIFAR-10: scikit-learn's 1,797 handwritten digits, 8×8 grey; real, and no download."""

from __future__ import annotations

from importlib.metadata import distribution

import numpy as np
import torch

from kit.data.base import Dataset, chosen, first_per_class, in_memory

NAME = "scikit-learn digits"
FILE = "sklearn/datasets/data/digits.csv.gz"
TEST_PER_CLASS = 40  # of 174 to 183 images a class; the rest, 134 to 143, train


def digits(px: int, train_per_class: int | None = None, test_per_class: int | None = None) -> Dataset:
    """Loads the digits as uint8 RGB images of px × px, at most so many a class; the split itself never changes."""
    file = distribution("scikit-learn").locate_file(FILE)  # as `load_digits` reads it, whose import takes two seconds
    table = torch.from_numpy(np.loadtxt(str(file), delimiter=","))  # (1797, 65)
    grey, labels = table[:, :-1].reshape(-1, 8, 8), table[:, -1].long()  # (1797, 8, 8), 0 … 16; (1797,)
    pixels = (grey * 255 / 16).round().to(torch.uint8)[..., None].expand(-1, -1, -1, 3)  # (1797, 8, 8, 3)

    in_test = torch.zeros(len(labels), dtype=torch.bool)
    in_test[first_per_class(labels, TEST_PER_CLASS)] = True
    train, test = (
        chosen(pixels[half], labels[half], per_class, px)
        for half, per_class in ((~in_test, train_per_class), (in_test, test_per_class))
    )
    classes = [str(digit) for digit in range(10)]
    return in_memory("cifar-10", NAME, "embedded", classes, train, test, flip=False)
