"""What a check of a dataset reports."""

from __future__ import annotations

import pytest
from image_trees import build_tree, damage

from kit.data import load
from kit.data.check import check
from kit.errors import KitError


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
    assert report.problems == ["test images that are training images too: 1, first val/bee/twin.png = train/bee/3.png"]
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
