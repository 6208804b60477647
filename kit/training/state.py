"""Where a training stands, as tensors and plain JSON: what it needs to go on elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from kit.training.cost import Spent
from kit.training.record import StageRecord
from kit.training.steering import Event

if TYPE_CHECKING:
    from kit.trainer import Training


def training_state(training: Training) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All that the next step hangs on, and the history: tensors by name, and the rest as plain JSON."""
    training.agree()
    tensors = network_state("student", training.student, training.optimiser)
    if training.teachers.learning:
        tensors |= network_state("teacher", *training.teachers.learning)
    tensors |= training.history.tensors(training.step)
    tensors["random.cpu"] = torch.get_rng_state()  # dropout draws from torch's own stream
    if training.device.type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(training.device)
    plain = {
        "step": training.step,
        "micro_batches": training.micro_batches.count,
        "notes": training.notes,
        "events": [event.model_dump() for event in training.events],
        "stages": [asdict(record) for record in training.stages],
        "epochs": training.epochs,
        "thermostat": training.thermostat.state() if training.thermostat else None,
        "spent": training.spent.record(),
    }
    return tensors, plain


def restore_training(training: Training, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> None:
    """Puts a training made with the same arguments where its state was taken; torch's own stream with it."""
    training.events = [Event(**event) for event in plain["events"]]
    training.planned = [event for event in training.planned if event.step >= plain["step"]]
    *before, current = (StageRecord(**record) for record in plain["stages"])
    training.stages, training.step = before, current.first_step
    training.enter_stage(len(before))
    training.stages[-1], training.step = current, plain["step"]
    training.micro_batches.count, training.notes = plain["micro_batches"], list(plain["notes"])
    restore_network("student", training.student, training.optimiser, tensors)
    if training.teachers.learning:
        restore_network("teacher", *training.teachers.learning, tensors)
    if training.thermostat is not None:
        training.thermostat.restore(plain["thermostat"])
        training.teachers.attend(training.asked)
    training.history.restore(tensors, training.step)
    training.epochs = [dict(epoch) for epoch in plain["epochs"]]
    training.spent = Spent(**plain["spent"])
    torch.set_rng_state(tensors["random.cpu"])
    if training.device.type == "cuda":
        torch.cuda.set_rng_state(tensors["random.cuda"], training.device)


def network_state(prefix: str, network: nn.Module, optimiser: torch.optim.SGD) -> dict[str, Tensor]:
    """A network's weights and buffers, and its optimiser's momentum, by name under `prefix`."""
    weights = {f"{prefix}.{name}": tensor for name, tensor in network.state_dict().items()}
    momenta = {name: optimiser.state[p].get("momentum_buffer") for name, p in network.named_parameters()}
    return weights | {f"{prefix}-momentum.{name}": m for name, m in momenta.items() if m is not None}


def restore_network(prefix: str, network: nn.Module, optimiser: torch.optim.SGD, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of `network_state`. Momentum gets its weight's memory layout: fused steps walk both in step."""
    network.load_state_dict({name: tensors[f"{prefix}.{name}"] for name in network.state_dict()})
    for name, parameter in network.named_parameters():
        saved = tensors.get(f"{prefix}-momentum.{name}")
        if saved is not None:
            optimiser.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(saved).detach()
