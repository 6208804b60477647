"""What preset paper asks for: runs, counted FLOPs, GPU hours and GPU memory, for each table and for Fig. 2.

Nothing is trained and no image is read: sizes are the datasets' published counts, FLOPs are counted by torch on shapes,
and memory is that of the tensors which a training step must hold, also counted on shapes. `PAPER.md` is `page()`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import pandas as pd
import torch
from torch import nn

from kit.errors import KitError
from kit.grid.durations import Spec, work_of
from kit.losses import hard_cross_entropy
from kit.paper import figure2, table1, table2, table3, table4
from kit.paper.plan import Plan, runs_of
from kit.paper.presets import preset_named
from kit.runs.spec import DataSpec, Run, with_teachers

GPU, TFLOPS, UTILISATION = "H100 SXM", 990.0, 0.3  # dense bf16 peak as its vendor has it; the share is an assumption


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
        """(training of its networks, their teachers' forward passes), every stage with its whole budget."""
        work = [each for run in (*self.runs, *self.foreseen) for each in counted(run)]
        return tuple(sum(flops for teaching, flops in work if teaching == wanted) for wanted in (False, True))


@lru_cache(maxsize=2048)
def counted(run: Run) -> tuple[tuple[bool, float], ...]:
    """(whether it is a teacher's forward passes, FLOPs) for every part of a run's work."""
    return tuple((task.teaching, flops) for task, flops in work_of(run))


def parts(of: Plan) -> list[Part]:
    """Tables 1 to 4 and Fig. 2 in order; a run that several need is counted where it is first needed."""
    found: list[Part] = []
    before: set[Run] = set()
    for title, module in {
        "Table 1": table1,
        "Table 2, Fig. 1": table2,
        "Table 3": table3,
        "Table 4": table4,
        "Fig. 2": figure2,
    }.items():
        seeds = module.seeds(of)
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
def size_of(network: Spec) -> tuple[int, int]:
    """Bytes of a network's (parameters, buffers)."""
    with torch.device("meta"):
        built = network.build()
    return tuple(sum(t.nbytes for t in tensors) for tensors in (built.parameters(), built.buffers()))


@lru_cache(maxsize=256)
def kept_for_backward(network: Spec, px: int, batch: int) -> int:
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


def summary(of: Plan, tflops: float = TFLOPS, utilisation: float = UTILISATION) -> pd.DataFrame:
    """One line a table: runs, PFLOP, hours on one GPU at that peak and utilisation, and its largest run's memory."""
    rate = gpu_rate(tflops, utilisation)
    lines = []
    for part in parts(of):
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


def gpu_rate(tflops: float, utilisation: float) -> float:
    """FLOP/s that are assumed. KitError for what no GPU does."""
    if not 0 < tflops < 1e6:
        raise KitError(f"--gpu-tflops {tflops:g} is not allowed; allowed: above 0, below 1e6")
    if not 0 < utilisation <= 1:
        raise KitError(f"--utilisation {utilisation:g} is not allowed; allowed: above 0, up to 1")
    return tflops * 1e12 * utilisation


def table_of(lines: Sequence[Mapping[str, str]]) -> str:
    """Markdown of lines with the same keys."""
    rows = [list(lines[0]), ["---"] * len(lines[0]), *(list(line.values()) for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def page(tflops: float = TFLOPS, utilisation: float = UTILISATION, gpu: str = GPU) -> str:
    """PAPER.md."""
    of = plan()
    frame = summary(of, tflops, utilisation)
    total = frame[["training_pflop", "teachers_pflop", "gpu_hours"]].sum()
    hours = [
        {
            "part": row.part,
            "runs, new": f"{row.runs}"
            + (f" and about {row.foreseen} that follow from searches" if row.foreseen else ""),
            "shared": str(row.shared),
            "training, PFLOP": f"{row.training_pflop:,.0f}",
            "teachers' forward passes, PFLOP": f"{row.teachers_pflop:,.0f}",
            "GPU hours": f"{row.gpu_hours:,.1f}",
            "largest run": row.largest,
            "its memory, GiB": f"{row.memory_gib:.1f}",
        }
        for row in frame.itertuples()
    ]
    hours.append(dict.fromkeys(hours[0], "") | {
        "part": "**all**",
        "runs, new": str(frame["runs"].sum() + frame["foreseen"].sum()),
        "training, PFLOP": f"{total['training_pflop']:,.0f}",
        "teachers' forward passes, PFLOP": f"{total['teachers_pflop']:,.0f}",
        "GPU hours": f"{total['gpu_hours']:,.0f}",
        "its memory, GiB": f"{frame['memory_gib'].max():.1f}",
    })  # fmt: skip
    networks = []
    for run in of_each_network(of):
        held = memory(run)
        networks.append(
            {
                "network": run.student.title,
                "px": str(run.data.px),
                "weights, MiB": f"{size_of(run.student)[0] / 2**20:,.0f}",
                "weights, gradients, momentum, MiB": f"{held.student / 2**20:,.0f}",
                "kept for the backward pass, MiB": f"{held.activations / 2**20:,.0f}",
            }
        )
    logits = []
    for role, data in PUBLISHED.items():
        epoch, epochs = data.train_images * data.classes * 4, of.preset.roles[role].epochs
        logits.append(
            {
                "role": role,
                "data": data.name,
                "training images": f"{data.train_images:,}",
                "test images": f"{data.test_images:,}",
                "classes": str(data.classes),
                "px": str(of.preset.roles[role].px),
                "logits an epoch": f"{epoch / 1e6:,.1f} MB",
                f"of {epochs} epochs": f"{epoch * epochs / 1e9:,.2f} GB",
            }
        )
    return PAGE.format(
        gpu=gpu,
        tflops=f"{tflops:g}",
        utilisation=f"{utilisation:.0%}",
        option_utilisation=f"{utilisation:g}",
        batch=of.preset.roles["cifar-10"].batch,
        seeds=of.preset.seeds,
        hours=table_of(hours),
        networks=table_of(networks),
        logits=table_of(logits),
        days=f"{total['gpu_hours'] / 24:,.0f}",
        share=f"{of_imagenet(of):.1%}",
    )


def of_each_network(of: Plan) -> list[Run]:
    """Each network once at each image size, on the role with the most classes."""
    runs = {(run.student.title, run.data.px): run for run in runs_of(table1.table(of, 1))}
    return [runs[key] for key in sorted(runs, key=lambda key: (key[1], key[0]))]


def of_imagenet(of: Plan) -> float:
    """The share of all FLOPs that is ImageNet's."""
    work = [
        (run.data.role, sum(f for _, f in counted(run))) for part in parts(of) for run in (*part.runs, *part.foreseen)
    ]
    return sum(flops for role, flops in work if role == "imagenet") / sum(flops for _, flops in work)


PAGE = """# What preset `paper` asks for

Nothing here was measured on a GPU: hours are counted FLOPs over an assumed rate. This page is what
`python -m kit bench --preset paper --gpu-tflops {tflops} --utilisation {option_utilisation} --page PAPER.md`
writes; give it your own GPU's numbers.

Assumed: one {gpu}, {tflops} TFLOP/s at its peak (dense bf16), of which training uses {utilisation}. In float32,
or where images are not ready in time, it is less: hours scale with 1 / (peak × utilisation).

## Each table

{hours}

All of it: about {days} days of that one GPU, {share} of its FLOPs on ImageNet.

- *Runs*: the tables' own lists at preset paper ({seeds} seeds; one of Table 1), with all they learn from. A run that
  two tables need is counted where it is first needed and *shared* afterwards: Table 1's cells are everyone's teachers.
  Notebook 02's runs at other rates of t are the kit's own and not counted.
- *PFLOP*: 10¹⁵ floating-point operations, a multiply-add being two, counted by torch's FLOP counter on shapes:
  convolutions and matrix products, forward and backward for what is trained, forward for teachers. Every soft stage
  counts with its whole budget, though an adaptive one may end earlier. Evaluation (a pass over the test split an epoch)
  is left out.
- *Table 4*: what its searches propose is not known beforehand. Counted are as many candidates as they may try, each as
  large as the table's student; for equal time every other method is taken to be worth a run of ours.
- *Memory*: the student's weights, gradients and momentum, its teachers' weights, and what autograd keeps for the
  backward pass, at batch {batch} in float32, as below. cuDNN's workspaces, gradients of activations and the allocator's
  fragments come on top and are not counted; nor is bf16 autocast, which keeps less.

## Each network at batch {batch}

{networks}

What is kept is counted by autograd's own hooks on the meta device, each storage once; a test finds the same number of
bytes with real tensors.

## Data, and what cached teacher logits take on disk

{logits}

Images are the published counts. HRSC2016 is read as crops of single ships labelled by type, trained on trainval: the
count is of all annotated ships, which is rather too many, as the kit leaves out ships that have no type. Cached logits
are N·C·4 bytes (float32) for each teacher, augmentation seed and epoch in which it teaches; float16 takes half.
"""
