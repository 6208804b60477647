"""Table 6: several teachers at once, by how they are weighed and what their temperatures do, under equal budgets.

A reading, as the paper only says that this comes next: VGG-16, ResNet-34 and a CNN teach the CNN on the cifar-100
role; Table 1 has trained them all, and Table 5 the rows of ResNet-34 alone. Weights are compared at T = 4 with a tenth
of the hard labels, as where they come from; temperatures with equal weights. Every row has the same seeds, epochs and
updates; teachers' forward passes are in its time, and their training stands beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pandas as pd

from kit import recipe
from kit.beyond import table5
from kit.models import TITLES
from kit.paper.claims import Claim, Data, Side, number, own_claims, plus_minus
from kit.paper.plan import PROCEDURES as PAPERS
from kit.paper.plan import Plan, Row, Stages, Ways, accuracies, cells, judging, rows, soft_ends, training, with_columns
from kit.recipe import Objective, Policy
from kit.several import (
    Averaged,
    Confidence,
    Drawn,
    Entropy,
    Followed,
    Graduation,
    MinNorm,
    Together,
    Weighted,
    Weights,
    at_once,
    several,
)
from kit.temperature import Fixed
from kit.training.record import MEAN

ROLE, STUDENT = table5.ROLE, table5.STUDENT
ROLES = (ROLE,)
TEACHERS = {"small": "vgg16", "big": table5.BIG, "third": STUDENT}
T, ALPHA = 4.0, 0.9


def fixed(objective: Objective, T: float = T) -> Stages:
    """All teachers to the run's end, at a fixed T."""
    return lambda epochs: (several([*TEACHERS], objective, Fixed(T=T)),)


def weighed(weights: Weights) -> Stages:
    return fixed(Weighted(weights=weights, alpha=ALPHA))


def falling(temperature: Callable[[int], Policy]) -> Stages:
    """All teachers while the temperature falls, then hard labels alone, as the paper's procedure ends."""
    return lambda epochs: at_once([*TEACHERS], temperature(epochs))


def alone(teacher: str) -> Stages:
    return lambda epochs: recipe.eq1(T, "hinton", ALPHA, teacher)


HARD, PAPER = table5.HARD, ("adaptive", "small, then big")
ALONE = {name: ("T=4", f"{TITLES[model]} alone") for name, model in TEACHERS.items()}
AVER, HOT, LOGITS = ("T=4", "equal (AVER)"), ("T=20", "equal"), ("T=4", "averaged logits")
WEIGHED: dict[Side, Weights] = {
    ("T=4", "by entropy (EBKD)"): Entropy(),
    ("T=4", "least norm (AEKD)"): MinNorm(),
    ("T=4", "by the label (CA-MKD)"): Confidence(),
    ("T=4", "as followed (ours)"): Followed(),
}
RANDOM = ("T=4", "random")
ONE, EACH = ("adaptive", "one t for all"), ("adaptive", "one t each")

PROCEDURES: Ways = {
    HARD: PAPERS[HARD],
    **{label: alone(name) for name, label in ALONE.items()},
    AVER: fixed(Weighted(alpha=ALPHA)),
    LOGITS: fixed(Averaged(alpha=ALPHA)),
    **{label: weighed(weights) for label, weights in WEIGHED.items()},
    RANDOM: weighed(Drawn()),
    HOT: fixed(Weighted(alpha=ALPHA), 20.0),
    PAPER: PAPERS["adaptive", "three steps"],
    ONE: falling(lambda epochs: Together(rate=recipe.RATE / epochs, normalised=True)),
    EACH: falling(lambda epochs: Graduation(rate=recipe.RATE / epochs)),
}


def table(plan: Plan, seeds: int = 3, own: Ways | None = None) -> list[Row]:
    """One row a procedure, then those of the reader's own, whose stages may name small, big and third."""
    small, big, third = TEACHERS.values()
    return rows(plan, PROCEDURES, seeds, ROLE, STUDENT, big, small, own=own, others={"third": third})


run = training(table)


def with_agreements(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with columns for the likeness to each teacher and their mean, of whom the most likely is shown."""
    named = [f"kl to {name}" for name in (*TEACHERS, MEAN)]
    return with_columns(frame, named)


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """One line a procedure: this kit's figures as mean ± half of the 95 % interval over seeds."""
    frame, lines = with_agreements(frame), []
    for (label, reading), cell in frame.groupby(["temperature", "reading"], sort=False):
        measures = accuracies(cell, "train Top-1", "test Top-1") | {
            **{f"KL to {name}": plus_minus(cell[f"kl to {name}"], 2) for name in (*TEACHERS, MEAN)},
            "CPU s": plus_minus(cell["seconds"]),
            "teacher GFLOP": number(cell["teacher_flops"].mean() / 1e9),
            "teachers' own training, CPU s": number(cell["teacher_seconds"].mean()),
            "soft stages ended at epoch": soft_ends(cell),
        }
        lines.append({"temperature": label, "teachers": reading} | cells(cell, measures))
    return pd.DataFrame(lines)


def claims(frame: pd.DataFrame, data: Data | None = None) -> list[Claim]:
    """What is said of several teachers, and what is to be asked of ours."""
    claim = partial(table5.gains, frame, data)
    single = best_alone(frame)
    return [
        claim("several teachers beat hard labels", AVER, HARD),
        claim("several teachers beat the best single one", AVER, single),
        claim("averaged probabilities beat averaged logits", AVER, LOGITS),
        *(claim(f"weighing {name[1]} beats equal weights", name, AVER) for name in WEIGHED),
        *(claim(f"weighing {name[1]} beats random weights", name, RANDOM) for name in WEIGHED),
        claim("one adaptive t for all beats a fixed one", ONE, AVER),
        claim("one adaptive t for all beats a fixed one", ONE, HOT),
        claim("one t each, with graduation, beats one for all", EACH, ONE),
        claim("all teachers at once beat the paper's sequence", ONE, PAPER),
        claim("all teachers at once, with graduation, beat the paper's sequence", EACH, PAPER),
        Claim.of(frame, EACH, ONE, "teacher_flops", text="graduation saves teachers' FLOPs"),
    ]


verdicts = judging(claims)
own_verdicts = judging(partial(own_claims, papers=PROCEDURES))  # the reader's own, by test Top-1 against each of these


def best_alone(frame: pd.DataFrame) -> Side:
    """The teacher's row whose students are best here, on average over seeds: seen after the fact, so hard to beat."""
    means = frame.fillna({"test_top1": 0}).groupby(["temperature", "reading"])["test_top1"].mean()
    return max(ALONE.values(), key=means.__getitem__)
