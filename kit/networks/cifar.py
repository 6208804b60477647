"""The networks of the field's CIFAR-100 tables, `cifar:resnet8x4` and the like.

They have the layers, the initial weights and the parameters' names of RepDistiller (Tian et al., ICLR 2020), so that
its checkpoints load. Differences of its own from the papers that they are named after are kept: both ShuffleNets begin
with a 1 × 1 convolution, MobileNetV2 at half width with a strided one, and VGGs pool four times where images are 64 px.
All average their last maps, whatever the images' size.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock
from torchvision.ops import Conv2dNormActivation

from kit.models import Parts, almost_nothing, ended, initialised, shortcut


def chain(*parts: Parts) -> nn.Sequential:
    """Chains modules, each under its name."""
    return nn.Sequential(OrderedDict({name: module for each in parts for name, module in each.items()}))


def stem(kernel: int, width: int) -> Parts:
    """Makes a first convolution that keeps the images' size, its norm and its ReLU."""
    convolution = nn.Conv2d(3, width, kernel, padding=kernel // 2, bias=False)
    return {"conv1": convolution, "bn1": nn.BatchNorm2d(width), "relu": nn.ReLU(inplace=True)}


def resnet(depth: int, widths: Sequence[int], num_classes: int) -> nn.Module:
    """Three stages of (depth − 2) / 6 basic blocks (He et al., 2016); `widths` are the stem's and the stages'."""
    stages: Parts = {}
    for i, (c_in, c_out) in enumerate(pairwise(widths), start=1):
        stride = 1 if i == 1 else 2
        first = BasicBlock(c_in, c_out, stride, shortcut(c_in, c_out, stride))
        stages[f"layer{i}"] = nn.Sequential(first, *(BasicBlock(c_out, c_out) for _ in range((depth - 2) // 6 - 1)))
    return initialised(chain(stem(3, widths[0]), stages, ended("fc", nn.Linear(widths[-1], num_classes))))


class Bottleneck(nn.Module):
    """ResNet-50's block, four times as wide at its end as inside."""

    def __init__(self, c_in: int, inside: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(c_in, inside, 1, bias=False), nn.BatchNorm2d(inside)
        self.conv2, self.bn2 = nn.Conv2d(inside, inside, 3, stride, 1, bias=False), nn.BatchNorm2d(inside)
        self.conv3, self.bn3 = nn.Conv2d(inside, 4 * inside, 1, bias=False), nn.BatchNorm2d(4 * inside)
        self.shortcut = shortcut(c_in, 4 * inside, stride) or nn.Identity()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(self.bn3(self.conv3(y)) + self.shortcut(x))


def resnet50(num_classes: int) -> nn.Module:
    """The ImageNet network with a 3 × 3 stem that keeps the images' size."""
    c_in, stages = 64, Parts()
    for i, (inside, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), start=1):
        first = Bottleneck(c_in, inside, 1 if i == 1 else 2)
        c_in = 4 * inside
        stages[f"layer{i}"] = nn.Sequential(first, *(Bottleneck(c_in, inside, 1) for _ in range(blocks - 1)))
    return initialised(chain(stem(3, 64), stages, ended("linear", nn.Linear(c_in, num_classes))))


class WideBlock(nn.Module):
    """A residual block whose norms come before its convolutions (Zagoruyko & Komodakis, 2016)."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.relu1 = nn.BatchNorm2d(c_in), nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn2, self.relu2 = nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.convShortcut = None if c_in == c_out else nn.Conv2d(c_in, c_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = self.relu1(self.bn1(x))
        y = self.conv2(self.relu2(self.bn2(self.conv1(active))))
        return y + (x if self.convShortcut is None else self.convShortcut(active))


def wide_resnet(depth: int, factor: int, num_classes: int) -> nn.Module:
    """WRN-depth-factor: three stages of (depth − 4) / 6 blocks."""
    widths, stages = (16, 16 * factor, 32 * factor, 64 * factor), Parts()
    for i, (c_in, c_out) in enumerate(pairwise(widths), start=1):
        rest = [WideBlock(c_out, c_out, 1) for _ in range((depth - 4) // 6 - 1)]
        stages[f"block{i}"] = chain({"layer": nn.Sequential(WideBlock(c_in, c_out, 1 if i == 1 else 2), *rest)})
    first: Parts = {"conv1": nn.Conv2d(3, 16, 3, padding=1, bias=False)}
    last: Parts = {"bn1": nn.BatchNorm2d(widths[-1]), "relu": nn.ReLU(inplace=True)}
    fc = nn.Linear(widths[-1], num_classes)
    network = initialised(chain(first, stages, last, ended("fc", fc)))
    nn.init.zeros_(fc.bias)
    return network


class PoolOfLarge(nn.MaxPool2d):
    """Pools maps of 8 px and more, as images of 64 px have after three poolings."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.shape[2] >= 8 else x


def vgg(convolutions: Sequence[int], num_classes: int) -> nn.Module:
    """VGG with batch norm and one linear layer; `convolutions` of each of its five stages."""
    c_in, parts = 3, Parts()
    for i, (count, width) in enumerate(zip(convolutions, (64, 128, 256, 512, 512), strict=True)):
        stage = nn.Sequential()
        for _ in range(count):
            stage.extend([nn.Conv2d(c_in, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)])
            c_in = width
        if i > 0:
            parts[f"pool{i}"] = PoolOfLarge(2) if i == 4 else nn.MaxPool2d(2)
        parts[f"block{i}"] = stage
    linear = nn.Linear(c_in, num_classes)
    network = initialised(chain(parts, ended("classifier", linear)))
    almost_nothing(linear)
    return network


class InvertedResidual(nn.Module):
    """Expanded, convolved by channel, projected back (Sandler et al., 2018)."""

    def __init__(self, c_in: int, c_out: int, stride: int, expansion: int) -> None:
        super().__init__()
        inside = c_in * expansion
        self.conv = nn.Sequential(
            *Conv2dNormActivation(c_in, inside, 1),
            *Conv2dNormActivation(inside, inside, 3, stride, groups=inside),
            *Conv2dNormActivation(inside, c_out, 1, activation_layer=None),
        )
        self.adds = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.adds else self.conv(x)


# MobileNetV2's stages at half width: expansion, channels, blocks, stride of the first
INVERTED = ((1, 8, 1, 1), (6, 12, 2, 1), (6, 16, 3, 2), (6, 32, 4, 2), (6, 48, 3, 1), (6, 80, 3, 2), (6, 160, 1, 1))


def mobilenet_v2(num_classes: int) -> nn.Module:
    """MobileNetV2 at half width."""
    c_in, blocks = 16, nn.Sequential()
    for expansion, c_out, count, stride in INVERTED:
        rest = [InvertedResidual(c_out, c_out, 1, expansion) for _ in range(count - 1)]
        blocks.append(nn.Sequential(InvertedResidual(c_in, c_out, stride, expansion), *rest))
        c_in = c_out
    first, last = Conv2dNormActivation(3, 16, 3, 2), Conv2dNormActivation(c_in, 1280, 1)
    linear = nn.Linear(1280, num_classes)
    network = initialised(
        chain({"conv1": first, "blocks": blocks, "conv2": last}, ended("classifier", nn.Sequential(linear)))
    )
    almost_nothing(linear)
    return network


class GroupedUnit(nn.Module):
    """ShuffleNet's unit (Zhang et al., 2018); one that strides puts its pooled input beside what it makes."""

    def __init__(self, c_in: int, c_out: int, stride: int, groups: int) -> None:
        super().__init__()
        made = c_out - c_in if stride == 2 else c_out
        inside, self.groups = made // 4, 1 if c_in == 24 else groups
        self.conv1, self.bn1 = nn.Conv2d(c_in, inside, 1, groups=self.groups, bias=False), nn.BatchNorm2d(inside)
        self.conv2 = nn.Conv2d(inside, inside, 3, stride, 1, groups=inside, bias=False)
        self.bn2 = nn.BatchNorm2d(inside)
        self.conv3, self.bn3 = nn.Conv2d(inside, made, 1, groups=groups, bias=False), nn.BatchNorm2d(made)
        self.pool = nn.AvgPool2d(3, 2, 1) if stride == 2 else None
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = shuffled(self.relu(self.bn1(self.conv1(x))), self.groups)
        y = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(y)))))
        return self.relu(y + x if self.pool is None else torch.cat([y, self.pool(x)], 1))


