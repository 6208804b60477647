"""The hrsc2016 role: ships from above, read from HRSC2016's own files (24-bit BMPs and one XML per image).

The paper distils on HRSC2016 but does not say what is classified, so the task is a *reading*, made of two options:

`level`, how fine the labels are. The data set's class tree has three layers, and an annotation may stop at any of them.
    ship      layer 0: every ship is one class; all that some copies hold
    category  layer 1: aircraft carrier, warcraft, merchant ship, submarine
    type      layer 2: Nimitz, Arleigh Burke, Container, …; the submarine, which has no types, counts as its own type.
              A ship labelled only `ship` or `warcraft` has no type: it is left out at this level
`task`, what one example is.
    crop      one ship: a square around its upright box, 1.6 times as wide as the box's longer side
    image     one scene: a square around the whole image, labelled by its largest ship

The defaults, `type` and `crop`, give the most classes and examples. Where a square reaches over the image's border, the
image is continued by its mirror image. Boxes and hull masks of the test split are kept, so heat maps can be scored.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple
from xml.etree.ElementTree import Element  # the type only; parsing is defusedxml's

import numpy as np
import torch
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring
from PIL import Image
from torch import Tensor

from kit.data.base import Dataset, Split, TensorImages
from kit.data.memory import fingerprint, first_per_class
from kit.errors import KitError, not_one_of

Level = Literal["ship", "category", "type"]
Task = Literal["crop", "image"]
LEVELS, TASKS, SOURCES = ("ship", "category", "type"), ("crop", "image"), ("auto", "embedded", "real")

CONTEXT = 1.6  # a crop's side over the longer side of its ship's upright box
STAND_IN_MARK = "stand-in.json"  # lies in the root of a generated tree, so that it is never taken for the real one


# ---- the class table -----------------------------------------------------------------------------------------------


class ShipClass(NamedTuple):
    """A row of HRSC2016's class table. `parent` is None for the root; `layer` is 0, 1 or 2."""

    class_id: int
    parent: int | None
    layer: int
    name: str


def _class_table() -> dict[int, ShipClass]:
    """The 31 classes of sysdata.xml by Class_ID; 100000021 and 100000023 do not exist."""
    ship, carrier, warcraft, merchant = (100000001, 100000002, 100000003, 100000004)
    rows = [
        (1, None, 0, "ship"),
        (2, ship, 1, "aircraft carrier"),
        (3, ship, 1, "warcraft"),
        (4, ship, 1, "merchant ship"),
        (5, carrier, 2, "Nimitz"),
        (6, carrier, 2, "Enterprise"),
        (7, warcraft, 2, "Arleigh Burke"),
        (8, warcraft, 2, "WhidbeyIsland"),
        (9, warcraft, 2, "Perry"),
        (10, warcraft, 2, "Sanantonio"),
        (11, warcraft, 2, "Ticonderoga"),
        (12, carrier, 2, "Kitty Hawk"),
        (13, carrier, 2, "Kuznetsov"),
        (14, warcraft, 2, "Abukuma"),
        (15, warcraft, 2, "Austen"),
        (16, carrier, 2, "Tarawa"),
        (17, warcraft, 2, "Blue Ridge"),
        (18, merchant, 2, "Container"),
        (19, warcraft, 2, "OXo|--)"),
        (20, merchant, 2, "Car carrier([]==[])"),
        (22, merchant, 2, "Hovercraft"),
        (24, merchant, 2, "yacht"),
        (25, merchant, 2, "CntShip(_|.--.--|_]="),
        (26, merchant, 2, "Cruise"),
        (27, ship, 1, "submarine"),
        (28, warcraft, 2, "lute"),
        (29, warcraft, 2, "Medical"),
        (30, merchant, 2, "Car carrier(======|"),
        (31, carrier, 2, "Ford-class"),
        (32, carrier, 2, "Midway-class"),
        (33, carrier, 2, "Invincible-class"),
    ]
    return {100000000 + n: ShipClass(100000000 + n, parent, layer, name) for n, parent, layer, name in rows}


CLASSES = _class_table()
_PARENTS = {row.parent for row in CLASSES.values()}


