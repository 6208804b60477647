"""From a finished run to something to play with or to look at."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from kit.data.base import Split, sample
from kit.errors import KitError
from kit.paper.plan import Plan
from kit.runs.spec import DataSpec
from kit.runs.store import Failure, Result, find
from kit.show.html_tables import Table, plain_table
from kit.show.pages import contact_sheet
from kit.show.widgets import TemperatureExplorer, temperature_explorer
from kit.training.evaluation import evaluate


def explore(result: Result | Failure, images: int = 48) -> TemperatureExplorer | Table:
    """Sliders for K, α and t on the run's big teacher (else its first) and student, for so many test images spread over
    the classes; of a run that failed, why it did. KitError for a run without a teacher."""
    if isinstance(result, Failure):
        failed = pd.DataFrame({"run": [result.run.title], "ended": [result.reason]})
        return plain_table(failed, "There is no student to explore")
    teachers = result.run.teachers
    if not teachers:
        raise KitError(f"run {result.run.title!r} has no teacher; allowed: a run whose student learns from one")
    data = result.run.data.load()
    some = sample(data, images)
    teacher = find(teachers.get("big") or next(iter(teachers.values()))).student()
    student = result.student()
    zt, zs = (evaluate(network, some, *data.mean_std).logits for network in (teacher, student))
    return temperature_explorer(zt, zs, some.labels, data.classes, images=pixels_of(some))


def pixels_of(split: Split) -> np.ndarray:
    """All images of a split, uint8 (N, H, W, 3)."""
    return split.images.take(torch.arange(len(split))).numpy()


def sheet_of(plan: Plan, role: str) -> Figure:
    """A role's contact sheet: some test images under their class names, and what fills the role."""
    spec: DataSpec = plan.data(role)
    data = spec.load()
    some = sample(data, 20)
    return contact_sheet(
        pixels_of(some),
        [data.classes[i] for i in some.labels.tolist()],
        columns=10,
        title=f"The {role} role is filled by: {spec.name} ({spec.source})",
        caption=f"{spec.classes} classes · {spec.train_images} training and {len(data.test)} test images "
        f"of {spec.px} px at preset {plan.preset.name}",
    )
