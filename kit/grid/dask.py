"""An engine whose tasks are done by the workers of a Dask cluster, on other machines too.

results = train_all(runs, jobs=DaskCluster("tcp://host:8786"))  # somebody's `dask scheduler` and `dask worker`s
results = train_all(runs, jobs=DaskCluster("local"))            # one made for this, on this machine alone

A run is a Dask task whose result is its folder: the client fetches it where its own cache lacks the run. Its teachers
are dependencies of the task, but where all workers have the client's cache. Dask moves both, and does anew what a lost
worker did. Folders that arrive are checked like an import before a cache takes them.
"""

from __future__ import annotations

import asyncio
import logging
import platform
import re
import sys
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import lru_cache, partial
from pathlib import Path
from queue import SimpleQueue
from tempfile import NamedTemporaryFile
from typing import Any

import dask.config
import distributed
from distributed import Client, KilledWorker, LocalCluster, Reschedule, get_worker
from distributed.core import Status
from distributed.protocol.serialize import pickle_dumps, pickle_loads
from distributed.utils import silence_logging_cmgr
from distributed.versions import VersionMismatchWarning

from kit.errors import KitError, said
from kit.files import cache_folder, writing_to
from kit.grid.engines import LocalProcesses, Task, attempted, before_workers, default_jobs
from kit.grid.training import SharedLogits
from kit.runs.checkpoint import difference
from kit.runs.spec import NUMERICS, Run, versions
from kit.runs.store import FORMAT, folder_of
from kit.runs.transfer import Parcel, packed, unpacked

ALLOWED = "local, tcp://HOST:PORT or tls://HOST:PORT"
ADDRESS = r"(tcp|tls)://([^\s:/\[\]]+|\[[0-9a-fA-F:.]+\]):[0-9]{1,5}"
CONNECT_S = 5.0  # until nobody is there
SENT = 24  # teachers' folders, used last, that a cluster keeps for students to come
LOOK_S = 0.5  # between two looks at who is there, or at whether a task is still wanted


class Lost(KitError):
    """The scheduler does not answer any more."""


class Lacks(Exception):
    """A worker that came later has another cache than the client's, and the run's teachers were not sent."""


def identity() -> dict[str, str]:
    """Lists the versions that client and workers must share: others would train to other results."""
    python = ".".join(platform.python_version_tuple()[:2])
    own = {"numerics": str(NUMERICS), "cache format": str(FORMAT), "python": python}
    return own | versions() | {"distributed": distributed.__version__}


# ---- the client: where tasks are handed out ------------------------------------------------------------------------


