"""The drawn stand-ins: for CIFAR-100 objects in 100 classes, 20 groups of 5 that differ only slightly; for ImageNet an
ImageFolder tree of JPEGs, read by the loader that reads real ones, of 20 classes, 5 groups of 4 of other objects.

A group is a shape, a texture and a family of colours; its classes differ in one thing: hue, the width or the
direction of stripes, where a mark sits, or how long the object is. So a wrong answer is mostly a near one, and soft
labels have something to say. Every image has its own position, size, tilt, light, background, noise and, at times,
something in front. Shapes are signed distances, so edges are antialiased at any size without supersampling.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy import ndarray
from PIL import Image
from torch import Tensor

from kit.data.base import Dataset, in_memory
from kit.data.folder import folder_dataset
from kit.files import drafted, kept, sha256, sweep, write
from kit.runtime.process import keep_freed_memory

NAME = "generated objects (20 groups × 5)"
TRAIN_PER_CLASS, TEST_PER_CLASS = 60, 20  # of either set, when not told otherwise
MARK = "stand-in.json"  # lies in the root of a generated tree, so that it is never taken for the real one


@dataclass(frozen=True)
class Look:
    """What makes a class: everything else about an image is chance. Angles in degrees, lengths in object radii."""

    name: str
    shape: str
    texture: str  # plain, stripes, rings or checks
    hue: float  # 0 … 1
    cycles: float = 1.1  # of the texture, per object radius
    direction: float = 0.0  # of the stripes; 0 is upright
    aspect: float = 1.0  # width over height
    mark: float | None = None  # clockwise angle of a bright mark; 0 is at the top


# ---- shapes: signed distance to the edge, negative inside, for x, y in object radii (y down) -----------------------


def _box(x: ndarray, y: ndarray, w: float, h: float) -> ndarray:
    return np.maximum(np.abs(x) - w, np.abs(y) - h)


def _disc(x: ndarray, y: ndarray, r: float = 1.0) -> ndarray:
    return np.sqrt(x * x + y * y) - r


def _polygon(x: ndarray, y: ndarray, sides: int) -> ndarray:
    """A regular polygon in a circle of radius 1.1, one corner up: the largest of its half-planes."""
    angles = np.pi * (2 * np.arange(sides) + 1) / sides
    sides_at = [np.float32(np.sin(a)) * x - np.float32(np.cos(a)) * y for a in angles]
    return np.maximum.reduce(sides_at) - np.float32(1.1 * np.cos(np.pi / sides))


def _flower(x: ndarray, y: ndarray, petals: int, depth: float) -> ndarray:
    """A disc whose radius waves with the angle: petals, or with five and a deep wave a soft star."""
    r = np.sqrt(x * x + y * y)
    wave = np.cos(petals * np.arctan2(x, -y))
    return (r - np.float32(1 - depth) - np.float32(depth) * wave) * np.float32(0.8)


SHAPES: dict[str, Callable[[ndarray, ndarray], ndarray]] = {
    "disc": _disc,
    "square": lambda x, y: _box(x, y, 0.85, 0.85),
    "triangle": lambda x, y: _polygon(x, y + 0.15, 3),
    "pentagon": lambda x, y: _polygon(x, y, 5),
    "diamond": lambda x, y: (np.abs(x) + np.abs(y) - 1.15) * np.float32(0.7071),
    "ring": lambda x, y: np.abs(_disc(x, y, 0.75)) - np.float32(0.3),
    "frame": lambda x, y: np.abs(_box(x, y, 0.68, 0.68)) - np.float32(0.24),
    "cross": lambda x, y: np.minimum(_box(x, y, 1.0, 0.38), _box(x, y, 0.38, 1.0)),
    "star": lambda x, y: _flower(x, y, 5, 0.28),
    "flower": lambda x, y: _flower(x, y, 8, 0.14),
    "crescent": lambda x, y: np.maximum(_disc(x, y), -_disc(x - 0.5, y, 0.72)),
    "half-disc": lambda x, y: np.maximum(_disc(x, y + 0.45, 1.15), -(y + 0.45)),
    "bar": lambda x, y: _box(x, y, 0.42, 1.05),
    "hourglass": lambda x, y: np.maximum(np.abs(y) - 0.9, (np.abs(x) - np.abs(y) - 0.15) * np.float32(0.7071)),
    "T": lambda x, y: np.minimum(_box(x, y + 0.6, 0.95, 0.36), _box(x, y - 0.1, 0.36, 0.95)),
    "L": lambda x, y: np.minimum(_box(x + 0.45, y, 0.36, 0.95), _box(x, y - 0.6, 0.85, 0.36)),
    "arrow": lambda x, y: np.minimum(_polygon(x, y + 0.3, 3), _box(x, y - 0.5, 0.3, 0.55)),
    "dumb-bell": lambda x, y: np.minimum(_disc(np.abs(x) - 0.62, y, 0.48), _box(x, y, 0.6, 0.2)),
    "drop": lambda x, y: np.minimum(_disc(x, y - 0.3, 0.7), np.maximum(np.abs(x) * 0.86 - (y + 1.1) * 0.5, y - 0.1)),
    "house": lambda x, y: np.minimum(_box(x, y - 0.3, 0.7, 0.6), np.maximum((np.abs(x) - y - 1.1) * 0.7, y + 0.2)),
}

# ---- the 20 groups -------------------------------------------------------------------------------------------------

# How the five classes of a group differ, as (name, changed fields) for i = 0 … 4 of a base look.
VARIATIONS: dict[str, Callable[[Look, int], Look]] = {
    "hue": lambda look, i: replace(look, name=f"{look.name}, hue {i + 1}", hue=(look.hue + 0.055 * (i - 2)) % 1),
    "fineness": lambda look, i: replace(
        look, name=f"{look.name}, {look.texture} {i + 1}", cycles=(0.4, 0.75, 1.2, 1.75, 2.4)[i]
    ),
    "direction": lambda look, i: replace(look, name=f"{look.name} at {36 * i}°", direction=36.0 * i),
    "mark": lambda look, i: replace(look, name=f"{look.name}, mark at {72 * i}°", mark=72.0 * i),
    "aspect": lambda look, i: replace(look, name=f"{look.name}, width {i + 1}", aspect=(0.5, 0.67, 0.87, 1.15, 1.5)[i]),
}

# variation, shape, texture, hue
GROUPS = (
    ("hue", "disc", "plain", 0.02),
    ("hue", "star", "plain", 0.36),
    ("hue", "frame", "plain", 0.58),
    ("hue", "crescent", "stripes", 0.80),
    ("fineness", "square", "stripes", 0.10),
    ("fineness", "disc", "rings", 0.50),
    ("fineness", "triangle", "stripes", 0.68),
    ("fineness", "half-disc", "checks", 0.90),
    ("direction", "disc", "stripes", 0.30),
    ("direction", "square", "stripes", 0.76),
    ("direction", "pentagon", "stripes", 0.00),
    ("direction", "flower", "stripes", 0.14),
    ("mark", "disc", "plain", 0.64),
    ("mark", "ring", "plain", 0.08),
    ("mark", "pentagon", "plain", 0.44),
    ("mark", "square", "plain", 0.96),
    ("aspect", "disc", "plain", 0.22),
    ("aspect", "cross", "plain", 0.54),
    ("aspect", "diamond", "checks", 0.84),
    ("aspect", "hourglass", "plain", 0.40),
)


def looks() -> list[Look]:
    """Lists the 100 classes; class c belongs to group c // 5."""
    classes = []
    for variation, shape, texture, hue in GROUPS:
        words = {"plain": "", "stripes": "striped ", "rings": "ringed ", "checks": "checked "}[texture]
        base = Look(f"{words}{shape}", shape, texture, hue)
        classes += [VARIATIONS[variation](base, i) for i in range(5)]
    return classes


