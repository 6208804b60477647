"""What may be asked for: notebooks by name, their parameters, and the runs that each of them shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import papermill

from kit.beyond import table5, table6
from kit.data.roles import check_sources
from kit.errors import KitError, not_one_of
from kit.grid.engines import Engine
from kit.paper import figure2, table1, table2, table3, table4
from kit.paper.plan import Plan, Row
from kit.runs.spec import Run
from kit.runs.store import Failure, Result

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


def _is_count(value: object) -> bool:
    return value is None or (type(value) is int and value >= 1)


ALLOWED = {
    "preset": (lambda value: isinstance(value, str), "a preset's name"),
    "seeds": (_is_count, "a whole number from 1 up, or null"),
    "first_seed": (lambda value: type(value) is int and value >= 0, "a whole number from 0 up"),
    "one_teacher": (lambda value: isinstance(value, bool), "true or false"),
    "role_data": (lambda value: isinstance(value, dict), 'such as {"cifar-10": "real"}'),
    "data": (lambda value: value is None or isinstance(value, str), "a folder, or null"),
    "jobs": (_is_count, "a whole number from 1 up, or null"),
    "equal_time": (lambda value: isinstance(value, bool), "true or false"),
}


@dataclass(frozen=True)
class Request:
    """A request for figures: the notebooks' parameters, by their names."""

    preset: str
    seeds: int | None
    role_data: Mapping[str, str]
    data: str | None
    jobs: int | None
    extra: Mapping[str, Any]
    first_seed: int = 0
    one_teacher: bool = False
    equal_time: bool = False  # of notebook 06

    def settled(self) -> Request:
        """Returns the request with what `extra` sets, so that training and notebooks use the same values. KitError."""
        own = {name: self.extra[name] for name in ALLOWED if name in self.extra}
        for name, value in own.items():
            is_allowed, allowed = ALLOWED[name]
            if not is_allowed(value):
                raise KitError(f"notebook parameter {name} {value!r} is not allowed; allowed: {allowed}")
        check_sources(own.get("role_data", {}))
        return replace(self, **own, extra={name: self.extra[name] for name in self.extra if name not in own})

    @property
    def plan(self) -> Plan:
        return Plan.of(self.preset, self.role_data, self.data, self.first_seed, self.one_teacher)

    def parameters(self) -> dict[str, Any]:
        own = {
            "preset": self.preset,
            "seeds": self.seeds,
            "role_data": dict(self.role_data),
            "data": self.data,
            "jobs": self.jobs,
            "first_seed": self.first_seed,
            "one_teacher": self.one_teacher,
            "equal_time": self.equal_time,
        }
        return own | dict(self.extra)


# The runs that a notebook asks for, as far as they are known, so that they can be trained together beforehand.
def _start_here(plan: Plan, seeds: int | None) -> list[Row]:
    return [table3.first_run(plan)]


def _rows(module: ModuleType) -> Callable[[Plan, int | None], list[Row]]:
    """Returns all rows of a table's or a figure's module."""
    return lambda plan, seeds: module.table(plan, seeds or module.seeds(plan))


def _curves(plan: Plan, seeds: int | None) -> list[Row]:
    return _rows(table2)(plan, seeds) + table3.rates(plan)


def _table4(plan: Plan, seeds: int | None) -> list[Row]:
    return table4.known(plan, seeds or table4.seeds(plan))


def _table4_searched(plan: Plan, request: Request, engine: Engine) -> Mapping[Run, Result | Failure]:
    how = {"show_progress": False, "equal_time": request.equal_time}
    return table4.compare(plan, request.seeds or table4.seeds(plan), engine, **how).outcomes


def _table4_foreseen(plan: Plan, seeds: int | None, equal_time: bool = False) -> list[Run]:
    return table4.foreseen(plan, seeds or table4.seeds(plan), equal_time)


NEEDS = {
    "00_start_here": _start_here,
    "02_temperature_curves": _curves,
    "03_table1_teachers": _rows(table1),
    "04_table2_adaptive": _rows(table2),
    "05_table3_small_teacher": _rows(table3),
    "06_table4_methods": _table4,
    "07_gradcam": _rows(figure2),
    "10_siblings": _rows(table5),
    "11_many_teachers": _rows(table6),
}
# What is only known once those have been trained; a notebook's name, and what trains the rest.
FOLLOWING = {"06_table4_methods": _table4_searched}
FORESEEN = {"06_table4_methods": _table4_foreseen}  # about what that will be

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
