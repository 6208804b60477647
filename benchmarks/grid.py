"""Runs side by side against the same runs alone: how near the grid comes to what its cores could do.

python -m benchmarks.grid --json    # about 22 minutes on two quiet cores

Two teachers and ten students. A run sees 24,000 images; preset quick's for cifar-10 see 17,000 to 42,000. Each arm is a
process of its own with an empty cache; arms alternate, in another order in each repeat.
`alone`: every run by itself, one after the other, on one thread. `side_by_side`: `train_all` with a job for each core,
one thread each. `one_after_another`: each run in turn on as many threads as there are cores.

grid_over_ideal = wall of side_by_side / max(sum of alone / N, chain), where N are the cores and chain is the costliest
run with its teacher, by their times alone: no way of packing whole runs can be quicker. Its wall has in it what the
cores lose by working at once, and the worker processes' start (measured apart, too): of a grid of a few seconds that is
most. `alone` starts when all is imported.
Teachers' logits are not cached (KIT_LOGITS_GB=0), so that all arms do the same work.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import wait
from dataclasses import replace
from typing import Annotated

import numpy as np
import pandas as pd
import torch
import typer
from tqdm.auto import tqdm

from benchmarks.report import Ended, command, show, spread
from kit.cli.output import print_json
from kit.figures.forecast import longest
from kit.grid.engines import LocalProcesses, Task
from kit.grid.training import train_all
from kit.paper.plan import Plan, papers, rows, runs_of
from kit.paper.presets import PRESETS, Size
from kit.runs.spec import Run, with_teachers
from kit.runs.store import store
from kit.runs.training import start, train
from kit.runtime.machine import cores
from kit.runtime.progress import Progress

ARMS = ("alone", "side_by_side", "one_after_another")


def grid(epochs: int) -> list[Run]:
    """ResNet-34 and VGG-19 as teachers; VGG-16 as student of each at two temperatures, and of nobody, twice."""
    size = Size(px=16, train_per_class=60, test_per_class=20, epochs=epochs, teacher_epochs=epochs, batch=64)
    plan = Plan(replace(PRESETS["quick"], roles={"cifar-10": size}), {"cifar-10": "embedded"}, one_teacher=True)
    taught, untaught = papers(("T=5", "hinton"), ("T=20", "hinton")), papers(("hard labels", "no teacher"))
    ways = ((taught, "resnet34"), (taught, "vgg19"), (untaught, None))
    return [run for way, big in ways for run in runs_of(rows(plan, way, 2, "cifar-10", "vgg16", big))]


# ---- in a process of its own ---------------------------------------------------------------------------------------


def alone(epochs: int) -> dict[str, float]:
    seconds: dict[Run, float] = {}
    for run in with_teachers(grid(epochs)):
        begun = time.perf_counter()
        train(run)
        seconds[run] = time.perf_counter() - begun
    return {"wall_s": sum(seconds.values()), "chain_s": longest(seconds)}


def side_by_side(epochs: int) -> dict[str, float]:
    begun = time.perf_counter()
    with LocalProcesses(cores()) as engine:
        wait([engine.submit(Task(str(n), "nothing", nothing, None)) for n in range(engine.slots)])
        start_up_s = time.perf_counter() - begun
    runs = grid(epochs)
    begun = time.perf_counter()
    train_all(runs, jobs=cores(), show_progress=False)
    return {"wall_s": time.perf_counter() - begun, "start_up_s": start_up_s}


def nothing(about: None, tick: Progress) -> None:
    """With this module, all that a training needs has been imported."""


def one_after_another(epochs: int) -> dict[str, float]:
    runs = with_teachers(grid(epochs))
    torch.set_num_threads(cores())
    begun = time.perf_counter()
    for run in runs:
        store(run, start(run).run())
    return {"wall_s": time.perf_counter() - begun}


# ---- the whole -----------------------------------------------------------------------------------------------------


def measure(arm: str, epochs: int) -> dict[str, float]:
    """An arm's seconds, in a process of its own with an empty cache."""
    code = f"import json; from benchmarks import grid; print(json.dumps(grid.{arm}({epochs})))"
    with tempfile.TemporaryDirectory(prefix="kit-grid-") as cache:
        environment = os.environ | {"KIT_CACHE": cache, "KIT_LOGITS_GB": "0"}
        done = subprocess.run([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise Ended(f"arm {arm} failed")
    return json.loads(done.stdout.splitlines()[-1])


def main(
    repeats: Annotated[int, typer.Option(min=1, help="of every arm")] = 5,
    epochs: Annotated[int, typer.Option(min=1, help="of every run")] = 40,
    as_json: Annotated[bool, typer.Option("--json", help="end with lines of JSON")] = False,
) -> None:
    """Train a grid alone, side by side, and one after another on all cores, and compare."""
    measured: list[dict[str, dict[str, float]]] = []  # a repeat's arms
    for repeat in tqdm(range(repeats), desc="repeats", disable=not sys.stderr.isatty()):
        first = repeat % len(ARMS)
        measured.append({arm: measure(arm, epochs) for arm in ARMS[first:] + ARMS[:first]})
    seconds = pd.json_normalize(measured)  # a row a repeat, columns like alone.wall_s
    ideal = np.maximum(seconds["alone.wall_s"] / cores(), seconds["alone.chain_s"])
    together = seconds["side_by_side.wall_s"]
    found = pd.DataFrame(
        {
            "grid_over_ideal": together / ideal,
            "side_by_side_over_one_after_another": together / seconds["one_after_another.wall_s"],
            "start_up_s": seconds["side_by_side.start_up_s"],
            "chain_s": seconds["alone.chain_s"],
            **{f"{arm}_s": seconds[f"{arm}.wall_s"] for arm in ARMS},
        }
    )
    runs = len(with_teachers(grid(epochs)))
    show(f"{runs} runs on {cores()} cores, {repeats} repeats", found)
    if as_json:
        spreads = spread(found).round(3).to_dict("index")
        print_json({"cores": cores(), "runs": runs, "repeats": repeats} | spreads)
        print_json({"grid_over_ideal": spreads["grid_over_ideal"]["median"]})


if __name__ == "__main__":
    command(main)
