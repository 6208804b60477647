"""Regenerates figures without a browser: papermill executes the notebooks in order, the manifest says what each drew.

The chosen notebooks and the runs they show are tasks of one schedule with one progress bar: a notebook begins when its
runs are there and a slot is free, whatever else is still being trained or drawn. Each draws into a folder of its own,
and only when it has succeeded do its pictures replace the old ones: all of them, or, if that is interrupted, the rest
of them when figures are next made.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import papermill
from tqdm.auto import tqdm

from kit.data import ROLES, SOURCES, real_folder
from kit.engines import BorrowedEngine, Engine, LocalProcesses, Task, default_jobs
from kit.errors import KitError, not_one_of
from kit.execution import Drawing, execute
from kit.grid import BAR, Grid, run_tasks
from kit.pace import expected_drawing, note_drawing
from kit.paper import figure2, table1, table2, table3, table4
from kit.paper.plan import Plan, Row, runs_of
from kit.runs import PACKAGES, Failure, Result, Run, cache_folder, locked
from kit.sealed import flush, sha256, write, writing_to

# In the folder of pictures: where a notebook draws; what has been drawn in full; and there, what the manifest will say.
DRAFT, READY, ENTRY = ".drawing-", ".ready-", ".entry.json"

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
DRAWING = ("matplotlib", "pandas", "scipy", "sympy")
UP_TO_DATE = "its pictures are what they would be"


def _is_count(value: object) -> bool:
    return value is None or (type(value) is int and value >= 1)


ALLOWED = {
    "preset": (lambda value: isinstance(value, str), "a preset's name"),
    "seeds": (_is_count, "a whole number from 1 up, or null"),
    "role_data": (lambda value: isinstance(value, dict), 'such as {"cifar-10": "real"}'),
    "data": (lambda value: value is None or isinstance(value, str), "a folder, or null"),
    "jobs": (_is_count, "a whole number from 1 up, or null"),
}


@dataclass(frozen=True)
class Request:
    """What was asked for, by the names that the notebooks' parameters have."""

    preset: str
    seeds: int | None
    role_data: Mapping[str, str]
    data: str | None
    jobs: int | None
    extra: Mapping[str, Any]

    def settled(self) -> Request:
        """The request with what `extra` sets anew in place, so that training and notebooks mean the same. KitError."""
        own = {name: self.extra[name] for name in ALLOWED if name in self.extra}
        for name, value in own.items():
            is_allowed, allowed = ALLOWED[name]
            if not is_allowed(value):
                raise KitError(f"notebook parameter {name} {value!r} is not allowed; allowed: {allowed}")
        for role, source in dict(own.get("role_data", {})).items():
            if role not in ROLES:
                raise not_one_of("role", role, ROLES)
            if source not in SOURCES:
                raise not_one_of(f"source of {role}", source, SOURCES)
        return replace(self, **own, extra={name: self.extra[name] for name in self.extra if name not in own})

    @property
    def plan(self) -> Plan:
        return Plan.of(self.preset, self.role_data, self.data)

    def parameters(self) -> dict[str, Any]:
        own = {
            "preset": self.preset,
            "seeds": self.seeds,
            "role_data": dict(self.role_data),
            "data": self.data,
            "jobs": self.jobs,
        }
        return own | dict(self.extra)


# The runs that a notebook asks for, as far as they are known, so that they can be trained together beforehand.
def _start_here(plan: Plan, seeds: int | None) -> list[Row]:
    return [table3.first_run(plan)]


def _rows(module: ModuleType) -> Callable[[Plan, int | None], list[Row]]:
    """All rows of a table's or a figure's module."""
    return lambda plan, seeds: module.table(plan, seeds or module.seeds(plan))


def _curves(plan: Plan, seeds: int | None) -> list[Row]:
    return _rows(table2)(plan, seeds) + table3.rates(plan)


def _table4(plan: Plan, seeds: int | None) -> list[Row]:
    return table4.known(plan, seeds or table4.seeds(plan))


def _table4_searched(plan: Plan, seeds: int | None, engine: Engine) -> Mapping[Run, Result | Failure]:
    return table4.compare(plan, seeds or table4.seeds(plan), engine).outcomes


NEEDS = {
    "00_start_here": _start_here,
    "02_temperature_curves": _curves,
    "03_table1_teachers": _rows(table1),
    "04_table2_adaptive": _rows(table2),
    "05_table3_small_teacher": _rows(table3),
    "06_table4_methods": _table4,
    "07_gradcam": _rows(figure2),
}
# What is only known once those have been trained; a notebook's name, and what trains the rest.
FOLLOWING = {"06_table4_methods": _table4_searched}


def notebooks() -> dict[str, Path]:
    """The notebooks by name, in order."""
    return {path.stem: path for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))}


def chosen(names: Sequence[str]) -> dict[str, Path]:
    """The named notebooks (a name, its number, or its file), in order; all of them when none is named."""
    known = notebooks()
    if not names:
        return known
    wanted = set()
    for name in names:
        stem = Path(name).stem
        matching = [other for other in known if stem in (other, other.split("_")[0])]
        if not matching:
            raise not_one_of("notebook", name, known)
        wanted.update(matching)
    return {name: path for name, path in known.items() if name in wanted}


