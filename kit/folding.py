"""A teacher's batch norms taken into its convolutions: the same logits to rounding, in one pass less over each map."""

from __future__ import annotations

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def folded(network: nn.Module) -> nn.Module:
    """The network for evaluation, each batch norm that follows a convolution folded into it; its own weights stay.

    In evaluation mode BN(conv(x)) = γ (Wx + b − μ)/σ + β is one convolution with weights γW/σ and bias
    γ(b − μ)/σ + β. A network that torch.fx cannot trace, or that somebody listens to by hooks, is given back as it is.
    """
    if any(module._forward_hooks or module._forward_pre_hooks for module in network.modules()):
        return network  # a hook on a folded layer would never be called
    try:
        traced = fx.symbolic_trace(network.eval())
    except Exception:  # whatever a forward method of somebody else's raises when it is given a proxy
        return network
    for node in list(traced.graph.nodes):
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        conv, norm = traced.get_submodule(before.target), traced.get_submodule(node.target)
        if type(conv) is nn.Conv2d and type(norm) is nn.BatchNorm2d and norm.track_running_stats:
            name = f"folded_{before.name}"  # beside the original, which a shared layer may still need
            traced.add_module(name, fuse_conv_bn_eval(conv, norm).requires_grad_(False))
            with traced.graph.inserting_before(node):
                node.replace_all_uses_with(traced.graph.call_module(name, before.args, before.kwargs))
            traced.graph.erase_node(node)
            traced.graph.erase_node(before)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced.to(memory_format=torch.channels_last).eval()
