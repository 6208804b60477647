"""HRSC2016 trees as they come: encodings, endings, places, and one bad object among good ones."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hrsc_trees import BURKE, NIMITZ, add_scene, annotation, picture, scene_xml, ship_xml
from PIL import Image

from kit.data import load
from kit.data.hrsc.dataset import hrsc_dataset
from kit.data.hrsc.format import DamagedFile, find_hrsc, read_annotation, read_image
from kit.data.tree import find_tree
from kit.errors import KitError

IDS = {"trainval": ("100000001", "100000002"), "test": ("100000003", "100000004")}


@pytest.fixture
def tree(tmp_path) -> Path:
    root = tmp_path / "HRSC2016"
    for i, image_id in enumerate((*IDS["trainval"], *IDS["test"])):
        add_scene(root / "FullDataSet", image_id, ship_xml((NIMITZ, BURKE)[i % 2]), picture(i))
    (root / "ImageSets").mkdir()
    for name, ids in IDS.items():
        (root / "ImageSets" / f"{name}.txt").write_text("\n".join(ids))
    return root


NAMED = scene_xml("100000009", ship_xml(NIMITZ)).replace("<Place_ID>", "<Place_ID>青岛")


@pytest.mark.parametrize(
    ("declared", "written"),
    [
        ("gb2312", "gb2312"), ("GBK", "gbk"), ("gb18030", "gb18030"), ("big5", "big5"), ("utf-8", "utf-8-sig"),
        ("utf-16", "utf-16"), ("utf-16", "utf-8"), ("utf-8", "gbk"), (None, "gbk"), (None, "utf-8"),
        ("gb2312", "utf-8"),
    ],
)  # fmt: skip
def test_annotations_in_any_encoding(tmp_path, declared, written):
    head = f'<?xml version="1.0" encoding="{declared}"?>\n' if declared else ""
    path = tmp_path / "100000009.xml"
    path.write_bytes((head + NAMED).encode(written, "replace"))
    assert read_annotation(path).ships == read_annotation(annotation(tmp_path, ship_xml(NIMITZ))).ships != ()


def test_an_encoding_that_is_not_known_is_named(tmp_path):
    path = tmp_path / "100000009.xml"
    path.write_text('<?xml version="1.0" encoding="klingon"?>' + scene_xml("100000009"))
    with pytest.raises(DamagedFile, match="klingon"):
        read_annotation(path)


@pytest.mark.parametrize("ending", ["BMP", "png", "PNG", "jpg", "JPEG", "tif", "webp"])
def test_scenes_of_other_formats(tree, ending):
    expected = hrsc_dataset(tree, 16)
    for path in (tree / "FullDataSet" / "AllImages").iterdir():
        Image.open(path).save(path.with_suffix(f".{ending}"), **({"lossless": True} if ending == "webp" else {}))
        path.unlink()
    data = hrsc_dataset(tree, 16)
    assert data.skipped == () and data.boxes.equal(expected.boxes)
    near = (data.train.images.pixels.float() - expected.train.images.pixels.float()).abs().mean()
    assert near == 0 or ending in ("jpg", "JPEG")


def test_a_scene_that_lies_there_in_another_format_is_named(tree):
    folder = tree / "FullDataSet"
    path = folder / "AllImages" / "100000001.bmp"
    path.rename(path.with_suffix(".heic"))
    scene = read_annotation(folder / "Annotations" / "100000001.xml")
    with pytest.raises(DamagedFile, match=r"100000001.bmp: is missing, though 100000001.heic is there"):
        read_image(scene)


def test_a_turned_photograph_is_read_upright_as_its_annotation_says(tree):
    folder = tree / "FullDataSet"
    upright = Image.open(folder / "AllImages" / "100000001.bmp").convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    turned.save(folder / "AllImages" / "100000001.png", exif=exif)
    (folder / "AllImages" / "100000001.bmp").unlink()
    found = read_image(read_annotation(folder / "Annotations" / "100000001.xml"))
    assert np.array_equal(found, np.asarray(upright))


def test_one_bad_object_costs_that_object(tree):
    folder = tree / "FullDataSet" / "Annotations"
    bad = ship_xml("boat") + ship_xml(NIMITZ, box=(14, 6, 4, 10)) + "<Boat/>"
    annotation(folder, ship_xml(NIMITZ) + bad + ship_xml(BURKE), "100000001")
    data = hrsc_dataset(tree, 16)
    assert data.train.labels.tolist() == [0, 1, 1]
    assert len(data.skipped) == 3 and all("100000001.xml: " in line for line in data.skipped)
    assert "object 2, Class_ID: 'boat'" in data.skipped[0] and "HRSC_Objects: 'Boat'" in data.skipped[2]
    with pytest.raises(KitError, match="object 2, Class_ID"):
        hrsc_dataset(tree, 16, strict=True)


def test_objects_that_are_missing_are_not_no_ship(tmp_path):
    path = annotation(tmp_path)
    assert read_annotation(path).ships == ()
    path.write_text(path.read_text().replace("HRSC_Objects", "Objects"))
    with pytest.raises(DamagedFile, match="HRSC_Objects: is missing"):
        read_annotation(path)


@pytest.mark.parametrize("half", ["trainval", "test"])
def test_a_split_that_cannot_be_read_is_said_to_be_so(tree, half):
    folder, said = tree / "FullDataSet" / "Annotations", "training" if half == "trainval" else "test"
    for image_id in IDS[half]:
        annotation(folder, ship_xml(None), image_id)
    with pytest.raises(KitError, match=f"every object of the {said} annotations cannot be read, first .*Class_ID"):
        hrsc_dataset(tree, 16)
    for image_id in IDS[half]:
        (folder / f"{image_id}.xml").unlink()
    with pytest.raises(KitError, match=f"2 of 2 {said} annotations cannot be read, first .*{IDS[half][0]}.xml"):
        hrsc_dataset(tree, 16)


def test_labels_that_the_splits_do_not_share_are_listed(tree):
    folder = tree / "FullDataSet" / "Annotations"
    for image_id in IDS["test"]:
        annotation(folder, ship_xml(100000018), image_id)
    with pytest.raises(KitError, match="found: Container; allowed: Nimitz, Arleigh Burke$"):
        hrsc_dataset(tree, 16)


def test_a_level_that_is_proposed_is_possible(tree):
    folder = tree / "FullDataSet" / "Annotations"
    for ids in IDS.values():
        for image_id, class_id in zip(ids, (100000002, 100000003), strict=True):
            annotation(folder, ship_xml(class_id), image_id)
    with pytest.raises(KitError, match="labelled only 'aircraft carrier', 'warcraft'; allowed: category$"):
        hrsc_dataset(tree, 16)
    assert len(hrsc_dataset(tree, 16, level="category").classes) == 2


def test_where_a_tree_may_lie(tree):
    for given in (tree, tree.parent, tree / "FullDataSet", tree / "ImageSets"):
        assert find_hrsc(given) == tree
    outer = tree.parent / "a" / "hrsc-2016"
    outer.mkdir(parents=True)
    shutil.move(tree, outer / "inner")
    assert find_hrsc(outer.parent) == outer / "inner"
    assert load("hrsc2016", px=16, folder=outer.parent).source == "real"


def test_its_halves_are_no_image_folder(tmp_path):
    for half in ("Train", "Test"):
        add_scene(tmp_path / half, "100000001", ship_xml(NIMITZ), picture(1))
    assert find_hrsc(tmp_path) == tmp_path and find_tree("cifar-10", tmp_path) is None
