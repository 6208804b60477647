"""A student taken home, from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kit.cli import options
from kit.cli.output import print_json


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="a finished run, as 'cache list' names it; six digits do")],
    to: Annotated[Path, options.path("a new or empty folder")],
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="safetensors, torch-export or onnx; may be given again; default: the first two"),
    ] = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Write a student as files that need no kit. Weights, program, classes, model card, predict.py."""
    from kit.deploy.export import DEFAULT, export

    done = export(run, to, formats or DEFAULT, data)
    print(f"{done.title}: {', '.join(sorted(path.name for path in done.folder.iterdir()))} in {to}")
    apart = ", ".join(f"{name} to {value:.0e}" for name, value in done.differences.items())
    print(f"the run's logits on {done.checked_on}: {apart}")
    if as_json:
        about = {"run": done.run, "folder": done.folder}
        print_json(about | {"differences": done.differences, "checked_on": done.checked_on})
