"""Figures and tables as files and as notebook output: the same numbers give the same bytes, in another process too."""

from __future__ import annotations

import io
import re
from base64 import b64encode
from collections.abc import Hashable, Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from IPython.display import Image, display
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image as Pixels

from kit.errors import KitError
from kit.files import write_atomically
from kit.show.html_tables import Table
from kit.show.style import DPI, styled
from kit.show.themes import themed


def save(
    fig: Figure | Table, name: str, out: str | Path | None, data: pd.DataFrame | None = None
) -> tuple[Path, ...] | None:
    """Writes `<out>/<name>.png`, `.svg` and, of `data`, `.csv`, each at once or not at all; returns their paths.

    Of a table its picture is written. With `out=None` nothing is. No date, program version or random id goes into them.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise KitError(f"name {name!r} is not allowed; allowed: letters, digits, '.', '_' and '-'")
    if isinstance(fig, Figure):
        fig.set_label(name)  # is drawn nowhere: `picture` passes it on, so that a page can name the file
    if out is None:
        return None
    fig = _figure(fig)
    files = {f"{name}.png": packed(png_bytes(fig, scale=2)), f"{name}.svg": svg_bytes(fig)}
    if data is not None:
        files[f"{name}.csv"] = csv_bytes(data)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        write_atomically(folder / file, content)
    return tuple(folder / file for file in files)


def _figure(fig: Figure | Table) -> Figure:
    """The figure, of a table its picture."""
    return fig.picture() if isinstance(fig, Table) else fig


def png_bytes(fig: Figure | Table, scale: float = 1) -> bytes:
    """The figure, of a table its picture, as PNG, `scale` times its 100 dpi."""
    buffer = io.BytesIO()
    with styled():
        _figure(fig).savefig(buffer, format="png", dpi=scale * DPI, metadata={"Software": None})
    return buffer.getvalue()


FEW_COLOURS = 1024


def packed(png: bytes) -> bytes:
    """A PNG of text and lines, which has few colours, with a palette of 256 of them: less than half the bytes."""
    image = Pixels.open(io.BytesIO(png)).convert("RGB")
    if image.getcolors(FEW_COLOURS) is None:
        return png
    buffer = io.BytesIO()
    image.quantize(256, dither=Pixels.Dither.NONE).save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def svg_bytes(fig: Figure | Table, ground: bool = True) -> bytes:
    """The figure, of a table its picture, as self-contained SVG: letters are outlines. Without its `ground` it is one
    to set into a page."""
    buffer = io.BytesIO()
    unsaid = ("Date", "Creator") if ground else ("Date", "Creator", "Format", "Type")
    with styled():
        _figure(fig).savefig(buffer, format="svg", metadata=dict.fromkeys(unsaid), transparent=not ground)
    return buffer.getvalue()


def csv_bytes(data: pd.DataFrame) -> bytes:
    """The table as CSV with six significant digits and `\\n` line ends; the index only where it says something."""
    keep_index = not isinstance(data.index, pd.RangeIndex)
    return data.to_csv(index=keep_index, float_format="%.6g", lineterminator="\n").encode()


def left_behind(file: Path, columns: Iterable[str]) -> pd.DataFrame | None:
    """Reads, as text, the table that an earlier call has left; None where there is none, or one without these columns.

    By it a call knows what the kit has written, and removes what would stand beside a new table that it is not of.
    """
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
    except (OSError, ValueError):
        return None
    return table if {*columns} <= {*table} else None


class Picture(Image):
    """A figure as PNG and as HTML, which JupyterLab prefers: an SVG in the page's theme, with its alt text."""

    def __init__(self, png: bytes, svg: bytes, alt: str, width: int, artefact: str) -> None:
        super().__init__(data=png, format="png", metadata={"artefact": artefact}, width=width, alt=alt)
        self._svg = svg

    def _repr_html_(self) -> str:
        source = b64encode(self.data).decode()
        size = f'width="{self.width}" style="max-width: 100%; height: auto"'
        still = f'<img src="data:image/png;base64,{source}" alt="{escape(self.alt)}" {size}>'
        return themed(self._svg, self.alt, self.width, instead=still)


def picture(fig: Figure | Table, alt: str | None = None) -> Picture:
    """The figure, also a table's, as a notebook's picture, sharp on dense screens. `alt` is read aloud; by default it
    is the title."""
    fig = _figure(fig)
    about = {"width": round(fig.get_figwidth() * DPI), "alt": alt or fig.get_suptitle() or "figure"}
    return Picture(png_bytes(fig, scale=2), svg_bytes(fig, ground=False), artefact=str(fig.get_label()), **about)


def show(fig: Figure | Table, alt: str | None = None) -> None:
    """Displays the figure under the cell; a table as HTML, with its own caption."""
    display(fig if isinstance(fig, Table) else picture(fig, alt))


class LivePicture:
    """A figure that is drawn again and again: its `moving` artists are drawn over a kept background.

    `png(background)` draws the rest anew only where the key `background` is not that of the last time.
    """

    def __init__(self, fig: Figure, moving: Sequence[Artist]) -> None:
        self._fig, self._moving = fig, list(moving)
        self._background: tuple[Hashable, Any] | None = None
        fig.set_dpi(1.5 * DPI)  # sharp on dense screens, too
        for artist in self._moving:
            artist.set_animated(True)  # left out when the figure is drawn

    def png(self, background: Hashable) -> bytes:
        """The picture as it is now."""
        canvas = cast(FigureCanvasAgg, self._fig.canvas)
        with styled():
            if self._background is None or self._background[0] != background:
                canvas.draw()
                self._background = (background, canvas.copy_from_bbox(self._fig.bbox))
            canvas.restore_region(self._background[1])
            for artist in self._moving:
                artist.axes.draw_artist(artist)
        return pixels_png(np.asarray(canvas.buffer_rgba())[..., :3])


def pixels_png(pixels: np.ndarray, compress: int = 1) -> bytes:
    """Pixels (H, W, 3) uint8 as PNG."""
    buffer = io.BytesIO()
    Pixels.fromarray(pixels).save(buffer, format="png", compress_level=compress)
    return buffer.getvalue()
