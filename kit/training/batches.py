"""Batches: on their way to the device, and in parts that fit its memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kit.data.augment import batch_sizes
from kit.data.base import Split, begin_batch
from kit.errors import KitError
from kit.parallel.ranks import ALONE, Ranks
from kit.recipe import Recipe

if TYPE_CHECKING:
    from kit.trainer import Training

SMALLEST = 2  # images of a batch, which a batch norm needs


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


class MicroBatches:
    """`count` parts in which a batch is taken, twice as many whenever memory runs out.

    Losses that are means over images keep their gradient to rounding; batch norms see smaller batches, so a student
    that has them comes out a little different (and the failed attempt has moved their statistics once).
    """

    count = 1

    def of(self, batch: Sequence[Tensor], named: Mapping[str, Tensor]) -> list[tuple[Any, ...]]:
        """The parts of tensors (N, …), and of others by name: each part (*tensors, dict). A smaller batch, an epoch's
        last, is taken in fewer."""
        count = min(self.count, max(1, len(batch[0]) // SMALLEST))
        split = {name: tensor.tensor_split(count) for name, tensor in named.items()}
        of_names = [{name: parts[i] for name, parts in split.items()} for i in range(count)]
        return list(zip(*(tensor.tensor_split(count) for tensor in batch), of_names, strict=True))

    def run(self, training: Training, attempt: Callable[[], Any]) -> Any:
        """What `attempt` gives, tried again in smaller parts while memory runs out. KitError at the end of it."""
        while True:
            try:
                return attempt()
            except torch.OutOfMemoryError:
                pass  # and out of this block, so that what the error holds on to is free
            training.learner.stop_recording()
            images = training.batch // training.ranks.count
            self._split_further(training, f"out of memory with {images // self.count} images of {training.data.px} px")
            training.notes.append(
                f"out of memory at step {training.step + 1}: from there on batches were taken {images // self.count} "
                f"images at a time, which changes what batch norms see"
            )

    def _split_further(self, training: Training, complaint: str) -> None:
        ranks = training.ranks.count
        if ranks > 1:
            raise KitError(
                f"{complaint} in each of {ranks} processes, which cannot take them in parts; a smaller batch, a "
                f"narrower network or more processes would fit"
            )
        if training.stage.objective.trains_teacher or training.batch // self.count < 2 * SMALLEST:
            raise KitError(
                f"{complaint} at a time, and they cannot be fewer; a narrower network, smaller images or, side by "
                f"side, fewer runs would fit"
            )
        self.count *= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def check_shareable(recipe: Recipe, images: int, ranks: Ranks = ALONE) -> None:
    """Raises KitError where an epoch's batches, of so many images, cannot be trained on or shared among the ranks."""
    if images < SMALLEST:
        raise KitError(f"training images: {images} is not allowed; allowed: {SMALLEST} or more")
    sizes = batch_sizes(images, recipe.batch, recipe.keep_last)
    if sizes[-1] < SMALLEST:
        raise KitError(
            f"batch {sizes[0]} is not allowed: an epoch's last one would be of one image; allowed: one that does not "
            f"divide {images - 1}"
        )
    for size in sizes[0], sizes[-1]:
        if size % ranks.count:
            last = "" if size == sizes[0] else f", an epoch's last of {sizes[0]},"
            raise KitError(
                f"batch {size}{last} is not allowed with {ranks.count} processes; allowed: their multiples up to "
                f"{images} images"
            )
    for stage in recipe.stages if ranks.count > 1 else ():
        if stage.objective.trains_teacher or stage.objective.needs_input_gradient:
            raise KitError(
                f"objective {stage.objective.kind!r} (stage {stage.name!r}) is not allowed with {ranks.count} "
                f"processes; allowed: those that neither train the teacher along nor look at the images' gradient"
            )
