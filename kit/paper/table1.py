"""Table 1: how well five networks fit four datasets without a teacher. Its runs are the other tables' teachers."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from kit.grid.engines import Engine
from kit.models import MODELS, TITLES
from kit.paper.claims import Claim, gain, judged, percent, two_proportions
from kit.paper.plan import Plan, Row, cells, measured
from kit.paper.printed import ROLE_TITLES, TABLE_1

ROLES = ("cifar-10", "cifar-100", "imagenet", "hrsc2016")
NAMES = {title: name for name, title in TITLES.items()}


def table(plan: Plan, seeds: int = 1, roles: Sequence[str] = ROLES) -> list[Row]:
    """One row a network and role. Seed 0 is the teacher that the other tables use."""
    return [
        Row(TITLES[model], "no teacher", tuple(plan.teacher(model, role, seed) for seed in range(seeds)), role)
        for role in roles
        for model in MODELS
    ]


def run(plan: Plan, seeds: int, jobs: int | Engine | None = None) -> pd.DataFrame:
    """Trains what is missing; a line a run."""
    return measured(table(plan, seeds), jobs)


def seeds(plan: Plan) -> int:
    return 1  # each cell is a long training; `--seeds` asks for more


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """One line a network and role: the paper's training Top-5, and this kit's accuracies in % (means over seeds)."""
    lines = []
    for (role, title), cell in frame.groupby(["group", "temperature"], sort=False):
        paper = TABLE_1[NAMES[title], role]
        lines.append(
            {
                "role": role,
                "data": f"{cell['data'].iloc[0]} ({cell['source'].iloc[0]})",
                "model": title,
                "paper train Top-5": f"{paper.top5:.2f}",
                "paper epochs": str(paper.epochs),
                "epochs": str(cell["epochs"].iloc[0]),
            }
            | cells(
                cell,
                {
                    "train Top-5": percent(cell["train_top5"]),
                    "train Top-1": percent(cell["train_top1"]),
                    "test Top-5": percent(cell["test_top5"]),
                    "test Top-1": percent(cell["test_top1"]),
                },
            )
        )
    return pd.DataFrame(lines)


def verdicts(frame: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    """What Table 1 says by its order, judged. Single runs are compared over their test images."""
    test_images = {role: len(plan.data(role).load().test) for role in frame["group"].unique()}
    return judged(claims(frame, test_images))


def claims(frame: pd.DataFrame, test_images: dict[str, int]) -> list[Claim]:
    """What Table 1 says by its order: the CNN is weakest, and ResNets beat VGGs. `test_images` counts them by role."""
    found = []
    for role in frame["group"].unique():
        here = frame[frame["group"] == role]
        for better, worse in (("vgg16", "cnn"), ("resnet34", "vgg19"), ("vgg19", "vgg16"), ("resnet50", "resnet34")):
            ours, theirs = (TITLES[better], "no teacher"), (TITLES[worse], "no teacher")
            if here["seed"].nunique() > 1:
                gap = gain(here, ours, theirs, "test_top1")
            else:
                first, second = (
                    here.loc[here["temperature"] == name, "test_top1"].iloc[0] for name, _ in (ours, theirs)
                )
                gap = two_proportions(first, second, test_images[role])
            printed_gap = TABLE_1[better, role].top5 - TABLE_1[worse, role].top5
            if printed_gap == 0:
                continue
            above, below = (better, worse) if printed_gap > 0 else (worse, better)
            if printed_gap < 0:
                gap = type(gap)(-gap.mean, -gap.high, -gap.low, gap.n)
            found.append(
                Claim(
                    text=f"{TITLES[above]} is better than {TITLES[below]} on {ROLE_TITLES[role]}",
                    where="Table 1",
                    paper=f"{abs(printed_gap):+.2f} points (training Top-5)",
                    unit="points (test Top-1)",
                    measured=gap,
                    against="no teacher",
                )
            )
    return found
