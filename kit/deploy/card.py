"""A model card: what a network was taught, by whom, from which images, how good it is, and how to use it.

Its prose is `card.md`, a template of jinja2; this module has the words that are put together from a run's description.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, StrictUndefined
from torch.utils.flop_counter import FlopCounterMode

from kit.data.picture import BACKGROUND
from kit.deploy.predictions import Accuracy, Classifier
from kit.errors import KitError, few
from kit.networks.flops import parameter_count
from kit.networks.view import IMAGENET, View
from kit.runs.spec import hash_of
from kit.runs.store import Stored, stored
from kit.training.evaluation import balanced_accuracy, lowest_first

PAGE = Path(__file__).with_name("card.md")


def preprocessing(classifier: Classifier) -> dict[str, Any]:
    """Describes how a picture becomes the network's input, for those who do it without the kit."""
    px = classifier.px
    framing = {"framing": classifier.framing} if classifier.framing else {}
    return framing | {
        "px": px,
        "mean": classifier.mean.tolist(),
        "std": classifier.std.tolist(),
        "range": "0 to 255: input = (pixels - mean) / std, pixels as they are in the file, not divided by 255",
        "channels": "red, green, blue",
        "layout": "float32 (images, channels, rows, columns)",
        "orientation": "turned upright by EXIF first",
        "transparency": list(BACKGROUND[:3]),
        "resize": f"shorter side to {px}, proportions kept, bilinear with antialiasing (Pillow's ImageOps.fit)",
        "crop": f"the middle, {px} x {px}",
    }


def text(
    run: Stored,
    classifier: Classifier,
    tests: int | None,
    folder: Path,
    differences: Mapping[str, float],
    checked_on: str,
) -> str:
    """Writes the card of what lies in the folder. `tests` is the number of test images, None where nobody knows."""
    x = torch.zeros(1, 3, classifier.px, classifier.px)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        classifier.network(x)
    jinja = Environment(trim_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined)  # Markdown: no escapes
    jinja.globals |= {each.__name__: each for each in WORDS} | {"zip": zip}
    return jinja.from_string(PAGE.read_text(encoding="utf-8")).render(
        run=run,
        classifier=classifier,
        differences=differences,
        checked_on=checked_on,
        sizes={path.name: path.stat().st_size for path in folder.iterdir()},
        between=", ".join(seen(run.description["student"].get("view"), classifier)),
        begun=", ".join(origin(run.description)).capitalize(),
        hyperparameters={name: value for name, value in run.description["recipe"].items() if name != "stages"},
        accuracy=None if tests is None else Accuracy(round(run.metrics["test_top1"] * tests), tests),
        flops=counter.get_total_flops(),
    )


def teachers(description: Mapping[str, Any], classifier: Classifier, depth: int) -> Iterator[str]:
    """Lists a run's teachers, each with its own below it."""
    for name, teacher in description["teachers"].items():
        how = [network(teacher["student"]), *origin(teacher), *seen(teacher["student"].get("view"), classifier)]
        with suppress(KitError):  # that it is not in this cache
            how.append(f"test Top-1 {stored(hash_of(teacher)).metrics['test_top1']:.1%}")
        yield f"{'  ' * depth}- `{name}`: {', '.join(how)}"
        yield from teachers(teacher, classifier, depth + 1)


def origin(teacher: Mapping[str, Any]) -> Iterator[str]:
    """Says for how long a teacher was trained and from what seed, or by which weights it is given."""
    weights, epochs = teacher.get("weights"), teacher["recipe"]["epochs"]
    if weights is not None:
        yield f"{'from' if epochs else 'given'} weights {weights['sha256'][:12]}"
        yield from ["its head trained by a linear probe"] * ("head" in weights)
    if epochs:
        yield f"{epochs} epochs, seed {teacher['seed']}"


def seen(view: Mapping[str, Any] | None, classifier: Classifier) -> Iterator[str]:
    """Says in words how a network sees the images, and which of its outputs are used, where that is its own way."""
    if view is None:
        return
    described = View.model_validate(view)
    if described.px is not None:
        yield f"images at {described.px} px"
    if (described.scale, described.shift) != (View().scale, View().shift):
        wanted = described.normalised_by((classifier.mean, classifier.std))
        mean, std = (tuple(round(number, 3) for number in each) for each in wanted)
        yield f"normalised by {IMAGENETS if (mean, std) == IMAGENET else f'mean {mean} and deviation {std}'}"
    if described.outputs is not None:
        yield f"{len(described.outputs.chosen)} of its {described.outputs.count} classes"


IMAGENETS = "ImageNet's mean and deviation"
ELSEWHERE = ("name", "title", "classes", "shapes", "folding", "view")  # told, or of no use to a reader


def network(spec: Mapping[str, Any]) -> str:
    """Names a network by its description: `cnn (width 4, stem small)`."""
    rest = {name: value for name, value in spec.items() if name not in ELSEWHERE}
    rest |= {"layers": len(spec["layers"])} if "layers" in spec else {}
    rest |= {"code": spec["code"][:12]} if "code" in spec else {}
    return named(spec.get("name", spec.get("title", "network")), rest)


def named(kind: str, options: Mapping[str, Any]) -> str:
    """Puts a kind and its options into words: `adaptive (k 20, rate 600)`."""
    words = ", ".join(f"{name} {f'{value:g}' if type(value) is float else value}" for name, value in options.items())
    return f"{kind} ({words})" if words else kind


def part(described: Mapping[str, Any]) -> str:
    """Names a stage's loss or temperature by its kind and options."""
    return named(f"`{described['kind']}`", {name: value for name, value in described.items() if name != "kind"})


def release() -> str:
    """Tells the kit's own version, which a checkout that is not installed does not know."""
    return next((found.version for found in distributions(name="small-teacher-kit")), "(not installed)")


# of the page
WORDS = (balanced_accuracy, few, lowest_first, named, network, parameter_count, part, release, teachers, version)
