"""A run's student taken home: a folder of files that need no kit."""

from __future__ import annotations

import copy
import json
import re
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from kit.data.base import Dataset, sample
from kit.deploy import alone, card
from kit.deploy.predictions import Classifier
from kit.errors import KitError, one_of, said
from kit.files import drafted, ready_folder, write, writing_to
from kit.runs.store import Stored, stored
from kit.runtime.environment import absolute

FORMATS = {"safetensors": "student.safetensors", "torch-export": "student.pt2", "onnx": "student.onnx"}
DEFAULT = ("safetensors", "torch-export")
ONNX = ("onnx", "onnxscript", "onnxruntime")  # what the extra `onnx` installs
CHECKED = 100  # images on which every format must give the run's logits
TOLERANCE = 1e-5  # of a logit; where the largest is larger than 1, of that one

Answer = Callable[[Tensor], Tensor]  # images (N, 3, px, px) to logits (N, C)


@dataclass(frozen=True)
class Exported:
    """A folder that was written: each format's largest difference from the run's logits, and on which images."""

    run: str  # its hash
    title: str
    folder: Path
    differences: Mapping[str, float]
    checked_on: str


def export(run_hash: str, to: Path | str, formats: Sequence[str] = DEFAULT, data: Path | str | None = None) -> Exported:
    """Writes a finished run's student into a new folder, whole or not at all, in one or several of FORMATS.

    Each format's logits are compared with the run's own on its test images; `data` is where real ones lie. KitError
    for a run without a student, a folder that is not empty, and a format that is not the same network.
    """
    wanted = usable(formats)
    run = stored(run_hash)
    place = empty_place(Path(to))
    classifier = Classifier.of(run)
    pixels, tests, checked_on = images_to_check(run, classifier.px, None if data is None else Path(data))
    with writing_to(place.parent), drafted(place) as draft:
        differences = write_formats(run, classifier, wanted, pixels, draft)
        how = json.dumps(card.preprocessing(classifier), indent=1, ensure_ascii=False)
        write(draft / "preprocess.json", f"{how}\n")
        write(draft / "classes.txt", "".join(re.sub("[\r\n]", " ", name) + "\n" for name in classifier.classes))
        if "torch-export" in wanted:
            shutil.copyfile(alone.__file__, draft / "predict.py")
        write(draft / "README.md", card.text(run, classifier, tests, draft, differences, checked_on))
    return Exported(run.hash, run.title, place, differences, checked_on)


def usable(formats: Sequence[str]) -> list[str]:
    """Returns the formats, each once. KitError for one that is not known, and for one whose packages are missing."""
    wanted = list(dict.fromkeys(one_of("format", name, FORMATS) for name in formats))
    missing = [name for name in ONNX if find_spec(name) is None] if "onnx" in wanted else []
    if missing:
        others = ", ".join(name for name in FORMATS if name != "onnx")
        raise KitError(
            f"format 'onnx' needs {', '.join(missing)}, not installed here; allowed: {others}, "
            f"or pip install {' '.join(missing)} first"
        )
    if not wanted:
        raise KitError(f"formats {formats!r} are none; allowed: one or several of {', '.join(FORMATS)}")
    return wanted


def empty_place(folder: Path) -> Path:
    """Returns where the folder will be, links followed. KitError where it is there and is not an empty folder, where it
    is the working folder, and where it cannot be written."""
    place, allowed = absolute(folder).resolve(), "allowed: a new or empty folder"
    if place.exists() and not place.is_dir():
        raise KitError(f"folder {str(folder)!r} is a file; {allowed}")
    ready_folder(place.parent)
    if place in (Path.cwd(), *Path.cwd().parents):
        raise KitError(f"folder {str(folder)!r} is the one that you are in; {allowed} in it")
    if place.is_dir():
        with writing_to(place):
            first = min((path.name for path in place.iterdir()), default=None)
        if first is not None:
            raise KitError(f"folder {str(folder)!r} is not empty, it holds {first!r}; {allowed}")
    return place


