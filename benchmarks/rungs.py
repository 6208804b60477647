"""The ladder's rungs: the same distillation by several training loops.

A rung is a function from a `Task` to a `Loop`. They train the same student under the same teacher on the same images,
in batches of the same size, by the same loss (Eq. (1) as Hinton weighs it) with the same optimiser; the two of Section
1.1 have the improved loss, and `kit hard` has hard labels alone. None evaluates. `bare` is `benchmarks.bare`'s.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler
from torchvision import transforms

from kit.data.base import Dataset, in_memory
from kit.models import ModelSpec
from kit.networks.flops import flops_per_image
from kit.paper.presets import stem_at
from kit.recipe import Eq1, HardLabels, Improved, Objective, Recipe, Stage
from kit.runs.logits import Drawn, TeacherLogits
from kit.temperature import Adaptive, Fixed, Policy
from kit.trainer import Training
from kit.training.forward import Machine, Precision, answering
from kit.training.optimiser import Updates, sgd
from kit.training.teachers import EpochLogits

# Student and teacher, the teacher's width as a multiple of the student's.
PAIRS = {
    "vgg16": ("vgg16", "vgg19", 1),
    "resnet34": ("resnet34", "resnet34", 2),
    "resnet50": ("resnet34", "resnet50", 1),  # the paper's own
}
WORKERS = {"cpu": (0, 1, 2), "cuda": (8, 14)}  # of a DataLoader: on a CPU they share it with the training
BARELY = 1e-9  # an adaptive temperature's rate per epoch: all of its work is done, and no stage ends


# ---- what every loop is given, and what it gives ------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """One distillation, described. `images` is a set that a loop goes through once, from its warm-up to its end."""

    pair: str
    width: int  # the student's first channel count
    images: int
    batch: int = 128
    px: int = 32
    classes: int = 10
    T: float = 5.0
    alpha: float = 0.5
    lr: float = 0.02
    momentum: float = 0.9
    weight_decay: float = 5e-4
    pad: int = 2
    flip: bool = True
    seed: int = 0
    device: str = "cpu"
    threads: int = 2  # of torch

    @cached_property
    def data(self) -> Dataset:
        """Random pixels and labels: a step takes as long on them as on photographs."""
        generator = torch.Generator().manual_seed(self.seed)
        size = (self.images, self.px, self.px, 3)
        pixels = torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)
        labels = torch.randint(0, self.classes, (self.images,), generator=generator)
        train, test, names = (pixels, labels), (pixels[:2], labels[:2]), [str(c) for c in range(self.classes)]
        return in_memory("benchmark", "random pixels", "embedded", names, train, test, self.flip)

    @property
    def settling(self) -> int:
        """Steps that begin a turn and are not timed: a GPU works on while its loop already prepares what comes."""
        return 0 if self.device == "cpu" else 5

    @property
    def specs(self) -> tuple[ModelSpec, ModelSpec]:
        """Student and teacher, described."""
        student, teacher, times = PAIRS[self.pair]
        width, stem = self.width, stem_at(self.px)
        return (
            ModelSpec(name=student, classes=self.classes, width=width, stem=stem),
            ModelSpec(name=teacher, classes=self.classes, width=times * width, stem=stem),
        )

    def networks(self) -> tuple[nn.Module, nn.Module]:
        """Student and teacher with the weights that every loop starts from, on the task's device."""
        student, teacher = (spec.build(self.seed + i).to(self.device) for i, spec in enumerate(self.specs))
        return student, teacher

    def flops(self) -> float:
        """Counted operations of one image: the student's forward and backward pass, its teacher's forward pass."""
        student, teacher = self.specs
        return flops_per_image(student, self.px)[1] + flops_per_image(teacher, self.px)[0]


