"""Table 5: the adaptive temperature beside its siblings, other temperatures and losses, under equal budgets.

A reading: ResNet-34 teaches the CNN on the cifar-100 role, the data of all siblings' own papers; of the paper's
networks these are a teacher as good as any, and the student that is trained soonest. A run takes five to six seconds
of one core at preset quick, the rows from three seeds two minutes of two cores. Every row has the same teacher, epochs
and updates. Siblings have their published weights, chosen for other networks and twenty times the epochs, untuned.

What is printed of them elsewhere is CIFAR-100 Top-1 of nine pairs of teacher and student, as others copy it. The
protocol is another one (240 epochs, batch 64, the best epoch on the test split, weights chosen by pair), and its row of
ordinary distillation is low: who reruns it today gets about a point more. Sources: the readme files of RepDistiller,
mdistiller, CTKD, TTM, DIST and logit standardisation.
"""

from __future__ import annotations

import math
from functools import partial
from statistics import fmean

import pandas as pd

from kit import recipe
from kit.paper.claims import Claim, Data, Side, own_claims, plus_minus, rounding
from kit.paper.plan import Plan, Row, Ways, accuracies, cells, judging, papers, rows, soft_ends, training, with_columns
from kit.paper.printed import as_printed
from kit.siblings import SIBLINGS
from kit.siblings.crd import PRINTED
from kit.temperature import Scheduled

ROLE, BIG, STUDENT = "cifar-100", "resnet34", "cnn"
ROLES = (ROLE,)

HARD, HOT, OURS = ("hard labels", "no teacher"), ("T=20", "hinton"), ("adaptive", "big teacher only")
FIXED, RAW, FALLING = ("T=4", "α = 0.9"), ("adaptive", "raw gradient"), ("falling", "K → 1, then hard labels")
RISING = ("rising", "1 → K, then hard labels")
PROCEDURES: Ways = {
    **papers(HARD, HOT, OURS),
    RAW: lambda epochs: recipe.big_teacher_only(recipe.adaptive(epochs, normalised=False)),
    FALLING: lambda epochs: recipe.big_teacher_only(Scheduled()),
    FIXED: lambda epochs: recipe.eq1(4, "hinton", alpha=0.9),  # as the siblings' papers run it
    **SIBLINGS,
}


PAIRS = (  # of those of `PRINTED` the ones that the siblings' papers have, too
    ("resnet32x4", "resnet8x4"), ("vgg13", "vgg8"), ("wrn_40_2", "wrn_16_2"), ("wrn_40_2", "wrn_40_1"),
    ("resnet56", "resnet20"), ("resnet110", "resnet32"), ("resnet50", "mobilenetv2"), ("vgg13", "mobilenetv2"),
    ("resnet32x4", "shufflenetv2"),
)  # fmt: skip
TOP1 = {  # by the label of Table 5's row
    "hard labels": tuple(PRINTED[pair][1] for pair in PAIRS),
    "T=4": tuple(PRINTED[pair][2] for pair in PAIRS),
    "CTKD": (73.39, 73.52, 75.45, 73.93, 71.19, 73.52, 68.67, 68.50, 75.37),
    "DIST": (76.31, 73.89, 75.51, 74.73, 71.75, 73.69, 68.66, 68.50, 77.35),
    "DKD": (76.32, 74.68, 76.24, 74.81, 71.97, 74.11, 70.35, 69.71, 77.07),
    "TTM": (76.17, 74.33, 76.23, 74.32, 71.83, 73.97, 69.24, 68.98, 76.57),
    "WTTM": (76.06, 74.44, 76.37, 74.58, 71.92, 74.13, 69.59, 69.16, 76.55),
    "LSKD": (76.62, 74.36, 76.11, 74.37, 71.43, 74.17, 69.02, 68.61, 75.56),
}


