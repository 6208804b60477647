"""Boxes and folders as they come to `kit cam`."""

from __future__ import annotations

import errno
import json
import os

import numpy as np
import pytest
import torch
from PIL import Image
from small_runs import hard, reseal

from kit.__main__ import main
from kit.errors import KitError
from kit.runs.store import folder_of, stored
from kit.runs.training import train
from kit.show.cam_folder import file_names, of_folder, of_run


@pytest.fixture
def folder(tmp_path):
    images = tmp_path / "images"
    (images / "more").mkdir(parents=True)
    for name in ("x.png", "more/y.png", "1.png"):
        Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(images / name)
    return images


def boxes(folder, text: str | bytes) -> None:
    (folder / "boxes.csv").write_bytes(text if isinstance(text, bytes) else text.encode())


HEAD = "image,xmin,ymin,xmax,ymax\n"


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "x.png,10,5,20,15\n",
        "\ufeff" + HEAD + ".\\x.png,10,5,20,15\n",
        "Image, XMin, YMin, XMax, YMax\r\n./x.png , 10, 5, 20, 15\r\n",
        "label,xmax,ymax,xmin,ymin,image\nship,20,15,10,5,x.png\n",
    ],
)
def test_boxes_however_the_table_is_written(folder, text):
    boxes(folder, text)
    found = of_folder(folder, 20)
    assert found.warnings == () and found.boxes[found.names.index("x.png")].tolist() == [5, 5, 15, 15]


def test_names_that_are_numbers_or_in_folders(folder):
    (folder / "1.png").rename(folder / "1")
    (folder / "1").rename(folder / "01.png")
    boxes(folder, HEAD + "01.png,1,1,9,9\nmore\\y.png,1,1,9,9\n")
    assert of_folder(folder, 20).warnings == ()


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("x.png,40,30,10,5", "box xmin 40, ymin 30, xmax 10, ymax 5 of 'x.png' is none"),
        ("x.png,0,0,inf,20", "xmax inf"),
        ("x.png,0,0,,20", "xmax nan"),
        ("x.png,0,0,0,20", "xmin < xmax"),
        ("x.png,0,0,wide,20", "is not readable"),
        ("x.png,0,0,9,9\nx.png,0,0,9,9", "has image 'x.png' twice"),
    ],
)
def test_boxes_that_cannot_be_are_named(folder, row, said):
    boxes(folder, HEAD + row + "\n")
    with pytest.raises(KitError) as raised:
        of_folder(folder, 20)
    assert said in str(raised.value) and "allowed: " in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "text", ["", "a;b\n", "image;xmin;ymin;xmax;ymax\nx.png;1;1;2;2\n", b"\xff\xfe\x00\x01", HEAD[:12]]
)
def test_tables_that_are_none_say_what_was_found(folder, text):
    boxes(folder, text)
    with pytest.raises(KitError, match=r"boxes.csv is not readable .*; allowed: columns image, xmin"):
        of_folder(folder, 20)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("z.png,1,1,9,9\n", "1 of 1 rows name no image that is drawn, first 'z.png'"),
        (
            "x.png,0.1,0.1,0.6,0.9\n",
            "1 of 1 boxes hold no pixel of what is seen of their image, first 0.1, 0.1, 0.6, 0.9",
        ),
        ("x.png,0,0,4,4\n", "1 of 1 boxes hold no pixel"),  # left of the middle square
        ("x.png,200,200,300,300\nz.png,1,1,9,9\n", "1 of 2 boxes hold no pixel"),
    ],
)
def test_boxes_that_match_nothing_are_counted(folder, rows, said):
    boxes(folder, HEAD + rows)
    assert any(said in line for line in of_folder(folder, 20).warnings)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_box_turns_with_its_image(tmp_path, orientation):
    """Drawn in a viewer around the one white square of a large photograph."""
    pixels = np.zeros((300, 500, 3), np.uint8)
    pixels[60:90, 180:240] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "x.jpg", exif=exif, quality=95)
    from PIL import ImageOps

    bright = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "x.jpg")).convert("L")) > 128
    rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
    boxes(tmp_path, HEAD + f"x.jpg,{columns[0]},{rows[0]},{columns[-1] + 1},{rows[-1] + 1}\n")
    found = of_folder(tmp_path, 60)
    xmin, ymin, xmax, ymax = found.boxes[0].round().astype(int)
    inside = found.pixels[0, ymin + 1 : ymax - 1, xmin + 1 : xmax - 1]
    assert inside.numel() and inside.min() > 200
    assert found.pixels[0].float().mean() * 3600 == pytest.approx(255 * (xmax - xmin) * (ymax - ymin), rel=0.25)


