"""Figure 1 and Table 2: ResNet-50 teaches ResNet-34 on the cifar-100 role at T = 5, at T = 20, and adaptively."""

from __future__ import annotations

import pandas as pd

from kit.grid.engines import Engine
from kit.paper.claims import Claim, Data, gained, judged, number, own_claims, plus_minus, ratio, saved
from kit.paper.plan import Plan, Row, Ways, accuracies, cells, loaded, measured, papers, rows, soft_ends
from kit.paper.printed import TABLE_2, TABLE_2_EPOCHS, Timed

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
    return rows(plan, PROCEDURES, seeds, ROLE, STUDENT, BIG, SMALL, epochs, own=own)


def run(plan: Plan, seeds: int, jobs: int | Engine | None = None, own: Ways | None = None) -> pd.DataFrame:
    """Trains what is missing; a line a run."""
    return measured(table(plan, seeds, own), jobs)


def printed(label: str, reading: str) -> Timed | None:
    """What the paper prints of a procedure; it has no small teacher here, and no procedure of the reader's own."""
    return TABLE_2.get(label) if (label, reading) in (*BASELINES, OURS) else None


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """One line a procedure: the paper's figures, and this kit's as mean ± half of the 95 % interval over seeds."""
    lines = []
    for (label, reading), cell in frame.groupby(["temperature", "reading"], sort=False):
        paper = printed(label, reading)
        line = {
            "temperature": label,
            "reading": reading,
            "paper Top-1": f"{paper.top1:.1f}" if paper else "",
            "paper Top-5": f"{paper.top5:.1f}" if paper else "",
            "paper time s": f"{paper.seconds:.0f}" if paper else "",
        }
        measures = accuracies(cell, "train Top-1", "test Top-1", "test Top-5") | {
            "CPU s": plus_minus(cell["seconds"]),
            "time / T=5": plus_minus(ratio(frame, (label, reading), BASELINES[0], "seconds"), 2),
            "TFLOP": number((cell["student_flops"] + cell["teacher_flops"]).mean() / 1e12, 2),
            "soft stages ended at epoch": soft_ends(cell),
        }
        lines.append(line | cells(cell, measures))
    return pd.DataFrame(lines)


def verdicts(frame: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    return judged(claims(frame, loaded(frame, plan)))


def own_verdicts(frame: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    """Judges the reader's own procedures against each of the paper's, by test Top-1."""
    return judged(own_claims(frame, PROCEDURES, loaded(frame, plan)))


def claims(frame: pd.DataFrame, data: Data | None = None) -> list[Claim]:
    """Section 2.3's claims, against both readings of Eq. (1)."""
    found = []
    for T, reading in BASELINES:
        ours, theirs, baseline = TABLE_2["adaptive"], TABLE_2[T], (T, reading)
        against = f"{T}, Eq. (1) {reading}"
        for what, column, gap in (
            ("test Top-1", "test_top1", ours.top1 - theirs.top1),
            ("training Top-1", "train_top1", ours.top1 - theirs.top1),
            ("test Top-5", "test_top5", ours.top5 - theirs.top5),
        ):
            if column not in frame:  # of five classes or fewer
                continue
            text, paper = f"the adaptive temperature raises {what}", f"{gap:+.1f} points"
            measured = gained(frame, OURS, baseline, column, data)
            found.append(Claim(text, "Table 2", paper, "points", against=against, quantity=what, **measured))
        for what, column in (("time", "seconds"), ("FLOPs", "student_flops+teacher_flops")):
            text, measured = f"the adaptive temperature saves {what}", saved(frame, OURS, baseline, column)
            paper, where = f"{ours.saved_of(theirs):+.1f} % of the time", "Table 2, Section 2.3"
            found.append(Claim(text, where, paper, "%", against=against, quantity=what, **measured))
        if T == "T=20":
            text, slower = "T = 20 trains faster than T = 5", ("T=5", reading)
            paper = f"{theirs.saved_of(TABLE_2['T=5']):+.1f} % of the time"
            against, measured = f"T=5, Eq. (1) {reading}", saved(frame, baseline, slower, "seconds")
            found.append(Claim(text, "Table 2", paper, "%", against=against, quantity="time", **measured))
    return found
