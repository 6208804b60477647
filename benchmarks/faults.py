"""What SIGKILL costs: a small grid is killed again and again, then finished, and compared with an undisturbed twin.

python -m benchmarks.faults --kills 30 --json    # about 10 minutes on two busy cores

Each time, `train_all(grid, jobs=2)` runs in a process group of its own, which is killed at a random moment: one in five
while it starts up, the others after it has written something. Checkpoints are written at every step, the worst case.
`lost`: finished runs that were later missing or damaged. `went_back`: checkpoints older than ones seen before.
`mismatched`: files of the finished grid that differ from the twin's, times aside.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from tqdm.auto import tqdm

from benchmarks.report import Ended, command
from kit.cli.output import print_json
from kit.files import complaint
from kit.grid import train_all
from kit.paper.plan import Plan, papers, rows, runs_of
from kit.paper.presets import PRESETS, Size
from kit.runs.spec import Run
from kit.runs.store import FILES
from kit.training.cost import CIRCUMSTANCES

PATIENCE = 120.0  # seconds for a grid to write something


def grid(epochs: int = 150) -> list[Run]:
    """Six students of two teachers on 40 digits of 8 px: seconds of training, every kind of stage."""
    size = Size(px=8, train_per_class=4, test_per_class=3, epochs=epochs, teacher_epochs=epochs, batch=16)
    preset = replace(PRESETS["smoke"], roles={"cifar-10": size}, student_width=2, teacher_width=4)
    plan = Plan(preset, {"cifar-10": "embedded"})
    ways = papers(("adaptive", "three steps"), ("T=5", "hinton"), ("hard labels", "no teacher"))
    return runs_of(rows(plan, ways, 2, "cifar-10", "cnn", "cnn", "cnn"))


def train() -> None:
    train_all(grid(), jobs=2, show_progress=False)


def begin(cache: Path, every_s: float) -> subprocess.Popen:
    """The grid, trained by two jobs into a cache, in a process group of its own."""
    environment = os.environ | {"KIT_CACHE": str(cache), "KIT_CHECKPOINT_S": str(every_s)}
    words = [sys.executable, "-c", "from benchmarks import faults; faults.train()"]
    return subprocess.Popen(words, env=environment, start_new_session=True)


def checkpoints(cache: Path) -> dict[str, str]:
    """The newest checkpoint's name by run."""
    return {path.parent.name: path.name for path in sorted((cache / "checkpoints").glob("*/step-*"))}


def finished(cache: Path) -> dict[str, str | None]:
    """What is wrong with each finished run, None where nothing is."""
    folders = (path for path in (cache / "runs").glob("[!.]*") if path.is_dir())
    return {folder.name: complaint(folder, FILES) for folder in folders}


def content(folder: Path) -> dict[str, object]:
    """A finished run's files, without the times in them and what was noted on the way."""
    description = {k: v for k, v in json.loads((folder / "run.json").read_text()).items() if k != "notes"}
    metrics = {k: v for k, v in json.loads((folder / "metrics.json").read_text()).items() if k not in CIRCUMSTANCES}
    epochs = pd.read_csv(folder / "epochs.csv", dtype=str).filter(regex="^(?!.*_s$)").to_csv()
    exact = {name: (folder / name).read_bytes() for name in ("student.safetensors", "steps.csv")}
    return exact | {"run.json": description, "metrics.json": metrics, "epochs.csv": epochs}


def wait_for_writing(cache: Path, process: subprocess.Popen) -> None:
    """Until the process has written a checkpoint or a run, or has ended."""
    before, deadline = checkpoints(cache) | finished(cache), time.monotonic() + PATIENCE
    while checkpoints(cache) | finished(cache) == before and process.poll() is None:
        if time.monotonic() > deadline:
            raise Ended(f"the grid wrote nothing in {PATIENCE:.0f} s")
        time.sleep(0.01)


def kill_at_random(cache: Path, rng: random.Random, start_up_s: float) -> bool:
    """Begins the grid and kills it; whether it was still at work when killed."""
    process = begin(cache, every_s=0)
    try:
        if rng.random() < 0.2:
            time.sleep(rng.uniform(0, start_up_s))
        else:
            wait_for_writing(cache, process)
            time.sleep(rng.uniform(0, 1.0))
        return process.poll() is None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def measure(kills: int, seed: int, place: Path) -> dict[str, object]:
    killed, whole, rng = place / "killed", place / "whole", random.Random(seed)
    started = time.monotonic()
    twin = begin(whole, every_s=1e9)
    wait_for_writing(whole, twin)
    start_up_s = time.monotonic() - started
    if twin.wait() != 0:
        raise Ended("the undisturbed grid failed")

    lost, went_back, at_work = 0, 0, 0
    seen: set[str] = set()
    for _ in tqdm(range(kills), desc="kills", disable=not sys.stderr.isatty()):
        before = checkpoints(killed)
        at_work += kill_at_random(killed, rng, start_up_s)
        now, after = finished(killed), checkpoints(killed)
        lost += sum(name not in now for name in seen) + sum(why is not None for why in now.values())
        went_back += sum(name not in now and after.get(name, "") < step for name, step in before.items())
        seen |= set(now)
    unfinished = len(finished(whole)) - len(seen)
    if begin(killed, every_s=10).wait() != 0:
        raise Ended("the killed grid could not be finished")

    ours, theirs = finished(killed), finished(whole)
    lost += len(set(theirs) - set(ours)) + sum(why is not None for why in ours.values())
    mismatched = 0
    for name in set(ours) & set(theirs):
        left, right = content(killed / "runs" / name), content(whole / "runs" / name)
        mismatched += sum(left[file] != right[file] for file in right)
    return {
        "kills": kills,
        "lost": lost,
        "mismatched": mismatched,
        "went_back": went_back,
        "at_work_when_killed": at_work,
        "runs": len(theirs),
        "unfinished_after_last_kill": unfinished,
        "files_compared": 5 * len(theirs),
        "left_over": sum(1 for _ in (killed / "runs").glob(".*")) + sum(1 for _ in (killed / "checkpoints").iterdir()),
        "seed": seed,
        "seconds": round(time.monotonic() - started, 1),
    }


def main(
    kills: Annotated[int, typer.Option(min=1, help="how many SIGKILLs")] = 30,
    seed: Annotated[int, typer.Option(help="of the random moments")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="end with one line of JSON")] = False,
) -> None:
    """Kill a small grid at random moments, finish it, and compare it with an undisturbed twin."""
    with tempfile.TemporaryDirectory(prefix="kit-faults-") as place:
        found = measure(kills, seed, Path(place))
    print(f"{kills} kills: {found['lost']} runs lost, {found['mismatched']} of {found['files_compared']} files differ")
    if as_json:
        print_json(found)
    if found["lost"] or found["mismatched"] or found["went_back"]:
        raise typer.Exit(1)


if __name__ == "__main__":
    command(main)
