"""Images a second of one distillation by several training loops, measured in turns on this machine: the ladder.

    python -m benchmarks.throughput --json      # all pairs, about 6 minutes on two quiet cores
    python -m benchmarks.throughput --tricks    # what each trick of the bare loop bought
    python -m benchmarks.throughput --profile   # the ladder, then where the kit's step goes, and the bound
    python -m benchmarks.throughput --device cuda --width 64 --px 32 --tricks   # a GPU's

Every loop trains the same student under the same teacher (VGG-16 under VGG-19, as wide; ResNet-34 under one twice as
wide, or under ResNet-50) on the same random pixels of 32 × 32, batch 128, Eq. (1) as Hinton weighs it, nesterov SGD,
on two threads, each in a process of its own; the processes take turns of a few steps. `tutorial` is the loop of a
PyTorch tutorial at its best number of loader workers, `torchdistill` that package's training box, `bare` the
arithmetic alone (`benchmarks.bare`), `kit` this kit's trainer, `kit cached` the same with the teacher's logits from the
kit's cache, whose filling is left out. Each ratio is taken round by round, then the median. They compare speeds
(kit_over_tutorial 2 is twice as fast), but `adaptive_over_fixed` a step's time with the adaptive temperature with one
with a fixed T, and `cached_over_hard` a step's time with cached logits with one on hard labels alone.

The student's width is 8, as in preset quick, whose networks are what the kit trains on a CPU; `--width` sets it. The
wider it is, the more of a step is convolutions, which are the same in all loops, and the closer all ratios are to 1.
`kit bfloat16`, where torch may use instructions for it (of a CPU: docs/runs.md, "On another processor"), is other
arithmetic (`--precision bfloat16`) and in none of the last line's ratios. TFLOP/s are images/s times the counted
operations of an image. On a GPU the loops take turns as well, each turn begins with steps that are not timed, `bare`
holds all images on the GPU, and in float32 convolutions are TF32, as torch has it.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Annotated, Optional

import numpy as np
import pandas as pd
import torch
import typer

from benchmarks import bare
from benchmarks.bare import bare_loop
from benchmarks.interleaved import PROFILED, WARM_UP, profile, served, taken_in_turns
from benchmarks.report import Ended, command, show
from benchmarks.rungs import KIT, PAIRS, WORKERS, Task, eq1, torchdistill, tutorial
from kit.cli.output import print_json
from kit.errors import one_of

TORCHDISTILL = "torchdistill==1.1.5"
STEPS = {"vgg16": 32, "resnet34": 12, "resnet50": 12}  # a turn: one to two seconds
PROBES = 2  # turns in which the tutorial's number of workers is chosen

# Each ratio of the last line: what stands above and below, in images a second.
RATIOS = {
    "kit_over_tutorial": ("kit", "tutorial"),
    "cached_over_tutorial": ("kit cached", "tutorial"),
    "kit_over_torchdistill": ("kit", "torchdistill"),
    "kit_over_bare": ("kit", "bare"),
    "adaptive_over_fixed": ("kit fixed", "kit adaptive"),
    "cached_over_hard": ("kit hard", "kit cached"),
}
BOUNDS = {
    "bare_over_tutorial": ("bare", "tutorial"),
    "bare_cached_over_tutorial": ("teacher's logits known", "tutorial"),
    "kit_bfloat16_over_tutorial": ("kit bfloat16", "tutorial"),
    "kit_bfloat16_over_its_tutorial": ("kit bfloat16", "tutorial bfloat16"),
    "kit_bfloat16_over_its_bare": ("kit bfloat16", "both in bfloat16"),
}


def ratios(rates: pd.DataFrame, of: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    """Round by round: what disturbs a round disturbs both. No number where a rung is missing."""
    return pd.DataFrame(
        {name: rates.get(above, np.nan) / rates.get(below, np.nan) for name, (above, below) in of.items()}, rates.index
    )


def medians(rounds: pd.DataFrame) -> dict[str, float]:
    return rounds.median().round(3).to_dict()


def task_for(task: Task, steps: int, repeats: int) -> Task:
    """With as many images as the kit's loop needs for one epoch in which all turns fit and that never ends."""
    turns = (WARM_UP, *[steps] * (repeats + PROBES), PROFILED)
    return replace(task, images=task.batch * (sum(task.settling + timed for timed in turns) + 1))


def ladder(task: Task, steps: int, repeats: int, rival: bool, profiled: bool) -> dict[str, float]:
    """Prints images/s of every rung and what follows from them; returns the medians of the RATIOS."""
    workers = best_workers(task, steps)
    rungs = {"tutorial": partial(tutorial, workers=workers)}
    if rival:
        rungs["torchdistill"] = partial(torchdistill, workers=workers)
    rungs |= {"bare": bare_loop} | KIT | (bare.PUT_IN if profiled else {})
    if bare.has_bfloat16(task.device):
        rungs["kit bfloat16"] = partial(eq1, precision="bfloat16")
        if task.device == "cuda":
            rungs["tutorial bfloat16"] = partial(tutorial, workers=workers, precision="bfloat16")
            rungs |= bare.IN_BFLOAT16
    with served(rungs, task) as processes:
        rates = taken_in_turns(processes, steps, repeats)
        profiles = {name: processes[name].ask(profile, PROFILED) for name in ("kit", "kit cached") if profiled}
    show("images/s", rates, digits=0)
    show("TFLOP/s", rates.filter(regex="^(bare|both in bfloat16|kit|kit bfloat16)$") * task.flops() / 1e12)
    show("ratio", ratios(rates, RATIOS | BOUNDS).dropna(axis=1, how="all"))
    for name, operators in profiles.items():
        print(f"\nwhere a step of `{name}` goes, by operator\n{operators}")
    return medians(ratios(rates, RATIOS))


