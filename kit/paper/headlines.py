"""The paper's headline claims, recomputed from what it prints: which of them follow from its own figures?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import pandas as pd

from kit.paper.printed import TABLE_2, TABLE_3, TABLE_4, TEMPERATURES, Configuration, Timed

FIXED = ("T=5", "T=20")
TEXT_TIMES, TEXT_TOP1 = (24.7, 36.5, 33, 11.1), (5, 3, 3.37, -1.84)  # the text's four of each, in its order


@dataclass(frozen=True)
class Headline:
    """A sentence of the paper, and every sensible way to compute what it says from the figures that it prints."""

    text: str
    where: str
    printed: float | None  # None: the sentence has no figure, it says that something is above zero
    unit: str
    readings: Mapping[str, float]
    note: str = ""

    @property
    def rounding(self) -> float:
        """Half a unit of the last digit that the paper prints."""
        digits = len(f"{self.printed:.10g}".partition(".")[2])
        return 0.5 * 10**-digits + 1e-9

    def line(self) -> dict[str, object]:
        """A figure follows where one reading gives it to its last digit; a sentence without one, where all agree."""
        if self.printed is None:
            decides = min(self.readings, key=self.readings.__getitem__)
            follows = self.readings[decides] > 0
        else:
            decides = min(self.readings, key=lambda name: abs(self.readings[name] - self.printed), default=None)
            follows = decides is not None and abs(self.readings[decides] - self.printed) <= self.rounding
        return {
            "claim": self.text,
            "where": self.where,
            "printed": "more than 0" if self.printed is None else f"{self.printed:+g} {self.unit}",
            "reading that decides": f"{self.readings[decides]:+.5g} {self.unit}: {decides}" if decides else "none",
            "readings tried": len(self.readings),
            "verdict": "follows" if follows else "does not follow",
            "note": self.note,
        }


def headlines() -> list[Headline]:
    """All headline claims with the readings that were tried."""
    rows, ours, last = list(TABLE_3.values()), TABLE_4["ours"], TABLE_4["[13]"]
    others = [cell for name, cell in TABLE_4.items() if name != "ours"]
    taught = TABLE_3[Configuration("imagenet", "resnet50", "vgg16", "vgg19")]
    vgg16_taught = "VGG-19 student, VGG-16 small teacher, against ResNet-50 at T=5"
    exchanged = "ResNet-34 on CIFAR-100: VGG-16 instead of VGG-19 as small teacher"
    no_vgg16 = "no configuration on CIFAR-100 has VGG-16 as small teacher"
    other_way = "the text names the two savings the other way round than Table 2 has them"
    read_off = "the text reads {} off after 40 epochs, adaptive after 50"

    both = [*rows, TABLE_2]
    of_time = {
        **{f"Table 3, adaptive against {T}, mean of ratios": time(rows, T) for T in FIXED},
        "Table 3, both, mean of ratios": fmean(time(rows, T) for T in FIXED),
        **{f"Table 3, against {T}, ratio of sums": time_of_sums(rows, T) for T in FIXED},
        **{f"Tables 2 and 3, against {T}, mean of ratios": time(both, T) for T in FIXED},
        "mean of the text's 24.7, 36.5, 33 and 11.1": -fmean(TEXT_TIMES),
    }
    of_top1 = {
        **{f"Table 2, against {T}": gain([TABLE_2], T, "top1") for T in FIXED},
        "Table 4, against the other five": ours.top1 - fmean(other.top1 for other in others),
        "mean of the text's 5, 3, 3.37 and −1.84": fmean(TEXT_TOP1),
    }
    small, large = (where(role=role) for role in ("cifar-10", "cifar-100"))  # ResNet-34 is explained, and ResNet-50
    of_small_explained = {
        "Table 3, against T=5, mean of ratios": time(rows, "T=5"),
        "Table 3, against T=5, ResNet-50 explained": time(where(explained="resnet50"), "T=5"),
        "Table 3, against T=5, VGG-16 as small teacher": time(where(small="vgg16"), "T=5"),
        "Table 3, against T=5, CIFAR-100": time(where(role="cifar-100"), "T=5"),
        "mean of Section 2.3's 24.7 and 36.5": -fmean(TEXT_TIMES[:2]),
        **{
            f"Table 3, {T}, ResNet-34 explained on CIFAR-10 against ResNet-50 on CIFAR-100": 100
            * (fmean(row[T].seconds for row in small) / fmean(row[T].seconds for row in large) - 1)
            for T in TEMPERATURES
        },
    }
    of_vgg19 = {
        "Table 3 on ImageNet, Top-5": gain([taught], "T=5", "top5"),
        "Table 4 against [13], Top-1": ours.top1 - last.top1,
        "Table 4 against [13], Top-5": ours.top5 - last.top5,
    }
    of_vgg19_time = {"Table 3 on ImageNet": time([taught], "T=5"), "Table 4 against [13]": -ours.saved_of(last)}
    time_of_table_2 = {f"Table 2, against {T}": time([TABLE_2], T) for T in FIXED}
    on_imagenet = gain(where(role="imagenet"), "T=5", "top5")
    of_large_data = {
        f"Table 3, Top-5 against T=5, ImageNet less {role}": on_imagenet - gain(where(role=role), "T=5", "top5")
        for role in ("cifar-10", "cifar-100", "hrsc2016")
    }
    of_structure = {  # VGG-19, the small teacher, teaches another VGG and a ResNet
        f"Table 3, adaptive Top-5 on {role}": vgg["adaptive"].top5 - resnet["adaptive"].top5
        for role in ("cifar-100", "imagenet")
        for (vgg,), (resnet,) in [[where(role=role, small="vgg19", student=each) for each in ("vgg16", "resnet34")]]
    }
    rounded = "Table 3 prints no Top-1; as the text's 5 and 3 are rounded, the mean of its four lies in 2.13 to 2.63"
    of_other_data = "to the digit it is Top-5 and on CIFAR-100, against [13], which the text says nothing of"
    means = "to the digit a mean of savings by the adaptive temperature; no data of Table 3 have two explained models"
    small_models = "small explained models save time against large ones, on average"
    own_structure = "teachers teach students of their own structure better"
    memory = "the adaptive temperature makes 44 of VGG-16's 60 MiB an image"
    no_memory = "no table has memory, and a temperature changes no layer"

    return [
        Headline("mean time of all experiments", "Sections 2.4 and 3", -26.33, "%", of_time),
        Headline("mean Top-1 of all experiments", "Sections 2.4 and 3", 2.45, "points", of_top1, rounded),
        Headline("Table 2: time against T=5", "Section 2.3", -24.7, "%", time_of_table_2, other_way),
        Headline("Table 2: time against T=20", "Section 2.3", -36.5, "%", time_of_table_2, other_way),
        *(
            Headline(
                f"Table 2: Top-1 against {T}", "Section 2.3", points, "points",
                {"Table 2": gain([TABLE_2], T, "top1")}, read_off.format(T),
            )
            for T, points in (("T=5", 5), ("T=20", 3))
        ),
        Headline(f"{vgg16_taught}: Top-1", "Section 2.4", 3.37, "points", of_vgg19, of_other_data),
        Headline(f"{vgg16_taught}: time", "Section 2.4", -33, "%", of_vgg19_time, "likewise against [13]"),
        Headline(small_models, "Section 2.4", -30.6, "%", of_small_explained, means),
        Headline(f"{exchanged}, accuracy", "Section 2.4", -1.84, "points", {}, no_vgg16),
        Headline(f"{exchanged}, time", "Section 2.4", -11.1, "%", {}, no_vgg16),
        Headline(
            "gains more on ImageNet than on small data sets", "Section 3", None, "points",
            of_large_data, "of CIFAR-10, which the text names, it is true",
        ),
        Headline(own_structure, "Section 2.4", None, "points", of_structure),
        Headline(memory, "Section 2.4", -16, "MiB", {}, no_memory),
    ]  # fmt: skip


def where(**names: str) -> list[Mapping[str, Timed]]:
    """The rows of Table 3 whose configurations have these names."""
    return [row for each, row in TABLE_3.items() if names.items() <= each._asdict().items()]


def gain(tables: Sequence[Mapping[str, Timed]], T: str, column: str) -> float:
    """The adaptive temperature's accuracy less that at T, in points: the mean."""
    return fmean(getattr(table["adaptive"], column) - getattr(table[T], column) for table in tables)


def time(tables: Sequence[Mapping[str, Timed]], T: str) -> float:
    """The change of time from T to the adaptive temperature, in %: the mean of ratios."""
    return fmean(-table["adaptive"].saved_of(table[T]) for table in tables)


def time_of_sums(tables: Sequence[Mapping[str, Timed]], T: str) -> float:
    return 100 * (sum(each["adaptive"].seconds for each in tables) / sum(each[T].seconds for each in tables) - 1)


def recomputed() -> pd.DataFrame:
    """Each headline, the reading that decides, and whether the printed figure follows from it."""
    return pd.DataFrame([headline.line() for headline in headlines()])
