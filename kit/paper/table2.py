"""Figure 1 and Table 2: ResNet-50 teaches ResNet-34 on the cifar-100 role at T = 5, at T = 20, and adaptively."""

from __future__ import annotations

import pandas as pd

from kit.grid.engines import Engine
from kit.paper.claims import Claim, gain, judged, number, percent, plus_minus, saving
from kit.paper.plan import Plan, Row, cells, measured, rows
from kit.paper.printed import TABLE_2, TABLE_2_EPOCHS

ROLE, BIG, SMALL, STUDENT = "cifar-100", "resnet50", "vgg19", "resnet34"
ROLES = (ROLE,)
OURS = ("adaptive", "big teacher only")  # Section 2.3 names no small teacher

PROCEDURES = (
    ("hard labels", "no teacher"),
    ("T=5", "printed"),
    ("T=5", "hinton"),
    ("T=20", "printed"),
    ("T=20", "hinton"),
    OURS,
    ("adaptive", "three steps"),
)


def table(plan: Plan, seeds: int = 3) -> list[Row]:
    """One row a procedure. At preset paper students train for the 50 epochs of Section 2.3."""
    epochs = TABLE_2_EPOCHS if plan.preset.name == "paper" else None
    return rows(plan, PROCEDURES, seeds, ROLE, STUDENT, BIG, SMALL, epochs)


def run(plan: Plan, seeds: int, jobs: int | Engine | None = None) -> pd.DataFrame:
    """Trains what is missing; a line a run."""
    return measured(table(plan, seeds), jobs)


def seeds(plan: Plan) -> int:
    return plan.preset.seeds


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """One line a procedure: the paper's figures, and this kit's as mean ± half of the 95 % interval over seeds."""
    lines = []
    for (label, reading), cell in frame.groupby(["temperature", "reading"], sort=False):
        paper = TABLE_2.get(label) if reading != "three steps" else None
        baseline = frame.query("temperature == 'T=5' and reading == 'printed'")
        flops = cell["student_flops"] + cell["teacher_flops"]
        lines.append(
            {
                "temperature": label,
                "reading": reading,
                "paper Top-1": f"{paper.top1:.1f}" if paper else "",
                "paper Top-5": f"{paper.top5:.1f}" if paper else "",
                "paper time s": f"{paper.seconds:.0f}" if paper else "",
            }
            | cells(
                cell,
                {
                    "train Top-1": percent(cell["train_top1"]),
                    "test Top-1": percent(cell["test_top1"]),
                    "test Top-5": percent(cell["test_top5"]),
                    "CPU s": plus_minus(cell["seconds"]),
                    "time / T=5": number(cell["seconds"].mean() / baseline["seconds"].mean(), 2),
                    "TFLOP": number(flops.mean() / 1e12, 2),
                    "soft stages ended at epoch": " | ".join(sorted(set(cell["soft_ends"].dropna()) - {""})[:3]),
                },
            )
        )
    return pd.DataFrame(lines)


def verdicts(frame: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    return judged(claims(frame))


def claims(frame: pd.DataFrame) -> list[Claim]:
    """Section 2.3's claims, against both readings of Eq. (1)."""
    found = []
    for reading in ("printed", "hinton"):
        for T in ("T=5", "T=20"):
            baseline = (T, reading)
            ours, theirs = TABLE_2["adaptive"], TABLE_2[T]
            against = f"{T}, Eq. (1) {reading}"
            for column, what, printed in (
                ("test_top1", "test Top-1", ours.top1 - theirs.top1),
                ("train_top1", "training Top-1", ours.top1 - theirs.top1),
                ("test_top5", "test Top-5", ours.top5 - theirs.top5),
            ):
                found.append(
                    Claim(
                        text=f"the adaptive temperature raises {what}",
                        where="Table 2",
                        paper=f"{printed:+.1f} points",
                        unit="points",
                        measured=gain(frame, OURS, baseline, column),
                        against=against,
                    )
                )
            for column, what in (("seconds", "time"), ("student_flops+teacher_flops", "FLOPs")):
                found.append(
                    Claim(
                        text=f"the adaptive temperature saves {what}",
                        where="Table 2, Section 2.3",
                        paper=f"{100 * (1 - ours.seconds / theirs.seconds):+.1f} % of the time",
                        unit="%",
                        measured=saving(frame, OURS, baseline, column),
                        against=against,
                    )
                )
        found.append(
            Claim(
                text="T = 20 trains faster than T = 5",
                where="Table 2",
                paper=f"{100 * (1 - TABLE_2['T=20'].seconds / TABLE_2['T=5'].seconds):+.1f} % of the time",
                unit="%",
                measured=saving(frame, ("T=20", reading), ("T=5", reading), "seconds"),
                against=f"T=5, Eq. (1) {reading}",
            )
        )
    return found
