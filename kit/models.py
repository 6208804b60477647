"""The paper's five networks: CNN, VGG-16, VGG-19, ResNet-34, ResNet-50, from one builder.

They are torchvision's architectures with a width factor and a choice of stem. `width=64, stem="imagenet"` has
torchvision's layers, parameter names and count, so its state dicts load. `stem="small"` suits 16–64 px images: ResNets
start with a stride-1 3×3 convolution and no pooling, VGGs end in global average pooling and one linear layer.
The paper says nothing of its "CNN"; ours is four convolutions. Its VGGs are read as the batch-normalised ones
(torchvision's vgg16_bn, vgg19_bn), as plain ones hardly train from scratch; `batch_norm=False` gives the plain ones.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from pydantic import Field
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.models.vgg import make_layers

from kit.errors import Described, one_of
from kit.runtime.onednn import SAFE_CHANNELS, PickingConv2d
from kit.runtime.seeds import seeded

MODELS = ("cnn", "vgg16", "vgg19", "resnet34", "resnet50")
TITLES = {"cnn": "CNN", "vgg16": "VGG-16", "vgg19": "VGG-19", "resnet34": "ResNet-34", "resnet50": "ResNet-50"}

Stem = Literal["imagenet", "small"]
Parts = dict[str, nn.Module]  # modules that follow one another, by the names that checkpoints have for them

# Convolutions per stage, each stage ending in a max-pool; channels are `width` times 1, 2, 4, 8, 8.
VGG_STAGES = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
RESNET_STAGES = {"resnet34": (BasicBlock, (3, 4, 6, 3)), "resnet50": (Bottleneck, (3, 4, 6, 3))}


class ModelSpec(Described):
    """Which network, how wide, and for how many classes: all that `build` needs."""

    name: Literal["cnn", "vgg16", "vgg19", "resnet34", "resnet50"]
    classes: int = Field(ge=2)
    width: int = Field(default=64, ge=1)
    stem: Stem = "imagenet"
    batch_norm: bool = True  # VGG only; the others always have it

    @property
    def title(self) -> str:
        return TITLES[self.name]

    def build(self, seed: int | None = None) -> nn.Module:
        """The network with fresh weights; the same seed gives the same weights and leaves torch's own stream alone."""
        with seeded(seed):
            if self.name in VGG_STAGES:
                return VGG(VGG_STAGES[self.name], self.classes, self.width, self.stem, self.batch_norm)
            if self.name in RESNET_STAGES:
                block, stages = RESNET_STAGES[self.name]
                return ResNet(block, stages, self.classes, self.width, self.stem)
            return CNN(self.classes, self.width, self.stem)


def build(name: str, classes: int, width: int = 64, stem: Stem = "imagenet", seed: int | None = None) -> nn.Module:
    """`ModelSpec(...).build()` for a quick try. Raises KitError for an unknown name."""
    return ModelSpec(name=one_of("model", name, MODELS), classes=classes, width=width, stem=stem).build(seed)


def ended(name: str, classifier: nn.Module, cells: int = 1) -> Parts:
    """Averages the last maps, to so many cells a side, and classifies them."""
    return {"avgpool": nn.AdaptiveAvgPool2d(cells), "flatten": nn.Flatten(), name: classifier}


class CNN(nn.Sequential):
    """Four 3×3 convolutions with batch norm, each followed by pooling; then one linear layer."""

    def __init__(self, classes: int, width: int, stem: Stem) -> None:
        channels = [3, width, 2 * width, 4 * width, 4 * width]
        first = (7, 2) if stem == "imagenet" else (3, 1)
        features = nn.Sequential()
        for i, (c_in, c_out) in enumerate(pairwise(channels)):
            kernel, stride = first if i == 0 else (3, 1)
            features.append(nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False))
            features.extend([nn.BatchNorm2d(c_out), nn.ReLU(inplace=True), nn.MaxPool2d(2, ceil_mode=True)])
        super().__init__(OrderedDict({"features": features} | ended("fc", nn.Linear(channels[-1], classes))))
        initialised(self)


class VGG(nn.Sequential):
    """torchvision's VGG with a width factor. Its small stem pools to 1×1 and has no hidden linear layers."""

    def __init__(self, stages: Sequence[int], classes: int, width: int, stem: Stem, batch_norm: bool) -> None:
        widths = zip(stages, (1, 2, 4, 8, 8), strict=True)
        features = make_layers([layer for count, n in widths for layer in (*[n * width] * count, "M")], batch_norm)
        if stem == "imagenet":
            hidden = 64 * width
            classifier = nn.Sequential(
                nn.Linear(8 * width * 7 * 7, hidden), nn.ReLU(True), nn.Dropout(),
                nn.Linear(hidden, hidden), nn.ReLU(True), nn.Dropout(),
                nn.Linear(hidden, classes),
            )  # fmt: skip
        else:
            for pool in (module for module in features if isinstance(module, nn.MaxPool2d)):
                pool.ceil_mode = True  # a 16 px image survives five poolings
            classifier = nn.Sequential(nn.Linear(8 * width, classes))
        end = ended("classifier", classifier, cells=7 if stem == "imagenet" else 1)
        super().__init__(OrderedDict({"features": features} | end))
        initialised(self)
        for linear in (module for module in classifier if isinstance(module, nn.Linear)):
            almost_nothing(linear)


class ResNet(nn.Sequential):
    """torchvision's ResNet, made of its own blocks, with a width factor and a choice of stem."""

    def __init__(
        self, block: type[BasicBlock | Bottleneck], stages: Sequence[int], classes: int, width: int, stem: Stem
    ) -> None:
        large = stem == "imagenet"
        parts: Parts = {
            "conv1": nn.Conv2d(3, width, *((7, 2, 3) if large else (3, 1, 1)), bias=False),
            "bn1": nn.BatchNorm2d(width),
            "relu": nn.ReLU(inplace=True),
            "maxpool": nn.MaxPool2d(3, stride=2, padding=1) if large else nn.Identity(),
        }
        c_in = width
        for i, blocks in enumerate(stages):
            planes, stride = width * 2**i, 1 if i == 0 else 2
            first = block(c_in, planes, stride, shortcut(c_in, planes * block.expansion, stride))
            c_in = planes * block.expansion
            parts[f"layer{i + 1}"] = nn.Sequential(first, *(block(c_in, planes) for _ in range(1, blocks)))
        super().__init__(OrderedDict(parts | ended("fc", nn.Linear(c_in, classes))))
        initialised(self)


def shortcut(c_in: int, c_out: int, stride: int) -> nn.Module | None:
    """A ResNet block's projection, where its input and output differ in shape."""
    if stride == 1 and c_in == c_out:
        return None
    convolution = PickingConv2d if stride > 1 and c_in < SAFE_CHANNELS else nn.Conv2d
    return nn.Sequential(convolution(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))


def initialised(network: nn.Module) -> nn.Module:
    """Draws torchvision's initial weights of convolutions: Kaiming (fan out)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


def almost_nothing(linear: nn.Linear) -> None:
    """Draws a linear layer's weights from N(0, 0.01), which gives logits near zero."""
    nn.init.normal_(linear.weight, 0, 0.01)
    nn.init.zeros_(linear.bias)
