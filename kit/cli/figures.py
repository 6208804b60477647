"""Figures from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kit.cli import options
from kit.cli.output import complain
from kit.errors import KitError
from kit.runtime.environment import absolute

if TYPE_CHECKING:
    from kit.figures.needs import Request
    from kit.grid.engines import Engine
    from kit.runs.spec import Run


def above_zero(minutes: float | None) -> float | None:
    if minutes is not None and not minutes > 0:
        raise KitError(f"--minutes {minutes:g} is not allowed; allowed: above 0")
    return minutes


def figures(
    notebooks: Annotated[
        list[str] | None, typer.Argument(help="names or numbers; default: all but 09, which is drawn where it is named")
    ] = None,
    preset: options.Preset = "quick",
    out: Annotated[
        Path | None,
        options.path("where pictures, CSVs and manifest.json go; default: figures, or build/figures-PRESET"),
    ] = None,
    jobs: options.Jobs = None,
    scheduler: options.Scheduler = None,
    seeds: options.Seeds = None,
    minutes: Annotated[
        float | None, typer.Option(callback=above_zero, help="as many seeds as fit into this time; not with --seeds")
    ] = None,
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
    from kit.figures.needs import APART, Request, chosen
    from kit.files import ready_folder

    names, engine = notebooks or [], options.engine_at(scheduler, jobs)
    request = Request(
        preset=preset,
        seeds=seeds,
        role_data=options.sources(role_data),
        data=str(data) if data else None,
        jobs=jobs,
        extra={name: options.literal(name, value) for name, value in options.pairs(parameter, "parameter").items()},
    )
    own = {name: _judged(request.settled()) for name in APART if name in chosen(names)}
    if minutes is not None:
        request = request.model_copy(update={"seeds": _rounds(minutes, request.settled(), names, engine)})
    usual = "figures" if preset == "quick" else f"build/figures-{preset}"  # pictures of one preset by themselves
    failures = make(names, request, ready_folder(absolute(out or usual).resolve()), force, engine, own)
    complain(failures)
    if failures:
        raise typer.Exit(1)


def _judged(request: Request) -> list[Run]:
    """Lists the runs of notebook 09. Raises KitError for whatever `judge` refuses."""
    from kit.judge.question import Question
    from kit.paper.plan import runs_of

    networks = request.extra.get("networks", {})
    return runs_of(Question(preset=request.preset, data=request.data, seeds=request.seeds, **networks).rows())


def _rounds(minutes: float, request: Request, names: list[str], engine: Engine | None) -> int:
    from kit.figures.forecast import rounds_within, runs_at_once

    if request.seeds is not None:
        raise KitError(
            f"--minutes {minutes:g} chooses the seeds, but --seeds {request.seeds} does, too; allowed: one of them"
        )
    at_once = runs_at_once(engine or request.jobs, [request.plan.device])
    seeds = rounds_within(minutes, request.plan, at_once, request.equal_time, names)
    says = "1 seed, which gives no interval and no verdict" if seeds == 1 else f"{seeds} seeds"
    print(f"{says}: as many as are expected to fit into {minutes:g} minutes")
    return seeds
