"""Beyond one machine: an engine whose tasks are done by the workers of a Dask cluster.

results = train_all(runs, jobs=DaskCluster("tcp://host:8786"))  # somebody's `dask scheduler` and `dask worker`s
results = train_all(runs, jobs=DaskCluster("local"))            # one made for this, on this machine alone

A worker trains into its own cache. If that is the client's (a shared file system), nothing is sent. If not, it says
which teachers it lacks and is sent them; what it has trained it sends back. Whatever arrives is checked like an import.
"""

from __future__ import annotations

import asyncio
import logging
import platform
import re
import sys
import threading
import time
import traceback
import uuid
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from queue import SimpleQueue

import dask.config
import distributed
from distributed import Client, KilledWorker, LocalCluster, Worker, get_worker
from distributed.core import Status
from distributed.versions import VersionMismatchWarning

from kit.errors import KitError
from kit.files import cache_folder, write, writing_to
from kit.grid.engines import LocalProcesses, Task, default_jobs
from kit.grid.shared import SharedLogits
from kit.runs.checkpoint import difference
from kit.runs.spec import NUMERICS, Run, versions
from kit.runs.store import FORMAT, Result, folder_of, found
from kit.runs.transfer import Parcel, packed, unpacked

ALLOWED = "local, tcp://HOST:PORT or tls://HOST:PORT"
ADDRESS = r"(tcp|tls)://([^\s:/\[\]]+|\[[0-9a-fA-F:.]+\]):[0-9]{1,5}"
CONNECT_S = 5.0  # until nobody is there
LOOK_S = 0.5  # between two looks of a worker at whether its task is still wanted, and two words about its progress
APPEAR_S = 10.0  # until what another machine wrote is seen through a shared file system
MANY = 1000  # tasks under way; each is waited for by a thread


# ---- what travels -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Order:
    """A task for a worker: where to tell of it, how to know the client's cache, and what the worker may lack."""

    task: Task
    topic: str
    token: str  # a file in the client's cache
    identity: Mapping[str, str]
    parcels: Mapping[str, Parcel]  # teachers, by hash


@dataclass(frozen=True)
class Ended:
    """The task has been done, or could not be for a reason. `parcel` is the run, where it is in another cache."""

    reason: str | None = None
    parcel: Parcel | None = None


@dataclass(frozen=True)
class Again:
    """The worker cannot do it as it is: it lacks these runs, or it was leaving."""

    worker: str
    lacks: tuple[str, ...] = ()


@dataclass(frozen=True)
class NeedsClient:
    """The task reads or writes the client's files, which this worker does not see."""


class Stopped(Exception):
    """Whoever asked for the task does not want it any more."""


def identity() -> dict[str, str]:
    """What must be the same on both sides: results of other versions are other results."""
    python = ".".join(platform.python_version_tuple()[:2])
    own = {"numerics": str(NUMERICS), "cache format": str(FORMAT), "python": python}
    return own | versions() | {"distributed": distributed.__version__}


