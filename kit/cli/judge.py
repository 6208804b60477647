"""The question whether the method helps, from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kit.cli import options
from kit.cli.output import complain, print_json, tell_skipped
from kit.judge.question import Question


@options.of(Question)
def judge(
    question: Question,
    out: Annotated[Path, options.path("where tables and pictures go")] = Path("build/judge"),
    jobs: options.Jobs = None,
    scheduler: options.Scheduler = None,
    strict: options.Strict = False,
    as_json: options.Json = False,
) -> None:
    """Judge whether the method helps a student. Trains it without a teacher, by ordinary distillation, and by the
    method, and says which to use."""
    from kit.figures.forecast import duration, runs_at_once, seconds_left
    from kit.files import ready_folder
    from kit.grid.training import train_all
    from kit.judge.answer import answer
    from kit.judge.pictures import Judged, draw
    from kit.paper.claims import explained, readable, tally
    from kit.paper.plan import runs_of

    engine = options.engine_at(scheduler, jobs)
    rows, methods = question.rows(), question.methods
    ready_folder(out)
    runs = runs_of(rows)
    tell_skipped(runs[0].data.load())
    print(question.about(rows))
    at_once = runs_at_once(engine or jobs, {run.device for run in runs})
    print(f"expected: about {duration(seconds_left(runs, at_once))}", flush=True)
    results = train_all(runs, engine or jobs)
    found = answer(methods, rows, results)
    undrawn = list(draw(Judged(methods, rows, results, found, question.preset), out))
    print(found.table.to_string(index=False))
    print(f"{readable(found.verdicts).to_string(index=False)}\n{tally(found.verdicts)} · {explained(found.verdicts)}")
    complain(f"note: {line}" for line in (*found.notes, *undrawn))
    print(f"pictures and tables are in {out}\n{found.sentence}")
    if as_json:
        print_json(
            {"command": question.command(), "rows": found.frame, "claims": found.verdicts, "notes": found.notes}
            | {"sentence": found.sentence}
        )
    if found.lost:
        raise typer.Exit(1)
