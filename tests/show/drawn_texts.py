"""The texts of a figure that reach its canvas: what tests of all its pictures look at."""

from __future__ import annotations

from unittest.mock import patch

from matplotlib.figure import Figure
from matplotlib.text import Text

from kit.show.artefacts import png_bytes

Texts = list[tuple[str, tuple[float, float, float, float]]]  # each with its box: left, bottom, right, top


def drawn_texts(figure: Figure) -> Texts:
    """Every text that reaches the canvas, with its box in px at the figure's dpi."""
    seen = {}  # by text artist: saving goes over the figure more than once
    original = Text.draw

    def recorded(self, renderer):
        if self.get_visible() and self.get_text().strip():
            seen[id(self)] = (self.get_text(), self.get_window_extent(renderer).extents)
        return original(self, renderer)

    with patch.object(Text, "draw", recorded):
        png_bytes(figure)
    return list(seen.values())


def cut(figure: Figure, texts: Texts) -> list[str]:
    """Those of the texts that do not lie on the canvas as a whole, to within half a px."""
    width, height = figure.bbox.size
    return [
        text
        for text, (left, bottom, right, top) in texts
        if min(left, bottom) < -0.5 or right > width + 0.5 or top > height + 0.5
    ]