def images_to_check(run: Stored, px: int, folder: Path | None) -> tuple[Tensor, int | None, str]:
    """Samples the run's test images, uint8 (N, px, px, 3); says how many there are, and what these are in words.

    Where the run's data are not here, and nobody says where, they are random pixels. KitError where the folder given
    does not hold the run's data.
    """
    try:
        data: Dataset = run.data(folder).load()
    except KitError:
        if folder is not None:
            raise
        generator = torch.Generator().manual_seed(0)
        noise = torch.randint(0, 256, (CHECKED, px, px, 3), dtype=torch.uint8, generator=generator)
        known = (run.images or {}).get("test_images")
        return noise, known, f"{CHECKED} images of random pixels, as its own are not here (--data says where)"
    pixels = sample(data, CHECKED).images.take(torch.arange(min(CHECKED, len(data.test))))
    return pixels, len(data.test), f"{len(pixels)} of its {len(data.test)} test images"


def write_formats(
    run: Stored, classifier: Classifier, wanted: Sequence[str], pixels: Tensor, folder: Path
) -> dict[str, float]:
    """Writes the network in each format, and returns by how much its logits differ from the run's. KitError where that
    is more than TOLERANCE."""
    program, differences = None, {}
    for name in wanted:
        file = folder / FORMATS[name]
        if name == "safetensors":
            answer = as_safetensors(run, classifier.network, file)
        else:
            program = program or traced(classifier.network, run.title, classifier.px)
            answer = OF_A_PROGRAM[name](program, file)
        differences[name] = difference(classifier, answer, pixels)
        if not differences[name] <= TOLERANCE:
            raise KitError(
                f"format {name!r} of run {run.folder.name}: its logits differ from the run's by "
                f"{differences[name]:.1e}; allowed: {TOLERANCE:.0e}; nothing was written"
            )
    return differences


@torch.inference_mode()
def difference(classifier: Classifier, answer: Answer, pixels: Tensor) -> float:
    """Measures the largest difference from the run's logits, of a whole batch and of one image alone, in units of the
    largest logit where that is above 1."""
    x = classifier.inputs(pixels)
    z = classifier.network(x)  # (N, C)
    apart = max(float((answer(part) - z[: len(part)]).abs().max()) for part in (x, x[:1]))
    return apart / max(1.0, float(z.abs().max()))


def traced(network: nn.Module, title: str, px: int) -> ExportedProgram:
    """Traces the network for any number of images. KitError where torch.export cannot follow it."""
    example, shapes = (torch.zeros(2, 3, px, px),), ({0: Dim("batch")},)
    try:
        try:
            program = torch.export.export(network, example, dynamic_shapes=shapes)
        except Exception:  # as of len(x), a plain number where the code runs; strict, its bytecode is read instead
            program = torch.export.export(network, example, dynamic_shapes=shapes, strict=True)
    except Exception as error:  # of anyone's network, from anywhere in torch's compiler
        raise KitError(
            f"the network of {title} cannot be taken by torch.export ({said(error)}); allowed: format safetensors"
        ) from None
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # names this machine's folders
    return program


# ---- formats: each writes a file, reads it back, and returns what answers from there --------------------------------


def as_safetensors(run: Stored, network: nn.Module, file: Path) -> Answer:
    """Copies the run's own file of weights, which a state dict of the same network takes."""
    shutil.copyfile(run.folder / "student.safetensors", file)
    empty = copy.deepcopy(network)
    for tensor in empty.state_dict().values():
        tensor.zero_()
    empty.load_state_dict(load_file(file))
    return empty


def as_program(program: ExportedProgram, file: Path) -> Answer:
    """Writes torch's own program of the network, which torch alone runs."""
    torch.export.save(program, file)
    return torch.export.load(file).module()


def as_onnx(program: ExportedProgram, file: Path) -> Answer:
    """Writes an ONNX graph with the input `images` and the output `logits`, and reads it by ONNX Runtime."""
    import onnxruntime

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            program, (), file, input_names=["images"], output_names=["logits"],
            dynamo=True, external_data=False, verbose=False,
        )  # fmt: skip
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(["logits"], {"images": x.contiguous().numpy()})[0])


OF_A_PROGRAM = {"torch-export": as_program, "onnx": as_onnx}
