"""CIFAR as published: hand-made batches, and half-downloaded ones."""

from __future__ import annotations

import hashlib
import pickle

import numpy as np
import pytest
from commands import one_line
from torchvision.datasets import CIFAR10

from kit.data import download, load
from kit.data.check import check
from kit.errors import KitError


def test_half_downloaded_cifar_is_refused_by_file_name(tmp_path):
    batches = tmp_path / "CIFAR_10" / CIFAR10.base_folder  # spelt as anyone likes, as image folders are
    batches.mkdir(parents=True)
    for source in ("auto", "real"):
        with pytest.raises(KitError) as raised:
            load("cifar-10", px=32, source=source, folder=tmp_path)
        assert f"{batches}: data_batch_1 is missing; allowed: the files of CIFAR-10 as published" in one_line(raised)
    (batches / "data_batch_1").write_bytes(b"not it")
    with pytest.raises(KitError, match="data_batch_1 has another md5"):
        load("cifar-10", px=32, folder=tmp_path)
    assert load("cifar-10", px=8, source="embedded", folder=tmp_path).source == "embedded"


def test_half_downloaded_archive_is_refused(tmp_path):
    (tmp_path / "cifar-100-python.tar.gz").write_bytes(b"the first bytes")
    with pytest.raises(KitError, match=r"cifar-100-python\.tar\.gz is half-downloaded or changed"):
        load("cifar-100", px=32, folder=tmp_path)


def test_published_batches_are_read_as_torchvision_reads_them(tmp_path, monkeypatch):
    """Hand-made batches in CIFAR-10's own format, with torchvision's list of checksums replaced by theirs."""
    batches = tmp_path / CIFAR10.base_folder
    batches.mkdir()
    rng = np.random.RandomState(0)

    def write(name: str, content: dict) -> str:
        pickled = pickle.dumps(content)
        (batches / name).write_bytes(pickled)
        return hashlib.md5(pickled).hexdigest()

    def batch(n: int) -> dict:
        return {"data": rng.randint(0, 256, (n, 3072), dtype=np.uint8), "labels": [i % 10 for i in range(n)]}

    classes = [f"class {c}" for c in range(10)]
    train, test = batch(40), batch(20)
    monkeypatch.setattr(CIFAR10, "train_list", [["data_batch_1", write("data_batch_1", train)]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", write("test_batch", test)]])
    monkeypatch.setattr(
        CIFAR10,
        "meta",
        {"filename": "meta", "key": "label_names", "md5": write("meta", {"label_names": classes})},
    )
    data = load("cifar-10", px=32, folder=tmp_path)
    assert (data.name, data.source, data.flip) == ("CIFAR-10", "real", True)
    assert data.classes == tuple(classes)
    assert data.train.labels.tolist() == train["labels"]
    red_row_2 = train["data"][7][2 * 32 : 3 * 32]
    assert data.train.images.pixels[7, 2, :, 0].tolist() == red_row_2.tolist()
    assert load("cifar-10", px=16, train_per_class=2, folder=tmp_path).train.images.pixels.shape == (20, 16, 16, 3)
    assert check("cifar-10", tmp_path).counts["test"] == dict.fromkeys(classes, 2)


def test_only_cifar_is_downloaded(tmp_path):
    with pytest.raises(KitError, match="role to download 'imagenet' is not known; allowed: cifar-10, cifar-100"):
        download("imagenet", tmp_path)