# ---- drawing -------------------------------------------------------------------------------------------------------

NUISANCES = 40  # random numbers an image uses at most, besides its clutter (8 each) and its grain


def draw(look: Look, px: int, n: int, stream: int, clutter: int = 3) -> ndarray:
    """Draws n images of one class as uint8 (n, px, px, 3), `clutter` dull things lying about in each.

    `stream` is the seed; the first images do not depend on n.
    """
    chance = np.random.RandomState(stream)  # NumPy promises that its stream stays as it is
    u = chance.random_sample((n, NUISANCES + 8 * clutter)).astype(np.float32)  # 0 … 1
    columns = iter(u.T[:, :, None, None])  # each (n, 1, 1): one random number an image

    def between(low: float, high: float) -> ndarray:
        return np.float32(low) + np.float32(high - low) * next(columns)

    grid = ((np.arange(px, dtype=np.float32) + 0.5) * 2 / px - 1)[None]
    x, y = grid[:, None, :], grid[:, :, None]  # −1 … 1, broadcast to (n, px, px)

    image = _background(x, y, px, clutter, between)  # (3, n, px, px)

    # The object, in its own frame
    size, tilt = between(0.58, 0.74), np.deg2rad(between(-9, 9))
    x_c, y_c = x - between(-0.2, 0.2), y - between(-0.2, 0.2)
    cos, sin = np.cos(tilt) / size, np.sin(tilt) / size
    x_o, y_o = cos * x_c + sin * y_c, cos * y_c - sin * x_c
    stretch = np.float32(np.sqrt(look.aspect)) * between(0.95, 1.05)
    x_s, y_s = x_o / stretch, y_o * stretch
    inside = _coverage(SHAPES[look.shape](x_s, y_s) * size, px)

    hue = np.float32(look.hue) + between(-0.022, 0.022)
    colour = _rgb(hue, np.float32(0.75) + between(-0.12, 0.12), between(0.72, 0.98))
    light = 1 + between(-0.25, 0.25) * x_o + between(-0.25, 0.25) * y_o  # lit from a side
    if look.texture == "plain":
        surface = colour * light
    else:
        other = _rgb(hue + between(0.0, 0.05), between(0.15, 0.35), between(0.2, 0.4))
        surface = (other + (colour - other) * _texture(look, x_o, y_o, px / size, between)) * light
    if look.mark is not None:
        at = np.deg2rad(np.float32(look.mark) + between(-10, 10))
        r = 0.72 if look.shape == "ring" else 0.55
        dot = _coverage(_disc(x_o - r * np.sin(at), y_o + r * np.cos(at), 0.34) * size, px)
        surface += (_rgb(hue + 0.5, between(0.0, 0.35), between(0.9, 1.0)) - surface) * dot
    image += (surface - image) * inside

    # Something in front of it in three images of ten: a narrow strip across, or a small blot
    veil = _rgb(between(0, 1), between(0.0, 0.5), between(0.2, 0.9))
    across, turn = between(-0.9, 0.9), between(0, 2 * np.pi)
    strip = np.abs(np.cos(turn) * x + np.sin(turn) * y - across) - between(0.05, 0.12)
    blot = _disc(x - across, y - between(-0.9, 0.9), between(0.12, 0.26))
    which = between(0, 1)
    image += (veil - image) * _coverage(np.where(which < 0.15, strip, np.where(which < 0.3, blot, 9)), px)

    # The camera: exposure, contrast and grain
    image = (image - 0.5) * between(0.75, 1.1) + 0.5 + between(-0.1, 0.1)
    image *= 255
    image += _grain(stream, n, px) * between(2.0, 10.0)
    return np.ascontiguousarray(np.clip(image + 0.5, 0, 255).astype(np.uint8).transpose(1, 2, 3, 0))


