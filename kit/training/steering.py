"""Changing a training while it runs, as data: what was changed to which value, and after how many batches.

K, α and the temperature's rate can be steered, and what another policy or objective says of itself. An `Event` acts at
once, on the next batch, and lasts into later stages, so a run together with its events is an ordinary run: it can be
described, hashed, and trained again, on the same machine bit for bit.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError, model_validator
from pydantic.fields import FieldInfo

from kit.errors import Described, KitError, not_one_of, one_line
from kit.recipe import Improved, Objective, Stage
from kit.temperature import Adaptive, Policy

USUAL = (Adaptive, Improved)  # k, rate and alpha: in every training, where stages without such a thing take no notice


class Event(Described):
    """`name` became `value` after `step` batches."""

    step: int = Field(ge=0)
    name: str
    value: float

    @model_validator(mode="after")
    def _is_allowed(self) -> Event:
        if self.name in fields_by_name():  # of others the run knows whether it has such a thing
            checked(self.name, self.value)
        return self


def parts(stage: Stage) -> tuple[Policy | Objective, ...]:
    """What of a stage may have fields to steer."""
    return (stage.objective,) if stage.temperature is None else (stage.temperature, stage.objective)


def fields_by_name(stages: Iterable[Stage] = ()) -> dict[str, list[FieldInfo]]:
    """What may be steered in a training of these stages, by name: the fields of all parts that have one."""
    named: dict[str, list[FieldInfo]] = {}
    for part in (*USUAL, *(type(part) for stage in stages for part in parts(stage))):
        for name in part.steerable:
            named.setdefault(name, []).append(part.model_fields[name])
    return named


def checked(name: str, value: float, stages: Iterable[Stage] = ()) -> float:
    """The value, if it may be given to all that is so named. KitError."""
    known = fields_by_name(stages)
    if name not in known:
        raise not_one_of("control", name, known)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise KitError(f"{name} {value!r} is not allowed; allowed: a number")
    for field in known[name]:
        try:
            TypeAdapter(Annotated[field.annotation, field]).validate_python(value)  # type: ignore[arg-type]
        except ValidationError as error:
            raise KitError(f"{name} {value!r} is not allowed ({error.errors()[0]['msg']})") from None
    return float(value)


def steered(stage: Stage, values: Mapping[str, float]) -> Stage:
    """The stage with these values in place of its own, wherever it has such a thing.

    K: where its temperature starts, and its bound (adaptive and schedule). α: of its objective. Rate: adaptive only.
    """
    if not values:
        return stage
    changed = {
        name: part.model_copy(update={f: of_field(part, f, values[f]) for f in part.steerable if f in values})
        for name, part in (("temperature", stage.temperature), ("objective", stage.objective))
        if part is not None
    }
    return stage.model_copy(update=changed)


def of_field(part: Policy | Objective, field: str, value: float) -> float:
    """The value as a part's field has it: an int where that is one."""
    return int(value) if type(part).model_fields[field].annotation is int else value


def read(path: Path) -> tuple[Event, ...]:
    """Events from a JSON file: a list such as `[{"step": 40, "name": "k", "value": 5}]`. KitError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise KitError(f"events file {str(path)!r} cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise KitError(f"events file {str(path)!r} is not readable as JSON ({error})") from None
    try:
        return TypeAdapter(tuple[Event, ...]).validate_python(content)
    except ValidationError as error:
        raise KitError(f"events file {str(path)!r}: {one_line(error)}") from None


def text(events: tuple[Event, ...]) -> str:
    """Events as the JSON that `read` reads."""
    return json.dumps([event.model_dump() for event in events], indent=1) + "\n"
