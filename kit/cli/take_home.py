"""A student taken home, from the command line: its answers to a folder of pictures, and its files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kit.cli import options
from kit.cli.output import complain, counted_over, print_json
from kit.errors import KitError


def predict(
    run: Annotated[str, typer.Option(metavar="HASH", help="a finished run, as 'cache list' names it; six digits do")],
    images: Annotated[Path, options.path("a picture, or a folder of them at any depth")],
    csv: Annotated[Path | None, options.path("a file for the table")] = None,
    as_json: options.Json = False,
) -> None:
    """Classify pictures by a run's student. In folders named after its classes, tells its accuracy too."""
    from kit.data.picture import EXTENSIONS
    from kit.deploy.predictions import predict
    from kit.files import ready_file, write_atomically, writing_to

    if csv is not None and csv.name.lower().endswith(EXTENSIONS):
        raise KitError(f"--csv {str(csv)!r} is named like a picture; allowed: another ending, such as .csv")
    if csv is not None:
        ready_file(csv)
    found = predict(run, images)
    if csv is not None:
        with writing_to(csv.parent):
            write_atomically(csv, found.table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
        print(f"{found.title}: {len(found.table)} images in {csv}")
    else:
        for image, name, probability in found.table[["image", "class", "probability"]].itertuples(index=False):
            print(f"{image}\t{name}\t{probability:.4f}")
    if found.accuracy is not None:
        print(f"{found.accuracy} in folders named after classes")
    if found.framing:
        complain([f"note: the student was taught {found.framing}"])
    if found.passed_over:
        complain([f"note: {counted_over(found.passed_over)}"])
    complain(f"damaged: {each}" for each in found.damaged)
    if found.damaged:
        complain([f"damaged images without a class: {len(found.damaged)}"])
    if as_json:
        known = found.accuracy
        print_json(
            {
                "run": found.run,
                "title": found.title,
                "images": found.table,
                "accuracy": known and {"top1": known.top1, "interval": known.interval, "images": known.images},
                "damaged": list(found.damaged),
                "passed_over": list(found.passed_over),
                "csv": csv and str(csv),
            }
        )
    if found.damaged:
        raise typer.Exit(2)


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="a finished run, as 'cache list' names it; six digits do")],
    to: Annotated[Path, options.path("a new or empty folder")],
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="safetensors, torch-export or onnx; may be given again; default: the first two"),
    ] = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Write a student as files that need no kit. Weights, program, classes, model card, predict.py."""
    from kit.deploy.export import DEFAULT, export

    done = export(run, to, formats or DEFAULT, data)
    print(f"{done.title}: {', '.join(sorted(path.name for path in done.folder.iterdir()))} in {to}")
    apart = ", ".join(f"{name} to {value:.0e}" for name, value in done.differences.items())
    print(f"the run's logits on {done.checked_on}: {apart}")
    if as_json:
        about = {"run": done.run, "folder": done.folder}
        print_json(about | {"differences": done.differences, "checked_on": done.checked_on})
