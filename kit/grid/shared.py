"""Teachers' logits that several runs read, cached before these begin."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from kit.recipe import Recipe
from kit.runs.logits import TeacherLogits, limit
from kit.runs.spec import Run
from kit.runs.training import teacher_logits
from kit.training.teachers import needs_graph

SHARED_BY = 2  # so many runs must want a teacher's logits of an epoch for these to be computed apart


@dataclass(frozen=True)
class SharedLogits:
    """A teacher's logits in some epochs, as `run` and others need them."""

    key: str
    run: Run
    teacher: str
    epochs: tuple[int, ...]


def read_from(run: Run) -> list[str]:
    """Lists the teachers, by name, whose cached logits the run can read; the others' forward passes it computes
    itself."""
    stages = run.recipe.stages
    return [
        name
        for name in run.recipe.teachers
        if not all(needs_graph(stage.objective) for stage in stages if name in stage.teachers)
    ]


def epochs_with(recipe: Recipe, teacher: str) -> range:
    """Returns the epochs, counted from 0, in which a run may learn from the teacher; a stage whose t moves may end
    early."""
    spans, begin = [], 0.0
    for stage in recipe.stages:
        if teacher in stage.teachers:
            spans.append((begin, stage.until))
        moves = stage.temperature is not None and stage.temperature.moves
        begin = begin if moves else stage.until
    first, last = min(begin for begin, _ in spans), max(until for _, until in spans)
    return range(math.floor(first * recipe.epochs), math.ceil(last * recipe.epochs))


def share_read(run: Run, computed_apart: Mapping[str, set[int]]) -> dict[str, float]:
    """Computes by teacher the share of epochs whose logits are cached, or will be when the run begins."""
    shares = {}
    for name in read_from(run):
        kept, epochs = teacher_logits(run, name), epochs_with(run.recipe, name)
        apart = computed_apart.get(kept.key, set())
        shares[name] = sum(epoch in apart or kept.place(epoch).is_dir() for epoch in epochs) / len(epochs)
    return shares


def shared_logits(
    runs: Iterable[Run], missing: Callable[[TeacherLogits, list[int]], list[int]] = TeacherLogits.missing
) -> list[SharedLogits]:
    """Selects the teachers' logits to compute apart: those that several of these runs read and that are not cached.

    The most wanted first, as far as they are let (`kit.runs.logits.limit`).
    """
    left = limit()
    wanted: dict[str, list[tuple[Run, str]]] = defaultdict(list)
    for run in runs:
        for name in read_from(run):
            wanted[teacher_logits(run, name).key].append((run, name))
    shared = []
    for key, users in sorted(wanted.items(), key=lambda item: -len(item[1])):
        run, name = users[0]
        kept = teacher_logits(run, name)
        counts: dict[int, int] = defaultdict(int)
        for each, its_name in users:
            for epoch in epochs_with(each.recipe, its_name):
                counts[epoch] += 1
        epochs = missing(kept, [epoch for epoch in sorted(counts) if counts[epoch] >= SHARED_BY])
        if epochs and len(epochs) * kept.bytes_an_epoch <= left:
            left -= len(epochs) * kept.bytes_an_epoch
            shared.append(SharedLogits(key, run, name, tuple(epochs)))
    return shared
