"""HRSC2016's own files: its class table, its annotations (an XML per image), its splits and its pictures.

Labels have three levels, as the class table has three layers, and an annotation may stop at any of them.
    ship      layer 0: every ship is one class; all that some copies hold
    category  layer 1: aircraft carrier, warcraft, merchant ship, submarine
    type      layer 2: Nimitz, Arleigh Burke, Container, …; the submarine, which has no types, counts as its own type.
              A ship labelled only `ship` or `warcraft` has no type
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args
from xml.etree.ElementTree import Element  # the type only; parsing is defusedxml's

import numpy as np
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring
from PIL import Image

from kit.data.picture import EXTENSIONS, read
from kit.data.tree import folders_in, is_annotated, shown, spelt
from kit.errors import KitError, said

Level = Literal["ship", "category", "type"]
LEVELS = get_args(Level)

# ---- the class table -----------------------------------------------------------------------------------------------


class ShipClass(NamedTuple):
    """A row of HRSC2016's class table: its name, and by level the Class_ID that stands for it there; none where it is
    too coarse a label for that level."""

    name: str
    at: dict[Level, int]


FIRST = 100000000  # a Class_ID is this and the number of its class
KINDS = {  # by a class's number those of its children, and their names; 21 and 23 do not exist
    1: {2: "aircraft carrier", 3: "warcraft", 4: "merchant ship", 27: "submarine"},
    2: {
        5: "Nimitz", 6: "Enterprise", 12: "Kitty Hawk", 13: "Kuznetsov", 16: "Tarawa", 31: "Ford-class",
        32: "Midway-class", 33: "Invincible-class",
    },
    3: {
        7: "Arleigh Burke", 8: "WhidbeyIsland", 9: "Perry", 10: "Sanantonio", 11: "Ticonderoga", 14: "Abukuma",
        15: "Austen", 17: "Blue Ridge", 19: "OXo|--)", 28: "lute", 29: "Medical",
    },
    4: {
        18: "Container", 20: "Car carrier([]==[])", 22: "Hovercraft", 24: "yacht", 25: "CntShip(_|.--.--|_]=",
        26: "Cruise", 30: "Car carrier(======|",
    },
}  # fmt: skip


def _table() -> dict[int, ShipClass]:
    table = {FIRST + 1: ShipClass("ship", {"ship": FIRST + 1})}
    for parent, children in KINDS.items():
        for number, name in children.items():
            own: dict[Level, int] = {"category" if parent == 1 else "type": FIRST + number}
            if number not in KINDS:
                own["type"] = FIRST + number
            table[FIRST + number] = ShipClass(name, table[FIRST + parent].at | own)
    return dict(sorted(table.items()))


CLASSES = _table()  # by Class_ID, 31 of them


# ---- one annotation ------------------------------------------------------------------------------------------------


class DamagedFile(KitError):
    """A file of the tree that cannot be used: `path`, and in one line the `reason`."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason


class Box(NamedTuple):
    """An upright box in pixels: left, upper, right and lower edge; a box over the whole image is (0, 0, W, H)."""

    xmin: float
    ymin: float
    xmax: float
    ymax: float


class OrientedBox(NamedTuple):
    """A turned box: its centre, its long side `w` along (cos angle, sin angle), its short side `h`; pixels and radians.

    x points right and y down. It is drawn independently of the upright box, which is tighter than its own bounding
    rectangle.
    """

    cx: float
    cy: float
    w: float
    h: float
    angle: float

    def corners(self) -> np.ndarray:
        """Returns the corners c ± (w/2)(cos, sin) ± (h/2)(−sin, cos) in order around the box, (4, 2)."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        along, across = (self.w / 2 * cos, self.w / 2 * sin), (-self.h / 2 * sin, self.h / 2 * cos)
        signs = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]])
        return np.array([self.cx, self.cy]) + signs @ [along, across]

    def covers(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Says which points (x, y) lie inside; bool, of the shape that x and y broadcast to."""
        dx, dy, cos, sin = x - self.cx, y - self.cy, math.cos(self.angle), math.sin(self.angle)
        return (np.abs(dx * cos + dy * sin) <= self.w / 2) & (np.abs(dy * cos - dx * sin) <= self.h / 2)


