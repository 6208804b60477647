"""The embedded stand-in for the hrsc2016 role: generated ship scenes in HRSC2016's own format.

A tree is written as the real set is: BMPs, one XML per image with upright and oriented boxes, and ImageSets.
Besides, Segmentations/<id>.png holds every ship's hull as its number in the XML, from 1 up, and Shortcuts/<id>.png
every planted float as the number of its ship. The scenes prove code paths and heat maps; what is measured on them is no
HRSC2016 result.

A scene is ships on a sea, perhaps by a coast or a quay, with a planted shortcut: a coloured float on the water beside
the ship, one colour per type, there for a share of the training ships. In the test split as many ships have one, but of
a colour drawn at random. A network that reads the float instead of the hull is thus caught by its test accuracy, and by
heat maps. Pixel i covers [i, i + 1) on both axes; x points right and y down.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, StrictUndefined
from PIL import Image
from scipy.ndimage import gaussian_filter

from kit.data.generated import kept_tree
from kit.data.hrsc.dataset import crop_window
from kit.data.hrsc.format import Box, OrientedBox
from kit.data.hrsc.scenery import blend, centres, clouds, coast, patch, quay, rgb, sea
from kit.data.hrsc.ships import TYPES, Deck, ShipType
from kit.runtime.process import keep_freed_memory

VERSION = 1  # of the pictures: a change that alters any byte counts it up


@dataclass(frozen=True)
class TreePlan:
    """What a generated tree holds. The same plan gives the same bytes."""

    train_scenes: int = 160
    test_scenes: int = 60
    ships: tuple[int, int] = (5, 8)  # per scene, at least and at most; some may find no room
    shortcut_share: float = 0.6
    seed: int = 0


PLAN = TreePlan()  # of the embedded stand-in


def write_tree(folder: Path, plan: TreePlan) -> None:
    """Writes a tree in HRSC2016's format into an empty or new folder; one scene in sixty holds no ship."""
    keep_freed_memory()
    full = folder / "FullDataSet"
    for name in ("AllImages", "Annotations", "Segmentations", "Shortcuts"):
        (full / name).mkdir(parents=True, exist_ok=True)
    (folder / "ImageSets").mkdir(exist_ok=True)
    jinja = Environment(trim_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined, autoescape=True)
    annotation = jinja.from_string(Path(__file__).with_name("annotation.xml").read_text(encoding="utf-8"))

    total = plan.train_scenes + plan.test_scenes
    shuffle = np.random.default_rng([plan.seed, VERSION])
    kinds = [TYPES[i] for _ in range(total * plan.ships[1] // len(TYPES) + 1) for i in shuffle.permutation(len(TYPES))]
    ids = [f"{200000001 + i}" for i in range(total)]
    for i, image_id in enumerate(ids):
        rng = np.random.default_rng([plan.seed, VERSION, i])
        count = 0 if i % 60 == 7 else int(rng.integers(plan.ships[0], plan.ships[1] + 1))
        wanted, kinds = kinds[:count], kinds[count:]
        scene = generate_scene(rng, wanted, plan.shortcut_share, shortcut_tells=i < plan.train_scenes)
        Image.fromarray(scene.picture).save(full / "AllImages" / f"{image_id}.bmp")
        Image.fromarray(scene.hulls).save(full / "Segmentations" / f"{image_id}.png")
        Image.fromarray(scene.floats).save(full / "Shortcuts" / f"{image_id}.png")
        ships, (height, width) = [*zip(scene.ships, scene.boxes, strict=True)], scene.hulls.shape
        text = annotation.render(id=image_id, width=width, height=height, ships=ships)
        (full / "Annotations" / f"{image_id}.xml").write_bytes(text.encode())

    end, val = plan.train_scenes, plan.train_scenes * 3 // 4
    lists = {"train": ids[:val], "val": ids[val:end], "trainval": ids[:end], "test": ids[end:]}
    for name, members in lists.items():
        (folder / "ImageSets" / f"{name}.txt").write_bytes("".join(f"{member}\n" for member in members).encode())


def stand_in() -> Path:
    """Returns the root of the generated tree in the kit's cache, made on the first call (some 8 s, 80 MB)."""
    plan = asdict(PLAN) | {"version": VERSION}
    return kept_tree("stand-ins", f"hrsc2016-v{VERSION}", plan, lambda tree: write_tree(tree, PLAN))


# ---- a scene ---------------------------------------------------------------------------------------------------------

# One float colour per type, in the order of TYPES.
FLOATS = (
    (230, 25, 40), (255, 235, 0), (20, 60, 255), (255, 255, 255), (0, 140, 40), (255, 130, 0), (250, 0, 230),
    (0, 235, 255), (120, 0, 170), (255, 165, 200), (150, 240, 20), (8, 8, 8), (130, 60, 5),
)  # fmt: skip


@dataclass(frozen=True)
class PlacedShip:
    """A ship in a scene; positions and lengths in pixels, `heading` from x towards y in radians."""

    kind: ShipType
    x: float
    y: float
    heading: float
    length: float
    moored: bool

    def axes(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns where pixels lie on the ship's own axes: (u, v)."""
        dx, dy = (x - self.x) / self.length, (y - self.y) / self.length
        cos, sin = math.cos(self.heading), math.sin(self.heading)
        return (dx * cos + dy * sin).astype(np.float32), (dy * cos - dx * sin).astype(np.float32)

    def point(self, u: float, v: float) -> tuple[float, float]:
        """Returns the pixel position of (u, v)."""
        cos, sin = math.cos(self.heading), math.sin(self.heading)
        return self.x + self.length * (u * cos - v * sin), self.y + self.length * (u * sin + v * cos)

    def cover(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Returns the share of each pixel that the hull covers, float32 of the shape of u and v."""
        kind, pixel = self.kind, 1 / self.length
        near = np.abs(v) < max(kind.breadths) * kind.beam / 2 + pixel
        cover = np.zeros(u.shape, np.float32)
        cover[near] = kind.cover(u[near], v[near], pixel)
        return cover

    def oriented_box(self, margin: float = 1.0) -> OrientedBox:
        """The box around the hull in the ship's own axes, `margin` pixels wider on each side, |angle| ≤ π/2."""
        port, starboard = self.kind.breadths
        cx, cy = self.point(0, (starboard - port) * self.kind.beam / 4)
        angle = math.remainder(self.heading, math.pi)
        width = (starboard + port) / 2 * self.kind.beam * self.length
        return OrientedBox(cx, cy, self.length + 2 * margin, width + 2 * margin, angle)


@dataclass(frozen=True)
class GeneratedScene:
    """A picture uint8 (H, W, 3) and its ships, each with its tight upright box.

    `hulls` and `floats`, uint8 (H, W), hold at each pixel the number of the ship, from 1 up, that lies there or whose
    float does; else 0.
    """

    picture: np.ndarray
    ships: tuple[PlacedShip, ...]
    boxes: tuple[Box, ...]
    hulls: np.ndarray
    floats: np.ndarray


HEIGHTS, WIDTHS = (288, 300, 320), (375, 384, 400)  # of scenes, in pixels; products of 2, 3 and 5, for a quick FFT


def generate_scene(
    rng: np.random.Generator, kinds: Sequence[ShipType], shortcut_share: float, shortcut_tells: bool
) -> GeneratedScene:
    """Draws a scene with (about) the ships asked for: one for which no free water is found is left out.

    `shortcut_share` of the ships get a float: of their own type's colour if `shortcut_tells`, else of a random one.
    """
    shape = HEIGHTS[rng.integers(len(HEIGHTS))], WIDTHS[rng.integers(len(WIDTHS))]
    picture = sea(rng, shape)
    setting, edge = rng.random(), None
    land = np.zeros(shape, bool)
    if setting < 0.30:
        land, edge = quay(rng, picture)
    elif setting < 0.55:
        land = coast(rng, picture)

    ships, taken = _place(rng, kinds, land, edge)
    sun = rng.uniform(0, 2 * math.pi)
    for ship in ships:
        if not ship.moored:
            _draw_wake(rng, picture, ship, land)
    hulls = np.zeros(shape, np.uint8)
    for number, ship in enumerate(ships, 1):
        _draw_ship(rng, picture, ship, sun, hulls, number)
    boxes = tuple(_tight_box(hulls == number) for number in range(1, len(ships) + 1))
    floats = _plant_floats(rng, picture, ships, boxes, taken, shortcut_share, shortcut_tells)

    if rng.random() < 0.25:
        clouds(rng, picture)
    haze, blur = rng.uniform(0, 0.12), rng.uniform(0.35, 0.7)
    blend(picture, haze, np.float32(rgb(170, 182, 190)))
    gaussian_filter(picture, (0, blur, blur), output=picture)
    picture *= rng.uniform(0.9, 1.1)
    photo = rng.uniform(1.5, 3.5) * rng.standard_normal((*shape, 3), np.float32)  # grain, (H, W, 3)
    photo += picture.transpose(1, 2, 0)
    photo = photo.round(out=photo).clip(0, 255, out=photo).astype(np.uint8)
    return GeneratedScene(photo, ships, boxes, hulls, floats)


def _place(
    rng: np.random.Generator, kinds: Sequence[ShipType], land: np.ndarray, edge: tuple[float, float] | None
) -> tuple[tuple[PlacedShip, ...], np.ndarray]:
    """Places ships on free water, some along a quay; and what land, ships and a rim around them take, bool (H, W)."""
    height, width = land.shape
    taken, ships = land.copy(), []
    for kind in kinds:
        length = rng.uniform(*kind.length)
        at_quay = edge is not None and rng.random() < 0.5
        for _ in range(40):
            x, y, heading = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0, 2 * math.pi)
            if at_quay:  # alongside, a few pixels off
                a, d = edge
                off = d - (kind.breadths[0] * kind.beam * length / 2 + rng.uniform(3.5, 5))
                along = y * math.cos(a) - x * math.sin(a)
                x, y = off * math.cos(a) - along * math.sin(a), off * math.sin(a) + along * math.cos(a)
                heading = a + math.copysign(math.pi / 2, heading - math.pi) + rng.uniform(-0.015, 0.015)
            ship = PlacedShip(kind, x, y, heading, length, at_quay)
            corners = ship.oriented_box(3).corners()  # (4, 2)
            if (corners < 0).any() or (corners > (width, height)).any():
                continue
            here = patch(x, y, 0.6 * length + 10, land.shape)
            x, y = centres(*here)
            if taken[here].any() and taken[here][ship.oriented_box(1 if at_quay else 5).covers(x, y)].any():
                continue
            taken[here] |= ship.oriented_box(5).covers(x, y)
            ships.append(ship)
            break
    return tuple(ships), taken


def _draw_wake(rng: np.random.Generator, picture: np.ndarray, ship: PlacedShip, land: np.ndarray) -> None:
    """Draws foam astern and the two arms of a bow wave; a ship at anchor has none."""
    strength = rng.uniform(-0.5, 1.0)
    if strength < 0.05:
        return
    strength = min(1.0, 0.35 + strength) * min(1.0, ship.kind.wake)
    rows, columns = patch(ship.x, ship.y, 1.7 * ship.length, land.shape)
    u, v = ship.axes(*centres(rows, columns))
    froth = gaussian_filter(rng.standard_normal(u.shape, np.float32), 0.8)
    fade, beam = rng.uniform(1.6, 3.5), ship.kind.beam
    here = (u < 0.47) & (np.abs(v) < beam / 2 + 0.45 * (0.5 - u)) & ~land[rows, columns]
    u, v, froth = u[here], v[here], froth[here]
    behind, abaft = np.maximum(-0.46 - u, 0), 0.47 - u
    arm = beam * 0.2 + 0.28 * abaft
    white = 0.55 * np.exp(-(((np.abs(v) - arm) / (0.015 + 0.03 * abaft)) ** 2) - 2.6 * abaft)
    trail = beam * 0.30 + 0.05 * behind
    astern = ((u < -0.44) & (np.abs(v) < 3.2 * trail)).nonzero()  # beyond, exp is 0
    white[astern] += 0.85 * np.exp(-((v[astern] / trail[astern]) ** 4) - fade * behind[astern])
    foam = np.zeros(here.shape, np.float32)
    foam[here] = np.clip(strength * (0.8 + 0.35 * froth) * white, 0, 0.9)
    blend(picture[:, rows, columns], foam, np.float32(rgb(222, 232, 232)))


def _draw_ship(
    rng: np.random.Generator, picture: np.ndarray, ship: PlacedShip, sun: float, hulls: np.ndarray, number: int
) -> None:
    """Draws the ship, its shadow on the water, and its pixels in `hulls`: those that it covers at least to a half."""
    rows, columns = patch(ship.x, ship.y, 0.62 * ship.length, hulls.shape)
    u, v = ship.axes(*centres(rows, columns))
    water, cover = picture[:, rows, columns], ship.cover(u, v)  # (3, h, w), (h, w)
    shadow = math.cos(sun - ship.heading), math.sin(sun - ship.heading)
    water *= 1 - 0.4 * ship.cover(u - 0.022 * shadow[0], v - 0.022 * shadow[1])

    kind, touched = ship.kind, cover > 0
    hull = np.float32(kind.hulls[rng.integers(len(kind.hulls))])
    deck = Deck(u[touched], v[touched], 1 / ship.length, shadow, hull)
    kind.paint(deck, rng)
    rim = cover[touched] - ship.cover(deck.u * 1.03, deck.v * 1.16)  # the bulwark
    deck.paint(0.6 * np.clip(rim, 0, 1), 0.72 * hull)
    weathered = np.float32(rng.uniform(0.88, 1.12) + rng.normal(0, 0.02, 3))
    painted = deck.rgb * weathered[:, None] + 3 * rng.standard_normal(len(deck.u), np.float32)  # (3, n)
    water[:, touched] += cover[touched] * (painted - water[:, touched])
    hulls[rows, columns][cover >= 0.5] = number


def _tight_box(mask: np.ndarray) -> Box:
    rows, columns = mask.any(1).nonzero()[0], mask.any(0).nonzero()[0]
    return Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


FLOAT_RADIUS = 0.055  # of the crop's side: a float is 3.5 pixels wide in a 32 px crop


def _plant_floats(
    rng: np.random.Generator,
    picture: np.ndarray,
    ships: Sequence[PlacedShip],
    boxes: Sequence[Box],
    taken: np.ndarray,
    share: float,
    tells: bool,
) -> np.ndarray:
    """Draws a float beside a share of the ships, on free water in the ship's crop and, if possible, in no other's."""
    marks = np.zeros(taken.shape, np.uint8)
    windows = [crop_window(box) for box in boxes]
    for number, (ship, window) in enumerate(zip(ships, windows, strict=True), 1):
        wanted, lure = rng.random() < share, rng.integers(len(TYPES))
        colour = TYPES.index(ship.kind) if tells else int(lure)
        radius = FLOAT_RADIUS * window.side
        for attempt in range(80 if wanted else 0):
            x, y = np.array([window.x, window.y]) + rng.uniform(0.08, 0.92, 2) * window.side
            rows, columns = patch(x, y, radius + 3, taken.shape)
            inside = radius + 3 <= x <= taken.shape[1] - radius - 3 and radius + 3 <= y <= taken.shape[0] - radius - 3
            if not inside or taken[rows, columns].any():
                continue
            if attempt < 50 and any(
                other is not window
                and -radius < x - other.x < other.side + radius
                and -radius < y - other.y < other.side + radius
                for other in windows
            ):
                continue
            px, py = centres(rows, columns)
            distance, water = np.hypot(px - x, py - y), picture[:, rows, columns]
            water *= 1 - 0.3 * np.clip(radius + 1.2 - distance, 0, 1)
            cover = np.clip(radius + 0.5 - distance, 0, 1)
            light = 1.0 + 0.25 * np.clip(1 - np.hypot(px - x + radius / 3, py - y + radius / 3) / radius, 0, 1)
            blend(water, cover, rgb(*FLOATS[colour]) * light)
            marks[rows, columns][cover >= 0.5] = number
            taken[rows, columns] = True
            break
    return marks