class Pictures(torch.utils.data.Dataset):
    """Images one by one, as torchvision's CIFAR10 gives them: a PIL image from an array, then a tutorial's transforms:
    crop, mirror, normalise."""

    def __init__(self, task: Task) -> None:
        train, (mean, std) = task.data.train, task.data.mean_std
        self.pixels, self.labels = train.images.pixels.numpy(), train.labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(task.px, padding=task.pad or None, padding_mode="reflect"),
                transforms.RandomHorizontalFlip(0.5 if task.flip else 0.0),
                transforms.ToTensor(),
                transforms.Normalize((mean / 255).tolist(), (std / 255).tolist()),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), self.labels[index]


def nesterov(student: nn.Module, task: Task, **options: bool) -> torch.optim.SGD:
    """The kit's optimiser for a loop that has no recipe: biases and batch norms do not decay."""
    updates = Updates(momentum=task.momentum, weight_decay=task.weight_decay)
    return sgd(student, updates, task.lr, nesterov=True, **options)


@dataclass(frozen=True)
class Loop:
    """A training loop that is ready to go: each item of an epoch is one step done."""

    student: nn.Module
    epoch: Callable[[], Iterator[object]]


Rung = Callable[[Task], Loop]


def loading(task: Task, workers: int) -> dict[str, Any]:
    """A DataLoader's options. Its workers live on between epochs, so that starting them is not counted; with a GPU,
    memory is pinned."""
    lasting, on_gpu = workers > 0, task.device == "cuda"
    return {"batch_size": task.batch, "drop_last": True, "num_workers": workers, "persistent_workers": lasting,
            "pin_memory": on_gpu}  # fmt: skip


# ---- (a) as a tutorial teaches it ---------------------------------------------------------------------------------


def tutorial(task: Task, workers: int, precision: Precision = "float32") -> Loop:
    """DataLoader, per-image transforms, plain SGD, and loss and accuracy read off after every step.

    In bfloat16, torch's autocast is around both networks.
    """
    student, teacher = task.networks()
    loader = DataLoader(Pictures(task), shuffle=True, **loading(task, workers))
    answers = partial(answering, torch.device(task.device), precision)
    optimiser = nesterov(student, task)
    cross_entropy, kl_divergence = nn.CrossEntropyLoss(), nn.KLDivLoss(reduction="batchmean")
    teacher.eval()

    def epoch() -> Iterator[None]:
        student.train()
        seen, running_loss, correct = 0, 0.0, 0
        for images, labels in loader:
            images, labels = (tensor.to(task.device, non_blocking=True) for tensor in (images, labels))
            optimiser.zero_grad()
            with torch.no_grad(), answers():
                teacher_logits = teacher(images)
            with answers():
                logits = student(images)
            soft = kl_divergence(F.log_softmax(logits / task.T, dim=1), F.softmax(teacher_logits / task.T, dim=1))
            loss = task.alpha * task.T**2 * soft + (1 - task.alpha) * cross_entropy(logits, labels)
            loss.backward()
            optimiser.step()
            seen += len(labels)
            running_loss += loss.item() * len(labels)
            correct += (logits.argmax(1) == labels).sum().item()
            yield

    return Loop(student, epoch)


# ---- (b) torchdistill's box ---------------------------------------------------------------------------------------


