"""Images decoded on the fly, a batch ahead of their training."""

from __future__ import annotations

import threading

import pytest
import torch
from image_trees import build_tree

from kit.data import folder
from kit.data.base import Split, held_out
from kit.data.folder import FolderImages, folder_dataset
from kit.errors import KitError
from kit.training.batches import Prefetch

CPU = torch.device("cpu")


@pytest.fixture
def streamed(tmp_path, monkeypatch):
    """18 training images that are decoded on the fly."""
    monkeypatch.setenv("KIT_IMAGE_BUDGET_MB", "0")
    return folder_dataset(build_tree(tmp_path, per_class=(9, 2)), "imagenet", 16, streamed=True)


@pytest.fixture
def decoded(monkeypatch):
    """The files that have been decoded."""
    seen, decode_file = [], folder.decode_file
    monkeypatch.setattr(
        folder, "decode_file", lambda path, px: seen.append(f"{path.parent.name}/{path.name}") or decode_file(path, px)
    )
    return seen


@pytest.fixture
def begun(monkeypatch):
    """The batches whose decoding has begun, as their images' positions."""
    seen, begin = [], FolderImages.begin
    monkeypatch.setattr(FolderImages, "begin", lambda images, i: seen.append(i.tolist()) or begin(images, i))
    return seen


def taken(split: Split, batches: list[torch.Tensor]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    arrivals = Prefetch(split, CPU)
    return [arrivals.take(i, following) for i, following in zip(batches, [*batches[1:], None], strict=True)]


def test_batches_decoded_ahead_are_the_same_batches_each_decoded_once(streamed, decoded):
    train = streamed.train
    assert isinstance(train.images, FolderImages)
    batches = list(torch.randperm(18).split(3))
    plain = [train.images.take(b) for b in batches]
    decoded.clear()
    for (pixels, labels), expected, b in zip(taken(train, batches), plain, batches, strict=True):
        assert torch.equal(pixels, expected)
        assert torch.equal(labels, train.labels[b])
    assert len(decoded) == len(set(decoded)) == 18


def test_the_following_batch_begins_and_no_other(streamed, begun):
    first, second, third = torch.arange(18).split(6)
    arrivals = Prefetch(streamed.train, CPU)
    arrivals.take(first, second)
    assert begun == [first.tolist(), second.tolist()]
    arrivals.take(second, third)
    arrivals.take(third)
    assert begun[2:] == [third.tolist()]
    arrivals.take(third)  # as after running out of memory: nothing waits any more
    assert begun[3:] == [third.tolist()]


def test_another_batch_than_the_expected_one_is_the_one_asked_for(streamed):
    first, second, third = torch.arange(18).split(6)
    arrivals = Prefetch(streamed.train, CPU)
    arrivals.take(first, second)
    assert torch.equal(arrivals.take(third)[0], streamed.train.images.take(third))
    assert torch.equal(arrivals.take(second)[0], streamed.train.images.take(second))


def test_images_held_out_are_decoded_ahead_as_well(streamed, begun):
    train = held_out(streamed, 0.3).train
    begun.clear()  # the first image, by which a dataset is checked
    first, second = torch.arange(len(train)).split(4)[:2]
    pixels, _ = Prefetch(train, CPU).take(first, second)
    assert begun == [train.images.positions[b].tolist() for b in (first, second)]
    assert torch.equal(pixels, train.images.take(first))


def test_it_comes_while_the_caller_is_at_work(streamed, monkeypatch):
    """The following batch is decoded though nobody waits for it: its last file is seen without another call."""
    last, decode_file = threading.Event(), folder.decode_file

    def seen(path, px):
        found = decode_file(path, px)
        if path.name == "8.png" and path.parent.name == "bee":
            last.set()
        return found

    monkeypatch.setattr(folder, "decode_file", seen)
    arrivals = Prefetch(streamed.train, CPU)
    arrivals.take(torch.arange(3), torch.arange(15, 18))
    assert last.wait(timeout=60)


def test_an_image_that_vanishes_is_named_when_its_batch_is_taken(streamed, tmp_path):
    first, second = torch.arange(0, 2), torch.arange(2, 4)
    (tmp_path / "train" / "ant" / "2.png").unlink()
    arrivals = Prefetch(streamed.train, CPU)
    arrivals.take(first, second)
    with pytest.raises(KitError, match=r"train/ant/2\.png: No such file"):
        arrivals.take(second)
    with pytest.raises(KitError, match=r"train/ant/2\.png: No such file"):
        streamed.train.images.take(torch.tensor([2]))
