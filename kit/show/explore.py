"""From a finished run to something to play with or to look at."""

from __future__ import annotations

import torch

from kit.data.base import Dataset, Split, TensorImages
from kit.paper.plan import Plan
from kit.runs import DataSpec, Result, find
from kit.show.plots import contact_sheet
from kit.show.widgets import TemperatureExplorer, temperature_explorer
from kit.trainer import evaluate


def explore(result: Result, images: int = 48) -> TemperatureExplorer:
    """Sliders for K, α and t on the run's big teacher and student, for so many test images spread over the classes."""
    data = result.run.data.load()
    some = sample(data, images)
    teacher, student = find(result.run.teachers["big"]).student(), result.student()
    logits = [evaluate(network, some, *data.mean_std).logits for network in (teacher, student)]
    return temperature_explorer(*logits, some.labels, data.classes, images=some.images.pixels.numpy())


def sample(data: Dataset, images: int) -> Split:
    """So many test images, spread evenly over the split (which is ordered by class) and copied out of it."""
    indices = torch.linspace(0, len(data.test) - 1, min(images, len(data.test))).long().unique()
    return Split(TensorImages(data.test.images.take(indices)), data.test.labels[indices])


def sheet_of(plan: Plan, role: str, images: int = 20, columns: int = 10):
    """A role's contact sheet: some test images under their class names, and what fills the role."""
    spec: DataSpec = plan.data(role)
    data = spec.load()
    some = sample(data, images)
    return contact_sheet(
        some.images.pixels.numpy(),
        [data.classes[i] for i in some.labels.tolist()],
        columns,
        title=f"The {role} role is filled by: {spec.name} ({spec.source})",
        caption=f"{spec.classes} classes · {spec.train_images} training and {len(data.test)} test images "
        f"of {spec.px} px at preset {plan.preset.name}",
    )