def _background(x: ndarray, y: ndarray, px: int, clutter: int, between: Callable) -> ndarray:
    """A dull gradient with discs and boxes lying about, float (3, n, px, px) in 0 … 1."""
    turn = between(0, 2 * np.pi)
    ramp = 0.5 + 0.5 * (np.cos(turn) * x + np.sin(turn) * y)
    one, two = (_rgb(between(0, 1), between(0.0, 0.35), between(0.25, 0.8)) for _ in range(2))
    image = one + (two - one) * ramp
    for i in range(clutter):
        x_t, y_t, w, h = x - between(-1, 1), y - between(-1, 1), between(0.1, 0.45), between(0.1, 0.45)
        distance = _disc(x_t, y_t, w) if i % 3 == 0 else _box(x_t, y_t, w, h)
        image += (_rgb(between(0, 1), between(0.0, 0.4), between(0.2, 0.85)) - image) * _coverage(distance, px)
    return image


def _texture(look: Look, x: ndarray, y: ndarray, px_per_unit: ndarray, between: Callable) -> ndarray:
    """0 … 1 over the object's frame: stripes, rings or checks, edges as sharp as the pixels allow. px_per_unit / 2
    pixels are one object radius."""
    cycles = np.float32(2 * np.pi * look.cycles) * between(0.94, 1.06)
    phase = between(0, 2 * np.pi)
    if look.texture == "rings":
        wave = np.sin(cycles * np.sqrt(x * x + y * y) + phase)
    else:
        turn = np.deg2rad(np.float32(look.direction) + between(-4, 4))
        wave = np.sin(cycles * (np.cos(turn) * x + np.sin(turn) * y) + phase)
        if look.texture == "checks":
            wave = wave * np.sin(cycles * (np.cos(turn) * y - np.sin(turn) * x) + phase) * 1.5
    slope = px_per_unit / 2 / cycles  # pixels over which the wave's argument moves by 1
    return np.clip(0.5 + wave * slope, 0, 1)