def torchdistill(task: Task, workers: int) -> Loop:
    """torchdistill's DistillationBox with its KDLoss, driven as its example image_classification.py drives it.

    The example's metric logger, its one `.item()` a step and its check for a loss that is no number are in.
    """
    import torchdistill.losses.mid_level  # noqa: F401  registers KDLoss
    from torchdistill.core.distillation import get_distillation_box
    from torchdistill.misc.log import MetricLogger, SmoothedValue

    student, teacher = task.networks()
    logits = {"student_module_path": ".", "student_module_io": "output",
              "teacher_module_path": ".", "teacher_module_io": "output"}  # fmt: skip
    loss = {"key": "KDLoss", "kwargs": logits | {"temperature": task.T, "alpha": 1 - task.alpha}}
    sgd = {"lr": task.lr, "momentum": task.momentum, "nesterov": True, "weight_decay": task.weight_decay}
    images = {"dataset_id": "train", "sampler": {"class_or_func": RandomSampler}, "kwargs": loading(task, workers)}
    config: dict[str, Any] = {
        "num_epochs": 1,
        "train_data_loader": images,
        "teacher": {"forward_proc": "forward_batch_only", "requires_grad": False},
        "student": {"forward_proc": "forward_batch_only"},
        "optimizer": {"key": "SGD", "kwargs": sgd},
        "criterion": {"key": "WeightedSumLoss", "kwargs": {"sub_terms": {"kd": {"criterion": loss, "weight": 1.0}}}},
    }
    device = torch.device(task.device)
    box = get_distillation_box(teacher, student, {"train": Pictures(task)}, config, device, None, False, 1)
    box.teacher_model.eval()

    def epoch() -> Iterator[None]:
        box.pre_epoch_process(epoch=0)
        metrics = MetricLogger(delimiter="  ")
        metrics.add_meter("lr", SmoothedValue(window_size=1, fmt="{value}"))
        for images, labels, extra in metrics.log_every(box.train_data_loader, 100, "Epoch: [0]"):
            images, labels = images.to(device), labels.to(device)
            loss = box.forward_process(images, labels, extra)
            box.post_forward_process(loss=loss)
            metrics.update(loss=loss.item(), lr=box.optimizer.param_groups[0]["lr"])
            if torch.isnan(loss) or torch.isinf(loss):
                raise ValueError(f"The training loop was broken due to loss = {loss}")
            yield

    return Loop(student, epoch)


# ---- (d) this kit -------------------------------------------------------------------------------------------------


def of_kit(
    task: Task,
    objective: Objective,
    temperature: Policy | None = None,
    cached: bool = False,
    precision: Precision = "float32",
) -> Loop:
    """The kit's one training loop, driven as everyone drives it. Its epoch is the task's whole set of images, so long
    that none ends, and with it no evaluation falls, within what is timed."""
    student, teacher = task.networks()
    learns_from = "big" if objective.needs_teacher else None
    stage = Stage(name="only", teacher=learns_from, objective=objective, temperature=temperature, until=1)
    recipe = Recipe(
        stages=(stage,), epochs=1, batch=task.batch, lr=task.lr, warmup=0, momentum=task.momentum,
        weight_decay=task.weight_decay, pad=task.pad,
    )  # fmt: skip
    recall = {"big": recalled(task, teacher)} if cached else {}
    teachers = {"big": teacher} if learns_from else {}
    machine = Machine(task.device, precision)
    training = Training(recipe, task.data, student, teachers, task.seed, machine=machine, cached_logits=recall)
    return Loop(training.student, lambda: iter(training))


def recalled(task: Task, teacher: nn.Module) -> Callable[[int], EpochLogits]:
    """The teacher's logits out of the kit's cache of them, filled here and now in a folder for this process."""
    with tempfile.TemporaryDirectory(prefix="kit-benchmark-logits-", ignore_cleanup_errors=True) as scratch:
        kept = TeacherLogits(Path(scratch) / "teacher", task.images // task.batch * task.batch, task.classes)
        drawn = Drawn(seed=task.seed, batch=task.batch, pad=task.pad)
        list(kept.compute([0], teacher, task.data, drawn, torch.device(task.device), "float32"))
        known = kept(0)  # mapped into memory, which outlives the file
    if known is None:
        raise RuntimeError("the cache did not keep the teacher's logits, so that there is nothing to measure")
    return lambda epoch: known


def eq1(task: Task, **how: Any) -> Loop:
    return of_kit(task, Eq1(reading="hinton", alpha=task.alpha), Fixed(T=task.T), **how)


KIT: dict[str, Rung] = {
    "kit": eq1,
    "kit cached": partial(eq1, cached=True),
    "kit hard": partial(of_kit, objective=HardLabels()),
    "kit fixed": partial(of_kit, objective=Improved(), temperature=Fixed(T=20)),
    "kit adaptive": partial(of_kit, objective=Improved(), temperature=Adaptive(k=20, rate=BARELY)),
}