def parameters_of(notebook: Path) -> set[str]:
    """The names in a notebook's cell tagged `parameters`."""
    return set(papermill.inspect_notebook(str(notebook)))


def make(
    names: Sequence[str], request: Request, out: Path, force: bool = False, engine: Engine | None = None
) -> list[str]:
    """Executes the notebooks into `out`; gives one line for each that failed.

    A notebook is skipped when its text, its parameters, its runs and the kit are what they were and its pictures are
    unaltered. Runs are trained on the engine, where there is one. Raises KitError for unknown notebooks and
    parameters before anything runs.
    """
    extra, request = request.extra, request.settled()
    real_folder(request.data)
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
        schedule = Schedule(grid, manifest, request.preset, force)
        with engine or LocalProcesses(request.jobs or default_jobs()) as entered:
            schedule.work_off([book for book in books if book.name not in FOLLOWING], entered, grid.tasks)
            later = []
            for book in books:
                if book.name in FOLLOWING:
                    try:
                        further = FOLLOWING[book.name](plan, request.seeds, BorrowedEngine(entered))
                    except KitError as error:  # the other notebooks do not depend on it
                        schedule.failures[book.name] = f"{book.name}: {error}"
                        continue
                    grid.results |= further
                    later.append(replace(book, runs=tuple(dict.fromkeys([*book.runs, *further]))))
            schedule.work_off(later, entered)
    return [schedule.failures[book.name] for book in books if book.name in schedule.failures]


@contextmanager
def _alone_in(out: Path) -> Iterator[None]:
    """Waits for others that draw into the same folder, and clears away what was begun: by killed ones, and here."""
    with locked(cache_folder() / "figures" / hashlib.sha256(str(out).encode()).hexdigest()[:16]):
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
    """A notebook to draw: what it is told, and the runs that it shows."""

    path: Path
    parameters: Mapping[str, Any]
    runs: tuple[Run, ...]

    @property
    def name(self) -> str:
        return self.path.stem


class Schedule:
    """A grid's runs, and the notebooks that show them, for `run_tasks`: a notebook needs its runs and nothing else."""

    def __init__(self, grid: Grid, manifest: Manifest, preset: str, force: bool) -> None:
        self.grid, self.manifest, self.preset, self.force = grid, manifest, preset, force
        self.failures: dict[str, str] = {}  # by notebook, in one line
        self._books: dict[str, Book] = {}
        self._inputs: dict[str, str] = {}
        self._begun: dict[str, float] = {}
        self._expected = expected_drawing(cache_folder(), preset)

    def work_off(self, books: Sequence[Book], engine: Engine, trainings: Sequence[Task] = ()) -> None:
        """Does the trainings, and draws what of the notebooks is not up to date."""
        self._books |= {book.name: book for book in books}
        training = {task.key for task in trainings}
        drawings = [task for task in map(self._drawing, books) if task.needs & training or self.skip(task) is None]
        tasks = [*trainings, *drawings]
        if not tasks:
            return
        runs = f"training {len(self.grid.missing)} runs" if trainings else ""
        drawn = f"drawing {len(drawings)} notebooks" if drawings else ""
        total, desc = sum(map(self.cost, tasks)), ", ".join(filter(None, (runs, drawn)))
        with tqdm(total=total, desc=desc, bar_format=BAR) as bar:
            run_tasks(tasks, engine, self.cost, self.ended, self.skip, bar)

    def _drawing(self, book: Book) -> Task:
        out = self.manifest.out
        scratch, executed = out / f"{DRAFT}{book.name}", out / "executed" / book.path.name
        about = Drawing(book.path, executed, scratch, book.parameters)
        return Task(f"notebook {book.name}", book.name, execute, about, frozenset(run.hash for run in book.runs))

    def cost(self, task: Task) -> float:
        """Expected seconds; a notebook's are those that it took last, in tens: less than that is chance."""
        if not isinstance(task.about, Drawing):
            return self.grid.cost(task)
        return 10 * math.ceil(self._expected(task.title) / 10)

    def skip(self, task: Task) -> str | None:
        """A notebook that is up to date need not be drawn; its runs have ended."""
        if not isinstance(task.about, Drawing):
            return self.grid.skip(task)
        book = self._books[task.title]
        self._inputs[book.name] = _fingerprint(book.path, book.parameters, [self.grid.results[r] for r in book.runs])
        self._begun[book.name] = time.monotonic()
        current = not self.force and self.manifest.is_current(book.name, self._inputs[book.name])
        return UP_TO_DATE if current else None

    def ended(self, task: Task, reason: str | None) -> None:
        """A notebook's pictures are put in their place."""
        if not isinstance(task.about, Drawing):
            self.grid.ended(task, reason)
        elif reason is None:
            self._keep(self._books[task.title], task.about.scratch)
        elif reason != UP_TO_DATE:
            self.failures[task.title] = reason

    def _keep(self, book: Book, scratch: Path) -> None:
        drawn = sorted(scratch.iterdir())
        entry = _entry(self._inputs[book.name], book.parameters, book.runs, self.grid.results)
        artefacts = {file.name: {"notebook": book.name, "sha256": sha256(file)} for file in drawn}
        with writing_to(self.manifest.out):
            write(scratch / ENTRY, json.dumps({"notebook": book.name, "entry": entry, "artefacts": artefacts}))
            for file in (*drawn, scratch):
                flush(file)
            scratch.rename(self.manifest.out / f"{READY}{book.name}")
            self.manifest.take_all()
        note_drawing(cache_folder(), self.preset, book.name, time.monotonic() - self._begun[book.name])


