"""Temperatures and losses are described by their fields, and those of one's own by their code, too.

A description by fields alone would stay the same when the code of a class changes, and a run in the cache be taken for
one that it is not.
"""

from __future__ import annotations

import dis
import hashlib
from collections.abc import Iterator, Sequence
from functools import cache, partial
from types import CodeType, FunctionType
from typing import Any

from pydantic import SerializerFunctionWrapHandler, model_serializer

from kit.errors import Described

OF_OTHERS = ("kit", "pydantic", "builtins", "abc", "typing")  # packages whose classes are not of one's own
SCALARS = (bool, int, float, str, bytes, type(None))


class Kind(Described):
    """A policy or an objective: data with behaviour. `kind` names it in descriptions, where its `code` stands if it is
    not the kit's."""

    kind: str

    @model_serializer(mode="wrap")
    def _with_code(self, fields: SerializerFunctionWrapHandler) -> dict[str, Any]:
        code = code_of(type(self))
        return fields(self) | ({"code": code} if code else {})


@cache
def code_of(kind: type) -> str | None:
    """Hashes what a class does, with the functions, classes and constants of its module that it names; None where it is
    the kit's. What is imported from elsewhere is the user's to keep."""
    own = [base for base in kind.__mro__ if base.__module__.partition(".")[0] not in OF_OTHERS]
    lines = [line for base in own for line in _told(base, base.__module__, {})]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] if own else None


def _told(value: object, module: str, seen: dict[int, object]) -> Iterator[str]:
    """Says a value, in every process the same: a constant by what it holds; a function or a class of this module by
    what it does, as bytecode has it, without comments and places. All else is left out."""
    if isinstance(value, partial):
        value = (value.func, value.args, value.keywords)
    for inner in ("fget", "func", "__func__"):  # of a property, a cached one, a method without self
        value = getattr(value, inner, value)
    if isinstance(value, SCALARS):
        yield repr(value)
    elif isinstance(value, list | tuple | dict):
        for each in value.items() if isinstance(value, dict) else value:
            yield from _told(each, module, seen)
    elif isinstance(value, set | frozenset):
        yield from sorted(line for each in value for line in _told(each, module, seen))
    elif isinstance(value, CodeType):
        yield f"{value.co_code.hex()} {value.co_names} {value.co_varnames}"
        yield from _told(value.co_consts, module, seen)
    elif hasattr(value, "tolist") and not isinstance(value, type):  # numbers; but weights that learn are drawn anew
        yield "" if getattr(value, "requires_grad", False) else repr(value.tolist())
    elif id(value) not in seen:
        seen[id(value)] = value
        yield from _told(_parts(value, module), module, seen)


def _parts(value: object, module: str) -> Sequence[object]:
    """What a function, a class, or an object of one consists of; and what a decorator hides."""
    hidden = getattr(value, "__wrapped__", None)
    if isinstance(value, FunctionType) and value.__module__ == module:
        held = [cell.cell_contents for cell in value.__closure__ or ()]  # of the function that it was made in
        named = [value.__globals__.get(name) for name in sorted(_globals_of(value.__code__))]
        return [value.__code__, value.__defaults__, value.__kwdefaults__, held, named, hidden]
    if isinstance(value, type) and value.__module__ == module:
        private = {name: each.default for name, each in getattr(value, "__private_attributes__", {}).items()}
        members = {name: each for name, each in vars(value).items() if name[:2] != "__" or callable(each)}
        return sorted((members | private).items())
    if type(value).__module__ == module:
        return [type(value), vars(value)]
    return [hidden, repr(value) if isinstance(value, Described) else None]


def _globals_of(code: CodeType) -> set[str]:
    inner = (_globals_of(each) for each in code.co_consts if isinstance(each, CodeType))
    return {each.argval for each in dis.get_instructions(code) if each.opname == "LOAD_GLOBAL"}.union(*inner)
