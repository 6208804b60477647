"""What several commands print alike: one line of JSON, complaints on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kit.data.base import Dataset


def print_json(content: Any) -> None:
    """Prints one line; a data frame becomes a list of objects, NaN null, and what JSON does not know its text."""

    def plain(value: Any) -> Any:
        return json.loads(value.to_json(orient="records")) if hasattr(value, "to_json") else str(value)

    print(json.dumps(content, default=plain))


def complain(lines: Iterable[str]) -> None:
    """Prints lines on stderr."""
    for line in lines:
        print(line, file=sys.stderr)


def tell_skipped(data: Dataset) -> None:
    """Prints a line on the damaged files that a dataset leaves out."""
    if data.skipped:
        complain([f"warning: {data.role}: {len(data.skipped)} damaged files left out, first {data.skipped[0]}"])