def _entry(
    inputs: str, parameters: Mapping[str, Any], runs: Sequence[Run], results: Mapping[Run, Result | Failure]
) -> dict[str, Any]:
    """What the manifest says of a notebook."""
    data = {run.data.role: run.data for run in runs}
    return {
        "inputs": inputs,
        "parameters": dict(parameters),
        "runs": {run.hash: run.title for run in runs},
        "failed": {run.hash: results[run].reason for run in runs if isinstance(results[run], Failure)},
        "data": {role: spec.model_dump(include={"name", "source", "fingerprint"}) for role, spec in data.items()},
        "versions": {name: version(name) for name in (*PACKAGES, *DRAWING)},
    }


def _fingerprint(path: Path, parameters: Mapping[str, Any], outcomes: Sequence[Result | Failure]) -> str:
    """Of all that a notebook's pictures follow from: its text, the kit's code, the parameters, the runs' results.

    Results, not only descriptions: the same run trained on another machine has other seconds, and perhaps other digits.
    """
    digest = hashlib.sha256()
    for source in [path, *sorted((ROOT / "kit").rglob("*.py"))]:
        digest.update(source.read_bytes())
    ended = [[each.run.hash, each.seal if isinstance(each, Result) else each.reason] for each in outcomes]
    digest.update(json.dumps([dict(parameters), ended], sort_keys=True, default=str).encode())
    return digest.hexdigest()


def _is_listing(content: object) -> bool:
    """Whether this is what a manifest holds, as far as it is used; artefacts have plain names, so they stay inside."""
    if not isinstance(content, dict) or not all(isinstance(content.get(p), dict) for p in ("notebooks", "artefacts")):
        return False
    entries, artefacts = content["notebooks"].values(), content["artefacts"].items()
    return all(isinstance(entry, dict) and isinstance(entry.get("inputs"), str) for entry in entries) and all(
        name not in ("", ".", "..")
        and not set(name) & set("/\\\0")
        and isinstance(about, dict)
        and all(isinstance(about.get(key), str) for key in ("notebook", "sha256"))
        for name, about in artefacts
    )


class Manifest:
    """`manifest.json`: for each notebook what went in, for each artefact its notebook and sha256."""

    def __init__(self, out: Path) -> None:
        self.out, self.path = out, out / "manifest.json"
        try:
            self.content = json.loads(self.path.read_text())
        except FileNotFoundError:
            self.content = {"notebooks": {}, "artefacts": {}}
        except (ValueError, RecursionError) as error:
            raise KitError(
                f"{self.path} is not readable as JSON ({error}); remove it to draw everything anew"
            ) from None
        if not _is_listing(self.content):
            raise KitError(f"{self.path} does not list notebooks and artefacts; remove it to draw everything anew")

    def is_current(self, notebook: str, inputs: str) -> bool:
        entry = self.content["notebooks"].get(notebook)
        artefacts = {name: a for name, a in self.content["artefacts"].items() if a["notebook"] == notebook}
        return bool(
            entry
            and entry["inputs"] == inputs
            and all(
                (self.out / name).is_file() and sha256(self.out / name) == a["sha256"] for name, a in artefacts.items()
            )
        )

    def take_all(self) -> None:
        """Moves what notebooks have drawn to its place and enters it; also what an interrupted process had ready."""
        for ready in sorted(self.out.glob(f"{READY}*")):
            said = json.loads((ready / ENTRY).read_text())
            notebook, artefacts = said["notebook"], said["artefacts"]
            if not _is_listing({"notebooks": {notebook: said["entry"]}, "artefacts": artefacts}):
                raise KitError(f"{ready / ENTRY} does not list what is beside it; remove {ready} to draw it anew")
            for name in artefacts:
                if (ready / name).exists():  # else it was moved before the interruption
                    os.replace(ready / name, self.out / name)
            kept = {name: entry for name, entry in self.content["artefacts"].items() if entry["notebook"] != notebook}
            self.content["artefacts"] = dict(sorted({**kept, **artefacts}.items()))
            self.content["notebooks"] = dict(sorted({**self.content["notebooks"], notebook: said["entry"]}.items()))
            draft = self.path.with_suffix(".draft")
            write(draft, json.dumps(self.content, indent=1, sort_keys=True) + "\n")
            os.replace(draft, self.path)
            shutil.rmtree(ready)
