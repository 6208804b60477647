"""A progress bar in a terminal, in a file, and before it can know how long things take."""

from __future__ import annotations

import io
import re
import time
from contextlib import suppress

from kit.runtime.bars import Bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_what_is_left_is_estimated_once_there_is_evidence():
    screen = Terminal()
    with Bar(total=100, desc="training", file=screen, mininterval=0, miniters=1) as bar:
        time.sleep(0.01)
        bar.update(2)
        early = str(bar)
        bar.update(1)
        late = str(bar)
    assert re.search(r"training:   2%.*\| 00:00$", early)
    assert re.search(r"training:   3%.*\| 00:00<00:0\d$", late)
    assert screen.getvalue().count("\n") == 1  # it is moved, and stays


def test_what_is_left_follows_from_all_that_is_done(monkeypatch):
    """A quarter in 100 s, then another in 1 s: as much is left as all of it took."""
    with Bar(total=100, file=Terminal(), mininterval=0, miniters=1) as bar:
        now = bar.start_t
        monkeypatch.setattr(bar, "_time", lambda: now)
        for seconds in (100, 1):
            now += seconds
            bar.update(25)
        assert re.search(r"\| 01:41<01:41$", str(bar))


def test_a_file_gets_a_line_now_and_then(monkeypatch):
    file, now = io.StringIO(), time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with Bar(total=2500, desc="training", file=file, mininterval=0, miniters=1) as bar:
        for _ in range(2500):
            now += 0.1
            bar.update()
    lines = file.getvalue().splitlines()
    assert 250 // 30 <= len(lines) <= 250 // 30 + 3
    assert all(re.match(r"training: +\d+%", line) for line in lines) and "\r" not in file.getvalue()
    assert lines[-1].startswith("training: 100%")


def test_parts_that_add_up_to_a_little_more_than_the_whole_are_the_whole(recwarn):
    with Bar(total=0.3, desc="training", file=io.StringIO()) as bar:
        bar.update(0.1)
        bar.update(0.2)
        assert bar.n > 0.3 and str(bar).startswith("training: 100%")
    assert not recwarn.list


def test_parts_that_add_up_to_a_little_less_are_the_whole_unless_something_went_wrong():
    with Bar(total=1.0, file=io.StringIO()) as bar:
        for _ in range(10):
            bar.update(0.1)
        assert bar.n < 1.0
    assert bar.n == 1.0
    with suppress(KeyboardInterrupt), Bar(total=1.0, file=io.StringIO()) as bar:
        bar.update(0.5)
        raise KeyboardInterrupt
    assert bar.n == 0.5
