"""Tables from the command line: the paper's, and what comes after it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kit.cli import options
from kit.cli.output import print_json, tell_skipped
from kit.errors import KitError, not_one_of, one_of


def table(
    number: Annotated[str, typer.Argument(help="1 to 4, the paper's; 5, the siblings; 6, several teachers")],
    preset: options.Preset = "quick",
    seeds: options.Seeds = None,
    jobs: options.Jobs = None,
    scheduler: options.Scheduler = None,
    role_data: options.RoleData = None,
    data: options.Data = None,
    strict: options.Strict = False,
    assistants: Annotated[
        str | None, typer.Option(help="table 4: teacher assistants in order, such as vgg16,cnn; default: vgg16")
    ] = None,
    cost_target: Annotated[
        float | None, typer.Option(help="table 4: a searched student's FLOPs an image; default: the student's own")
    ] = None,
    siblings: Annotated[
        bool, typer.Option("--siblings", help="tables 2 and 3: rows of other temperatures and losses, too")
    ] = False,
    csv: Annotated[Path | None, options.path("also write the runs, one line each, to this file")] = None,
    as_json: options.Json = False,
) -> None:
    """Print a table beside the paper's numbers. Trains what it needs."""
    from kit.beyond import TABLES
    from kit.files import ready_file, writing_to
    from kit.models import MODELS
    from kit.paper.claims import explained, readable, tally
    from kit.paper.plan import Plan
    from kit.siblings import SIBLINGS

    engine = options.engine_at(scheduler, jobs)
    if number not in TABLES:
        raise not_one_of("table", number, TABLES)
    wanted, sources, extra = TABLES[number], options.sources(role_data), {}
    for role in sources:
        one_of(f"role of table {number}", role, wanted.ROLES)
    if csv:
        ready_file(csv)
    plan = Plan.of(preset, sources, data)
    if assistants is not None:
        extra["assistants"] = tuple(one_of("model", name.strip(), MODELS) for name in assistants.split(","))
    if cost_target is not None:
        extra["cost_target"] = cost_target
    if extra and number != "4":
        raise KitError(f"table {number} has no {' and no '.join(extra)}; allowed: for table 4")
    if siblings and number not in ("2", "3"):
        raise KitError(f"table {number} has no --siblings; allowed: for tables 2 and 3")
    if siblings:
        extra["own"] = SIBLINGS
    for role in wanted.ROLES:
        tell_skipped(plan.data(role).load())
    frame = wanted.run(plan, seeds or plan.preset.seeds, engine or jobs, **extra)
    shown, verdicts = wanted.summary(frame), {"claims": wanted.verdicts(frame, plan)}
    if siblings:
        verdicts["own"] = wanted.own_verdicts(frame, plan)
    print(shown.to_string(index=False))
    for judged in verdicts.values():
        print(f"{readable(judged).to_string(index=False)}\n{tally(judged)} · {explained(judged)}")
    if csv:
        with writing_to(csv):
            frame.to_csv(csv, index=False, lineterminator="\n")
    if as_json:
        print_json({"table": number, "preset": preset, "rows": frame} | verdicts)
    if frame["status"].str.startswith("did not finish").any():  # that a run diverged is a result
        raise typer.Exit(1)
