"""Batches and augmentation, decided for a whole epoch at once and applied to a batch without a loop over images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from kit.errors import KitError

Padding = Literal["reflect", "zeros"]  # what stands around an image before its crop: its mirror image, or black


class EpochPlan:
    """Decides the order, the crops and the flips of one epoch over n images, all drawn from (seed, epoch).

    They are indexed by image, so an image is changed in the same way whatever the batch size:
    `order` (n,) int64; `offsets` (n, 2) int64, the crop's top and left in the padded image, 0 … 2·pad;
    `flips` (n,) bool.
    """

    def __init__(self, n: int, seed: int, epoch: int, pad: int, flip: bool, padding: Padding = "reflect") -> None:
        self.n, self.pad, self.padding = n, pad, padding
        generator = torch.Generator().manual_seed(mixed(seed, epoch))
        self.order = torch.randperm(n, generator=generator)
        self.offsets = torch.randint(0, 2 * pad + 1, (n, 2), generator=generator)
        self.flips = torch.randint(0, 2, (n,), generator=generator).bool() & flip

    def batches(self, batch_size: int, keep_last: bool = False) -> Iterator[Tensor]:
        """Yields the images' indices, batch by batch, as far as they are `trained_on`."""
        yield from self.order[: trained_on(self.n, batch_size, keep_last)].split(batch_size)

    def changes(self, indices: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        """Gives these images' offsets (B, 2) and flips (B,), on the device."""
        return self.offsets[indices].to(device, non_blocking=True), self.flips[indices].to(device, non_blocking=True)


def trained_on(n: int, batch_size: int, keep_last: bool = False) -> int:
    """Counts the images that an epoch over n trains on: a last, smaller batch is dropped unless it is to be kept or is
    the only one."""
    return n if keep_last or n < batch_size else n - n % batch_size


def batch_sizes(n: int, batch_size: int, keep_last: bool = False) -> list[int]:
    """Lists how many images each batch of such an epoch has."""
    whole, rest = divmod(trained_on(n, batch_size, keep_last), batch_size)
    return [batch_size] * whole + [rest] * bool(rest)


def mixed(seed: int, epoch: int) -> int:
    """Mixes two seeds into one of 63 bits, the same on every machine; near seeds give unrelated ones."""
    digest = hashlib.sha256(f"{seed}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def augment(pixels: Tensor, offsets: Tensor, flips: Tensor, pad: int, padding: Padding = "reflect") -> Tensor:
    """Augments a batch in one gather: pads by reflection or by zeros, crops back to the old size, mirrors.

    pixels uint8 (B, H, W, 3), offsets (B, 2) in 0 … 2·pad, flips (B,) bool; returns uint8 (B, H, W, 3). Raises
    KitError where there are not as many pixels to mirror.
    """
    b, h, w, _ = pixels.shape
    if pad >= min(h, w):
        raise KitError(f"pad {pad} is not allowed for images of {h} × {w} px; allowed: 0 to {min(h, w) - 1}")
    rows = torch.arange(h, device=pixels.device) + offsets[:, :1] - pad  # (B, H), −pad … h − 1 + pad
    columns = torch.arange(w, device=pixels.device).expand(b, w)
    columns = torch.where(flips[:, None], w - 1 - columns, columns)
    columns = columns + offsets[:, 1:] - pad  # (B, W)
    from_rows = reflected(rows, h) + h * torch.arange(b, device=pixels.device)[:, None]  # counted through all images
    flat = (from_rows[:, :, None] * w + reflected(columns, w)[:, None, :]).flatten()  # (B·H·W,)
    cropped = pixels.reshape(-1, 3).index_select(0, flat).view(b, h, w, 3)
    if padding == "zeros":
        outside = ((rows < 0) | (rows >= h))[:, :, None] | ((columns < 0) | (columns >= w))[:, None, :]  # (B, H, W)
        cropped.masked_fill_(outside[..., None], 0)
    return cropped


def reflected(i: Tensor, size: int) -> Tensor:
    """Mirrors indices outside 0 … size−1 back in, the edge not repeated: −1 → 1, size → size − 2."""
    i = i.abs()
    return torch.where(i < size, i, 2 * (size - 1) - i)


def normalise(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Standardises a batch: (pixels − mean) / std, both (3,) in 0…255.

    uint8 (B, H, W, 3) → float32 (B, 3, H, W) in channels_last memory.
    """
    b, h, w, _ = pixels.shape
    x = pixels.reshape(b, h, w * 3).to(torch.float32)  # long rows: broadcasting over three channels alone is slow
    x = x.sub_(mean.repeat(w)).div_(std.repeat(w))
    return x.view(b, h, w, 3).permute(0, 3, 1, 2)
