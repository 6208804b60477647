"""Many runs: what is begun when, what they share, and that each ends as it would alone."""

from __future__ import annotations

import os

import pandas as pd
import pytest
from test_runs import hard, left_in, taught

from kit import engines, grid
from kit.engines import default_jobs
from kit.grid import train_all
from kit.models import flops_per_image
from kit.runs import Failure, Result, train, with_teachers
from kit.trainer import Diverged


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("KIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KIT_DATA", raising=False)
    return tmp_path / "cache"


def test_the_longest_chain_is_the_most_urgent():
    big = hard(width=4)
    student, alone = taught(big), hard(seed=9)
    everything = with_teachers([student, alone])
    tasks = grid.Grid(everything).tasks
    chains = grid.urgency(tasks, grid.Grid(everything).cost)
    assert chains == pytest.approx(
        {big.hash: big.cost + student.cost, student.hash: student.cost, alone.hash: alone.cost}
    )
    assert big.cost == 2 * 40 * flops_per_image(big.student, 8)[1]
    assert student.cost == 3 * 40 * (flops_per_image(student.student, 8)[1] + flops_per_image(big.student, 8)[0])


def test_many_runs_side_by_side(own_cache, monkeypatch, tmp_path, capfd):
    """One diverges; its students fail with it; all others finish, as they would alone, bit for bit."""
    small, big, hopeless = hard(width=3), hard(width=4), hard(seed=1, lr=1e30)
    students = [taught(big, small, seed=seed) for seed in range(2)]
    heir = taught(hopeless, small)
    asked = [*students, heir, hopeless, hard(seed=2)]
    results = train_all(asked, jobs=2, show_progress=False)
    assert list(results) == asked

    failed = results[hopeless]
    assert isinstance(failed, Failure)
    with pytest.raises(Diverged) as alone:
        train(hopeless)
    assert failed.reason == f"the loss is not a finite number at step {alone.value.step}"
    assert isinstance(results[heir], Failure)
    assert results[heir].reason == f"its teacher ({hopeless.title}) did not finish: {failed.reason}"
    assert f"run {hopeless.hash} ({hopeless.title}) did not finish: {failed.reason}" in capfd.readouterr().err

    finished = [*students, hard(seed=2)]
    assert all(isinstance(results[run], Result) for run in finished)
    assert set(left_in(own_cache)) == {run.hash for run in (*finished, small, big, hopeless)}

    monkeypatch.setenv("KIT_CACHE", str(tmp_path / "another"))
    for run in (small, big, students[0]):
        here = train(run).folder
        there = own_cache / "runs" / run.hash
        assert (here / "student.safetensors").read_bytes() == (there / "student.safetensors").read_bytes()
        assert (here / "steps.csv").read_bytes() == (there / "steps.csv").read_bytes()
        timeless = [pd.read_csv(f / "epochs.csv").filter(regex="^(?!.*_s$)") for f in (here, there)]
        pd.testing.assert_frame_equal(*timeless)


def test_nothing_to_do_starts_nothing(monkeypatch):
    monkeypatch.setattr(engines, "LocalProcesses", lambda *_: pytest.fail("started workers"))
    assert train_all([]) == {}
    result = train(hard())
    assert train_all([hard()])[hard()].folder == result.folder


def test_jobs_are_as_many_as_the_process_may_use():
    assert 1 <= default_jobs() <= (os.cpu_count() or 1)
