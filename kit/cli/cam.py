"""Heat maps from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel, Field

from kit.cli import options
from kit.cli.output import complain, counted_over, print_json
from kit.errors import KitError
from kit.paper.settings import OTHERS, arguments_of

MOST = 100_000  # classes: a network of more is a slip of the hand, and would take all memory


def names_of(classes: str) -> list[str]:
    """Classes by their names, or numbered where a word says how many. KitError for fewer than two, and one twice."""
    names = [word.strip() for word in classes.split(",")]
    if classes.isdecimal() and 2 <= int(classes) <= MOST:
        return [str(i) for i in range(int(classes))]
    if classes.isdecimal() or len(names) < 2 or "" in names or len({*names}) < len(names):
        allowed = f"their number, 2 to {MOST}, or two names and more, each once"
        raise KitError(f"--classes {classes!r} is not allowed; allowed: {allowed}")
    return names


class Given(BaseModel):
    """A network whose weights a file has: what a command must be told of it."""

    model: str | None = Field(None, description=f"with --weights: cnn, vgg16, vgg19, resnet34, resnet50, {OTHERS}")
    args: str | None = Field(None, description='likewise, of a function\'s network: further arguments, {"depth": 16}')
    classes: str | None = Field(None, description="likewise: how many, or their names, commas between them")
    width: int | None = Field(None, description="likewise, of the kit's five: the first channel count; default: 64")
    stem: str | None = Field(None, description="likewise: imagenet or small; default: imagenet")
    px: int | None = Field(None, ge=8, le=512, description="likewise: the images' size; default: 224")
    normalise: str | None = Field(
        None, description="likewise: how images are normalised, imagenet or MEAN/STD; default: imagenet"
    )


@options.of(Given)
def cam(
    given: Given,
    run: Annotated[
        str | None, typer.Option(metavar="HASH", help="a finished run, as 'cache list' names it; six digits do")
    ] = None,
    weights: Annotated[
        Path | None, options.path("instead, a file of --model's weights: safetensors, or torch's")
    ] = None,
    images: Annotated[
        Path | None, options.path("a picture, or a folder of them (boxes.csv: scores); default: the run's test split")
    ] = None,
    out: Annotated[Path, options.path("where overlays, cam.png and cam.csv go")] = Path("cam"),
    method: Annotated[str, typer.Option(help="grad-cam, grad-cam++, score-cam or layer-cam")] = "grad-cam",
    layer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="any module that gives a map (N, C, h, w); default: deepest convolution of 4×4 cells"
        ),
    ] = None,
    of_class: Annotated[
        str | None, typer.Option("--class", metavar="NAME|NUMBER|predicted|true", help="what the maps are for")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(callback=options.at_least_one, help="images of the run's test split; default: 48")
    ] = None,
    data: options.Data = None,
    as_json: options.Json = False,
) -> None:
    """Draw heat maps of a folder of images. Writes overlays, a sheet and cam.csv."""
    from kit.runs.store import stored
    from kit.show import cam_folder

    if (run is None) == (weights is None):
        raise KitError("give a network: either --run HASH or --weights FILE, not both")
    for wanted, instead, words in (
        ("--weights", run and "--run, which has its own", given.model_dump()),
        ("--run", weights and "--weights, which need --images alone", {"data": data and str(data)}),
        ("a run's test split", images and "--images, which are all explained", {"limit": limit}),
    ):
        for name, value in words.items():
            if value is not None and instead:
                raise KitError(f"--{name} {value!r} is for {wanted}; allowed: none with {instead}")
    if images is not None and images.resolve() in (out.resolve(), *out.resolve().parents):
        raise KitError(
            f"--out {str(out)!r} lies in --images; allowed: a folder outside, as what it gets are images too"
        )
    if run is not None:
        classifier, title = cam_folder.of_run(run, data), stored(run).title
    else:
        if images is None:
            raise KitError("--weights needs --images, a folder of images")
        if given.model is None or given.classes is None:
            raise KitError("--weights needs --model and --classes")
        names, arguments = names_of(given.classes), arguments_of("--args", given.args)
        px, own = given.px or 224, {"width": given.width, "stem": given.stem}
        network = cam_folder.network_of(given.model, len(names), px, arguments, **own)
        classifier = cam_folder.of_weights(weights, network, px, names, given.normalise or "imagenet")
        title = f"{network.title} from {weights.name}"
    if images is None:
        pictures = cam_folder.of_test(stored(run).data(data).load(), limit or 48)
    else:
        pictures = cam_folder.of_folder(images, classifier.px)
    complain(f"warning: {each}" for each in pictures.warnings)
    frame = cam_folder.explain(classifier, pictures, title, out, method, layer, of_class)
    print(f"{title}: {len(frame)} maps by {method} at {frame['layer'].iloc[0]} in {out}")
    if pictures.passed_over:
        print(f"  {counted_over(pictures.passed_over)}")
    if "energy_box" in frame and frame["pointing"].notna().any():
        pointing, energy, iou = frame[["pointing", "energy_box", "iou"]].mean()
        print(f"in the boxes: pointing {pointing:.1%}, energy {energy:.1%}, IoU {iou:.1%}")
    complain(f"  damaged: {each}" for each in pictures.damaged)
    if as_json:
        print_json({"out": out, "maps": frame, "damaged": list(pictures.damaged), "warnings": list(pictures.warnings)})
    if pictures.damaged:
        raise typer.Exit(2)
