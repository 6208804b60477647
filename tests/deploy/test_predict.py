"""A folder of pictures gets classes: each file once, by its path, or a reason why not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kit.deploy import predict
from kit.errors import KitError
from kit.runs.store import Result
from kit.training.evaluation import evaluate


@pytest.fixture
def tests_as_files(result, tmp_path) -> Path:
    """The run's test images as PNG files, in folders named after their classes."""
    data = result.run.data.load()
    for i, (pixels, label) in enumerate(zip(data.test.images.pixels, data.test.labels.tolist(), strict=True)):
        file = tmp_path / "tests" / data.classes[label] / f"{i:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.numpy()).save(file)
    return tmp_path / "tests"


def test_its_own_test_images_as_files_give_the_runs_accuracy_and_logits(result: Result, tests_as_files):
    found = predict(result.run.hash, tests_as_files)
    assert found.accuracy.images == len(found.table) == 100
    assert found.accuracy.top1 == pytest.approx(result.metrics["test_top1"], abs=1e-12)
    data = result.run.data.load()
    p = evaluate(result.student(), data.test, *data.mean_std).logits.double().softmax(1)  # (100, 10)
    numbers = [int(Path(name).stem) for name in found.table["image"]]
    assert np.allclose(found.table["probability"], p.max(1).values[numbers], atol=1e-6)
    fifth = p.topk(5).values[numbers, 4]
    assert np.allclose(found.table["probability_5"], fifth, atol=1e-6)
    assert list(found.table["true"]) == [data.classes[label] for label in data.test.labels[numbers].tolist()]


def test_folders_that_are_no_classes_have_no_accuracy_and_a_mixed_one_has_that_of_the_known(
    result, tests_as_files, album
):
    table = predict(result.run.hash, album)
    assert table.accuracy is None and "true" not in table.table
    (tests_as_files / "holiday").mkdir()
    (tests_as_files / "3").rename(tests_as_files / "holiday" / "3")  # deeper: its folder below `tests` is no class
    found = predict(result.run.hash, tests_as_files)
    assert found.accuracy.images == 90 and len(found.table) == 100
    assert list(found.table.loc[found.table["true"].isna(), "image"].str.split("/").str[0].unique()) == ["holiday"]


def test_damaged_and_other_files_are_told_apart(result, album):
    (album / "deeper").mkdir()
    (album / "deeper" / "cut.jpg").write_bytes((album / "large.jpg").read_bytes()[:2000])
    (album / "empty.png").write_bytes(b"")
    (album / "notes.txt").write_text("no picture")
    (album / ".hidden.png").write_bytes(b"")
    found = predict(result.run.hash, album)
    assert {line.partition(": ")[0] for line in found.damaged} == {"deeper/cut.jpg", "empty.png"}
    assert {line.partition(": ")[0] for line in found.passed_over} == {"notes.txt", ".hidden.png"}
    assert len(found.table) == len(list(album.iterdir())) - 4


def test_one_picture_is_a_folder_of_one(result, album):
    one = predict(result.run.hash, album / "rgb.png").table
    all_of_them = predict(result.run.hash, album).table.set_index("image")
    assert one["image"].tolist() == ["rgb.png"]
    assert one["probability"][0] == pytest.approx(all_of_them.loc["rgb.png", "probability"], abs=1e-6)


def test_a_batch_more_is_the_same_as_a_batch(result, tmp_path):
    """205 copies in three batches."""
    (tmp_path / "many").mkdir()
    noise = np.random.RandomState(0).randint(0, 256, (8, 8, 3)).astype(np.uint8)
    for i in range(205):
        Image.fromarray(noise).save(tmp_path / "many" / f"{i}.png")
    table = predict(result.run.hash, tmp_path / "many").table
    assert len(table) == 205 and table["class"].nunique() == 1
    assert np.ptp(table["probability"]) < 1e-6 and torch.get_num_threads() == 1


@pytest.mark.parametrize(
    ("place", "reason"),
    [("absent", "are not there"), ("empty", "holds no images"), ("damaged", "holds no readable image, first a.png: ")],
)
def test_a_folder_without_a_picture_is_refused(place, reason, result, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "a.png").write_bytes(b"no picture")
    with pytest.raises(KitError, match=reason):
        predict(result.run.hash, tmp_path / place)
