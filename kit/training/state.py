"""What a network and its optimiser need to go on elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


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
