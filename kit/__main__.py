"""The command line: `python -m kit --help`."""

from __future__ import annotations

import json
import os
import platform
import sys
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import pandas as pd
import typer
from pydantic import ValidationError
from tqdm.auto import tqdm

from kit.errors import KitError, not_one_of, one_line
from kit.garbage import collect_rarely, keep_what_is_there

if TYPE_CHECKING:
    from kit.engines import Engine

app = typer.Typer(
    help="Knowledge distillation with an adaptive temperature and a small teacher.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(help="The roles' datasets: list, check, prepare, download.", no_args_is_help=True)
cache_app = typer.Typer(help="Finished runs: list, verify, prune, export, import.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(cache_app, name="cache")


def at_least_one(option: typer.CallbackParam, value: Optional[int]) -> Optional[int]:
    if value is not None and value < 1:
        raise KitError(f"--{option.name} {value} is not allowed; allowed: a whole number from 1 up")
    return value


PresetOption = Annotated[str, typer.Option(help="smoke, quick or paper")]
DataOption = Annotated[
    Optional[Path], typer.Option("--data", help="folder with real images (else KIT_DATA, else stand-ins)")
]
RoleDataOption = Annotated[
    Optional[list[str]], typer.Option("--role-data", metavar="ROLE=auto|embedded|real", help="what fills a role")
]
JobsOption = Annotated[
    Optional[int],
    typer.Option(callback=at_least_one, help="runs side by side, one thread each; default: as cores and memory allow"),
]
SchedulerOption = Annotated[
    Optional[str],
    typer.Option(metavar="tcp://HOST:PORT", help="train on a Dask cluster's workers; 'local': one on this machine"),
]
SeedsOption = Annotated[
    Optional[int], typer.Option(callback=at_least_one, help="how many seeds; default: the preset's")
]
LevelOption = Annotated[Optional[str], typer.Option(help="of hrsc2016's labels: ship, category or type")]
StrictOption = Annotated[bool, typer.Option("--strict", help="refuse damaged images instead of leaving them out")]
JsonOption = Annotated[bool, typer.Option("--json", help="end with one line of JSON")]


@app.command()
def figures(
    notebooks: Annotated[Optional[list[str]], typer.Argument(help="names or numbers; default: all")] = None,
    preset: PresetOption = "quick",
    out: Annotated[Path, typer.Option(help="where pictures, CSVs and manifest.json go")] = Path("figures"),
    jobs: JobsOption = None,
    scheduler: SchedulerOption = None,
    seeds: SeedsOption = None,
    role_data: RoleDataOption = None,
    data: DataOption = None,
    strict: StrictOption = False,
    parameter: Annotated[
        Optional[list[str]], typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="a notebook's parameter")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="draw again what is up to date")] = False,
) -> None:
    """Execute the notebooks and write every figure and table."""
    from kit import figures as drawing

    engine = engine_at(scheduler, jobs)
    refuse_damage(strict)
    request = drawing.Request(
        preset=preset,
        seeds=seeds,
        role_data=sources(role_data),
        data=str(data.resolve()) if data else None,
        jobs=jobs,
        extra={name: literal(value) for name, value in pairs(parameter, "parameter").items()},
    )
    failures = drawing.make(notebooks or [], request, out.resolve(), force, engine)
    for failure in failures:
        print(failure, file=sys.stderr)
    if failures:
        raise typer.Exit(1)


