"""Heat maps of a folder of images, as files: an overlay per image, a sheet of all, and `cam.csv`.

The network is a run's student from the cache, or any by its name with weights from a file. Images
are read as `predict` reads them: the shorter side resized, the centre cropped. Where a folder holds `boxes.csv`
(image, xmin, ymin, xmax, ymax in the upright image's own pixels), maps are scored against the boxes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from kit.cam import scores as cam_scores
from kit.cam.heat_maps import maps
from kit.data.base import Dataset
from kit.data.folder import decode_all
from kit.data.tree import shown
from kit.deploy.predictions import Classifier
from kit.deploy.predictions import pictures as listed
from kit.errors import KitError
from kit.files import write_atomically, writing_to
from kit.models import MODELS, ModelSpec
from kit.networks.named import FORMS, NamedSpec, Network, check_name
from kit.networks.view import normalisation
from kit.runs.store import stored
from kit.runs.weights import Weights
from kit.show import style
from kit.show.artefacts import csv_bytes, left_behind, pixels_png, png_bytes
from kit.show.cam_figures import enlarged, overlay
from kit.show.pages import contact_sheet

ON_SHEET = 48  # images at most
TILE = 140  # px
PERCENT = 40  # of these, for what follows a class's name


@dataclass(frozen=True)
class Pictures:
    """Images uint8 (N, px, px, 3) by name. `boxes` (N, 4) are NaN where none is known; `damaged` were left out.

    `warnings` say what of `boxes.csv` is of no use, `passed_over` what in the folder is no image.
    """

    names: tuple[str, ...]
    pixels: Tensor
    labels: Tensor | None = None
    boxes: np.ndarray | None = None
    damaged: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()


def of_run(run_hash: str, folder: Path | None = None) -> Classifier:
    """A run's student, and how its images are prepared, both as stored; of an older run the latter is measured on its
    data, `folder` being where real images lie. KitError for a run that is not in the cache, for data that are not, and
    for a folder where the kit's own images are its data.
    """
    found = stored(run_hash)
    if folder is not None:
        found.data(folder)
    if found.images is not None:
        return Classifier.of(found)
    try:
        data = found.data(folder).load()
    except KitError as error:
        why = "was stored without mean and deviation of its training images, which --data must hold"
        raise KitError(f"run {run_hash} {why}: {error}") from None
    return Classifier(found.student(), data.px, *data.mean_std, tuple(data.classes))


def network_of(name: str, classes: int, px: int, arguments: Mapping[str, object], **five: object) -> Network:
    """The network of a name: `five` (width, stem) are for the kit's own, `arguments` for the others. KitError."""
    given = {what: value for what, value in five.items() if value is not None}
    if check_name(name) in MODELS:
        if arguments:
            raise KitError(f"model {name!r} has no arguments; allowed: for {', '.join(FORMS)}")
        return ModelSpec(name=name, classes=classes, **given)
    for what, value in given.items():
        raise KitError(f"{what} {value!r} is not allowed; allowed: for {', '.join(MODELS)}")
    return NamedSpec.of(name, classes, px, arguments)


def of_weights(file: Path, spec: Network, px: int, classes: Sequence[str], normalise: str = "imagenet") -> Classifier:
    """A network with given weights, as teachers are given them, and how it wants its images. KitError where they do not
    fit."""
    if (normalised_by := normalisation(normalise)) is None:
        raise KitError(f"normalisation {normalise!r} is of a training's images; allowed: imagenet or MEAN/STD")
    network = Weights.of(file, spec).into(spec.build(seed=0), spec.title)
    mean, std = (255 * torch.tensor(stat) for stat in normalised_by)
    return Classifier(network.eval(), px, mean, std, tuple(classes))


