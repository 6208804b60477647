"""Anyone's own arrays: the same dataset in whatever form they come, and one line for what they cannot be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision
from commands import one_line
from image_trees import build_tree
from PIL import Image
from torch.utils.data import TensorDataset

from kit.data import Split, TensorImages, from_arrays
from kit.data.folder import folder_dataset
from kit.errors import KitError

X = np.random.default_rng(0).integers(0, 256, (8, 12, 12, 3), np.uint8)
Y = np.arange(8) % 2
NCHW = X.transpose(0, 3, 1, 2)
EXPECTED = from_arrays((X, Y), (X[:4], Y[:4]))
TENSORS = torch.tensor(NCHW), torch.tensor(Y)
FORMS = {
    "read-only": (np.broadcast_to(X, X.shape), Y),
    "turned twice": (X[..., ::-1].copy()[..., ::-1], Y.astype(np.uint8)),
    "channels first": (NCHW, Y.astype(np.int32)),
    "tensors": TENSORS,
    "float": ((TENSORS[0] / 255).half(), TENSORS[1].bool()),
    "torch's": TensorDataset(*TENSORS),
    "a list of examples": list(zip(X, Y, strict=True)),
}


@pytest.mark.parametrize("form", FORMS)
def test_in_every_form_they_are_the_same_dataset(form):
    found = from_arrays(FORMS[form], (NCHW[:4] / 255, list(Y[:4])))
    assert torch.equal(found.train.images.pixels, torch.tensor(X)) and found.train.labels.tolist() == Y.tolist()
    assert (found.px, found.classes, found.fingerprint) == (12, ("0", "1"), EXPECTED.fingerprint)


def test_grey_images_get_three_channels_and_what_changes_later_does_not_change_them():
    grey = X[..., 0].copy()
    for shaped in (grey, grey[..., None], grey[:, None]):
        found = from_arrays((shaped, Y), (shaped, Y))
        assert np.array_equal(found.train.images.pixels.numpy(), X[..., :1].repeat(3, -1))
    found = from_arrays((grey, Y), (grey, Y))
    grey[:] = 0
    assert found.train.images.pixels.any()


@pytest.mark.parametrize("mode", ["P", "RGBA", "CMYK", "YCbCr", "1", "LA"])
def test_pillows_images_of_any_mode_are_what_pillow_shows_in_rgb(mode):
    pictures = [Image.fromarray(pixels).convert(mode) for pixels in X]
    found = from_arrays(list(zip(pictures, Y, strict=True)), (X, Y)).train.images.pixels
    assert np.array_equal(found, np.stack([picture.convert("RGB") for picture in pictures]))


def test_a_list_of_pillows_images_is_read_as_a_dataset_of_them_is():
    pictures = [Image.fromarray(pixels).convert("P") for pixels in X]
    alone, within = (from_arrays(train, (X, Y)) for train in ((pictures, Y), list(zip(pictures, Y, strict=True))))
    assert alone.fingerprint == within.fingerprint


def test_torchvisions_folder_is_the_kits_own_in_memory_and_a_damaged_image_is_named(tmp_path):
    build_tree(tmp_path)
    halves = [torchvision.datasets.ImageFolder(str(tmp_path / half)) for half in ("train", "val")]
    found, loaded = from_arrays(*halves, halves[0].classes), folder_dataset(tmp_path, "own", 20, streamed=False)
    assert (found.classes, found.fingerprint) == (loaded.classes, loaded.fingerprint)
    (tmp_path / "val" / "bee" / "1.png").write_bytes(b"no image")
    with pytest.raises(KitError, match="test data are no images and labels .*val/bee/1.png.*; allowed: ") as raised:
        from_arrays(*halves, halves[0].classes)
    one_line(raised)


SHAPES = "(N, px, px, 3), (N, 3, px, px) or grey (N, px, px), px from 8 to 512"
WRONG = {
    "five names": ((X, Y), "abcde", "no training image is of class 'c', 'd', 'e'; allowed: labels from 0 up, one of"),
    "from 1": ((X, Y + 1), "ab", "training labels are 1 to 2; allowed: 0 to 1, of 2 classes"),
    "from 1, no names": ((X, Y + 1), None, "training labels are 1 to 2; allowed: 0 to 1, of 2 classes"),
    "far apart": ((X, Y * 10**9), None, "training labels are 0 to 1000000000; allowed: 0 to 1, of 2 classes"),
    "named alike": ((X, Y), "aa", "classes are named alike: 'a'; allowed: a name for each"),
    "below 0": ((X, Y - 1), "ab", "training labels are -1 to 0; allowed: 0 to 1"),
    "fewer labels": ((X, Y[:5]), None, "training labels are torch.int64 (5,) of 8 images; allowed: a tensor, torch."),
    "one-hot": ((X, np.eye(2, dtype=int)[Y]), None, "training labels are torch.int64 (8, 2) of 8 images"),
    "words": ((X, [*"abababab"]), None, "training data are no images and labels (TypeError: can't convert np.ndarray"),
    "halves": ((X, Y / 2), None, "training labels are torch.float64; allowed: whole numbers from 0 up"),
    "larger": ((X.repeat(2, 1).repeat(2, 2), Y), None, "test images are torch.uint8 (12, 12, 3); allowed: torch.uint8"),
    "oblong": ((X[:, 2:], Y), None, f"training images are of shape (8, 10, 12, 3); allowed: {SHAPES}"),
    "small": ((X[:, :3, :3], Y), None, "training images are of shape (8, 3, 3, 3)"),
    "flat": ((X.reshape(8, -1), Y), None, "training images are of shape (8, 432)"),
    "none": ((X[:0], Y[:0]), None, "training images are of shape (0, 12, 12, 3)"),
    "normalised": ((X / 127.5 - 1, Y), None, "training images are floats from -1 to 1; allowed: floats in 0 … 1, not"),
    "no numbers": ((X * np.float32("nan"), Y), None, "training images are floats from nan to nan"),
    "int64": ((X.astype(int), Y), None, "training images are torch.int64; allowed: torch.uint8, or floats in 0 … 1"),
    "of many sizes": ([(X[0], 0), (X[0, 1:], 1)], None, "training data are no images and labels (ValueError: all inp"),
    "no pair": (TensorDataset(TENSORS[0]), None, "training data are no images and labels (ValueError: not enough"),
    "by name": ({"x": X, "y": Y}, None, "training data are no images and labels (KeyError: 0)"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_they_cannot_be_is_said_in_one_line(what):
    given, names, said = WRONG[what]
    with pytest.raises(KitError) as raised:
        from_arrays(given, (X, Y), names)
    assert one_line(raised).startswith(said)


def test_a_dataset_made_by_hand_is_checked_alike():
    labels = EXPECTED.train.labels
    for images, given, said in (
        (torch.tensor(NCHW), labels, "training images are torch.uint8 (3, 12, 12); allowed: torch"),
        (torch.tensor(X).float(), labels, "training images are torch.float32 (12, 12, 3); allowed"),
        (torch.tensor(X), labels.int(), "training labels are torch.int32 (8,) of 8 images; allowed"),
        (X, Y, "training labels are int64 (8,) of 8 images; allowed: a tensor, torch.int64"),
    ):
        with pytest.raises(KitError) as raised:
            replace(EXPECTED, train=Split(TensorImages(images), given))
        assert one_line(raised).startswith(said)
