"""Runs on a Dask cluster of processes on loopback: workers, schedulers and clients that come, differ, lie and die."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil
import pytest
from commands import refused
from distributed import LocalCluster
from distributed.cli import dask_worker
from filelock import FileLock
from forked import forked
from small_runs import hard, taught

from kit import grid
from kit.__main__ import main
from kit.errors import KitError
from kit.grid import dask as cluster
from kit.grid import engines, run_tasks
from kit.grid.dask import DaskCluster
from kit.grid.engines import Task
from kit.grid.training import train_all
from kit.recipe import Stage
from kit.runs.spec import Run, with_teachers
from kit.runs.store import Failure, Result, entry_of, find, folder_of
from kit.runs.training import train

pytestmark = pytest.mark.usefixtures("own_cache")

ROOT = Path(__file__).resolve().parents[2]
PATHS = os.pathsep.join(map(str, (ROOT, ROOT / "tests", ROOT / "tests" / "grid")))
PATIENCE_S = 120  # a busy machine starts a worker in a minute

# In a worker: a line for each training that begins (and at which step) and for each that reaches its end.
WITNESS = """
    import os
    from kit.runs import checkpoint, training as runs
    def say(*words):
        handle = os.open(os.environ["WITNESS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, (" ".join(map(str, words)) + "\\n").encode())
        os.close(handle)
    def storing(run, training, store=runs.store):
        store(run, training)
        say("ended", run.hash, training.step, os.getpid())
    def resuming(self, training, resume=checkpoint.Checkpoints.resume):
        resume(self, training)
        say("began", self.folder.name, training.step, os.getpid())
    if runs.store.__name__ != "storing":  # Dask executes a preload twice
        runs.store, checkpoint.Checkpoints.resume = storing, resuming
"""


class Lab:
    """A scheduler of its own in this process, and workers, each a process: SIGKILL takes it whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.witness = folder / "witness"
        anywhere = {"dashboard_address": "127.0.0.1:0"}
        self.cluster = LocalCluster(
            n_workers=0, host="127.0.0.1", dashboard_address=None, scheduler_kwargs=anywhere, silence_logs=50
        )
        self.scheduler = self.cluster.scheduler
        self.address = self.cluster.scheduler_address
        self.processes: list[BaseProcess] = []

    def worker(self, cache: Path, preload: str = WITNESS, threads: int = 1) -> BaseProcess:
        """Starts a worker; `arrived` waits for it."""
        script = self.folder / f"preload-{len(self.processes)}.py"
        script.write_text(textwrap.dedent(preload))
        words = [self.address, "--no-nanny", "--no-dashboard", "--nthreads", str(threads), "--host", "127.0.0.1",
                 "--memory-limit", "0", "--local-directory", str(self.folder), "--preload", str(script)]  # fmt: skip
        told = {"KIT_CACHE": str(cache), "WITNESS": str(self.witness), "KIT_CHECKPOINT_S": "0.1"}
        self.processes.append(forked(work, words, output=self.folder, **told))
        return self.processes[-1]

    def arrived(self, count: int) -> None:
        eventually(lambda: len(self.scheduler.workers) == count)

    def seen(self, what: str) -> list[tuple[str, int, int]]:
        """Which run, at which step, in which process."""
        lines = self.witness.read_text().splitlines() if self.witness.exists() else []
        told = [line.split() for line in lines]
        return [(run, int(step), int(process)) for kind, run, step, process in told if kind == what]

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()
        self.cluster.close()


def work(words: list[str]) -> None:
    """What `dask worker` does with these words."""
    dask_worker.main(words)


def eventually(happens: Callable[[], object], seconds: float = PATIENCE_S) -> None:
    until = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.05)


@pytest.fixture
def lab(tmp_path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    lab.close()


@pytest.fixture(scope="module")
def apart(tmp_path_factory) -> Iterator[Lab]:
    """Two workers with a cache each, neither the client's."""
    folder = tmp_path_factory.mktemp("apart")
    lab = Lab(folder)
    for name in "ab":
        lab.worker(folder / name)
    lab.arrived(2)
    yield lab
    lab.close()


def students_of(runs: list[Run]) -> dict[str, tuple[bytes, bytes]]:
    folders = {run.hash: folder_of(run.hash) for run in runs}
    return {name: tuple((f / file).read_bytes() for file in ("student.safetensors", "steps.csv"))
            for name, f in folders.items()}  # fmt: skip


def trained_here(runs: list[Run], cache: Path, monkeypatch) -> dict[str, tuple[bytes, bytes]]:
    """What the same runs give in this process, in a cache of their own."""
    with monkeypatch.context() as patch:
        patch.setenv("KIT_CACHE", str(cache))
        for run in runs:
            train(run)
        return students_of(runs)


# ---- results ---------------------------------------------------------------------------------------------------------


def test_runs_of_workers_with_their_own_caches_come_back_as_they_would_be_here(
    apart, own_cache, tmp_path, monkeypatch, capfd
):  # fmt: skip
    """Five students of two teachers on two workers: each worker is sent the teachers that the other has trained, where
    the cluster keeps but one of them."""
    monkeypatch.setattr(cluster, "SENT", 1)
    big, small = hard(width=4), hard(width=3)
    asked = [taught(big, small, seed=seed) for seed in range(5)]
    hopeless = hard(seed=1, lr=1e30)
    results = train_all([*asked, hopeless], jobs=DaskCluster(apart.address), show_progress=False)
    everything = with_teachers(asked)
    assert all(isinstance(results[run], Result) for run in asked)
    assert "the loss is not a finite number" in results[hopeless].reason
    assert all(entry_of(folder_of(run.hash)).complaint is None for run in [*everything, hopeless])
    assert students_of(everything) == trained_here(everything, tmp_path / "here", monkeypatch)
    assert Counter(run for run, *_ in apart.seen("ended")) == Counter(run.hash for run in everything)
    assert len({process for *_, process in apart.seen("ended")}) == 2
    assert [line for line in capfd.readouterr().err.splitlines() if hopeless.hash not in line] == []
    assert not list(own_cache.glob(".*"))  # the token is gone, and what arrived is in its place

    before = len(apart.seen("began"))
    monkeypatch.setenv("KIT_CACHE", str(tmp_path / "another"))  # asked by another client: found where it was trained
    train_all([big], jobs=DaskCluster(apart.address), show_progress=False)
    assert len(apart.seen("began")) - before <= 1  # the other worker may have been asked


def test_a_teacher_that_is_damaged_on_the_way_is_a_failure_in_one_line(apart, own_cache, monkeypatch):
    teacher = train(hard(width=5)).run
    packed = cluster.packed

    def damaging(run_hash: str) -> dict[str, bytes]:
        parcel = packed(run_hash)
        return parcel | {"student.safetensors": parcel["student.safetensors"][:-1] + b"\0\0"}

    monkeypatch.setattr(cluster, "packed", damaging)
    student = taught(teacher, seed=40)
    failed = train_all([student], jobs=DaskCluster(apart.address), show_progress=False)[student]
    assert isinstance(failed, Failure)
    damage = "student.safetensors does not match its checksum"
    assert failed.reason == f"its teacher, run {teacher.hash}, arrived damaged: {damage}"


def test_a_run_that_comes_back_damaged_is_a_failure_in_one_line(lab, own_cache):
    lab.worker(lab.folder / "its-own", """
        from kit.grid import dask as cluster
        cluster.packed = lambda run, packed=cluster.packed: packed(run) | {"../../escaped": b""}
    """)  # fmt: skip
    lab.arrived(1)
    run = hard()
    failed = train_all([run], jobs=DaskCluster(lab.address), show_progress=False)[run]
    assert failed.reason == "it arrived damaged: '../../escaped' is not a run's file"
    assert not folder_of(run.hash).exists()


def where_done(about: str, tick: Callable[[float], None]) -> None:
    """A task that is no run: it writes into the client's files which process did it."""
    Path(about).write_text(str(os.getpid()))
    tick(1.0)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_task_that_writes_the_clients_files_is_done_where_they_are(workers, lab, own_cache):
    """Not by a worker that shares the cache, whose other folders are its own; and before any worker is there."""
    pids = [lab.worker(own_cache).pid for _ in range(workers)]
    lab.arrived(workers)
    out, ended = lab.folder / "out", []
    tasks = [Task("a", "a picture", where_done, str(out))]
    with DaskCluster(lab.address) as engine:
        run_tasks(tasks, engine, lambda task: 1.0, lambda task, reason: ended.append((task.key, reason)))
    assert ended == [("a", None)]
    assert int(out.read_text()) not in pids


def test_a_module_that_a_worker_lacks_is_said_and_ends_the_task_alone(lab, own_cache, tmp_path, monkeypatch):
    lab.worker(own_cache)
    lab.arrived(1)
    elsewhere = tmp_path / "elsewhere"  # since the worker has come: it would find what this process finds
    elsewhere.mkdir()
    (elsewhere / "only_here.py").write_text("""if True:
        from typing import Literal
        from kit.recipe import HardLabels
        class Own(HardLabels):
            kind: Literal["only here"] = "only here"
    """)
    monkeypatch.syspath_prepend(elsewhere)
    from only_here import Own

    own, other = hard(stages=(Stage(name="own", objective=Own(), until=1),)), hard()
    results = train_all([own, other], jobs=DaskCluster(lab.address), show_progress=False)
    assert results[own].reason == "a worker could not do it: ModuleNotFoundError: No module named 'only_here'"
    assert isinstance(results[other], Result)


# ---- workers that die, and clients -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [True, False])
def test_a_worker_is_killed_in_the_middle_of_a_grid(shared, lab, own_cache, tmp_path, monkeypatch):
    """Nothing is lost, nothing is trained twice to its end, and with the same cache the run goes on where it was."""
    caches = [own_cache, own_cache] if shared else [lab.folder / "a", lab.folder / "b"]
    doomed, _ = (lab.worker(cache) for cache in caches)
    lab.arrived(2)
    big = hard(width=3, epochs=20)
    asked = [taught(big, seed=seed, epochs=100) for seed in range(3)]

    def in_the_middle() -> bool:
        ended = {run for run, *_ in lab.seen("ended")}
        at_work = [run for run, _, process in lab.seen("began") if process == doomed.pid and run not in ended]
        return any(list((caches[0] / "checkpoints" / run).glob("step-*")) for run in at_work if run != big.hash)

    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(train_all, asked, jobs=DaskCluster(lab.address), show_progress=False)
        eventually(in_the_middle)
        doomed.kill()
        results = training.result(PATIENCE_S)

    everything = with_teachers(asked)
    assert all(isinstance(results[run], Result) for run in asked)
    assert Counter(run for run, *_ in lab.seen("ended")) == Counter(run.hash for run in everything)
    begun = Counter(run for run, *_ in lab.seen("began"))
    assert sorted(begun.values()) == [1, 1, 1, 2]  # the one that was killed, again
    (again,) = [run for run, count in begun.items() if count == 2]
    assert (max(step for run, step, _ in lab.seen("began") if run == again) > 0) == shared
    assert students_of(everything) == trained_here(everything, tmp_path / "here", monkeypatch)


def test_a_run_whose_worker_is_lost_goes_to_one_that_came_later_with_another_cache(lab, own_cache):
    """The first has the client's cache, so that no teacher was sent with the run; the other has no teacher yet."""
    doomed = lab.worker(own_cache)
    lab.arrived(1)
    student = taught(hard(width=3), epochs=100)
    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(train_all, [student], jobs=DaskCluster(lab.address), show_progress=False)
        eventually(lambda: any(run == student.hash for run, *_ in lab.seen("began")))
        lab.worker(lab.folder / "other")
        lab.arrived(2)
        doomed.kill()
        results = training.result(PATIENCE_S)
    assert isinstance(results[student], Result), results[student]


def test_a_run_that_loses_its_workers_again_and_again_is_a_failure_and_the_others_go_on(
    lab, own_cache, capfd
):  # fmt: skip
    lab.scheduler.allowed_failures = 1
    deadly = hard(seed=13)
    for _ in range(3):
        lab.worker(own_cache, f"""
            import os, signal
            from kit.runs import training as runs
            def starting(run, *how, start=runs.start):
                return os.kill(os.getpid(), signal.SIGKILL) if run.hash == "{deadly.hash}" else start(run, *how)
            runs.start = starting
        """)  # fmt: skip
    lab.arrived(3)
    others = [hard(seed=seed) for seed in range(3)]
    results = train_all([deadly, *others], jobs=DaskCluster(lab.address), show_progress=False)
    assert all(isinstance(results[run], Result) for run in others), results
    assert results[deadly].reason.startswith("its workers were lost while they trained it (2 of them, the last at tcp:")
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"run {deadly.hash} ({deadly.title}) did not finish: its workers were lost")


CLIENT = "from test_cluster import endless; endless()"


def endless(address: str | None = None) -> None:
    engine = DaskCluster(address) if address else None
    train_all([hard(epochs=100_000)], jobs=engine, show_progress=False)


@pytest.mark.parametrize(
    ("where", "by"), [("cluster", signal.SIGKILL), ("cluster", signal.SIGINT), ("here", signal.SIGKILL)]
)
def test_a_training_that_nobody_waits_for_any_more_stops(where, by, lab, own_cache, monkeypatch):
    """A million epochs, of which it does a few hundred: two seconds after the client is gone its run is free again."""
    monkeypatch.setenv("KIT_CHECKPOINT_S", "0.1")
    if where == "cluster":
        worker = lab.worker(own_cache)
        lab.arrived(1)
        client = forked(endless, lab.address, output=lab.folder)
        ended = client.join
    else:  # one that no fork server started, as its workers have one of their own
        client = subprocess.Popen([sys.executable, "-c", CLIENT], env=os.environ | {"PYTHONPATH": PATHS})
        ended = client.wait
    run = hard(epochs=100_000)
    checkpoints = own_cache / "checkpoints" / run.hash
    try:
        eventually(lambda: len(list(checkpoints.glob("step-*"))) == 2)
        os.kill(client.pid, by)
        with FileLock(folder_of(run.hash).with_suffix(".lock"), timeout=3.0):
            stood = sorted(path.name for path in checkpoints.glob("step-*"))
        time.sleep(0.5)
        assert sorted(path.name for path in checkpoints.glob("step-*")) == stood  # kept, and not written any more
        if where == "cluster":
            assert worker.is_alive()
            engine = DaskCluster(lab.address)
            assert isinstance(train_all([hard()], jobs=engine, show_progress=False)[hard()], Result)
        ended(10)
    finally:
        client.kill()
        ended()


def test_a_lost_scheduler_ends_everything_in_one_line(lab, own_cache):
    lab.worker(own_cache)
    lab.arrived(1)
    with ThreadPoolExecutor(1) as pool:
        endless = hard(epochs=100_000)
        training = pool.submit(train_all, [endless], jobs=DaskCluster(lab.address), show_progress=False)
        eventually(lambda: lab.seen("began"))
        lab.cluster.close()
        with pytest.raises(KitError) as raised:
            training.result(PATIENCE_S)
    assert str(raised.value).startswith(f"the connection to the scheduler at {lab.address} was lost; finished runs are")
    with FileLock(folder_of(endless.hash).with_suffix(".lock"), timeout=10):  # and its worker has stopped
        pass


# ---- who is there, and who fits --------------------------------------------------------------------------------------


def test_it_waits_for_a_worker_and_says_so_and_what_it_thinks_of_one_with_threads(lab, own_cache, capfd):
    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(
            train_all, [hard(seed=1), hard(seed=2)], jobs=DaskCluster(lab.address), show_progress=False
        )
        time.sleep(1.5)
        lab.worker(own_cache, threads=2)
        assert all(isinstance(each, Result) for each in training.result(PATIENCE_S).values())
    waiting, threads = capfd.readouterr().err.splitlines()
    assert waiting == f"no worker is connected to the scheduler at {lab.address}; waiting for one"
    assert threads.endswith("has 2 threads but trains one run at a time; start it with --nthreads 1 --nworkers 2")


def test_a_worker_of_other_versions_is_not_used(lab, own_cache, capfd):
    other = lab.worker(own_cache, "from kit.grid import dask as cluster\ncluster.NUMERICS = 999")
    lab.arrived(1)
    with pytest.raises(KitError) as raised:
        train_all([hard()], jobs=DaskCluster(lab.address), show_progress=False)
    assert str(raised.value).startswith("none of the 1 workers of the scheduler at tcp:")
    lab.worker(own_cache)
    lab.arrived(2)
    asked = [hard(seed=seed) for seed in range(3)]
    results = train_all(asked, jobs=DaskCluster(lab.address), show_progress=False)
    assert all(isinstance(each, Result) for each in results.values())
    assert other.pid not in {process for *_, process in lab.seen("began")}
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all("is not used: it has other versions: numerics 999, here " in line for line in lines)


def test_a_cluster_of_this_machine_listens_on_loopback_alone(own_cache, capfd):
    before = listening()
    engine, ended, at = DaskCluster("local", jobs=2), [], []
    tasks = grid.Grid([hard(seed=seed) for seed in range(2)]).tasks
    with engine:
        at += listening() - before
        run_tasks(tasks, engine, lambda task: 1.0, lambda task, reason: ended.append(reason))
    assert ended == [None, None]
    assert all(isinstance(find(task.about), Result) for task in tasks)
    assert {host for host, _ in at} == {"127.0.0.1"}
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("device", "workers"), [("cpu", 5), ("cuda", 1)])
def test_a_cluster_of_this_machine_has_a_worker_a_core_or_one_for_a_gpu(device, workers, own_cache, monkeypatch):
    monkeypatch.setattr(engines, "cores", lambda: 5)
    monkeypatch.setattr(engines, "free_memory", lambda: 2**40)
    (task,) = grid.Grid([hard().model_copy(update={"device": device})]).tasks

    def begun(self, count: int) -> None:
        if count:
            raise KitError(f"{count} workers")

    monkeypatch.setattr(cluster.LocalCluster, "scale", begun)
    with DaskCluster("local") as engine, pytest.raises(KitError, match=f"^{workers} workers"):
        engine.submit(task)


