"""Runs whose students are taken home in tests."""

from __future__ import annotations

from small_runs import hard, spec

from kit.models import ModelSpec
from kit.runs.spec import Run, changed


def of(name: str) -> Run:
    """A narrow network on 40 digits of 8 px, which has 100 test images."""
    return changed(
        hard(), data=spec(test_per_class=10), student=ModelSpec(name=name, classes=10, width=2, stem="small")
    )