def _coverage(distance: ndarray, px: int) -> ndarray:
    """How much of a pixel lies inside an edge at this signed distance (in half image widths)."""
    return np.clip(0.5 - distance * np.float32(px / 2), 0, 1)


def _rgb(hue: ndarray, saturation: ndarray, value: ndarray) -> ndarray:
    """HSV → RGB, each (n, 1, 1) in 0 … 1 (hue of any turn) → float (3, n, 1, 1)."""
    k = (np.array([5, 3, 1], np.float32)[:, None, None, None] + hue * 6) % 6
    return value - value * saturation * np.clip(np.minimum(k, 4 - k), 0, 1)


def _grain(stream: int, n: int, px: int) -> ndarray:
    """Even noise of standard deviation 1, float (3, n, px, px), image after image from a stream of its own."""
    coins = np.frombuffer(np.random.RandomState([stream, 1]).bytes(n * px * px * 3), np.uint8).reshape(n, px, px, 3)
    return ((coins.astype(np.float32) - 127.5) / np.float32(73.9)).transpose(3, 0, 1, 2)


def draw_classes(classes: list[Look], px: int, per_class: int, stream: int) -> tuple[Tensor, Tensor]:
    """Draws images uint8 (N, px, px, 3) and labels (N,), class after class. Streams a thousand apart never meet."""
    pixels = np.concatenate([draw(look, px, per_class, stream + c) for c, look in enumerate(classes)])
    return torch.from_numpy(pixels), torch.arange(len(classes)).repeat_interleave(per_class)


def generated(px: int, train_per_class: int | None = None, test_per_class: int | None = None) -> Dataset:
    """Draws the 100-class set at px × px, so many images a class. A smaller set is part of every larger one."""
    classes = looks()
    train = draw_classes(classes, px, train_per_class or TRAIN_PER_CLASS, stream=1_000)
    test = draw_classes(classes, px, test_per_class or TEST_PER_CLASS, stream=2_000)
    return in_memory("cifar-100", NAME, "embedded", [look.name for look in classes], train, test, flip=False)