def shufflenet_v1(num_classes: int) -> nn.Module:
    """ShuffleNet 1× in three groups."""
    widths, groups, stages = (24, 240, 480, 960), 3, Parts()
    for i, ((c_in, c_out), units) in enumerate(zip(pairwise(widths), (4, 8, 4), strict=True), start=1):
        rest = [GroupedUnit(c_out, c_out, 1, groups) for _ in range(units - 1)]
        stages[f"layer{i}"] = nn.Sequential(GroupedUnit(c_in, c_out, 2, groups), *rest)
    return chain(stem(1, 24), stages, ended("linear", nn.Linear(widths[-1], num_classes)))


class SplitUnit(nn.Module):
    """ShuffleNetV2's unit: half of the channels pass by (Ma et al., 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1, self.bn1 = nn.Conv2d(half, half, 1, bias=False), nn.BatchNorm2d(half)
        self.conv2, self.bn2 = nn.Conv2d(half, half, 3, 1, 1, groups=half, bias=False), nn.BatchNorm2d(half)
        self.conv3, self.bn3 = nn.Conv2d(half, half, 1, bias=False), nn.BatchNorm2d(half)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        passing, y = x.chunk(2, 1)
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(y)))))
        return shuffled(torch.cat([passing, self.relu(self.bn3(self.conv3(y)))], 1), 2)


class StridedUnit(nn.Module):
    """ShuffleNetV2's unit that halves the maps: both branches see all channels."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        half = c_out // 2
        self.conv1, self.bn1 = nn.Conv2d(c_in, c_in, 3, 2, 1, groups=c_in, bias=False), nn.BatchNorm2d(c_in)
        self.conv2, self.bn2 = nn.Conv2d(c_in, half, 1, bias=False), nn.BatchNorm2d(half)
        self.conv3, self.bn3 = nn.Conv2d(c_in, half, 1, bias=False), nn.BatchNorm2d(half)
        self.conv4, self.bn4 = nn.Conv2d(half, half, 3, 2, 1, groups=half, bias=False), nn.BatchNorm2d(half)
        self.conv5, self.bn5 = nn.Conv2d(half, half, 1, bias=False), nn.BatchNorm2d(half)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        left = self.relu(self.bn2(self.conv2(self.bn1(self.conv1(x)))))
        right = self.bn4(self.conv4(self.relu(self.bn3(self.conv3(x)))))
        right = self.relu(self.bn5(self.conv5(right)))
        return shuffled(torch.cat([left, right], 1), 2)


