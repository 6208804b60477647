"""Networks described layer by layer, which a search may build, cut and shrink. Every description is a valid network.

Each layer's input channels follow from what is before it. A residual whose two ends differ in shape gets a projection,
so nothing that removes layers or changes channels can leave a mismatch. The end is always global average pooling and
one linear layer, as with `stem="small"`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import Field, model_validator
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

from kit.errors import Described, KitError
from kit.models import RESNET_STAGES, VGG_STAGES, ModelSpec, initialised, shortcut
from kit.runtime.seeds import seeded


class Layer(Described):
    """A convolution with batch norm and ReLU, then max-pooling by 2 where `pool`.

    `back` > 0 ends a residual: what went into the layer so many layers back (1: this one) is added before the ReLU.
    """

    channels: int = Field(ge=1)
    kernel: int = Field(default=3, ge=1, le=7)
    stride: int = Field(default=1, ge=1)
    pool: bool = False
    back: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _kernel_is_odd(self) -> Layer:
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel {self.kernel} is even; allowed: 1, 3, 5, 7")
        return self


class LayeredSpec(Described):
    """Describes a searched network: like `ModelSpec`, it has all that `build` needs."""

    layers: tuple[Layer, ...] = Field(min_length=1)
    classes: int = Field(ge=2)
    title: str = "searched"

    @model_validator(mode="after")
    def _residuals_begin_inside(self) -> LayeredSpec:
        for i, layer in enumerate(self.layers):
            if layer.back > i + 1:
                raise ValueError(f"layer {i} adds the input of layer {i + 1 - layer.back}, which is not there")
        return self

    @classmethod
    def of(cls, model: ModelSpec) -> LayeredSpec:
        """Describes the layers of a VGG or ResNet with the small stem (a VGG's with batch norm, less its useless
        biases)."""
        if model.stem != "small" or model.name not in (*VGG_STAGES, *RESNET_STAGES):
            allowed = ", ".join((*VGG_STAGES, *RESNET_STAGES))
            raise KitError(
                f"model {model.name!r} with stem {model.stem!r} has no layer list; allowed: {allowed}, small"
            )
        layers = _vgg_layers(model) if model.name in VGG_STAGES else _resnet_layers(model)
        return cls(layers=tuple(layers), classes=model.classes, title=model.title)

    @property
    def widths(self) -> str:
        """Lists the channels in order, `p` for a pool or stride, `+` for a residual's end: `8 8p 16 16+p`."""
        return " ".join(
            f"{layer.channels}{'+' if layer.back else ''}{'p' if layer.pool or layer.stride > 1 else ''}"
            for layer in self.layers
        )

    def build(self, seed: int | None = None) -> nn.Module:
        """Builds the network with fresh weights; the same seed gives the same weights and leaves torch's own stream
        alone."""
        with seeded(seed):
            return Layered(self.layers, self.classes)


class Layered(nn.Module):
    """The network of a list of layers: images (N, 3, H, W) to logits (N, C)."""

    def __init__(self, layers: Sequence[Layer], classes: int) -> None:
        super().__init__()
        self.layers = tuple(layers)
        inputs = [3, *(layer.channels for layer in layers)]  # inputs[i]: the channels that layer i sees
        self.convs, self.norms, self.skips = nn.ModuleList(), nn.ModuleList(), nn.ModuleDict()
        self.relus = nn.ModuleList(nn.ReLU(inplace=True) for _ in layers)  # one a layer, so that heat maps can name it
        for i, layer in enumerate(layers):
            conv = nn.Conv2d(inputs[i], layer.channels, layer.kernel, layer.stride, layer.kernel // 2, bias=False)
            self.convs.append(conv)
            self.norms.append(nn.BatchNorm2d(layer.channels))
            if layer.back:
                first = i + 1 - layer.back
                projection = shortcut(inputs[first], layer.channels, shrinking(layers[first : i + 1]))
                self.skips[str(i)] = projection or nn.Identity()
        self.fc = nn.Linear(layers[-1].channels, classes)
        initialised(self)

    def forward(self, x: Tensor) -> Tensor:
        inputs = [x]
        parts = zip(self.layers, self.convs, self.norms, self.relus, strict=True)
        for i, (layer, conv, norm, relu) in enumerate(parts):
            x = norm(conv(x))
            if layer.back:
                x = x + self.skips[str(i)](inputs[i + 1 - layer.back])
            x = relu(x)
            if layer.pool:
                x = nn.functional.max_pool2d(x, 2, ceil_mode=True)
            inputs.append(x)
        return self.fc(x.mean((2, 3)))


def shrinking(layers: Sequence[Layer]) -> int:
    """Computes by how much these layers shrink the image, but for the last one's pool, which comes after its
    residual."""
    return math.prod(layer.stride for layer in layers) * 2 ** sum(layer.pool for layer in layers[:-1])


def without(spec: LayeredSpec, keep: Sequence[bool]) -> LayeredSpec | None:
    """Removes all layers but those that are kept; None where none is.

    A removed layer's down-sampling becomes stride of the next kept one. A residual ends at the last kept layer of its
    span and starts before the first; with no layer left inside, it is gone (x + x teaches nothing new).
    """
    if len(keep) != len(spec.layers):
        raise KitError(f"keep has {len(keep)} entries, the network {len(spec.layers)} layers")
    if not any(keep):
        return None
    back: dict[int, int] = {}  # old position of the residual's new end: kept layers in its span
    for i, layer in enumerate(spec.layers):
        inside = [j for j in range(i + 1 - layer.back, i + 1) if keep[j]] if layer.back else []
        if inside:
            back[inside[-1]] = max(len(inside), back.get(inside[-1], 0))
    layers, owed = [], 1
    for i, layer in enumerate(spec.layers):
        if keep[i]:
            layers.append(layer.model_copy(update={"stride": layer.stride * owed, "back": back.get(i, 0)}))
            owed = 1
        else:
            owed *= layer.stride * (2 if layer.pool else 1)
    return spec.model_copy(update={"layers": tuple(layers)})


def shrunk(spec: LayeredSpec, factors: Sequence[float]) -> LayeredSpec:
    """Multiplies each layer's channels by its factor; at least 1 is left."""
    layers = tuple(
        layer.model_copy(update={"channels": max(1, round(layer.channels * factor))})
        for layer, factor in zip(spec.layers, factors, strict=True)
    )
    return spec.model_copy(update={"layers": layers})


def _vgg_layers(model: ModelSpec) -> list[Layer]:
    return [
        Layer(channels=factor * model.width, pool=i == convolutions - 1)
        for convolutions, factor in zip(VGG_STAGES[model.name], (1, 2, 4, 8, 8), strict=True)
        for i in range(convolutions)
    ]


def _resnet_layers(model: ModelSpec) -> list[Layer]:
    block, stages = RESNET_STAGES[model.name]
    layers = [Layer(channels=model.width)]
    for stage, blocks in enumerate(stages):
        planes = model.width * 2**stage
        for i in range(blocks):
            stride = 2 if stage > 0 and i == 0 else 1
            if block is Bottleneck:
                layers += [
                    Layer(channels=planes, kernel=1),
                    Layer(channels=planes, stride=stride),
                    Layer(channels=4 * planes, kernel=1, back=3),
                ]
            else:
                layers += [Layer(channels=planes, stride=stride), Layer(channels=planes, back=2)]
    return layers
