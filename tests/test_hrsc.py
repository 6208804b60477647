"""The HRSC2016 loader, proven on trees built by hand: exact pixels, boxes and class ids, and every refusal."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kit.data import hrsc
from kit.data.hrsc import (
    CLASSES,
    Box,
    DamagedFile,
    OrientedBox,
    check_hrsc,
    class_at,
    crop_window,
    cut,
    load_hrsc,
    read_annotation,
)
from kit.errors import KitError

NIMITZ, BURKE, SUBMARINE = 100000005, 100000007, 100000027


def ship_xml(class_id: object = NIMITZ, box=(4, 6, 14, 10), mbox=(9, 8, 10, 4, 0.0), **other: object) -> str:
    fields = dict(Object_ID=1, Class_ID=class_id, Object_NO=1, truncated=0, difficult=0)
    fields |= dict(zip(("box_xmin", "box_ymin", "box_xmax", "box_ymax"), box, strict=True))
    fields |= dict(zip(("mbox_cx", "mbox_cy", "mbox_w", "mbox_h", "mbox_ang"), mbox, strict=True))
    fields |= dict(segmented=0, seg_color="\n      ", header_x=5, header_y=8) | other
    return "<HRSC_Object>" + "".join(f"<{k}>{v}</{k}>\n" for k, v in fields.items() if v is not None) + "</HRSC_Object>"


def scene_xml(image_id: str, ships: str = "", size: tuple[object, object] = (40, 30)) -> str:
    return (
        f"<HRSC_Image>\n<Img_ID>{image_id}</Img_ID>\n<Place_ID>\n  </Place_ID>\n"
        f"<Img_SizeWidth>{size[0]}</Img_SizeWidth><Img_SizeHeight>{size[1]}</Img_SizeHeight><HRSC_Objects>\n{ships}</HRSC_Objects>\n</HRSC_Image>\n"
    )


def annotation(folder: Path, ships: str = "", image_id: str = "100000009", **other: object) -> Path:
    path = folder / f"{image_id}.xml"
    path.write_text(scene_xml(image_id, ships, **other), encoding="utf-8")
    return path


def picture(seed: int, size: tuple[int, int] = (40, 30)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)


def add_scene(place: Path, image_id: str, ships: str, pixels: np.ndarray) -> None:
    for name in ("AllImages", "Annotations"):
        (place / name).mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(place / "AllImages" / f"{image_id}.bmp")
    annotation(place / "Annotations", ships, image_id, size=pixels.shape[1::-1])


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


# ---- the class table -----------------------------------------------------------------------------------------------


def test_the_table_has_31_classes_in_three_layers():
    layers = [sum(row.layer == layer for row in CLASSES.values()) for layer in (0, 1, 2)]
    assert layers == [1, 4, 26] and not {100000021, 100000023} & CLASSES.keys()
    assert all(CLASSES[row.parent].layer == row.layer - 1 for row in CLASSES.values() if row.parent)


def test_levels():
    assert [class_at(BURKE, level) for level in ("ship", "category", "type")] == [100000001, 100000003, BURKE]
    assert [class_at(SUBMARINE, level) for level in ("ship", "category", "type")] == [100000001, SUBMARINE, SUBMARINE]
    assert class_at(100000003, "type") is None and class_at(100000001, "category") is None


# ---- annotations ---------------------------------------------------------------------------------------------------


def test_an_annotation_is_read_whatever_its_white_space_and_newlines(tmp_path):
    path = annotation(tmp_path, ship_xml(" \n100000013\n ", difficult=1, header_x="\n"))
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    scene = read_annotation(path)
    assert (scene.image_id, scene.size, len(scene.ships)) == ("100000009", (40, 30), 1)
    ship = scene.ships[0]
    assert (ship.class_id, ship.box, ship.mbox) == (100000013, Box(4, 6, 14, 10), OrientedBox(9, 8, 10, 4, 0.0))
    assert ship.difficult and not ship.truncated and ship.header is None and ship.seg_color is None


def test_a_scene_without_ships_is_legal(tmp_path):
    assert read_annotation(annotation(tmp_path)).ships == ()


def test_ends_of_the_published_example():
    """Annotation 100000006 of the official set: its oriented box runs from bow to stern as measured there."""
    ends = OrientedBox(341.2143, 443.3325, 778.4297, 178.2595, -1.122944).ends()
    assert np.allclose(ends, [(172.6, 794.3), (509.8, 92.4)], atol=0.2)


def test_corners_bound_the_covered_points():
    box = OrientedBox(20, 15, 16, 6, 0.5)
    corners = box.corners()
    assert np.allclose(corners.mean(0), (20, 15))
    assert np.allclose(np.linalg.norm(np.diff(corners, axis=0), axis=1), (6, 16, 6))
    inside, outside = (20 + (corners - (20, 15)) * s for s in (0.99, 1.01))
    assert box.covers(inside[:, 0], inside[:, 1] - 5).all() and not box.covers(outside[:, 0], outside[:, 1] - 5).any()


def test_sides_are_swapped_where_the_box_is_higher_than_wide(tmp_path):
    swapped = read_annotation(annotation(tmp_path, ship_xml(mbox=(20, 15, 4, 10, 0.3)))).ships[0].mbox
    assert (swapped.w, swapped.h) == (10, 4) and abs(swapped.angle) <= math.pi / 2
    given = {tuple(corner) for corner in OrientedBox(20, 15, 4, 10, 0.3).corners().round(9)}
    assert given == {tuple(corner) for corner in swapped.corners().round(9)}


@pytest.mark.parametrize(
    ("ships", "words"),
    [
        (ship_xml(100000021), ["object 1", "Class_ID", "'100000021'", "31 ids"]),
        (ship_xml("boat"), ["Class_ID", "'boat'"]),
        (ship_xml(None), ["Class_ID", "missing"]),
        (ship_xml(box_xmax=None), ["box_xmax", "missing"]),
        (ship_xml(mbox_w=None), ["mbox_w", "missing"]),
        (ship_xml() + ship_xml(box=(4, 6, 41, 10)), ["object 2", "box_xmax", "'41'", "0 to 40", "width"]),
        (ship_xml(box=(4, -1, 14, 10)), ["box_ymin", "'-1'", "0 to 30", "height"]),
        (ship_xml(box=(14, 6, 14, 10)), ["box_xmax", "'14'", "more than box_xmin, 14"]),
        (ship_xml(box=("nan", 6, 14, 10)), ["box_xmin", "'nan'"]),
        (ship_xml(mbox=(9, 8, "long", 4, 0)), ["mbox_w", "'long'", "above 0"]),
        (ship_xml(mbox=(9, 8, 10, 0, 0)), ["mbox_h", "'0'", "above 0"]),
        (ship_xml(mbox=(9, 8, 10, 4, "inf")), ["mbox_ang", "'inf'", "finite"]),
        (ship_xml(difficult="yes"), ["difficult", "'yes'", "0, 1"]),
        ("<HRSC_Object>", ["well-formed"]),
    ],
)
def test_wrong_annotations_are_named_in_one_line(tmp_path, ships, words):
    path = annotation(tmp_path, ships)
    with pytest.raises(DamagedFile) as caught:
        read_annotation(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and isinstance(caught.value, KitError)
    assert all(word in message for word in words), message


def test_sizes_ids_and_roots_are_checked(tmp_path):
    for size in ((0, 30), ("wide", 30), (40.5, 30)):
        with pytest.raises(DamagedFile, match="Img_SizeWidth"):
            read_annotation(annotation(tmp_path, size=size))
    path = annotation(tmp_path)
    with pytest.raises(DamagedFile, match="Img_ID: '100000009' is not allowed; allowed: 'other'"):
        read_annotation(path.rename(tmp_path / "other.xml"))
    (tmp_path / "svg.xml").write_text("<svg/>")
    with pytest.raises(DamagedFile, match="HRSC_Image"):
        read_annotation(tmp_path / "svg.xml")
    with pytest.raises(DamagedFile, match="cannot be read"):
        read_annotation(tmp_path / "none.xml")


def test_entities_are_refused(tmp_path):
    path = tmp_path / "100000009.xml"
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>'
    path.write_text(bomb + scene_xml("100000009").replace("100000009", "&b;"))
    with pytest.raises(DamagedFile, match="DTD or entities"):
        read_annotation(path)
    path.write_text('<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]>' + scene_xml("&a;"))
    with pytest.raises(DamagedFile, match="DTD or entities"):
        read_annotation(path)


# ---- crops ---------------------------------------------------------------------------------------------------------


def test_a_crop_is_a_square_with_context():
    assert crop_window(Box(4, 6, 14, 10)) == (1, 0, 16)
    assert crop_window(Box(0, 0, 40, 30), context=1.0) == (0, -5, 40)


def test_a_cut_continues_the_image_by_its_mirror_image():
    pixels = picture(0, (5, 4))
    padded = np.pad(pixels, ((3, 9), (2, 8), (0, 0)), mode="reflect")  # (16, 15, 3)
    assert (cut(pixels, hrsc.Window(-2, -3, 15)) == padded[:15, :15]).all()


# ---- the dataset ---------------------------------------------------------------------------------------------------


def test_crops_labels_and_boxes_are_exact(tree):
    data = load_hrsc(px=16, folder=tree)
    assert data.classes == ("Nimitz", "Arleigh Burke", "submarine")
    assert (data.role, data.source, data.px, data.flip) == ("hrsc2016", "real", 16, True)
    assert data.train.labels.tolist() == [0, 1, 2] and data.test.labels.tolist() == [1, 0]
    pixels = data.train.images.take(torch.arange(3)).numpy()  # (3, 16, 16, 3); every crop's side is 16, so no resizing
    assert (pixels[0] == picture(1)[0:16, 1:17]).all()
    assert (pixels[1] == picture(1)[7:23, 17:33]).all()
    assert (pixels[2] == picture(3)[0:16, 1:17]).all()
    assert data.boxes.tolist() == [[3, 3, 13, 13], [3, 6, 13, 10]]
    assert data.masks.shape == data.shortcuts.shape == (2, 16, 16) and data.masks.dtype == torch.bool
    assert not data.shortcuts.any() and not data.has_segmentation
    upright = torch.zeros(16, 16, dtype=torch.bool)
    upright[6:10, 3:13] = True
    assert (data.masks[1] == upright).all()
    assert data.skipped == ()
    assert data.left_out == (
        "1 training ships: labelled 'warcraft', which is no type",
        "1 test ships: no training ship is a 'Container'",
    )


def test_the_other_levels_and_the_folder_above(tree, monkeypatch):
    monkeypatch.setenv("KIT_DATA", str(tree.parent))
    data = load_hrsc(px=16, level="category")
    assert data.classes == ("aircraft carrier", "warcraft", "submarine")
    assert data.train.labels.tolist() == [0, 1, 2, 1] and data.test.labels.tolist() == [1, 0]
    assert load_hrsc(px=16, level="ship").train.labels.tolist() == [0, 0, 0, 0]


def test_whole_images_take_their_largest_ship(tree):
    data = load_hrsc(px=40, folder=tree, task="image")
    assert [data.classes[i] for i in data.train.labels] == ["Arleigh Burke", "submarine"]
    assert (data.train.images.pixels[0, 5:35].numpy() == picture(1)).all()
    assert data.boxes[0].tolist() == [20, 15, 30, 25]


def test_segmentations_are_used_where_they_are(tree):
    full = tree / "FullDataSet"
    (full / "Segmentations").mkdir()
    hulls = np.zeros((30, 40, 3), np.uint8)
    hulls[12:18, 22:28] = hulls[0:3, 0:3] = (255, 97, 0)  # a class's colour, so also elsewhere
    Image.fromarray(hulls).save(full / "Segmentations" / "100000004.png")
    burke = ship_xml(BURKE, (20, 10, 30, 20), (25, 15, 12, 4, 0.7), segmented=1, seg_color="255,97,0")
    annotation(full / "Annotations", burke, "100000004")
    data = load_hrsc(px=16, folder=tree)
    expected = torch.zeros(16, 16, dtype=torch.bool)
    expected[5:11, 5:11] = True
    assert (data.masks[0] == expected).all() and not data.has_segmentation  # the other scene has none

    hulls = np.zeros((30, 40), np.uint8)
    hulls[7:9, 5:13] = 1
    Image.fromarray(hulls).save(full / "Segmentations" / "100000005.png")
    annotation(full / "Annotations", ship_xml(NIMITZ, seg_color=1), "100000005")
    data = load_hrsc(px=16, folder=tree)
    assert data.has_segmentation and data.masks[1].sum() == 16 and data.masks[1][7:9, 4:12].all()


def test_train_and_test_folders_and_lists_that_are_missing(tree, tmp_path):
    add_scene(tmp_path / "copy" / "Train", "100000001", ship_xml(BURKE) + ship_xml(NIMITZ), picture(6))
    add_scene(tmp_path / "copy" / "Test", "100000004", ship_xml(BURKE), picture(7))
    assert load_hrsc(px=8, folder=tmp_path / "copy", source="real").train.labels.tolist() == [1, 0]

    lists = tree / "ImageSets"
    (lists / "trainval.txt").unlink()
    assert len(load_hrsc(px=8, folder=tree).train) == 3  # train.txt and val.txt
    (lists / "test.txt").unlink()
    data = load_hrsc(px=8, folder=tree, level="category")
    assert (len(data.train), len(data.test)) == (2, 1)  # train.txt against val.txt
    (lists / "val.txt").write_text("100000001\n")
    with pytest.raises(KitError, match="'100000001' is in the training and in the test split"):
        load_hrsc(px=8, folder=tree)
    (lists / "val.txt").write_text("../../secret\n")
    with pytest.raises(KitError, match="letters, digits"):
        load_hrsc(px=8, folder=tree)
    (lists / "val.txt").write_text("")
    with pytest.raises(KitError, match="lists no test image"):
        load_hrsc(px=8, folder=tree)


def test_damaged_files_are_skipped_named_and_fatal_when_strict(tree, monkeypatch):
    full = tree / "FullDataSet"
    bmp, xml = full / "AllImages" / "100000001.bmp", full / "Annotations" / "100000005.xml"
    bmp.write_bytes(bmp.read_bytes()[:500])
    xml.write_text("<HRSC_Image>")
    Image.fromarray(picture(3, (20, 20))).save(full / "AllImages" / "100000003.bmp")
    expected = [(bmp, "no readable BMP"), (full / "AllImages" / "100000003.bmp", "size 20×20"), (xml, "well-formed")]
    found = check_hrsc(tree.parent)
    assert [path for path, _ in found] == [path for path, _ in expected]
    assert all(words in reason for (_, reason), (_, words) in zip(found, expected, strict=True))

    with pytest.raises(KitError, match="every training image is damaged, first "):
        load_hrsc(px=16, folder=tree)
    Image.fromarray(picture(3)).save(full / "AllImages" / "100000003.bmp")
    xml.write_text(scene_xml("100000005", ship_xml(SUBMARINE)))
    data = load_hrsc(px=16, folder=tree)
    assert len(data.skipped) == 1 and data.skipped[0].startswith("FullDataSet/AllImages/100000001.bmp: is no readable")
    assert [data.classes[i] for i in data.train.labels] == ["submarine"]
    with pytest.raises(KitError, match=r"100000001\.bmp: is no readable BMP"):
        load_hrsc(px=16, folder=tree, strict=True)
    monkeypatch.setenv("KIT_STRICT", "1")
    with pytest.raises(KitError, match=r"100000001\.bmp"):
        load_hrsc(px=16, folder=tree)


def test_a_tree_of_coarse_labels_says_which_levels_it_allows(tree):
    for path in (tree / "FullDataSet" / "Annotations").glob("*.xml"):
        annotation(path.parent, ship_xml(100000001), path.stem)
    with pytest.raises(KitError, match=r"level 'type' is not possible.*allowed: ship$"):
        load_hrsc(px=16, folder=tree)
    assert load_hrsc(px=16, folder=tree, level="ship").classes == ("ship",)


def test_options_and_a_missing_tree(tmp_path, tree, monkeypatch):
    monkeypatch.delenv("KIT_DATA", raising=False)
    for wrong in (dict(level="class"), dict(task="box"), dict(source="web"), dict(px=0), dict(train_per_class=0)):
        with pytest.raises(KitError, match="allowed: "):
            load_hrsc(**dict(px=16, folder=tree) | wrong)
    for folder in (tmp_path / "none", None):
        with pytest.raises(KitError, match="no HRSC2016 tree in .*FullDataSet"):
            load_hrsc(px=16, folder=folder, source="real")


def test_counts_and_fingerprint(tree):
    data = load_hrsc(px=16, folder=tree, level="ship", train_per_class=2, test_per_class=1)
    assert (len(data.train), len(data.test), len(data.boxes)) == (2, 1, 1)
    again, other = (load_hrsc(px=16, folder=tree, level=level) for level in ("ship", "category"))
    assert again.fingerprint == load_hrsc(px=16, folder=tree, level="ship").fingerprint
    assert len({data.fingerprint, again.fingerprint, other.fingerprint}) == 3