class DaskCluster:
    """A Dask cluster by its scheduler's address, or "local". At most `jobs` tasks side by side, one a worker process.

    Workers may come and go meanwhile. Raises KitError for an address that is none or where no scheduler answers, for
    one of other versions, and when it is lost. A run whose workers are lost again and again is a Failure.
    """

    def __init__(self, address: str, jobs: int | None = None) -> None:
        if address != "local" and not re.fullmatch(ADDRESS, address):
            raise KitError(f"scheduler {address!r} is not allowed; allowed: {ALLOWED}")
        self.address, self.jobs = address, jobs

    def __enter__(self) -> DaskCluster:
        before_workers()
        self._shares: dict[str, bool | None] = {}  # by worker: whether its cache is the client's; None: other versions
        self._there: list[str] = []  # the workers of these versions that are there
        self._looked, self._waits = -LOOK_S, False
        self._running: set[distributed.Future] = set()  # Dask takes back what nobody holds
        self._sent = lru_cache(SENT)(lambda name: self._submit(name, dict, packed(name)))  # teachers, by hash
        self._here: LocalProcesses | None = None
        self._made: LocalCluster | None = None
        self._told: SimpleQueue[tuple[str, float]] = SimpleQueue()
        with ExitStack() as stack:
            stack.enter_context(silence_logging_cmgr(logging.CRITICAL))  # the engine prints its own warnings
            warnings.filterwarnings("ignore", category=VersionMismatchWarning)
            stack.enter_context(dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TiB"}))
            with writing_to(cache_folder()):
                cache_folder().mkdir(parents=True, exist_ok=True)
                token = stack.enter_context(NamedTemporaryFile(prefix=".client-", dir=cache_folder()))
            self._token = Path(token.name).name
            self._client = stack.enter_context(self._connected(stack))
            self._check_scheduler()
            self._client.subscribe_topic(self._token, lambda event: self._told.put(tuple(event[1])))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *raised: Any) -> None:
        """Closes the client, which takes back its tasks; workers notice within a second, at their next batch."""
        self._stack.__exit__(kind, *raised)

    @property
    def slots(self) -> int:
        """Counts the workers of these versions; at least 1, as a task may wait for the first worker to come."""
        return max(1, min(len(self._look()), self.jobs or sys.maxsize))

    def submit(self, task: Task) -> Future[str | None]:
        match task.about:
            case SharedLogits(run=run):
                return self._send(task, run)
            case Run(is_given=False) as run:
                return self._send(task, run)
            case _:  # a notebook's pictures go to this disk, and the file of given weights lies there
                if self._here is None:
                    self._here = self._stack.enter_context(LocalProcesses(default_jobs()))
                return self._here.submit(task)

    def progress(self) -> Iterator[tuple[str, float]]:
        self._look()
        while not self._told.empty():
            yield self._told.get()
        if self._here is not None:
            yield from self._here.progress()

    # ---- a task, from its beginning to its end ------------------------------------------------------------------

    def _send(self, task: Task, run: Run) -> Future[str | None]:
        if self._made is not None and not self._made.worker_spec:
            self._made.scale(self.jobs or default_jobs(devices=[run.device]))
        while not (workers := self._look()):
            time.sleep(LOOK_S)
        done: Future[str | None] = Future()
        self._start(task, done, None if all(self._shares[worker] for worker in workers) else self._teachers_of(run))
        return done

    def _start(self, task: Task, done: Future, teachers: Mapping[str, distributed.Future] | None) -> None:
        future = self._submit(task.key, _work, task.key, pickle_dumps(task), self._token, identity(), teachers)
        self._running.add(future)
        future.add_done_callback(partial(self._ended, task, done))

    def _teachers_of(self, run: Run) -> dict[str, distributed.Future]:
        """Sends the teachers' folders from this cache to the cluster, so that a lost worker's are not trained anew."""
        return {teacher.hash: self._sent(teacher.hash) for teacher in run.teachers.values()}

    def _submit(self, name: str, what: Callable, *about: object) -> distributed.Future:
        """Submits to one of the workers that are there, or to another where they have all gone."""
        key, there = f"{name}-{uuid.uuid4().hex}", self._there  # somebody else's task for the same run is another task
        try:
            return self._client.submit(what, *about, key=key, workers=there, allow_other_workers=True, pure=False)
        except Exception:
            raise self._lost() from None

    def _ended(self, task: Task, done: Future, future: distributed.Future) -> None:
        """Settles `done`, in Dask's own thread: None where the run is in the cache, else why not; or starts the task
        again, with the run's teachers."""
        self._running.discard(future)
        try:
            if future.status == "error" and isinstance(future.exception(), Lacks):
                self._start(task, done, self._teachers_of(task.about))
            else:
                done.set_result(self._outcome(task, future))
        except Lost as error:
            done.set_exception(error)
        except KitError as error:  # of this task alone
            done.set_result(str(error))
        except BaseException as error:
            done.set_exception(error)

    def _outcome(self, task: Task, future: distributed.Future) -> str | None:
        """Says why a task was not done; None where it was, and its run is in the cache. Raises Lost."""
        if future.status not in ("finished", "error"):
            raise self._lost()
        match future.exception():
            case None:
                return self._fetched(task, future)
            case KitError() as error:
                return str(error)
            case KilledWorker() as error:
                lost = f"{error.allowed_failures + 1} of them, the last at {error.last_worker.address}"
                return f"its workers were lost while they trained it ({lost})"
            case error:
                return f"a worker could not do it: {said(error)}"

    def _fetched(self, task: Task, future: distributed.Future) -> str | None:
        """Takes the run's folder over from the worker, unless it is there: the worker's cache may be this one."""
        if not isinstance(task.about, Run) or folder_of(task.key).exists():
            return None
        try:
            folder = future.result()
        except Exception:
            raise self._lost() from None
        why = unpacked(task.key, folder)
        return why and f"it arrived damaged: {why}"

    # ---- who is there -------------------------------------------------------------------------------------------

    @property
    def _where(self) -> str:
        return "the local cluster" if self.address == "local" else f"the scheduler at {self.address}"

    def _connected(self, stack: ExitStack) -> Client:
        try:
            if self.address == "local":
                self._made = stack.enter_context(_made_here())
            else:  # somebody's
                _shake_hands(self.address)
            return Client(self._made or self.address, timeout=CONNECT_S, set_as_default=False)
        except Exception as error:  # whatever the other side is, it is no scheduler
            raise KitError(f"no Dask scheduler answers at {self.address}: {said(error)}") from None

    def _check_scheduler(self) -> None:
        try:
            theirs = self._client.run_on_scheduler(identity)
        except Exception as error:
            raise KitError(f"{self._where} has no such kit as this one: {said(error)}") from None
        if theirs != identity():
            raise KitError(f"{self._where} has other versions: {difference(theirs, identity())}")

    def _look(self) -> list[str]:
        """Lists the workers of these versions that are there now. Raises KitError where there are, and were, only
        others."""
        if time.monotonic() - self._looked >= LOOK_S:
            try:
                threads = self._client.nthreads()  # by worker
                new = [worker for worker in threads if worker not in self._shares]
                answers = self._client.run(_asked, self._token, workers=new, on_error="return") if new else {}
            except Exception:
                raise self._lost() from None
            for worker, answer in answers.items():
                if not isinstance(answer, OSError):  # it has gone again
                    self._shares[worker] = self._judged(worker, answer, threads[worker])
            if threads and all(self._shares.get(worker, False) is None for worker in {*threads, *self._shares}):
                raise KitError(f"none of the {len(threads)} workers of {self._where} has the versions of this kit")
            self._there = [worker for worker in threads if self._shares.get(worker) is not None]
            self._looked = time.monotonic()
        if not self._there and not self._waits and self._made is None:
            print(f"no worker is connected to {self._where}; waiting for one", file=sys.stderr)
        self._waits = not self._there
        return self._there

    def _judged(self, worker: str, answer: tuple[dict, bool] | Exception, threads: int) -> bool | None:
        """Says whether a worker has this cache, and None of one that has other versions, with a warning; warns of
        threads that are not used, too."""
        theirs, shares = ({}, False) if isinstance(answer, Exception) else answer
        why = None
        if isinstance(answer, Exception):
            why = f"is not used: it has no such kit as this one: {said(answer)}"
        elif theirs != identity():
            why = f"is not used: it has other versions: {difference(theirs, identity())}"
        elif threads > 1:
            why = f"has {threads} threads but trains one run at a time; start it with --nthreads 1 --nworkers {threads}"
        if why is not None:
            print(f"warning: worker {worker} {why}", file=sys.stderr)
        return shares if theirs == identity() else None

    def _lost(self) -> Lost:
        return Lost(
            f"the connection to {self._where} was lost; finished runs are kept, and the others go on when the same is "
            f"asked again"
        )