def of_folder(images: Path, px: int) -> Pictures:
    """Every image at or below a folder, in order, or one image. Damaged ones are left out and named. KitError where
    none is left."""
    half, passed = listed(images, ())
    table = _boxes(half.folder)
    names, pixels, sizes, damaged = [], [], [], []
    for name, decoded in zip(map(shown, half.paths), decode_all(half, px), strict=True):
        if decoded.pixels is None:
            damaged.append(f"{name}: {decoded.reason}")
        else:
            names.append(name)
            pixels.append(decoded.pixels)
            sizes.append(decoded.size)
    if not names:
        raise KitError(f"{images} holds no readable image, first {damaged[0]}")
    passed = tuple(line for line in passed if not line.startswith("boxes.csv: "))  # which is read
    boxes, warnings = (None, ()) if table is None else _cropped(table, names, sizes, px)
    return Pictures(tuple(names), torch.from_numpy(np.stack(pixels)), None, boxes, tuple(damaged), warnings, passed)


COLUMNS = ("xmin", "ymin", "xmax", "ymax")


def _boxes(folder: Path) -> pd.DataFrame | None:
    """`boxes.csv`'s boxes by image, in the image's own pixels; None where the folder has no such file.

    KitError for a file that is no such table, for a box that none can be, and for an image's second.
    """
    path, columns = folder / "boxes.csv", f"columns image, {', '.join(COLUMNS)}, commas between them"
    if not path.is_file():
        return None
    try:
        table = pd.read_csv(path, dtype={"image": str}, skipinitialspace=True)
        table.columns = table.columns.str.strip().str.lower()
        if missing := {"image", *COLUMNS} - {*table.columns}:
            raise ValueError(f"no column {min(missing)!r} among {', '.join(map(repr, table.columns[:8]))}")
        table["image"] = table["image"].str.strip().str.replace("\\", "/").str.removeprefix("./")
        boxes = table.set_index("image")[list(COLUMNS)].astype(float)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise KitError(f"{path} is not readable ({reason}); allowed: {columns}") from None
    for image, box in zip(boxes.index, boxes.to_numpy(), strict=True):
        if not (np.isfinite(box).all() and box[0] < box[2] and box[1] < box[3]):
            corners = ", ".join(f"{name} {value:g}" for name, value in zip(COLUMNS, box, strict=True))
            raise KitError(f"{path}: box {corners} of {image!r} is none; allowed: numbers, xmin < xmax and ymin < ymax")
    if not boxes.index.is_unique:
        raise KitError(f"{path} has image {boxes.index[boxes.index.duplicated()][0]!r} twice; allowed: once")
    return boxes