@app.command()
def train(
    student: Annotated[str, typer.Option(help="cnn, vgg16, vgg19, resnet34 or resnet50")],
    role: Annotated[str, typer.Option(help="cifar-10, cifar-100, imagenet or hrsc2016")] = "cifar-100",
    teacher: Annotated[Optional[str], typer.Option(help="the big teacher; without it: hard labels")] = None,
    small_teacher: Annotated[Optional[str], typer.Option(help="learnt from first")] = None,
    temperature: Annotated[str, typer.Option(help="adaptive, schedule, or a fixed T such as 5")] = "adaptive",
    reading: Annotated[str, typer.Option(help="of Eq. (1) at a fixed T: printed or hinton")] = "printed",
    k: Annotated[float, typer.Option(help="K: where t starts, and its bound")] = 20.0,
    alpha: Annotated[
        Optional[float], typer.Option(help="weight of the soft loss; default 0.5 in Eq. (1), 1 in adaptive stages")
    ] = None,
    rate: Annotated[Optional[float], typer.Option(help="learning rate of log t per epoch; default 60 / epochs")] = None,
    follows: Annotated[str, typer.Option(help="whose gradient moves t: cross-entropy or kl")] = "cross-entropy",
    optimiser: Annotated[str, typer.Option(help="of log t: sgd or adam")] = "sgd",
    floor: Annotated[bool, typer.Option(help="the losses use ⌊t⌋")] = True,
    t_squared: Annotated[bool, typer.Option(help="t² on the soft loss of adaptive stages")] = True,
    logits: Annotated[str, typer.Option(help="what teachers' logits are rounded to: float32 or float16")] = "float32",
    epochs: Annotated[Optional[int], typer.Option(help="default: the preset's for the role")] = None,
    batch: Annotated[Optional[int], typer.Option(help="default: the preset's for the role")] = None,
    lr: Annotated[Optional[float], typer.Option(help="peak learning rate; default 0.1")] = None,
    width: Annotated[
        Optional[int], typer.Option(help="the student's first channel count; default: the preset's")
    ] = None,
    seed: Annotated[int, typer.Option(help="of the student's weights, batches and augmentation")] = 0,
    events: Annotated[
        Optional[Path], typer.Option(metavar="FILE.json", help="changes of k, alpha and rate on the way, as recorded")
    ] = None,
    precision: Annotated[
        Optional[str], typer.Option(help="of training: float32 or bfloat16; default: bfloat16 on a GPU that has it")
    ] = None,
    preset: PresetOption = "quick",
    source: Annotated[str, typer.Option(help="auto, embedded or real images")] = "auto",
    level: LevelOption = None,
    data: DataOption = None,
    strict: StrictOption = False,
    jobs: JobsOption = None,
    scheduler: SchedulerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train one student (and its teachers, once)."""
    from kit import recipe, steering
    from kit.grid import train_all
    from kit.paper.plan import Plan
    from kit.runs import Failure, changed, replayed

    engine = engine_at(scheduler, jobs)
    refuse_damage(strict)
    plan = replace(Plan.of(preset, {check_role(role): source}, data), level=level)
    plan = replace(plan, precision=precision or plan.precision)
    for model in filter(None, (student, teacher, small_teacher)):
        check_model(model)
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
        print(json.dumps(record))


@app.command()
def table(
    number: Annotated[str, typer.Argument(help="1, 2, 3 or 4")],
    preset: PresetOption = "quick",
    seeds: SeedsOption = None,
    jobs: JobsOption = None,
    scheduler: SchedulerOption = None,
    role_data: RoleDataOption = None,
    data: DataOption = None,
    strict: StrictOption = False,
    assistants: Annotated[
        Optional[str], typer.Option(help="table 4: teacher assistants in order, such as vgg16,cnn; default: vgg16")
    ] = None,
    cost_target: Annotated[
        Optional[float], typer.Option(help="table 4: a searched student's FLOPs an image; default: the student's own")
    ] = None,
    csv: Annotated[Optional[Path], typer.Option(help="also write the runs, one line each, to this file")] = None,
    as_json: JsonOption = False,
) -> None:
    """Train what a table needs and print it, the paper's figures beside this kit's."""
    from kit.paper import TABLES
    from kit.paper.plan import Plan

    engine = engine_at(scheduler, jobs)
    refuse_damage(strict)
    if number not in TABLES:
        raise not_one_of("table", number, TABLES)
    plan = Plan.of(preset, sources(role_data), data)
    wanted = TABLES[number]
    options: dict[str, Any] = {}
    if assistants is not None:
        options["assistants"] = tuple(check_model(name.strip()) for name in assistants.split(",") if name.strip())
    if cost_target is not None:
        options["cost_target"] = cost_target
    if options and number != "4":
        raise KitError(f"table {number} has no {' and no '.join(options)}; allowed: for table 4")
    for role in wanted.ROLES:
        tell_skipped(plan.data(role).load())
    frame = wanted.run(plan, seeds or wanted.seeds(plan), engine or jobs, **options)
    shown, claims = wanted.summary(frame), wanted.verdicts(frame, plan)
    if csv:
        frame.to_csv(csv, index=False, lineterminator="\n")
    with pd.option_context("display.width", 200, "display.max_columns", None, "display.max_colwidth", 70):
        print(shown.to_string(index=False))
        print(claims.to_string(index=False))
    if as_json:
        print(json.dumps({"table": number, "preset": preset, "rows": records(frame), "claims": records(claims)}))


@app.command()
def cam(
    run: Annotated[Optional[str], typer.Option(metavar="HASH", help="a finished run, as 'cache list' names it")] = None,
    weights: Annotated[
        Optional[Path],
        typer.Option(help="instead, a safetensors state dict of --model; images normalised as ImageNet's"),
    ] = None,
    images: Annotated[
        Optional[Path], typer.Option(help="folder of images (boxes.csv: scores); default: the run's test split")
    ] = None,
    out: Annotated[Path, typer.Option(help="where overlays, cam.png and cam.csv go")] = Path("cam"),
    method: Annotated[str, typer.Option(help="grad-cam, grad-cam++, score-cam or layer-cam")] = "grad-cam",
    layer: Annotated[
        Optional[str], typer.Option(help="a module's name; default: deepest convolution of 4×4 cells")
    ] = None,
    of_class: Annotated[
        Optional[str], typer.Option("--class", metavar="NAME|NUMBER|predicted|true", help="what the maps are for")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="how many images of the run's test split")] = 48,
    model: Annotated[Optional[str], typer.Option(help="with --weights: cnn, vgg16, vgg19, resnet34, resnet50")] = None,
    classes: Annotated[
        Optional[str], typer.Option(metavar="N|NAME,NAME,…", help="with --weights: how many, or their names")
    ] = None,
    width: Annotated[int, typer.Option(help="with --weights: the first channel count")] = 64,
    stem: Annotated[str, typer.Option(help="with --weights: imagenet or small")] = "imagenet",
    px: Annotated[int, typer.Option(min=8, max=512, help="with --weights: the images' size")] = 224,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw heat maps of a folder of images: overlays, a sheet and cam.csv."""
    from kit.models import ModelSpec
    from kit.show import cam_folder

    if (run is None) == (weights is None):
        raise KitError("give a network: either --run HASH or --weights FILE, not both")
    if images is None and weights is not None:
        raise KitError("--weights needs --images, a folder of images")
    if images is not None and images.resolve() in (out.resolve(), *out.resolve().parents):
        raise KitError(
            f"--out {str(out)!r} lies in --images; allowed: a folder outside, as what it gets are images too"
        )
    if run is not None:
        explained, dataset = cam_folder.of_run(run, data)
    else:
        if model is None or classes is None:
            raise KitError("--weights needs --model and --classes")
        words = [word.strip() for word in classes.split(",")]
        names = [str(i) for i in range(int(classes))] if classes.isdecimal() else words
        spec = ModelSpec(name=check_model(model), classes=len(names), width=width, stem=stem)
        explained = cam_folder.of_weights(weights, spec, px, names)
    pictures = cam_folder.of_test(dataset, limit) if images is None else cam_folder.of_folder(images, explained.px)
    frame = cam_folder.explain(explained, pictures, out, method, layer, of_class)
    print(f"{explained.title}: {len(frame)} maps by {method} at {frame['layer'].iloc[0]} in {out}")
    if "energy_box" in frame:
        means = frame[["pointing", "energy_box", "iou"]].mean()
        print(f"in the boxes: pointing {means.iloc[0]:.1%}, energy {means.iloc[1]:.1%}, IoU {means.iloc[2]:.1%}")
    for complaint in pictures.damaged:
        print(f"  damaged: {complaint}", file=sys.stderr)
    if as_json:
        print(json.dumps({"out": str(out), "maps": records(frame), "damaged": list(pictures.damaged)}))
    if pictures.damaged:
        raise typer.Exit(2)


@data_app.command("list")
def data_list(data: DataOption = None, as_json: JsonOption = False) -> None:
    """What fills each role here."""
    from kit.data import ROLES
    from kit.paper.plan import Plan

    plan = Plan.of("quick", folder=data)
    found = [plan.data(role).model_dump() for role in ROLES]
    frame = pd.DataFrame(found)[["role", "name", "source", "classes", "train_images", "px", "fingerprint"]]
    print(frame.assign(fingerprint=frame["fingerprint"].str[:12]).to_string(index=False))
    if as_json:
        print(json.dumps(found))


@data_app.command("check")
def data_check(role: str, data: DataOption = None, level: LevelOption = None, as_json: JsonOption = False) -> None:
    """Open every image of a role; exit status 2 when one is damaged."""
    from kit.data.check import check

    report = check(check_role(role), data, level=level)
    print(f"{report.role}: {report.name} ({report.source}), fingerprint {report.fingerprint[:12] or 'none'}")
    for split, counts in report.counts.items():
        least, most = min(counts.values(), default=0), max(counts.values(), default=0)
        print(f"  {split}: {sum(counts.values())} images, {len(counts)} classes, {least} to {most} a class")
    for path, reason in report.damaged:
        print(f"  damaged: {path}: {reason}", file=sys.stderr)
    for problem in report.problems:
        print(f"  problem: {problem}", file=sys.stderr)
    if as_json:
        print(json.dumps(asdict(report), default=str))
    if not report.sound:
        raise typer.Exit(2)


@data_app.command("prepare")
def data_prepare(role: str, preset: PresetOption = "quick", data: DataOption = None) -> None:
    """Build the role's stand-in or its cache of resized images now, so that training starts at once."""
    from kit.data.throughput import throughput
    from kit.paper.plan import Plan

    plan = Plan.of(preset, folder=data)
    spec = plan.data(check_role(role))
    print(
        f"{role}: {spec.name} ({spec.source}), {spec.train_images} training images at {spec.px} px, "
        f"fingerprint {spec.fingerprint[:12]}"
    )
    tell_skipped(spec.load())
    network = plan.teacher("resnet34", role).student
    print(f"with {network.title}: {throughput(spec.load(), network.build(seed=0), plan.preset.roles[role].batch)}")


@data_app.command("download")
def data_download(role: str, data: Annotated[Path, typer.Option("--data", help="where to")]) -> None:
    """Download CIFAR-10 or CIFAR-100 through torchvision (the only command that uses the network)."""
    from kit.data import download

    download(check_role(role), data)
    print(f"{role} is in {data}")


@cache_app.command("list")
def cache_list(as_json: JsonOption = False) -> None:
    """Runs in the cache, newest first."""
    from kit.runs import cached

    found = [{"run": entry.hash, "title": entry.title, "status": entry.status} for entry in cached()]
    print(pd.DataFrame(found).to_string(index=False) if found else "no runs yet")
    if as_json:
        print(json.dumps(found))


@cache_app.command("verify")
def cache_verify() -> None:
    """Compare every run with its checksums; exit status 2 when one is cut short, altered or of another kit."""
    from kit.runs import cached

    entries = cached()
    damaged = [entry for entry in entries if entry.complaint]
    for entry in damaged:
        print(f"run {entry.hash}: {entry.complaint}", file=sys.stderr)
    print(f"{len(entries) - len(damaged)} of {len(entries)} runs are whole")
    if damaged:
        raise typer.Exit(2)


@cache_app.command("prune")
def cache_prune(
    damaged: Annotated[
        bool, typer.Option("--damaged", help="only runs cut short or altered, set aside or not")
    ] = False,
    diverged: Annotated[
        bool, typer.Option("--diverged", help="only runs that diverged, so that they are tried again")
    ] = False,
    keep: Annotated[Optional[list[str]], typer.Option(help="hashes of runs to keep, and what they learnt from")] = None,
) -> None:
    """Remove runs from the cache: all of them, or only damaged or diverged ones."""
    from kit.cache import prune

    print(f"removed {prune(damaged, diverged, keep or [])} runs")


@cache_app.command("export")
def cache_export(
    folder: Annotated[Path, typer.Argument(help="where to; made if it is not there")],
    runs: Annotated[Optional[list[str]], typer.Argument(help="hashes; default: every whole run")] = None,
) -> None:
    """Copy runs, and those they learnt from, into a folder that a colleague can import."""
    from kit.cache import export_runs

    print(f"{len(export_runs(folder, runs or []))} runs are in {folder}")


@cache_app.command("import")
def cache_import(folder: Annotated[Path, typer.Argument(help="what `cache export` has written")]) -> None:
    """Take over a folder's runs; exit status 2 when one is damaged (the others are taken over)."""
    from kit.cache import import_runs

    taken, refused = import_runs(folder)
    for line in refused:
        print(line, file=sys.stderr)
    print(f"{len(taken)} runs from {folder} are in the cache")
    if refused:
        raise typer.Exit(2)


@app.command()
def bench(
    preset: PresetOption = "quick",
    seconds: Annotated[float, typer.Option(min=0.05, max=60, help="that each measurement takes")] = 1.0,
    jobs: JobsOption = None,
    seeds: SeedsOption = None,
    role_data: RoleDataOption = None,
    data: DataOption = None,
    gpu_tflops: Annotated[float, typer.Option(help="preset paper: a GPU's peak TFLOP/s")] = 990.0,
    utilisation: Annotated[float, typer.Option(help="preset paper: the share of it that training uses")] = 0.3,
    page: Annotated[Optional[Path], typer.Option(help="preset paper: also write PAPER.md's text to this file")] = None,
    as_json: JsonOption = False,
) -> None:
    """How fast this machine is, and how many minutes each notebook will take on it, before anything is trained."""
    from kit import bench as benching
    from kit.figures import NEEDS
    from kit.pace import Pace
    from kit.paper import scale
    from kit.paper.plan import Plan, runs_of
    from kit.presets import preset_named
    from kit.runs import cache_folder
    from kit.sealed import write, writing_to

    is_paper = preset_named(preset).name == "paper"
    if page and not is_paper:
        raise KitError(f"--page {str(page)!r} is of preset 'paper'; got preset {preset!r}")
    scale.gpu_rate(gpu_tflops, utilisation)
    plan = scale.plan() if is_paper else Plan.of(preset, sources(role_data), data)
    if is_paper and (role_data or data):
        raise KitError("--role-data and --data are not for preset 'paper', whose data are the published counts")
    needed = [run for need in NEEDS.values() for run in runs_of(need(plan, seeds))]
    batch = next(iter(plan.preset.roles.values())).batch
    networks = benching.networks_of(needed)
    print(f"images/s of each network at preset {preset}, on one thread as runs are, and on all cores")
    speeds = [benching.speed(spec, px, batch, seconds) for spec, px in tqdm(networks, desc="measuring", leave=False)]
    print(benching.speeds_table(speeds).round(1).to_string(index=False))
    known = Pace.from_cache(cache_folder())
    pace = known.with_rates(benching.measured_rates(speeds, needed))
    prediction = benching.Prediction.of(plan, pace, jobs, seeds)
    source = f"the measurements above and {len(known.makes)} makes of run in the cache" if known.makes else "the above"
    print(f"\nminutes at preset {preset}, {prediction.jobs} runs side by side, expected from {source}")
    print(prediction.table.round(1).to_string(index=False))
    print(f"all of it from an empty cache: about {benching.duration(prediction.training + prediction.drawing)}")
    print("Table 4's searched runs are estimated: what a search proposes is not known before it")
    print("measured while other programs run, this machine looks slower than it is")
    if is_paper:
        print(f"data at preset paper: {', '.join(each.name for each in scale.PUBLISHED.values())}, by published counts")
        frame = scale.summary(plan, gpu_tflops, utilisation)
        hours = frame["gpu_hours"].sum()
        print(f"\non one GPU, {gpu_tflops:g} TFLOP/s × {utilisation:.0%} assumed: about {hours:,.0f} hours")
        print(frame.round(1).to_string(index=False))
    if page:
        with writing_to(page.parent):
            write(page, scale.page(gpu_tflops, utilisation))
    print(benching.verdict(prediction))
    if as_json:
        print(json.dumps(benching.record(prediction, speeds) | ({"gpu": records(frame)} if is_paper else {})))


@app.command()
def doctor() -> None:
    """What this installation is and can do."""
    import torch

    from kit.data import ROLES
    from kit.machine import cores
    from kit.paper.plan import Plan
    from kit.runs import cache_folder

    print(f"python {platform.python_version()} on {platform.system()} {platform.machine()}, {cores()} cores")
    for name in (
        "torch",
        "torchvision",
        "jupyterlab",
        "ipykernel",
        "ipywidgets",
        "anywidget",
        "voila",
        "distributed",
        "accelerate",
        "papermill",
        "matplotlib",
        "grad-cam",
    ):
        print(f"{name} {version(name)}")
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none (presets smoke and quick need none)"
    print(f"GPU: {gpu}")
    print(f"cache: {cache_folder()}")
    for role in ROLES:
        spec = Plan.of("smoke").data(role)
        print(f"{role}: {spec.name} ({spec.source})")


# ---- words from the command line ----------------------------------------------------------------------------------


def pairs(words: list[str] | None, what: str) -> dict[str, str]:
    """`NAME=VALUE` words as a dictionary."""
    for word in words or []:
        if "=" not in word:
            raise KitError(f"{what} {word!r} is not of the form NAME=VALUE")
    return dict(word.split("=", 1) for word in words or [])


def literal(text: str) -> Any:
    """A parameter's value: JSON where it is JSON (3, 0.5, true, null, "x", [1, 2]), else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def sources(words: list[str] | None) -> dict[str, str]:
    found = pairs(words, "role data")
    for role, source in found.items():
        check_role(role)
        if source not in ("auto", "embedded", "real"):
            raise not_one_of(f"source of {role}", source, ("auto", "embedded", "real"))
    return found


def engine_at(scheduler: str | None, jobs: int | None) -> Engine | None:
    """The Dask cluster of a scheduler, of whose workers at most `jobs` are used; None: this machine's processes."""
    if scheduler is None:
        return None
    from kit.cluster import DaskCluster

    return DaskCluster(scheduler, jobs)


def refuse_damage(strict: bool) -> None:
    """Loaders, in this process and in those that train, read KIT_STRICT."""
    if strict:
        os.environ["KIT_STRICT"] = "1"


def tell_skipped(data: Any) -> None:
    """One line on the damaged files that a dataset was filled without."""
    if data.skipped:
        count, first = len(data.skipped), data.skipped[0]
        print(f"warning: {data.role}: {count} damaged files left out, first {first}", file=sys.stderr)


def check_role(role: str) -> str:
    from kit.data import ROLES

    if role not in ROLES:
        raise not_one_of("role", role, ROLES)
    return role


def check_model(model: str) -> str:
    from kit.models import MODELS

    if model not in MODELS:
        raise not_one_of("model", model, MODELS)
    return model


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A frame as JSON objects, NaN as null."""
    return json.loads(frame.to_json(orient="records"))


STOPPED = "stopped; finished runs are kept"


def main(argv: list[str] | None = None) -> int:
    """Runs a command; wrong input becomes one line and exit status 2. Of torchrun's processes one speaks for all."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        message, status = ended(argv)
        if message:
            print(message, file=sys.stderr)
        return status
    from kit import parallel

    words = sys.argv[1:] if argv is None else argv
    with parallel.first_speaks():
        if parallel.count() > 1 and words[:1] != ["train"]:
            message, status = f"error: {parallel.count()} processes are for 'train'; allowed here: one", 2
        else:
            message, status = ended(argv)
    if message:
        parallel.say_once(message)
    return status


def ended(argv: list[str] | None) -> tuple[str, int]:
    """Runs a command. How it ended: a line for stderr, empty where all went well, and the exit status."""
    try:
        status = app(argv, standalone_mode=False, prog_name="python -m kit") or 0
        message = STOPPED if status == 130 else ""  # typer makes 130 of a KeyboardInterrupt
    except typer.TyperException as error:
        message, status = error.format_message(), error.exit_code
        if message.startswith("Usage:"):  # no command was given
            print(message)
            return "", status
        message = message.replace("\n", " ")
        if isinstance(error.__cause__, ValidationError):  # typer leaves the value out
            message = f"{message}: got {error.__cause__.errors()[0]['input']!r}"
    except ValidationError as error:
        message, status = one_line(error), 2
    except KitError as error:
        message, status = str(error), 2
    except (KeyboardInterrupt, typer.Abort):
        message, status = STOPPED, 130
    return f"error: {message}" if message else "", status


def run() -> int:
    """`main` as a process of its own, which ends with it."""
    collect_rarely()
    try:
        return main()
    finally:
        keep_what_is_there()  # for the little that is left to do


if __name__ == "__main__":
    sys.exit(run())
