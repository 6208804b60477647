"""What `test_parallel.py` has two processes do together, and one alone.

Every scenario returns what it came to, as plain values and tensors; each rank writes its own into the folder.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import ClassVar, Literal

import torch
from small_trainings import dataset, linear, teachers
from torch import nn

from kit import parallel, recipe
from kit.errors import KitError
from kit.models import build
from kit.parallel.layers import synchronised
from kit.parallel.ranks import Ranks
from kit.recipe import HardLabels, Moment, Recipe, Stage
from kit.runs.checkpoint import Checkpoints
from kit.several import Entropy, Weighted, several
from kit.siblings.normkd import ByDeviation
from kit.temperature import Adaptive, Policy
from kit.trainer import Training
from kit.training.forward import Machine
from kit.training.history import Diverged

DATA = dataset(train=48, test=31)  # 31: not as many for each of two


class Double(nn.Module):
    """A network in double precision, in which rounding does not grow to anything that could be mistaken for a fault."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.double()

    def forward(self, x):
        return self.network(x.double())


class Dropped(nn.Module):
    """A student with batch norm and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.body = build("cnn", len(DATA.classes), width=2, stem="small", seed=1)
        self.body.fc = nn.Sequential(nn.Dropout(0.4), self.body.fc)

    def forward(self, x):
        return self.body(x)


class NanOnOne(HardLabels):
    """Not a number from the middle of the budget on, for the rank that has the last of a batch's images."""

    kind: str = "nan"

    def __call__(self, at: Moment):
        alone = not torch.distributed.is_initialized() or torch.distributed.get_rank() == 1
        return super().__call__(at) * (math.nan if alone and at.progress >= 0.5 else 1.0)


def sharp() -> dict[str, nn.Module]:
    """Teachers sure enough of themselves that t falls within a few steps."""
    made = teachers()
    with torch.no_grad():
        for network in made.values():
            network.fc.weight.mul_(20)
    return made


def of(training: Training) -> dict:
    """All that ranks should agree on and a reader sees, times aside."""
    metrics = {name: value for name, value in training.metrics().items() if not name.endswith("_s")}
    epochs = [{name: value for name, value in epoch.items() if not name.endswith("_s")} for epoch in training.epochs]
    seconds = [[epoch[name] for name in ("wall_s", "cpu_s")] for epoch in training.epochs]
    weights = {name: tensor.clone() for name, tensor in training.student.state_dict().items()}
    return {
        "weights": weights,
        "t": training.history.temperatures,
        "loss": training.history.loss,
        "hits": training.history.correct,
        "stage": training.history.stage,
        "metrics": metrics,
        "epochs": epochs,
        "seconds": seconds,
    }


def three_steps(ranks: Ranks) -> dict:
    """A ResNet through three adaptive steps."""
    stages = recipe.small_teacher(Adaptive(rate=20), soft_ends=(0.4, 0.8))
    made = Recipe(stages=stages, epochs=4, batch=12, pad=1, lr=0.02)
    student = Double(build("resnet34", len(DATA.classes), width=4, stem="small", seed=1))
    known = {name: Double(network) for name, network in sharp().items()}
    return of(Training(made, DATA, student, known, seed=0, machine=Machine(ranks=ranks)).run())


def several_teachers(ranks: Ranks) -> dict:
    """Weights and temperatures by image, of which each process has some."""
    stage = several(["small", "big"], Weighted(weights=Entropy(), alpha=0.9), ByDeviation())
    made = Recipe(stages=(stage,), epochs=2, batch=12, pad=1, lr=0.02)
    training = Training(made, DATA, linear(1), sharp(), seed=0, machine=Machine(ranks=ranks)).run()
    return of(training) | training.history.traces


class Patient(Policy):
    """Somebody's temperature, who never thought of several processes: t falls by the share of images agreed on."""

    kind: Literal["patient"] = "patient"
    start: ClassVar[float] = 5.0

    def next(self, t: float, at: Moment) -> float:
        return t * (1 - 0.5 * (at.zs.argmax(-1) == at.zt.argmax(-1)).double().mean().item())

    def is_cold(self, t: float) -> bool:
        return t < 2


def by_somebody(ranks: Ranks) -> dict:
    made = Recipe(stages=recipe.big_teacher_only(Patient()), epochs=2, batch=12, pad=1, lr=0.02)
    known = {"big": Double(sharp()["big"])}
    return of(Training(made, DATA, Double(linear(1)), known, seed=0, machine=Machine(ranks=ranks)).run())


