"""A picture's file, read as a viewer shows it: upright, RGB, 8 bits. `docs/images.md` has the table."""

from __future__ import annotations

import hashlib
import io
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy import ndarray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

FORMATS = (
    "AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "SGI", "TGA", "TIFF", "WEBP",
)  # fmt: skip
EXTENSIONS = (
    ".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".apng", ".avif", ".dib", ".gif",
    ".j2k", ".jfif", ".jp2", ".jpe", ".jpx", ".mpo", ".pbm", ".pcx", ".pnm", ".sgi", ".tga",
)  # fmt: skip
BACKGROUND = (255, 255, 255, 255)  # what shows through where a picture is transparent: white
SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap width and height


class Picture(NamedTuple):
    """A picture's first frame in RGB. `size` is its whole width and height, though it may have been decoded smaller.

    `how` says what Pillow's own conversion to RGB would have shown otherwise: turned, deep, over white; '' if nothing.
    """

    image: Image.Image
    size: tuple[int, int]
    how: str


def read(content: bytes, px: int | None = None) -> Picture:
    """Reads a picture; with `px` a much larger JPEG is decoded at a half, a quarter or an eighth.

    ValueError for a format, a depth or a mode that is not read; whatever Pillow raises for what is damaged.
    """
    with Image.open(io.BytesIO(content)) as image:
        if image.format not in FORMATS:
            raise ValueError(f"format {image.format} is not read; allowed: {', '.join(FORMATS)}")
        size = image.size
        if px is not None:
            image.draft(None, (2 * px, 2 * px))
        image.load()
        orientation = 1
        with suppress(Exception):  # metadata that cannot be read turn nothing
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
            ImageOps.exif_transpose(image, in_place=True)
        rgb, how = as_rgb(image)
    if orientation in SIDEWAYS:
        size = size[::-1]
    return Picture(rgb, size, f"turned {how}".strip() if orientation in range(2, 9) else how)


def as_rgb(image: Image.Image) -> tuple[Image.Image, str]:
    """Converts a loaded image to RGB: deep levels by their range, transparency over white; and which of the two."""
    how = ""
    if image.mode.startswith("I") or image.mode == "F":
        image, how = eight_bits(image), "deep"
    if image.has_transparency_data:
        rgba = image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
        if rgba.getchannel("A").getextrema()[0] < 255:
            over = Image.new("RGBA", image.size, BACKGROUND)
            over.alpha_composite(rgba)
            return over.convert("RGB"), f"{how} over white".strip()
    return image.convert("RGB"), how


def eight_bits(image: Image.Image) -> Image.Image:
    """Scales grey levels of more than 8 bits to L by the range of their type, floats from 0 … 1; transparency is kept.

    ValueError for levels whose range nothing says.
    """
    tags = getattr(image, "tag_v2", {})  # a TIFF's own
    levels: ndarray = np.asarray(image)
    if image.mode == "F":
        top = 1.0
        if not np.isfinite(levels).all() or levels.min() < 0 or levels.max() > 1:
            raise ValueError(f"float levels from {levels.min():g} to {levels.max():g} are not read; allowed: 0 to 1")
    elif image.mode == "I" and image.format != "PPM":
        raise ValueError("levels that are signed or of 32 bits are not read; allowed: 8 or 16 bits, floats from 0 to 1")
    else:
        top = float(2 ** max(tags.get(258, (16,))) - 1)  # BitsPerSample
    if tags.get(262) == 0:  # PhotometricInterpretation: white is zero
        levels = top - levels
    grey = Image.fromarray(np.rint(levels / top * 255).astype(np.uint8))
    transparent = image.info.get("transparency")
    if transparent is None:
        return grey
    grey.putalpha(Image.fromarray(np.where(np.asarray(image) == transparent, 0, 255).astype(np.uint8)))
    return grey


class Decoded(NamedTuple):
    """One file: its image uint8 (px, px, 3), or None and the reason; "<size> <sha256>" of its bytes, and how they were
    read where Pillow alone would show another picture; and the whole picture's width and height.
    """

    pixels: ndarray | None
    reason: str
    file_hash: str
    size: tuple[int, int] = (0, 0)


def decode_file(path: Path, px: int) -> Decoded:
    """Reads and decodes one file: shorter side resized to px (bilinear), centre crop. Whatever is wrong with it becomes
    the reason."""
    content, pixels, size, how, reason = b"", None, (0, 0), "", ""
    try:
        content = path.read_bytes()
        image, size, how = read(content, px)
        if image.size != (px, px):
            image = ImageOps.fit(image, (px, px), Image.Resampling.BILINEAR)
        pixels = np.asarray(image)
    except UnidentifiedImageError:
        reason = "not an image" if content else "an empty file"
    except OSError as error:
        reason = error.strerror or str(error)
    except Exception as error:  # of one file among many, from any of Pillow's plugins
        reason = str(error) or type(error).__name__
    file_hash = f"{len(content)} {hashlib.sha256(content).hexdigest()} {how}".strip()
    return Decoded(pixels, reason.splitlines()[0] if reason else "", file_hash, size)
