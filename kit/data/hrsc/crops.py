"""What is cut out of a scene: square crops around ships, and masks of their hulls in the crop's pixels."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from PIL import Image

from kit.data.hrsc.format import Box, Scene, Ship

CONTEXT = 1.6  # a crop's side over the longer side of its ship's upright box


class Window(NamedTuple):
    """A square of whole pixels; it may reach over the image's border."""

    x: int
    y: int
    side: int


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