@dataclass(frozen=True)
class Ship:
    """One `HRSC_Object`. `seg_color` is its value in the segmentation, None where not given."""

    class_id: int
    box: Box
    mbox: OrientedBox
    seg_color: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Scene:
    """One annotation: which image of which half of the tree, its (width, height) in pixels, and its ships in the file's
    order, perhaps none.

    The half's folder holds AllImages/<id>.bmp (or .png, .jpg, …) and Annotations/<id>.xml, and perhaps
    Segmentations/<id>.png (or .bmp) and, in generated trees, Shortcuts/<id>.png.
    """

    folder: Path
    image_id: str
    size: tuple[int, int]
    ships: tuple[Ship, ...]


def read_annotation(path: Path, damage: Callable[[DamagedFile], None] | None = None) -> Scene:
    """Reads one HRSC2016 annotation. Where `damage` is told of them, objects that cannot be read are left out.

    White space around values is dropped, and `mbox` is swapped where it is higher than wide, so that `w` is the long
    side. Raises DamagedFile (a KitError, one line with file, field, value and what is allowed) where the file is not
    well-formed, declares a DTD or entities, lacks a field, or holds a value that cannot be: an unknown Class_ID, a
    number that is none, a box that is empty or reaches outside the image.
    """
    try:
        root = fromstring(decoded(path.read_bytes()), forbid_dtd=True)
    except OSError as error:
        raise DamagedFile(path, f"cannot be read ({error.strerror})") from None
    except DefusedXmlException:
        raise DamagedFile(path, "declares a DTD or entities; allowed: neither") from None
    except (ParseError, ValueError, LookupError) as error:  # LookupError: an encoding that does not exist
        raise DamagedFile(path, f"is not well-formed XML ({said(error)})") from None
    if root.tag != "HRSC_Image":
        raise DamagedFile(path, f"root element {root.tag!r} is not allowed; allowed: 'HRSC_Image'")

    image = _Fields(path, root, "")
    image_id = image.text("Img_ID")
    if image_id != path.stem:
        raise image.wrong("Img_ID", image_id, f"{path.stem!r}, the file's own name")
    width, height = (
        int(image.number(name, lambda n: n >= 1 and n == int(n), "a whole number of pixels from 1 up"))
        for name in ("Img_SizeWidth", "Img_SizeHeight")
    )
    objects = root.find("HRSC_Objects")
    if objects is None:
        raise DamagedFile(path, "HRSC_Objects: is missing; allowed: one, empty where there is no ship")
    ships = []
    for i, node in enumerate(objects, 1):
        try:
            if node.tag != "HRSC_Object":
                raise image.wrong("HRSC_Objects", node.tag, "HRSC_Object")
            ships.append(_ship(_Fields(path, node, f"object {i}, "), width, height))
        except DamagedFile as error:
            if damage is None:
                raise
            damage(error)
    return Scene(path.parent.parent, image_id, (width, height), tuple(ships))


def decoded(content: bytes) -> str:
    """Decodes an XML file by the encoding that it declares, as UTF-8 where that is a lie, else as GB 18030, which has
    GB2312 and GBK in it. LookupError for an encoding that is not known; UnicodeDecodeError (a ValueError)."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16")
    declared = re.match(rb"""\s*<\?xml[^>]*?encoding\s*=\s*["']([\w.:-]+)""", content)
    name = declared[1].decode() if declared else "utf-8"
    wide = name.lower().startswith(("utf-16", "utf-32", "ucs"))  # no ASCII could be read in them
    for encoding in ("utf-8" if wide else name, "utf-8"):
        with suppress(UnicodeDecodeError):
            return content.decode(encoding).removeprefix("\ufeff")
    return content.decode("gb18030")


