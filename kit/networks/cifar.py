"""The networks of the field's CIFAR-100 tables, `cifar:resnet8x4` and the like.

They have the layers, the initial weights and the parameters' names of RepDistiller (Tian et al., ICLR 2020), so that
its checkpoints load. Differences of its own from the papers that they are named after are kept: both ShuffleNets begin
with a 1 × 1 convolution, MobileNetV2 at half width with a strided one, and VGGs pool four times where images are 64 px.
All average their last maps, whatever the images' size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from kit.models import initialise, shortcut


class ResNet(nn.Module):
    """Three stages of (depth − 2) / 6 basic blocks (He et al., 2016); `widths` are the stem's and the stages'."""

    def __init__(self, depth: int, widths: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        stages = []
        for (c_in, c_out), stride in zip(pairwise(widths), (1, 2, 2), strict=True):
            blocks = [BasicBlock(c_in, c_out, stride, shortcut(c_in, c_out, stride))]
            blocks += [BasicBlock(c_out, c_out) for _ in range((depth - 2) // 6 - 1)]
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3 = stages
        self.fc = nn.Linear(widths[-1], num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        return self.fc(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


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


class ResNet50(nn.Module):
    """The ImageNet network with a 3 × 3 stem that keeps the images' size."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        c_in, stages = 64, []
        for inside, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
            stage = nn.Sequential(Bottleneck(c_in, inside, stride))
            stage.extend(Bottleneck(4 * inside, inside, 1) for _ in range(blocks - 1))
            stages.append(stage)
            c_in = 4 * inside
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.linear = nn.Linear(c_in, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        return self.linear(self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((2, 3)))


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


class WideStage(nn.Module):
    """Blocks of one width, the first of which may stride."""

    def __init__(self, blocks: int, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        rest = [WideBlock(c_out, c_out, 1) for _ in range(blocks - 1)]
        self.layer = nn.Sequential(WideBlock(c_in, c_out, stride), *rest)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class WideResNet(nn.Module):
    """WRN-depth-factor: three stages of (depth − 4) / 6 blocks."""

    def __init__(self, depth: int, factor: int, num_classes: int) -> None:
        super().__init__()
        blocks, widths = (depth - 4) // 6, (16, 16 * factor, 32 * factor, 64 * factor)
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.block1, self.block2, self.block3 = (
            WideStage(blocks, c_in, c_out, stride)
            for (c_in, c_out), stride in zip(pairwise(widths), (1, 2, 2), strict=True)
        )
        self.bn1, self.relu = nn.BatchNorm2d(widths[-1]), nn.ReLU(inplace=True)
        self.fc = nn.Linear(widths[-1], num_classes)
        initialise(self)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(self.relu(self.bn1(x)).mean((2, 3)))


class VGG(nn.Module):
    """VGG with batch norm and one linear layer; `convolutions` of each of its five stages."""

    def __init__(self, convolutions: Sequence[int], num_classes: int) -> None:
        super().__init__()
        c_in, stages = 3, []
        for count, width in zip(convolutions, (64, 128, 256, 512, 512), strict=True):
            stage = nn.Sequential()
            for _ in range(count):
                stage.extend([nn.Conv2d(c_in, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)])
                c_in = width
            stages.append(stage)
        self.block0, self.block1, self.block2, self.block3, self.block4 = stages
        self.pool = nn.MaxPool2d(2)
        self.classifier = nn.Linear(c_in, num_classes)
        initialise(self)
        almost_nothing(self.classifier)

    def forward(self, x: Tensor) -> Tensor:
        large = x.shape[2] >= 64
        x = self.block2(self.pool(self.block1(self.pool(self.block0(x)))))
        x = self.block3(self.pool(x))
        return self.classifier(self.block4(self.pool(x) if large else x).mean((2, 3)))


class InvertedResidual(nn.Module):
    """Expanded, convolved by channel, projected back (Sandler et al., 2018)."""

    def __init__(self, c_in: int, c_out: int, stride: int, expansion: int) -> None:
        super().__init__()
        inside = c_in * expansion
        self.conv = nn.Sequential(
            nn.Conv2d(c_in, inside, 1, bias=False), nn.BatchNorm2d(inside), nn.ReLU(inplace=True),
            nn.Conv2d(inside, inside, 3, stride, 1, groups=inside, bias=False), nn.BatchNorm2d(inside),
            nn.ReLU(inplace=True), nn.Conv2d(inside, c_out, 1, bias=False), nn.BatchNorm2d(c_out),
        )  # fmt: skip
        self.adds = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.adds else self.conv(x)


class MobileNetV2(nn.Module):
    """MobileNetV2 at half width."""

    # expansion, channels, blocks, stride of the first
    STAGES = ((1, 8, 1, 1), (6, 12, 2, 1), (6, 16, 3, 2), (6, 32, 4, 2), (6, 48, 3, 1), (6, 80, 3, 2), (6, 160, 1, 1))

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        c_in = 16
        self.conv1 = nn.Sequential(nn.Conv2d(3, c_in, 3, 2, 1, bias=False), nn.BatchNorm2d(c_in), nn.ReLU(inplace=True))
        self.blocks = nn.Sequential()
        for expansion, c_out, count, stride in self.STAGES:
            stage = nn.Sequential(InvertedResidual(c_in, c_out, stride, expansion))
            stage.extend(InvertedResidual(c_out, c_out, 1, expansion) for _ in range(count - 1))
            self.blocks.append(stage)
            c_in = c_out
        self.conv2 = nn.Sequential(nn.Conv2d(c_in, 1280, 1, bias=False), nn.BatchNorm2d(1280), nn.ReLU(inplace=True))
        linear = nn.Linear(1280, num_classes)
        self.classifier = nn.Sequential(linear)
        initialise(self)
        almost_nothing(linear)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.conv2(self.blocks(self.conv1(x))).mean((2, 3)))


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


class ShuffleNet(nn.Module):
    """A stem of one 1 × 1 convolution, three stages, and what `last` makes of their maps."""

    def __init__(self, stages: Sequence[nn.Module], c_out: int, num_classes: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 24, 1, bias=False), nn.BatchNorm2d(24)
        self.relu = nn.ReLU(inplace=True)
        self.layer1, self.layer2, self.layer3 = stages
        self.linear = nn.Linear(c_out, num_classes)

    def last(self, x: Tensor) -> Tensor:
        return x

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.relu(self.bn1(self.conv1(x))))))
        return self.linear(self.last(x).mean((2, 3)))


