"""What a user gives by words: folders, which are made absolute once; numbers and switches of the environment."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from kit.errors import KitError


def absolute(path: Path | str) -> Path:
    """Expands `~` and makes a path absolute, so that it is the same one wherever it is used. Raises KitError."""
    try:
        return Path(path).expanduser().absolute()
    except (RuntimeError, OSError) as error:  # nobody's home; the working folder was removed
        reason = str(error).rstrip(".")
        raise KitError(f"path {str(path)!r} cannot be made absolute ({reason}); allowed: an absolute path") from None


def folder_from(variable: str) -> Path | None:
    """Returns the folder that an environment variable names, made absolute there, too, so that every process that this
    one starts gets the same one, whatever its working folder. None where it names none."""
    if not os.environ.get(variable):
        return None
    folder = absolute(os.environ[variable])
    os.environ[variable] = str(folder)
    return folder


def number_from(variable: str, default: float, unit: str) -> float:
    """Returns the number that an environment variable is; unset or empty, the default. KitError for what is none from
    0 up."""
    word = os.environ.get(variable) or str(default)
    try:
        number = float(word)
    except ValueError:
        number = -1.0
    if not 0 <= number < math.inf:
        raise KitError(f"{variable} {word!r} is not allowed; allowed: a number of {unit} from 0 up")
    return number


@contextmanager
def variables(given: Mapping[str, str]) -> Iterator[None]:
    """Sets environment variables for the processes that are started inside, and restores them afterwards."""
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in before.items():
            del os.environ[name]
            os.environ |= {} if value is None else {name: value}


def switch(variable: str) -> bool:
    """Returns whether an environment variable is switched on; unset or empty is off. Raises KitError for other
    words."""
    word = os.environ.get(variable) or "0"
    try:
        return TypeAdapter(bool).validate_python(word.strip())
    except ValidationError:
        raise KitError(f"{variable} {word!r} is not allowed; allowed: 1, true, yes, on, 0, false, no, off") from None
