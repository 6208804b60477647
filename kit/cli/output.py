"""What several commands print alike: one line of JSON, complaints on stderr."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from kit.data.roles import OWN

if TYPE_CHECKING:
    from kit.data.base import Dataset


def print_json(content: Any) -> None:
    """Prints one line; a data frame becomes a list of objects, what is no number null, and what JSON does not know its
    text."""

    def plain(value: Any) -> Any:
        return json.loads(value.to_json(orient="records")) if hasattr(value, "to_json") else str(value)

    numbers = json.loads(json.dumps(content, default=plain), parse_constant=lambda word: None)  # NaN, Infinity
    print(json.dumps(numbers, allow_nan=False))


def complain(lines: Iterable[str]) -> None:
    """Prints lines on stderr."""
    for line in lines:
        print(line, file=sys.stderr)


def tell_skipped(data: Dataset) -> None:
    """Prints what a dataset leaves out: a line on damaged files, one on what is no image of a class, one on the
    examples of each class that is not learnt, and one where real images are more than are used."""
    title = data.name if data.role == OWN else data.role
    if data.skipped:
        complain([f"warning: {title}: damaged files left out: {len(data.skipped)}, first {data.skipped[0]}"])
    if data.passed_over:
        complain([f"note: {title}: {counted_over(data.passed_over)}"])
    complain(f"note: {title}: left out: {line}" for line in data.left_out)
    used = len(data.train) + len(data.test) + len(data.skipped)
    if data.source == "real" and data.available is not None and used < sum(data.available):
        more = "train and judge take more by --train-per-class and --test-per-class, a number or all"
        complain([f"note: {title}: not all its images are used; {more}"])


def counted_over(passed: Sequence[str]) -> str:
    """Counts what a folder holds besides images: `3 passed over (2 hidden, 1 no image by its name), first train/x`."""
    reasons = Counter(line.rpartition(": ")[2] for line in passed)
    each = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    return f"{len(passed)} passed over ({each}), first {passed[0].rpartition(': ')[0]}"
