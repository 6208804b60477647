"""ImageFolder trees, damaged ones among them, against torchvision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from commands import one_line
from image_trees import build_tree, damage, picture
from torchvision.datasets import ImageFolder
from torchvision.transforms import functional as F

from kit.data import load
from kit.data.base import TensorImages
from kit.data.folder import FolderImages, folder_dataset
from kit.data.tree import read_tree
from kit.errors import KitError


@pytest.mark.parametrize("streamed", [False, True])
def test_a_tree_reads_as_torchvisions_image_folder(tmp_path, streamed):
    build_tree(tmp_path, classes=("b", "a", "C"), per_class=(5, 3))
    data = folder_dataset(tmp_path, "imagenet", 20, streamed=streamed)
    for split, name in ((data.train, "train"), (data.test, "val")):
        reference = ImageFolder(tmp_path / name)
        assert list(data.classes) == reference.classes
        assert split.labels.tolist() == reference.targets
        pixels = split.images.take(torch.arange(len(split)))
        for image, (expected, _) in zip(pixels, reference, strict=True):
            assert np.array_equal(image.numpy(), np.asarray(expected))


def test_images_are_resized_by_their_shorter_side_and_cropped(tmp_path):
    build_tree(tmp_path, size=(64, 32))
    data = folder_dataset(tmp_path, "imagenet", 16, streamed=False)
    image, _ = ImageFolder(tmp_path / "train")[0]
    expected = F.center_crop(F.resize(image, 16), [16, 16])
    difference = data.train.images.pixels[0].numpy().astype(int) - np.asarray(expected).astype(int)
    assert np.abs(difference).max() <= 2


def test_streamed_and_in_memory_hold_the_same_pixels_and_subsets(tmp_path, monkeypatch):
    build_tree(tmp_path, per_class=(9, 4))
    memory = folder_dataset(tmp_path, "cifar-10", 16, 5, 2, streamed=False)
    disk = folder_dataset(tmp_path, "imagenet", 16, 5, 2, streamed=True)
    monkeypatch.setenv("KIT_IMAGE_BUDGET_MB", "0")
    fly = folder_dataset(tmp_path, "imagenet", 16, 5, 2, streamed=True)
    assert isinstance(disk.train.images, TensorImages)
    assert isinstance(fly.train.images, FolderImages)
    assert disk.fingerprint == fly.fingerprint
    for name in ("train", "test"):
        expected = getattr(memory, name)
        order = torch.randperm(len(expected))
        for other in (getattr(disk, name), getattr(fly, name)):
            assert torch.equal(other.labels, expected.labels)
            assert torch.equal(other.images.take(order), expected.images.take(order))
    assert torch.bincount(memory.train.labels).tolist() == [5, 5]


def test_an_image_decoded_anew_is_still_the_one_that_was_fingerprinted(tmp_path, monkeypatch):
    build_tree(tmp_path)
    monkeypatch.setenv("KIT_IMAGE_BUDGET_MB", "0")
    images = folder_dataset(tmp_path, "imagenet", 8, streamed=True).train.images
    images.take(torch.arange(8))
    picture(99).save(tmp_path / "train" / "ant" / "1.png")
    images.take(torch.tensor([0, 2]))
    with pytest.raises(KitError) as raised:
        images.take(torch.tensor([0, 1]))
    assert one_line(raised) == f"{tmp_path / 'train/ant/1.png'}: has changed; allowed: images that stay as they were"


def test_the_budget_decides_where_pixels_are(tmp_path, monkeypatch):
    build_tree(tmp_path)
    for budget in ("0", "0.002", "0.003", "1", ""):  # 12 images of 8 px are 2,304 bytes
        monkeypatch.setenv("KIT_IMAGE_BUDGET_MB", budget)
        kind = FolderImages if budget in ("0", "0.002") else TensorImages
        assert isinstance(folder_dataset(tmp_path, "imagenet", 8, streamed=True).train.images, kind)
    monkeypatch.setenv("KIT_IMAGE_BUDGET_MB", "lots")
    with pytest.raises(KitError, match="KIT_IMAGE_BUDGET_MB 'lots'"):
        folder_dataset(tmp_path, "imagenet", 8, streamed=True)


@pytest.mark.parametrize("streamed", [False, True])
def test_damaged_images_are_left_out_and_listed_with_a_reason(tmp_path, streamed):
    build_tree(tmp_path)
    whole = folder_dataset(tmp_path, "imagenet", 8, streamed=streamed)
    damage(tmp_path)
    for _ in range(2):  # the second time from the cache
        data = folder_dataset(tmp_path, "imagenet", 8, streamed=streamed)
        assert [line.split(": ")[0] for line in data.skipped] == [
            "train/ant/cut.jpg",
            "train/ant/empty.png",
            "train/ant/text.bmp",
            "val/bee/broken.png",
        ]
        assert "truncated" in data.skipped[0]
        assert data.skipped[1].endswith("an empty file")
        assert data.skipped[2].endswith("not an image")
        assert all("\n" not in line and " at 0x" not in line for line in data.skipped)
        everything = torch.arange(len(whole.train))
        assert torch.equal(data.train.images.take(everything), whole.train.images.take(everything))
        assert torch.equal(data.train.labels, whole.train.labels)
        assert data.fingerprint == whole.fingerprint


def test_strict_refuses_the_first_damaged_image(tmp_path, monkeypatch):
    build_tree(tmp_path)
    damage(tmp_path)
    monkeypatch.setenv("KIT_STRICT", "1")
    for role in ("cifar-10", "imagenet"):
        with pytest.raises(KitError, match=r"train/ant/cut\.jpg: .*truncated"):
            load(role, px=8, folder=tmp_path)
    monkeypatch.setenv("KIT_STRICT", "0")
    assert len(load("imagenet", px=8, folder=tmp_path).skipped) == 4


def test_a_class_with_only_damaged_images_is_refused(tmp_path):
    build_tree(tmp_path)
    for file in (tmp_path / "val" / "bee").iterdir():
        file.write_bytes(b"x")
    with pytest.raises(KitError) as raised:
        folder_dataset(tmp_path, "cifar-10", 8, streamed=False)
    assert f"{tmp_path / 'val' / 'bee'} holds no readable image" in one_line(raised)


def test_malformed_trees_are_refused_by_name(tmp_path):
    empty = build_tree(tmp_path / "empty")
    (empty / "train" / "cow").mkdir()
    (empty / "train" / "cow" / "notes.txt").write_text("no image")
    with pytest.raises(KitError, match="train/cow holds no images"):
        read_tree(empty)

    differing = build_tree(tmp_path / "differing")
    (differing / "val" / "bee").rename(differing / "val" / "wasp")
    with pytest.raises(KitError, match="class 'bee' is only in train/"):
        read_tree(differing)

    no_test = build_tree(tmp_path / "no_test")
    (no_test / "val").rename(no_test / "holdout")
    with pytest.raises(KitError, match="has no test/ or val/, but holdout/, train/; allowed"):
        read_tree(no_test)

    no_train = build_tree(tmp_path / "roles" / "imagenet")
    (no_train / "train").rename(no_train / "lessons")
    with pytest.raises(KitError, match="has no train/"):
        load("imagenet", px=8, folder=tmp_path / "roles")

    bare = tmp_path / "bare"
    (bare / "train").mkdir(parents=True)
    (bare / "test").mkdir()
    with pytest.raises(KitError, match="has no class folders"):
        read_tree(bare)
