"""What the environment says, as words: folders and switches."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kit.data.roles import real_folder
from kit.errors import KitError
from kit.files import cache_folder, ready_file, ready_folder
from kit.runs.checkpoint import Checkpoints
from kit.runs.logits import limit
from kit.runtime.environment import absolute, folder_from, number_from, switch


def test_a_folder_is_made_absolute_once_and_stays_the_same_one(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KIT_CACHE", "here/cache")
    assert folder_from("KIT_CACHE") == cache_folder() == tmp_path / "here" / "cache"
    monkeypatch.chdir("elsewhere")
    assert cache_folder() == tmp_path / "here" / "cache"
    code = "from kit.files import cache_folder; print(cache_folder())"  # a process that is started from elsewhere
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == str(tmp_path / "here" / "cache")


@pytest.mark.parametrize("variable", ["KIT_CACHE", "KIT_DATA"])
def test_a_tilde_is_the_users_home(tmp_path, monkeypatch, variable):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(variable, "~/mine")
    assert folder_from(variable) == absolute("~/mine") == tmp_path / "mine"
    (tmp_path / "mine").mkdir()
    if variable == "KIT_DATA":
        assert real_folder(None) == (tmp_path / "mine").resolve()
    assert not Path("~").exists()


def test_a_home_that_is_unknown_is_one_line(monkeypatch):
    monkeypatch.delenv("KIT_CACHE", raising=False)
    for wrong in ("~nobody-here/cache",):
        with pytest.raises(
            KitError, match=r"path '~nobody-here/cache' cannot be made absolute .*; allowed: an absolute"
        ):
            absolute(wrong)


@pytest.mark.parametrize(
    ("word", "on"),
    [
        ("1", True),
        ("true", True),
        ("YES", True),
        ("on", True),
        ("", False),
        ("0", False),
        ("false", False),
        ("no", False),
    ],
)
def test_switches(monkeypatch, word, on):
    monkeypatch.setenv("KIT_STRICT", word)
    assert switch("KIT_STRICT") is on


def test_a_switch_of_another_word_is_refused(monkeypatch):
    monkeypatch.setenv("KIT_STRICT", "maybe")
    with pytest.raises(KitError, match="KIT_STRICT 'maybe' is not allowed; allowed: 1, true, yes, on"):
        switch("KIT_STRICT")


def test_outputs_are_tried_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    assert ready_folder(tmp_path / "new" / "one").is_dir()
    assert ready_file(tmp_path / "made" / "runs.csv").parent.is_dir()
    assert os.listdir(tmp_path / "new" / "one") == os.listdir(tmp_path / "made") == []
    for wrong in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("x" * 300)):
        with pytest.raises(KitError, match="cannot write to"):
            ready_folder(wrong)
    with pytest.raises(KitError, match="it is a folder"):
        ready_file(tmp_path / "folder")


@pytest.mark.parametrize("word", ["much", "-1", "nan", "inf"])
def test_what_is_no_number_is_one_line(word, monkeypatch, tmp_path):
    for variable, unit, read in (
        ("KIT_LOGITS_GB", "gigabytes", limit),
        ("KIT_CHECKPOINT_S", "seconds", lambda: Checkpoints(tmp_path, {})),
    ):
        monkeypatch.setenv(variable, word)
        with pytest.raises(KitError, match=f"^{variable} '{word}' is not allowed; allowed: a number of {unit} from 0"):
            read()


@pytest.mark.parametrize(("word", "number"), [(None, 4.0), ("", 4.0), ("0", 0.0), ("2.5", 2.5)])
def test_a_number_is_read_or_the_default(word, number, monkeypatch):
    monkeypatch.setenv("KIT_LOGITS_GB", word) if word is not None else monkeypatch.delenv("KIT_LOGITS_GB", False)
    assert number_from("KIT_LOGITS_GB", 4.0, "gigabytes") == number
