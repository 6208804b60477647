"""One training from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kit.cli import options
from kit.cli.output import complain, print_json, tell_skipped
from kit.errors import few
from kit.paper.settings import Settings


@options.of(Settings)
def train(
    settings: Settings,
    events: Annotated[
        Path | None, options.path("changes of what can be steered on the way, as recorded", metavar="FILE.json")
    ] = None,
    strict: options.Strict = False,
    jobs: options.Jobs = None,
    scheduler: options.Scheduler = None,
    as_json: options.Json = False,
) -> None:
    """Train one student (and its teachers, once)."""
    from kit.data.base import uneven
    from kit.grid.training import train_all
    from kit.runs.spec import replayed
    from kit.runs.store import Failure, find
    from kit.runs.training import recalls_of
    from kit.training import steering
    from kit.training.evaluation import balanced_accuracy, lowest_first

    engine = options.engine_at(scheduler, jobs)
    run = settings.run()
    if events:
        run = replayed(run, steering.read(events))
    data = run.data.load()
    complain([data.described])
    tell_skipped(data)
    complain(f"note: {line}" for line in uneven(data))
    outcome = train_all([run], engine or jobs)[run]
    if isinstance(outcome, Failure):
        raise typer.Exit(1)
    m, by_class = outcome.metrics, recalls_of(outcome)
    given = {
        name: {"network": teacher.student.title, "run": teacher.hash, "test_top1": find(teacher).metrics["test_top1"]}
        | {"head": teacher.weights.head}
        for name, teacher in run.teachers.items()
        if teacher.is_given
    }
    about = {"name": data.name, "source": data.source, "fingerprint": data.fingerprint, "px": data.px}
    record = {
        "run": run.hash,
        "role": settings.role,
        "data": about | {"train_images": len(data.train), "test_images": len(data.test)},
        "student": settings.student,
        "seed": run.seed,
        "epochs": run.recipe.epochs,
        "device": run.device,
        "precision": run.precision,
        **{name: m[name] for name in ("test_top1", "test_top5", "train_top1", "train_top5")},
        "test_balanced": balanced_accuracy(by_class),
        "test_by_class": dict(zip(data.classes, by_class, strict=True)),
        "seconds": outcome.seconds,
        **{name: m[name] for name in ("cached_logits_s", "wall_s", "student_flops", "teacher_flops", "stages")},
        "agreement": m.get("agreement"),
        "given": given,
        "folder": str(outcome.folder),
    }
    print(f"{run.title} ({run.data.source}: {run.data.name})")
    top5 = f", Top-5 {m['test_top5']:.1%}" if run.data.classes > 5 else ""  # of fewer, all are among five
    balanced = f"balanced {balanced_accuracy(by_class):.1%}"
    print(f"test Top-1 {m['test_top1']:.1%}, {balanced}{top5}; training Top-1 {m['train_top1']:.1%}")
    print(f"test by class, lowest first: {few(lowest_first(data.classes, by_class), 10)}")
    if m["cached_logits_images"]:
        shared = f"{m['cached_logits_s']:.1f} s of its {outcome.seconds:.1f} s"
        print(f"teachers' logits of {m['cached_logits_images']} images were cached: {shared} are what these took")
    for name, teacher in given.items():
        head = ", its head trained" if teacher["head"] else ""
        print(f"{name} teacher {teacher['network']}, given{head}: test Top-1 {teacher['test_top1']:.1%}")
    for stage in m["stages"]:
        heat = "" if stage["t_start"] is None else f", t {stage['t_start']:.1f} → {stage['t_end']:.1f}"
        print(f"  {stage['name']}: {stage['epochs']:.1f} epochs, ended by {stage['ended_by']}{heat}")
    if as_json:
        print_json(record)
