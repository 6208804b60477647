"""What fills a role: arguments, environment, and the same images in every process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from commands import one_line
from image_trees import build_tree

from kit.__main__ import main
from kit.data import ROLES, load, roles
from kit.data.check import check
from kit.data.roles import filled_by
from kit.errors import KitError


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
        ({"role": "hrsc2016", "level": "class"}, "level 'class' is not allowed for role 'hrsc2016'; allowed: ship, "),
        ({"folder": Path("/nowhere/at/all")}, "folder '/nowhere/at/all' is not there"),
        ({"folder": Path(__file__)}, f"folder {__file__!r} is no folder"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(change, said):
    arguments = {"role": "cifar-10", "px": 16} | change
    with pytest.raises(KitError) as raised:
        load(arguments.pop("role"), **arguments)
    assert one_line(raised).startswith(said)
    assert "allowed:" in one_line(raised)


def test_a_given_folder_that_holds_nothing_for_the_role_is_an_error(tmp_path):
    (tmp_path / "holidays").mkdir()
    for role in ROLES:
        for source in ("auto", "real"):
            with pytest.raises(KitError, match=f"no real images for {role} in {tmp_path}, which holds holidays/"):
                load(role, px=8, source=source, folder=tmp_path)
    for role in ROLES:
        layout = "HRSC2016 tree .FullDataSet/" if role == "hrsc2016" else "ImageFolder tree .train/ and "
        with pytest.raises(KitError, match=f"no folder is given and KIT_DATA names none; allowed: an {layout}"):
            load(role, px=8, source="real")


def test_what_fills_a_role_is_told_without_an_image_being_read(tmp_path, monkeypatch):
    (build_tree(tmp_path / "cifar-10") / "train" / "ant" / "0.png").write_bytes(b"no image")
    monkeypatch.setattr("kit.data.roles.real_dataset", lambda *_: pytest.fail("images are loaded"))
    assert filled_by("cifar-10", folder=tmp_path) == filled_by("cifar-10", "real", tmp_path) == "real"
    assert filled_by("cifar-10", "embedded", tmp_path) == filled_by("cifar-10") == "embedded"
    assert filled_by("hrsc2016", folder=tmp_path) == filled_by("imagenet", folder=tmp_path) == "embedded"
    monkeypatch.setenv("KIT_DATA", str(tmp_path))
    assert filled_by("cifar-10") == "real"
    with pytest.raises(KitError, match="gone' is not there"):
        filled_by("cifar-10", folder=tmp_path / "gone")


def test_the_environment_names_a_folder_that_may_hold_some_roles_only(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KIT_DATA", str(tmp_path / "gone"))
    with pytest.raises(KitError, match="KIT_DATA .*gone' is not there"):
        load("cifar-10", px=8)
    build_tree(tmp_path / "cifar-10")
    monkeypatch.setenv("KIT_DATA", str(tmp_path))
    assert load("cifar-10", px=8).source == "real"
    assert load("cifar-10", px=8, source="embedded").source == "embedded"
    assert capsys.readouterr().err == ""
    for px in (8, 9):  # said once
        assert load("cifar-100", px=px, train_per_class=1, test_per_class=1).source == "embedded"
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: KIT_DATA: no real images for cifar-100 in ") and "stand-in" in line


def test_the_same_arguments_give_the_same_object():
    assert load("cifar-10", px=8) is load("cifar-10", px=8)
    assert load("cifar-10", px=8) is load("cifar-10", px=8, source="embedded")  # as `auto` is, where nothing is real
    assert load("cifar-10", px=8) is not load("cifar-10", px=8, test_per_class=3)


def test_a_tree_is_found_by_role_or_as_the_folder_itself(tmp_path):
    build_tree(tmp_path / "one" / "cifar-100", classes=("x", "y"))
    assert load("cifar-100", px=8, folder=tmp_path / "one").classes == ("x", "y")
    assert load("cifar-100", px=8, folder=tmp_path / "one" / "cifar-100").name == "image folder cifar-100"
    with pytest.raises(KitError, match="no real images for cifar-10 in .*, which holds cifar-100/"):
        load("cifar-10", px=8, folder=tmp_path / "one")


def test_a_tree_of_ones_own_in_the_environments_folder_fills_no_role_but_its_own(tmp_path, monkeypatch, capsys):
    build_tree(tmp_path / "cats")
    few = {"px": 8, "train_per_class": 1, "test_per_class": 1}
    assert load("cifar-100", folder=tmp_path, **few).source == "real"  # given for this role
    monkeypatch.setenv("KIT_DATA", str(tmp_path))
    assert load("own", **few).classes == ("ant", "bee")
    assert filled_by("cifar-100") == load("cifar-100", **few).source == check("cifar-10").source == "embedded"
    build_tree(tmp_path / "dogs")
    roles._load.cache_clear()
    assert filled_by("cifar-100") == load("cifar-100", **few).source == check("cifar-10").source == "embedded"
    two = f"{tmp_path} holds 2 trees, cats/, dogs/; allowed: one of them"
    with pytest.raises(KitError, match=two):
        load("own", **few)
    assert main(["data", "list", "--data", str(tmp_path)]) == 2  # a line for each, and no word on the first alone
    told = capsys.readouterr().out.splitlines()
    assert {f"{role}: {two}" for role in ("cifar-10", "cifar-100", "imagenet", "own")} < set(told) and len(told) == 5


def test_loading_leaves_torchs_own_stream_alone(tmp_path):
    build_tree(tmp_path)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    load("cifar-10", px=8, folder=tmp_path)
    load("cifar-100", px=8, train_per_class=1, test_per_class=1)
    assert torch.equal(torch.rand(4), expected)


def test_fingerprints_are_the_same_in_another_process():
    program = (
        "import json, torch; torch.set_num_threads(3); from kit.data import load; "
        "print(json.dumps([load(r, px=16, train_per_class=3, test_per_class=2).fingerprint "
        "for r in ('cifar-10', 'cifar-100')]))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    here = [load(r, px=16, train_per_class=3, test_per_class=2).fingerprint for r in ("cifar-10", "cifar-100")]
    assert json.loads(run.stdout) == here


def test_the_package_alone_imports_no_torch():
    program = "import sys, kit.data; kit.data.ROLES; print(kit.data.__all__); assert 'torch' not in sys.modules"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert all(f"'{name}'" in run.stdout for name in ("ROLES", "SOURCES", "Dataset", "Split", "TensorImages", "load"))
    assert callable(load)  # the function, whatever has been imported before
