"""Where a network looks: Grad-CAM of one image, at a layer that still has places to tell apart."""

from __future__ import annotations

import numpy as np
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from kit.show.artefacts import pixels_png

PLACES = 4  # the least height and width of the layer looked at: a small image's last layers have one place only
HOT = np.array([213.0, 94.0, 0.0])  # the student's vermillion, which is seen on grey and on colour


def heat(network: nn.Module, x: Tensor, label: int) -> np.ndarray:
    """What speaks for the class in image x (1, 3, H, W): (H, W) in 0…1. The network is left with its hooks removed."""
    with GradCAM(model=network.eval(), target_layers=[deepest(network, x)]) as cam:
        return cam(input_tensor=x.clone().requires_grad_(), targets=[ClassifierOutputTarget(label)])[0]


def deepest(network: nn.Module, x: Tensor) -> nn.Module:
    """The last convolution whose output is at least PLACES high and wide, else the first."""
    found: list[nn.Module] = []

    def note(module: nn.Module, _: object, output: Tensor) -> None:
        if not found or min(output.shape[2:]) >= PLACES:
            found.append(module)

    hooks = [m.register_forward_hook(note) for m in network.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        network(x)
    for hook in hooks:
        hook.remove()
    return found[-1]


def overlay(pixels: np.ndarray, heat: np.ndarray | None, side: int = 136) -> bytes:
    """The image (H, W, 3) uint8 at `side` px or a little more, its heat (H, W) laid over it, as PNG."""
    factor = -(-side // max(pixels.shape[:2]))
    picture = pixels.astype(float)
    if heat is not None:
        grey = 255 - 0.6 * (255 - picture.mean(2, keepdims=True))  # pale, so that the heat is what is seen
        weight = 0.85 * heat[..., None]
        picture = (1 - weight) * grey + weight * HOT
    return pixels_png(picture.astype(np.uint8).repeat(factor, 0).repeat(factor, 1))