def best_workers(task: Task, steps: int) -> int:
    """The tutorial loop's quickest number of loader workers; prints what was measured to choose it."""
    with served({n: partial(tutorial, workers=n) for n in WORKERS[task.device]}, task) as processes:
        rates = taken_in_turns(processes, steps, PROBES)
    student, teacher = task.specs
    print(f"\n{student.name} of width {student.width} under {teacher.name} of width {teacher.width}, {task.px} px, "
          f"batch {task.batch}, {task.device}")  # fmt: skip
    best = int(rates.max().idxmax())
    show(f"images/s of the tutorial's loop, by loader workers; it and torchdistill's go on with {best}", rates, 0)
    return best


def fetched(package: str, folder: str) -> bool:
    """Whether pip can install a package into the folder; says why not."""
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, package]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode != 0:
        why = (done.stderr.strip().splitlines() or [f"pip ended with {done.returncode}"])[-1]
        print(f"warning: {package} could not be installed, so its ratio is left open: {why}", file=sys.stderr)
    return done.returncode == 0


# ---- the second table ---------------------------------------------------------------------------------------------


def tricks(task: Task, steps: int, repeats: int, compiled: bool) -> dict[str, float]:
    """Prints what each trick bought, and returns the medians: the bare loop's speed without it (or with one more) over
    that of the whole."""
    changes = bare.LEFT_OUT | bare.PUT_IN | (bare.BFLOAT16 if bare.has_bfloat16(task.device) else {})
    changes |= bare.ON_GPU if task.device == "cuda" else {}
    with served({"bare": bare_loop} | changes, task) as processes:
        rates = taken_in_turns(processes, steps, repeats)
    base = rates.pop("bare")
    found = rates.div(base, axis=0)
    print(f"\n{task.pair} of width {task.width}: the bare loop does {base.median():.0f} images/s")
    show("changed alone: speed over the bare loop", found)
    if not bare.has_bfloat16(task.device):
        print("bfloat16 is left out: torch has no instructions for it here")
    return medians(found) | (compare_compiled(task, steps, repeats) if compiled else {})


def compare_compiled(task: Task, steps: int, repeats: int) -> dict[str, float]:
    """Alone with the bare loop: it takes long to compile, and may fail."""
    (name,) = bare.COMPILED
    try:
        with served({"bare": bare_loop} | bare.COMPILED, task) as processes:
            compiling_s = processes[name].warm_up_s - processes["bare"].warm_up_s
            rates = taken_in_turns(processes, steps, repeats)
    except Ended as error:
        print(f"torch.compile is left out: {error}")
        return {}
    found = (rates[name] / rates["bare"]).to_frame(name)
    show("compiled", found)
    step_s = task.batch / rates.median()
    saved = step_s["bare"] - step_s[name]
    pays = f"after {compiling_s / saved:,.0f} steps" if saved > 0 else "never"
    print(f"compiling took {compiling_s:.0f} s; it has paid for itself {pays}")
    return medians(found)


# ---- the command line ---------------------------------------------------------------------------------------------


def main(
    as_json: Annotated[bool, typer.Option("--json", help="end with one line of JSON")] = False,
    pair: Annotated[Optional[str], typer.Option(help="vgg16, resnet34 or resnet50; default: all")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="turns of each loop")] = 5,
    width: Annotated[int, typer.Option(min=1, help="the student's first channel count")] = 8,
    batch: Annotated[int, typer.Option(min=2, help="images a step")] = 128,
    px: Annotated[int, typer.Option(min=8, help="of the images")] = 32,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    steps: Annotated[Optional[int], typer.Option(min=1, help="a turn; default: 32 of VGG-16, 12 of a ResNet")] = None,
    threads: Annotated[int, typer.Option(min=1, help="of torch, in every loop")] = 2,
    by_trick: Annotated[
        bool, typer.Option("--tricks", help="instead: what each trick of the bare loop bought")
    ] = False,
    compiled: Annotated[bool, typer.Option(help="with --tricks: torch.compile too, minutes")] = True,
    profiled: Annotated[bool, typer.Option("--profile", help="where the kit's steps go, and the bound")] = False,
    rival: Annotated[bool, typer.Option("--torchdistill/--no-torchdistill", help="the rung that pip fetches")] = True,
) -> None:
    """Images a second by several training loops, in turns; the ratios between them."""
    one_of("device", device, ["cpu", *["cuda"] * torch.cuda.is_available()])
    pairs = [one_of("pair", pair, PAIRS)] if pair else list(PAIRS)
    on = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    print(f"torch {torch.__version__}, {threads} threads, {on}, {os.cpu_count()} cores; {repeats} turns each")
    found = {}
    with tempfile.TemporaryDirectory(prefix="kit-benchmark-") as scratch:
        rival = rival and not by_trick and fetched(TORCHDISTILL, scratch)
        sys.path.append(scratch)  # of the processes to come as well
        for name in pairs:
            turn = steps or STEPS[name]
            task = Task(name, width, images=0, batch=batch, px=px, device=device, threads=threads)
            task = task_for(task, turn, repeats)
            if by_trick:
                found[name] = tricks(task, turn, repeats, compiled)
            else:
                found[name] = ladder(task, turn, repeats, rival, profiled)
    if as_json:
        print_json(found)


if __name__ == "__main__":
    command(main)