def class_at(class_id: int, level: Level) -> int | None:
    """The Class_ID that stands for `class_id` at a level, or None where the label is too coarse for it."""
    row = CLASSES[class_id]
    if level == "type":
        return class_id if class_id not in _PARENTS else None
    wanted = LEVELS.index(level)
    while row.layer > wanted:
        row = CLASSES[row.parent]
    return row.class_id if row.layer == wanted else None


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
        """The corners c ± (w/2)(cos, sin) ± (h/2)(−sin, cos) in order around the box, (4, 2)."""
        along = self.w / 2 * np.array([math.cos(self.angle), math.sin(self.angle)])
        across = self.h / 2 * np.array([-math.sin(self.angle), math.cos(self.angle)])
        return np.array([self.cx, self.cy]) + np.stack(
            [along + across, along - across, -along - across, across - along]
        )

    def ends(self) -> np.ndarray:
        """The two ends of the long axis, c − (w/2)(cos, sin) and c + (w/2)(cos, sin), (2, 2)."""
        along = self.w / 2 * np.array([math.cos(self.angle), math.sin(self.angle)])
        return np.array([self.cx, self.cy]) + np.stack([-along, along])

    def covers(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Which points (x, y) lie inside; bool, of the shape that x and y broadcast to."""
        dx, dy, cos, sin = x - self.cx, y - self.cy, math.cos(self.angle), math.sin(self.angle)
        return (np.abs(dx * cos + dy * sin) <= self.w / 2) & (np.abs(dy * cos - dx * sin) <= self.h / 2)


@dataclass(frozen=True)
class Ship:
    """One `HRSC_Object`. `header` is the bow, `seg_color` its value in the segmentation; None where not given."""

    class_id: int
    box: Box
    mbox: OrientedBox
    difficult: bool = False
    truncated: bool = False
    header: tuple[float, float] | None = None
    seg_color: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Scene:
    """One annotation: which image, its (width, height) in pixels, and its ships in the file's order, perhaps none."""

    image_id: str
    size: tuple[int, int]
    ships: tuple[Ship, ...]


def read_annotation(path: str | Path) -> Scene:
    """Read one HRSC2016 annotation.

    White space around values is dropped, and `mbox` is swapped where it is higher than wide, so that `w` is the long
    side. Raises DamagedFile (a KitError, one line with file, field, value and what is allowed) where the file is not
    well-formed, declares a DTD or entities, lacks a field, or holds a value that cannot be: an unknown Class_ID, a
    number that is none, a box that is empty or reaches outside the image.
    """
    path = Path(path)
    try:
        root = fromstring(path.read_bytes(), forbid_dtd=True)
    except OSError as error:
        raise DamagedFile(path, f"cannot be read ({error.strerror})") from None
    except DefusedXmlException:
        raise DamagedFile(path, "declares a DTD or entities; allowed: neither") from None
    except (ParseError, ValueError, LookupError) as error:  # LookupError: an encoding that does not exist
        raise DamagedFile(path, f"is not well-formed XML ({_one_line(error)})") from None
    if root.tag != "HRSC_Image":
        raise DamagedFile(path, f"root element {root.tag!r} is not allowed; allowed: 'HRSC_Image'")

    image = _Fields(path, root, "")
    image_id = image.text("Img_ID")
    if image_id != path.stem:
        raise image.wrong("Img_ID", image_id, f"{path.stem!r}, the file's own name")
    width = image.number("Img_SizeWidth", lambda n: n >= 1 and n == int(n), "a whole number of pixels from 1 up")
    height = image.number("Img_SizeHeight", lambda n: n >= 1 and n == int(n), "a whole number of pixels from 1 up")
    objects = root.findall("HRSC_Objects/HRSC_Object")
    ships = tuple(_ship(_Fields(path, node, f"object {i}, "), width, height) for i, node in enumerate(objects, 1))
    return Scene(image_id, (int(width), int(height)), ships)


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

    def flag(self, name: str) -> bool:
        value = self.optional(name)
        if value not in ("", "0", "1"):
            raise self.wrong(name, value, "0, 1 or empty")
        return value == "1"


def _ship(fields: _Fields, width: float, height: float) -> Ship:
    class_id = fields.text("Class_ID")
    if not (re.fullmatch(r"\d{9}", class_id, re.ASCII) and int(class_id) in CLASSES):
        raise fields.wrong("Class_ID", class_id, f"one of the {len(CLASSES)} ids of HRSC2016, 100000001 to 100000033")

    across, down = (
        f"a number from 0 to {width:g}, the image's width",
        f"a number from 0 to {height:g}, the image's height",
    )
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

    header = None
    if fields.optional("header_x") and fields.optional("header_y"):
        header = tuple(fields.number(name, lambda n: True, "a finite number") for name in ("header_x", "header_y"))
    color = re.fullmatch(r"\d{1,3}(?:,\d{1,3},\d{1,3})?", fields.optional("seg_color").replace(" ", ""), re.ASCII)
    return Ship(
        int(class_id),
        Box(xmin, ymin, xmax, ymax),
        OrientedBox(cx, cy, w, h, angle),
        difficult=fields.flag("difficult"),
        truncated=fields.flag("truncated"),
        header=header,
        seg_color=tuple(map(int, color[0].split(","))) if color else None,
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


# ---- a tree --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tree:
    """An HRSC2016 tree on disk and its splits, as (folder, Img_ID) pairs.

    Each folder holds AllImages/<id>.bmp and Annotations/<id>.xml, and perhaps Segmentations/<id>.png (or .bmp) and, in
    generated trees, Shortcuts/<id>.png. Published as FullDataSet with ImageSets/*.txt; also read as Train and Test.
    """

    root: Path
    train: tuple[tuple[Path, str], ...]
    test: tuple[tuple[Path, str], ...]

    def __iter__(self) -> Iterator[tuple[Path, str]]:
        yield from self.train
        yield from self.test


def find_tree(folder: str | Path | None) -> Path | None:
    """The root of the HRSC2016 tree at `folder`, or in its hrsc2016/ or HRSC2016/; None where there is none.

    Without a folder, the one that the environment variable KIT_DATA names.
    """
    folder = folder or os.environ.get("KIT_DATA")
    if not folder:
        return None
    for root in (Path(folder), Path(folder) / "hrsc2016", Path(folder) / "HRSC2016"):
        published = (root / "FullDataSet" / "Annotations").is_dir() and (root / "ImageSets").is_dir()
        if published or all((root / half / "Annotations").is_dir() for half in ("Train", "Test")):
            return root
    return None


def open_tree(root: Path) -> Tree:
    """The tree's splits: train on trainval.txt and test on test.txt, or on train.txt and val.txt where one is missing.

    A copy without ImageSets is split by its folders Train and Test. Raises KitError where the lists are missing or
    empty, name something that is no Img_ID, or share an image.
    """
    full = root / "FullDataSet"
    if full.is_dir():
        lists = {name: root / "ImageSets" / f"{name}.txt" for name in ("train", "val", "trainval", "test")}
        ids = {name: _image_ids(path) for name, path in lists.items() if path.is_file()}
        if "test" in ids:
            train_ids, test_ids = ids.get("trainval") or ids.get("train", []) + ids.get("val", []), ids["test"]
        else:
            train_ids, test_ids = ids.get("train", []), ids.get("val", [])
        train, test = ([(full, image_id) for image_id in half] for half in (train_ids, test_ids))
    else:
        halves = (root / "Train", root / "Test")
        train, test = ([(h, path.stem) for path in sorted((h / "Annotations").glob("*.xml"))] for h in halves)
    if not train or not test:
        half = "training" if not train else "test"
        raise KitError(
            f"{root} lists no {half} image; allowed: ImageSets/trainval.txt (or train.txt) and test.txt (or val.txt)"
        )
    if both := {image_id for _, image_id in train} & {image_id for _, image_id in test}:
        raise KitError(f"{root}: image {min(both)!r} is in the training and in the test split; allowed: one of them")
    return Tree(root, tuple(train), tuple(test))


def _image_ids(path: Path) -> list[str]:
    """A split file's ids, one a line, each once; a byte order mark, Windows newlines and empty lines are no matter."""
    try:
        ids = list(dict.fromkeys(path.read_text(encoding="utf-8-sig").split()))
    except (OSError, UnicodeDecodeError) as error:
        raise KitError(f"{path}: cannot be read ({_one_line(error)})") from None
    for image_id in ids:
        if not re.fullmatch(r"[\w-]+", image_id):
            raise KitError(f"{path}: image id {image_id!r} is not allowed; allowed: letters, digits, - and _")
    return ids


def read_image(folder: Path, scene: Scene) -> np.ndarray:
    """A scene's pixels, uint8 (H, W, 3). Raises DamagedFile where the BMP is damaged or not of the scene's size."""
    return _read_pixels(folder / "AllImages" / f"{scene.image_id}.bmp", scene.size, "RGB", ("BMP",))


def _read_pixels(path: Path, size: tuple[int, int], mode: str | None, formats: Sequence[str]) -> np.ndarray:
    try:
        with Image.open(path, formats=formats) as image:
            if image.size == size:  # before any pixel is decoded
                return np.asarray(image.convert(mode) if mode else image)
            found = image.size
    except FileNotFoundError:
        raise DamagedFile(path, "is missing") from None
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise DamagedFile(path, f"is no readable {' or '.join(formats)} ({_one_line(error)[:100]})") from None
    raise DamagedFile(
        path, f"size {found[0]}×{found[1]} is not allowed; allowed: {size[0]}×{size[1]}, its annotation's"
    )


def check_hrsc(folder: str | Path) -> list[tuple[Path, str]]:
    """Every damaged file of the tree at (or in) `folder`, with the reason; `len()` of it is their number.

    Opens every annotation and decodes every image and mask that the splits name. Raises KitError where no tree is.
    """
    damaged: list[tuple[Path, str]] = []
    for place, image_id in open_tree(_required_tree(folder)):
        try:
            scene = read_annotation(place / "Annotations" / f"{image_id}.xml")
        except DamagedFile as error:
            damaged.append((error.path, error.reason))
            continue
        for read in (read_image, _read_segmentation, _read_shortcuts):
            try:
                read(place, scene)
            except DamagedFile as error:
                damaged.append((error.path, error.reason))
    return damaged


def _required_tree(folder: str | Path | None) -> Path:
    if (root := find_tree(folder)) is not None:
        return root
    where = folder or os.environ.get("KIT_DATA") or "KIT_DATA, which is not set"
    raise KitError(
        f"no HRSC2016 tree in {where}; allowed: a folder, perhaps named hrsc2016, "
        "with FullDataSet/{AllImages,Annotations} and ImageSets"
    )


# ---- what a heat map is scored against -----------------------------------------------------------------------------


def _read_segmentation(folder: Path, scene: Scene) -> np.ndarray | None:
    """The hulls' pixels, uint8 (H, W) or (H, W, 3), or None where the scene has none."""
    for suffix, kind in ((".png", "PNG"), (".bmp", "BMP")):
        path = folder / "Segmentations" / f"{scene.image_id}{suffix}"
        if path.is_file():
            with_one_value = all(len(ship.seg_color or ()) == 1 for ship in scene.ships)
            return _read_pixels(path, scene.size, None if with_one_value else "RGB", (kind,))
    return None


def _read_shortcuts(folder: Path, scene: Scene) -> np.ndarray | None:
    """Planted marks, uint8 (H, W): at each pixel the number of the ship a mark is for, or 0. None on real data."""
    path = folder / "Shortcuts" / f"{scene.image_id}.png"
    return _read_pixels(path, scene.size, "L", ("PNG",)) if path.is_file() else None


def hull_mask(scene: Scene, ship: Ship, segmentation: np.ndarray | None) -> tuple[np.ndarray, bool]:
    """The ship's pixels, bool (H, W), and whether they come from the segmentation; else they are its oriented box."""
    width, height = scene.size
    if segmentation is not None and ship.seg_color is not None:
        if segmentation.ndim == 2 and len(ship.seg_color) == 1:
            mask = segmentation == ship.seg_color[0]
        elif segmentation.ndim == 3 and len(ship.seg_color) == 3:
            mask = (segmentation == np.array(ship.seg_color)).all(-1)
        else:
            mask = np.zeros((height, width), dtype=bool)
        xmin, ymin, xmax, ymax = ship.box  # colours may be a class's, and so be shared by ships
        mask[: math.floor(ymin)] = mask[math.ceil(ymax) :] = False
        mask[:, : math.floor(xmin)] = mask[:, math.ceil(xmax) :] = False
        if mask.any():
            return mask, True
    return ship.mbox.covers(np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5), False


# ---- crops ---------------------------------------------------------------------------------------------------------


class Window(NamedTuple):
    """A square of whole pixels; it may reach over the image's border."""

    x: int
    y: int
    side: int


def crop_window(box: Box, context: float = CONTEXT) -> Window:
    """The square around a box's centre, `context` times as wide as the box's longer side, in whole pixels."""
    side = max(1, round(context * max(box.xmax - box.xmin, box.ymax - box.ymin)))
    return Window(round((box.xmin + box.xmax - side) / 2), round((box.ymin + box.ymax - side) / 2), side)


def cut(pixels: np.ndarray, window: Window) -> np.ndarray:
    """The window's pixels, (side, side, …); over the border the image is continued by its mirror image."""
    rows, columns = (
        _mirrored(np.arange(start, start + window.side), length)
        for start, length in zip((window.y, window.x), pixels.shape, strict=False)
    )
    return pixels[rows[:, None], columns]


def _mirrored(index: np.ndarray, length: int) -> np.ndarray:
    """Indices into 0 … length − 1; beyond an end they run back: −1 is 1, −2 is 2."""
    period = max(1, 2 * (length - 1))
    index = index % period
    return np.minimum(index, period - index)


def cut_mask(mask: np.ndarray, window: Window, px: int, least: float = 0.5, mirrored: bool = False) -> np.ndarray:
    """The window of a mask, bool (px, px): pixels covered by at least the share `least`.

    Nothing lies over the border unless `mirrored`, as the image is. A mask too thin keeps the pixels it covers most.
    """
    patch = cut(mask, window)  # (side, side)
    if not mirrored:
        rows, columns = (np.arange(start, start + window.side) for start in (window.y, window.x))
        height, width = mask.shape
        patch = patch & ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
    cover = _resized(patch.astype(np.uint8) * 255, px, Image.Resampling.BOX)  # (px, px)
    return cover >= max(1, min(round(least * 255), int(cover.max())))


def _resized(pixels: np.ndarray, px: int, how: Image.Resampling) -> np.ndarray:
    return pixels if len(pixels) == px else np.asarray(Image.fromarray(pixels).resize((px, px), how))


# ---- the role ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class HrscDataset(Dataset):
    """The hrsc2016 role, with what a heat map on the test split is scored against. N is the number of test images."""

    level: Level
    task: Task
    boxes: Tensor  # (N, 4) float: the labelled ship's upright box in the crop's pixels, xmin, ymin, xmax, ymax
    masks: Tensor  # (N, px, px) bool: its hull
    shortcuts: Tensor  # (N, px, px) bool: the planted marks in view; all False on real data
    has_segmentation: bool  # whether every mask is a hull from a segmentation, and none a filled oriented box
    left_out: Sequence[str] = field(default=())  # ships without a label at this level or unknown in training, counted


@dataclass(frozen=True)
class _Example:
    """What becomes one image: a ship of a scene, and the square to cut out."""

    folder: Path
    scene: Scene
    ship: Ship
    label: int  # a Class_ID at the chosen level
    window: Window


def load_hrsc(
    *,
    px: int,
    train_per_class: int | None = None,
    test_per_class: int | None = None,
    source: str = "auto",
    folder: str | Path | None = None,
    level: Level = "type",
    task: Task = "crop",
    strict: bool = False,
) -> HrscDataset:
    """The hrsc2016 role as uint8 images (N, px, px, 3), with boxes and masks for the test split.

    `source` is `real` (an HRSC2016 tree at or in `folder`, or in the folder that KIT_DATA names), `embedded` (generated
    scenes in the same format, made once) or `auto`: real where found, else embedded. `…_per_class` takes at most that
    many examples of a class, in a fixed shuffle. Classes are those with a training example, in the class table's
    order. Damaged files are left out and named in `skipped`; with `strict`, or KIT_STRICT=1 in the environment, the
    first one raises. Raises KitError for options that are not allowed, a missing or damaged tree, and a level at which
    no ship is labelled (it says which level would do).
    """
    for what, value, allowed in (("source", source, SOURCES), ("level", level, LEVELS), ("task", task, TASKS)):
        if value not in allowed:
            raise not_one_of(what, value, allowed)
    for what, value in (("px", px), ("train_per_class", train_per_class), ("test_per_class", test_per_class)):
        if value is not None and value < 1:
            raise KitError(f"{what}: {value!r} is not allowed; allowed: a whole number from 1 up")
    damage = _Damage(strict or os.environ.get("KIT_STRICT", "") not in ("", "0"))

    tree = open_tree(_tree_of(source, folder))
    damage.root = tree.root
    train_scenes, test_scenes = (_read_scenes(half, damage) for half in (tree.train, tree.test))
    train, coarse = _examples(train_scenes, level, task)
    if not train:
        raise _no_label(tree.root, train_scenes, level)
    class_ids = [class_id for class_id in CLASSES if class_id in {example.label for example in train}]
    test, coarse_test = _examples(test_scenes, level, task)
    unknown = Counter(example.label for example in test if example.label not in class_ids)
    test = [example for example in test if example.label in class_ids]
    if not test:
        raise KitError(f"{tree.root}: no test image has a label at level {level!r} that occurs in training")

    train_half, _ = _render(train, train_per_class, class_ids, px, damage)
    test_half, scored = _render(test, test_per_class, class_ids, px, damage, score=True)
    classes = tuple(CLASSES[class_id].name for class_id in class_ids)
    embedded = (tree.root / STAND_IN_MARK).is_file()
    filled_by, unit = "generated ship scenes" if embedded else "HRSC2016", "crops" if task == "crop" else "images"
    left_out = [
        f"{count} {half} ships: labelled {CLASSES[class_id].name!r}, which is no {level}"
        for half, counts in (("training", coarse), ("test", coarse_test))
        for class_id, count in sorted(counts.items())
    ]
    left_out += [
        f"{count} test ships: no training ship is a {CLASSES[class_id].name!r}" for class_id, count in unknown.items()
    ]
    return HrscDataset(
        role="hrsc2016",
        name=f"{filled_by}, {unit} by {level}",
        source="embedded" if embedded else "real",
        fingerprint=fingerprint(classes, train_half, test_half),
        classes=classes,
        train=Split(TensorImages(train_half[0]), train_half[1]),
        test=Split(TensorImages(test_half[0]), test_half[1]),
        px=px,
        flip=True,  # seen from above; a mirrored carrier has its island to port, yet stays a carrier
        skipped=tuple(damage.found),
        level=level,
        task=task,
        boxes=scored.boxes,
        masks=scored.masks,
        shortcuts=scored.shortcuts,
        has_segmentation=scored.has_segmentation,
        left_out=tuple(left_out),
    )


def _tree_of(source: str, folder: str | Path | None) -> Path:
    if source == "real":
        return _required_tree(folder)
    if source == "auto" and (root := find_tree(folder)) is not None:
        return root
    from kit.data.ships import stand_in  # the generator is only needed where there is no real tree

    return stand_in()


class _Damage:
    """Damaged files met while loading: collected, or raised at once."""

    def __init__(self, strict: bool) -> None:
        self.strict, self.root, self.found = strict, Path(), []

    def __call__(self, error: DamagedFile) -> None:
        if self.strict:
            raise error
        entry = f"{error.path.relative_to(self.root).as_posix()}: {error.reason}"
        if entry not in self.found:
            self.found.append(entry)


def _read_scenes(half: Sequence[tuple[Path, str]], damage: _Damage) -> list[tuple[Path, Scene]]:
    scenes = []
    for folder, image_id in half:
        try:
            scenes.append((folder, read_annotation(folder / "Annotations" / f"{image_id}.xml")))
        except DamagedFile as error:
            damage(error)
    return scenes


def _examples(scenes: Sequence[tuple[Path, Scene]], level: Level, task: Task) -> tuple[list[_Example], Counter[int]]:
    """What can be labelled at the level, and how many ships of which Class_ID cannot."""
    examples, too_coarse = [], Counter()
    for folder, scene in scenes:
        ships = scene.ships
        if task == "image" and ships:
            ships = (max(ships, key=lambda ship: ship.mbox.w * ship.mbox.h),)
        whole = crop_window(Box(0, 0, *scene.size), context=1.0)
        for ship in ships:
            label = class_at(ship.class_id, level)
            if label is None:
                too_coarse[ship.class_id] += 1
            else:
                examples.append(
                    _Example(folder, scene, ship, label, crop_window(ship.box) if task == "crop" else whole)
                )
    return examples, too_coarse


def _no_label(root: Path, scenes: Sequence[tuple[Path, Scene]], level: Level) -> KitError:
    found = {ship.class_id for _, scene in scenes for ship in scene.ships}
    if not found:
        return KitError(f"{root}: no training image holds a ship")
    allowed = [other for other in LEVELS if any(class_at(class_id, other) is not None for class_id in found)]
    return KitError(
        f"{root}: level {level!r} is not possible, as no training ship is labelled that finely; "
        f"allowed: {', '.join(allowed)}"
    )


@dataclass
class _Scored:
    boxes: Tensor
    masks: Tensor
    shortcuts: Tensor
    has_segmentation: bool


def _render(
    examples: Sequence[_Example],
    per_class: int | None,
    class_ids: Sequence[int],
    px: int,
    damage: _Damage,
    score: bool = False,
) -> tuple[tuple[Tensor, Tensor], _Scored]:
    """(images uint8 (N, px, px, 3), labels int64 (N,)) and, with `score`, boxes and masks. Damaged images drop out."""
    labels = torch.tensor([class_ids.index(example.label) for example in examples])
    examples = [examples[i] for i in first_per_class(labels, per_class).tolist()]
    pixels, labels, boxes, masks, shortcuts, from_hull = [], [], [], [], [], []

    @cache
    def whether(read: Callable, folder: Path, scene: Scene) -> np.ndarray | None:
        try:
            return read(folder, scene)
        except DamagedFile as error:
            damage(error)
            return None

    for before, example in pairwise([None, *examples]):
        scene, ship, window = example.scene, example.ship, example.window
        if before is None or before.scene is not scene:
            whether.cache_clear()  # examples come scene by scene: one scene's pixels are held at a time
        image = whether(read_image, example.folder, scene)
        if image is None:
            continue
        pixels.append(_resized(cut(image, window), px, Image.Resampling.BILINEAR))
        labels.append(class_ids.index(example.label))
        if score:
            hull, is_hull = hull_mask(scene, ship, whether(_read_segmentation, example.folder, scene))
            planted = whether(_read_shortcuts, example.folder, scene)
            from_hull.append(is_hull)
            masks.append(cut_mask(hull, window, px))
            shortcuts.append(np.zeros((px, px), bool) if planted is None else _planted_mask(planted > 0, window, px))
            corner = np.array([window.x, window.y] * 2)
            boxes.append((np.array(ship.box) - corner) * px / window.side)
    if not pixels:
        raise KitError(
            f"{damage.root}: every {'test' if score else 'training'} image is damaged, first {damage.found[0]}"
        )
    scored = _Scored(*(_stacked(part) for part in (boxes, masks, shortcuts)), bool(from_hull) and all(from_hull))
    scored.boxes = scored.boxes.float()
    return (_stacked(pixels), torch.tensor(labels)), scored


def _planted_mask(planted: np.ndarray, window: Window, px: int) -> np.ndarray:
    """Planted marks are small: a pixel covered to a quarter counts. Their mirror images lead astray as they do."""
    return cut_mask(planted, window, px, least=0.25, mirrored=True)


def _stacked(arrays: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(arrays)) if arrays else torch.empty(0)
