"""HRSC2016's class table and annotations, read from files built by hand: exact boxes and ids, and every refusal."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hrsc_trees import BURKE, SUBMARINE, annotation, ends, scene_xml, ship_xml

from kit.data.hrsc.format import CLASSES, LEVELS, Box, DamagedFile, OrientedBox, read_annotation
from kit.errors import KitError


def test_the_table_has_31_classes_in_three_layers():
    reached = [max(LEVELS.index(level) for level in row.at) for row in CLASSES.values()]
    assert [reached.count(level) for level in (0, 1, 2)] == [1, 3, 27]  # the submarine is its own type
    assert not {100000021, 100000023} & CLASSES.keys() and list(CLASSES) == sorted(CLASSES)
    assert all(row.at["ship"] == 100000001 for row in CLASSES.values())


def test_levels():
    assert CLASSES[BURKE].at == {"ship": 100000001, "category": 100000003, "type": BURKE}
    assert CLASSES[SUBMARINE].at == {"ship": 100000001, "category": SUBMARINE, "type": SUBMARINE}
    assert CLASSES[100000003].at == {"ship": 100000001, "category": 100000003}
    assert CLASSES[100000001].at == {"ship": 100000001}


def test_an_annotation_is_read_whatever_its_white_space_and_newlines(tmp_path):
    path = annotation(tmp_path, ship_xml(" \n100000013\n "))
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    scene = read_annotation(path)
    assert (scene.image_id, scene.size, len(scene.ships)) == ("100000009", (40, 30), 1)
    ship = scene.ships[0]
    assert (ship.class_id, ship.box, ship.mbox) == (100000013, Box(4, 6, 14, 10), OrientedBox(9, 8, 10, 4, 0.0))
    assert ship.seg_color is None


def test_fields_that_nothing_reads_cost_no_ship(tmp_path):
    (plain,) = read_annotation(annotation(tmp_path, ship_xml())).ships
    odd = ship_xml(difficult=2, truncated="no", header_x="bow", header_y="inf")
    assert read_annotation(annotation(tmp_path, odd)).ships == (plain,)


def test_a_scene_without_ships_is_legal(tmp_path):
    assert read_annotation(annotation(tmp_path)).ships == ()


def test_ends_of_the_published_example():
    """Annotation 100000006 of the official set: its oriented box runs from bow to stern as measured there."""
    box = OrientedBox(341.2143, 443.3325, 778.4297, 178.2595, -1.122944)
    assert np.allclose(ends(box), [(172.6, 794.3), (509.8, 92.4)], atol=0.2)


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
