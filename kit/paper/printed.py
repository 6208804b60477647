"""What the paper printed: Tables 1 to 4 and its headline claims, as data. Accuracies in %, times in seconds."""

from __future__ import annotations

import math
from typing import NamedTuple


class Accuracy(NamedTuple):
    """Table 1: training-set Top-5 accuracy (%) after so many epochs."""

    top5: float
    epochs: int


ROLE_TITLES = {"cifar-10": "CIFAR-10", "cifar-100": "CIFAR-100", "imagenet": "ImageNet", "hrsc2016": "HRSC2016"}

TABLE_1: dict[tuple[str, str], Accuracy] = {
    (model, role): Accuracy(*cell)
    for model, cells in {
        "cnn": ((88.52, 250), (78.47, 400), (52.26, 800), (89.00, 350)),
        "vgg16": ((96.56, 300), (95.41, 200), (75.43, 1000), (90.28, 200)),
        "vgg19": ((98.02, 300), (98.66, 150), (77.21, 1000), (91.87, 200)),
        "resnet34": ((99.99, 150), (98.99, 150), (80.44, 1000), (96.03, 200)),
        "resnet50": ((99.99, 150), (98.32, 150), (81.98, 1000), (98.20, 200)),
    }.items()
    for role, cell in zip(ROLE_TITLES, cells, strict=True)
}


class Timed(NamedTuple):
    """A student: Top-1 and Top-5 (%), and seconds. Table 3 prints no Top-1."""

    top1: float | None
    top5: float
    seconds: float

    def saved_of(self, other: Timed) -> float:
        """How much less time it took than the other, in %."""
        return 100 * (1 - self.seconds / other.seconds)

    def told(self, digits: int) -> dict[str, str]:
        """Gives its columns in a text table: accuracies with so many digits, empty where nothing is printed."""
        tops = {f"paper Top-{k}": as_printed(top, f".{digits}f") for k, top in ((1, self.top1), (5, self.top5))}
        return tops | {"paper time s": as_printed(self.seconds, ".0f")}


UNPRINTED = Timed(math.nan, math.nan, math.nan)  # of a procedure that the paper does not have


def as_printed(value: float, form: str) -> str:
    """`95.2`, or nothing where nothing is printed."""
    return "" if math.isnan(value) else format(value, form)


TEMPERATURES = ("T=5", "T=20", "adaptive")

TABLE_2: dict[str, Timed] = {  # CIFAR-100, ResNet-50 → ResNet-34, 50 epochs
    "T=5": Timed(88.9, 95.2, 4166),
    "T=20": Timed(92.1, 98.5, 3425),
    "adaptive": Timed(95.3, 99.1, 2644),
}


class Configuration(NamedTuple):
    """A row group of Table 3: who teaches whom on what."""

    role: str
    explained: str  # the big teacher
    small: str  # the small teacher
    student: str  # the explaining model


TABLE_3: dict[Configuration, dict[str, Timed]] = {
    Configuration(*names): dict(zip(TEMPERATURES, (Timed(None, *row) for row in rows), strict=True))
    for names, rows in {
        ("cifar-10", "resnet34", "vgg19", "vgg16"): ((98.72, 6934), (99.99, 6702), (99.99, 6411)),
        ("cifar-10", "resnet34", "vgg16", "vgg19"): ((98.01, 6800), (99.99, 6588), (99.99, 6027)),
        ("cifar-100", "resnet50", "vgg19", "resnet34"): ((74.24, 13620), (75.45, 11064), (83.06, 8203)),
        ("cifar-100", "resnet50", "vgg19", "vgg16"): ((72.20, 12344), (74.58, 10275), (85.08, 7942)),
        ("imagenet", "resnet50", "vgg19", "vgg16"): ((64.54, 70275), (63.24, 58495), (72.08, 50276)),
        ("imagenet", "resnet50", "vgg19", "resnet34"): ((67.26, 68980), (69.65, 54064), (76.07, 51277)),
        ("imagenet", "resnet50", "vgg16", "vgg19"): ((62.60, 68640), (65.73, 57400), (73.44, 49020)),
        ("hrsc2016", "vgg19", "cnn", "vgg16"): ((81.10, 6452), (82.50, 5604), (87.18, 4921)),
    }.items()
}

TABLE_4: dict[str, Timed] = {  # CIFAR-100, ResNet-50 explained, VGG-16 small teacher, VGG-19 student, T=20, 150 epochs
    "[9]": Timed(68.88, 80.27, 16344),
    "[10]": Timed(67.14, 88.20, 18040),
    "[11]": Timed(63.15, 81.93, 22275),
    "[12]": Timed(63.67, 82.74, 14879),
    "[13]": Timed(60.45, 83.58, 11775),
    "ours": Timed(65.15, 86.95, 7921),
}

TABLE_2_EPOCHS, TABLE_3_EPOCHS, TABLE_4_EPOCHS = 50, 150, 150
