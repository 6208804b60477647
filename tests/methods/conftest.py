"""What the methods of Table 4 are tried in."""

from __future__ import annotations

import pytest

from kit.methods import Setting
from kit.paper import table4
from kit.paper.plan import Plan
from kit.runs.training import train


@pytest.fixture(scope="session")
def setting() -> Setting:
    """Table 4's setting at preset smoke, its teachers trained."""
    given = table4.setting(Plan.of("smoke"))
    for run in (given.big, given.small):
        train(run)
    return given
