"""A cache that nobody trained: finished runs whose numbers follow from the run's hash alone.

Trained numbers differ by processor, so pictures of them cannot be compared byte for byte; pictures of these can. They
are sums and products of what `random.Random(hash)` gives, without a logarithm or an exponential, which differ in their
last digit between processors. A folder is what the kit itself would write, sealed by the kit and read by it, but for
`student.safetensors`, which holds no tensors: what looks into a network cannot be drawn from such a cache.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any

from safetensors.torch import save_file

from kit.files import sealed
from kit.runs.spec import Run, versions, with_teachers
from kit.runs.store import FORMAT, folder_of

DIVERGING = 0.06  # the share of students whose loss stops being a number


def make_all(runs: Iterable[Run]) -> None:
    """Puts the runs and all they learn from into the cache, as far as they are not there."""
    for run in with_teachers(runs):
        if not folder_of(run.hash).exists():
            make(run)


def make(run: Run) -> None:
    """Puts one run into the cache: one that finished, or a student that diverged."""
    draw = Random(run.hash)
    per_epoch = run.data.train_images // min(run.recipe.batch, run.data.train_images)
    stages, steps = history(run.model_dump(mode="json")["recipe"], per_epoch, draw)
    diverged = bool(run.teachers) and draw.random() < DIVERGING
    with sealed(folder_of(run.hash)) as draft:
        about = {"title": run.title, "versions": versions(), "format": FORMAT, "notes": []}
        dump(draft / "run.json", run.model_dump(mode="json") | about)
        if diverged:
            table(draft / "steps.csv", steps[: len(steps) // 2])
            dump(draft / "diverged.json", {"step": len(steps) // 2})
            return
        epochs = [epoch(number, steps[number * per_epoch - 1], draw) for number in range(1, run.recipe.epochs + 1)]
        table(draft / "steps.csv", steps)
        table(draft / "epochs.csv", epochs)
        dump(draft / "metrics.json", metrics(epochs[-1], stages, draw) | agreement(run, draw))
        save_file({}, draft / "student.safetensors")


def history(recipe: dict[str, Any], per_epoch: int, draw: Random) -> tuple[list[dict], list[dict]]:
    """How each stage went, and a line a batch: t falls evenly to where its stage ends, cold or with its budget."""
    total, stages, steps = recipe["epochs"] * per_epoch, [], []
    for stage in recipe["stages"]:
        policy, budget = stage["temperature"], round(stage["until"] * total) - len(steps)
        start = None if policy is None else policy.get("k", policy.get("T", policy.get("times", 2.0)))
        moves = policy is not None and policy["kind"] != "fixed"
        cold = moves and draw.random() < 0.6 and stage["until"] < 1  # the last one goes on to its budget
        length = max(1, round(budget * (0.5 + 0.4 * draw.random()))) if cold else budget
        end = start if not moves else 1.0 if cold else round(1 + (start - 1) * draw.random(), 3)
        for i in range(length):
            t = None if start is None else round(start + (end - start) * (i + 1) / length, 4)
            step = len(steps) + 1
            steps.append(
                {
                    "step": step,
                    "epoch": step / per_epoch,
                    "stage": stage["name"],
                    "loss": round(5 - 3 * step / total + draw.random(), 4),
                    "t": t,
                    "t_used": t if t is None or not policy.get("floor") else float(int(t)),
                    "lr": round(recipe["lr"] * (1 - step / total), 5),
                    "batch_top1": round(draw.random() * step / total, 4),
                }
            )
        stages.append(
            {
                "name": stage["name"],
                "epochs": length / per_epoch,
                "steps": length,
                "ended_by": "temperature" if cold else "budget",
                "t_start": start,
                "t_end": end,
            }
        )
    return stages, steps


def epoch(number: int, last: dict[str, Any], draw: Random) -> dict[str, Any]:
    """A line of `epochs.csv`: accuracies that tend to rise, seconds and FLOPs that add up."""
    right = [round((0.1 + 0.2 * draw.random()) * (1 + number / (number + 2)), 4) for _ in range(2)]
    return {
        "epoch": number,
        "stage": last["stage"],
        "train_top1": right[0],
        "train_top5": round(right[0] + 0.3 * draw.random(), 4),
        "test_top1": right[1],
        "test_top5": round(right[1] + 0.3 * draw.random(), 4),
        "wall_s": round(number * (1.1 + draw.random()), 3),
        "cpu_s": round(number * (1 + draw.random()), 3),
        "gpu_s": 0.0,
        "student_flops": int(number * (1 + draw.random()) * 10**9),
        "teacher_flops": int(number * (1 + draw.random()) * 10**8),
    }


def metrics(last: dict[str, Any], stages: list[dict], draw: Random) -> dict[str, Any]:
    kept = {name: value for name, value in last.items() if name not in ("epoch", "stage")}
    return kept | {"cached_logits_s": round(0.2 * draw.random(), 3), "cached_logits_images": 0, "stages": stages}


def agreement(run: Run, draw: Random) -> dict[str, Any]:
    """What is measured where there is a big teacher."""
    if "big" not in run.teachers:
        return {}
    return {"agreement": {name: round(draw.random(), 4) for name in ("kl", "top1", "top5")}}


def dump(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def table(path: Path, lines: list[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, lines[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
