"""Figure 1 and Table 2: ResNet-50 teaches ResNet-34 on the cifar-100 role at T = 5, at T = 20, and adaptively."""

from __future__ import annotations

from functools import partial

import pandas as pd

from kit.paper.claims import Claim, Data, has, number, own_claims, plus_minus, time_ratio
from kit.paper.plan import Plan, Row, Ways, accuracies, cells, judging, papers, rows, soft_ends, training
from kit.paper.printed import TABLE_2, TABLE_2_EPOCHS, UNPRINTED, Timed

ROLE, BIG, SMALL, STUDENT = "cifar-100", "resnet50", "vgg19", "resnet34"
ROLES = (ROLE,)
OURS = ("adaptive", "big teacher only")  # Section 2.3 names no small teacher

PROCEDURES = papers(
    ("hard labels", "no teacher"),
    ("T=5", "printed"),
    ("T=5", "hinton"),
    ("T=20", "printed"),
    ("T=20", "hinton"),
    OURS,
    ("adaptive", "three steps"),
)
BASELINES = (("T=5", "printed"), ("T=20", "printed"), ("T=5", "hinton"), ("T=20", "hinton"))


def table(plan: Plan, seeds: int = 3, own: Ways | None = None) -> list[Row]:
    """One row a procedure, then those of the reader's own, by label and reading.

    At preset paper students train for the 50 epochs of Section 2.3.
    """
    epochs = TABLE_2_EPOCHS if plan.preset.name == "paper" else None
    return rows(plan, PROCEDURES, seeds, ROLE, STUDENT, BIG, SMALL, own=own, epochs=epochs)


run = training(table)


def printed(label: str, reading: str) -> Timed:
    """What the paper prints of a procedure; it has no small teacher here, and no procedure of the reader's own."""
    return TABLE_2[label] if (label, reading) in (*BASELINES, OURS) else UNPRINTED


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """One line a procedure: the paper's figures, and this kit's as mean ± half of the 95 % interval over seeds."""
    frame, lines = frame.assign(ratio=time_ratio(frame)), []
    for (label, reading), cell in frame.groupby(["temperature", "reading"], sort=False):
        line = {"temperature": label, "reading": reading, **printed(label, reading).told(1)}
        measures = accuracies(cell, "train Top-1", "test Top-1", "test Top-5") | {
            "CPU s": plus_minus(cell["seconds"]),
            "time / T=5": plus_minus(cell["ratio"], 2),
            "TFLOP": number((cell["student_flops"] + cell["teacher_flops"]).mean() / 1e12, 2),
            "soft stages ended at epoch": soft_ends(cell),
        }
        lines.append(line | cells(cell, measures))
    return pd.DataFrame(lines)


def claims(frame: pd.DataFrame, data: Data | None = None) -> list[Claim]:
    """Section 2.3's claims, against both readings of Eq. (1)."""
    found, section = [], "Table 2, Section 2.3"
    for T, reading in BASELINES:
        ours, theirs = TABLE_2["adaptive"], TABLE_2[T]
        top1, top5 = f"{ours.top1 - theirs.top1:+.1f} points", f"{ours.top5 - theirs.top5:+.1f} points"
        time = f"{ours.saved_of(theirs):+.1f} % of the time"
        for what, column, paper, where in (
            ("raises test Top-1", "test_top1", top1, "Table 2"),
            ("raises training Top-1", "train_top1", top1, "Table 2"),
            ("raises test Top-5", "test_top5", top5, "Table 2"),
            ("saves time", "seconds", time, section),
            ("saves FLOPs", "student_flops+teacher_flops", time, section),
        ):
            if has(frame, column):
                said = {"text": f"the adaptive temperature {what}", "where": where, "paper": paper}
                against = f"{T}, Eq. (1) {reading}"
                found.append(Claim.of(frame, OURS, (T, reading), column, data, against=against, **said))
        if T == "T=20":
            paper = f"{theirs.saved_of(TABLE_2['T=5']):+.1f} % of the time"
            said = {"text": "T = 20 trains faster than T = 5", "where": "Table 2", "paper": paper}
            against = f"T=5, Eq. (1) {reading}"
            found.append(Claim.of(frame, (T, reading), ("T=5", reading), "seconds", against=against, **said))
    return found


verdicts = judging(claims)
own_verdicts = judging(partial(own_claims, papers=PROCEDURES))  # the reader's own, by test Top-1 against each of these
