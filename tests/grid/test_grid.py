"""Many runs: what is begun when, what they share, and that each ends as it would alone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import Future
from itertools import product
from threading import Event
from types import SimpleNamespace
from unittest.mock import patch

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import Here, hard, left_in, taught

from kit import grid, recipe
from kit.errors import KitError
from kit.grid import engines, schedule, training
from kit.grid.durations import FORWARD, NOMINAL
from kit.grid.engines import LocalProcesses, Task, default_jobs
from kit.grid.training import begin_all, train_all, train_in_worker
from kit.methods.complexity import stages as complexity_gap
from kit.networks.flops import flops_per_image
from kit.networks.layered import Layer, LayeredSpec
from kit.runs.spec import versions, with_teachers
from kit.runs.store import Failure, Result, find
from kit.runs.training import train
from kit.training.history import Diverged

pytestmark = pytest.mark.usefixtures("own_cache")


# ---- packing, on an engine without workers and a clock of its own ----------------------------------------------------


def never(about, tick):
    pytest.fail("done for real")


class Clock:
    """An engine whose tasks take the seconds in their `about`; it notes when each began and ended."""

    def __init__(self, slots: int, fails: frozenset[str] = frozenset()) -> None:
        self.slots, self.fails, self.now = slots, fails, 0.0
        self.began: dict[str, float] = {}
        self.ended: dict[str, float] = {}
        self._running: dict[Future, Task] = {}

    def submit(self, task: Task) -> Future:
        assert task.key not in self.began, "done twice"
        assert len(self._running) < self.slots
        self.began[task.key] = self.now
        future: Future = Future()
        self._running[future] = task
        return future

    def progress(self):
        return iter(())

    def wait(self, futures, **_):
        """In place of `concurrent.futures.wait`: the clock goes on to when the first of the tasks has ended."""
        assert set(futures) == set(self._running)
        if not self._running:
            return set(), set()
        future = min(self._running, key=lambda f: self.began[self._running[f].key] + self._running[f].about)
        task = self._running.pop(future)
        self.now = self.ended[task.key] = self.began[task.key] + task.about
        future.set_result("it failed" if task.key in self.fails else None)
        return {future}, set(self._running)


def timed(key: str, seconds: float, *needs: str) -> Task:
    return Task(key, key, never, seconds, frozenset(needs))


def packed(tasks: list[Task], slots: int, **how) -> tuple[Clock, dict[str, str | None]]:
    """The clock after all of it, and what was heard of each task's end."""
    clock, heard = Clock(slots, how.pop("fails", frozenset())), {}

    def ended(task: Task, reason: str | None) -> None:
        assert task.key not in heard
        heard[task.key] = reason

    with patch.object(schedule, "wait", clock.wait):
        grid.run_tasks(tasks, clock, lambda task: task.about, ended, **how)
    return clock, heard


@st.composite
def graphs(draw) -> list[Task]:
    """Tasks of 1 to 100 s; each may need any of those before it."""
    tasks: list[Task] = []
    for number in range(draw(st.integers(1, 30))):
        before = [task.key for task in tasks]
        needs = draw(st.lists(st.sampled_from(before), max_size=3, unique=True)) if before else []
        tasks.append(timed(str(number), draw(st.integers(1, 100)), *needs))
    return draw(st.permutations(tasks))


@given(tasks=graphs(), slots=st.integers(1, 8), ranks=st.lists(st.integers(0, 3), min_size=30, max_size=30))
@settings(max_examples=200, deadline=None)
def test_whatever_the_graph_and_the_ranks_it_takes_no_longer_than_it_may(tasks, slots, ranks):
    """Graham's bound for tasks that begin as slots get free: sum / N + (1 − 1/N) · the longest chain."""
    clock, heard = packed(tasks, slots, rank=lambda task: ranks[int(task.key)])
    assert heard == {task.key: None for task in tasks}  # nothing lost; twice is refused by the clock
    for task in tasks:
        assert all(clock.ended[needed] <= clock.began[task.key] for needed in task.needs)
    at_once = [sum(clock.began[k] <= moment < clock.ended[k] for k in heard) for moment in clock.began.values()]
    assert max(at_once) <= slots
    total, longest = sum(task.about for task in tasks), max(longest_chains(tasks).values())
    assert max(total / slots, longest) <= clock.now <= total / slots + (1 - 1 / slots) * longest + 1e-9


