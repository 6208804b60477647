"""The embedded stand-in for ImageNet: a generated ImageFolder tree of JPEGs, read by the loader that reads real ones.

20 classes, 5 groups of 4, of objects the 100-class set does not have. They differ in ways a mirror keeps.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from PIL import Image

from kit.data.base import Dataset
from kit.data.folder import folder_dataset
from kit.data.generated import VARIATIONS, Look, draw
from kit.data.stand_in import kept_tree
from kit.runtime.process import keep_freed_memory

NAME = "generated image tree (5 groups × 4)"
PX = 64
CLUTTER = 9  # dull things lying about
TRAIN_PER_CLASS, TEST_PER_CLASS = 60, 20
TRAIN_STREAM, TEST_STREAM = 3_000, 4_000  # seeds; the 100-class set has 1,000 and 2,000

# variation, shape, texture, hue
GROUPS = (
    ("hue", "house", "plain", 0.05),
    ("hue", "drop", "rings", 0.55),
    ("fineness", "arrow", "stripes", 0.30),
    ("aspect", "T", "plain", 0.75),
    ("aspect", "dumb-bell", "checks", 0.12),
)


def tree_looks() -> list[Look]:
    """Lists the 20 classes in sorted order of their folders' names."""
    classes = []
    for variation, shape, texture, hue in GROUPS:
        base = Look(shape, shape, texture, hue)
        for i in range(4):
            look = VARIATIONS[variation](base, i)
            classes.append(replace(look, name=f"{shape.lower()}_{variation}_{i + 1}"))
    return sorted(classes, key=lambda look: look.name)


def generated_tree(px: int, train_per_class: int | None = None, test_per_class: int | None = None) -> Dataset:
    """Loads the imagenet role's stand-in at px × px, at most so many images a class; its tree is written once."""
    return folder_dataset(
        written_tree(), "imagenet", px, train_per_class, test_per_class, streamed=True, name=NAME, source="embedded"
    )


def written_tree() -> Path:
    """Returns the tree in the kit's cache, named by a hash of each class's first images, so that another way of drawing
    makes another tree."""
    digest, plan = hashlib.sha256(), {"train_per_class": TRAIN_PER_CLASS, "test_per_class": TEST_PER_CLASS}
    for c, look in enumerate(tree_looks()):
        digest.update(look.name.encode())
        digest.update(draw(look, PX, 2, TRAIN_STREAM + c, clutter=CLUTTER))
    return kept_tree("trees", f"generated-{PX}px-{digest.hexdigest()[:12]}", plan, write_tree)


def write_tree(root: Path) -> None:
    """Writes train/ and val/, a folder a class, numbered JPEGs."""
    keep_freed_memory()
    for split, per_class, stream in (("train", TRAIN_PER_CLASS, TRAIN_STREAM), ("val", TEST_PER_CLASS, TEST_STREAM)):
        for c, look in enumerate(tree_looks()):
            folder = root / split / look.name
            folder.mkdir(parents=True)
            for i, pixels in enumerate(draw(look, PX, per_class, stream + c, clutter=CLUTTER)):
                Image.fromarray(pixels).save(folder / f"{i:04d}.jpeg", quality=90)
