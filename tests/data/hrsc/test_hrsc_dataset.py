"""The hrsc2016 role, proven on trees built by hand: exact pixels, labels, boxes and masks, and every refusal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hrsc_trees import BURKE, NIMITZ, SUBMARINE, add_scene, annotation, picture, scene_xml, ship_xml
from PIL import Image

from kit.data import load
from kit.data.base import Dataset, held_out
from kit.data.check import check
from kit.data.hrsc.dataset import Window, crop_window, cut, hrsc_dataset
from kit.data.hrsc.format import Box, DamagedFile, read_annotation, read_image
from kit.errors import KitError
from kit.runs.spec import HeldOutSpec, LevelSpec
from kit.runs.store import Stored


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three training and two test scenes; one of each holds no ship or a coarse label."""
    root = tmp_path / "HRSC2016"
    full = root / "FullDataSet"
    add_scene(full, "100000001", ship_xml(NIMITZ) + ship_xml(BURKE, (20, 10, 30, 20), (25, 15, 12, 4, 0.7)), picture(1))
    add_scene(full, "100000002", "", picture(2))
    add_scene(full, "100000003", ship_xml(SUBMARINE) + ship_xml(100000003), picture(3))
    add_scene(full, "100000004", ship_xml(BURKE, (20, 10, 30, 20), (25, 15, 12, 4, 0.7)), picture(4))
    add_scene(full, "100000005", ship_xml(NIMITZ) + ship_xml(100000018), picture(5))
    (root / "ImageSets").mkdir()
    for name, ids in dict(train="12", val="3", trainval="123", test="45").items():
        text = "".join(f"10000000{i}\r\n" for i in ids) + "\r\n"
        (root / "ImageSets" / f"{name}.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
    return root


def test_a_crop_is_a_square_with_context():
    assert crop_window(Box(4, 6, 14, 10)) == (1, 0, 16)


def test_a_cut_continues_the_image_by_its_mirror_image():
    pixels = picture(0, (5, 4))
    padded = np.pad(pixels, ((3, 9), (2, 8), (0, 0)), mode="reflect")  # (16, 15, 3)
    assert (cut(pixels, Window(-2, -3, 15)) == padded[:15, :15]).all()


def test_crops_labels_and_boxes_are_exact(tree):
    data = hrsc_dataset(tree, 16)
    assert data.classes == ("Nimitz", "Arleigh Burke", "submarine")
    assert (data.role, data.source, data.px, data.flip) == ("hrsc2016", "real", 16, True)
    assert data.train.labels.tolist() == [0, 1, 2] and data.test.labels.tolist() == [1, 0]
    pixels = data.train.images.take(torch.arange(3)).numpy()  # (3, 16, 16, 3); every crop's side is 16, so no resizing
    assert (pixels[0] == picture(1)[0:16, 1:17]).all()
    assert (pixels[1] == picture(1)[7:23, 17:33]).all()
    assert (pixels[2] == picture(3)[0:16, 1:17]).all()
    assert data.boxes.tolist() == [[3, 3, 13, 13], [3, 6, 13, 10]]
    assert data.masks.shape == data.shortcuts.shape == (2, 16, 16) and data.masks.dtype == torch.bool
    assert not data.shortcuts.any() and data.region == "oriented box"
    upright = torch.zeros(16, 16, dtype=torch.bool)
    upright[6:10, 3:13] = True
    assert (data.masks[1] == upright).all()
    assert data.skipped == ()
    assert data.left_out == (
        "training ships labelled 'warcraft', which is no type: 1",
        "test ships labelled 'Container', as no training ship is: 1",
    )


def test_what_is_held_out_of_it_has_no_regions_of_the_test_split(tree):
    add_scene(tree / "FullDataSet", "100000002", ship_xml(NIMITZ), picture(2))
    whole = hrsc_dataset(tree, 16)
    part = held_out(whole, 0.5)
    assert type(part) is Dataset and (len(part.train), len(part.test)) == (3, 1)
    assert not hasattr(part, "boxes") and part.left_out == whole.left_out and part.fingerprint == whole.fingerprint


def test_a_share_of_a_level_is_held_out_at_that_level(tree):
    whole = LevelSpec.of("hrsc2016", 16, folder=tree, level="ship")
    part = HeldOutSpec.split(whole, 0.25)
    kept = Stored(tree, {"data": part.model_dump(mode="json")}).data(tree)
    for spec in (part, kept):
        data = spec.load()
        assert data.classes == ("ship",) and (len(data.train), len(data.test)) == (spec.train_images, 1) == (3, 1)


def test_ships_that_are_left_out_are_told(tree, capsys):
    from kit.__main__ import main
    from kit.cli.output import tell_skipped

    left = hrsc_dataset(tree, 16).left_out
    tell_skipped(hrsc_dataset(tree, 16))
    assert capsys.readouterr().err.splitlines() == [f"note: hrsc2016: left out: {line}" for line in left]
    assert main(["data", "check", "hrsc2016", "--data", str(tree)]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [f"  left out: {line}" for line in left]


def test_a_check_opens_every_file_anew(tree, monkeypatch):
    full = tree / "FullDataSet"
    (full / "Segmentations").mkdir()
    monkeypatch.setenv("KIT_STRICT", "1")
    assert check("hrsc2016", tree).sound and check("hrsc2016", tree).counts["train"]["Nimitz"] == 1
    harmed = [f"FullDataSet/{place}" for place in ("AllImages/100000001.bmp", "AllImages/100000002.bmp",
                                                   "Segmentations/100000001.png")]  # fmt: skip
    for place in harmed:  # the second is of a scene without ships, and the third is of no test image
        (tree / place).write_bytes(b"junk")
    report = check("hrsc2016", tree)
    assert not report.sound and sorted(path for path, _ in report.damaged) == harmed
    (problem,) = report.problems
    assert "every training image of 'Arleigh Burke', 'Nimitz' is damaged, first FullDataSet/AllImages/1" in problem


def test_the_other_levels_and_the_folder_above(tree, monkeypatch):
    monkeypatch.setenv("KIT_DATA", str(tree.parent))
    data = load("hrsc2016", px=16, level="category")
    assert data.classes == ("aircraft carrier", "warcraft", "submarine")
    assert data.train.labels.tolist() == [0, 1, 2, 1] and data.test.labels.tolist() == [1, 0]
    assert load("hrsc2016", px=16, level="ship").train.labels.tolist() == [0, 0, 0, 0]


def test_segmentations_are_used_where_they_are(tree):
    full = tree / "FullDataSet"
    (full / "Segmentations").mkdir()
    hulls = np.zeros((30, 40, 3), np.uint8)
    hulls[12:18, 22:28] = hulls[0:3, 0:3] = (255, 97, 0)  # a class's colour, so also elsewhere
    Image.fromarray(hulls).save(full / "Segmentations" / "100000004.png")
    burke = ship_xml(BURKE, (20, 10, 30, 20), (25, 15, 12, 4, 0.7), segmented=1, seg_color="255,97,0")
    annotation(full / "Annotations", burke, "100000004")
    data = hrsc_dataset(tree, 16)
    expected = torch.zeros(16, 16, dtype=torch.bool)
    expected[5:11, 5:11] = True
    assert (data.masks[0] == expected).all() and data.region == "hull or oriented box"  # the other scene has none

    hulls = np.zeros((30, 40), np.uint8)
    hulls[7:9, 5:13] = 1
    Image.fromarray(hulls).save(full / "Segmentations" / "100000005.png")
    annotation(full / "Annotations", ship_xml(NIMITZ, seg_color=1), "100000005")
    data = hrsc_dataset(tree, 16)
    assert data.region == "hull" and data.masks[1].sum() == 16 and data.masks[1][7:9, 4:12].all()


def test_train_and_test_folders_and_lists_that_are_missing(tree, tmp_path):
    add_scene(tmp_path / "copy" / "Train", "100000001", ship_xml(BURKE) + ship_xml(NIMITZ), picture(6))
    add_scene(tmp_path / "copy" / "Test", "100000004", ship_xml(BURKE), picture(7))
    assert hrsc_dataset(tmp_path / "copy", 8).train.labels.tolist() == [1, 0]

    lists = tree / "ImageSets"
    (lists / "trainval.txt").unlink()
    assert len(hrsc_dataset(tree, 8).train) == 3  # train.txt and val.txt
    alone = (lists / "train.txt").read_bytes()
    (lists / "train.txt").write_bytes(alone + b"100000003\r\n")
    assert len(hrsc_dataset(tree, 8).train) == 3  # each ship once
    (lists / "train.txt").write_bytes(alone)
    (lists / "test.txt").unlink()
    data = hrsc_dataset(tree, 8, level="category")
    assert (len(data.train), len(data.test)) == (2, 1)  # train.txt against val.txt
    (lists / "val.txt").write_text("100000001\n")
    with pytest.raises(KitError, match="'100000001' is in the training and in the test split"):
        hrsc_dataset(tree, 8)
    (lists / "val.txt").write_text("../../secret\n")
    with pytest.raises(KitError, match="letters, digits"):
        hrsc_dataset(tree, 8)
    (lists / "val.txt").write_text("")
    with pytest.raises(KitError, match="lists no test image"):
        hrsc_dataset(tree, 8)


def test_damaged_files_are_skipped_named_and_fatal_when_strict(tree, monkeypatch):
    full = tree / "FullDataSet"
    bmp, xml = full / "AllImages" / "100000001.bmp", full / "Annotations" / "100000005.xml"
    bmp.write_bytes(bmp.read_bytes()[:500])
    xml.write_text("<HRSC_Image>")
    Image.fromarray(picture(3, (20, 20))).save(full / "AllImages" / "100000003.bmp")
    for image_id, words in (("100000001", "no readable BMP"), ("100000003", "size 20×20")):
        with pytest.raises(DamagedFile, match=words) as caught:
            read_image(read_annotation(full / "Annotations" / f"{image_id}.xml"))
        assert caught.value.path == full / "AllImages" / f"{image_id}.bmp"
    with pytest.raises(DamagedFile, match="well-formed") as caught:
        read_annotation(xml)
    assert caught.value.path == xml

    lost = r"every training image of 'Arleigh Burke', 'Nimitz', 'submarine' is damaged, first .*100000001\.bmp: is no"
    with pytest.raises(KitError, match="every chosen training image of 'Arleigh Burke', "):
        hrsc_dataset(tree, 16, train_per_class=1)
    with pytest.raises(KitError, match=lost):
        hrsc_dataset(tree, 16)
    Image.fromarray(picture(3)).save(full / "AllImages" / "100000003.bmp")
    xml.write_text(scene_xml("100000005", ship_xml(SUBMARINE)))
    with pytest.raises(KitError, match="every training image of 'Arleigh Burke', 'Nimitz' is damaged"):
        hrsc_dataset(tree, 16)
    annotation(full / "Annotations", ship_xml(NIMITZ) + ship_xml(BURKE) + ship_xml(SUBMARINE), "100000003")
    data = hrsc_dataset(tree, 16)
    assert len(data.skipped) == 1 and data.skipped[0].startswith("FullDataSet/AllImages/100000001.bmp: is no readable")
    assert [data.classes[i] for i in data.train.labels] == ["Nimitz", "Arleigh Burke", "submarine"]
    with pytest.raises(KitError, match=r"100000001\.bmp: is no readable BMP"):
        hrsc_dataset(tree, 16, strict=True)
    monkeypatch.setenv("KIT_STRICT", "1")
    with pytest.raises(KitError, match=r"100000001\.bmp"):
        load("hrsc2016", px=16, folder=tree)


def test_a_tree_of_coarse_labels_says_which_levels_it_allows(tree):
    for path in (tree / "FullDataSet" / "Annotations").glob("*.xml"):
        annotation(path.parent, ship_xml(100000001), path.stem)
    with pytest.raises(KitError, match=r"level 'type' is not possible.*only 'ship'; allowed: annotations that tell"):
        hrsc_dataset(tree, 16)
    assert hrsc_dataset(tree, 16, level="ship").classes == ("ship",)


def test_counts_and_fingerprint(tree):
    data = hrsc_dataset(tree, 16, level="ship", train_per_class=2, test_per_class=1)
    assert (len(data.train), len(data.test), len(data.boxes)) == (2, 1, 1)
    again, other = (hrsc_dataset(tree, 16, level=level) for level in ("ship", "category"))
    assert again.fingerprint == hrsc_dataset(tree, 16, level="ship").fingerprint
    assert len({data.fingerprint, again.fingerprint, other.fingerprint}) == 3
