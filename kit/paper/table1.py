"""Table 1: how well five networks fit four datasets without a teacher. Its runs are the other tables' teachers."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from kit.models import MODELS, TITLES
from kit.paper.claims import Claim, Data
from kit.paper.plan import Plan, Row, accuracies, cells, data_of, judging, training
from kit.paper.printed import ROLE_TITLES, TABLE_1

ROLES = ("cifar-10", "cifar-100", "imagenet", "hrsc2016")
NAMES = {title: name for name, title in TITLES.items()}


def table(plan: Plan, seeds: int = 3, roles: Sequence[str] = ROLES) -> list[Row]:
    """One row a network and role. A seed's network is the teacher of that seed's students in the other tables."""
    return [
        Row(TITLES[model], "no teacher", tuple(plan.teacher(model, role, seed) for seed in plan.seeds(seeds)), role)
        for role in roles
        for model in MODELS
    ]


run = training(table)


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """One line a network and role: the paper's training Top-5, and this kit's accuracies in % (means over seeds)."""
    lines = []
    for (role, title), cell in frame.groupby(["group", "temperature"], sort=False):
        paper = TABLE_1[NAMES[title], role]
        line = {
            "role": role,
            "data": data_of(cell),
            "model": title,
            "paper train Top-5": f"{paper.top5:.2f}",
            "paper epochs": str(paper.epochs),
            "epochs": str(cell["epochs"].iloc[0]),
        }
        lines.append(line | cells(cell, accuracies(cell, "train Top-5", "train Top-1", "test Top-5", "test Top-1")))
    return pd.DataFrame(lines)


def claims(frame: pd.DataFrame, data: Data | None = None) -> list[Claim]:
    """What Table 1 says of neighbours in its order: CNN, VGG-16, VGG-19, ResNet-34, ResNet-50."""
    found = []
    for role, here in frame.groupby("group", sort=False):
        for first, second in (("vgg16", "cnn"), ("resnet34", "vgg19"), ("vgg19", "vgg16"), ("resnet50", "resnet34")):
            printed = TABLE_1[first, role].top5 - TABLE_1[second, role].top5
            if printed == 0:
                continue
            better, worse = (TITLES[name] for name in ((first, second) if printed > 0 else (second, first)))
            claim = Claim.of(
                here,
                (better, "no teacher"),
                (worse, "no teacher"),
                "test_top1",
                data,
                text=f"{better} is better than {worse} on {ROLE_TITLES[role]}",
                where="Table 1",
                paper=f"{abs(printed):+.2f} points (training Top-5)",
                unit="points (test Top-1)",
                against="no teacher",
                quantity=role,  # each role scatters in its own way
            )
            found.append(claim)
    return found


verdicts = judging(claims)
