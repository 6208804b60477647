"""Batches on their way to the device."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kit.data.base import Split, begin_batch


class Prefetch:
    """Prefetches a split's batches to a device: the next one comes while the present one is worked on.

    Images that are decoded on the fly are decoded a batch ahead, by threads. To a GPU the next batch is copied out of
    pinned memory and on a stream of its own, so that the copy delays no result.
    """

    def __init__(self, split: Split, device: torch.device) -> None:
        self.split, self.device = split, device
        self._copying = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._begun: tuple[Tensor, Callable[[], Tensor]] | None = None  # a batch's indices, and what gives its images
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

    def take(self, indices: Tensor, following: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns the batch's pixels, uint8 (B, H, W, 3), and labels, int64 (B,), on the device.

        The images of the `following` batch, where they take time, begin to come: one batch waits, never more.
        """
        if self._copying is None or self._arriving is None or self._expected is not indices:
            pixels, labels = self._gather(indices, following)
            return pixels.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)
        self._go_on_with(following)
        now = torch.cuda.current_stream(self.device)
        now.wait_stream(self._copying)
        arrived, self._expected, self._arriving = self._arriving, None, None
        for half in arrived:
            half.record_stream(now)  # its memory is not given away before this stream is through with it
        return arrived

    def _gather(self, indices: Tensor, following: Tensor | None = None) -> tuple[Tensor, Tensor]:
        images = self._begin(indices)
        self._go_on_with(following)  # behind the images that are waited for
        return images(), self.split.labels[indices]

    def _go_on_with(self, following: Tensor | None) -> None:
        if following is None:
            self._begun = None
        else:
            self._begin(following)

    def _begin(self, indices: Tensor) -> Callable[[], Tensor]:
        """Lets the batch's images begin to come, unless they have begun; returns what gives them."""
        if self._begun is None or self._begun[0] is not indices:
            self._begun = indices, begin_batch(self.split.images, indices)
        return self._begun[1]
