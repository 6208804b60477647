"""Counted FLOPs of a network."""

from __future__ import annotations

from functools import cache

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kit.networks.named import NamedSpec, Network


def parameter_count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@cache
def flops_per_image(spec: Network, px: int) -> tuple[int, int]:
    """Counts the FLOPs of one image of px × px: (forward, forward and backward); a multiply-add counts as two.

    Counted by torch on shapes alone (the meta device), so exactly what is executed: convolutions and matrix products.
    A network that cannot be built of shapes alone is asked for two images; where torch sees neither product in it, each
    parameter counts as one multiply-add of every pass.
    """
    if not isinstance(spec, NamedSpec):
        return _counted(spec, px, "meta")
    try:
        forward, both = _counted(spec, px, "meta")
    except Exception:  # whatever foreign code says to tensors without numbers
        forward, both = _counted(spec, px, "cpu")
    forward = forward or 2 * parameter_count(spec.build(seed=0))
    most = 3 * forward  # torch counts a grouped convolution's gradient as a whole one's
    return forward, min(both, most) or most


def _counted(spec: Network, px: int, device: str) -> tuple[int, int]:
    with torch.random.fork_rng(devices=[]), torch.device(device):
        network, x = spec.build(), torch.empty(2, 3, px, px)
    if not isinstance(spec, NamedSpec):
        _leave_out_what_has_no_product(network)
    with FlopCounterMode(display=False) as forward:
        logits = network(x)
    with FlopCounterMode(display=False) as backward:
        logits.sum().backward()
    return forward.get_total_flops() // 2, (forward.get_total_flops() + backward.get_total_flops()) // 2


def _leave_out_what_has_no_product(network: nn.Module) -> None:
    """Batch norms and ReLUs keep their input's shape and are not counted, but on shapes alone take most of the time."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, (nn.BatchNorm2d, nn.ReLU)):
                setattr(module, name, nn.Identity())
