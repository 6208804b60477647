"""The command line in this process."""

import json

from kit.__main__ import main
from kit.errors import KitError


def refused(arguments: list[str], capsys) -> str:
    """The one line on stderr."""
    status = main(arguments)
    captured = capsys.readouterr()
    assert status == 2, captured
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ")
    return line


def asked_for(arguments: list[str], monkeypatch) -> list:
    """The runs that a command would train, none of which is trained."""
    asked = []

    def not_now(runs, jobs):
        asked.extend(runs)
        raise KitError("enough")

    monkeypatch.setattr("kit.grid.training.train_all", not_now)
    assert main(arguments) == 2
    return asked


def last_json(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def one_line(raised) -> str:
    """What an error says, in its one line."""
    message = str(raised.value)
    assert "\n" not in message
    return message
