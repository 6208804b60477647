"""The roles' datasets against scikit-learn, torchvision and hand-built trees, damaged ones among them."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torchvision.datasets import CIFAR10, ImageFolder
from torchvision.transforms import functional as F

from kit import data as kit_data
from kit.data import folder as folder_module
from kit.data import load
from kit.data.base import TensorImages
from kit.data.check import check
from kit.data.digits import digits
from kit.data.folder import FolderImages, folder_dataset, read_tree
from kit.data.generated import draw, generated, looks
from kit.data.generated_tree import is_whole, tree_looks, written_tree
from kit.data.memory import first_per_class, shuffled
from kit.errors import KitError


@pytest.fixture(autouse=True)
def no_environment(monkeypatch, tmp_path_factory):
    """A cache of the test's own, and no real data."""
    for name in ("KIT_DATA", "KIT_STRICT", "KIT_IMAGE_BUDGET_MB"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KIT_CACHE", str(tmp_path_factory.mktemp("cache")))
    kit_data._load.cache_clear()


def picture(seed: int, size: tuple[int, int] = (20, 20)) -> Image.Image:
    rng = np.random.RandomState(seed)
    return Image.fromarray(rng.randint(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def build_tree(root: Path, classes=("bee", "ant"), per_class=(4, 2), test="val", size=(20, 20)) -> Path:
    seed = 0
    for split, n in (("train", per_class[0]), (test, per_class[1])):
        for name in classes:
            (root / split / name).mkdir(parents=True)
            for i in range(n):
                seed += 1
                picture(seed, size).save(root / split / name / f"{i}.png")
    return root


def one_line(raised) -> str:
    message = str(raised.value)
    assert "\n" not in message
    return message


# ---- arguments -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"role": "cifar10"}, "role 'cifar10' is not known; allowed: cifar-10, cifar-100, imagenet, hrsc2016"),
        ({"source": "fake"}, "source 'fake' is not known; allowed: auto, embedded, real"),
        ({"px": 7}, "px 7 "),
        ({"px": 513}, "px 513 "),
        ({"px": 16.0}, "px 16.0 "),
        ({"px": True}, "px True "),
        ({"train_per_class": 0}, "train_per_class 0 "),
        ({"test_per_class": -1}, "test_per_class -1 "),
        ({"folder": Path("/nowhere/at/all")}, "folder '/nowhere/at/all' is not there"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(change, said):
    arguments = {"role": "cifar-10", "px": 16} | change
    with pytest.raises(KitError) as raised:
        load(arguments.pop("role"), **arguments)
    assert one_line(raised).startswith(said)
    assert "allowed:" in one_line(raised)


def test_real_data_that_is_nowhere_is_an_error_only_when_asked_for(tmp_path):
    assert load("cifar-10", px=8, folder=tmp_path).source == "embedded"
    for role in ("cifar-10", "imagenet"):
        with pytest.raises(KitError, match="no real images"):
            load(role, px=8, source="real", folder=tmp_path)
        with pytest.raises(KitError, match="KIT_DATA"):
            load(role, px=8, source="real")


def test_the_environment_names_a_folder_which_may_be_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("KIT_DATA", str(tmp_path / "gone"))
    assert load("cifar-10", px=8).source == "embedded"
    build_tree(tmp_path / "cifar-10")
    monkeypatch.setenv("KIT_DATA", str(tmp_path))
    assert load("cifar-10", px=8).source == "real"
    assert load("cifar-10", px=8, source="embedded").source == "embedded"
    assert load("cifar-100", px=8, train_per_class=1, test_per_class=1).source == "embedded"


def test_the_same_arguments_give_the_same_object():
    assert load("cifar-10", px=8) is load("cifar-10", px=8)
    assert load("cifar-10", px=8) is not load("cifar-10", px=8, test_per_class=3)


# ---- digits --------------------------------------------------------------------------------------------------------


def test_digits_are_scikit_learns():
    bunch = load_digits()
    known = {image.astype(int).tobytes(): label for image, label in zip(bunch.images, bunch.target, strict=True)}
    data = digits(8)
    seen = Counter()
    for split in (data.train, data.test):
        pixels = split.images.pixels
        assert pixels.dtype == torch.uint8
        assert torch.equal(pixels[..., 0], pixels[..., 2])
        for image, label in zip(pixels[..., 0], split.labels, strict=True):
            original = (image.double() * 16 / 255).round().long().numpy()
            assert known[original.tobytes()] == int(label)
            seen[original.tobytes()] += 1
    assert sum(seen.values()) == 1797
    assert set(seen) == set(known)
    assert torch.bincount(data.test.labels).tolist() == [40] * 10
    assert not data.flip
    assert data.classes == tuple("0123456789")


@pytest.mark.numerics
def test_digits_are_resized_bilinearly():
    small, large = digits(8), digits(16)
    expected = torch.nn.functional.interpolate(
        small.train.images.pixels.permute(0, 3, 1, 2).float(), size=16, mode="bilinear"
    )
    difference = large.train.images.pixels.permute(0, 3, 1, 2).float() - expected
    assert difference.abs().max() <= 1
    assert torch.equal(small.train.labels, large.train.labels)


@pytest.mark.numerics
@pytest.mark.parametrize(("px", "fingerprint"), [(12, "64710f2f69dd"), (16, "e758b217444d"), (32, "95aea90b7ae7")])
def test_resized_digits_and_so_runs_hashes_are_the_same_on_every_processor(px, fingerprint):
    assert digits(px).fingerprint.startswith(fingerprint)


def test_subsets_are_balanced_fixed_and_nested():
    labels = torch.tensor([0, 1, 2] * 50)
    few, more = first_per_class(labels, 5), first_per_class(labels, 20)
    assert torch.bincount(labels[few]).tolist() == [5, 5, 5]
    assert set(few.tolist()) < set(more.tolist())
    assert first_per_class(labels, None).tolist() == list(range(150))
    assert len(first_per_class(labels, 1000)) == 150
    assert shuffled(8).tolist() == sorted(range(8), key=lambda i: hashlib.sha256(f"shuffle 1: {i}".encode()).digest())


# ---- generated -----------------------------------------------------------------------------------------------------


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


def test_mean_std_are_the_pixels_own():
    data = generated(16, 5, 1)
    mean, std = data.mean_std
    pixels = data.train.images.pixels.numpy().reshape(-1, 3)
    np.testing.assert_allclose(mean, pixels.mean(0), rtol=1e-5)
    np.testing.assert_allclose(std, pixels.std(0), rtol=1e-4)


# ---- ImageFolder trees ---------------------------------------------------------------------------------------------


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


def test_other_colour_modes_become_rgb(tmp_path):
    build_tree(tmp_path)
    for i, mode in enumerate(("L", "RGBA", "P", "CMYK")):
        suffix = "jpg" if mode == "CMYK" else "png"
        picture(9).convert(mode).save(tmp_path / "train" / "ant" / f"mode{i}.{suffix}")
    data = folder_dataset(tmp_path, "cifar-10", 8, streamed=False)
    assert data.train.images.pixels.shape == (12, 8, 8, 3)
    assert data.skipped == ()


def test_a_tree_is_found_by_role_or_as_the_folder_itself(tmp_path):
    build_tree(tmp_path / "one" / "cifar-100", classes=("x", "y"))
    assert load("cifar-100", px=8, folder=tmp_path / "one").classes == ("x", "y")
    assert load("cifar-100", px=8, folder=tmp_path / "one" / "cifar-100").name == "image folder cifar-100"
    assert load("cifar-10", px=8, folder=tmp_path / "one").source == "embedded"


def test_streamed_and_in_memory_hold_the_same_pixels_and_subsets(tmp_path):
    build_tree(tmp_path, per_class=(9, 4))
    memory = folder_dataset(tmp_path, "cifar-10", 16, 5, 2, streamed=False)
    disk = folder_dataset(tmp_path, "imagenet", 16, 5, 2, streamed=True)
    fly = folder_dataset(tmp_path, "imagenet", 16, 5, 2, streamed=True, budget_mb=0)
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


def test_prefetched_batches_are_the_same_batches(tmp_path):
    build_tree(tmp_path, per_class=(9, 2))
    images = folder_dataset(tmp_path, "imagenet", 16, streamed=True, budget_mb=0).train.images
    batches = list(torch.randperm(18).split(3))
    plain = [images.take(b) for b in batches]
    images.prefetch(batches)
    images.take(torch.tensor([0]))  # something else in between
    assert all(torch.equal(images.take(b), expected) for b, expected in zip(batches, plain, strict=True))


def test_the_budget_decides_where_pixels_are(tmp_path, monkeypatch):
    build_tree(tmp_path)
    monkeypatch.setenv("KIT_IMAGE_BUDGET_MB", "0")
    assert isinstance(folder_dataset(tmp_path, "imagenet", 8, streamed=True).train.images, FolderImages)
    monkeypatch.setenv("KIT_IMAGE_BUDGET_MB", "1")
    assert isinstance(folder_dataset(tmp_path, "imagenet", 8, streamed=True).train.images, TensorImages)
    monkeypatch.setenv("KIT_IMAGE_BUDGET_MB", "lots")
    with pytest.raises(KitError, match="KIT_IMAGE_BUDGET_MB 'lots'"):
        folder_dataset(tmp_path, "imagenet", 8, streamed=True)


def test_worker_processes_decode_the_same(tmp_path, monkeypatch):
    build_tree(tmp_path, per_class=(40, 2))
    alone = folder_dataset(tmp_path, "cifar-10", 8, streamed=False)
    monkeypatch.setattr(folder_module, "MANY", 10)
    assert folder_module.worker_processes(80) > 0
    together = folder_dataset(tmp_path, "cifar-10", 8, streamed=False)
    assert together.fingerprint == alone.fingerprint


def test_no_worker_processes_in_a_notebook(monkeypatch):
    class Kernel:
        kernel = object()

    monkeypatch.setitem(sys.modules, "IPython", type("IPython", (), {"get_ipython": staticmethod(Kernel)}))
    assert folder_module.worker_processes(10**6) == 0


def test_loading_leaves_torchs_own_stream_alone(tmp_path):
    build_tree(tmp_path)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    load("cifar-10", px=8, folder=tmp_path)
    load("cifar-100", px=8, train_per_class=1, test_per_class=1)
    assert torch.equal(torch.rand(4), expected)


# ---- damage --------------------------------------------------------------------------------------------------------


def damage(tree: Path) -> None:
    """In train/ant: a truncated JPEG, an empty file and a text; in val/bee: a broken PNG."""
    jpeg = io.BytesIO()
    picture(77, (60, 60)).save(jpeg, "JPEG")
    (tree / "train" / "ant" / "cut.jpg").write_bytes(jpeg.getvalue()[:700])
    (tree / "train" / "ant" / "empty.png").write_bytes(b"")
    (tree / "train" / "ant" / "text.bmp").write_text("not a picture")
    png = bytearray((tree / "val" / "bee" / "0.png").read_bytes())
    png[60:90] = bytes(30)
    (tree / "val" / "bee" / "broken.png").write_bytes(png)


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
    (no_test / "val").rename(no_test / "valid")
    with pytest.raises(KitError, match="has no test/ or val/"):
        read_tree(no_test)

    no_train = build_tree(tmp_path / "roles" / "imagenet")
    (no_train / "train").rename(no_train / "training")
    with pytest.raises(KitError, match="has no train/"):
        load("imagenet", px=8, folder=tmp_path / "roles")

    bare = tmp_path / "bare"
    (bare / "train").mkdir(parents=True)
    (bare / "test").mkdir()
    with pytest.raises(KitError, match="has no class folders"):
        read_tree(bare)


def test_an_image_that_vanishes_while_streamed_is_named(tmp_path):
    build_tree(tmp_path)
    data = folder_dataset(tmp_path, "imagenet", 8, streamed=True, budget_mb=0)
    (tmp_path / "train" / "ant" / "2.png").unlink()
    with pytest.raises(KitError, match=r"train/ant/2\.png: No such file"):
        data.train.images.take(torch.tensor([2]))


# ---- the cache -----------------------------------------------------------------------------------------------------


def cache_files(suffix: str) -> list[Path]:
    return sorted((Path(os.environ["KIT_CACHE"]) / "images").glob(f"*{suffix}"))


def test_the_cache_is_used_until_a_file_changes(tmp_path, monkeypatch):
    build_tree(tmp_path)
    first = folder_dataset(tmp_path, "imagenet", 8, streamed=True)
    with monkeypatch.context() as patch:
        patch.setattr(folder_module, "decode_file", lambda path, px: pytest.fail("decoded again"))
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
        patch.setattr(folder_module.os, "fsync", full)
        with pytest.raises(KitError) as raised:
            folder_dataset(tmp_path, "imagenet", 8, streamed=True)
    assert "on a disk that is full" in one_line(raised)
    assert "KIT_CACHE" in one_line(raised)
    assert cache_files(".npy") == cache_files(".json") == cache_files(".partial") == []
    assert len(folder_dataset(tmp_path, "imagenet", 8, streamed=True).train) == 8


def test_a_cache_that_cannot_be_made_is_one_clear_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KIT_CACHE", str(tmp_path / "file"))
    with pytest.raises(KitError, match=r"cache folder .* cannot be written"):
        load("imagenet", px=8)


def test_the_cache_is_built_once_by_many_at_the_same_time(tmp_path, monkeypatch):
    build_tree(tmp_path, per_class=(20, 5))
    decoded = []
    decode_file = folder_module.decode_file
    monkeypatch.setattr(folder_module, "decode_file", lambda path, px: decoded.append(path) or decode_file(path, px))
    with ThreadPoolExecutor(6) as pool:  # the file lock holds between threads as between processes
        loads = [pool.submit(folder_dataset, tmp_path, "imagenet", 8, streamed=True) for _ in range(6)]
    assert len({load.result().fingerprint for load in loads}) == 1
    assert len(decoded) == len(set(decoded)) == 50
    assert cache_files(".partial") == []


# ---- the generated tree --------------------------------------------------------------------------------------------


@pytest.fixture
def small_tree(monkeypatch):
    monkeypatch.setattr("kit.data.generated_tree.TRAIN_PER_CLASS", 4)
    monkeypatch.setattr("kit.data.generated_tree.TEST_PER_CLASS", 2)


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
def test_the_generated_tree_is_mended_when_a_file_is_lost_or_cut():
    root = written_tree()
    image = root / "train" / tree_looks()[0].name / "0001.jpeg"
    content = image.read_bytes()
    for harm in (image.unlink, lambda: image.write_bytes(content[:100])):
        harm()
        assert not is_whole(root)
        assert is_whole(written_tree())
        assert image.read_bytes() == content


# ---- CIFAR as published --------------------------------------------------------------------------------------------


def test_half_downloaded_cifar_is_refused_by_file_name(tmp_path):
    batches = tmp_path / CIFAR10.base_folder
    batches.mkdir()
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
        kit_data.download("imagenet", tmp_path)


# ---- check ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["cifar-10", "imagenet"])
def test_check_lists_damage_and_twins_and_agrees_with_load(tmp_path, role):
    build_tree(tmp_path)
    assert check(role, tmp_path, px=8).sound
    damage(tmp_path)
    twin = (tmp_path / "train" / "bee" / "3.png").read_bytes()
    (tmp_path / "val" / "bee" / "twin.png").write_bytes(twin)
    report = check(role, tmp_path, px=8)
    data = load(role, px=8, folder=tmp_path)
    assert report.fingerprint == data.fingerprint
    assert [f"{path}: {reason}" for path, reason in report.damaged] == list(data.skipped)
    assert report.counts == {"train": {"ant": 4, "bee": 4}, "val": {"ant": 2, "bee": 3}}
    assert report.problems == ["1 test images are training images too, first val/bee/twin.png = train/bee/3.png"]
    assert not report.sound


def test_check_reports_a_malformed_tree_and_an_emptied_class(tmp_path):
    build_tree(tmp_path)
    for file in (tmp_path / "val" / "bee").iterdir():
        file.write_bytes(b"x")
    report = check("imagenet", tmp_path)
    assert report.problems == ["val/bee has no readable image"]
    assert len(report.damaged) == 2
    (tmp_path / "val").rename(tmp_path / "other")
    assert "has no test/ or val/" in check("imagenet", tmp_path).problems[0]
    with pytest.raises(KitError):
        check("imagenet", tmp_path / "nowhere")


def test_check_looks_the_embedded_sets_over():
    report = check("cifar-10", px=16)
    assert report.sound
    assert (report.source, sum(report.counts["train"].values())) == ("embedded", 1397)
    assert report.fingerprint == load("cifar-10", px=16).fingerprint


# ---- across processes ----------------------------------------------------------------------------------------------


def test_fingerprints_are_the_same_in_another_process():
    program = (
        "import json, torch; torch.set_num_threads(3); from kit.data import load; "
        "print(json.dumps([load(r, px=16, train_per_class=3, test_per_class=2).fingerprint "
        "for r in ('cifar-10', 'cifar-100')]))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    here = [load(r, px=16, train_per_class=3, test_per_class=2).fingerprint for r in ("cifar-10", "cifar-100")]
    assert json.loads(run.stdout) == here
