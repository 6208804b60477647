"""Synchronised layers: batch norm by the whole batch's statistics, and dropout by its mask, on a shard of it.

In evaluation mode they are torch's own, and they have its state-dict keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

if TYPE_CHECKING:
    from kit.parallel.ranks import Ranks


def synchronised(network: nn.Module, ranks: Ranks) -> nn.Module:
    """Exchanges a network's batch norms and dropouts, in place and with their weights, for synchronised ones. On a GPU
    batch norms become torch's SyncBatchNorm, which does not run on a CPU."""
    on_gpu = any(p.is_cuda for p in network.parameters())
    for name, module in list(network.named_modules()):
        if isinstance(module, _BatchNorm) and not on_gpu:
            network.set_submodule(name, SyncBatchNormCPU(module, ranks))
        elif type(module) is nn.Dropout:
            network.set_submodule(name, SyncDropout(module.p, ranks))
    return nn.SyncBatchNorm.convert_sync_batchnorm(network) if on_gpu else network


BUFFERS = ("num_batches_tracked", "running_mean", "running_var")


class SyncBatchNormCPU(_BatchNorm):
    """Normalises by mean and variance of all ranks' images, as torch's SyncBatchNorm does on a GPU. x (N, C, …)."""

    def __init__(self, norm: _BatchNorm, ranks: Ranks) -> None:
        super().__init__(norm.num_features)
        self.__dict__ |= norm.__dict__  # all that it is: options, weights, running statistics
        self.ranks = ranks

    def _check_input_dim(self, x: Tensor) -> None:
        """Allows any number of dimensions: the layer stands for torch's BatchNorm1d, 2d and 3d."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training and self.track_running_stats:
            return super().forward(x)
        mean, var = self._statistics(x)
        if self.training and self.track_running_stats:
            self._follow(mean, var, self.ranks.count * x.numel() // x.shape[1])
        weight, bias = (self.weight, self.bias) if self.affine else (torch.ones_like(mean), torch.zeros_like(mean))
        return Normalise.apply(x, weight, bias, mean, var, self.eps, self.ranks)

    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Computes mean and (biased) variance of each channel over all ranks, float32 (C,)."""
        own = torch.stack(torch.batch_norm_update_stats(x.detach(), None, None, 0.0))  # (2, C)
        means, variances = self.ranks.all_gather(own.double()).unbind(1)  # (ranks, C)
        mean = means.mean(0)
        return mean.to(own.dtype), (variances + (means - mean) ** 2).mean(0).to(own.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, var: Tensor, n: int) -> None:
        """Updates the running statistics, the variance unbiased, as torch does; n values of a channel."""
        count, running_mean, running_var = (self.get_buffer(name) for name in BUFFERS)
        count += 1
        weight = 1 / float(count) if self.momentum is None else self.momentum
        running_mean.lerp_(mean, weight)
        running_var.lerp_(var * (n / max(1, n - 1)), weight)


class Normalise(torch.autograd.Function):
    """Computes y = (x − mean) / √(var + eps) · weight + bias, where mean and var are those of all ranks' x.

    With x̂ the normalised x, ∂S/∂x = weight / √(var + eps) · (dy − ⟨dy⟩ − x̂ ⟨dy x̂⟩) for the sum S of all ranks'
    losses; ⟨·⟩ is the mean over all ranks' images and positions (Ioffe and Szegedy 2015, Section 3).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, eps: float, ranks: Ranks
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, var)
        ctx.eps, ctx.ranks = eps, ranks
        return F.batch_norm(x, mean, var, weight, bias, training=False, eps=eps)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var = ctx.saved_tensors
        dx, dweight, dbias = torch.ops.aten.native_batch_norm_backward(  # of mean and var as constants
            dy, x, weight, mean, var, None, None, False, ctx.eps, [True, True, True]
        )
        n = ctx.ranks.count * x.numel() // x.shape[1]
        along, level = ctx.ranks.sum(torch.stack((dweight, dbias)).double()) / n  # ⟨dy x̂⟩ and ⟨dy⟩, each (C,)
        inverse = (var + ctx.eps).rsqrt()
        slope = weight * inverse**2 * along  # what is left of ∂S/∂x: −(slope · x + offset)
        offset = weight * inverse * level - slope * mean
        shape = (1, -1, *[1] * (x.ndim - 2))
        dx = dx - (x * slope.view(shape) + offset.view(shape)).to(dx.dtype)
        return dx, dweight, dbias, None, None, None, None


class SyncDropout(nn.Dropout):
    """Drops by this rank's shard of a mask that is drawn for the whole batch. x (N, …).

    All ranks draw the same mask from torch's own random stream, so that it stays the same in all of them, as in one
    process.
    """

    def __init__(self, p: float, ranks: Ranks) -> None:
        super().__init__(p)
        self.ranks = ranks

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        kept = 1 - self.p
        mask = torch.empty(self.ranks.count * len(x), *x.shape[1:], dtype=torch.bool, device=x.device)
        mask = self.ranks.shard(mask.bernoulli_(kept))
        return x * mask * (1 / kept if kept else 0.0)
