"""A training behind a notebook: it runs on a thread of its own, is steered through a queue, and says how it stands.

    session = Session(Settings(role="cifar-10", student="vgg16", teacher="resnet34"))
    session.start(); session.steer("k", 8); session.pause(); session.state; session.close()

The training is `kit.runs.start`'s, driven batch by batch, so an unsteered session ends with the very student that
`python -m kit train` trains; a steered one with that of `session.replay`. A session's student is not put into the
cache: its seconds would be those of a process that also draws. The thread prints nothing and knows of no widgets.
"""

from __future__ import annotations

import atexit
import contextlib
import copy
import math
import multiprocessing
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from kit.data.augment import normalise
from kit.data.base import sample
from kit.errors import KitError, one_line, said
from kit.live.state import History, Look, State
from kit.live.teachers import announcement, teach_alone
from kit.paper.settings import Settings
from kit.runs.spec import Run, replayed, with_teachers
from kit.runs.store import find
from kit.runs.training import own_stream, start
from kit.trainer import Training
from kit.training.forward import teach
from kit.training.history import Diverged
from kit.training.steering import checked

PICTURES = 48  # test images to pick from
INTERVAL = 0.1  # seconds from one state to the next while batches go by
SWITCHING = 0.0001  # seconds after which the training gives way to who waits, such as whoever moves a slider
WATCHING = 0.01  # at most this share of the thread's time goes into saying how it stands, and as much into looking
SKETCHING = 1.0  # seconds between two copies of the student's weights
LENT = threading.Lock()  # held by whichever session draws from torch's one random stream


class Stream:
    """A run's random stream: it begins as in `kit.runs.training.train`, and goes on where it was whenever it is lent,
    whatever others draw meanwhile."""

    def __init__(self, run: Run) -> None:
        self._devices = (torch, torch.cuda) if run.device == "cuda" else (torch,)
        with LENT, own_stream(run):
            self._states = [device.get_rng_state() for device in self._devices]

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """Puts the stream in the place of torch's, and that one back."""
        with LENT:
            self._change_places()
            try:
                yield
            finally:
                self._change_places()

    def steps(self, training: Training) -> Iterator[int]:
        """Goes through a training whose networks draw from this stream. Those that do not at their first batch, which
        are most, wait for nobody."""
        steps, draws, begin = iter(training), True, self._states
        while training.step < training.total_steps:
            with self.lent() if draws else contextlib.nullcontext():
                step = next(steps)
            draws = draws and not all(map(torch.equal, begin, self._states))
            yield step

    def _change_places(self) -> None:
        others = [device.get_rng_state() for device in self._devices]
        for device, state in zip(self._devices, self._states, strict=True):
            device.set_rng_state(state)
        self._states = others


class _Reset(BaseException):
    """Unwinds a life to begin the next, or the thread where there is nothing to begin."""


_OPEN: set[Session] = set()
_found: tuple[int, float]  # torch's threads and the switch interval, before the first of them opened