def test_what_a_lower_rank_waits_for_comes_first():
    tasks = [timed(f"run {i}", 30) for i in range(6)]
    tasks += [timed("first", 10, "run 5"), timed("second", 10, "run 0", "run 1", "run 2", "run 3", "run 4")]
    order = {"first": 0, "second": 1}
    clock, _ = packed(tasks, 2, rank=lambda task: order.get(task.key, 2))
    assert clock.began["run 5"] == 0 and clock.ended["first"] == 40
    assert packed(tasks, 2)[0].ended["first"] > 40  # else the costliest chains go first
    assert clock.now <= packed(tasks, 2)[0].now + 10


def longest_chains(tasks: list[Task]) -> dict[str, float]:
    """By brute force: relaxed until nothing changes, from the ends of the chains backwards."""
    left = {task.key: float(task.about) for task in tasks}
    changed = True
    while changed:
        changed = False
        for task in tasks:
            for key in task.needs:
                through = next(other.about for other in tasks if other.key == key) + left[task.key]
                if through > left[key]:
                    left[key], changed = through, True
    return left


@given(tasks=graphs())
@settings(max_examples=50, deadline=None)
def test_critical_path_is_the_longest_chain_that_begins_with_a_task(tasks):
    assert grid.critical_path(tasks, lambda task: task.about) == pytest.approx(longest_chains(tasks))


def test_a_long_chain_begins_before_long_tasks():
    """Two slots, 22 s of work: 11 s when the chain goes first, 15 s when the longest task does."""
    chain = [timed("teacher", 2), timed("logits", 1, "teacher"), timed("student", 8, "logits")]
    clock, _ = packed([timed("alone", 5), timed("small", 3), timed("smaller", 3), *chain], 2)
    assert clock.began["teacher"] == 0
    assert clock.began["logits"] == 2 and clock.began["student"] == 3
    assert clock.now == 11


@given(lengths=st.lists(st.integers(1, 100), min_size=1, max_size=7), slots=st.integers(2, 3))
@settings(max_examples=50, deadline=None)
def test_unrelated_tasks_are_packed_nearly_as_well_as_can_be(lengths, slots):
    """Longest first: within 4/3 − 1/(3N) of the best of all ways to divide them (Graham, 1969)."""
    clock, _ = packed([timed(str(n), seconds) for n, seconds in enumerate(lengths)], slots)
    best = min(
        max(sum(seconds for seconds, at in zip(lengths, way, strict=True) if at == slot) for slot in range(slots))
        for way in product(range(slots), repeat=len(lengths))
    )
    assert best <= clock.now <= best * (4 / 3 - 1 / (3 * slots)) + 1e-9


def test_what_is_pointless_takes_no_slot_and_failures_are_heard_of():
    """Ten tasks are skipped in the moment that the first has failed; the last begins in that moment too."""
    tasks = [timed("first", 5), *(timed(f"heir {n}", 9, "first") for n in range(10)), timed("last", 1, "first")]
    heirs = {task.key for task in tasks if task.key.startswith("heir")}
    reasons = {"first": "it failed"}
    clock, heard = packed(
        tasks, 1, fails=frozenset({"first"}), skip=lambda task: "pointless" if task.key in heirs else None
    )
    assert heard == reasons | dict.fromkeys(heirs, "pointless") | {"last": None}
    assert clock.now == 6 and clock.began["last"] == 5


def test_the_bar_hears_of_what_is_skipped():
    """Two thirds of all that was to be done."""
    tasks, heard = [timed("first", 5), *(timed(f"heir {n}", 5, "first") for n in range(2))], []
    bar = SimpleNamespace(update=heard.append)
    packed(tasks, 1, skip=lambda task: "pointless" if task.needs else None, bar=bar)
    assert sum(heard) == 15


# ---- what runs are expected to take ----------------------------------------------------------------------------------


