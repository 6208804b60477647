"""A GPU's kernels recorded as CUDA graphs and replayed, as the host launches many of them more slowly than they run."""

from __future__ import annotations

import gc
import threading
import warnings
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kit.training.forward import showing
from kit.training.moment import one_a_class

KNOWN = ("kit.", "torch.nn.modules.", "torchvision.")  # whose modules launch kernels and do nothing besides
WARM_UP = 3  # calls in which libraries prepare what cannot be recorded


def capturable(network: nn.Module) -> bool:
    """Whether a network's forward pass is kernels alone, as far as is known, and nobody listens to it by hooks."""
    modules = list(network.modules())
    heard = any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in modules)
    return not heard and all(type(m).__module__.startswith(KNOWN) for m in modules)


def recorded(function: Callable[..., Any], held: Sequence[Any]) -> tuple[torch.cuda.CUDAGraph, Any]:
    """Records a function of held tensors; each replay computes it of what they hold by then, into the same answer."""
    aside, now, graph = torch.cuda.Stream(), torch.cuda.current_stream(), torch.cuda.CUDAGraph()
    aside.wait_stream(now)
    with torch.cuda.stream(aside):
        for _ in range(WARM_UP):
            function(*held)
    now.wait_stream(aside)
    with torch.cuda.graph(graph):
        answer = function(*held)
    return graph, answer


class Recordings:
    """Recordings of a function by the likeness of what it is given. There are none of a network that does more than
    launch kernels, as far as is known, and none once one has failed, which is said."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self.function, self.records = function, not isinstance(function, nn.Module) or capturable(function)
        self._recorded: dict[Hashable, Any] = {}

    def _record(self, *held: Tensor) -> Any:
        """Records what is done with tensors like these."""
        raise NotImplementedError

    def _recording(self, *tensors: Tensor) -> Any | None:
        """The recording for tensors like these, made when first asked for; None where there is none. Kernels are
        recorded by a process that trains one student at a time."""
        if not self.records or not tensors[0].is_cuda or threading.current_thread() is not threading.main_thread():
            return None
        shapes = tuple((tensor.shape, tensor.stride(), tensor.dtype) for tensor in tensors)
        like = shapes, torch.is_autocast_enabled("cuda"), torch.is_inference_mode_enabled()
        if like not in self._recorded:
            try:
                self._recorded[like] = self._record(*(torch.empty_like(tensor).copy_(tensor) for tensor in tensors))
            except torch.OutOfMemoryError:
                raise  # for who takes batches in parts
            except RuntimeError as error:
                self.records = False
                said = f"a CUDA graph could not be recorded, so kernels are launched one by one: {error}"
                warnings.warn(said, stacklevel=4)
                return None
        return self._recorded[like]


class Captured(Recordings):
    """A function of tensors, without gradients and without a memory of its own, as a CUDA graph for each of the shapes
    it is given. On a CPU, and where it cannot be recorded, it is the function. A call's answer is overwritten by the
    next call."""

    def __call__(self, *tensors: Tensor) -> Tensor:
        recording = self._recording(*tensors)
        if recording is None:
            return self.function(*tensors)
        held, graph, answer = recording
        for place, tensor in zip(held, tensors, strict=True):
            place.copy_(tensor)
        graph.replay()
        return answer

    def _record(self, *held: Tensor) -> tuple[Sequence[Tensor], torch.cuda.CUDAGraph, Tensor]:
        return held, *recorded(self.function, held)


class Learner(Recordings):
    """Answers for a student in training, N images' logits (N, C); on a GPU forward and backward pass are CUDA graphs.
    KitError where there are fewer logits than classes.

    Not so of a network that is unknown or listened to when training begins, for images whose gradient is asked for,
    which may be asked twice, for the further parts of a batch, whose gradients add up to what is there, and once a
    recording has failed or memory has run out.
    """

    def __init__(self, network: nn.Module, classes: int) -> None:
        super().__init__(network)
        self.network, self.classes = network, classes
        self._weight = next((weight for weight in network.parameters() if weight.requires_grad), None)

    def __call__(self, x: Tensor) -> Tensor:
        adds_up = self._weight is not None and self._weight.grad is not None
        recording = None if x.requires_grad or adds_up else self._recording(x)
        whose = f"student {type(self.network).__name__}"
        with showing(whose, self.network, x):
            z = (recording or self.network)(x)
        one_a_class(whose, z, self.classes)  # on a GPU a loss would not say it
        return z

    def stop_recording(self) -> None:
        """Gives back the memory that recordings hold, and from here on makes none."""
        self.records = False
        self._recorded.clear()
        gc.collect()  # recordings refer to themselves

    def _record(self, *held: Tensor) -> nn.Module:
        """Recording asks the network several times: its batch norms' statistics and random numbers stay as they are."""
        warnings.filterwarnings("ignore", "The AccumulateGrad node's stream does not match")  # autograd waits for both
        warnings.filterwarnings("ignore", "Attempting to run cuBLAS, but there was no current CUDA")  # one is made
        kept = [(buffer, buffer.clone()) for buffer in self.network.buffers()]
        try:
            with torch.random.fork_rng(devices=[held[0].device]):
                asked = nn.Sequential(self.network)  # whose forward pass is replaced: the network keeps its own
                torch.cuda.make_graphed_callables(asked, held, num_warmup_iters=WARM_UP)
                return asked
        finally:
            for buffer, before in kept:
                buffer.copy_(before)
