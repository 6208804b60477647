"""The generated ImageFolder tree."""

from __future__ import annotations

import pytest
from torchvision.datasets import ImageFolder

from kit.data import load
from kit.data.generated_tree import tree_looks, written_tree


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
def test_the_generated_tree_is_mended_when_a_file_is_lost_cut_or_altered():
    root = written_tree()
    image = root / "train" / tree_looks()[0].name / "0001.jpeg"
    content = image.read_bytes()
    for harm in (image.unlink, lambda: image.write_bytes(content[:100]), lambda: image.write_bytes(content[::-1])):
        harm()
        assert written_tree() == root and image.read_bytes() == content