class _Fields:
    """The text fields of one XML element, with errors that say where and what."""

    def __init__(self, path: Path, node: Element, where: str) -> None:
        self.path, self.node, self.where = path, node, where

    def wrong(self, name: str, value: object, allowed: str) -> DamagedFile:
        return DamagedFile(self.path, f"{self.where}{name}: {value!r} is not allowed; allowed: {allowed}")

    def optional(self, name: str) -> str:
        """The field's text without white space around it; '' where it is empty or missing."""
        return (self.node.findtext(name) or "").strip()

    def text(self, name: str) -> str:
        if value := self.optional(name):
            return value
        raise DamagedFile(self.path, f"{self.where}{name}: is missing or empty")

    def number(self, name: str, allow: Callable[[float], bool], allowed: str) -> float:
        value = self.text(name)
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or not allow(number):
            raise self.wrong(name, value, allowed)
        return number


def _ship(fields: _Fields, width: int, height: int) -> Ship:
    class_id = fields.text("Class_ID")
    if not (re.fullmatch(r"\d{9}", class_id, re.ASCII) and int(class_id) in CLASSES):
        raise fields.wrong("Class_ID", class_id, f"one of the {len(CLASSES)} ids of HRSC2016, 100000001 to 100000033")

    across, down = f"a number from 0 to {width}, the image's width", f"a number from 0 to {height}, the image's height"
    xmin, xmax = (fields.number(name, lambda n: 0 <= n <= width, across) for name in ("box_xmin", "box_xmax"))
    ymin, ymax = (fields.number(name, lambda n: 0 <= n <= height, down) for name in ("box_ymin", "box_ymax"))
    if xmax <= xmin:
        raise fields.wrong("box_xmax", fields.text("box_xmax"), f"more than box_xmin, {xmin:g}")
    if ymax <= ymin:
        raise fields.wrong("box_ymax", fields.text("box_ymax"), f"more than box_ymin, {ymin:g}")

    cx, cy, angle = (fields.number(f"mbox_{s}", lambda n: True, "a finite number") for s in ("cx", "cy", "ang"))
    w, h = (fields.number(f"mbox_{s}", lambda n: n > 0, "a number of pixels above 0") for s in ("w", "h"))
    if h > w:
        w, h, angle = h, w, angle + (math.pi / 2 if angle <= 0 else -math.pi / 2)

    color = re.fullmatch(r"\d{1,3}(?:,\d{1,3},\d{1,3})?", fields.optional("seg_color").replace(" ", ""), re.ASCII)
    return Ship(
        int(class_id),
        Box(xmin, ymin, xmax, ymax),
        OrientedBox(cx, cy, w, h, angle),
        seg_color=tuple(map(int, color[0].split(","))) if color else None,
    )


# ---- a tree --------------------------------------------------------------------------------------------------------


def find_hrsc(folder: Path) -> Path | None:
    """Finds the root of the HRSC2016 tree: the folder, or its hrsc2016/, or one folder further down; else None.

    The folder may also be one of the tree's own, FullDataSet, ImageSets, Train or Test.
    """
    named = [child for child in folders_in(folder) if spelt(child.name) == "hrsc2016"]
    below = [deeper for child in (*named, folder) for deeper in folders_in(child)]
    above = [folder.parent] if folder.name in ("FullDataSet", "ImageSets", "Train", "Test") else []
    for root in (folder, *named, *below, *above):
        if is_annotated(root):
            return root
    return None


