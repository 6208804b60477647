"""This machine, from the command line: how fast it is, and what the installation on it can do."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

from kit.cli import options
from kit.cli.output import print_json
from kit.errors import KitError, said

PACKAGES = (
    "small-teacher-kit", "torch", "torchvision", "jupyterlab", "ipykernel", "ipywidgets", "anywidget", "voila",
    "distributed", "papermill", "matplotlib", "grad-cam",
)  # fmt: skip


def bench(
    preset: options.Preset = "quick",
    seconds: Annotated[float, typer.Option(help="that each measurement takes, 0.05 to 60")] = 1.0,
    jobs: options.Jobs = None,
    seeds: options.Seeds = None,
    role_data: options.RoleData = None,
    data: options.Data = None,
    gpu_tflops: Annotated[float | None, typer.Option(help="preset paper: a GPU's peak TFLOP/s; default: 990")] = None,
    utilisation: Annotated[
        float | None, typer.Option(help="preset paper: the share of it that training uses; default: 0.3")
    ] = None,
    page: Annotated[Path | None, options.path("preset paper: also write PAPER.md's text to this file")] = None,
    as_json: options.Json = False,
) -> None:
    """Foresee notebooks' minutes on this machine. Measures how fast each network is, before anything is trained."""
    from tqdm.auto import tqdm

    from kit.figures import forecast as benching
    from kit.figures.needs import NEEDS
    from kit.files import cache_folder, ready_file, write, writing_to
    from kit.grid.durations import Pace
    from kit.grid.engines import default_jobs
    from kit.paper import scale
    from kit.paper.plan import Plan, runs_of
    from kit.paper.presets import preset_named

    if not 0.05 <= seconds <= 60:
        raise KitError(f"--seconds {seconds:g} is not allowed; allowed: 0.05 to 60")
    is_paper = preset_named(preset).name == "paper"
    of_paper = {"--page": page and str(page), "--gpu-tflops": gpu_tflops, "--utilisation": utilisation}
    for option, value in of_paper.items():
        if value is not None and not is_paper:
            raise KitError(f"{option} {value!r} is of preset 'paper'; got preset {preset!r}")
    gpu_tflops = scale.TFLOPS if gpu_tflops is None else gpu_tflops
    utilisation = scale.UTILISATION if utilisation is None else utilisation
    scale.gpu_rate(gpu_tflops, utilisation)
    plan = scale.plan() if is_paper else Plan.of(preset, options.sources(role_data), data)
    if is_paper and (role_data or data):
        raise KitError("--role-data and --data are not for preset 'paper', whose data are the published counts")
    if page:
        ready_file(page)
    needed = [run for need in NEEDS.values() for run in runs_of(need(plan, seeds))]
    print(f"images/s of each network at preset {preset}, on one thread as runs are, and on all cores")
    networks = tqdm(benching.networks_of(needed), desc="measuring", leave=False)
    speeds = [benching.speed(spec, px, batch, seconds) for spec, px, batch in networks]
    print(benching.speeds_table(speeds).round(1).to_string(index=False))
    known = Pace.from_cache(cache_folder())
    pace = known.with_rates(benching.measured_rates(speeds))
    jobs = jobs or default_jobs()
    prediction = benching.Prediction.of(plan, pace, benching.runs_at_once(jobs), seeds)
    source = "the measurements above and the runs in the cache" if known.rates else "the above"
    side_by_side = f"{jobs} runs side by side on {prediction.at_once} cores"
    print(f"\nminutes at preset {preset}, {side_by_side}, expected from {source}")
    print(prediction.table.round(1).to_string(index=False))
    print(f"all of it from an empty cache: about {benching.duration(prediction.training + prediction.drawing)}")
    print("Table 4's searched runs are estimated: what a search proposes is not known before it")
    print("measured while other programs run, this machine looks slower than it is")
    if is_paper:
        print(f"data at preset paper: {', '.join(each.name for each in scale.PUBLISHED.values())}, by published counts")
        frame = scale.summary(scale.parts(plan), gpu_tflops, utilisation)
        hours = frame["gpu_hours"].sum()
        print(f"\non one GPU, {gpu_tflops:g} TFLOP/s × {utilisation:.0%} assumed: about {hours:,.0f} hours")
        print(frame.round(1).to_string(index=False))
    if page:
        with writing_to(page):
            write(page, scale.page(gpu_tflops, utilisation))
    print(benching.verdict(prediction))
    if as_json:
        print_json(benching.record(prediction, speeds) | {"jobs": jobs} | ({"gpu": frame} if is_paper else {}))


def doctor() -> None:
    """What this installation is and can do."""
    import torch

    from kit.data.roles import ROLES
    from kit.files import cache_folder
    from kit.paper.plan import Plan
    from kit.runtime.machine import cores

    print(f"python {platform.python_version()} on {platform.system()} {platform.machine()}, {cores()} cores")
    wrong = False
    for name in PACKAGES:
        try:
            print(f"{name} {version(name)}")
        except PackageNotFoundError:
            wrong = True
            print(f"{name}: not installed")
    print(f"instructions: {torch.backends.cpu.get_cpu_capability()}")
    gpu = "none (presets smoke and quick need none)"
    if torch.cuda.is_available():
        gpu = f"{torch.cuda.get_device_name()} (of preset paper, and --device cuda)"
    print(f"GPU: {gpu}")
    print(f"cache: {cache_folder()}")
    for role in ROLES:
        try:
            spec = Plan.of("smoke").data(role)
        except Exception as error:  # whatever it is: who asks wants to know of the other roles, too
            wrong, says = True, said(error)
        else:
            says = f"{spec.name} ({spec.source})"
        print(f"{role}: {says}")
    if wrong:
        raise typer.Exit(2)
