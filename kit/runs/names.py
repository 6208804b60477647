"""Names of classes in a file: by them a classifier of other classes, or in another order, is mapped onto the data's."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from kit.data.tree import spelt
from kit.errors import KitError, few
from kit.networks.view import Outputs
from kit.runtime.environment import absolute


def outputs(file: str | Path, classes: Sequence[str]) -> Outputs:
    """Finds the data's classes among a classifier's, whose names a file has in the order of its outputs.

    A class is found as it is written, else where just one name is spelt alike: case, spaces, hyphens aside. KitError.
    """
    names = names_in(file)
    exact, alike = {name: i for i, name in enumerate(names)}, Counter(map(spelt, names))
    spelling = {spelt(name): i for i, name in enumerate(names) if alike[spelt(name)] == 1}
    found = {name: exact.get(name, spelling.get(spelt(name))) for name in classes}
    if missing := [repr(name) for name, i in found.items() if i is None]:
        raise KitError(
            f"of the data's {len(classes)} classes {few(missing)} are not among the {len(names)} names of "
            f"{str(file)!r}, {few([repr(name) for name in names])}; allowed: a name for every class"
        )
    chosen = Counter(i for i in found.values() if i is not None)
    if twice := [repr(names[i]) for i, count in chosen.items() if count > 1]:
        raise KitError(f"names of {str(file)!r} stand for two of the data's classes: {few(twice)}; allowed: for one")
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()
    return Outputs(count=len(names), names=digest, chosen=tuple(chosen))


def names_in(file: str | Path) -> list[str]:
    """Reads names, one a line. Raises KitError for a file that has none, an empty line, or a name twice."""
    try:
        lines = absolute(file).read_text(encoding="utf-8-sig").rstrip().split("\n")
    except UnicodeDecodeError as error:
        raise _unreadable(file, f"byte {error.start} is not UTF-8") from None
    except OSError as error:
        raise _unreadable(file, error.strerror or str(error)) from None
    known: dict[str, int] = {}
    for number, name in enumerate(map(str.strip, lines), start=1):
        if not name:
            raise _unreadable(file, f"line {number} is empty" if len(lines) > 1 else "it is empty")
        if name in known:
            raise _unreadable(file, f"{name!r} is on lines {known[name]} and {number}")
        known[name] = number
    return list(known)


def _unreadable(file: str | Path, why: str) -> KitError:
    return KitError(f"names of classes {str(file)!r} cannot be read ({why}); allowed: a text file, one name a line")
