"""A model card: what a network was taught, by whom, from which images, how good it is, and how to use it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from kit.data.picture import BACKGROUND
from kit.deploy.accuracy import Accuracy
from kit.deploy.classifier import Classifier
from kit.errors import KitError, few
from kit.networks.flops import parameter_count
from kit.networks.view import IMAGENET, View
from kit.runs.spec import hash_of
from kit.runs.store import Stored, stored
from kit.training.evaluation import balanced_accuracy, lowest_first


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
    is_taught = any(stage["teacher"] for stage in run.description["recipe"]["stages"])
    how, unaided = f"trained {'by distillation ' * is_taught}with", "it learnt from the labels alone"
    if not run.description["recipe"]["epochs"]:
        how, unaided = "whose weights were given to", "its weights were given"
    sections = {
        run.title: f"A classifier of images, {how} small-teacher-kit.",
        "What it answers": answers(run, classifier),
        "Files": files(folder, differences, checked_on),
        "Data": "\n".join(data(run)),
        "Teachers": "\n".join(teachers(run.description, classifier, 0)) or f"None: {unaided}.",
        "Recipe": "\n".join(recipe(run)),
        "How good it is": "\n\n".join(filter(None, [accuracy(run.metrics, tests), by_class(run.metrics, classifier)])),
        "Cost": cost(run, classifier),
        "Versions": versions(run),
        "Licence": "The weights are learnt from the data above (and its teachers from theirs): what their licence says "
        "of such weights holds for these. `predict.py`, which is the kit's code, is under the MIT licence.",
    }
    first, *rest = sections
    return f"# {first}\n\n{sections[first]}\n" + "".join(f"\n## {name}\n\n{sections[name]}\n" for name in rest)


def answers(run: Stored, classifier: Classifier) -> str:
    names = ", ".join(classifier.classes[:20]) + (", …" if len(classifier.classes) > 20 else "")
    framing = f" It was taught {classifier.framing}; it knows no other pictures." if classifier.framing else ""
    student = run.description["student"]
    own = ", ".join(seen(student.get("view"), classifier))
    between = f" Between these and the network: {own}. The programs do that, the weights alone do not." if own else ""
    return (
        f"It is the network {network(student)}. Images of {classifier.px} × {classifier.px} pixels, "
        f"normalised as `preprocess.json` says, become {len(classifier.classes)} logits, in the order of "
        f"`classes.txt`: {names}. Their softmax are probabilities.{between}{framing}"
    )


MEANING = {
    "student.safetensors": "weights alone, a state dict",
    "student.pt2": "a program of torch.export, for any number of images: `torch.export.load(…).module()`",
    "student.onnx": "an ONNX graph, for any number of images: input `images`, output `logits`",
    "preprocess.json": "how a picture becomes its input",
    "classes.txt": "the classes' names, a line each",
    "predict.py": "`python predict.py PICTURE …`: class and probability; needs torch and pillow alone",
}


def files(folder: Path, differences: Mapping[str, float], checked_on: str) -> str:
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    lines = [f"| `{name}` | {sizes[name]:,} | {what} |" for name, what in MEANING.items() if name in sizes]
    apart = ", ".join(f"{name} to {value:.0e}" for name, value in differences.items())
    table = "\n".join(["| file | bytes | |", "|---|---|---|", *lines])
    return f"{table}\n\nWhen they were written, each was read back and gave the run's logits on {checked_on}: {apart}."


def data(run: Stored) -> Iterator[str]:
    described = run.description["data"]
    where = "real images" if described["source"] == "real" else "an embedded stand-in, not the dataset itself"
    held_out = f", of them {described['held_out']:.0%} held out for testing" if "held_out" in described else ""
    name = (run.images or {}).get("name", described["name"])
    yield f"- role `{described['role']}`, filled by {name} ({where}{held_out})"
    yield f"- {described['train_images']} training images of {described['classes']} classes, {described['px']} px"
    yield f"- fingerprint `{described['fingerprint']}`"


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


def recipe(run: Stored) -> Iterator[str]:
    """Tells of which weights it began, if it was given any, and the stages in order: from whom, by which loss, at what
    temperature, and how long they were."""
    described = run.description["recipe"]
    begun = ", ".join(origin(run.description)).capitalize()
    if not described["epochs"]:
        yield f"{begun}."
        return
    if run.description.get("weights") is not None:
        yield f"{begun}.\n"
    for number, (stage, record) in enumerate(zip(described["stages"], run.metrics["stages"], strict=False), start=1):
        from_whom = stage["teacher"] or "the labels"
        teachers = " and ".join(from_whom) if isinstance(from_whom, list) else from_whom
        line = f"{number}. {stage['name']}: from {teachers}, loss {described_part(stage['objective'])}"
        if stage["temperature"] is not None:
            line += f", temperature {described_part(stage['temperature'])}"
        line += f"; {record['epochs']:.1f} epochs, ended by {record['ended_by']}"
        if record["t_start"] is not None:
            line += f", t {record['t_start']:.1f} → {record['t_end']:.1f}"
        yield line
    rest = {name: value for name, value in described.items() if name != "stages"}
    yield f"\n{named('SGD', rest)}."


def described_part(part: Mapping[str, Any]) -> str:
    return named(f"`{part['kind']}`", {name: value for name, value in part.items() if name != "kind"})


def accuracy(metrics: Mapping[str, Any], tests: int | None) -> str:
    if tests is None:
        return (
            f"Top-1 {metrics['test_top1']:.1%} on its test images. How many these are was not known where this was "
            "exported, so there is no interval."
        )
    measured = Accuracy(round(metrics["test_top1"] * tests), tests)
    return f"On its test images: {measured}. The interval is Wilson's, of these images; it is not one of other seeds."


def by_class(metrics: Mapping[str, Any], classifier: Classifier) -> str:
    """Tells the accuracy class by class, lowest first; nothing of a run that an older kit has stored."""
    if "test_recalls" not in metrics:
        return ""
    recalls = metrics["test_recalls"]
    told = few(lowest_first(classifier.classes, recalls), 10)
    return f"Balanced accuracy (the mean over classes): {balanced_accuracy(recalls):.1%}. Lowest classes first: {told}."


def cost(run: Stored, classifier: Classifier) -> str:
    x = torch.zeros(1, 3, classifier.px, classifier.px)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        classifier.network(x)
    m = run.metrics
    on_gpu = run.description["device"] == "cuda"
    seconds = f"{m['gpu_s' if on_gpu else 'cpu_s']:.1f} s of {'a GPU' if on_gpu else 'one CPU thread'}"
    return (
        f"- an answer: {counter.get_total_flops():.3g} FLOPs, {parameter_count(classifier.network):,} parameters\n"
        f"- its training: {seconds}, {m['student_flops']:.3g} FLOPs, and {m['teacher_flops']:.3g} of its teachers' "
        "answers (their own training not counted)"
    )


def versions(run: Stored) -> str:
    trained = ", ".join(f"{name} {number}" for name, number in run.description["versions"].items())
    return (
        f"Run `{run.folder.name}`, seed {run.description['seed']}, trained with {trained}. Exported with "
        f"small-teacher-kit {version('small-teacher-kit')} and torch {version('torch')}; an older torch may not read "
        "`student.pt2`."
    )
