"""The hrsc2016 role: ships from above, cut out of HRSC2016's scenes.

The paper distils on HRSC2016 but does not say what is classified. Here one example is one ship: a square around its
upright box, 1.6 times as wide as the box's longer side, continued by its mirror image over the scene's border. How fine
labels are is a *reading*, the level (see `kit.data.hrsc.format`): the default, `type`, gives the most classes and
leaves out ships labelled more coarsely. Boxes and hull masks of the test split are kept, so heat maps can be scored.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from kit.data.base import Dataset, first_per_class, in_memory
from kit.data.generated import MARK
from kit.data.hrsc.format import (
    CLASSES,
    LEVELS,
    Box,
    DamagedFile,
    Level,
    Scene,
    Ship,
    open_tree,
    read_annotation,
    read_image,
    read_segmentation,
    read_shortcuts,
)
from kit.errors import KitError, few

T = TypeVar("T")
CONTEXT = 1.6  # a crop's side over the longer side of its ship's upright box


@dataclass(frozen=True, kw_only=True)
class HrscDataset(Dataset):
    """The hrsc2016 role, with what a heat map on the test split is scored against. N is the number of test images."""

    level: Level
    boxes: Tensor  # (N, 4) float: the labelled ship's upright box in the crop's pixels, xmin, ymin, xmax, ymax
    masks: Tensor  # (N, px, px) bool: the ship, as `region` says
    shortcuts: Tensor  # (N, px, px) bool: the planted marks in view; all False on real data
    region: str  # what the masks are: hulls where segmentations have them, else filled oriented boxes


class Window(NamedTuple):
    """A square of whole pixels; it may reach over the image's border."""

    x: int
    y: int
    side: int


@dataclass(frozen=True)
class _Example:
    """What becomes one image: a ship of a scene, and the square to cut out."""

    scene: Scene
    ship: Ship
    label: int  # a Class_ID at the chosen level
    window: Window


def hrsc_dataset(
    root: Path,
    px: int,
    train_per_class: int | None = None,
    test_per_class: int | None = None,
    level: Level = "type",
    strict: bool = False,
) -> HrscDataset:
    """Loads the HRSC2016 tree at `root` as uint8 images (N, px, px, 3), with boxes and masks for the test split.

    `…_per_class` takes at most that many examples of a class, in a fixed shuffle. Classes are those with a training
    example, in the class table's order. Damaged files are left out and named in `skipped`; with `strict` the first one
    raises. Raises KitError for a damaged tree and for a level at which no ship is labelled (it says which level would
    do).
    """
    damage = _Damage(root, strict)
    train_paths, test_paths = open_tree(root)
    train_scenes = _read_scenes("training", train_paths, damage)
    test_scenes = _read_scenes("test", test_paths, damage)
    train, coarse = _examples(train_scenes, level)
    if not train:
        raise _no_label(root, train_scenes, level)
    class_ids = [class_id for class_id in CLASSES if class_id in {example.label for example in train}]
    test, coarse_test = _examples(test_scenes, level)
    unknown = Counter(example.label for example in test if example.label not in class_ids)
    test = [example for example in test if example.label in class_ids]
    if not test:
        seen = ", ".join(sorted(CLASSES[class_id].name for class_id in unknown)) or "none"
        learnt = ", ".join(CLASSES[class_id].name for class_id in class_ids)
        raise KitError(
            f"{root}: no test image has a label at level {level!r} that occurs in training; found: {seen}; "
            f"allowed: {learnt}"
        )

    train_half, _ = _rendered("training", train, train_per_class, class_ids, px, damage)
    test_half, seen = _rendered("test", test, test_per_class, class_ids, px, damage)
    scored = _scored(seen, px, damage)
    left_out = [
        f"{half} ships labelled {CLASSES[class_id].name!r}, which is no {level}: {count}"
        for half, counts in (("training", coarse), ("test", coarse_test))
        for class_id, count in sorted(counts.items())
    ]
    left_out += [
        f"test ships labelled {CLASSES[class_id].name!r}, as no training ship is: {count}"
        for class_id, count in unknown.items()
    ]
    embedded = (root / MARK).is_file()
    return in_memory(
        "hrsc2016",
        f"{'generated ship scenes' if embedded else 'HRSC2016'}, crops by {level}",
        "embedded" if embedded else "real",
        [CLASSES[class_id].name for class_id in class_ids],
        train_half,
        test_half,
        flip=True,  # seen from above; a mirrored carrier has its island to port, yet stays a carrier
        skipped=tuple(f"{path}: {reason}" for path, reason in damage.found),
        kind=HrscDataset,
        level=level,
        left_out=tuple(left_out),
        available=(len(train), len(test)),
        **scored,
    )


