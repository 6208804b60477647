"""The command line in this process."""

import json

from kit.__main__ import main


def refused(arguments: list[str], capsys) -> str:
    """The one line on stderr."""
    status = main(arguments)
    captured = capsys.readouterr()
    assert status == 2, captured
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ")
    return line


def last_json(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def one_line(raised) -> str:
    """What an error says, in its one line."""
    message = str(raised.value)
    assert "\n" not in message
    return message
