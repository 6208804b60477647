"""Regenerates figures without a browser: papermill executes the notebooks in order, the manifest says what each drew.

The chosen notebooks and the runs they show are tasks of one schedule with one progress bar: a notebook begins when its
runs are there and a slot is free, whatever else is still being trained or drawn. Each draws into a folder of its own,
and only when it has succeeded do its pictures replace the old ones: all of them, or, if that is interrupted, the rest
of them when figures are next made.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kit.errors import KitError, not_one_of
from kit.figures.claims import draw_claims
from kit.figures.execute import Drawing, execute
from kit.figures.manifest import Manifest, entry_of, fingerprint
from kit.figures.needs import FOLLOWING, FORESEEN, NEEDS, Request, chosen, parameters_of
from kit.files import locked
from kit.grid.durations import expected_drawing, note_drawing
from kit.grid.engines import Engine, LocalProcesses, Task, default_jobs
from kit.grid.schedule import run_tasks
from kit.grid.training import Grid
from kit.paper.plan import runs_of
from kit.runs.spec import EXPECTED_DATA, Run
from kit.runs.store import Failure, lookup
from kit.runtime import bars

DRAFT = ".drawing-"  # begins the name of the folder that a notebook draws into
UP_TO_DATE = "its pictures are up to date"


def make(
    names: Sequence[str], request: Request, out: Path, force: bool = False, engine: Engine | None = None
) -> list[str]:
    """Executes the notebooks into `out`; returns one line for each that failed, or shows a run that did not finish.

    A notebook is skipped when its text, its parameters, its runs and the kit are what they were and its pictures are
    unaltered. Runs are trained on the engine, where there is one. Raises KitError for unknown notebooks and
    parameters before anything runs.
    """
    extra, request = request.extra, request.settled()
    plan, todo = request.plan, chosen(names)
    accepted = {name: parameters_of(path) - {"out"} for name, path in todo.items()}
    for parameter in extra:
        if not any(parameter in own for own in accepted.values()):
            raise not_one_of("notebook parameter", parameter, sorted(set.union(*accepted.values())))
    with _alone_in(out):
        manifest = Manifest(out)
        manifest.take_all()
        books = [
            Book(
                path,
                {key: value for key, value in request.parameters().items() if key in accepted[name]},
                tuple(runs_of(NEEDS[name](plan, request.seeds)) if name in NEEDS else ()),
            )
            for name, path in todo.items()
        ]
        grid = Grid([run for book in books for run in book.runs])
        first = [book for book in books if book.name not in FOLLOWING]
        following = [book for book in books if book.name in FOLLOWING]
        with engine or LocalProcesses(request.jobs or default_jobs(devices=[plan.device])) as entered, Bar() as bar:
            schedule = Schedule(grid, manifest, request.preset, force, bar, frozenset(todo))
            for book in following:
                if grid.tasks or book.name not in manifest.content["notebooks"]:
                    foreseen = FORESEEN[book.name](plan, request.seeds, request.equal_time)
                    bar.expect([grid.pace.seconds(run) for run in foreseen], schedule.cost(schedule.drawing(book)))
            schedule.work_off(first, entered, grid.tasks)
            later = []
            for book in following:
                try:
                    further = FOLLOWING[book.name](plan, request, Watched(entered, bar))
                except KitError as error:  # the other notebooks do not depend on it
                    schedule.failures[book.name] = f"{book.name}: {error}"
                    continue
                grid.results |= further
                later.append(replace(book, runs=tuple(dict.fromkeys([*book.runs, *further]))))
            schedule.work_off(later, entered)
            if picture := draw_claims(manifest, out / f"{DRAFT}claims"):
                bars.Bar.write(f"all claims at a glance: {picture}")
            if schedule.current:
                bars.Bar.write(f"{', '.join(schedule.current)}: up to date (--force draws again)")
    return [line for book in books if (line := schedule.failure(book.name)) is not None]


@contextmanager
def _alone_in(out: Path) -> Iterator[None]:
    """Waits for others that draw into the same folder, and removes drafts: those of killed ones, and its own."""
    with locked(out / ".drawing"):  # beside the drafts: the others may have another cache
        _clear(out)
        try:
            yield
        finally:
            _clear(out)


def _clear(out: Path) -> None:
    for draft in out.glob(f"{DRAFT}*"):
        shutil.rmtree(draft, ignore_errors=True)


# ---- runs and notebooks, one schedule -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Book:
    """A notebook to draw: its parameters, and the runs that it shows."""

    path: Path
    parameters: Mapping[str, Any]
    runs: tuple[Run, ...]

    @property
    def name(self) -> str:
        return self.path.stem


class Bar:
    """One progress bar for everything, in seconds of one thread; it counts what comes later from the start.

    Of tasks that are not known yet each counts, when it ends, as one of those that were foreseen.
    """

    def __init__(self) -> None:
        self._foreseen: list[float] = []  # the tasks'
        self._later = 0.0  # of what follows them
        self._shown: bars.Bar | None = None

    def expect(self, tasks: Sequence[float], then: float) -> None:
        self._foreseen += tasks
        self._later += then

    def show(self, seconds: float, what: str) -> bars.Bar:
        """The bar, with work of so many seconds to be done now."""
        if self._shown is None:
            self._shown = bars.Bar(total=seconds + sum(self._foreseen) + self._later, desc=what)
        self._shown.total = max(self._shown.total, self._shown.n + seconds)
        return self._shown

    def tick(self) -> None:
        """One of the foreseen tasks has ended."""
        if self._shown is not None and self._foreseen:
            self._shown.update(self._foreseen.pop())

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *raised: Any) -> None:
        if self._shown is not None:
            self._shown.__exit__(*raised)


class Watched:
    """Passes tasks to an engine that somebody else has entered and will leave, for several grids in turn; the bar hears
    when they end."""

    def __init__(self, engine: Engine, bar: Bar) -> None:
        self._engine, self._bar = engine, bar

    @property
    def slots(self) -> int:
        return self._engine.slots

    def submit(self, task: Task) -> Future[str | None]:
        future = self._engine.submit(task)
        future.add_done_callback(lambda _: self._bar.tick())
        return future

    def progress(self) -> Iterator[tuple[str, float]]:
        return self._engine.progress()

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *raised: object) -> None:
        pass  # what raised goes on to the one who leaves it


class Schedule:
    """A grid's runs, and the notebooks that show them, for `run_tasks`: a notebook needs its runs and nothing else.

    Notebooks that need no runs come first, then in their order.
    """

    def __init__(
        self, grid: Grid, manifest: Manifest, preset: str, force: bool, bar: Bar, names: frozenset[str]
    ) -> None:
        self.grid, self.manifest, self.preset, self.force, self.bar = grid, manifest, preset, force, bar
        self.names = names  # of all notebooks
        self.failures: dict[str, str] = {}  # by notebook, in one line
        self.current: list[str] = []  # the notebooks that were up to date
        self._books: dict[str, Book] = {}
        self._inputs: dict[str, str] = {}
        self._begun: dict[str, float] = {}
        self._expected = {name: expected_drawing(preset, name) for name in names}  # seconds

    def work_off(self, books: Sequence[Book], engine: Engine, trainings: Sequence[Task] = ()) -> None:
        """Does the trainings, and draws what of the notebooks is not up to date."""
        self._books |= {book.name: book for book in books}
        training = {task.key for task in trainings}
        drawings = [task for task in map(self.drawing, books) if task.needs & training or self.skip(task) is None]
        tasks = [*trainings, *drawings]
        if not tasks:
            return
        runs = f"training {len(self.grid.missing)} runs" if trainings else ""
        drawn = f"drawing {len(drawings)} notebooks" if drawings else ""
        bar = self.bar.show(sum(map(self.cost, tasks)), ", ".join(filter(None, (runs, drawn))))
        order = {task.key: (number if task.needs else -1) for number, task in enumerate(drawings)}
        last = len(drawings)
        run_tasks(tasks, engine, self.cost, self.ended, self.skip, bar, lambda task: order.get(task.key, last))

    def drawing(self, book: Book) -> Task:
        out = self.manifest.out
        scratch, executed = out / f"{DRAFT}{book.name}", out / "executed" / book.path.name
        data = {run.data.asked: run.data.fingerprint for run in book.runs}
        told = {EXPECTED_DATA: json.dumps(data)}
        about = Drawing(book.path, executed, scratch, book.parameters, told, self.names)
        return Task(f"notebook {book.name}", book.name, execute, about, frozenset(run.hash for run in book.runs))

    def cost(self, task: Task) -> float:
        """Predicts seconds; a notebook's are those that it took last, in tens, as less than that is chance."""
        if not isinstance(task.about, Drawing):
            return self.grid.cost(task)
        return 10 * math.ceil(self._expected[task.title] / 10)

    def skip(self, task: Task) -> str | None:
        """Leaves out a notebook that is up to date."""
        if not isinstance(task.about, Drawing):
            return self.grid.skip(task)
        book = self._books[task.title]
        self._note_inputs(book)
        self._begun[book.name] = time.monotonic()
        if self.force or not self.manifest.is_current(book.name, self._inputs[book.name]):
            return None
        self.current.append(book.name)
        return UP_TO_DATE

    def ended(self, task: Task, reason: str | None) -> None:
        """Moves a notebook's pictures to their place."""
        if not isinstance(task.about, Drawing):
            self.grid.ended(task, reason)
        elif reason is None:
            self._keep(self._books[task.title], task.about.scratch)
        elif reason != UP_TO_DATE:
            self.failures[task.title] = f"{task.title}: {reason}"

    def failure(self, name: str) -> str | None:
        """Says why a notebook could not be drawn, or how many of its runs did not finish; one that diverged did."""
        runs = self._books[name].runs if name in self._books else ()
        lost = len(self._lost(runs))
        return self.failures.get(name, f"{name}: {lost} of its {len(runs)} runs did not finish" if lost else None)

    def _lost(self, runs: Sequence[Run]) -> list[Run]:
        outcomes = self.grid.results
        return [run for run in runs if isinstance(failed := outcomes.get(run), Failure) and failed.step is None]

    def _note_inputs(self, book: Book) -> None:
        self._inputs[book.name] = fingerprint(book.path, book.parameters, [self.grid.results[r] for r in book.runs])

    def _keep(self, book: Book, scratch: Path) -> None:
        found = {run: outcome for run in self._lost(book.runs) if (outcome := lookup(run)) is not None}
        if found:  # the notebook has trained what it missed
            self.grid.results |= found
            self._note_inputs(book)
        entry = entry_of(self._inputs[book.name], book.parameters, book.runs, self.grid.results)
        pictures = ", ".join(path.name for path in sorted(scratch.glob("*.png")))
        if pictures:
            bars.Bar.write(f"{book.name}: {pictures}")
        self.manifest.take(book.name, entry, scratch)
        note_drawing(self.preset, book.name, time.monotonic() - self._begun[book.name])