class _Damage:
    """Keeps damaged files met while loading: collected, or raised at once."""

    def __init__(self, root: Path, strict: bool) -> None:
        self.root, self.strict = root, strict
        self.found: list[tuple[str, str]] = []  # (path below the root, reason)

    def __call__(self, error: DamagedFile) -> None:
        if self.strict:
            raise error
        entry = error.path.relative_to(self.root).as_posix(), error.reason
        if entry not in self.found:
            self.found.append(entry)

    def spared(self, read: Callable[..., T], *of: object) -> T | None:
        """Returns what is read; None where that is damaged."""
        try:
            return read(*of)
        except DamagedFile as error:
            self(error)
            return None

    def first(self, image_ids: Collection[str]) -> str:
        """Finds the first damaged file of these scenes, with its reason; '' where there is none."""
        return next((f"{path}: {why}" for path, why in self.found if Path(path).stem in image_ids), "")


def _read_scenes(half: str, paths: Sequence[Path], damage: _Damage) -> list[Scene]:
    """Reads a split's annotations. Raises KitError where it has no ship because of what could not be read."""
    scenes = [scene for path in paths if (scene := damage.spared(read_annotation, path, damage)) is not None]
    first = damage.first({path.stem for path in paths})
    if first and not any(scene.ships for scene in scenes):
        bad = len(paths) - len(scenes)
        what = f"{bad} of {len(paths)} {half} annotations" if bad else f"every object of the {half} annotations"
        raise KitError(f"{damage.root}: {what} cannot be read, first {first}")
    return scenes


def damaged_files(root: Path) -> list[tuple[str, str]]:
    """Opens every file of the tree, of scenes that train and test nothing too; the damaged, each with its reason."""
    damage = _Damage(root, strict=False)
    for path in itertools.chain(*open_tree(root)):
        if (scene := damage.spared(read_annotation, path, damage)) is not None:
            for read in (read_image, read_segmentation, read_shortcuts):
                damage.spared(read, scene)
    return damage.found


def _examples(scenes: Sequence[Scene], level: Level) -> tuple[list[_Example], Counter[int]]:
    """Lists what can be labelled at the level, and how many ships of which Class_ID cannot."""
    examples, too_coarse = [], Counter()
    for scene in scenes:
        for ship in scene.ships:
            label = CLASSES[ship.class_id].at.get(level)
            if label is None:
                too_coarse[ship.class_id] += 1
            else:
                examples.append(_Example(scene, ship, label, crop_window(ship.box)))
    return examples, too_coarse


def _no_label(root: Path, scenes: Sequence[Scene], level: Level) -> KitError:
    """Says that no ship is labelled so finely, and at which levels there are classes to tell apart."""
    found = {ship.class_id for scene in scenes for ship in scene.ships}
    if not found:
        return KitError(f"{root}: no training image holds a ship, in {len(scenes)} annotations that were read")
    tables = [CLASSES[class_id].at for class_id in found]
    possible = [other for other in LEVELS if len({at[other] for at in tables if other in at}) > 1]
    names = ", ".join(repr(CLASSES[class_id].name) for class_id in sorted(found))
    allowed = ", ".join(possible) or "annotations that tell at least two kinds of ship apart"
    return KitError(
        f"{root}: level {level!r} is not possible, as training ships are labelled only {names}; allowed: {allowed}"
    )


def _rendered(
    half: str, examples: Sequence[_Example], per_class: int | None, class_ids: Sequence[int], px: int, damage: _Damage
) -> tuple[tuple[Tensor, Tensor], list[_Example]]:
    """Renders at most so many examples a class: (images uint8 (N, px, px, 3), labels int64 (N,)), and the N examples
    whose images are not damaged. Raises KitError where a class has none."""
    labels = torch.tensor([class_ids.index(example.label) for example in examples])
    chosen = [examples[i] for i in first_per_class(labels, per_class).tolist()]
    pixels, seen = [], []
    for scene, of_scene in itertools.groupby(chosen, key=attrgetter("scene")):
        image = damage.spared(read_image, scene)
        for example in of_scene if image is not None else ():
            pixels.append(resized_image(cut(image, example.window), px, Image.Resampling.BILINEAR))
            seen.append(example)
    found = {example.label for example in seen}
    if lost := [example for example in chosen if example.label not in found]:
        names = few(sorted({repr(CLASSES[example.label].name) for example in lost}))
        first = damage.first({lost[0].scene.image_id})
        which = f"chosen {half}" if per_class else half
        raise KitError(f"{damage.root}: every {which} image of {names} is damaged, first {first}; allowed: one of each")
    labels = torch.tensor([class_ids.index(example.label) for example in seen])
    return (torch.from_numpy(np.stack(pixels)), labels), seen