def test_the_longest_chain_of_runs_is_the_most_urgent():
    """Of a machine of which nothing is known: counted FLOPs at a nominal rate, images that fill no batch left out."""
    big = hard(width=4)
    student, alone = taught(big), hard(seed=9)
    runs = grid.Grid(with_teachers([student, alone]))
    forward, backward = flops_per_image(big.student, 8)
    own = 3 * 32 * (flops_per_image(student.student, 8)[1] * 1 + FORWARD * forward * 0.8) / NOMINAL["cpu"]
    assert student.recipe.stages[-1].teacher is None and student.recipe.stages[-2].until == 0.8
    chains = grid.critical_path(runs.tasks, runs.cost)
    assert chains[student.hash] == pytest.approx(own)
    assert chains[big.hash] == pytest.approx(2 * 32 * backward / NOMINAL["cpu"] + own)
    assert chains[alone.hash] == pytest.approx(2 * 32 * flops_per_image(alone.student, 8)[1] / NOMINAL["cpu"])


def test_logits_that_are_shared_are_paid_for_once():
    """Four students at two temperatures: the teacher's forward passes are the logits' cost, not the students'."""
    big = hard(width=8)
    students = [taught(big, stages=recipe.eq1(T, "hinton"), lr=lr) for T in (5, 20) for lr in (0.1, 0.05)]
    runs = grid.Grid(students)
    costs = {task.key: runs.cost(task) for task in runs.tasks}
    (logits,) = (task for task in runs.tasks if isinstance(task.about, grid.SharedLogits))
    forward, _ = flops_per_image(big.student, 8)
    assert costs[logits.key] == pytest.approx(FORWARD * 3 * 32 * forward / NOMINAL["cpu"])
    for student in students:
        assert costs[student.hash] == pytest.approx(3 * 32 * flops_per_image(student.student, 8)[1] / NOMINAL["cpu"])
    unshared = grid.Grid(students[:1])
    assert unshared.cost(unshared.tasks[-1]) == pytest.approx(costs[students[0].hash] + costs[logits.key])

    train_all(students, show_progress=False, jobs=Here())
    longer = taught(big, stages=recipe.eq1(5, "hinton"), epochs=6)  # half of its teacher's logits are in the cache
    half = grid.Grid([longer])
    (task,) = half.tasks
    whole, none = (half.pace.seconds(longer, {"big": share}) for share in (0.0, 1.0))
    assert half.cost(task) == pytest.approx((whole + none) / 2) and whole > 1.1 * none > 0


def test_a_teacher_that_must_be_asked_itself_is_not_computed_apart():
    """`complexity` wants gradients through its teacher: logits in a file are of no use to it."""
    big = hard(width=4)
    students = [taught(big, stages=complexity_gap(T)) for T in (5, 20)]
    runs = grid.Grid(students)
    assert {task.key for task in runs.tasks} == {big.hash, *(student.hash for student in students)}


def test_what_has_finished_in_the_grid_corrects_what_is_left(own_cache):
    """No run is known at first; when one is, its like are expected to take what it took, a searched network too."""
    layers = LayeredSpec(title="searched", classes=10, layers=(Layer(channels=3), Layer(channels=5)))
    first = hard()
    twin, searched = hard(seed=1), first.model_copy(update={"student": layers})
    again = searched.model_copy(update={"seed": 1})
    runs = grid.Grid([first, twin, searched, again])
    tasks = {task.key: task for task in runs.tasks}
    guessed = {key: runs.cost(task) for key, task in tasks.items()}
    assert all(seconds > 0 for seconds in guessed.values())
    for run in (first, searched):
        train(run)
        runs.ended(tasks[run.hash], None)
    assert runs.cost(tasks[twin.hash]) == pytest.approx(runs.results[first].seconds)
    assert runs.cost(tasks[again.hash]) == pytest.approx(runs.results[searched].seconds)
    assert runs.cost(tasks[twin.hash]) != pytest.approx(guessed[twin.hash])
    known_from_the_start = grid.Grid([twin, again])
    assert known_from_the_start.cost(tasks[twin.hash]) == pytest.approx(runs.cost(tasks[twin.hash]))


