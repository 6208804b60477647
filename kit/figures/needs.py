"""What may be asked for: notebooks by name, their parameters, the runs that each shows, how long it takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import papermill
from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt, ValidationError

from kit.beyond import table5, table6
from kit.data.roles import check_sources, real_folder
from kit.errors import KitError, not_one_of, one_line
from kit.files import cache_folder, write_atomically
from kit.grid.engines import Engine
from kit.networks.named import parts
from kit.paper import figure2, table1, table2, table3, table4
from kit.paper.plan import Plan, Row
from kit.runs.spec import Run
from kit.runs.store import Failure, Result
from kit.runtime.environment import absolute

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


def _from_here(name: Any) -> Any:
    """Names a network of a file, or a file of weights, by its absolute path, as a notebook is executed elsewhere."""
    file, function = parts(name) if isinstance(name, str) else ("", "")
    if file.endswith(".py"):
        return f"{absolute(file)}:{function}"
    return str(absolute(function)) if "." in function and Path(function).is_file() else name


def _networks(given: Any, own: Iterable[str]) -> dict[str, Any]:
    """Notebook 09's settings of a training, by name. KitError for what has no names, and for parameters' own names."""
    if not isinstance(given, dict):
        raise KitError(
            f'notebook parameter networks {given!r} is not allowed; allowed: a JSON object, {{"student": "cnn"}}'
        )
    for name in own:
        if name in given:
            raise KitError(f"notebook parameter networks has {name!r}; allowed: -p {name}=… beside it")
    return {part: _from_here(name) for part, name in given.items()}


class Request(BaseModel):
    """A request for figures: the notebooks' parameters, by their names. ValidationError for what is not allowed."""

    model_config = ConfigDict(frozen=True, strict=True)

    preset: str
    seeds: PositiveInt | None = None
    role_data: dict[str, str] = {}
    data: str | None = None
    jobs: PositiveInt | None = None
    first_seed: NonNegativeInt = 0
    one_teacher: bool = False
    equal_time: bool = False  # of notebook 06
    extra: dict[str, Any] = {}

    def settled(self) -> Request:
        """Returns the request with what `extra` sets, so that training and notebooks use the same values. KitError."""
        own = self.model_dump(exclude={"extra"})
        other = {name: value for name, value in self.extra.items() if name not in own}
        if "networks" in other:
            other["networks"] = _networks(other["networks"], own)
        try:
            settled = Request(**{name: self.extra.get(name, own[name]) for name in own}, extra=other)
        except ValidationError as error:
            raise KitError(f"notebook parameter {one_line(error)}") from None
        check_sources(settled.role_data)
        if settled.data is None:
            return settled
        return settled.model_copy(update={"data": str(real_folder(settled.data))})  # a notebook is elsewhere

    @property
    def plan(self) -> Plan:
        return Plan.of(self.preset, self.role_data, self.data, self.first_seed, self.one_teacher)

    def parameters(self) -> dict[str, Any]:
        return self.model_dump(exclude={"extra"}) | self.extra


def _rows(table: Callable[[Plan, int], list[Row]]) -> Callable[[Plan, int | None], list[Row]]:
    """Returns all rows of a table or a figure."""
    return lambda plan, seeds: table(plan, seeds or plan.preset.seeds)


def _table4_searched(plan: Plan, request: Request, engine: Engine) -> Mapping[Run, Result | Failure]:
    how = {"show_progress": False, "equal_time": request.equal_time}
    return table4.compare(plan, request.seeds or plan.preset.seeds, engine, **how).outcomes


# The runs that a notebook asks for, as far as they are known, so that they can be trained together beforehand.
NEEDS: dict[str, Callable[[Plan, int | None], list[Row]]] = {
    "00_start_here": lambda plan, seeds: [table3.first_run(plan)],
    "02_temperature_curves": lambda plan, seeds: _rows(table2.table)(plan, seeds) + table3.rates(plan),
    "03_table1_teachers": _rows(table1.table),
    "04_table2_adaptive": _rows(table2.table),
    "05_table3_small_teacher": _rows(table3.table),
    "06_table4_methods": _rows(table4.known),
    "07_gradcam": _rows(figure2.table),
    "10_siblings": _rows(table5.table),
    "11_many_teachers": _rows(table6.table),
}
# What is only known once those have been trained; a notebook's name, and what trains the rest.
FOLLOWING = {"06_table4_methods": _table4_searched}
FORESEEN = {  # about what that will be
    "06_table4_methods": lambda plan, seeds, equal_time: table4.foreseen(plan, seeds or plan.preset.seeds, equal_time)
}

APART = ("09_your_own",)  # is about its reader's data and networks: drawn only where it is named


def notebooks() -> dict[str, Path]:
    """Lists the notebooks by name, in order. Raises KitError where they have not been installed."""
    if not (found := {path.stem: path for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))}):
        raise KitError(f"there are no notebooks in {NOTEBOOKS}; allowed: a checkout, by 'pip install --editable'")
    return found


def chosen(names: Sequence[str]) -> dict[str, Path]:
    """Chooses the named notebooks (a name, its number, or its file), in order; by default all but `APART`."""
    known = notebooks()
    if not names:
        return {name: path for name, path in known.items() if name not in APART}
    wanted = set()
    for name in names:
        stem = Path(name).stem
        matching = [other for other in known if stem in (other, other.split("_")[0])]
        if not matching:
            raise not_one_of("notebook", name, known)
        wanted.update(matching)
    return {name: path for name, path in known.items() if name in wanted}


def parameters_of(notebook: Path) -> set[str]:
    """Lists the names in a notebook's cell tagged `parameters`."""
    return set(papermill.inspect_notebook(str(notebook)))


# ---- how long a notebook takes to draw, noted in the cache's folder `drawing` ---------------------------------------

# Two cores, preset quick, all runs there.
TYPICAL_DRAWING_S = {
    "00_start_here": 11, "01_derivation": 14, "02_temperature_curves": 8, "03_table1_teachers": 11,
    "04_table2_adaptive": 9, "05_table3_small_teacher": 15, "06_table4_methods": 21, "07_gradcam": 54,
    "08_playground": 8, "10_siblings": 9, "11_many_teachers": 9,
}  # fmt: skip
UNKNOWN_DRAWING_S = 10  # of a notebook that is not one of these


def expected_drawing(preset: str, notebook: str) -> float:
    """Predicts the seconds that a notebook takes to draw: as last time in this cache, or as elsewhere."""
    seen = drawing_seconds(preset, notebook)
    return TYPICAL_DRAWING_S.get(notebook, UNKNOWN_DRAWING_S) if seen is None else seen


def drawing_seconds(preset: str, notebook: str) -> float | None:
    """Reads the seconds that a notebook last took to draw; None where that is not noted in this cache."""
    try:
        seconds = float(_noted(preset, notebook).read_text())
    except (OSError, ValueError):
        return None
    return seconds if 0 <= seconds < math.inf else None


def note_drawing(preset: str, notebook: str, seconds: float) -> None:
    """Writes down how long a notebook took to draw, where the disk takes it; its runs were trained before."""
    place = _noted(preset, notebook)
    with suppress(OSError):  # a cache may be read-only, and this is for estimates alone
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(place, f"{seconds:.2f}\n")


def _noted(preset: str, notebook: str) -> Path:
    return cache_folder() / "drawing" / f"{preset}-{notebook}"
