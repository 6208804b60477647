"""The paper's headline figures, recomputed from its own printed tables: which of them follow from its numbers?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import fmean

import pandas as pd

from kit.paper.printed import TABLE_2, TABLE_3, TABLE_4, Configuration, Timed


@dataclass(frozen=True)
class Headline:
    """A printed figure, and every sensible way to compute it from the printed tables."""

    text: str
    where: str
    printed: float
    unit: str
    readings: Mapping[str, float]
    why_not: str = ""  # what the tables lack, where they lack it

    @property
    def rounding(self) -> float:
        """Half a unit of the last digit that the paper prints."""
        digits = len(f"{self.printed:.10g}".partition(".")[2])
        return 0.5 * 10**-digits + 1e-9

    def line(self) -> dict[str, object]:
        closest = min(self.readings, key=lambda name: abs(self.readings[name] - self.printed), default=None)
        follows = closest is not None and abs(self.readings[closest] - self.printed) <= self.rounding
        found = f"{self.readings[closest]:+.2f} {self.unit}: {closest}" if closest else "nothing to compute it from"
        return {
            "claim": self.text,
            "where": self.where,
            "printed": f"{self.printed:+g} {self.unit}",
            "closest reading of the tables": found,
            "readings tried": len(self.readings),
            "verdict": "follows" if follows else "does not follow",
            "note": self.why_not,
        }


def headlines() -> list[Headline]:
    """All headline claims with the readings that were tried."""
    rows = list(TABLE_3.values())
    by_configuration = TABLE_3
    vgg19_student = by_configuration[Configuration("imagenet", "resnet50", "vgg16", "vgg19")]
    on_cifar100 = by_configuration[Configuration("cifar-100", "resnet50", "vgg19", "resnet34")]
    small = [by_configuration[c] for c in TABLE_3 if c.small == "vgg16"]
    others = [cell for name, cell in TABLE_4.items() if name != "ours"]
    ours = TABLE_4["ours"]
    return [
        Headline(
            "mean time of all experiments",
            "abstract, Sections 2.4 and 3",
            -26.33,
            "%",
            {
                "Table 3, adaptive against T=5, mean of ratios": mean_change(rows, "T=5", by_ratio),
                "Table 3, adaptive against T=20, mean of ratios": mean_change(rows, "T=20", by_ratio),
                "Table 3, both, mean of ratios": fmean([mean_change(rows, T, by_ratio) for T in ("T=5", "T=20")]),
                "Table 3, against T=5, ratio of sums": change_of_sums(rows, "T=5"),
                "Table 3, against T=20, ratio of sums": change_of_sums(rows, "T=20"),
                "Tables 2 and 3, against T=5, mean of ratios": mean_change([*rows, TABLE_2], "T=5", by_ratio),
                "Tables 2 and 3, against T=20, mean of ratios": mean_change([*rows, TABLE_2], "T=20", by_ratio),
            },
        ),
        Headline(
            "mean Top-1 of all experiments",
            "abstract, Sections 2.4 and 3",
            2.45,
            "points",
            {
                "Table 2, against T=5": TABLE_2["adaptive"].top1 - TABLE_2["T=5"].top1,
                "Table 2, against T=20": TABLE_2["adaptive"].top1 - TABLE_2["T=20"].top1,
                "Table 4, against the other five": ours.top1 - fmean(other.top1 for other in others),
            },
            "Table 3 prints no Top-1",
        ),
        Headline(
            "Table 2: time against T=20",
            "Section 2.3",
            -24.7,
            "%",
            {"Table 2": by_ratio(TABLE_2["adaptive"], TABLE_2["T=20"])},
        ),
        Headline(
            "Table 2: time against T=5",
            "Section 2.3",
            -36.5,
            "%",
            {"Table 2": by_ratio(TABLE_2["adaptive"], TABLE_2["T=5"])},
        ),
        Headline(
            "Table 2: Top-1 against T=5",
            "Section 2.3",
            5,
            "points",
            {"Table 2": TABLE_2["adaptive"].top1 - TABLE_2["T=5"].top1},
            "the text reads T=5 off after 40 epochs, adaptive after 50",
        ),
        Headline(
            "Table 2: Top-1 against T=20",
            "Section 2.3",
            3,
            "points",
            {"Table 2": TABLE_2["adaptive"].top1 - TABLE_2["T=20"].top1},
            "the text reads T=20 off after 40 epochs, adaptive after 50",
        ),
        Headline(
            "VGG-19 student, VGG-16 small teacher, against ResNet-50 at T=5: Top-1",
            "Section 2.4",
            3.37,
            "points",
            {"Table 3 on ImageNet, Top-5": vgg19_student["adaptive"].top5 - vgg19_student["T=5"].top5},
            "Table 3 prints no Top-1",
        ),
        Headline(
            "VGG-19 student, VGG-16 small teacher, against ResNet-50 at T=5: time",
            "Section 2.4",
            -33,
            "%",
            {"Table 3 on ImageNet": by_ratio(vgg19_student["adaptive"], vgg19_student["T=5"])},
        ),
        Headline(
            "small teachers save time, on average",
            "Section 2.4",
            -30.6,
            "%",
            {
                "Table 3, against T=5, mean of ratios": mean_change(rows, "T=5", by_ratio),
                "Table 3, against T=5, ResNet-50 explained": mean_change(
                    [cells for c, cells in TABLE_3.items() if c.explained == "resnet50"], "T=5", by_ratio
                ),
                "Table 3, against T=5, VGG-16 as small teacher": mean_change(small, "T=5", by_ratio),
                "Table 3, against T=5, CIFAR-100": mean_change(
                    [cells for c, cells in TABLE_3.items() if c.role == "cifar-100"], "T=5", by_ratio
                ),
            },
        ),
        Headline(
            "ResNet-34 on CIFAR-100: VGG-16 instead of VGG-19 as small teacher, accuracy",
            "Section 2.4",
            -1.84,
            "points",
            {"Table 3, T=20 against T=5 (no row has VGG-16)": on_cifar100["T=5"].top5 - on_cifar100["T=20"].top5},
            "no configuration on CIFAR-100 has VGG-16 as small teacher",
        ),
        Headline(
            "ResNet-34 on CIFAR-100: VGG-16 instead of VGG-19 as small teacher, time",
            "Section 2.4",
            -11.1,
            "%",
            {},
            "no configuration on CIFAR-100 has VGG-16 as small teacher",
        ),
    ]


def by_ratio(ours: Timed, theirs: Timed) -> float:
    """The change of time from theirs to ours, in %."""
    return 100 * (ours.seconds / theirs.seconds - 1)


def mean_change(tables: list[Mapping[str, Timed]], T: str, change: Callable[[Timed, Timed], float]) -> float:
    return fmean(change(cells["adaptive"], cells[T]) for cells in tables)


def change_of_sums(tables: list[Mapping[str, Timed]], T: str) -> float:
    return 100 * (sum(c["adaptive"].seconds for c in tables) / sum(c[T].seconds for c in tables) - 1)


def recomputed() -> pd.DataFrame:
    """Each headline, the closest of the readings tried, and whether it gives the printed figure to its last digit."""
    return pd.DataFrame([headline.line() for headline in headlines()])
