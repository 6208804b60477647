"""A run that is trained once for the room's tests, and pictures of many modes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_students import of

from kit.deploy import FORMATS, export
from kit.runs.store import Result
from kit.runs.training import train


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> tuple[Path, Result]:
    """A cache, and the finished run in it."""
    cache = tmp_path_factory.mktemp("deploy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KIT_CACHE", str(cache))
        return cache, train(of("cnn"))


@pytest.fixture(scope="session")
def taken(finished, tmp_path_factory) -> Path:
    """The finished run's student, taken home in every format."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KIT_CACHE", str(finished[0]))
        return export(finished[1].run.hash, tmp_path_factory.mktemp("home") / "student", tuple(FORMATS)).folder


@pytest.fixture
def result(finished, monkeypatch) -> Result:
    """The finished run, in the cache that is looked into."""
    monkeypatch.setenv("KIT_CACHE", str(finished[0]))
    return finished[1]


def picture(width: int, height: int) -> Image.Image:
    """Broad stripes and a corner of its own colour: turned, cropped or scaled otherwise it is another picture."""
    y, x = np.mgrid[:height, :width]
    levels = np.stack([255 * x / width, 255 * y / height, 255 * ((x // 9 + y // 5) % 2)], -1)
    levels[: height // 3, : width // 3] = 250, 10, 40
    return Image.fromarray(levels.astype(np.uint8))


@pytest.fixture
def album(tmp_path) -> Path:
    """A folder of whole pictures, each of its own mode, size or orientation."""
    folder, wide = tmp_path / "album", picture(90, 60)
    folder.mkdir()
    wide.save(folder / "rgb.png")
    for ending in ("png", "webp"):
        wide.save(folder / f"odd-exif.{ending}", exif=b"no metadata", lossless=True)
    picture(8, 8).save(folder / "as-small.png")
    picture(5, 7).save(folder / "smaller.bmp")
    picture(700, 500).save(folder / "large.jpg")  # decoded at an eighth
    for orientation in range(2, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        wide.save(folder / f"turned-{orientation}.jpg", exif=exif)
    wide.convert("CMYK").save(folder / "cmyk.jpg")
    for mode in ("1", "L", "P"):
        wide.convert(mode).save(folder / f"mode-{mode}.png")
    clear = Image.linear_gradient("L").resize(wide.size)
    for mode in ("LA", "RGBA"):
        image = wide.convert(mode)
        image.putalpha(clear)
        image.save(folder / f"clear-{mode}.png")
    wide.convert("P").save(folder / "clear-colour.gif", transparency=3)
    return folder
