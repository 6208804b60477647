"""The one error a user sees: a single line that names the thing, its value and what is allowed."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import ValidationError


class KitError(ValueError):
    """Wrong input. The command line prints its one line and exits with status 2."""


def not_one_of(what: str, value: object, allowed: Iterable[object]) -> KitError:
    """`model 'vgg17' is not known; allowed: cnn, vgg16, …` as an error to raise."""
    return KitError(f"{what} {value!r} is not known; allowed: {', '.join(map(str, allowed))}")


def one_line(error: ValidationError) -> str:
    """The first complaint of a pydantic error as `field: value is not allowed (why)`."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or error.title
    return f"{field}: {first['input']!r} is not allowed ({first['msg']})"