def test_hidden_files_and_others_are_passed_over(folder):
    (folder / ".ipynb_checkpoints").mkdir()
    Image.new("RGB", (9, 9)).save(folder / ".ipynb_checkpoints" / "x-checkpoint.png")
    (folder / "._x.png").write_bytes(b"finder")
    (folder / "up").symlink_to(".")
    found = of_folder(folder, 20)
    assert len(found.names) == 3 and found.damaged == ()
    assert torch.equal(of_folder(folder / "x.png", 20).pixels, found.pixels[[found.names.index("x.png")]])  # one alone
    assert {line.split(":")[0] for line in found.passed_over} == {".ipynb_checkpoints", "._x.png", "up"}


def test_a_run_is_asked_without_its_images(own_cache, folder, tmp_path, capsys):
    """Mean and deviation are those of training; an older run, which has not kept them, says what it needs."""
    run = hard()
    train(run)
    explained, data = of_run(run.hash), run.data.load()
    assert torch.equal(explained.mean, data.mean_std[0]) and explained.classes == data.classes and explained.px == 8
    with pytest.raises(KitError, match="has no use"):
        of_run(run.hash, folder)
    metrics = folder_of(run.hash) / "metrics.json"
    metrics.write_text(json.dumps({k: v for k, v in json.loads(metrics.read_text()).items() if k != "images"}))
    reseal(metrics.parent)
    assert stored(run.hash).images is None
    assert torch.equal(of_run(run.hash).mean, data.mean_std[0])  # measured anew


def test_scores_of_no_box_are_not_printed_as_nan(own_cache, folder, tmp_path, capsys):
    run = hard()
    train(run)
    boxes(folder, HEAD + "z.png,1,1,9,9\n")
    words = ["cam", "--run", run.hash, "--images", str(folder), "--out", str(tmp_path / "out"), "--json"]
    assert main(words) == 0
    said = capsys.readouterr()
    assert "nan" not in said.out.lower() and "warning: boxes.csv: 1 of 1 rows" in said.err
    assert json.loads(said.out.splitlines()[-1])["warnings"]


def test_every_overlay_has_a_file_of_its_own():
    names = ["a/b.png", "a_b.png", "A_B.png", "cam", "x" * 400, "y/" + "x" * 400, "猫" * 120]
    files = file_names(names)
    assert len({file.casefold() for file in files} | {"cam"}) == len(names) + 1
    assert files[0] == "a_b.png" and all(len(f"{file}.png".encode()) < 255 for file in files)


def test_pictures_of_images_that_are_asked_no_more_are_gone(own_cache, folder, tmp_path):
    run, out = hard(), tmp_path / "out"
    train(run)
    words = ["cam", "--run", run.hash, "--images", str(folder), "--out", str(out)]
    assert main(words) == 0
    (out / "mine.png").write_bytes(b"mine")
    (folder / "1.png").rename(folder / "2.png")
    (folder / "more" / "y.png").unlink()
    assert main(words) == 0
    assert {path.name for path in out.iterdir()} == {"x.png.png", "2.png.png", "cam.png", "cam.csv", "mine.png"}
    (out / "cam.csv").write_text("image\nmine\n")  # another's table
    assert main(words) == 0
    assert (out / "mine.png").read_bytes() == b"mine"


def test_a_folder_that_may_not_be_listed_is_one_line(tmp_path, monkeypatch):
    def closed(folder):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(folder))

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(KitError, match=r"cannot be read \(Permission denied\); allowed: folders that may be listed"):
        of_folder(tmp_path, 16)
