"""How networks answer in training, and on what machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from kit.data.augment import Padding, augment, normalise
from kit.errors import KitError, one_of, said
from kit.parallel.ranks import ALONE, Ranks

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Machine:
    """What a training computes on: a device, at a precision, with other processes. KitError for another precision."""

    device: str = "cpu"
    precision: Precision = "float32"
    ranks: Ranks = ALONE

    def __post_init__(self) -> None:
        one_of("precision", self.precision, get_args(Precision))

    def here(self) -> torch.device:
        """Its device. KitError where this machine has none of that name."""
        try:
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:  # of torch without CUDA
            raise KitError(f"device {self.device!r} is not allowed here: {said(error)}") from None
        return torch.device(self.device)


ON_CPU = Machine()


def on_device(network: nn.Module, device: torch.device) -> nn.Module:
    """The network itself, moved to the device, its maps stored channels last."""
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def frozen(network: nn.Module, device: torch.device) -> nn.Module:
    """A teacher: in evaluation mode, without gradients."""
    network = on_device(network, device).eval()
    for parameter in network.parameters():  # a scripted module has no requires_grad_ of its own
        parameter.requires_grad_(False)
    return network


def augmented(
    pixels: Tensor, offsets: Tensor, flips: Tensor, pad: int, padding: Padding, mean: Tensor, std: Tensor
) -> Tensor:
    """The images (N, 3, H, W) float, augmented and normalised, of pixels uint8 (N, H, W, 3)."""
    return normalise(augment(pixels, offsets, flips, pad, padding), mean, std)


def answering(device: torch.device, precision: Precision) -> torch.autocast:
    """In what networks answer inside: bfloat16 where torch's autocast says so, else as they are."""
    enabled = precision == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled, cache_enabled=False)  # no weight is used twice


@contextmanager
def showing(whose: str, network: nn.Module, x: Tensor) -> Iterator[None]:
    """In what a network is shown images x. KitError where it changes them, or has weights of another type than they
    and does not see to it."""
    version = x._version
    try:
        yield
    except RuntimeError as error:
        types = {str(p.dtype) for p in network.parameters() if p.dtype != x.dtype}
        if not types or isinstance(error, torch.OutOfMemoryError):
            raise
        why = f"allowed: {x.dtype}, which images are ({said(error)})"
        raise KitError(f"{whose} has weights of {', '.join(types)}; {why}") from error
    if x._version != version:
        raise KitError(f"{whose} changes its images, which others see; allowed: x = x - 1, not x -= 1")


def beside(device: torch.device) -> Callable[[], torch.cuda.Stream | None]:
    """A GPU's second stream, None of a CPU. Each call has it wait for what has been launched by then, for no more."""
    if device.type != "cuda":
        return lambda: None
    stream = torch.cuda.Stream(device, priority=-1)

    def waiting() -> torch.cuda.Stream:
        stream.wait_stream(torch.cuda.current_stream(device))
        return stream

    return waiting


def teach(teacher: Callable[[Tensor], Tensor], x: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """The teacher's logits (N, C) for images x, free of any graph, rounded to `dtype` and float32 again. KitError where
    it answers by something else."""
    with torch.inference_mode():
        logits = teacher(x)
    if not isinstance(logits, Tensor):
        raise KitError(f"a teacher gives a {type(logits).__name__}; allowed: logits (N, C)")
    return logits.to(dtype).to(torch.float32, copy=True)  # an ordinary tensor, so that the student's loss may keep it


def single(logits: Tensor) -> Tensor:
    """Logits in float32 where they were less, for losses that sum exponentials; else as they are."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
