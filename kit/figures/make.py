"""Regenerates figures without a browser: papermill executes the notebooks in order, the manifest says what each drew.

The chosen notebooks and the runs they show are tasks of one schedule with one progress bar: a notebook begins when its
runs are there and a slot is free, whatever else is still being trained or drawn. Each draws into a folder of its own,
and only when it has succeeded do its pictures replace the old ones; if that is interrupted, it is drawn anew when
figures are next made.
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
from kit.figures.needs import FOLLOWING, FORESEEN, NEEDS, Request, chosen, expected_drawing, note_drawing, parameters_of
from kit.files import locked
from kit.grid.engines import Engine, Task, engine_for
from kit.grid.schedule import run_tasks
from kit.grid.training import Grid
from kit.paper.plan import runs_of
from kit.runs.spec import EXPECTED_DATA, Run
from kit.runs.store import Failure, lookup
from kit.runtime.bars import Bar

DRAFT = ".drawing-"  # begins the name of the folder that a notebook draws into
UP_TO_DATE = "its pictures are up to date"
NOT_YET = 1e-6  # seconds: a bar is not shown when it begins, but when it is told to be


def make(
    names: Sequence[str],
    request: Request,
    out: Path,
    force: bool = False,
    engine: Engine | None = None,
    own: Mapping[str, Sequence[Run]] = {},
) -> list[str]:
    """Executes the notebooks into `out`; returns one line for each that failed, or shows a run that did not finish.

    A notebook is skipped when its text, its parameters, its runs and the kit are what they were and its pictures are
    unaltered. Runs are trained on the engine, where there is one; `own` are those of notebooks that `NEEDS` knows
    nothing of. Raises KitError for unknown notebooks and parameters before anything runs.
    """
    extra, request = request.extra, request.settled()
    plan, todo = request.plan, chosen(names)
    accepted = {name: parameters_of(path) - {"out"} for name, path in todo.items()}
    for parameter in extra:
        if not any(parameter in own for own in accepted.values()):
            raise not_one_of("notebook parameter", parameter, sorted(set.union(*accepted.values())))
    with _alone_in(out):
        manifest = Manifest(out)
        books = [
            Book(
                path,
                {key: value for key, value in request.parameters().items() if key in accepted[name]},
                tuple(runs_of(NEEDS[name](plan, request.seeds)) if name in NEEDS else own.get(name, ())),
            )
            for name, path in todo.items()
        ]
        grid = Grid([run for book in books for run in book.runs])
        first = [book for book in books if book.name not in FOLLOWING]
        following = [book for book in books if book.name in FOLLOWING]
        devices = {plan.device, *(run.device for run in grid.missing)}
        with engine_for(engine or request.jobs, devices=devices) as entered, Bar(total=0, delay=NOT_YET) as bar:
            schedule = Schedule(grid, manifest, request.preset, force, entered, bar, frozenset(todo))
            foreseen, then = [], 0.0
            for book in following:
                if grid.tasks or book.name not in manifest.content["notebooks"]:
                    foreseen += map(grid.pace.seconds, FORESEEN[book.name](plan, request.seeds, request.equal_time))
                    then += schedule.cost(schedule.drawing(book))
            schedule.work_off(first, grid.tasks, sum(foreseen) + then)
            watched = Watched(entered, bar, sum(foreseen) / max(1, len(foreseen)))
            later = []
            for book in following:
                try:
                    further = FOLLOWING[book.name](plan, request, watched)
                except KitError as error:  # the other notebooks do not depend on it
                    schedule.failures[book.name] = f"{book.name}: {error}"
                    continue
                grid.results |= further
                later.append(replace(book, runs=tuple(dict.fromkeys([*book.runs, *further]))))
            schedule.work_off(later)
        if picture := draw_claims(manifest, out / f"{DRAFT}claims"):
            print(f"all claims at a glance: {picture}")
        if schedule.current:
            print(f"{', '.join(schedule.current)}: up to date (--force draws again)")
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


class Watched:
    """Passes tasks to an engine that somebody else has entered and will leave, for several grids in turn. None of them
    was known when the bar began: when one ends, that counts as the seconds that `each` was foreseen to take."""

    def __init__(self, engine: Engine, bar: Bar, each: float) -> None:
        self._engine, self._bar, self._each = engine, bar, each

    @property
    def slots(self) -> int:
        return self._engine.slots

    def submit(self, task: Task) -> Future[str | None]:
        future = self._engine.submit(task)
        future.add_done_callback(lambda _: self._bar.update(self._each))
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
        self,
        grid: Grid,
        manifest: Manifest,
        preset: str,
        force: bool,
        engine: Engine,
        bar: Bar,
        names: frozenset[str],  # of all notebooks
    ) -> None:
        self.grid, self.manifest, self.preset, self.force = grid, manifest, preset, force
        self.engine, self.bar, self.names = engine, bar, names
        self.failures: dict[str, str] = {}  # by notebook, in one line
        self.current: list[str] = []  # the notebooks that were up to date
        self._books: dict[str, Book] = {}
        self._inputs: dict[str, str] = {}
        self._begun: dict[str, float] = {}
        self._expected = {name: expected_drawing(preset, name) for name in names}  # seconds

    def work_off(self, books: Sequence[Book], trainings: Sequence[Task] = (), then: float = 0.0) -> None:
        """Does the trainings, and draws what of the notebooks is not up to date; after that are so many seconds more to
        do."""
        self._books |= {book.name: book for book in books}
        training = {task.key for task in trainings}
        drawings = [task for task in map(self.drawing, books) if task.needs & training or self.skip(task) is None]
        tasks = [*trainings, *drawings]
        runs = f"training {len(self.grid.missing)} runs" if trainings else ""
        drawn = f"drawing {len(drawings)} notebooks" if drawings else ""
        self.bar.total = max(self.bar.total, self.bar.n + sum(map(self.cost, tasks)) + then)
        if tasks:
            self.bar.set_description_str(", ".join(filter(None, (runs, drawn))))
        order = {task.key: (number if task.needs else -1) for number, task in enumerate(drawings)}
        last = len(drawings)
        run_tasks(
            tasks, self.engine, self.cost, self.ended, self.skip, self.bar, lambda task: order.get(task.key, last)
        )

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
        shown = {name: value for name, value in book.parameters.items() if name != "jobs"}  # no picture follows from it
        self._inputs[book.name] = fingerprint(book.path, shown, [self.grid.results[run] for run in book.runs])

    def _keep(self, book: Book, scratch: Path) -> None:
        found = {run: outcome for run in self._lost(book.runs) if (outcome := lookup(run)) is not None}
        if found:  # the notebook has trained what it missed
            self.grid.results |= found
            self._note_inputs(book)
        entry = entry_of(self._inputs[book.name], book.parameters, book.runs, self.grid.results)
        pictures = ", ".join(path.name for path in sorted(scratch.glob("*.png")))
        if pictures:
            Bar.write(f"{book.name}: {pictures}")
        self.manifest.take(book.name, entry, scratch)
        note_drawing(self.preset, book.name, time.monotonic() - self._begun[book.name])