def table(plan: Plan, seeds: int = 3, own: Ways | None = None) -> list[Row]:
    """One row a procedure: the paper's, what stands beside it, the siblings, and those of the reader's own."""
    return rows(plan, PROCEDURES, seeds, ROLE, STUDENT, BIG, own=own)


run = training(table)


def elsewhere(label: str, reading: str) -> float:
    """What is printed elsewhere of a row's gain on ordinary distillation at T = 4, a mean in points; NaN where nothing
    is, and of the reader's own."""
    printed = label in TOP1 and (label, reading) in PROCEDURES
    return fmean(TOP1[label]) - fmean(TOP1["T=4"]) if printed else math.nan


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """One line a procedure: this kit's figures as mean ± half of the 95 % interval over seeds, and what is printed."""
    frame = with_agreement(frame)
    lines = []
    for (label, reading), cell in frame.groupby(["temperature", "reading"], sort=False):
        line = {
            "temperature": label,
            "reading": reading,
            "elsewhere, Top-1 over KD": as_printed(elsewhere(label, reading), "+.1f"),
        }
        measures = accuracies(cell, "train Top-1", "test Top-1") | {
            "as the teacher %": plus_minus(100 * cell["agreement_top1"]),
            "KL to the teacher": plus_minus(cell["agreement_kl"], 2),
            "CPU s": plus_minus(cell["seconds"]),
            "soft stages ended at epoch": soft_ends(cell),
        }
        lines.append(line | cells(cell, measures))
    return pd.DataFrame(lines)


def with_agreement(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with columns for the agreement with the teacher, also where no run that has one finished."""
    return with_columns(frame, ["agreement_top1", "agreement_kl"])


def claims(frame: pd.DataFrame, data: Data | None = None) -> list[Claim]:
    """What siblings' papers say of them, and what is to be asked of ours."""
    claim = partial(gains, frame, data)
    return [
        claim("ordinary distillation beats hard labels", FIXED, HARD, -elsewhere(*HARD)),
        claim("the adaptive temperature beats a fixed one", OURS, FIXED),
        claim("the adaptive temperature beats a fixed one", OURS, HOT),
        claim("the adaptive temperature beats a schedule", OURS, FALLING),
        claim("its gradient per variance of the teacher's logits beats the raw one", OURS, RAW),
        claim("a rising temperature is worse than a falling one", FALLING, RISING),
        *(claim(f"{name[0]} beats a fixed temperature", name, FIXED, elsewhere(*name)) for name in SIBLINGS),
        *(claim("the adaptive temperature beats its sibling", OURS, name) for name in SIBLINGS),
        _best_of_all(frame, data),
    ]


verdicts = judging(claims)
own_verdicts = judging(partial(own_claims, papers=PROCEDURES))  # the reader's own, by test Top-1 against each of these


def gains(
    frame: pd.DataFrame, data: Data | None, text: str, ours: Side, theirs: Side, printed: float = math.nan
) -> Claim:
    """That a row gains Top-1 on another; `printed` is the gain in points that others print, if they do."""
    elsewhere = {} if math.isnan(printed) else {"paper": f"{printed:+.1f} points", "where": "printed elsewhere"}
    return Claim.of(frame, ours, theirs, "test_top1", data, text=text, **elsewhere)


def _best_of_all(frame: pd.DataFrame, data: Data | None) -> Claim:
    """Which sibling is the best may be another at each seed, so this claim keeps its own variance; where one has not
    finished, it is open."""
    wide = frame.pivot_table(index="seed", columns=["temperature", "reading"], values="test_top1")
    wide = wide.reindex(columns=[OURS, *SIBLINGS])
    measured = 100 * (wide[OURS] - wide.drop(columns=[OURS]).max(axis=1, skipna=False)).dropna()
    text, against = "the adaptive temperature is beaten by no sibling", "the best of them, seed by seed"
    return Claim(text, "", "", "points", measured, against, rounding=rounding(frame, "test_top1", data))
