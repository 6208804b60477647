"""Heat maps from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kit.cli import options
from kit.cli.output import complain, counted_over, print_json
from kit.errors import KitError


def cam(
    run: Annotated[str | None, typer.Option(metavar="HASH", help="a finished run, as 'cache list' names it")] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            callback=options.at_home,
            help="instead, a safetensors state dict of --model; images normalised as ImageNet's",
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            callback=options.at_home, help="folder of images (boxes.csv: scores); default: the run's test split"
        ),
    ] = None,
    out: Annotated[Path, typer.Option(callback=options.at_home, help="where overlays, cam.png and cam.csv go")] = Path(
        "cam"
    ),
    method: Annotated[str, typer.Option(help="grad-cam, grad-cam++, score-cam or layer-cam")] = "grad-cam",
    layer: Annotated[
        str | None, typer.Option(help="a module's name; default: deepest convolution of 4×4 cells")
    ] = None,
    of_class: Annotated[
        str | None, typer.Option("--class", metavar="NAME|NUMBER|predicted|true", help="what the maps are for")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="how many images of the run's test split")] = 48,
    model: Annotated[
        str | None,
        typer.Option(callback=options.check_model, help="with --weights: cnn, vgg16, vgg19, resnet34, resnet50"),
    ] = None,
    classes: Annotated[
        str | None, typer.Option(metavar="N|NAME,NAME,…", help="with --weights: how many, or their names")
    ] = None,
    width: Annotated[int, typer.Option(help="with --weights: the first channel count")] = 64,
    stem: Annotated[str, typer.Option(help="with --weights: imagenet or small")] = "imagenet",
    px: Annotated[int, typer.Option(min=8, max=512, help="with --weights: the images' size")] = 224,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Draw heat maps of a folder of images: overlays, a sheet and cam.csv."""
    from kit.models import ModelSpec
    from kit.runs.store import stored
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
        explained = cam_folder.of_run(run, data)
    else:
        if model is None or classes is None:
            raise KitError("--weights needs --model and --classes")
        words = [word.strip() for word in classes.split(",")]
        names = [str(i) for i in range(int(classes))] if classes.isdecimal() else words
        spec = ModelSpec(name=model, classes=len(names), width=width, stem=stem)
        explained = cam_folder.of_weights(weights, spec, px, names)
    if images is None:
        pictures = cam_folder.of_test(stored(run).data(data).load(), limit)
    else:
        pictures = cam_folder.of_folder(images, explained.px)
    complain(f"warning: {each}" for each in pictures.warnings)
    frame = cam_folder.explain(explained, pictures, out, method, layer, of_class)
    print(f"{explained.title}: {len(frame)} maps by {method} at {frame['layer'].iloc[0]} in {out}")
    if pictures.passed_over:
        print(f"  {counted_over(pictures.passed_over)}")
    if "energy_box" in frame and frame["pointing"].notna().any():
        means = frame[["pointing", "energy_box", "iou"]].mean()
        print(f"in the boxes: pointing {means.iloc[0]:.1%}, energy {means.iloc[1]:.1%}, IoU {means.iloc[2]:.1%}")
    complain(f"  damaged: {each}" for each in pictures.damaged)
    if as_json:
        print_json({"out": out, "maps": frame, "damaged": list(pictures.damaged), "warnings": list(pictures.warnings)})
    if pictures.damaged:
        raise typer.Exit(2)
