"""What a temperature or a loss of one's own does is part of a run's description."""

from __future__ import annotations

import os
import subprocess
import sys
from types import ModuleType

import pytest

from kit.paper.settings import Settings
from kit.recipe import Improved
from kit.several import Weighted
from kit.temperature import Adaptive, Fixed
from kit.training.kind import code_of

OWN = """
from functools import cache, partial
from typing import ClassVar, Literal
import torch
from kit.temperature import Fixed, Policy

STEP = 0.5
_LEAST = 1.25
WORDS = {"one", "two", "three", "four"}
WEIGHTS = torch.tensor([1.0, 3.0])
WARM = Fixed(T=6)


def less(t):
    return t - STEP


def scaled(by, t):
    return by * t


@cache
def root(t):
    return t**0.5


def damped(by):
    def of(function):
        return lambda *given: by * function(*given)
    return of


class Counted:
    def often(self):
        return 11


half, HOW, counted = partial(scaled, 0.75), {"root": root, "less": less}, Counted()


class Mine(Policy):
    kind: Literal["fixed"] = "fixed"
    T: float = 4.0
    start: ClassVar[float] = 4.0
    _hidden: float = 9.0

    @property
    def here(self):
        return self.T

    def next(self, t, at):
        return max(least for least in (1.0, less(t)) if WORDS and "two" in {"one", "two", "three"})

    @torch.no_grad()
    @damped(0.125)
    def of(self, t):
        return counted.often() + half(t) + HOW["root"](t) + _LEAST + WEIGHTS + WARM.T + 13
"""


def made(source: str = OWN) -> type:
    """The class as a file or a cell of a notebook would define it."""
    module = ModuleType("mine")
    sys.modules["mine"] = module  # where pydantic looks for what annotations name
    try:
        exec(compile(source, "mine.py", "exec"), module.__dict__)
    finally:
        del sys.modules["mine"]
    return module.Mine


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ("return t - STEP", "return t - 2 * STEP"),  # a function that it names
        ("STEP = 0.5", "STEP = 0.25"),  # a constant that this names
        ('"four"}', '"five"}'),
        ("start: ClassVar[float] = 4.0", "start: ClassVar[float] = 5.0"),
        ("return self.T", "return 2 * self.T"),
        ("(1.0, less(t))", "(1.5, less(t))"),  # within a comprehension
        ("_LEAST = 1.25", "_LEAST = 1.5"),
        ("[1.0, 3.0]", "[1.0, 4.0]"),
        ("Fixed(T=6)", "Fixed(T=7)"),
        ("scaled, 0.75", "scaled, 0.5"),
        ("t**0.5", "t**0.25"),  # in a dictionary, behind a cache
        ("damped(0.125)", "damped(0.25)"),
        ("WARM.T + 13", "WARM.T + 14"),  # behind two decorators
        ("return 11", "return 12"),  # by an object of a class of its own
        ("_hidden: float = 9.0", "_hidden: float = 8.0"),
    ],
)
def test_changed_code_is_another_code(was, now):
    assert was in OWN and code_of(made()) != code_of(made(OWN.replace(was, now)))


def test_comments_and_places_are_no_code():
    moved = "# a comment\n" * 5 + OWN.replace("return t - STEP", "return t  -  STEP  # less")
    assert code_of(made()) == code_of(made(moved + "\nT = zs = 3\n"))


def test_a_run_is_described_with_its_own_code_and_the_kits_without():
    settings = Settings(student="cnn", teacher="cnn", role="cifar-10", preset="smoke")
    mine, other = made()(), made(OWN.replace("0.5", "0.25"))()
    runs = [settings.model_copy(update={"temperature": each}).run() for each in (Fixed(T=4), mine, other)]
    assert len({run.hash for run in runs}) == 3  # all three of kind "fixed", with T = 4
    assert runs[1].model_dump(mode="json")["recipe"]["stages"][0]["temperature"]["code"] == code_of(type(mine))
    for own in (Adaptive(rate=1), Improved(), Weighted()):
        assert "code" not in own.model_dump() and code_of(type(own)) is None


def test_every_process_finds_the_same_code():
    asked = (
        f"import sys; from types import ModuleType\n{OWN}\nfrom kit.training.kind import code_of\nprint(code_of(Mine))"
    )
    found = {
        subprocess.check_output([sys.executable, "-c", asked], text=True, env=os.environ | {"PYTHONHASHSEED": seed})
        for seed in "12"
    }
    assert found == {f"{code_of(made())}\n"}