def listening() -> set[tuple[str, int]]:
    """Addresses and ports at which this process and its children can be reached."""
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    sockets = [each for process in processes for each in process.net_connections("inet")]
    return {tuple(each.laddr) for each in sockets if each.status == psutil.CONN_LISTEN}


@pytest.mark.parametrize(
    "address", ["nonsense", "tcp://", "tcp://host", "http://host:8786", "tcp://a b:1", "", "127.0.0.1:8786"]
)
@pytest.mark.parametrize("command", [["train", "--student", "cnn"], ["table", "2"], ["figures"]])
def test_an_address_that_is_none(command, address, capsys):
    line = refused([*command, "--preset", "smoke", "--scheduler", address], capsys)
    assert line == (f"error: scheduler {address!r} is not allowed; allowed: local, tcp://HOST:PORT or tls://HOST:PORT")


@pytest.mark.parametrize("silent", [True, False])
def test_an_address_where_no_scheduler_answers(silent, own_cache, capsys, monkeypatch):
    """Nobody listens there, or somebody who says nothing."""
    monkeypatch.setattr(cluster, "CONNECT_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        if not silent:
            server.close()
        words = ["train", "--preset", "smoke", "--role", "cifar-10", "--student", "cnn", "--scheduler", address]
        assert main(words) == 2
    *notes, line = capsys.readouterr().err.splitlines()  # what is said of the images comes first
    assert len(notes) == 1 and " images, " in notes[0]
    assert line.startswith(f"error: no Dask scheduler answers at {address}: ")
