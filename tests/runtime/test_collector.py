"""The garbage collector in the kit's own processes: modules are left alone, and what is garbage is still collected."""

from __future__ import annotations

import gc
import json
import weakref
from pathlib import Path

import pytest

from kit.__main__ import run
from kit.grid.engines import LocalProcesses, Task
from kit.runtime.process import USUAL


@pytest.fixture(autouse=True)
def as_before():
    yield
    gc.unfreeze()
    gc.set_threshold(*USUAL)


class Ring:
    """Refers to itself: only the collector frees it."""

    def __init__(self) -> None:
        self.itself = self


def look(about: str, tick) -> None:
    """A task that writes down what its process' collector does: whether it sees an old module, and a new ring."""
    ring = weakref.ref(Ring())
    new = [[] for _ in range(2 * USUAL[0])]  # enough for a collection by itself
    seen = {"frozen": gc.get_freeze_count(), "threshold": gc.get_threshold(), "ring": ring() is not None}
    seen |= {"module": any(each is Task for each in gc.get_objects()), "new": len(new)}
    Path(about).write_text(json.dumps(seen))


def test_a_worker_looks_at_what_its_tasks_make_and_not_at_modules(tmp_path):
    with LocalProcesses(1) as engine:
        for name in ("first", "second"):
            assert engine.submit(Task(name, name, look, str(tmp_path / name))).result() is None
    first, second = (json.loads((tmp_path / name).read_text()) for name in ("first", "second"))
    assert first["frozen"] >= second["frozen"] > 10_000  # what the first has left is not kept
    for seen in (first, second):
        assert tuple(seen["threshold"]) == USUAL
        assert not seen["ring"]
        assert not seen["module"]


def test_a_command_ends_without_a_look_at_its_modules(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["kit", "--help"])
    assert run() == 0
    assert "train" in capsys.readouterr().out
    assert gc.get_freeze_count() > 10_000
