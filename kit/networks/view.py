"""How a network that was trained on other data sees a training's images, and which of its outputs answer for them."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from kit.errors import Described, KitError

Three = tuple[float, float, float]
Normalisation = tuple[Three, Three]  # mean and deviation by channel, of images in 0 … 1
IMAGENET: Normalisation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Outputs(Described):
    """Describes a classifier of other classes: how many it has, a hash of their names, and `chosen`, which of them the
    data's are, in the data's order."""

    count: int
    names: str
    chosen: tuple[int, ...]


class View(Described):
    """Describes what stands between a training and a network: its normalised images x become x · scale + shift, by
    channel, and are resized to px × px; of its logits those of `outputs` are kept."""

    scale: Three = (1.0, 1.0, 1.0)
    shift: Three = (0.0, 0.0, 0.0)
    px: int | None = Field(default=None, ge=1, le=1024)  # more is a slip of the pen, and takes hours and all memory
    outputs: Outputs | None = Field(default=None, exclude_if=lambda outputs: outputs is None)

    @classmethod
    def of(
        cls,
        mean_std: tuple[Tensor, Tensor],
        wanted: Normalisation | None,
        px: int | None = None,
        outputs: Outputs | None = None,
    ) -> View:
        """Describes the way from images normalised by `mean_std`, each (3,) in 0 … 255, to those that are wanted."""
        if wanted is None:
            return cls(px=px, outputs=outputs)
        (mean, std), (own_mean, own_std) = (map(Tensor.tolist, mean_std), wanted)
        scale = (s / (255 * own) for s, own in zip(std, own_std, strict=True))
        shift = ((m / 255 - own) / s for m, own, s in zip(mean, own_mean, own_std, strict=True))
        # rounded, as these numbers are part of a run's identity
        return cls(scale=[round(v, 6) for v in scale], shift=[round(v, 6) for v in shift], px=px, outputs=outputs)

    def normalised_by(self, mean_std: tuple[Tensor, Tensor]) -> tuple[list[float], list[float]]:
        """Computes the mean and deviation that were wanted in `of`, from the same `mean_std`."""
        mean, std = (stat.tolist() for stat in mean_std)
        own_std = [s / (255 * scale) for s, scale in zip(std, self.scale, strict=True)]
        own_mean = [m / 255 - shift * own for m, shift, own in zip(mean, self.shift, own_std, strict=True)]
        return own_mean, own_std


def normalisation(words: str) -> Normalisation | None:
    """Parses `imagenet`, `role` (None) or `MEAN/STD`, each one number or three, in 0 … 1. KitError."""
    if words in ("role", "imagenet"):
        return IMAGENET if words == "imagenet" else None
    try:
        mean, std = (tuple(float(number) for number in part.split(",")) for part in words.split("/"))
        mean, std = (3 * part if len(part) == 1 else part for part in (mean, std))
        if len(mean) == len(std) == 3 and all(0 <= m <= 1 for m in mean) and all(0 < s <= 1 for s in std):
            return mean, std
    except ValueError:
        pass
    raise KitError(
        f"normalisation {words!r} is not allowed; allowed: role, imagenet, or MEAN/STD in 0 … 1, each one number or "
        f"three, 0.5,0.5,0.5/0.25,0.25,0.25"
    )


class Viewing(nn.Module):
    """A network behind a view. Its state is the network's own, so that weights fit with it and without."""

    scale: Tensor  # (3, 1, 1)
    shift: Tensor
    chosen: Tensor | None  # (C,)

    def __init__(self, network: nn.Module, view: View) -> None:
        super().__init__()
        self.network, self.px = network, view.px
        for name, numbers in (("scale", view.scale), ("shift", view.shift)):
            self.register_buffer(name, torch.tensor(numbers)[:, None, None], persistent=False)
        chosen = None if view.outputs is None else torch.tensor(view.outputs.chosen)
        self.register_buffer("chosen", chosen, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.scale + self.shift
        if self.px is not None:
            x = nn.functional.interpolate(x, (self.px, self.px), mode="bilinear", antialias=True)
        z = self.network(x)  # (N, outputs)
        return z if self.chosen is None else z[:, self.chosen]

    def state_dict(self, *args: Any, **how: Any) -> Any:
        return self.network.state_dict(*args, **how)

    def load_state_dict(self, *args: Any, **how: Any) -> Any:
        return self.network.load_state_dict(*args, **how)
