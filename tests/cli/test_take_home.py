"""`export` and `predict` from the command line: what they print, and what they refuse."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from commands import last_json, refused
from PIL import Image
from small_runs import hard

from kit.__main__ import main
from kit.runs.store import Stored
from kit.runs.training import train
from kit.training.history import Diverged


@pytest.fixture
def run(own_cache) -> str:
    return train(hard()).run.hash


@pytest.fixture
def photos(tmp_path):
    """Two pictures, one of them in a folder named after a class."""
    (tmp_path / "photos" / "7").mkdir(parents=True)
    for place in ("7/a.png", "b.jpg"):
        Image.fromarray(np.full((20, 30, 3), 99, np.uint8)).save(tmp_path / "photos" / place)
    return tmp_path / "photos"


def test_export_says_what_it_wrote(run, tmp_path, capsys):
    capsys.readouterr()
    assert main(["export", run, "--to", str(tmp_path / "student"), "--format", "safetensors", "--json"]) == 0
    line = last_json(capsys)
    assert line["run"] == run and line["folder"] == str(tmp_path / "student")
    assert set(line["differences"]) == {"safetensors"} and line["checked_on"] == "30 of its 30 test images"
    assert (tmp_path / "student" / "student.safetensors").is_file()


def test_predict_prints_a_line_an_image(run, photos, capsys):
    capsys.readouterr()
    assert main(["predict", "--run", run, "--images", str(photos)]) == 0
    first, second, accuracy = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in (first, second)] == ["b.jpg", "7/a.png"]
    assert "% interval" in accuracy and "of 1 images" in accuracy


def test_six_digits_name_a_run_unless_several_begin_so(run, own_cache, photos, tmp_path, capsys):
    capsys.readouterr()
    assert main(["predict", "--run", run[:6], "--images", str(photos), "--json"]) == 0
    assert last_json(capsys)["run"] == run
    assert main(["export", run[:7], "--to", str(tmp_path / "taken"), "--format", "safetensors", "--json"]) == 0
    assert last_json(capsys)["run"] == run
    other = run[:7] + ("0" if run[7] != "0" else "1") * 9
    (own_cache / "runs" / other).mkdir()
    both = ", ".join(sorted([run, other]))
    for words in (["predict", "--run", run[:7], "--images", str(photos)], ["cache", "prune", "--keep", run[:6]]):
        assert f"may be {both}; allowed: as many digits as tell them apart" in refused(words, capsys)
    assert main(["cache", "export", str(tmp_path / "for-a-colleague"), run[:8]]) == 0
    assert main(["cache", "prune", "--keep", run[:8]]) == 0
    assert [path.name for path in (own_cache / "runs").iterdir() if path.is_dir()] == [run]
    capsys.readouterr()
    for digits in (run[:5], "", run.upper(), f"{run}0", "*"):
        assert "is not in the cache" in refused(["predict", "--run", digits, "--images", str(photos)], capsys)


def test_predict_writes_its_table(run, photos, tmp_path, capsys):
    (photos / "cut.png").write_bytes(b"\x89PNG")
    capsys.readouterr()
    csv = tmp_path / "new" / "out.csv"
    assert main(["predict", "--run", run, "--images", str(photos), "--csv", str(csv), "--json"]) == 2  # one is damaged
    captured = capsys.readouterr()
    line = json.loads(captured.out.splitlines()[-1])
    table = pd.read_csv(csv, dtype={"class": str, "true": str})
    assert list(table.columns[:3]) == ["image", "class", "probability"] and table.columns[-1] == "true"
    assert list(table["image"]) == [image["image"] for image in line["images"]] == ["b.jpg", "7/a.png"]
    assert list(table["class"]) == [image["class"] for image in line["images"]]
    assert [line["accuracy"]["images"], line["csv"], line["damaged"]] == [1, str(csv), ["cut.png: not an image"]]
    assert captured.err.splitlines() == ["damaged: cut.png: not an image", "damaged images without a class: 1"]


def test_what_is_refused_is_refused_in_one_line(run, photos, tmp_path, capsys, monkeypatch):
    with pytest.raises(Diverged):
        train(diverging := hard(lr=1e30))
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    capsys.readouterr()
    monkeypatch.setattr(Stored, "student", lambda self: pytest.fail("it was worked on"))
    new, here = ["--to", str(tmp_path / "student")], ["--images", str(photos)]
    for arguments, reason in (
        (["export", "0123456789abcdef", *new], "is not in the cache"),
        (["export", "../../etc", *new], "is not in the cache"),
        (["export", diverging.hash, *new], "diverged, so it has no student"),
        (["export", run, *new, "--format", "pickle"], "format 'pickle' is not known"),
        (["export", run, "--to", str(tmp_path / "file")], "is a file"),
        (["export", run, "--to", str(photos)], "is not empty"),
        (["export", run, "--to", "/proc/student"], "cannot write to"),
        (["export", run], "Missing option '--to'"),
        (["predict", "--run", "0123456789abcdef", *here], "is not in the cache"),
        (["predict", "--run", diverging.hash, *here], "diverged, so it has no student"),
        (["predict", "--run", run, *here, "--csv", str(photos)], "it is a folder"),
        (["predict", "--run", run, *here, "--csv", str(photos / "b.jpg")], "is named like a picture"),
        (["predict", "--run", run, *here, "--csv", str(tmp_path / "file" / "out.csv")], "cannot write to"),
    ):
        assert reason in refused(arguments, capsys)
    assert not (tmp_path / "student").exists()
