"""The roles' datasets from the command line."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from kit.cli import options
from kit.cli.output import complain, counted_over, print_json, tell_skipped
from kit.errors import said

app = typer.Typer(help="The roles' datasets: list, check, prepare, download.", no_args_is_help=True)


@app.command("list")
def data_list(data: options.Data = None, as_json: options.Json = False) -> None:
    """What fills each role here. Exit status 2 when one cannot be filled."""
    import pandas as pd

    from kit.data.roles import EVERY, OWN, find_real, real_folder
    from kit.paper.plan import Plan

    folder = real_folder(data)
    plan, found, wrong = Plan.of("quick", folder=data), [], {}
    for role in EVERY:
        try:
            if role != OWN or (folder is not None and find_real(OWN, folder, True)):
                found.append(plan.data(role).model_dump())
        except Exception as error:  # whatever it is: it costs this role alone
            wrong[role] = said(error)
    if found:
        frame = pd.DataFrame(found)[["role", "name", "source", "classes", "train_images", "px", "fingerprint"]]
        print(frame.assign(fingerprint=frame["fingerprint"].str[:12]).to_string(index=False))
    for role, why in wrong.items():
        print(f"{role}: {why}")
    if as_json:
        print_json([*found, *({"role": role, "problem": why} for role, why in wrong.items())])
    if wrong:
        raise typer.Exit(2)


@app.command("check")
def data_check(
    role: options.Role, data: options.Data = None, level: options.Level = None, as_json: options.Json = False
) -> None:
    """Open every image of a role. Exit status 2 when one is damaged."""
    from kit.data.check import check

    report = check(role, data, level=level)
    what = f"{report.name} ({report.source}), fingerprint {report.fingerprint[:12] or 'none'}"
    print(f"{report.role}: {what if report.name else 'nothing'}")
    for split, counts in report.counts.items():
        least, most = min(counts.values(), default=0), max(counts.values(), default=0)
        print(f"  {split}: {sum(counts.values())} images, {len(counts)} classes, {least} to {most} a class")
    if report.passed_over:
        print(f"  {counted_over(report.passed_over)}")
    for line in report.left_out:
        print(f"  left out: {line}")
    complain(f"  damaged: {path}: {reason}" for path, reason in report.damaged)
    complain(f"  problem: {problem}" for problem in report.problems)
    if as_json:
        print_json(asdict(report))
    if not report.sound:
        raise typer.Exit(2)


@app.command("prepare")
def data_prepare(role: options.Role, preset: options.Preset = "quick", data: options.Data = None) -> None:
    """Prepare a role's images now. Builds the stand-in, or a cache of resized images: training then starts at once."""
    from kit.data.throughput import throughput
    from kit.paper.plan import Plan

    plan = Plan.of(preset, folder=data)
    spec = plan.data(role)
    print(
        f"{role}: {spec.name} ({spec.source}), {spec.train_images} training images at {spec.px} px, "
        f"fingerprint {spec.fingerprint[:12]}"
    )
    tell_skipped(spec.load())
    network = plan.teacher("resnet34", role).student
    print(f"with {network.title}: {throughput(spec.load(), network.build(seed=0), plan.size(role).batch)}")


@app.command("download")
def data_download(role: options.Role, data: Annotated[Path, options.path("where to")]) -> None:
    """Download CIFAR-10 or CIFAR-100. Through torchvision; the only command that uses the network."""
    from kit.data.cifar import download

    download(role, data)
    print(f"{role} is in {data}")