def _made_here() -> LocalCluster:
    """A cluster of this machine, which listens on loopback alone and begins its workers when there is a task."""
    anywhere = {"dashboard_address": "127.0.0.1:0"}  # of its health page: any free port
    open_to = {"host": "127.0.0.1", "dashboard_address": None, "scheduler_kwargs": anywhere}
    processes = {"n_workers": 0, "threads_per_worker": 1, "processes": True, "memory_limit": 0}
    return LocalCluster(**processes, **open_to, silence_logs=logging.CRITICAL)


def _shake_hands(address: str) -> None:
    """Raises where nobody listens, or who listens does not speak Dask's protocol; `Client` would wait without end."""

    async def shake() -> None:
        options = distributed.Security().get_connection_args("client")
        comm = await asyncio.wait_for(distributed.comm.connect(address, timeout=CONNECT_S, **options), CONNECT_S)
        await comm.close()

    with ThreadPoolExecutor(1) as apart:  # a notebook's own thread has an event loop already
        apart.submit(lambda: asyncio.run(shake())).result()


# ---- the worker: where they are done ---------------------------------------------------------------------------------

_alone = threading.Lock()  # torch's random stream and its number of threads are the process's


def _asked(token: str) -> tuple[dict[str, str], bool]:
    """Answers a client: these versions, and whether its cache is this one."""
    return identity(), (cache_folder() / token).exists()


def _work(
    key: str, pickled: tuple[Any, ...], token: str, theirs: Mapping[str, str], teachers: Mapping[str, Parcel] | None
) -> Parcel | None:
    """Does a client's task and returns the run's folder. Raises KitError where it cannot be done, and Lacks.

    The task is unpickled here: a module of the user's own that this worker lacks is an error of this task. In a message
    of Dask's it would break the connection, again and again.
    """
    progress = Told(token, key)
    while not _alone.acquire(timeout=LOOK_S):
        progress(0.0)
    try:
        if theirs != identity():
            raise KitError(f"a worker has other versions: {difference(identity(), theirs)}")
        task: Task = pickle_loads(*pickled)
        if not (cache_folder() / token).exists():  # of another cache than the client's
            if not isinstance(task.about, Run):
                return None  # nobody else would find these logits: each run asks its teachers itself
            if teachers is None:
                raise Lacks
        for name, parcel in (teachers or {}).items():
            why = unpacked(name, parcel)
            if why is not None:
                raise KitError(f"its teacher, run {name}, arrived damaged: {why}")
        reason = attempted(task, progress, lets=Reschedule)
        if reason is not None:
            raise KitError(reason)
        return packed(task.key) if isinstance(task.about, Run) else None
    finally:
        _alone.release()


class Told:
    """Reports a worker's progress to the client, and ends a task that was cancelled or has moved to another worker."""

    def __init__(self, topic: str, key: str) -> None:
        self._worker, self._topic, self._key = get_worker(), topic, key
        self._dask_key = self._worker.get_current_task()
        self._share, self._next = 0.0, 0.0

    def __call__(self, share: float) -> None:
        self._share += share
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + LOOK_S
        state = self._worker.state.tasks.get(self._dask_key)
        if state is None or state.state == "cancelled" or self._worker.status not in (Status.running, Status.paused):
            raise Reschedule  # to another worker, where somebody still waits for it
        if self._share:
            self._worker.log_event(self._topic, [self._key, self._share])
            self._share = 0.0
