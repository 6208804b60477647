"""The cache of decoded images: used, never trusted when harmed, built once."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import one_line
from image_trees import build_tree, picture

from kit import files as sealed
from kit.data import folder, load
from kit.data.folder import folder_dataset
from kit.errors import KitError


def cache_files(suffix: str = "") -> list[Path]:
    return sorted((Path(os.environ["KIT_CACHE"]) / "images").glob(f"*{suffix}"))


def test_the_cache_is_used_until_a_file_changes(tmp_path, monkeypatch):
    build_tree(tmp_path)
    first = folder_dataset(tmp_path, "imagenet", 8, streamed=True)
    with monkeypatch.context() as patch:
        patch.setattr(folder, "decode_file", lambda path, px: pytest.fail("decoded again"))
        patch.setattr(sealed, "FileLock", lambda path: pytest.fail("locked: of a cache that can only be read"))
        assert folder_dataset(tmp_path, "imagenet", 8, streamed=True).fingerprint == first.fingerprint
    picture(99, (24, 24)).save(tmp_path / "train" / "ant" / "0.png")
    assert folder_dataset(tmp_path, "imagenet", 8, streamed=True).fingerprint != first.fingerprint


@pytest.mark.parametrize("harm", ["cut npy", "flip a byte", "no npy", "cut json", "no json", "odd json"])
def test_a_harmed_cache_file_is_never_trusted(tmp_path, harm):
    build_tree(tmp_path)
    expected = folder_dataset(tmp_path, "imagenet", 8, streamed=True).train.images.pixels.clone()
    for npy, record in zip(cache_files(".npy"), cache_files(".json"), strict=True):
        if harm == "cut npy":
            npy.write_bytes(npy.read_bytes()[:-50])
        elif harm == "flip a byte":
            content = bytearray(npy.read_bytes())
            content[200] ^= 1
            npy.write_bytes(content)
        elif harm == "no npy":
            npy.unlink()
        elif harm == "cut json":
            record.write_text(record.read_text()[:-9])
        elif harm == "no json":
            record.unlink()
        else:
            record.write_text("[]")
    again = folder_dataset(tmp_path, "imagenet", 8, streamed=True)
    assert torch.equal(again.train.images.pixels, expected)


@pytest.mark.parametrize("budget", ["0", "2048"])
def test_a_file_that_could_not_be_read_once_is_there_when_it_can_be(tmp_path, monkeypatch, budget):
    monkeypatch.setenv("KIT_IMAGE_BUDGET_MB", budget)
    build_tree(tmp_path)
    read = Path.read_bytes

    def failing(path: Path) -> bytes:
        if path.parts[-3:] == ("train", "ant", "2.png"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", failing)
        for _ in range(2):
            data = folder_dataset(tmp_path, "imagenet", 8, streamed=True)
            assert data.skipped == ("train/ant/2.png: Input/output error",) and len(data.train) == 7
    data = folder_dataset(tmp_path, "imagenet", 8, streamed=True)
    assert data.skipped == () and len(data.train) == 8
    assert torch.equal(
        data.train.images.take(torch.arange(8)), folder_dataset(tmp_path, "own", 8, streamed=False).train.images.pixels
    )


def test_the_cached_pixels_are_a_plain_npy_file_that_training_cannot_change(tmp_path):
    build_tree(tmp_path)
    data = folder_dataset(tmp_path, "imagenet", 8, streamed=True)
    stored = {np.load(file).shape: file for file in cache_files(".npy")}
    assert set(stored) == {(8, 8, 8, 3), (4, 8, 8, 3)}
    before = np.load(stored[8, 8, 8, 3])
    assert np.array_equal(before, data.train.images.pixels.numpy())
    data.train.images.pixels.zero_()
    assert np.array_equal(np.load(stored[8, 8, 8, 3]), before)


def test_a_full_disk_is_one_clear_line_and_leaves_nothing_behind(tmp_path, monkeypatch):
    build_tree(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(sealed.os, "fsync", full)
        with pytest.raises(KitError) as raised:
            folder_dataset(tmp_path, "imagenet", 8, streamed=True)
    assert "No space left on device" in one_line(raised)
    assert "KIT_CACHE" in one_line(raised)
    assert {file.suffix for file in cache_files()} <= {".lock"}
    assert len(folder_dataset(tmp_path, "imagenet", 8, streamed=True).train) == 8


def test_a_cache_that_cannot_be_made_is_one_clear_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    build_tree(tmp_path / "tree")
    monkeypatch.setenv("KIT_CACHE", str(tmp_path / "file"))
    for tree in (None, tmp_path / "tree"):
        with pytest.raises(KitError, match=r"cache folder .* cannot be written"):
            load("imagenet", px=8, folder=tree)


def test_the_cache_is_built_once_by_many_at_the_same_time(tmp_path, monkeypatch):
    build_tree(tmp_path, per_class=(20, 5))
    decoded = []
    decode_file = folder.decode_file
    monkeypatch.setattr(folder, "decode_file", lambda path, px: decoded.append(path) or decode_file(path, px))
    with ThreadPoolExecutor(6) as pool:  # the file lock holds between threads as between processes
        loads = [pool.submit(folder_dataset, tmp_path, "imagenet", 8, streamed=True) for _ in range(6)]
    assert len({load.result().fingerprint for load in loads}) == 1
    assert len(decoded) == len(set(decoded)) == 50
    assert {file.suffix for file in cache_files()} - {".lock"} == {".npy", ".json"}  # and no draft