def test_a_decision_among_five_hundred_runs_is_made_at_once():
    """With each run that finishes all costs are reckoned anew: 0.1 s are allowed for a decision."""
    teachers = [hard(width=width) for width in (3, 4, 5, 6)]
    runs = grid.Grid([taught(big, seed=seed) for big in teachers for seed in range(125)])
    assert len(runs.tasks) == 504
    train(teachers[0])
    runs.results[teachers[0]] = find(teachers[0])
    grid.critical_path(runs.tasks, runs.cost)
    took = []
    for _ in range(5):
        begun = time.process_time()
        runs._learn(runs.results[teachers[0]])
        grid.critical_path(runs.tasks, runs.cost)
        took.append(time.process_time() - begun)
    assert min(took) < 0.1


# ---- for real --------------------------------------------------------------------------------------------------------


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


def test_results_of_other_instructions_or_an_older_kit_are_used_and_told(monkeypatch, capsys):
    """The same description, but by wider instructions it may be another student."""
    runs = [hard(seed=seed) for seed in range(2)]
    train_all(runs, Here(), show_progress=False)
    train_all(runs, Here(), show_progress=False)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(training, "versions", lambda: versions() | {"instructions": "AVX9000"})
    train_all([*runs, hard(seed=2)], Here(), show_progress=False)
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "note: 2 of the 2 runs that are in the cache already were trained under other versions, the first under "
        f"instructions {versions()['instructions']}, here AVX9000"
    )


def test_nothing_to_do_starts_nothing(monkeypatch):
    monkeypatch.setattr(engines, "LocalProcesses", lambda *_: pytest.fail("started workers"))
    assert train_all([]) == {}
    result = train(hard())
    assert train_all([hard()])[hard()].folder == result.folder


def test_a_worker_is_begun_when_there_is_a_task_for_it(monkeypatch):
    """More slots than files may be open: what no task needs is not there, the fork server neither."""
    with LocalProcesses(1_000_000) as engine:
        for key in ("0", "1"):
            assert engine.submit(Task(key, "a run", train_in_worker, hard())).result() is None
        assert dict(engine.progress()).keys() == {"0", "1"}
    monkeypatch.setattr(engines, "_start_fork_server", lambda: pytest.fail("started"))
    with LocalProcesses(1_000_000):
        pass


def test_runs_train_in_the_background_until_they_are_waited_for():
    asked = Event()

    class Waiting(Here):
        def submit(self, task: Task) -> Future:
            assert asked.wait(60)
            return super().submit(task)

    training = begin_all([hard()], Waiting(), show_progress=False)
    assert find(hard()) is None  # it is back before anything is trained
    asked.set()
    assert training.result()[hard()].folder == find(hard()).folder
    with pytest.raises(KitError, match="jobs 0"):
        begin_all([hard(seed=1)], 0)


def test_on_a_gpu_runs_train_one_at_a_time_unless_told_otherwise():
    """Whose own clock goes on while it works for another process."""
    on_gpu = [hard(seed=seed).model_copy(update={"device": "cuda"}) for seed in range(3)]
    assert [grid.Grid(on_gpu).engine(jobs).slots for jobs in (None, 2)] == [1, 2]
    here = [hard(seed=seed) for seed in range(3)]
    assert grid.Grid(here).engine(None).slots == default_jobs(tasks=3) <= (os.cpu_count() or 1)


def test_sigterm_ends_a_command_as_ctrl_c_does(own_cache):
    words = ["train", "--preset", "smoke", "--role", "cifar-10", "--student", "cnn", "--epochs", "100000"]
    words += ["--scheduler", "local", "--jobs", "1"]
    here = {"env": os.environ | {"KIT_CHECKPOINT_S": "0.1"}, "stderr": subprocess.PIPE, "text": True}
    command = subprocess.Popen([sys.executable, "-m", "kit", *words], **here)
    try:
        while not list(own_cache.glob("checkpoints/*/step-*")):
            assert command.poll() is None
            time.sleep(0.05)
        command.terminate()
        said = command.communicate(timeout=30)[1]
    finally:
        command.kill()
    assert command.returncode == 130
    assert said.splitlines()[-1] == "error: stopped; finished runs are kept" and "leaked" not in said
    assert not list(own_cache.glob(".client-*"))
