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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Optional

import torch
import typer

from benchmarks import bare
from benchmarks.interleaved import PROFILED, WARM_UP, Place, served, taken_in_turns
from benchmarks.report import Ended, Spread, command, table
from benchmarks.rungs import WORKERS
from benchmarks.task import PAIRS, Task
from kit.cli.output import print_json
from kit.errors import one_of

TORCHDISTILL = "torchdistill==1.1.5"
STEPS = {"vgg16": 32, "resnet34": 12, "resnet50": 12}  # a turn: one to two seconds
PROBES = 2  # turns in which the tutorial's number of workers is chosen
SHOWN = 12  # operators of a profile

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


@dataclass
class Ladder:
    """What was measured of one pair: images/s by rung, a number a round, and where a step's time went, by rung."""

    task: Task
    workers: str
    rates: dict[str, list[float]]
    profiles: dict[str, dict[str, float]] = field(default_factory=dict)

    def ratios(self, of: Mapping[str, tuple[str, str]]) -> dict[str, Spread | None]:
        """None where a rung is missing."""
        return {
            name: Spread.of_ratio(self.rates[above], self.rates[below])
            if above in self.rates and below in self.rates
            else None
            for name, (above, below) in of.items()
        }


def task_for(task: Task, steps: int, repeats: int) -> Task:
    """With as many images as the kit's loop needs for one epoch in which all turns fit and that never ends."""
    turns = (WARM_UP, *[steps] * (repeats + PROBES), PROFILED)
    return replace(task, images=task.batch * (sum(task.settling + timed for timed in turns) + 1))


def climb(task: Task, steps: int, repeats: int, threads: int, package: Path | None, profile: bool) -> Ladder:
    workers, probed = best_workers(task, steps, threads)
    places = {"tutorial": Place(f"tutorial, {workers}", threads)}
    if package:
        places["torchdistill"] = Place(f"torchdistill, {workers}", threads, package)
    others = ["bare", "kit", "kit cached", "kit hard", "kit fixed", "kit adaptive"]
    if bare.has_bfloat16(task.device):
        others.append("kit bfloat16")
        if task.device == "cuda":
            others.append("both in bfloat16")
            places["tutorial bfloat16"] = Place(f"tutorial bfloat16, {workers}", threads)
    if profile:
        others.append("teacher's logits known")
    with served(places | {rung: Place(rung, threads) for rung in others}, task) as processes:
        ladder = Ladder(task, workers, taken_in_turns(processes, steps, repeats))
        if profile:
            ladder.profiles = {name: processes[name].profile() for name in ("kit", "kit cached")}
    ladder.rates |= {f"(choosing) tutorial, {name}": rates for name, rates in probed.items()}
    return ladder


def best_workers(task: Task, steps: int, threads: int) -> tuple[str, dict[str, list[float]]]:
    """The tutorial loop's quickest number of loader workers, and what was measured to choose it."""
    places = {workers: Place(f"tutorial, {workers}", threads) for workers in WORKERS[task.device]}
    with served(places, task) as processes:
        rates = taken_in_turns(processes, steps, PROBES)
    return max(rates, key=lambda workers: max(rates[workers])), rates


def fetch_torchdistill(scratch: Path) -> Path | None:
    """The folder, with torchdistill installed into it; None, with a word why, where pip cannot get it."""
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(scratch), TORCHDISTILL]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode == 0:
        return scratch
    why = (done.stderr.strip().splitlines() or [f"pip ended with {done.returncode}"])[-1]
    print(f"warning: {TORCHDISTILL} could not be installed, so its ratio is left open: {why}", file=sys.stderr)
    return None


def show(ladder: Ladder) -> None:
    (student, teacher), task = ladder.task.specs, ladder.task
    print(f"\n{student.name} of width {student.width} under {teacher.name} of width {teacher.width}, {task.px} px, "
          f"batch {task.batch}, {task.device}; tutorial and torchdistill with {ladder.workers}")  # fmt: skip
    table("images/s", {rung: Spread.of(rates) for rung, rates in ladder.rates.items()}, digits=0)
    counted = [rung for rung in ("bare", "both in bfloat16", "kit", "kit bfloat16") if rung in ladder.rates]
    work = task.flops() / 1e12
    table("TFLOP/s", {rung: Spread.of([rate * work for rate in ladder.rates[rung]]) for rung in counted})
    bounds = {name: spread for name, spread in ladder.ratios(BOUNDS).items() if spread is not None}
    table("ratio", ladder.ratios(RATIOS) | bounds)
    for rung, shares in ladder.profiles.items():
        whose = "CPU" if task.device == "cpu" else "kernels'"
        print(f"where a step of `{rung}` goes, by operator, itself only, of its {whose} time")
        for operator, share in list(shares.items())[:SHOWN]:
            print(f"{operator:64} {share:6.1%}")


