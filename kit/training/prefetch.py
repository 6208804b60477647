"""Batches on their way to the device."""

from __future__ import annotations

import torch
from torch import Tensor

from kit.data.base import Split


class Prefetch:
    """A split's batches on a device. To a GPU the one that is expected next is copied while the GPU is at work, out of
    pinned memory and on a stream of its own, so that nobody who waits for a result waits for the copy."""

    def __init__(self, split: Split, device: torch.device) -> None:
        self.split, self.device = split, device
        self._copying = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._expected: Tensor | None = None  # the indices of the batch that is on its way
        self._arriving: tuple[Tensor, Tensor] | None = None

    def expect(self, indices: Tensor | None) -> None:
        """Begins to copy the batch with these indices (B,), which `take` is to be asked for next. Nothing on a CPU."""
        if self._copying is None or indices is None:
            return
        pixels, labels = (half.pin_memory() for half in self._gather(indices))
        with torch.cuda.stream(self._copying):
            self._arriving = pixels.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)
        self._expected = indices

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """The batch's pixels, uint8 (B, H, W, 3), and labels, int64 (B,), on the device."""
        if self._expected is not indices:
            pixels, labels = self._gather(indices)
            return pixels.to(self.device), labels.to(self.device)
        now = torch.cuda.current_stream(self.device)
        now.wait_stream(self._copying)
        arrived, self._expected, self._arriving = self._arriving, None, None
        for half in arrived:
            half.record_stream(now)  # its memory is not given away before this stream is through with it
        return arrived

    def _gather(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        return self.split.images.take(indices), self.split.labels[indices]
