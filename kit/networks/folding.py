"""Batch norm folded into convolutions for inference: the same logits to rounding, one pass less over each map."""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import torch
import torchvision
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.resnet import BasicBlock, Bottleneck

from kit.networks import cifar
from kit.networks.layered import Layered
from kit.runtime.onednn import PickingConv2d

# Modules of which each conv1, conv2, … hands its output to bn1, bn2, … and to nobody else. torch.fx would find this in
# any network, but it patches nn.Module for the whole process while it looks, and so breaks trainings in other threads.
NUMBERED = (
    torchvision.models.ResNet, BasicBlock, Bottleneck, cifar.Bottleneck, cifar.ShuffleNetV2, cifar.GroupedUnit,
    cifar.SplitUnit, cifar.StridedUnit,
)  # fmt: skip

CONVOLUTIONS = nn.Conv2d, PickingConv2d

Place = tuple[nn.Module, str]  # a module, by the one that holds it and its name there


def folded(network: nn.Module) -> nn.Module:
    """Copies a network for evaluation, with each batch norm that is known to follow a convolution folded into it.

    In evaluation mode BN(conv(x)) = γ (Wx + b − μ)/σ + β is one convolution with weights γW/σ and bias
    γ(b − μ)/σ + β. Known are the kit's networks and what stands in an nn.Sequential. A network that somebody listens
    to by hooks, and one that was found to answer otherwise when folded (`NamedSpec.folding`), is given back as it is.
    """
    if not getattr(network, "kit_folds", True):
        return network
    if any(module._forward_hooks or module._forward_pre_hooks for module in network.modules()):
        return network  # a hook on a folded layer would hear something else
    network = copy.deepcopy(network).eval()
    uses = Counter(id(module) for _, module in network.named_modules(remove_duplicate=False))
    for module in list(network.modules()):
        for (holds_conv, conv_name), (holds_norm, norm_name) in list(followed(module)):
            conv, norm = getattr(holds_conv, conv_name), getattr(holds_norm, norm_name)
            is_pair = type(conv) in CONVOLUTIONS and type(norm) is nn.BatchNorm2d and norm.track_running_stats
            if is_pair and uses[id(conv)] == uses[id(norm)] == 1:  # a layer used elsewhere too stays as it is
                setattr(holds_conv, conv_name, fuse_conv_bn_eval(conv, norm).requires_grad_(False))
                setattr(holds_norm, norm_name, nn.Identity())
    return network.to(memory_format=torch.channels_last)


def followed(module: nn.Module) -> Iterator[tuple[Place, Place]]:
    """Finds the pairs of modules of which the first's output is the second's input, and no other module's."""
    if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
        for before, after in pairwise(module._modules):
            yield (module, before), (module, after)
    elif type(module) is Layered:
        for i in range(len(module.convs)):
            yield (module.convs, str(i)), (module.norms, str(i))
    elif type(module) in NUMBERED:
        for conv in filter(re.compile(r"conv\d").fullmatch, module._modules):
            yield (module, conv), (module, conv.replace("conv", "bn"))
    elif type(module) is cifar.WideBlock:  # whose norms come first
        yield (module, "conv1"), (module, "bn2")
