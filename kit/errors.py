"""The one error a user sees, and data that are checked where they are made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

T = TypeVar("T")


class KitError(ValueError):
    """Wrong input. The command line prints its one line and exits with status 2."""


class Described(BaseModel):
    """Frozen data of a description: validated when made, without fields of other names, NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def not_one_of(what: str, value: object, allowed: Iterable[object]) -> KitError:
    """`model 'vgg17' is not known; allowed: cnn, vgg16, …` as an error to raise."""
    return KitError(f"{what} {value!r} is not known; allowed: {', '.join(map(str, allowed))}")


def one_of(what: str, value: T, allowed: Iterable[object]) -> T:
    """Returns the value. Raises KitError where it is none of those allowed."""
    if value not in (known := tuple(allowed)):
        raise not_one_of(what, value, known)
    return value


def few(names: Sequence[str], most: int = 3) -> str:
    """Names the first few of many, and counts the rest: `a, b, c and 4 more`."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def said(error: BaseException) -> str:
    """Describes any error in one line: its kind, and the first line of what it says; a KitError by its own line."""
    if isinstance(error, KitError):
        return str(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}{': ' + lines[0] if lines else ''}"


def one_line(error: ValidationError) -> str:
    """The first complaint of a pydantic error as `field: value is not allowed (why)`; of a whole description the why
    alone, which names what is wrong in it."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    if isinstance(first["input"], Mapping | BaseModel):
        why = first["msg"].removeprefix("Value error, ")
        return f"{field}: {why}" if field else why
    return f"{field or error.title}: {first['input']!r} is not allowed ({first['msg']})"