class ShuffleNetV1(ShuffleNet):
    """ShuffleNet 1× in three groups."""

    def __init__(self, num_classes: int) -> None:
        widths, groups = (24, 240, 480, 960), 3
        stages = []
        for (c_in, c_out), units in zip(pairwise(widths), (4, 8, 4), strict=True):
            rest = [GroupedUnit(c_out, c_out, 1, groups) for _ in range(units - 1)]
            stages.append(nn.Sequential(GroupedUnit(c_in, c_out, 2, groups), *rest))
        super().__init__(stages, widths[-1], num_classes)


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


class ShuffleNetV2(ShuffleNet):
    """ShuffleNetV2 1×."""

    def __init__(self, num_classes: int) -> None:
        widths = (24, 116, 232, 464)
        stages = [
            nn.Sequential(StridedUnit(c_in, c_out), *(SplitUnit(c_out) for _ in range(units)))
            for (c_in, c_out), units in zip(pairwise(widths), (3, 7, 3), strict=True)
        ]
        super().__init__(stages, 1024, num_classes)
        self.conv2, self.bn2 = nn.Conv2d(widths[-1], 1024, 1, bias=False), nn.BatchNorm2d(1024)
        self.relu2 = nn.ReLU(inplace=True)

    def last(self, x: Tensor) -> Tensor:
        return self.relu2(self.bn2(self.conv2(x)))


def shuffled(x: Tensor, groups: int) -> Tensor:
    """The channels of x (N, C, H, W), dealt out so that each group's follow one another no longer."""
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


def almost_nothing(linear: nn.Linear) -> None:
    """A linear layer's initial weights that give logits near zero."""
    nn.init.normal_(linear.weight, 0, 0.01)
    nn.init.zeros_(linear.bias)


THIN, WIDE = (16, 16, 32, 64), (32, 64, 128, 256)
NETWORKS: dict[str, Callable[..., nn.Module]] = {
    **{f"resnet{depth}": partial(ResNet, depth, THIN) for depth in (8, 14, 20, 32, 44, 56, 110)},
    **{f"resnet{depth}x4": partial(ResNet, depth, WIDE) for depth in (8, 32)},
    "resnet50": ResNet50,
    **{f"wrn_{depth}_{factor}": partial(WideResNet, depth, factor) for depth in (16, 40) for factor in (1, 2)},
    "vgg8": partial(VGG, (1, 1, 1, 1, 1)),
    "vgg11": partial(VGG, (1, 1, 2, 2, 2)),
    "vgg13": partial(VGG, (2, 2, 2, 2, 2)),
    "vgg16": partial(VGG, (2, 2, 3, 3, 3)),
    "vgg19": partial(VGG, (2, 2, 4, 4, 4)),
    "mobilenetv2": MobileNetV2,
    "shufflenetv1": ShuffleNetV1,
    "shufflenetv2": ShuffleNetV2,
}

# As `kit.networks.folding` wants it: which norm sees what a convolution gives, and nobody else does.
FOLLOWED_BY: dict[type[nn.Module], list[tuple[str, str]]] = {
    ResNet: [("conv1", "bn1")],
    ResNet50: [("conv1", "bn1")],
    Bottleneck: [(f"conv{i}", f"bn{i}") for i in (1, 2, 3)],
    WideBlock: [("conv1", "bn2")],
    ShuffleNetV1: [("conv1", "bn1")],
    ShuffleNetV2: [("conv1", "bn1"), ("conv2", "bn2")],
    GroupedUnit: [(f"conv{i}", f"bn{i}") for i in (1, 2, 3)],
    SplitUnit: [(f"conv{i}", f"bn{i}") for i in (1, 2, 3)],
    StridedUnit: [(f"conv{i}", f"bn{i}") for i in (1, 2, 3, 4, 5)],
}

# What counts as one convolution where a heat map's layer is chosen, as torchvision's basic block does.
BLOCKS = Bottleneck, WideBlock, InvertedResidual, GroupedUnit, SplitUnit, StridedUnit
