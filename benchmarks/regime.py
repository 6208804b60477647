"""Sizes at which methods can differ: a study that sees hard labels and ordinary distillation alone.

python -m benchmarks.regime --role cifar-100 --px 12 --epochs 14 --teacher-epochs 36 --lr 0.05 --seeds 3

The paper's method is no row here, so nothing can be tuned towards it. Wanted of a preset: teachers that know nearly all
of their training images and clearly more of the test than their students, and seeds that scatter little. Every seed has
its own teacher. Sizes that are not given are those of preset quick; runs are cached as all runs are. With --data it
tries sizes for the real images of a folder.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Optional

import pandas as pd
import typer

from benchmarks.report import command
from kit.cli.output import print_json
from kit.data.roles import ROLES
from kit.errors import one_of
from kit.paper.plan import Plan, Row, measured, papers, rows, runs_of
from kit.paper.presets import PRESETS

QUICK = PRESETS["quick"]


def study(plan: Plan, role: str, student: str, teacher: str, seeds: int, jobs: int | None = None) -> pd.DataFrame:
    """A line for the teacher and for each procedure: accuracies in %, their SD over seeds, and CPU seconds of a run."""
    procedures = papers(("hard labels", "no teacher"), ("T=5", "hinton"))
    table = rows(plan, procedures, seeds, role, student, teacher)
    taught = list(dict.fromkeys(run.teachers["big"] for run in runs_of(table) if run.teachers))
    frame = measured([Row(f"{teacher}, teacher", "no teacher", tuple(taught)), *table], jobs)
    each = frame.groupby("temperature", sort=False)
    train, test = 100 * each["train_top1"].mean(), 100 * each["test_top1"].mean()
    columns = {"training Top-1": train, "test Top-1": test, "SD over seeds": 100 * each["test_top1"].std()}
    found = pd.DataFrame(columns | {"CPU s": each["seconds"].mean(), "seeds": each["test_top1"].count()})
    return found.rename_axis("network").reset_index()


def planned(role: str, data: Path | None, lr: float, width: int, px: int | None = None, **sizes: int | None) -> Plan:
    """Preset quick, but for these sizes of the role; px decides the networks' stem, too. Raises KitError."""
    one_of("role", role, ROLES)
    plan = Plan.of("quick", {role: "real"} if data else None, data, px=px)
    given = {name: size for name, size in sizes.items() if size is not None}
    roles = {**QUICK.roles, role: replace(plan.size(role), **given)}
    preset = replace(QUICK, roles=roles, real={}, lr=lr, student_width=width, teacher_width=width)
    return replace(plan, px=None, preset=preset)


def main(
    role: Annotated[str, typer.Option(help="cifar-10, cifar-100, imagenet or hrsc2016")] = "cifar-100",
    student: Annotated[str, typer.Option()] = "vgg16",
    teacher: Annotated[str, typer.Option()] = "resnet50",
    px: Annotated[Optional[int], typer.Option()] = None,
    train_per_class: Annotated[Optional[int], typer.Option()] = None,
    test_per_class: Annotated[Optional[int], typer.Option()] = None,
    epochs: Annotated[Optional[int], typer.Option(help="of a student")] = None,
    teacher_epochs: Annotated[Optional[int], typer.Option()] = None,
    batch: Annotated[Optional[int], typer.Option()] = None,
    lr: Annotated[float, typer.Option()] = QUICK.lr,
    width: Annotated[int, typer.Option(help="of students and teachers")] = QUICK.student_width,
    data: Annotated[Optional[Path], typer.Option(help="folder with real images, which then fill the role")] = None,
    seeds: Annotated[int, typer.Option(min=2)] = 3,
    jobs: Annotated[Optional[int], typer.Option()] = None,
    as_json: Annotated[bool, typer.Option("--json", help="end with one line of JSON")] = False,
) -> None:
    """How a teacher, hard labels and ordinary distillation do at these sizes; what is not given is preset quick's."""
    plan = planned(
        role, data, lr, width, px=px, train_per_class=train_per_class, test_per_class=test_per_class, epochs=epochs,
        teacher_epochs=teacher_epochs, batch=batch,
    )  # fmt: skip
    found = study(plan, role, student, teacher, seeds, jobs)
    print(found.round(1).to_string(index=False))
    if as_json:
        print_json(found)


if __name__ == "__main__":
    command(main)