# ---- where tasks are handed out -----------------------------------------------------------------------------------


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
        self._leaving = False
        self._identity = identity()
        self._fits: dict[str, bool] = {}  # workers that have been looked at: whether their versions are these
        self._fit: list[str] = []  # those that are there
        self._looked, self._look_lock = -LOOK_S, threading.Lock()
        self._waits = False
        self._shares: SimpleQueue[tuple[str, float]] = SimpleQueue()
        self._here: LocalProcesses | None = None
        self._here_lock = threading.Lock()
        name = uuid.uuid4().hex
        self._topic, self._token = f"small-teacher-kit-{name}", f".client-{name}"
        with ExitStack() as stack:
            stack.enter_context(_hushed())
            stack.enter_context(dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TiB"}))
            stack.enter_context(_token_in_cache(self._token))
            self._threads = ThreadPoolExecutor(MANY, thread_name_prefix="kit-cluster")
            stack.callback(self._threads.shutdown, cancel_futures=True)
            self._client = stack.enter_context(self._connected(stack))
            self._check_scheduler()
            self._client.subscribe_topic(self._topic, lambda event: self._shares.put(tuple(event[1])))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *raised: object) -> None:
        """Closing the client takes back its tasks; workers notice within a second, at their next batch."""
        self._leaving = kind is not None
        if self._here is not None:
            self._stack.push(self._here)
        self._stack.__exit__(kind, *raised)

    @property
    def slots(self) -> int:
        """How many workers fit, and never less than one: a task may wait for the first worker to come."""
        return max(1, min(len(self._look()), self.jobs or MANY, MANY))

    def submit(self, task: Task) -> Future[str | None]:
        return self._threads.submit(self._carry, task)

    def heard(self) -> Iterator[tuple[str, float]]:
        self._look()
        while not self._shares.empty():
            yield self._shares.get()
        if self._here is not None:
            yield from self._here.heard()

    # ---- connecting -------------------------------------------------------------------------------------------

    @property
    def _where(self) -> str:
        return "the local cluster" if self.address == "local" else f"the scheduler at {self.address}"

    def _connected(self, stack: ExitStack) -> Client:
        where = self.address
        if where == "local":
            where = stack.enter_context(
                LocalCluster(
                    n_workers=self.jobs or default_jobs(),
                    threads_per_worker=1,
                    processes=True,
                    host="127.0.0.1",
                    dashboard_address=None,
                    scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # of its health page, at any free port
                    memory_limit=0,  # as without a cluster
                    silence_logs=logging.CRITICAL,
                )
            )
        try:
            if where == self.address:  # somebody's; in a thread, as a notebook's own has an event loop already
                self._threads.submit(lambda: asyncio.run(_shake_hands(where))).result()
            return Client(where, timeout=CONNECT_S, set_as_default=False)
        except Exception as error:  # whatever the other side is, it is no scheduler
            raise KitError(f"no Dask scheduler answers at {self.address}: {_said(error)}") from None

    def _check_scheduler(self) -> None:
        try:
            theirs = self._client.run_on_scheduler(identity)
        except Exception as error:
            raise KitError(f"{self._where} has no such kit as this one: {_said(error)}") from None
        if theirs != self._identity:
            raise KitError(f"{self._where} has other versions: {difference(theirs, self._identity)}")

    def _look(self) -> list[str]:
        """The workers of these versions that are there now. Raises KitError where there are, and were, only others."""
        with self._look_lock:
            if time.monotonic() - self._looked < LOOK_S:
                return self._fit
            try:
                workers = self._client.scheduler_info()["workers"]
                new = [address for address in workers if address not in self._fits]
                answers = self._client.run(identity, workers=new, on_error="return") if new else {}
            except Exception:
                raise self._lost() from None
            for address, theirs in answers.items():
                if not isinstance(theirs, OSError):  # else it has gone meanwhile, or will answer next time
                    self._fits[address] = self._judged(address, theirs, workers[address]["nthreads"])
            self._fit = [address for address in workers if self._fits.get(address)]
            if workers and not any(self._fits.get(address, True) for address in {*workers, *self._fits}):
                raise KitError(f"none of the {len(workers)} workers of {self._where} has the versions of this kit")
            if not self._fit and not self._waits:
                print(f"no worker is connected to {self._where}; waiting for one", file=sys.stderr)
            self._waits = not self._fit
            self._looked = time.monotonic()
            return self._fit

    def _judged(self, address: str, theirs: Mapping[str, str] | Exception, threads: int) -> bool:
        """Whether a worker can be used; says so where it cannot, or only in part."""
        why = None
        if isinstance(theirs, Exception):
            why = f"is not used: it has no such kit as this one: {_said(theirs)}"
        elif theirs != self._identity:
            why = f"is not used: it has other versions: {difference(theirs, self._identity)}"
        elif threads > 1:
            why = f"has {threads} threads but trains one run at a time; start it with --nthreads 1 --nworkers {threads}"
        if why is not None:
            print(f"warning: worker {address} {why}", file=sys.stderr)
        return theirs == self._identity

    def _lost(self) -> KitError:
        return KitError(
            f"the connection to {self._where} was lost; finished runs are kept, and the others go on when the same is "
            f"asked again"
        )

    # ---- a task, from its order to its end; in a thread of its own -----------------------------------------------

    def _carry(self, task: Task) -> str | None:
        parcels: dict[str, Parcel] = {}
        preferred: list[str] = []
        while not self._leaving:
            workers = preferred or self._look()
            if not workers:
                time.sleep(LOOK_S)
                continue
            answer = self._ask(Order(task, self._topic, self._token, self._identity, parcels), workers)
            try:
                if isinstance(answer, Ended):
                    return self._taken(task, answer)
                if isinstance(answer, NeedsClient):
                    return self._done_here(task)
                if answer.lacks and parcels.keys() >= set(answer.lacks):
                    return f"worker {answer.worker} could not keep the teachers that it was sent"
                parcels |= {name: packed(name) for name in answer.lacks}
                preferred = [answer.worker] if answer.lacks else []
            except KitError as error:
                return str(error)
        return "stopped"

    def _ask(self, order: Order, workers: list[str]) -> Ended | Again | NeedsClient:
        """The answer of one of these workers, or of another where they have all gone."""
        key = f"{order.task.key}-{uuid.uuid4().hex}"  # somebody else's task for the same run is another task
        try:
            future = self._client.submit(_work, order, key=key, workers=workers, allow_other_workers=True, pure=False)
        except Exception as error:
            raise self._lost() from error
        try:
            return future.result()
        except KilledWorker as error:
            count, last = error.allowed_failures + 1, error.last_worker.address
            return Ended(f"its workers were lost while they trained it ({count} of them, the last at {last})")
        except Exception as error:
            if future.status == "error":
                return Ended(f"a worker could not do it: {_said(error)}")
            raise self._lost() from None

    def _taken(self, task: Task, answer: Ended) -> str | None:
        if answer.reason is not None or not isinstance(task.about, Run):
            return answer.reason
        if answer.parcel is not None:
            why = unpacked(task.key, answer.parcel)
            return why and f"it arrived damaged: {why}"
        until = time.monotonic() + APPEAR_S
        while not folder_of(task.key).exists():
            if time.monotonic() > until:
                return f"a worker keeps it in the same cache, but it does not appear in {cache_folder()}"
            time.sleep(0.1)
        return None

    def _done_here(self, task: Task) -> str | None:
        with self._here_lock:
            if self._here is None:
                self._here = LocalProcesses(default_jobs()).__enter__()
        return self._here.submit(task).result()


