"""A GPU's kernels recorded as CUDA graphs and replayed, as the host launches many of them more slowly than they run."""

from __future__ import annotations

import gc
import threading
import warnings
from collections.abc import Callable, Hashable

import torch
from torch import Tensor, nn

KNOWN = ("kit.", "torch.nn.modules.", "torchvision.")  # whose modules launch kernels and do nothing besides
WARM_UP = 3  # calls in which libraries prepare what cannot be recorded


def capturable(network: nn.Module) -> bool:
    """Whether a network's forward pass is kernels alone, as far as is known, and nobody listens to it by hooks."""
    modules = list(network.modules())
    heard = any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in modules)
    return not heard and all(type(m).__module__.startswith(KNOWN) for m in modules)


def may_capture(x: Tensor) -> bool:
    """Whether kernels may be recorded here and now: on a GPU, by a process that trains one student at a time."""
    return x.is_cuda and threading.current_thread() is threading.main_thread()


def likeness(*tensors: Tensor) -> Hashable:
    """What tensors must have in common with those of a recording for it to be replayed."""
    shapes = tuple((tensor.shape, tensor.stride(), tensor.dtype) for tensor in tensors)
    return shapes, torch.is_autocast_enabled("cuda"), torch.is_inference_mode_enabled()


class Captured:
    """A function of tensors, without gradients and without a memory of its own, as a CUDA graph for each of the shapes
    it is given. On a CPU, and where it cannot be recorded, it is the function. A call's answer is overwritten by the
    next call."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self.function, self.records = function, True
        self._recorded: dict[Hashable, tuple[torch.cuda.CUDAGraph, list[Tensor], Tensor]] = {}

    def __call__(self, *tensors: Tensor) -> Tensor:
        if not self.records or not may_capture(tensors[0]):
            return self.function(*tensors)
        like = likeness(*tensors)
        if like not in self._recorded:
            try:
                self._recorded[like] = self._record([torch.empty_like(tensor).copy_(tensor) for tensor in tensors])
            except RuntimeError as error:
                self.records = refused(error)
                return self.function(*tensors)
        graph, held, answer = self._recorded[like]
        for place, tensor in zip(held, tensors, strict=True):
            place.copy_(tensor)
        graph.replay()
        return answer

    def _record(self, held: list[Tensor]) -> tuple[torch.cuda.CUDAGraph, list[Tensor], Tensor]:
        aside, now, graph = torch.cuda.Stream(), torch.cuda.current_stream(), torch.cuda.CUDAGraph()
        aside.wait_stream(now)
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                self.function(*held)
        now.wait_stream(aside)
        with torch.cuda.graph(graph):
            answer = self.function(*held)
        return graph, held, answer


class Learner:
    """Answers for a student in training, N images' logits (N, C); on a GPU forward and backward pass are CUDA graphs.

    Not so of a network that is unknown or listened to when training begins, for images whose gradient is asked for,
    which may be asked twice, for the further parts of a batch, whose gradients add up to what is there, and once a
    recording has failed or memory has run out.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network, self.records = network, capturable(network)
        self._recorded: dict[Hashable, nn.Module] = {}
        self._weights = [weight for weight in network.parameters() if weight.requires_grad]

    def __call__(self, x: Tensor) -> Tensor:
        adds_up = any(weight.grad is not None for weight in self._weights[:1])
        if not self.records or not may_capture(x) or x.requires_grad or adds_up:
            return self.network(x)
        like = likeness(x)
        if like not in self._recorded:
            try:
                self._recorded[like] = self._record(torch.empty_like(x).copy_(x))
            except RuntimeError as error:
                self.records = refused(error)
                return self.network(x)
        return self._recorded[like](x)

    def stop_recording(self) -> None:
        """Gives back the memory that recordings hold, and from here on makes none."""
        self.records = False
        self._recorded.clear()
        gc.collect()  # recordings refer to themselves

    def _record(self, x: Tensor) -> nn.Module:
        """Recording asks the network several times: its batch norms' statistics and random numbers stay as they are."""
        warnings.filterwarnings("ignore", "The AccumulateGrad node's stream does not match")  # autograd waits for both
        kept = [(buffer, buffer.clone()) for buffer in self.network.buffers()]
        try:
            with torch.random.fork_rng(devices=[x.device]):
                asked = Asked(self.network)
                torch.cuda.make_graphed_callables(asked, (x,), num_warmup_iters=WARM_UP)
                return asked
        finally:
            for buffer, before in kept:
                buffer.copy_(before)


def refused(error: RuntimeError) -> bool:
    """Says that kernels are launched one by one from here on, as they could not be recorded: False. Memory that has run
    out is raised again, for who takes batches in parts."""
    if isinstance(error, torch.OutOfMemoryError):
        raise error
    warnings.warn(f"a CUDA graph could not be recorded, so kernels are launched one by one: {error}", stacklevel=4)
    return False


class Asked(nn.Module):
    """A network by another name: what is recorded replaces this one's forward pass, and leaves the network's alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)
