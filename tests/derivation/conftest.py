"""Logits and labels that the room's tests share."""

from __future__ import annotations

import pytest

from kit.derivation.numeric import Cases, sample_cases


@pytest.fixture(scope="session")
def cases() -> Cases:
    return sample_cases(64)
