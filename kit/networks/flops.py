"""Counted FLOPs of a network."""

from __future__ import annotations

from functools import cache

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kit.models import ModelSpec


def parameter_count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@cache
def flops_per_image(spec: ModelSpec, px: int) -> tuple[int, int]:
    """Counts the FLOPs of one image of px × px: (forward, forward and backward); a multiply-add counts as two.

    Counted by torch on shapes alone (the meta device), so exactly what is executed: convolutions and matrix products.
    """
    with torch.device("meta"):
        network, x = spec.build(), torch.empty(2, 3, px, px)
    with FlopCounterMode(display=False) as forward:
        logits = network(x)
    with FlopCounterMode(display=False) as backward:
        logits.sum().backward()
    return forward.get_total_flops() // 2, (forward.get_total_flops() + backward.get_total_flops()) // 2
