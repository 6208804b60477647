"""ImageFolder trees built by hand."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image


def picture(seed: int, size: tuple[int, int] = (20, 20)) -> Image.Image:
    rng = np.random.RandomState(seed)
    return Image.fromarray(rng.randint(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def build_tree(root: Path, classes=("bee", "ant"), per_class=(4, 2), test="val", size=(20, 20)) -> Path:
    seed = 0
    for split, n in (("train", per_class[0]), (test, per_class[1])):
        for name in classes:
            (root / split / name).mkdir(parents=True)
            for i in range(n):
                seed += 1
                picture(seed, size).save(root / split / name / f"{i}.png")
    return root


def shaded_tree(root: Path, classes: dict[str, tuple[int, int]]) -> None:
    """Writes so many training and test images of each class: noise, a shade a class, near enough to be confused."""
    rng = np.random.default_rng(0)
    for shade, (name, counts) in enumerate(classes.items()):
        for split, count in zip(("train", "test"), counts, strict=True):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                low = rng.integers(0, 60) + 30 * shade
                pixels = rng.integers(low, low + 60, (20, 20, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")


def damage(tree: Path) -> None:
    """In train/ant: a truncated JPEG, an empty file and a text; in val/bee: a broken PNG."""
    jpeg = io.BytesIO()
    picture(77, (60, 60)).save(jpeg, "JPEG")
    (tree / "train" / "ant" / "cut.jpg").write_bytes(jpeg.getvalue()[:700])
    (tree / "train" / "ant" / "empty.png").write_bytes(b"")
    (tree / "train" / "ant" / "text.bmp").write_text("not a picture")
    png = bytearray((tree / "val" / "bee" / "0.png").read_bytes())
    png[60:90] = bytes(30)
    (tree / "val" / "bee" / "broken.png").write_bytes(png)
