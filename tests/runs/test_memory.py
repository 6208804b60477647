"""Memory over many runs: a process that trains 100 of them holds no more at the end than after the first ten."""

from __future__ import annotations

import json
import os
import subprocess
import sys

RUNS, WARM, ALLOWED = 100, 10, 1.05

TRAIN_MANY = """
import json, sys
import psutil, torch
from kit import recipe
from kit.models import ModelSpec
from kit.recipe import Recipe
from kit.runs import DataSpec, Run, train

torch.set_num_threads(1)
runs, warm = map(int, sys.argv[1:])
sizes = {"px": 16, "train_per_class": 8, "test_per_class": 4, "source": "embedded"}
data = DataSpec.of("cifar-10", **sizes)

def run(name, stages, seed, **teachers):
    student = ModelSpec(name=name, classes=10, width=4, stem="small")
    made = Recipe(stages=stages, epochs=2, batch=32)
    return Run(data=data, student=student, recipe=made, teachers=teachers, seed=seed)

big, small = (run(name, recipe.hard_labels(), 0) for name in ("vgg16", "cnn"))
train(big), train(small)
procedures = (
    (recipe.hard_labels(), {}),
    (recipe.eq1(5), {"big": big}),
    (recipe.small_teacher(recipe.adaptive(2)), {"small": small, "big": big}),
)
resident, process = [], psutil.Process()
for seed in range(runs):
    stages, teachers = procedures[seed % 3]
    result = train(run("cnn", stages, 1 + seed, **teachers))
    assert len(result.steps) == 4, "it was not trained"
    resident.append(process.memory_info().rss)
print(json.dumps({"after_warm": resident[warm - 1], "at_end": resident[-1], "resident": resident[::10]}))
"""


def test_a_hundred_runs_need_no_more_memory_than_ten(tmp_path):
    environment = os.environ | {"KIT_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", TRAIN_MANY, str(RUNS), str(WARM)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout.splitlines()[-1])
    finished = list((tmp_path / "cache" / "runs").glob("*/metrics.json"))
    assert len(finished) == RUNS + 2
    assert measured["at_end"] <= ALLOWED * measured["after_warm"], measured