# ---- the second table ---------------------------------------------------------------------------------------------


def tricks(task: Task, steps: int, repeats: int, threads: int, compiled: bool) -> dict[str, Spread]:
    """Prints what each trick bought: the bare loop's speed without it (or with one more) over that of the whole."""
    changes = bare.LEFT_OUT | bare.PUT_IN | (bare.BFLOAT16 if bare.has_bfloat16(task.device) else {})
    changes |= bare.ON_GPU if task.device == "cuda" else {}
    with served({rung: Place(rung, threads) for rung in ("bare", *changes)}, task) as processes:
        rates = taken_in_turns(processes, steps, repeats)
    base = rates.pop("bare")
    print(f"\n{task.pair} of width {task.width}: the bare loop does {Spread.of(base).median:.0f} images/s")
    found = {name: Spread.of_ratio(measured, base) for name, measured in rates.items()}
    table("changed alone: speed over the bare loop", found)
    if not bare.has_bfloat16(task.device):
        print("bfloat16 is left out: torch has no instructions for it here")
    if compiled:
        found |= compare_compiled(task, steps, repeats, threads)
    return found


def compare_compiled(task: Task, steps: int, repeats: int, threads: int) -> dict[str, Spread]:
    """Alone with the bare loop: it takes long to compile, and may fail."""
    (name,) = bare.COMPILED
    try:
        with served({rung: Place(rung, threads) for rung in ("bare", name)}, task) as processes:
            compiling_s = processes[name].warm_up_s - processes["bare"].warm_up_s
            rates = taken_in_turns(processes, steps, repeats)
    except Ended as error:
        print(f"torch.compile is left out: {error}")
        return {}
    found = {name: Spread.of_ratio(rates[name], rates["bare"])}
    table("compiled", found)
    saved = task.batch / Spread.of(rates["bare"]).median - task.batch / Spread.of(rates[name]).median  # s a step
    pays = f"after {compiling_s / saved:,.0f} steps" if saved > 0 else "never"
    print(f"compiling took {compiling_s:.0f} s; it has paid for itself {pays}")
    return found


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
    profile: Annotated[bool, typer.Option("--profile", help="where the kit's steps go, and the bound")] = False,
    rival: Annotated[bool, typer.Option("--torchdistill/--no-torchdistill", help="the rung that pip fetches")] = True,
) -> None:
    """Images a second by several training loops, in turns; the ratios between them."""
    one_of("device", device, ["cpu", *["cuda"] * torch.cuda.is_available()])
    tasks = {}
    for name in [one_of("pair", pair, PAIRS)] if pair else PAIRS:
        turn = steps or STEPS[name]
        tasks[name] = task_for(Task(name, width, images=0, batch=batch, px=px, device=device), turn, repeats), turn
    on = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    print(f"torch {torch.__version__}, {threads} threads, {on}, {os.cpu_count()} cores; {repeats} turns each")
    found = {}
    if by_trick:
        for name, turns in tasks.items():
            found[name] = medians(tricks(*turns, repeats, threads, compiled))
    else:
        with tempfile.TemporaryDirectory(prefix="kit-benchmark-") as place:
            package = fetch_torchdistill(Path(place)) if rival else None
            for name, turns in tasks.items():
                ladder = climb(*turns, repeats, threads, package, profile)
                show(ladder)
                found[name] = medians(ladder.ratios(RATIOS))
    if as_json:
        print_json(found)


def medians(spreads: Mapping[str, Spread | None]) -> dict[str, float | None]:
    return {name: None if spread is None else round(spread.median, 3) for name, spread in spreads.items()}


if __name__ == "__main__":
    command(main)