def _cropped(
    table: pd.DataFrame, names: Sequence[str], sizes: Sequence[tuple[int, int]], px: int
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Turns boxes into those of the prepared images (N, 4), NaN where there is none; and what is said of the rest."""
    sides = np.array(sizes, float)  # (N, 2): width, height
    shift = np.tile((sides - sides.min(1, keepdims=True)) / 2, 2)  # of the centre crop
    boxes = (table.reindex(names).to_numpy() - shift) * px / sides.min(1, keepdims=True)
    said = []
    if lone := [name for name in table.index if name not in names]:
        said.append(f"boxes.csv: {len(lone)} of {len(table)} rows name no image that is drawn, first {lone[0]!r}")
    if bare := np.flatnonzero(~np.isnan(boxes[:, 0]) & ~cam_scores.boxes_as_regions(boxes, px).any((1, 2))).tolist():
        given = ", ".join(f"{value:g}" for value in table.loc[names[bare[0]]])
        said.append(
            f"boxes.csv: {len(bare)} of {len(table)} boxes hold no pixel of what is seen of their image, first {given} "
            f"of {names[bare[0]]!r}; allowed: corners in pixels, in the square in the image's middle"
        )
    return boxes, tuple(said)


def of_test(data: Dataset, limit: int) -> Pictures:
    """So many of a dataset's test images, spread over the classes, with their boxes where it has them."""
    some = torch.linspace(0, len(data.test) - 1, min(limit, len(data.test))).long().unique()
    boxes = data.boxes[some].numpy() if hasattr(data, "boxes") else None
    names = tuple(f"test-{int(i):05d}" for i in some)
    return Pictures(names, data.test.images.take(some), data.test.labels[some], boxes)


def class_number(word: str | None, classifier: Classifier, pictures: Pictures) -> Tensor | int | str:
    """What a map is for: `predicted`, `true`, a class's name or its number; by default the true class if known."""
    word = word or ("predicted" if pictures.labels is None else "true")
    if word == "true":
        if pictures.labels is None:
            raise KitError("class 'true' is not known for a folder of images; allowed: predicted, a name or a number")
        return pictures.labels
    if word == "predicted":
        return word
    if word in classifier.classes:
        return classifier.classes.index(word)
    if word.removeprefix("-").isdecimal():
        return int(word)
    names = ", ".join(classifier.classes[:20]) + (", …" if len(classifier.classes) > 20 else "")
    raise KitError(f"class {word!r} is not known; allowed: predicted, 0 to {len(classifier.classes) - 1}, or {names}")


LONGEST_NAME = 200  # bytes; file systems take 255


def file_names(names: Sequence[str]) -> list[str]:
    """Makes a file's name of each image's, all of them different, whatever a file system makes of capitals."""
    taken, found = {"cam"}, []  # the sheet's
    for name in names:
        plain = name.replace("/", "_").encode()[-LONGEST_NAME:].decode(errors="ignore")
        choices = (plain if number == 1 else f"{plain}-{number}" for number in count(1))
        found.append(next(each for each in choices if each.casefold() not in taken))
        taken.add(found[-1].casefold())
    return found


def explain(
    classifier: Classifier,
    pictures: Pictures,
    title: str,
    out: Path,
    method: str = "grad-cam",
    layer: str | None = None,
    of_class: str | None = None,
) -> pd.DataFrame:
    """Writes `<image>.png` for each image, `cam.png` with (the first ON_SHEET of) them all, and `cam.csv`; returns it.
    `title` is what the network is called. Pictures that an earlier `cam.csv` lists and this one does not are removed.

    Columns: image, class (the map's), probability (of that class), predicted, method, layer, empty; and where boxes are
    known pointing, energy_box and iou, all against the box.
    """
    x = classifier.inputs(pictures.pixels)
    found = maps(classifier.network, x, class_number(of_class, classifier, pictures), method, layer)
    n = torch.arange(len(x))
    frame = pd.DataFrame(
        {
            "image": pictures.names,
            "class": [classifier.classes[int(c)] for c in found.classes],
            "probability": found.logits.double().softmax(1)[n, found.classes].numpy(),
            "predicted": [classifier.classes[int(c)] for c in found.predicted],
            "method": method,
            "layer": found.layer,
            "empty": cam_scores.empty(found.maps).astype(int),
        }
    )
    if pictures.boxes is not None:
        regions = cam_scores.boxes_as_regions(np.nan_to_num(pictures.boxes, nan=-1.0), classifier.px)
        for name, score in (
            ("pointing", cam_scores.pointing), ("energy_box", cam_scores.energy), ("iou", cam_scores.iou)
        ):  # fmt: skip
            frame[name] = score(found.maps, regions)
    drawn, files = [], file_names(pictures.names)
    with writing_to(out):
        out.mkdir(parents=True, exist_ok=True)
        if (earlier := left_behind(out / "cam.csv", ("image", "class", "predicted", "method", "layer"))) is not None:
            for file in set(file_names(earlier["image"])) - set(files):
                (out / f"{file}.png").unlink(missing_ok=True)
    for i, file in enumerate(files):
        box = None if pictures.boxes is None or np.isnan(pictures.boxes[i]).any() else pictures.boxes[i]
        drawn.append(enlarged(overlay(pictures.pixels[i].numpy(), found.maps[i]), box))
        write_atomically(out / f"{file}.png", pixels_png(drawn[-1], compress=6))
    sheet = contact_sheet(
        np.stack(drawn[:ON_SHEET]),
        [
            f"{style.shortened(name, TILE, style.SMALL)}\n{style.shortened(c, TILE - PERCENT, style.SMALL)}, {p:.0%}"
            for name, c, p in frame[["image", "class", "probability"]].values[:ON_SHEET]
        ],
        title=f"{method} at {found.layer}: {title}",
        caption="under each name: the class that the map is for, its probability · outlined: the box, where known",
        tile=TILE,
    )
    write_atomically(out / "cam.png", png_bytes(sheet, scale=2))
    write_atomically(out / "cam.csv", csv_bytes(frame))
    return frame