# ---- ImageNet's stand-in: a tree of JPEGs ---------------------------------------------------------------------------

TREE_NAME = "generated image tree (5 groups × 4)"
TREE_PX = 64
CLUTTER = 9  # dull things lying about in each image
TRAIN_STREAM, TEST_STREAM = 3_000, 4_000  # seeds; the 100-class set has 1,000 and 2,000

# variation, shape, texture, hue: what a mirror keeps, of objects that the 100-class set does not have
TREE_GROUPS = (
    ("hue", "house", "plain", 0.05),
    ("hue", "drop", "rings", 0.55),
    ("fineness", "arrow", "stripes", 0.30),
    ("aspect", "T", "plain", 0.75),
    ("aspect", "dumb-bell", "checks", 0.12),
)


def tree_looks() -> list[Look]:
    """Lists the 20 classes in sorted order of their folders' names."""
    classes = [
        replace(VARIATIONS[variation](Look(shape, shape, texture, hue), i), name=f"{shape.lower()}_{variation}_{i + 1}")
        for variation, shape, texture, hue in TREE_GROUPS
        for i in range(4)
    ]
    return sorted(classes, key=lambda look: look.name)


def generated_tree(px: int, train_per_class: int | None = None, test_per_class: int | None = None) -> Dataset:
    """Loads the imagenet role's stand-in at px × px, at most so many images a class; its tree is written once."""
    sizes = px, train_per_class, test_per_class
    return folder_dataset(written_tree(), "imagenet", *sizes, streamed=True, name=TREE_NAME, source="embedded")


def written_tree() -> Path:
    """Returns the tree in the kit's cache, named by a hash of each class's first images, so that another way of drawing
    makes another tree."""
    digest, plan = hashlib.sha256(), {"train_per_class": TRAIN_PER_CLASS, "test_per_class": TEST_PER_CLASS}
    for c, look in enumerate(tree_looks()):
        digest.update(look.name.encode())
        digest.update(draw(look, TREE_PX, 2, TRAIN_STREAM + c, clutter=CLUTTER))
    return kept_tree("trees", f"generated-{TREE_PX}px-{digest.hexdigest()[:12]}", plan, write_tree)


def write_tree(root: Path) -> None:
    """Writes train/ and val/, a folder a class, numbered JPEGs."""
    keep_freed_memory()
    for split, per_class, stream in (("train", TRAIN_PER_CLASS, TRAIN_STREAM), ("val", TEST_PER_CLASS, TEST_STREAM)):
        for c, look in enumerate(tree_looks()):
            folder = root / split / look.name
            folder.mkdir(parents=True)
            for i, pixels in enumerate(draw(look, TREE_PX, per_class, stream + c, clutter=CLUTTER)):
                Image.fromarray(pixels).save(folder / f"{i:04d}.jpeg", quality=90)


def kept_tree(below: str, name: str, plan: Mapping[str, object], write_tree: Callable[[Path], None]) -> Path:
    """Returns the tree of this name in a folder of the cache, written by `write_tree` where it is not there.

    Every later call compares its mark, the plan and every file with its sha256, and writes anew what differs.
    """

    def mark(tree: Path) -> str:
        files = sorted(path for path in tree.rglob("*") if path.is_file() and path != tree / MARK)
        return json.dumps({"plan": plan, "files": {p.relative_to(tree).as_posix(): sha256(p) for p in files}}, indent=1)

    def whole(tree: Path) -> Path | None:
        with suppress(OSError, ValueError):
            return tree if (tree / MARK).read_text(encoding="utf-8") == mark(tree) else None
        return None

    def make(tree: Path) -> None:
        sweep(tree)
        shutil.rmtree(tree, ignore_errors=True)
        with drafted(tree) as draft:
            write_tree(draft)
            write(draft / MARK, mark(draft))

    return kept(below, name, whole, make)