class ShuffleNetV2(nn.Sequential):
    """ShuffleNetV2 1×; in its checkpoints the linear layer stands before the convolution whose maps it sees."""

    def __init__(self, num_classes: int) -> None:
        widths, stages = (24, 116, 232, 464), Parts()
        for i, ((c_in, c_out), units) in enumerate(zip(pairwise(widths), (3, 7, 3), strict=True), start=1):
            stages[f"layer{i}"] = nn.Sequential(StridedUnit(c_in, c_out), *(SplitUnit(c_out) for _ in range(units)))
        super().__init__(OrderedDict(stem(1, 24) | stages | {"linear": nn.Linear(1024, num_classes)}))
        self.conv2, self.bn2 = nn.Conv2d(widths[-1], 1024, 1, bias=False), nn.BatchNorm2d(1024)
        self.relu2 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        *body, linear, conv2, bn2, relu2 = self
        for module in (*body, conv2, bn2, relu2):
            x = module(x)
        return linear(x.mean((2, 3)))


def shuffled(x: Tensor, groups: int) -> Tensor:
    """The channels of x (N, C, H, W), dealt out so that each group's follow one another no longer."""
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


THIN, WIDE = (16, 16, 32, 64), (32, 64, 128, 256)
NETWORKS: dict[str, Callable[..., nn.Module]] = {
    **{f"resnet{depth}": partial(resnet, depth, THIN) for depth in (8, 14, 20, 32, 44, 56, 110)},
    **{f"resnet{depth}x4": partial(resnet, depth, WIDE) for depth in (8, 32)},
    "resnet50": resnet50,
    **{f"wrn_{depth}_{factor}": partial(wide_resnet, depth, factor) for depth in (16, 40) for factor in (1, 2)},
    "vgg8": partial(vgg, (1, 1, 1, 1, 1)),
    "vgg11": partial(vgg, (1, 1, 2, 2, 2)),
    "vgg13": partial(vgg, (2, 2, 2, 2, 2)),
    "vgg16": partial(vgg, (2, 2, 3, 3, 3)),
    "vgg19": partial(vgg, (2, 2, 4, 4, 4)),
    "mobilenetv2": mobilenet_v2,
    "shufflenetv1": shufflenet_v1,
    "shufflenetv2": ShuffleNetV2,
}

# What counts as one convolution where a heat map's layer is chosen, as torchvision's basic block does.
BLOCKS = Bottleneck, WideBlock, InvertedResidual, GroupedUnit, SplitUnit, StridedUnit
