"""Options that several commands share, and how words of a command line are parsed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from kit.errors import KitError, one_of
from kit.runtime.environment import absolute

if TYPE_CHECKING:
    from kit.grid.engines import Engine


def at_least_one(option: typer.CallbackParam, value: int | None) -> int | None:
    if value is not None and value < 1:
        raise KitError(f"--{option.name} {value} is not allowed; allowed: a whole number from 1 up")
    return value


def check_role(role: str) -> str:
    from kit.data.roles import EVERY

    return one_of("role", role, EVERY)


def at_home(path: Path | None) -> Path | None:
    """Expands a `~` that the shell has left, as in `--out=~/figures`."""
    return absolute(path) if path is not None and str(path).startswith("~") else path


def path(help: str, name: str | None = None, metavar: str | None = None) -> Any:
    """An option that is a path; it may begin with `~`."""
    return typer.Option(*filter(None, [name]), callback=at_home, help=help, metavar=metavar)


def refuse_damage(strict: bool) -> bool:
    """Sets KIT_STRICT, which loaders read in this process and in workers."""
    if strict:
        os.environ["KIT_STRICT"] = "1"
    return strict


Preset = Annotated[str, typer.Option(help="smoke, quick or paper")]
Data = Annotated[Path | None, path("folder with real images (else KIT_DATA, else stand-ins)", name="--data")]
RoleData = Annotated[
    list[str] | None, typer.Option("--role-data", metavar="ROLE=auto|embedded|real", help="what fills a role")
]
Role = Annotated[str, typer.Argument(callback=check_role)]
Jobs = Annotated[
    int | None,
    typer.Option(callback=at_least_one, help="runs side by side; default: as cores and memory allow, on a GPU 1"),
]
Scheduler = Annotated[
    str | None,
    typer.Option(metavar="tcp://HOST:PORT", help="train on a Dask cluster's workers; 'local': one on this machine"),
]
Seeds = Annotated[int | None, typer.Option(callback=at_least_one, help="how many seeds; default: the preset's")]
Level = Annotated[str | None, typer.Option(help="of hrsc2016's labels: ship, category or type")]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict", callback=refuse_damage, help="refuse damaged images among those used, instead of leaving them out"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="end with one line of JSON")]


def pairs(words: list[str] | None, what: str) -> dict[str, str]:
    """Parses `NAME=VALUE` words into a dictionary."""
    for word in words or []:
        if "=" not in word:
            raise KitError(f"{what} {word!r} is not of the form NAME=VALUE")
    return dict(word.split("=", 1) for word in words or [])


def literal(name: str, text: str) -> Any:
    """Parses a parameter's value: JSON where it is JSON (3, 0.5, true, null, "x", [1, 2]), else the text itself. Raises
    KitError for what only begins as an object or a list does."""
    try:
        return json.loads(text)
    except ValueError as error:
        if text.lstrip()[:1] in ("{", "["):
            raise KitError(
                f'parameter {name!r} {text!r} is not JSON ({error}); allowed: JSON, as in \'{{"student": "cnn"}}\''
            ) from None
        return text


def sources(words: list[str] | None) -> dict[str, str]:
    """Parses `ROLE=SOURCE` words: what fills which role."""
    from kit.data.roles import check_sources

    return check_sources(pairs(words, "role data"))


def engine_at(scheduler: str | None, jobs: int | None) -> Engine | None:
    """Returns the Dask cluster of a scheduler, of whose workers at most `jobs` are used; without one, None."""
    if scheduler is None:
        return None
    from kit.grid.dask import DaskCluster

    return DaskCluster(scheduler, jobs)


def of(model: type[BaseModel]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command an option for each field of `model` instead of its first parameter, which gets them together.

    Names, defaults and help are the fields' own; words are checked when the model is made of them.
    """

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def run(**given: Any) -> None:
            command(model(**{name: given.pop(name) for name in model.model_fields}), **given)

        _, *own = signature(command, eval_str=True).parameters.values()
        options = [_option(name, field) for name, field in model.model_fields.items()]
        options += [each.replace(kind=Parameter.KEYWORD_ONLY) for each in own]
        run.__annotations__ = {each.name: each.annotation for each in options}
        vars(run)["__signature__"] = Signature(options)
        return run

    return decorated


def _option(name: str, field: FieldInfo) -> Parameter:
    default = typer.Option(... if field.is_required() else field.default, help=field.description)
    kind = field.annotation if field.annotation in PLAIN else str
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=kind)


PLAIN = (str, bool, int, float, str | None, int | None, float | None)  # what a word of a command line can be made into