class Session:
    """One training on a thread of its own. Every method returns at once; `state` is how it stood a moment ago.

    `described` is what to train: settings, which become a run on that thread, or a run.
    `hear` is called on that thread after every new state: it must be quick, and hand over to its own thread.
    Torch works on one thread in the whole process while a session is open, as it does in every run.
    """

    def __init__(self, described: Settings | Run, image: int = 0, hear: Callable[[], None] = lambda: None) -> None:
        self._controls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.described, self._image, self._hear = described, image, hear
        self.run: Run | None = None  # what it trains, as described at its start; None while its images are loaded
        self.beside: Session | None = None  # with which it keeps step, see `keep_step`
        self._owed = 0.0  # batches to train before it pauses
        self._waits = False  # for whoever has an order for it
        self._training: Training | None = None
        self.state = State()
        global _found
        if not _OPEN:
            _found = torch.get_num_threads(), sys.getswitchinterval()
        _OPEN.add(self)
        torch.set_num_threads(1)
        sys.setswitchinterval(SWITCHING)
        self._thread = threading.Thread(target=self._work, name="session", daemon=True)
        self._thread.start()

    # ---- from any thread ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Trains on; first the teachers that are missing."""
        self._ask(self._go, math.inf)

    def pause(self) -> None:
        self._ask(self._go, 0)

    def step(self) -> None:
        """One batch, then a pause."""
        self._ask(self._go_one)

    def steer(self, name: str, value: float) -> None:
        """See `Training.steer`. Raises KitError for what is not allowed; after the end it does nothing."""
        described = self.described
        known = described.recipe.stages if isinstance(described, Run) else described.stages(described.epochs or 1)
        self._ask(self._steer, name, checked(name, value, known))

    def look_at(self, image: int) -> None:
        """Picks one of the state's `pictures`."""
        self._ask(self._look_at, image)

    def hold(self, held: bool) -> None:
        """Stands still while nobody watches, and goes on as before afterwards."""
        self._ask(self._hold, held)

    def reset(self, described: Settings | Run | None = None) -> None:
        """Back to the start, of something else if it is given."""
        self.described = described or self.described
        self._ask(self._reset, self.described)

    def keep_step(self, beside: Session | None) -> None:
        """Trains a batch only when the session `beside` it is not behind; None: whenever it can."""
        self.beside = beside
        self.call()

    def call(self) -> None:
        """Wakes it where it waits, to look again whether it may go on."""
        if self._waits:
            self._ask(lambda: None)

    def _ask(self, control: Callable[..., None], *about: object) -> None:
        """Has the thread do something when it comes to it."""
        self._controls.put(partial(control, *about))

    def close(self, timeout: float = 1.0) -> bool:
        """Ends the thread; True when it has ended within so many seconds. It ends after the batch it is at."""
        self._ask(self._reset, None)
        self._thread.join(timeout)
        if _OPEN == {self}:
            torch.set_num_threads(_found[0])
            sys.setswitchinterval(_found[1])
        _OPEN.discard(self)
        return not self._thread.is_alive()

    @property
    def replay(self) -> Run:
        """The run that trains the same student again, with what was steered up to now."""
        state = self.state
        return replayed(state.run, state.events)

    # ---- on its own thread -------------------------------------------------------------------------------------

    def _work(self) -> None:
        torch.set_num_threads(1)
        described: Settings | Run | None = self.described
        while described is not None:
            try:
                self._live(described)
            except _Reset as reset:
                (described,) = reset.args
        self._training = None
        self.state = State()
        self._publish(phase="closed")

    def _live(self, described: Settings | Run) -> None:
        """From a reset to the next."""
        self._begin(described)
        try:
            with LENT:  # networks that are tried draw their weights
                self.run = described if isinstance(described, Run) else described.run()
            self._train()
        except ValidationError as error:
            self._publish(phase="failed", message=one_line(error))
        except Exception as error:  # a thread has nobody to raise to: whoever watches is told
            message = str(error) if isinstance(error, Diverged | OSError) else said(error)
            self._publish(phase="failed", message=message, share=0.0)
        while True:
            self._owed = 0.0
            self._obey()

    def _begin(self, described: Settings | Run) -> None:
        self.run = self._training = None
        self._owed = 0.0
        self._early: list[tuple[str, float]] = []  # what was steered before it was set up
        self._said_at = self._said_cost = self._seen_at = self._seen_cost = self._sketched_at = 0.0
        self._done_at = 0.0, 0  # when it went on last, or its speed was measured, and after how many batches
        self.state = State(held=self.state.held, described=described)
        self._publish(message="loading images")

    def _train(self) -> None:
        data = self.run.data.load()
        self._publish(run=self.run, pictures=sample(data, PICTURES))
        missing = [run for run in with_teachers([self.run])[:-1] if find(run) is None]
        if missing:
            with LENT:
                message = announcement(missing)
            self._publish(phase="ready", message=message)
            self._obey()
            self._train_teachers(missing)
        self._set_up()
        self._publish(phase="ready", message="")
        self._obey()
        self._publish(phase="running")
        self._done_at = time.perf_counter(), 0
        for _ in self._stream.steps(self._training):
            self._after_batch()
            self._obey()
        top1 = self._training.epochs[-1]["test_top1"]
        self._publish(phase="finished", message=f"test Top-1 {top1:.1%}")

    def _set_up(self) -> None:
        self._stream = Stream(self.run)
        with self._stream.lent():
            training = start(self.run)
        self._terms = np.full((training.total_steps, 2), np.nan)
        self._copies = {name: copy.deepcopy(net) for name, net in training.teachers.networks.items()}
        self._copies["student"] = copy.deepcopy(training.student).eval()
        self._zt = {name: self._logits(net, slice(None)) for name, net in self._copies.items() if name != "student"}
        self._training = training
        self._publish(networks=self._copies)
        for name, value in self._early:
            training.steer(name, value)

    def _after_batch(self) -> None:
        training = self._training
        if training.thermostat is not None and "mismatch" in training.thermostat.memory:
            self._terms[training.step - 1] = [training.thermostat.memory[term] for term in ("mismatch", "spread")]
        self._owed = max(0, self._owed - 1)
        if self.beside is not None:
            self.beside.call()
        now = time.perf_counter()
        if now - self._said_at >= max(INTERVAL, self._said_cost / WATCHING):
            self._publish()

    # ---- controls ----------------------------------------------------------------------------------------------

    def _obey(self) -> None:
        """Does what came in; returns when it is to go on."""
        while True:
            rests = self.state.held or not self._owed
            if rests and self.state.phase == "running":
                self._publish(phase="paused")
            self._waits = True  # before it looks whether it must: who moves on meanwhile calls
            self._waits = rests or self._is_ahead
            if not self._do_next(self._waits):
                break
        if self.state.phase == "paused":
            self._done_at = time.perf_counter(), self._training.step
            self._publish(phase="running")

    @property
    def _is_ahead(self) -> bool:
        """Whether the session beside it is to train as well, and has trained less."""
        other = self.beside
        if self._training is None or other is None or not other._owed or other.state.held:
            return False
        behind = 0 if other._training is None else other._training.step
        return other.state.phase in ("loading", "ready", "teachers", "running") and behind < self._training.step

    def _do_next(self, wait: bool) -> bool:
        """Does what was asked for first; False where nothing was."""
        try:
            control = self._controls.get(block=wait)
        except queue.Empty:
            return False
        control()
        return True

    def _go(self, batches: float) -> None:
        self._owed = batches

    def _go_one(self) -> None:
        self._owed = 1 if self._owed == math.inf else self._owed + 1

    def _hold(self, held: bool) -> None:
        if held != self.state.held:
            self._publish(held=held)

    def _look_at(self, image: int) -> None:
        self._image = max(0, image)
        self._publish()

    def _steer(self, name: str, value: float) -> None:
        if self._training is None:
            self._early.append((name, value))
        elif self._training.step < self._training.total_steps:
            self._training.steer(name, value)
            self._publish()

    def _reset(self, described: Settings | Run | None) -> None:
        raise _Reset(described)

    # ---- teachers ----------------------------------------------------------------------------------------------

    def _train_teachers(self, missing: Sequence[Run]) -> None:
        """Trains them in a process of their own, so that what they cost is theirs alone; obeys meanwhile."""
        context = multiprocessing.get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=teach_alone, args=(list(missing), sender), daemon=True)
        process.start()
        sender.close()
        self._publish(phase="teachers")
        complaint = None
        try:
            with contextlib.suppress(EOFError):  # it has ended
                while complaint is None:
                    if receiver.poll(0.05):
                        share, complaint = receiver.recv()
                        self._publish(share=min(1.0, self.state.share + share))
                    self._do_next(wait=False)
            process.join()
            if complaint or process.exitcode:
                reason = complaint or f"its process ended with status {process.exitcode}"
                raise KitError(f"a teacher could not be trained: {reason}")
        finally:
            process.kill()
            process.join()
            process.close()
            receiver.close()

    # ---- saying how it stands ----------------------------------------------------------------------------------

    def _publish(self, **changes: Any) -> None:
        if self._training is not None:
            changes = {"look": self._looked("phase" in changes)} | changes
        begin = time.thread_time()
        if self._training is not None:
            changes = self._standing() | changes
        self.state = replace(self.state, **changes)
        self._said_at = time.perf_counter()
        self._said_cost = time.thread_time() - begin
        self._hear()
        if "phase" in changes and self.beside is not None:
            self.beside.call()

    def _standing(self) -> dict[str, Any]:
        training, n = self._training, self._training.step
        first, written, thermostat = training.stages[-1].first_step, training.history, training.thermostat
        history = History(
            loss=written.loss[:n].cpu().numpy(),
            batch_top1=written.correct[:n, 0].cpu().numpy() / training.batch,
            t=written.temperatures[:n, 0].numpy(),
            t_used=written.temperatures[:n, 1].numpy(),
            dlogt_mismatch=self._terms[:n, 0],
            dlogt_spread=self._terms[:n, 1],
            **{name: trace[:n].cpu().numpy() for name, trace in written.traces.items()},
        )
        return {
            "step": n,
            "total": training.total_steps,
            "steps_per_epoch": training.steps_per_epoch,
            "history": history,
            "stages": tuple((stage.name, stage.first_step) for stage in training.stages),
            "progress": (n - first) / max(1, training.last_step - first),
            "epochs": tuple((e["epoch"] * training.steps_per_epoch, e["test_top1"]) for e in training.epochs),
            "events": tuple(training.events),
            "policy": thermostat and thermostat.policy,
            "at": thermostat and copy.copy(thermostat.t),
            "images_a_second": self._speed(n),
            **self._sketch(),
        }

    def _speed(self, n: int) -> float:
        now, (then, done) = time.perf_counter(), self._done_at
        if self.state.phase != "running" or n == done or now - then < INTERVAL:
            return self.state.images_a_second
        self._done_at = now, n
        return (n - done) * self._training.batch / (now - then)

    def _looked(self, rests: bool) -> Look:
        """The picked image in the networks' eyes; from batch to batch seldom, as asking the student takes its time."""
        teacher = next(iter(self._training.stage.teachers), None) or ("big" if "big" in self._zt else None)
        image, look = min(self._image, len(self.state.pictures) - 1), self.state.look
        same = look is not None and (look.image, look.teacher) == (image, teacher)
        begin = time.perf_counter()
        if same and not rests and begin - self._seen_at < self._seen_cost / WATCHING:
            return look
        zs = self._logits(self._training.student.eval(), slice(image, image + 1))[0]
        self._seen_at, self._seen_cost = time.perf_counter(), time.perf_counter() - begin
        return Look(image, zs, self._zt[teacher][image] if teacher else None, teacher)

    def _sketch(self) -> dict[str, Any]:
        now = time.perf_counter()
        if now - self._sketched_at < SKETCHING:
            return {}
        self._sketched_at = now
        return {"weights": {name: value.clone() for name, value in self._training.student.state_dict().items()}}

    def _logits(self, network: nn.Module, which: slice) -> Tensor:
        """Of the chosen pictures (n, C); the trainer puts its student back into training mode before each batch."""
        device = next(network.parameters()).device
        mean_std = (stat.to(device) for stat in self.run.data.load().mean_std)
        x = normalise(self.state.pictures.images.pixels[which].to(device), *mean_std)
        return teach(network, x).cpu()


@atexit.register
def close_all() -> None:
    """Ends every session's thread: a thread inside torch must not outlive the interpreter."""
    for session in list(_OPEN):
        session.close()
