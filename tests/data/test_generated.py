"""The drawn sets: 100 classes in memory, and a tree of 20."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.datasets import ImageFolder

from kit.data import load
from kit.data.generated import draw, generated, looks, tree_looks, written_tree


@pytest.mark.numerics
def test_the_generated_set_is_the_same_bit_for_bit_and_nested():
    one, two = generated(16, 6, 3), generated(16, 6, 3)
    assert torch.equal(one.train.images.pixels, two.train.images.pixels)
    assert one.fingerprint == two.fingerprint
    larger = generated(16, 10, 3)
    first = larger.train.images.pixels.view(100, 10, 16, 16, 3)[:, :6]
    assert torch.equal(first.reshape(600, 16, 16, 3), one.train.images.pixels)
    assert one.fingerprint != larger.fingerprint


def test_the_generated_set_has_100_named_classes_and_no_image_twice():
    data = generated(16, 10, 5)
    assert len(set(data.classes)) == len(data.classes) == 100
    assert torch.bincount(data.train.labels).tolist() == [10] * 100
    assert torch.bincount(data.test.labels).tolist() == [5] * 100
    assert data.train.images.pixels.is_contiguous()
    everything = torch.cat([data.train.images.pixels, data.test.images.pixels]).flatten(1)
    assert len(everything.unique(dim=0)) == 1500


def test_a_drawing_does_not_depend_on_its_size_but_in_detail():
    look = looks()[60]
    small, large = draw(look, 16, 8, 5), draw(look, 64, 8, 5)
    shrunk = large.reshape(8, 16, 4, 16, 4, 3).mean((2, 4))
    assert np.abs(shrunk - small).mean() < 8  # grain differs, edges a little


def test_groups_are_alike():
    """A class's mean image lies nearer to its own group's means than to the others'."""
    means = generated(16, 20, 1).train.images.pixels.view(100, 20, -1).float().mean(1)
    distances = torch.cdist(means, means)
    same = torch.arange(100)[:, None] // 5 == torch.arange(100)[None] // 5
    other = ~same
    same.fill_diagonal_(False)
    assert distances[same].mean() < 0.7 * distances[other].mean()


@pytest.mark.parametrize("per_class", [5, 45])  # of all images, and of every second
def test_mean_std_are_the_pixels_own(per_class):
    data = generated(8, per_class, 1)
    pixels = data.train.images.pixels[:: 1 if per_class < 20 else 2].double()
    assert torch.equal(data.mean_std[0], pixels.mean((0, 1, 2)).float())
    assert torch.equal(data.mean_std[1], pixels.std((0, 1, 2)).float())


@pytest.fixture
def small_tree(monkeypatch):
    monkeypatch.setattr("kit.data.generated.TRAIN_PER_CLASS", 4)
    monkeypatch.setattr("kit.data.generated.TEST_PER_CLASS", 2)


@pytest.mark.usefixtures("small_tree")
def test_the_generated_tree_is_an_image_folder(monkeypatch, tmp_path):
    data = load("imagenet", px=32)
    root = written_tree()
    reference = ImageFolder(root / "train")
    assert list(data.classes) == reference.classes == [look.name for look in tree_looks()]
    assert len(reference) == len(data.train) == 80
    assert reference[0][0].size == (64, 64)
    assert data.source == "embedded"
    monkeypatch.setenv("KIT_CACHE", str(tmp_path))
    again = written_tree()
    assert again != root
    files = sorted(path.relative_to(root) for path in root.rglob("*.jpeg"))
    assert all((root / file).read_bytes() == (again / file).read_bytes() for file in files)


@pytest.mark.usefixtures("small_tree")
def test_the_generated_tree_is_mended_when_a_file_is_lost_cut_or_altered():
    root = written_tree()
    image = root / "train" / tree_looks()[0].name / "0001.jpeg"
    content = image.read_bytes()
    for harm in (image.unlink, lambda: image.write_bytes(content[:100]), lambda: image.write_bytes(content[::-1])):
        harm()
        assert written_tree() == root and image.read_bytes() == content
