"""Presets: sizes, never code paths. `paper` is the paper's scale, for a GPU; `quick` a laptop's; `smoke` the tests'."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from kit.data.roles import OWN
from kit.errors import one_of

Stem = Literal["imagenet", "small"]


@dataclass(frozen=True)
class Size:
    """A role at a preset. None per class means all there are; None teacher epochs means Table 1's own."""

    px: int
    train_per_class: int | None
    test_per_class: int | None
    epochs: int  # of a student
    teacher_epochs: int | None
    batch: int = 128
    stem: Stem = "small"


@dataclass(frozen=True)
class Preset:
    """`width` is a network's first channel count (the paper's is 64); teachers are wider where sizes are shrunk, so
    that they are clearly better than their students: under a weak teacher no method can help."""

    name: str
    roles: Mapping[str, Size] = field(hash=False)
    teacher_width: int
    student_width: int
    seeds: int
    says: str  # what its numbers can and cannot show
    lr: float = 0.1  # peak learning rate
    lrs: Mapping[str, float] = field(default_factory=dict, hash=False)  # of networks, by name, that want another one
    updates: Mapping[str, Any] = field(default_factory=dict, hash=False)  # of weights: what else a recipe is given
    real: Mapping[str, Size] = field(default_factory=dict, hash=False)  # of roles that real images fill, where others


LARGE = 96  # px from which on a stem that keeps a quarter of the pixels leaves enough of them


def stem_at(px: int) -> Stem:
    """The stem of the kit's networks for images of a size of one's own."""
    return "imagenet" if px >= LARGE else "small"


PRESETS = {
    "smoke": Preset(
        name="smoke",
        roles={
            "cifar-10": Size(px=16, train_per_class=16, test_per_class=8, epochs=2, teacher_epochs=3, batch=32),
            "cifar-100": Size(px=16, train_per_class=2, test_per_class=1, epochs=2, teacher_epochs=3, batch=32),
            "imagenet": Size(px=16, train_per_class=6, test_per_class=3, epochs=2, teacher_epochs=3, batch=32),
            "hrsc2016": Size(px=16, train_per_class=8, test_per_class=4, epochs=2, teacher_epochs=3, batch=32),
            OWN: Size(px=16, train_per_class=6, test_per_class=3, epochs=2, teacher_epochs=3, batch=32),
        },
        teacher_width=4,
        student_width=4,
        seeds=2,
        says="smoke proves that everything runs; its numbers mean nothing",
    ),
    "quick": Preset(
        name="quick",
        roles={
            # few images, as digits are easily learnt: from 140 a class every network knows 99 %, and no method differs
            "cifar-10": Size(px=16, train_per_class=20, test_per_class=100, epochs=36, teacher_epochs=72, batch=32),
            # 36, so that even VGG-19, which is slow to start on 100 classes, is better than the students it teaches
            "cifar-100": Size(px=16, train_per_class=25, test_per_class=15, epochs=12, teacher_epochs=36, batch=64),
            "imagenet": Size(px=16, train_per_class=50, test_per_class=20, epochs=18, teacher_epochs=36, batch=64),
            "hrsc2016": Size(px=32, train_per_class=80, test_per_class=40, epochs=10, teacher_epochs=24, batch=64),
            OWN: Size(px=16, train_per_class=50, test_per_class=20, epochs=18, teacher_epochs=36, batch=64),
        },
        teacher_width=8,
        student_width=8,
        seeds=3,
        says="quick compares methods on narrow networks and small images; it cannot show the paper's own figures",
        lr=0.05,  # narrow networks learn more, and seeds scatter less, than at 0.1: docs/regime.md
        real={  # photographs are learnt from many more images than their stand-ins
            "cifar-10": Size(px=16, train_per_class=500, test_per_class=200, epochs=12, teacher_epochs=30, batch=64),
            "cifar-100": Size(px=16, train_per_class=100, test_per_class=50, epochs=10, teacher_epochs=24, batch=64),
            "imagenet": Size(px=16, train_per_class=400, test_per_class=80, epochs=12, teacher_epochs=30, batch=64),
        },
    ),
    "paper": Preset(
        name="paper",
        roles={
            "cifar-10": Size(px=32, train_per_class=None, test_per_class=None, epochs=150, teacher_epochs=None),
            "cifar-100": Size(px=32, train_per_class=None, test_per_class=None, epochs=150, teacher_epochs=None),
            "imagenet": Size(224, None, None, epochs=150, teacher_epochs=None, stem="imagenet"),
            "hrsc2016": Size(224, None, None, epochs=150, teacher_epochs=None, stem="imagenet"),
            OWN: Size(224, None, None, epochs=150, teacher_epochs=150, stem="imagenet"),
        },
        teacher_width=64,
        student_width=64,
        seeds=3,
        says="paper has the paper's widths, epochs and batch; what it leaves open is read as the kit's defaults",
    ),
}


def preset_named(name: str) -> Preset:
    """Raises KitError for an unknown name."""
    return PRESETS[one_of("preset", name, PRESETS)]


def by_crd(preset: Preset) -> Preset:
    """The preset's images and widths under the protocol of the field's tables (`kit.siblings.crd`), teachers' training
    included. Its 240 epochs are 1.6 times those of preset paper, and so 1.6 times those of another one."""
    from kit.siblings import crd

    longer = crd.EPOCHS / PRESETS["paper"].roles["cifar-100"].epochs

    def trained_longer(size: Size) -> Size:
        teacher_epochs = round(longer * (size.teacher_epochs or size.epochs))
        return replace(size, epochs=round(longer * size.epochs), teacher_epochs=teacher_epochs, batch=crd.BATCH)

    roles, real = ({role: trained_longer(size) for role, size in of.items()} for of in (preset.roles, preset.real))
    return replace(preset, roles=roles, real=real, lr=crd.LR, lrs=crd.LRS, updates=crd.UPDATES)
