"""The cache of finished runs from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kit.cli import options
from kit.cli.output import complain, print_json

app = typer.Typer(help="Finished runs: list, verify, prune, export, import.", no_args_is_help=True)


@app.command("list")
def cache_list(as_json: options.Json = False) -> None:
    """Runs in the cache, newest first."""
    import pandas as pd

    from kit.runs.store import cached

    found = [
        {"run": entry.hash, "title": entry.title, "device": entry.device, "status": entry.status} for entry in cached()
    ]
    print(pd.DataFrame(found).to_string(index=False) if found else "no runs yet")
    if as_json:
        print_json(found)


@app.command("verify")
def cache_verify() -> None:
    """Compare every run with its checksums. Exit status 2 when one is cut short, altered or of another kit."""
    from kit.runs.store import cached

    entries = cached()
    damaged = [entry for entry in entries if entry.complaint]
    complain(f"run {entry.hash}: {entry.complaint}" for entry in damaged)
    print(f"{len(entries) - len(damaged)} of {len(entries)} runs are whole")
    if damaged:
        raise typer.Exit(2)


@app.command("prune")
def cache_prune(
    damaged: Annotated[
        bool, typer.Option("--damaged", help="only runs cut short or altered, set aside or not")
    ] = False,
    diverged: Annotated[
        bool, typer.Option("--diverged", help="only runs that diverged, so that they are tried again")
    ] = False,
    keep: Annotated[list[str] | None, typer.Option(help="hashes of runs to keep, and what they learnt from")] = None,
) -> None:
    """Remove runs from the cache. All of them, or only damaged or diverged ones."""
    from kit.runs.transfer import prune

    print(f"removed {prune(damaged, diverged, keep or [])} runs")


@app.command("export")
def cache_export(
    folder: Annotated[Path, typer.Argument(callback=options.at_home, help="where to; made if it is not there")],
    runs: Annotated[list[str] | None, typer.Argument(help="hashes; default: every whole run")] = None,
) -> None:
    """Copy runs into a folder. With those they learnt from, so that a colleague can import it."""
    from kit.runs.store import cached
    from kit.runs.transfer import export_runs

    if not runs:
        complain(f"run {entry.hash} is left out: {entry.complaint}" for entry in cached() if entry.complaint)
    print(f"{len(export_runs(folder, runs or []))} runs are in {folder}")


@app.command("import")
def cache_import(
    folder: Annotated[Path, typer.Argument(callback=options.at_home, help="what `cache export` has written")],
) -> None:
    """Take over a folder's runs. Exit status 2 when one is damaged (the others are taken over)."""
    from kit.runs.transfer import import_runs

    taken, refused = import_runs(folder)
    complain(refused)
    print(f"{len(taken)} runs from {folder} are in the cache")
    if refused:
        raise typer.Exit(2)
