"""`python -m kit judge`: a table, verdicts and a sentence from made runs; bad input in one line."""

from __future__ import annotations

import json
import re
from importlib import import_module

import pytest
from commands import refused
from image_trees import shaded_tree
from made_cache import make_all
from small_runs import Here

from kit.__main__ import main
from kit.cli import options
from kit.figures.needs import APART, chosen
from kit.files import sealed
from kit.judge.question import Question
from kit.paper.plan import runs_of
from kit.runs.store import folder_of, stored

SMALL = ["judge", "--preset", "smoke", "--teacher", "cnn", "--small-teacher", "none", "--epochs", "4", "--batch", "3"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seeds", "0"], "seeds: 0"),
        (["--seeds", "many"], "--seeds"),
        (["--temperature", "nan"], "temperature: nan"),
        (["--temperature", "adaptive"], "'--temperature'"),
        (["--teacher", "tiny"], "model 'tiny' is not known; allowed: cnn, vgg16"),
        (["--jobs", "0"], "--jobs 0"),
        (["--out", __file__], "test_judge.py"),
        (["--colour", "red"], "--colour"),
    ],
)
def test_bad_input_is_one_line(words, said, own_cache, capsys):
    assert said in refused(["judge", "--preset", "smoke", *words], capsys)


def test_one_class_is_refused(own_cache, tmp_path, capsys):
    shaded_tree(tmp_path / "pets", {"cat": (4, 2)})
    assert "have one class" in refused(["judge", "--preset", "smoke", "--data", str(tmp_path / "pets")], capsys)


def test_a_folder_of_ones_own_is_judged_and_leaves_the_same_bytes_again(own_cache, tmp_path, capsys, monkeypatch):
    """Two uneven classes, a folder with a name of its own, two seeds: trained for real, drawn twice."""
    monkeypatch.setattr(options, "engine_at", lambda *_: Here())  # no worker to start
    shaded_tree(tmp_path / "pets", {"cat": (8, 4), "dog": (3, 4)})
    command = [*SMALL, "--data", str(tmp_path / "pets"), "--seeds", "2", "--json"]
    drawn = []
    for out in ("first", "second"):
        assert main([*command, "--out", str(tmp_path / out)]) == 0
        drawn.append({path.name: path.read_bytes() for path in (tmp_path / out).iterdir()})
    captured = capsys.readouterr()
    assert drawn[0] == drawn[1]
    wanted = {
        f"{name}.{kind}" for name in ("table", "effects", "accuracy", "temperature") for kind in ("png", "svg", "csv")
    }
    assert set(drawn[0]) == wanted | {"cam.png", "cam.svg", "runs.csv"}
    assert "image folder pets (real): 2 classes, 9 of 11 training and 6 of 8 test images, 16 px" in captured.out
    assert "Top-5" not in captured.out.partition("{")[0]
    assert "note: classes are uneven: 3 of 'dog' to 6 of 'cat' training images" in captured.err
    record = json.loads(captured.out.splitlines()[-1])
    assert record["sentence"].startswith("On image folder pets (2 seeds) ")
    assert record["sentence"] in captured.out.splitlines()
    assert stored(record["rows"][0]["run"]).title == "CNN on pets, seed 0"
    assert re.search(r"train Top-1 +test Top-1 +balanced +of dog +CPU s", captured.out)
    for line in record["rows"]:  # as many test images of each class, so that it is Top-1
        mean = (line["test of dog"] + line["test of cat"]) / 2
        assert [line["test_balanced"], line["test_top1"]] == pytest.approx([mean, mean])
    assert len(record["claims"]) == 3 and {line["status"] for line in record["rows"]} == {"finished"}


def test_one_seed_has_no_verdict_and_says_so(own_cache, tmp_path, capsys):
    make_all(runs_of(Question(preset="smoke", seeds=1, seed=3, small_teacher=None).rows()))
    line = ["judge", "--preset", "smoke", "--seeds", "1", "--seed", "3", "--small-teacher", "none"]
    main([*line, "--out", str(tmp_path / "out")])
    said = capsys.readouterr().out
    assert "0 hold, 0 do not, 0 cannot be told, 3 have no verdict · one seed has no interval" in said
    assert "(1 seed) nothing can be told: one seed has no interval" in said


def test_a_row_of_which_every_run_diverged_is_marked_and_ends_in_1(own_cache, tmp_path, capsys):
    rows = Question(preset="smoke", seeds=2).rows()
    make_all(runs_of(rows))
    for run in rows[1].runs:
        spoil(run)
    status = main(["judge", "--preset", "smoke", "--seeds", "2", "--out", str(tmp_path / "out"), "--json"])
    captured = capsys.readouterr()
    assert status == 1 and " diverged" in captured.out
    assert "ordinary distillation did not finish" in json.loads(captured.out.splitlines()[-1])["sentence"]
    assert "note: ordinary distillation, T=4: 2 of 2 runs failed" in captured.err


def spoil(run) -> None:
    """Makes a finished run in the cache one that diverged at its second step."""
    folder = folder_of(run.hash)
    if (folder / "diverged.json").exists():
        return
    kept = {name: (folder / name).read_bytes() for name in ("run.json", "steps.csv")}
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    with sealed(folder) as draft:
        for name, content in kept.items():
            (draft / name).write_bytes(content)
        (draft / "diverged.json").write_text('{"step": 2}')


def test_its_notebook_is_drawn_only_where_it_is_named():
    assert not set(APART) & set(chosen([]))
    assert list(chosen(["09"])) == ["09_your_own"]


def test_figures_train_the_runs_of_notebook_09_with_the_others(monkeypatch, tmp_path):
    """So on the cluster, where there is one: its kernel finds them."""
    asked = []
    monkeypatch.setattr(import_module("kit.figures.make"), "make", lambda *given: asked.append(given) or [])
    own = ["-p", 'networks={"student": "vgg16"}', "--seeds", "2", "--preset", "smoke", "--out", str(tmp_path)]
    assert main(["figures", "09", *own]) == main(["figures", "04", *own[2:]]) == 0
    question = Question(preset="smoke", seeds=2, student="vgg16")
    assert [given[-1] for given in asked] == [{"09_your_own": runs_of(question.rows())}, {}]
