"""Runs that are trained in a blink, and an engine without workers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

import pandas as pd
import torch

from kit import recipe
from kit.data.base import Dataset, in_memory
from kit.files import CHECKSUMS, sha256
from kit.grid.engines import Task, attempted
from kit.models import ModelSpec
from kit.recipe import Recipe
from kit.runs.spec import DataSpec, Run
from kit.temperature import Adaptive


def spec(**changes) -> DataSpec:
    return DataSpec.of(**{"role": "cifar-10", "px": 8, "train_per_class": 4, "test_per_class": 3, "source": "embedded",
                          "folder": None} | changes)  # fmt: skip


def labelled(*counts: int, name: str = "pets") -> Dataset:
    """So many black images of each class, in both halves."""
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    half = torch.zeros(len(labels), 1, 1, 3, dtype=torch.uint8), labels
    return in_memory("own", name, "real", [f"class {i}" for i in range(len(counts))], half, half, flip=True)


def measured(**columns: Mapping[tuple[str, str], Sequence[float]] | object) -> pd.DataFrame:
    """A line a run that nobody trained, in no order. A column is given by row (label and reading), a value a seed, or
    is the same in every line."""
    by_row = {name: of for name, of in columns.items() if isinstance(of, Mapping)}
    lines = [
        {"temperature": label, "reading": reading, "seed": seed} | dict(zip(by_row, values, strict=True))
        for label, reading in next(iter(by_row.values()))
        for seed, values in enumerate(zip(*(of[label, reading] for of in by_row.values()), strict=True))
    ]
    same = {name: of for name, of in columns.items() if name not in by_row}
    return pd.DataFrame(lines).assign(**{"group": "", "status": "finished"} | same).sample(frac=1, random_state=0)


def hard(seed: int = 0, width: int = 2, epochs: int = 2, **changes) -> Run:
    """A CNN on 40 digits of 8 px: trained in a blink."""
    return Run(
        data=spec(),
        student=ModelSpec(name="cnn", classes=10, width=width, stem="small"),
        recipe=Recipe(**{"stages": recipe.hard_labels(), "epochs": epochs, "batch": 16, "pad": 1} | changes),
        seed=seed,
    )


def taught(big: Run, small: Run | None = None, seed: int = 0, **changes) -> Run:
    policy = Adaptive(rate=20)
    stages = recipe.small_teacher(policy) if small else recipe.big_teacher_only(policy)
    return Run(
        data=spec(),
        student=ModelSpec(name="cnn", classes=10, width=2, stem="small"),
        recipe=Recipe(**{"stages": stages, "epochs": 3, "batch": 16, "pad": 1} | changes),
        teachers={"small": small, "big": big} if small else {"big": big},
        seed=seed,
    )


def left_in(cache: Path) -> list[str]:
    """What is in the cache of runs, locks aside."""
    return sorted(path.name for path in (cache / "runs").iterdir() if path.suffix != ".lock")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def reseal(folder: Path) -> None:
    """Writes a folder's checksums anew, as who alters its files and knows of them would."""
    checksums = folder / CHECKSUMS
    checksums.write_text(json.dumps({name: sha256(folder / name) for name in json.loads(checksums.read_text())}))


class Here:
    """An engine without workers to start: each task is done where it is submitted."""

    slots = 1

    def submit(self, task: Task) -> Future:
        future = Future()
        future.set_result(attempted(task, lambda share: None))
        return future

    def progress(self):
        return iter(())

    def __enter__(self):
        return self

    def __exit__(self, *raised):
        return None
