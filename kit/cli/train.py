"""One training from the command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from kit.cli import options
from kit.cli.output import print_json, tell_skipped
from kit.errors import KitError


def train(
    student: Annotated[str, typer.Option(callback=options.check_model, help="cnn, vgg16, vgg19, resnet34 or resnet50")],
    role: Annotated[
        str, typer.Option(callback=options.check_role, help="cifar-10, cifar-100, imagenet or hrsc2016")
    ] = "cifar-100",
    teacher: Annotated[
        str | None, typer.Option(callback=options.check_model, help="the big teacher; without it: hard labels")
    ] = None,
    small_teacher: Annotated[str | None, typer.Option(callback=options.check_model, help="learnt from first")] = None,
    temperature: Annotated[str, typer.Option(help="adaptive, schedule, or a fixed T such as 5")] = "adaptive",
    reading: Annotated[str, typer.Option(help="of Eq. (1) at a fixed T: printed or hinton")] = "printed",
    k: Annotated[float, typer.Option(help="K: where t starts, and its bound")] = 20.0,
    alpha: Annotated[
        float | None, typer.Option(help="weight of the soft loss; default 0.5 in Eq. (1), 1 in adaptive stages")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="learning rate of log t per epoch; default 60 / epochs")] = None,
    follows: Annotated[str, typer.Option(help="whose gradient moves t: cross-entropy or kl")] = "cross-entropy",
    optimiser: Annotated[str, typer.Option(help="of log t: sgd or adam")] = "sgd",
    floor: Annotated[bool, typer.Option(help="the losses use ⌊t⌋")] = True,
    t_squared: Annotated[bool, typer.Option(help="t² on the soft loss of adaptive stages")] = True,
    logits: Annotated[str, typer.Option(help="what teachers' logits are rounded to: float32 or float16")] = "float32",
    epochs: Annotated[int | None, typer.Option(help="default: the preset's for the role")] = None,
    batch: Annotated[int | None, typer.Option(help="default: the preset's for the role")] = None,
    lr: Annotated[float | None, typer.Option(help="peak learning rate; default 0.1")] = None,
    width: Annotated[int | None, typer.Option(help="the student's first channel count; default: the preset's")] = None,
    seed: Annotated[int, typer.Option(help="of the student's weights, batches and augmentation")] = 0,
    events: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="changes of k, alpha and rate on the way, as recorded")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="of training: float32 or bfloat16; default: bfloat16 on a GPU that has it")
    ] = None,
    preset: options.Preset = "quick",
    source: Annotated[str, typer.Option(help="auto, embedded or real images")] = "auto",
    level: options.Level = None,
    data: options.Data = None,
    strict: options.Strict = False,
    jobs: options.Jobs = None,
    scheduler: options.Scheduler = None,
    as_json: options.Json = False,
) -> None:
    """Train one student (and its teachers, once)."""
    from kit import recipe
    from kit.grid.training import train_all
    from kit.paper.plan import Plan
    from kit.runs.spec import changed, replayed
    from kit.runs.store import Failure
    from kit.training import steering

    engine = options.engine_at(scheduler, jobs)
    plan = replace(Plan.of(preset, {role: source}, data), level=level)
    plan = replace(plan, precision=precision or plan.precision)
    if small_teacher and not teacher:
        raise KitError(f"--small-teacher {small_teacher!r} needs a big teacher; give --teacher")

    def stages(epochs: int) -> tuple[recipe.Stage, ...]:
        policy = recipe.policy(temperature, epochs, k, rate, follows, optimiser, floor)
        # options that this run has no use for are checked all the same
        recipe.adaptive(epochs, k, rate, follows=follows, optimiser=optimiser)
        recipe.Eq1(reading=reading, alpha=recipe.ALPHA if alpha is None else alpha)
        return recipe.procedure(policy, bool(teacher), bool(small_teacher), reading, alpha, t_squared)

    run = plan.student(student, role, stages, teacher, small_teacher, seed, epochs, width=width, batch=batch, lr=lr)
    run = changed(run, logits=logits)
    if events:
        run = replayed(run, steering.read(events))
    tell_skipped(run.data.load())
    outcome = train_all([run], engine or jobs)[run]
    if isinstance(outcome, Failure):
        raise typer.Exit(1)
    m = outcome.metrics
    record = {
        "run": run.hash,
        "role": role,
        "data": {"name": run.data.name, "source": run.data.source, "fingerprint": run.data.fingerprint},
        "student": student,
        "seed": seed,
        "epochs": run.recipe.epochs,
        "precision": run.precision,
        **{name: m[name] for name in ("test_top1", "test_top5", "train_top1", "train_top5")},
        "seconds": outcome.seconds,
        **{name: m[name] for name in ("cached_logits_s", "wall_s", "student_flops", "teacher_flops", "stages")},
        "agreement": m.get("agreement"),
        "folder": str(outcome.folder),
    }
    print(f"{run.title} ({run.data.source}: {run.data.name})")
    print(f"test Top-1 {m['test_top1']:.1%}, Top-5 {m['test_top5']:.1%}; training Top-1 {m['train_top1']:.1%}")
    if m["cached_logits_images"]:
        shared = f"{m['cached_logits_s']:.1f} s of its {outcome.seconds:.1f} s"
        print(f"teachers' logits of {m['cached_logits_images']} images were cached: {shared} are what these took")
    for stage in m["stages"]:
        heat = "" if stage["t_start"] is None else f", t {stage['t_start']:.1f} → {stage['t_end']:.1f}"
        print(f"  {stage['name']}: {stage['epochs']:.1f} epochs, ended by {stage['ended_by']}{heat}")
    if as_json:
        print_json(record)
