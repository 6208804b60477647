"""The command line's entry: `python -m kit --help`."""

from __future__ import annotations

import io
import os
import signal
import sys

import typer
from pydantic import ValidationError

from kit.cli import cache, data
from kit.cli.cam import cam
from kit.cli.figures import figures
from kit.cli.judge import judge
from kit.cli.machine import bench, doctor
from kit.cli.tables import table
from kit.cli.take_home import export, predict
from kit.cli.train import train
from kit.errors import KitError, one_line
from kit.runtime.process import collect_rarely, keep_what_is_there

app = typer.Typer(
    help="Knowledge distillation with an adaptive temperature and a small teacher.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (figures, train, judge, table, cam, predict, export, bench, doctor):
    app.command()(command)
app.add_typer(data.app, name="data")
app.add_typer(cache.app, name="cache")

STOPPED = "stopped; finished runs are kept"


def main(argv: list[str] | None = None) -> int:
    """Runs a command; wrong input becomes one line and exit status 2. Of torchrun's processes one speaks for all."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that has no ⌊ or ← shows a question mark
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        message, status = ended(argv)
        if message:
            print(message, file=sys.stderr)
        return status
    from kit import parallel

    words = sys.argv[1:] if argv is None else argv
    with parallel.first_speaks():
        if parallel.count() > 1 and words[:1] != ["train"]:
            message, status = f"error: {parallel.count()} processes are for 'train'; allowed here: one", 2
        else:
            message, status = ended(argv)
    if message:
        parallel.say_once(message)
    return status


def ended(argv: list[str] | None, app: typer.Typer = app, name: str | None = "python -m kit") -> tuple[str, int]:
    """Runs a command; returns a line for stderr, empty where all went well, and the exit status."""
    try:
        status = app(argv, standalone_mode=False, prog_name=name) or 0
        message = STOPPED if status == 130 else ""  # typer makes 130 of a KeyboardInterrupt
    except typer.TyperException as error:
        message, status = error.format_message(), error.exit_code
        if message.startswith("Usage:"):  # no command was given
            print(message)
            return "", status
        message = message.replace("\n", " ")
        if isinstance(error.__cause__, ValidationError):  # typer leaves the value out
            message = f"{message}: got {error.__cause__.errors()[0]['input']!r}"
    except ValidationError as error:
        message, status = one_line(error), 2
    except KitError as error:
        message, status = str(error), 2
    except (KeyboardInterrupt, typer.Abort):
        message, status = STOPPED, 130
    return f"error: {message}" if message else "", status


def _print_no_more() -> None:
    """Gives stdout to nobody, as Python would try again at its end, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run() -> int:
    """Runs `main` as a process of its own, which ends with it. Who has read enough of what it prints may close that."""
    collect_rarely()
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed, as by `>&-`: its number is free, and the next file would get it
            nobody = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(nobody, True)
            setattr(sys, name, os.fdopen(nobody, "r+"))
    if "TORCHELASTIC_RUN_ID" not in os.environ:  # of whose processes one may wait for another
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # clears up, as after Ctrl-C
    try:
        status = main()
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # `| head`
        _print_no_more()
        return 128 + 13  # SIGPIPE, which Windows does not have
    except OSError as error:
        if error.filename is not None:  # not of what is printed
            raise
        _print_no_more()
        print(f"error: cannot write the output: {error.strerror or error}", file=sys.stderr)
        return 2
    finally:
        keep_what_is_there()  # for the little that is left to do