async def _shake_hands(address: str) -> None:
    """Raises where nobody listens, or who listens does not speak as Dask does; `Client` would wait without end."""
    options = distributed.Security().get_connection_args("client")
    comm = await asyncio.wait_for(distributed.comm.connect(address, timeout=CONNECT_S, **options), CONNECT_S)
    await comm.close()


@contextmanager
def _token_in_cache(name: str) -> Iterator[None]:
    path = cache_folder() / name
    with writing_to(cache_folder()):
        cache_folder().mkdir(parents=True, exist_ok=True)
        write(path, "a worker that sees this file has the same cache as its client\n")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def _hushed() -> Iterator[None]:
    """What this engine has to say it says itself, in a line; Dask's loggers in this process are still."""
    warnings.filterwarnings("ignore", category=VersionMismatchWarning)
    names = ["distributed", *(name for name in logging.root.manager.loggerDict if name.startswith("distributed."))]
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _said(error: BaseException) -> str:
    """An error in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}{': ' + lines[0] if lines else ''}"


# ---- in a worker --------------------------------------------------------------------------------------------------

_alone = threading.Lock()  # torch's random stream and its number of threads are the process's


def _work(order: Order) -> Ended | Again | NeedsClient:
    worker = get_worker()
    tick = Telling(worker, order)
    try:
        while not _alone.acquire(timeout=LOOK_S):
            tick(0.0)
        try:
            return _done(order, worker, tick)
        finally:
            _alone.release()
    except Stopped:  # nobody waits for this answer, unless the worker was leaving
        return Again(worker.address)
    except Exception as error:  # as words: not every error can be pickled
        traceback.print_exc()  # in the worker's own log
        return Ended(f"worker {worker.address} could not do it: {_said(error)}")


def _done(order: Order, worker: Worker, tick: Telling) -> Ended | Again | NeedsClient:
    task, about = order.task, order.task.about
    if order.identity != identity():
        return Ended(f"worker {worker.address} has other versions: {difference(identity(), order.identity)}")
    if (cache_folder() / order.token).exists():
        return Ended(task.work(about, tick))
    if isinstance(about, SharedLogits):
        return Ended()  # nobody else would find them: each run asks its teachers itself
    if not isinstance(about, Run):
        return NeedsClient()
    try:
        for name, parcel in order.parcels.items():
            why = unpacked(name, parcel)
            if why is not None:
                return Ended(f"its teacher, run {name}, arrived damaged: {why}")
        if found(about) is None:
            lacks = tuple(each.hash for each in about.teachers.values() if not isinstance(found(each), Result))
            if lacks:
                return Again(worker.address, lacks)
        reason = task.work(about, tick)
        return Ended(reason, packed(about.hash) if reason is None else None)
    except KitError as error:
        return Ended(str(error))


class Telling:
    """A worker's `tick`: tells the client of progress, and raises Stopped when the task is not wanted any more."""

    def __init__(self, worker: Worker, order: Order) -> None:
        self._worker, self._order = worker, order
        self._key = worker.get_current_task()
        self._share, self._next = 0.0, 0.0

    def __call__(self, share: float) -> None:
        self._share += share
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + LOOK_S
        state = self._worker.state.tasks.get(self._key)
        if state is None or state.state == "cancelled" or self._worker.status not in (Status.running, Status.paused):
            raise Stopped
        if self._share:
            self._worker.log_event(self._order.topic, [self._order.task.key, self._share])
            self._share = 0.0
