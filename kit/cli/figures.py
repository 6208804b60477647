"""Figures from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kit.cli import options
from kit.cli.output import complain


def figures(
    notebooks: Annotated[list[str] | None, typer.Argument(help="names or numbers; default: all")] = None,
    preset: options.Preset = "quick",
    out: Annotated[Path, typer.Option(help="where pictures, CSVs and manifest.json go")] = Path("figures"),
    jobs: options.Jobs = None,
    scheduler: options.Scheduler = None,
    seeds: options.Seeds = None,
    role_data: options.RoleData = None,
    data: options.Data = None,
    strict: options.Strict = False,
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="a notebook's parameter")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="draw again what is up to date")] = False,
) -> None:
    """Execute the notebooks and write every figure and table."""
    from kit.figures.make import make
    from kit.figures.needs import Request

    engine = options.engine_at(scheduler, jobs)
    request = Request(
        preset=preset,
        seeds=seeds,
        role_data=options.sources(role_data),
        data=str(data.resolve()) if data else None,
        jobs=jobs,
        extra={name: options.literal(value) for name, value in options.pairs(parameter, "parameter").items()},
    )
    failures = make(notebooks or [], request, out.resolve(), force, engine)
    complain(failures)
    if failures:
        raise typer.Exit(1)
