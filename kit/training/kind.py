"""Temperatures and losses are described by their fields, and those of one's own by their code, too.

A description by fields alone would stay the same when the code of a class changes, and a run in the cache be taken for
one that it is not.
"""

from __future__ import annotations

import dis
import hashlib
from collections.abc import Iterator
from functools import cache
from types import CodeType, FunctionType
from typing import Any

from pydantic import SerializerFunctionWrapHandler, model_serializer

from kit.errors import Described

OF_OTHERS = ("kit", "pydantic", "builtins", "abc", "typing")  # packages whose classes are not of one's own
PLAIN = (bool, int, float, str, bytes, tuple, list, dict, set, frozenset)


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
    """Hashes what the functions of a class do, and its constants, with the functions and constants of their module that
    they name; None where all of them are the kit's. What is imported from elsewhere is the user's to keep."""
    own = [base for base in kind.__mro__ if base.__module__.partition(".")[0] not in OF_OTHERS]
    lines = [line for base in own for name, value in vars(base).items() for line in _told(name, value, base, set())]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16] if own else None


def _told(name: str, value: object, base: type, seen: set[FunctionType]) -> Iterator[str]:
    """A function with what it names, or a constant, a line each; without comments and places, as bytecode has it."""
    for inner in ("fget", "func", "__func__"):
        value = getattr(value, inner, value)
    if isinstance(value, FunctionType) and value.__module__ == base.__module__ and value not in seen:
        seen.add(value)
        yield f"{name} {_said(value.__code__)} {_said(value.__defaults__)} {_said(value.__kwdefaults__)}"
        for named in sorted(_globals_of(value.__code__)):
            yield from _told(named, value.__globals__.get(named), base, seen)
    elif isinstance(value, PLAIN) and not name.startswith("_"):
        yield f"{name} {_said(value)}"


def _said(value: object) -> str:
    """Like repr, in every process the same."""
    if isinstance(value, CodeType):
        return f"{value.co_code.hex()} {value.co_names} {value.co_varnames} {[_said(each) for each in value.co_consts]}"
    return repr(sorted(map(_said, value)) if isinstance(value, set | frozenset) else value)


def _globals_of(code: CodeType) -> set[str]:
    inner = (_globals_of(each) for each in code.co_consts if isinstance(each, CodeType))
    return {each.argval for each in dis.get_instructions(code) if each.opname == "LOAD_GLOBAL"}.union(*inner)