def with_dropout(ranks: Ranks) -> Training:
    torch.manual_seed(7)  # where dropout's stream begins
    made = Recipe(stages=recipe.big_teacher_only(Adaptive(rate=20)), epochs=3, batch=8, pad=1, lr=0.05)
    return Training(made, DATA, Dropped(), {"big": sharp()["big"]}, seed=3, machine=Machine(ranks=ranks))


def resumed(ranks: Ranks, folder: Path) -> dict:
    """Stopped within the second epoch and gone on from disk, with the networks made anew."""
    first = with_dropout(ranks)
    for step in first:
        if step == 8:
            Checkpoints(folder / "checkpoint", {}).save(first)
            break
    ranks.wait()
    again = with_dropout(ranks)
    torch.manual_seed(99)
    Checkpoints(folder / "checkpoint", {}).resume(again)
    return {"from": again.step} | of(again.run())


def elsewhere(ranks: Ranks, folder: Path) -> str:
    """Checkpoints in a folder that only the first process sees."""
    training = with_dropout(ranks)
    checkpoints = Checkpoints(folder / f"seen by {ranks.number}", {})
    for step in training:
        if step == 2:
            checkpoints.save(training)
            break
    try:
        checkpoints.resume(with_dropout(ranks))
    except KitError as error:
        return str(error)
    return ""


def diverging(ranks: Ranks) -> dict:
    made = Recipe(stages=(Stage(name="n", objective=NanOnOne(), until=1),), epochs=2, batch=8, pad=1)
    training = Training(
        made, DATA, build("cnn", len(DATA.classes), 2, "small", seed=0), {}, seed=0, machine=Machine(ranks=ranks)
    )
    try:
        training.run()
    except Diverged as error:
        return {"step": error.step}
    return {"step": None}


def normalised(ranks: Ranks, **options: object) -> dict:
    """Three steps of a batch norm in training, then one in evaluation; the loss weighs every value differently."""
    generator = torch.Generator().manual_seed(0)
    whole = torch.randn(3, 8, 3, 4, 5, generator=generator) * 2 + torch.tensor([0.0, 5.0, -40.0])[:, None, None]
    weighing = torch.randn(8, 3, 4, 5, generator=generator)
    torch.manual_seed(1)
    norm = nn.BatchNorm2d(3, **options)
    if norm.affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    network = nn.Sequential(norm)
    if ranks.count > 1:
        network = synchronised(network, ranks)
    came = {"keys": list(network.state_dict())}
    for i, batch in enumerate(whole):
        x = ranks.shard(batch).clone().requires_grad_()
        network.zero_grad()
        y = network(x)
        (y**2 * ranks.shard(weighing)).sum().backward()
        came |= {f"y{i}": y.detach(), f"dx{i}": x.grad}
        came |= {f"{name}{i}": ranks.sum(p.grad) for name, p in network.named_parameters()}
    came |= {name: buffer.clone() for name, buffer in network.named_buffers()}
    network.eval()
    return came | {"y": network(ranks.shard(whole[0])).detach()}


def dropped(ranks: Ranks) -> dict:
    layer = nn.Sequential(nn.Dropout(0.3))
    if ranks.count > 1:
        layer = synchronised(layer, ranks)
    torch.manual_seed(5)
    x = ranks.shard(torch.arange(1.0, 49).reshape(8, 6)).clone().requires_grad_()
    first, second = layer(x), layer(x)
    second.sum().backward()
    return {"first": first.detach(), "second": second.detach(), "dx": x.grad, "then": torch.rand(1)}


NORMS = {"as usual": {}, "cumulative": {"momentum": None}, "no weights": {"affine": False},
         "no memory": {"track_running_stats": False}}  # fmt: skip


def scenarios(ranks: Ranks, folder: Path) -> dict[str, dict]:
    return {
        "three steps": three_steps(ranks),
        "several teachers": several_teachers(ranks),
        "by somebody": by_somebody(ranks),
        "dropout": of(with_dropout(ranks).run()),
        "resumed": resumed(ranks, folder),
        "elsewhere": elsewhere(ranks, folder),
        "diverging": diverging(ranks),
        "dropped": dropped(ranks),
        **{f"norm {name}": normalised(ranks, **options) for name, options in NORMS.items()},
    }


def share(out: Path) -> None:
    ours = parallel.ranks_on("cpu")
    torch.save(scenarios(ours, out), out / f"{ours.number}.pt")
