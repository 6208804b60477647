"""Changing a training while it runs, as data: what was changed to which value, and after how many batches.

K, α and the temperature's rate can be steered. An `Event` acts from the next batch on and lasts into later stages, so a
run together with its events is an ordinary run: it can be described, hashed, and trained again, on the same machine bit
for bit.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from kit.errors import KitError, not_one_of, one_line
from kit.recipe import Stage

Name = Literal["k", "alpha", "rate"]
NAMES: tuple[str, ...] = get_args(Name)

ALLOWED = {
    "k": (lambda value: value >= 1, "a number from 1 up"),
    "alpha": (lambda value: 0 <= value <= 1, "0 to 1"),
    "rate": (lambda value: value > 0, "a number above 0"),
}


class Event(BaseModel):
    """`name` became `value` after `step` batches."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    step: int = Field(ge=0)
    name: Name
    value: float

    @model_validator(mode="after")
    def _is_allowed(self) -> Event:
        checked(self.name, self.value)
        return self


def checked(name: str, value: float) -> float:
    """The value, if it may be given to what is so named. KitError."""
    if name not in ALLOWED:
        raise not_one_of("control", name, NAMES)
    is_allowed, allowed = ALLOWED[name]
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not is_allowed(value):
        raise KitError(f"{name} {value!r} is not allowed; allowed: {allowed}")
    return float(value)


def steered(stage: Stage, values: Mapping[str, float]) -> Stage:
    """The stage with these values in place of its own, wherever it has such a thing.

    K: where its temperature starts, and its bound (adaptive and schedule). α: of its objective. Rate: adaptive only.
    """
    if not values:
        return stage
    policy, objective = stage.temperature, stage.objective
    of_policy = {name: values[name] for name in ("k", "rate") if name in values and hasattr(policy, name)}
    of_objective = {name: values[name] for name in ("alpha",) if name in values and hasattr(objective, name)}
    if of_policy:
        policy = policy.model_copy(update=of_policy)
    if of_objective:
        objective = objective.model_copy(update=of_objective)
    return stage.model_copy(update={"temperature": policy, "objective": objective})


def read(path: Path) -> tuple[Event, ...]:
    """Events from a JSON file: a list such as `[{"step": 40, "name": "k", "value": 5}]`. KitError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise KitError(f"events file {str(path)!r} cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise KitError(f"events file {str(path)!r} is not readable as JSON ({error})") from None
    if not isinstance(content, list):
        raise KitError(f"events file {str(path)!r} holds no list; allowed: a list of {{step, name, value}}")
    try:
        return tuple(Event.model_validate(entry) for entry in content)
    except ValidationError as error:
        raise KitError(f"events file {str(path)!r}: {one_line(error)}") from None


def text(events: tuple[Event, ...]) -> str:
    """Events as the JSON that `read` reads."""
    return json.dumps([event.model_dump() for event in events], indent=1) + "\n"
