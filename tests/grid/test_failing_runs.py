"""One bad run among good ones costs that run alone, and says why."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from faulty_objectives import Dies, Raises
from small_runs import hard

from kit.figures.make import Book, Schedule
from kit.grid import train_all
from kit.grid.engines import KILLED
from kit.grid.training import Grid
from kit.recipe import Objective, Stage
from kit.runs.spec import Run
from kit.runs.store import Failure, Result

pytestmark = pytest.mark.usefixtures("own_cache")


def by(objective: Objective) -> Run:
    return hard(seed=50, stages=(Stage(name="faulty", objective=objective, until=1),))


@pytest.mark.parametrize("jobs", [1, 2])
def test_of_six_runs_one_raises_one_is_killed_and_one_diverges(own_cache, jobs, capsys):
    good = [hard(seed=seed) for seed in range(3)]
    raises, dies, diverges = by(Raises()), by(Dies()), hard(seed=9, lr=1e9)
    results = train_all([raises, good[0], dies, good[1], diverges, good[2]], jobs, show_progress=False)
    assert all(isinstance(results[run], Result) for run in good)
    failures = [results[run] for run in (raises, dies, diverges)]
    assert all(isinstance(each, Failure) for each in failures)
    assert failures[0].reason.startswith("RuntimeError: not enough memory: you tried to allocate 68719476736 bytes.; ")
    log = Path(re.search(r"its log is (.+)$", failures[0].reason)[1])
    assert log.is_relative_to(own_cache) and "faulty_objectives.py" in log.read_text()
    assert failures[1].reason == KILLED
    assert failures[2].step is not None and failures[0].step is failures[1].step is None
    said = capsys.readouterr().err
    assert all(run.hash in said for run in (raises, dies, diverges))
    again = train_all(good, jobs, show_progress=False)
    assert {run: result.seal for run, result in again.items()} == {run: results[run].seal for run in good}


def test_figures_say_which_notebook_shows_runs_that_did_not_finish():
    good, bad, diverged = hard(), by(Raises()), hard(seed=9)
    grid = Grid([])
    grid.results = {good: None, bad: Failure(bad, "RuntimeError: no"), diverged: Failure(diverged, "not finite", 3)}
    schedule = Schedule(grid, None, "smoke", False, None, None, frozenset())
    schedule._books = {name: Book(Path(name), {}, runs) for name, runs in (("a", (good, bad)), ("b", (good, diverged)))}
    assert schedule.failure("a") == "a: 1 of its 2 runs did not finish"
    assert schedule.failure("b") is None  # that it diverged is a result, and marked


def test_a_script_that_every_worker_would_run_again_is_told_so(own_cache, tmp_path):
    script = tmp_path / "mine.py"
    script.write_text(
        "from small_runs import hard\nfrom kit.grid import train_all\n"
        "train_all([hard(seed=70)], 1, show_progress=False)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, str(script)], env=environment, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and done.stderr.count("Traceback") == 1
    assert done.stderr.splitlines()[-1].startswith("kit.errors.KitError: worker processes begin by running your script")


def test_a_script_from_stdin_trains_and_ends_though_a_worker_was_killed(own_cache):
    script = (
        "from test_failing_runs import Dies, by, hard, train_all\n"
        "for outcome in train_all([by(Dies()), hard(seed=70)], 2, show_progress=False).values():\n"
        "    print(getattr(outcome, 'reason', 'trained'))\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable], input=script, env=environment, capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines() == [KILLED, "trained"], done.stderr