def open_tree(root: Path) -> tuple[list[Path], list[Path]]:
    """Lists the annotations to train on and those to test on: trainval.txt trains and test.txt tests, or train.txt and
    val.txt where one is missing.

    A copy without ImageSets is split by its folders Train and Test. Raises KitError where the lists are missing or
    empty, name something that is no Img_ID, or share an image.
    """
    full = root / "FullDataSet" / "Annotations"
    if full.parent.is_dir():
        lists = {name: root / "ImageSets" / f"{name}.txt" for name in ("train", "val", "trainval", "test")}
        ids = {name: _image_ids(path) for name, path in lists.items() if path.is_file()}
        if "test" in ids:
            both = dict.fromkeys(ids.get("train", []) + ids.get("val", []))  # some copies' train.txt has val's, too
            chosen = ids.get("trainval") or list(both), ids["test"]
        else:
            chosen = ids.get("train", []), ids.get("val", [])
        train, test = ([full / f"{image_id}.xml" for image_id in half] for half in chosen)
    else:
        train, test = (sorted((root / half / "Annotations").glob("*.xml")) for half in ("Train", "Test"))
    if not train or not test:
        half = "training" if not train else "test"
        raise KitError(
            f"{root} lists no {half} image; allowed: ImageSets/trainval.txt (or train.txt) and test.txt (or val.txt)"
        )
    if shared := {path.stem for path in train} & {path.stem for path in test}:
        raise KitError(f"{root}: image {min(shared)!r} is in the training and in the test split; allowed: one of them")
    return train, test


def _image_ids(path: Path) -> list[str]:
    """Reads a split file's ids, each once; a byte order mark, Windows newlines and empty lines are no matter."""
    try:
        ids = list(dict.fromkeys(path.read_text(encoding="utf-8-sig").split()))
    except (OSError, UnicodeDecodeError) as error:
        raise KitError(f"{path}: cannot be read ({said(error)})") from None
    for image_id in ids:
        if not re.fullmatch(r"[\w-]+", image_id):
            raise KitError(f"{path}: image id {image_id!r} is not allowed; allowed: letters, digits, - and _")
    return ids


def read_image(scene: Scene) -> np.ndarray:
    """Reads a scene's pixels, uint8 (H, W, 3). Raises DamagedFile where they are damaged or of another size."""
    return _read_pixels(_ending(scene.folder / "AllImages", scene.image_id, (".bmp", *EXTENSIONS)), scene.size, False)


def _ending(folder: Path, image_id: str, endings: Sequence[str]) -> Path:
    """Finds the image's file by the first of these endings, in small letters or capitals; without one, the first."""
    paths = [folder / f"{image_id}{case}" for ending in endings for case in (ending, ending.upper())]
    return next((path for path in paths if path.is_file()), paths[0])


def _read_pixels(path: Path, size: tuple[int, int], as_stored: bool) -> np.ndarray:
    """Reads a picture's pixels: as a viewer shows them, in RGB, or as they are stored."""
    try:
        with Image.open(path) as image:
            found = image.size
            if as_stored and found == size:  # before any pixel is decoded
                return np.asarray(image)
        if not as_stored and sorted(found) == sorted(size):
            upright, found, _ = read(path.read_bytes())
            if found == size:
                return np.asarray(upright)
    except FileNotFoundError:
        others = ", ".join(sorted(shown(each.name) for each in path.parent.glob(f"{path.stem}.*")))
        raise DamagedFile(path, f"is missing{others and f', though {others} is there'}") from None
    except Exception as error:  # of one file among many, from any of Pillow's plugins
        raise DamagedFile(path, f"is no readable {path.suffix[1:].upper()} ({said(error)})") from None
    raise DamagedFile(
        path, f"size {found[0]}×{found[1]} is not allowed; allowed: {size[0]}×{size[1]}, its annotation's"
    )


def read_segmentation(scene: Scene) -> np.ndarray | None:
    """Reads the hulls' pixels, uint8 (H, W) or (H, W, 3), or None where the scene has none."""
    path = _ending(scene.folder / "Segmentations", scene.image_id, (".png", ".bmp"))
    if not path.is_file():
        return None
    with_one_value = all(len(ship.seg_color or ()) == 1 for ship in scene.ships)
    return _read_pixels(path, scene.size, with_one_value)


def read_shortcuts(scene: Scene) -> np.ndarray | None:
    """Reads planted marks, uint8 (H, W): at each pixel the number of the mark's ship, or 0. None on real data."""
    path = scene.folder / "Shortcuts" / f"{scene.image_id}.png"
    return _read_pixels(path, scene.size, True) if path.is_file() else None
