"""The paper's headline figures, recomputed from its own printed tables: which of them follow from its numbers?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    rows, five_others = list(TABLE_3.values()), [cell for name, cell in TABLE_4.items() if name != "ours"]
    vgg19_student = TABLE_3[Configuration("imagenet", "resnet50", "vgg16", "vgg19")]
    on_cifar100 = TABLE_3[Configuration("cifar-100", "resnet50", "vgg19", "resnet34")]
    no_top1, no_vgg16 = "Table 3 prints no Top-1", "no configuration on CIFAR-100 has VGG-16 as small teacher"
    vgg16_taught = "VGG-19 student, VGG-16 small teacher, against ResNet-50 at T=5"
    exchanged = "ResNet-34 on CIFAR-100: VGG-16 instead of VGG-19 as small teacher"

    def small_teachers(**where: str) -> float:
        return mean_time([row for names, row in TABLE_3.items() if where.items() <= names._asdict().items()], "T=5")

    of_time = {
        "Table 3, adaptive against T=5, mean of ratios": mean_time(rows, "T=5"),
        "Table 3, adaptive against T=20, mean of ratios": mean_time(rows, "T=20"),
        "Table 3, both, mean of ratios": fmean([mean_time(rows, "T=5"), mean_time(rows, "T=20")]),
        "Table 3, against T=5, ratio of sums": time_of_sums(rows, "T=5"),
        "Table 3, against T=20, ratio of sums": time_of_sums(rows, "T=20"),
        "Tables 2 and 3, against T=5, mean of ratios": mean_time([*rows, TABLE_2], "T=5"),
        "Tables 2 and 3, against T=20, mean of ratios": mean_time([*rows, TABLE_2], "T=20"),
    }
    of_top1 = {
        "Table 2, against T=5": top1(TABLE_2, "T=5"),
        "Table 2, against T=20": top1(TABLE_2, "T=20"),
        "Table 4, against the other five": TABLE_4["ours"].top1 - fmean(other.top1 for other in five_others),
    }
    of_small_teachers = {
        "Table 3, against T=5, mean of ratios": small_teachers(),
        "Table 3, against T=5, ResNet-50 explained": small_teachers(explained="resnet50"),
        "Table 3, against T=5, VGG-16 as small teacher": small_teachers(small="vgg16"),
        "Table 3, against T=5, CIFAR-100": small_teachers(role="cifar-100"),
    }
    of_vgg19 = {"Table 3 on ImageNet, Top-5": vgg19_student["adaptive"].top5 - vgg19_student["T=5"].top5}
    of_exchange = {"Table 3, T=20 against T=5 (no row has VGG-16)": on_cifar100["T=5"].top5 - on_cifar100["T=20"].top5}
    of_table_2 = {T: {"Table 2": top1(TABLE_2, T)} for T in ("T=5", "T=20")}
    read_off = "the text reads {} off after 40 epochs, adaptive after 50"

    return [
        Headline("mean time of all experiments", "abstract, Sections 2.4 and 3", -26.33, "%", of_time),
        Headline("mean Top-1 of all experiments", "abstract, Sections 2.4 and 3", 2.45, "points", of_top1, no_top1),
        Headline("Table 2: time against T=20", "Section 2.3", -24.7, "%", {"Table 2": time(TABLE_2, "T=20")}),
        Headline("Table 2: time against T=5", "Section 2.3", -36.5, "%", {"Table 2": time(TABLE_2, "T=5")}),
        Headline("Table 2: Top-1 against T=5", "Section 2.3", 5, "points", of_table_2["T=5"], read_off.format("T=5")),
        Headline(
            "Table 2: Top-1 against T=20", "Section 2.3", 3, "points", of_table_2["T=20"], read_off.format("T=20")
        ),
        Headline(f"{vgg16_taught}: Top-1", "Section 2.4", 3.37, "points", of_vgg19, no_top1),
        Headline(f"{vgg16_taught}: time", "Section 2.4", -33, "%", {"Table 3 on ImageNet": time(vgg19_student, "T=5")}),
        Headline("small teachers save time, on average", "Section 2.4", -30.6, "%", of_small_teachers),
        Headline(f"{exchanged}, accuracy", "Section 2.4", -1.84, "points", of_exchange, no_vgg16),
        Headline(f"{exchanged}, time", "Section 2.4", -11.1, "%", {}, no_vgg16),
    ]


def top1(table: Mapping[str, Timed], T: str) -> float:
    """The adaptive temperature's Top-1 less that at T, in points."""
    return table["adaptive"].top1 - table[T].top1


def time(table: Mapping[str, Timed], T: str) -> float:
    """The change of time from T to the adaptive temperature, in %."""
    return -table["adaptive"].saved_of(table[T])


def mean_time(tables: Sequence[Mapping[str, Timed]], T: str) -> float:
    return fmean(time(table, T) for table in tables)


def time_of_sums(tables: Sequence[Mapping[str, Timed]], T: str) -> float:
    return 100 * (sum(each["adaptive"].seconds for each in tables) / sum(each[T].seconds for each in tables) - 1)


def recomputed() -> pd.DataFrame:
    """Each headline, the closest of the readings tried, and whether it gives the printed figure to its last digit."""
    return pd.DataFrame([headline.line() for headline in headlines()])
