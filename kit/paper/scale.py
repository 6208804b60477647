"""What preset paper asks for: runs, counted FLOPs, GPU hours and GPU memory, for each table and for Fig. 2.

Nothing is trained and no image is read: sizes are the datasets' published counts, FLOPs are counted by torch on shapes,
and memory is that of the tensors which a training step must hold, also counted on shapes. `PAPER.md` is `page()`: the
prose and tables of `scale.md`, a Jinja template, with these numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from jinja2 import Environment, StrictUndefined
from torch import nn

from kit.data.augment import batch_sizes
from kit.errors import KitError
from kit.grid.durations import flops_of
from kit.losses import hard_cross_entropy
from kit.networks.cifar import NETWORKS
from kit.networks.named import NamedSpec, Network, shapes_of
from kit.paper import figure2, table1, table2, table3, table4
from kit.paper.plan import Plan, runs_of
from kit.paper.presets import preset_named
from kit.recipe import hard_labels
from kit.runs.spec import DataSpec, Run, with_teachers
from kit.siblings import crd

GPU, TFLOPS, UTILISATION = "H100 SXM", 990.0, 0.3  # dense bf16 peak as its vendor has it; the share is an assumption
PAGE = Path(__file__).with_name("scale.md")
PARTS = {"Table 1": table1, "Table 2, Fig. 1": table2, "Table 3": table3, "Table 4": table4, "Fig. 2": figure2}


class Published(NamedTuple):
    """A dataset as its authors count it."""

    name: str
    classes: int
    train_images: int
    test_images: int


PUBLISHED = {
    "cifar-10": Published("CIFAR-10", 10, 50_000, 10_000),
    "cifar-100": Published("CIFAR-100", 100, 50_000, 10_000),
    "imagenet": Published("ImageNet (ILSVRC 2012)", 1000, 1_281_167, 50_000),
    # every annotated ship of trainval (617 images) and test (444) as a crop; 26 types and the submarine
    "hrsc2016": Published("HRSC2016, crops by type", 27, 1_748, 1_228),
}


class PublishedPlan(Plan):
    """A plan whose data are described by their published counts: none of them need be here. Not for training."""

    def data(self, role: str) -> DataSpec:
        size, published = self.preset.roles[role], PUBLISHED[role]
        return DataSpec(
            role=role,
            name=published.name,
            source="published counts",
            fingerprint="",
            px=size.px,
            classes=published.classes,
            train_images=published.train_images,
            train_per_class=size.train_per_class,
            test_per_class=size.test_per_class,
        )


def plan() -> PublishedPlan:
    return PublishedPlan(preset_named("paper"))


# ---- runs and FLOPs -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """A table or figure: the runs that it adds to those before it, and for Table 4 those that are only foreseen."""

    title: str
    runs: tuple[Run, ...]
    foreseen: tuple[Run, ...] = ()
    shared: int = 0  # runs that it has in common with what is before it

    @property
    def flops(self) -> tuple[float, float]:
        """(training of its networks, their teachers' forward passes)."""
        training, teaching = zip(*map(work, (*self.runs, *self.foreseen)), strict=True)
        return sum(training), sum(teaching)


def work(run: Run) -> tuple[float, float]:
    """FLOPs of (a network's training, its teachers' forward passes), every stage with its whole budget."""
    training, asking = flops_of(run)
    return training, sum(asking.values())


def parts(of: Plan) -> list[Part]:
    """Tables 1 to 4 and Fig. 2 in order; a run that several need is counted where it is first needed."""
    found: list[Part] = []
    before: set[Run] = set()
    seeds = of.preset.seeds
    for title, module in PARTS.items():
        rows = table4.known(of, seeds) if module is table4 else module.table(of, seeds)
        needed = with_teachers(runs_of(rows))
        new = tuple(run for run in needed if run not in before)
        foreseen = tuple(table4.foreseen(of, seeds)) if module is table4 else ()
        found.append(Part(title, new, foreseen, len(needed) - len(new)))
        before.update(new)
    return found


# ---- memory -------------------------------------------------------------------------------------------------------


class Memory(NamedTuple):
    """Bytes on the device during a training step, all in float32."""

    student: int  # weights, gradients, momentum, buffers
    teachers: int  # weights and buffers of all that the run holds
    activations: int  # kept by autograd for the backward pass

    @property
    def total(self) -> int:
        return sum(self)


def memory(run: Run) -> Memory:
    """What the run's training step must hold. Left out: cuDNN's workspaces, gradients of activations, fragments."""
    student, buffers = size_of(run.student)
    teachers = sum(sum(size_of(teacher.student)) for teacher in run.teachers.values())
    batch = min(run.recipe.batch, run.data.train_images)
    return Memory(3 * student + buffers, teachers, kept_for_backward(run.student, run.data.px, batch))


@lru_cache(maxsize=256)
def size_of(network: Network) -> tuple[int, int]:
    """Bytes of a network's (parameters, buffers)."""
    with torch.device("meta"):
        built = network.build()
    return tuple(sum(t.nbytes for t in tensors) for tensors in (built.parameters(), built.buffers()))


@lru_cache(maxsize=256)
def kept_for_backward(network: Network, px: int, batch: int) -> int:
    """Bytes that autograd keeps of a training step's forward pass, on shapes alone."""
    with torch.device("meta"):
        return saved_bytes(network.build(), torch.empty(batch, 3, px, px), torch.zeros(batch, dtype=torch.int64))


def saved_bytes(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> int:
    """Bytes of the tensors that autograd saves in a training step's forward pass, each storage once, weights left out.

    x (N, 3, H, W) and y (N,) may be real or on the meta device.
    """
    network = network.to(memory_format=torch.channels_last).train()
    weights = {tensor.untyped_storage()._cdata for tensor in network.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}  # held, so that no storage takes another's place

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        hard_cross_entropy(network(x), y)
    return sum(storage.nbytes() for storage in kept.values())


# ---- the tables ---------------------------------------------------------------------------------------------------


def summary(parts: Sequence[Part], tflops: float = TFLOPS, utilisation: float = UTILISATION) -> pd.DataFrame:
    """One line a part: runs, PFLOP, hours on one GPU at that peak and utilisation, and its largest run's memory."""
    rate = gpu_rate(tflops, utilisation)
    lines = []
    for part in parts:
        training, teaching = part.flops
        largest = max(part.runs, key=lambda run: memory(run).total)
        lines.append(
            {
                "part": part.title,
                "runs": len(part.runs),
                "foreseen": len(part.foreseen),
                "shared": part.shared,
                "training_pflop": training / 1e15,
                "teachers_pflop": teaching / 1e15,
                "gpu_hours": (training + teaching) / rate / 3600,
                "largest": largest.title,
                "memory_gib": memory(largest).total / 2**30,
            }
        )
    return pd.DataFrame(lines)


def of_crd(of: Plan, tflops: float = TFLOPS, utilisation: float = UTILISATION) -> pd.DataFrame:
    """One line a pair of the field's CIFAR-100 table, under its protocol and from one seed: PFLOP, and minutes on
    such a GPU of the student, and of its teacher where that is trained."""
    rate, data = gpu_rate(tflops, utilisation), of.data("cifar-100")
    lines = []
    for (teacher, student), (*_, printed) in crd.PRINTED.items():
        trained = crd_run(data, teacher)
        training, teaching = work(crd_run(data, student, {"big": trained}))
        lines.append(
            {
                "teacher": teacher,
                "student": student,
                "printed": printed,
                "training_pflop": training / 1e15,
                "teachers_pflop": teaching / 1e15,
                "minutes": (training + teaching) / rate / 60,
                "of_teacher": work(trained)[0] / rate / 60,
            }
        )
    return pd.DataFrame(lines)


def crd_run(data: DataSpec, network: str, teachers: Mapping[str, Run] | None = None) -> Run:
    """A network of the field's under its protocol, on hard labels without a teacher. It is described, not tried."""
    name, stages = f"cifar:{network}", None if teachers else hard_labels()
    with torch.device("meta"):
        shapes = shapes_of(name, NETWORKS[network](num_classes=data.classes))
    described = NamedSpec(name=name, classes=data.classes, shapes=shapes)
    return Run(data=data, student=described, recipe=crd.recipe(stages, name), teachers=dict(teachers or {}))


def gpu_rate(tflops: float, utilisation: float) -> float:
    """FLOP/s that are assumed. KitError for what no GPU does."""
    if not 0 < tflops < 1e6:
        raise KitError(f"--gpu-tflops {tflops:g} is not allowed; allowed: above 0, below 1e6")
    if not 0 < utilisation <= 1:
        raise KitError(f"--utilisation {utilisation:g} is not allowed; allowed: above 0, up to 1")
    return tflops * 1e12 * utilisation


# ---- the page -----------------------------------------------------------------------------------------------------


def page(tflops: float = TFLOPS, utilisation: float = UTILISATION) -> str:
    """PAPER.md."""
    of = plan()
    found, pairs = parts(of), of_crd(of, tflops, utilisation)
    frame = summary(found, tflops, utilisation)
    words = Environment(undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    words.filters["f"] = format
    return words.from_string(PAGE.read_text(encoding="utf-8")).render(
        gpu=GPU if tflops == TFLOPS else "GPU",
        tflops=tflops,
        utilisation=utilisation,
        seeds=of.preset.seeds,
        roles=of.preset.roles,
        size=of.preset.roles["cifar-10"],
        parts=frame.to_dict("records"),
        total=frame.sum(numeric_only=True),
        memory=frame["memory_gib"].max(),
        imagenet=of_imagenet(found),
        crd=crd,
        crd_steps=crd.EPOCHS * len(batch_sizes(PUBLISHED["cifar-100"].train_images, crd.BATCH, True)),
        crd_students=pairs["minutes"].sum() / 60,
        crd_teachers=pairs.drop_duplicates("teacher")["of_teacher"].sum() / 60,
        pairs=pairs.to_dict("records"),
        networks=list(each_network(of)),
        published=PUBLISHED,
    )


def each_network(of: Plan) -> Iterator[tuple[str, int, int, int, int]]:
    """Each network once at each image size, on the role with the most classes: its title, px, and bytes of weights, of
    all that is held beside activations, and of these."""
    runs = {(run.data.px, run.student.title): run for run in runs_of(table1.table(of, 1))}
    for (px, title), run in sorted(runs.items()):
        held = memory(run)
        yield title, px, size_of(run.student)[0], held.student, held.activations


def of_imagenet(parts: Sequence[Part]) -> float:
    """The share of all FLOPs that is ImageNet's."""
    flops = [(run.data.role, sum(work(run))) for part in parts for run in (*part.runs, *part.foreseen)]
    return sum(f for role, f in flops if role == "imagenet") / sum(f for _, f in flops)