def _scored(examples: Sequence[_Example], px: int, damage: _Damage) -> dict[str, Tensor | str]:
    """Renders what a heat map is scored against, by the names of HrscDataset's fields."""
    boxes, masks, shortcuts, regions = [], [], [], set()
    for scene, of_scene in itertools.groupby(examples, key=attrgetter("scene")):
        segmentation, marks = (damage.spared(read, scene) for read in (read_segmentation, read_shortcuts))
        # Planted marks are small: a pixel covered to a quarter counts. Their mirror images lead astray as they do.
        planted = np.zeros(scene.size[::-1], bool) if marks is None else marks > 0
        for example in of_scene:
            ship, window = example.ship, example.window
            hull, is_hull = hull_mask(scene, ship, segmentation)
            regions.add("hull" if is_hull else "oriented box")
            masks.append(cut_mask(hull, window, px))
            shortcuts.append(cut_mask(planted, window, px, least=0.25, mirrored=True))
            boxes.append((np.array(ship.box) - [window.x, window.y, window.x, window.y]) * px / window.side)
    stacked = {"boxes": boxes, "masks": masks, "shortcuts": shortcuts}
    scored = {name: torch.from_numpy(np.stack(part)) for name, part in stacked.items()}
    return scored | {"boxes": scored["boxes"].float(), "region": " or ".join(sorted(regions))}


# ---- crops -----------------------------------------------------------------------------------------------------------


def crop_window(box: Box) -> Window:
    """Returns the square around a box's centre, `CONTEXT` times as wide as its longer side, in whole pixels."""
    side = max(1, round(CONTEXT * max(box.xmax - box.xmin, box.ymax - box.ymin)))
    return Window(round((box.xmin + box.xmax - side) / 2), round((box.ymin + box.ymax - side) / 2), side)


def cut(pixels: np.ndarray, window: Window) -> np.ndarray:
    """Cuts the window's pixels out, (side, side, …); over the border the image is continued by its mirror image."""
    for axis, start in enumerate((window.y, window.x)):
        length, end = pixels.shape[axis], start + window.side
        beyond = max(0, -start), max(0, end - length)
        mirrored = np.pad(np.arange(length), beyond, mode="reflect")  # −1 is 1, −2 is 2
        pixels = pixels.take(mirrored[max(0, start) :][: window.side], axis)
    return pixels


def cut_mask(mask: np.ndarray, window: Window, px: int, least: float = 0.5, mirrored: bool = False) -> np.ndarray:
    """Cuts the window of a mask out, bool (px, px): pixels covered by at least the share `least`.

    Nothing lies over the border unless `mirrored`, as the image is. A mask too thin keeps the pixels it covers most.
    """
    patch = cut(mask, window)  # (side, side)
    if not mirrored:
        rows, columns = (np.arange(start, start + window.side) for start in (window.y, window.x))
        height, width = mask.shape
        patch = patch & ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
    cover = resized_image(patch.astype(np.uint8) * 255, px, Image.Resampling.BOX)  # (px, px)
    return cover >= max(1, min(round(least * 255), int(cover.max())))


def resized_image(pixels: np.ndarray, px: int, how: Image.Resampling) -> np.ndarray:
    return pixels if len(pixels) == px else np.asarray(Image.fromarray(pixels).resize((px, px), how))


def hull_mask(scene: Scene, ship: Ship, segmentation: np.ndarray | None) -> tuple[np.ndarray, bool]:
    """Returns the ship's pixels, bool (H, W), and whether they are a segmentation's; else they are its oriented box."""
    width, height = scene.size
    if segmentation is not None and ship.seg_color is not None:
        levels, colour = np.atleast_3d(segmentation), np.array(ship.seg_color)  # (H, W, 1) or (H, W, 3)
        if levels.shape[-1] == len(colour):
            mask = (levels == colour).all(-1)
            xmin, ymin, xmax, ymax = ship.box  # colours may be a class's, and so be shared by ships
            mask[: math.floor(ymin)] = mask[math.ceil(ymax) :] = False
            mask[:, : math.floor(xmin)] = mask[:, math.ceil(xmax) :] = False
            if mask.any():
                return mask, True
    return ship.mbox.covers(np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5), False
