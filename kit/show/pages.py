"""Figures laid out in px: a page with its title and caption, and the contact sheet of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kit.errors import KitError
from kit.show import style
from kit.show.style import DPI, INK, SMALL, TEXT

EDGE = 12  # px left free at the sides


class Page:
    """A figure of so many px with its title and caption; `axes` covers it all, in px, y downwards."""

    def __init__(self, width: float, height: float, title: str, caption: str) -> None:
        self.width, self.height = width, height
        self.figure = style.new_figure(width, height)
        style.frame(self.figure, title, caption)
        right, bottom = self.figure.get_size_inches() * DPI
        self.axes = self.figure.add_axes((0, 0, 1, 1), xlim=(0, right), ylim=(bottom, 0))
        self.axes.set_axis_off()

    def place(self, left: float, bottom: float, width: float, height: float, **options: Any) -> Axes:
        """New axes of so many px, whose lower left corner is at (left, bottom)."""
        corner = left / self.width, 1 - bottom / self.height
        return self.figure.add_axes((*corner, width / self.width, height / self.height), **options)

    def write(
        self, x: float, middle: float, text: str, align: str, size: float = TEXT, colour: str = INK, bold: bool = False
    ) -> None:
        """Writes lines of text about a height; baselines do not depend on which letters there are."""
        lines = text.split("\n")
        weight = "bold" if bold else "normal"
        for i, line in enumerate(lines):
            above = (i - (len(lines) - 1) / 2) * style.line_height(size)
            baseline = middle + above + 0.36 * size * DPI / 72  # half a capital's height
            if line:
                look = {"size": size, "color": colour, "weight": weight, "parse_math": False}
                self.axes.text(x, baseline, line, ha=align, va="baseline", **look)


@style.styled()
def contact_sheet(
    images: np.ndarray,
    titles: Sequence[str] | None = None,
    columns: int = 8,
    *,
    title: str = "",
    caption: str = "",
    tile: float = 110,
) -> Figure:
    """Images (N, H, W, 3) uint8 in a grid, each `tile` px wide, with a title above each if given."""
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[-1] != 3 or 0 in images.shape[1:] or images.dtype != np.uint8:
        raise KitError(f"images {images.shape} {images.dtype} cannot be drawn; allowed: (N, H, W, 3) uint8")
    if titles is not None and len(titles) != len(images):
        raise KitError(f"{len(titles)} titles do not go with {len(images)} images; allowed: one for each")
    n, tall, wide, _ = images.shape
    columns = max(1, min(columns, n))
    names = [style.wrapped(str(t), tile, SMALL) for t in titles] if titles is not None else [""] * n
    sizes = [style.text_size(t, SMALL) if t else (0.0, 0.0) for t in names]
    gap = 8
    step = max([tile, *(width for width, _ in sizes)]) + gap  # one long word may be wider than its image
    tile_height = tile * tall / wide
    above = [height + 4 if height else 0.0 for _, height in sizes]
    rows = [max(above[first : first + columns]) + tile_height + gap for first in range(0, n, columns)]
    width = max(2 * EDGE + columns * step - gap, 300)
    head, foot = style.frame_heights(width, title, caption)
    page = Page(width, head + sum(rows) + foot, title, caption)
    for i, (image, name) in enumerate(zip(images, names, strict=True)):
        x = EDGE + (i % columns) * step
        bottom = head + sum(rows[: i // columns + 1]) - gap
        place = page.place(x, bottom, tile, tile_height)
        place.imshow(image, interpolation="nearest" if wide <= 2 * tile else "antialiased", aspect="auto")
        place.set_axis_off()
        page.write(x, bottom - tile_height - 2 - sizes[i][1] / 2, name, "left", SMALL)
    return page.figure
