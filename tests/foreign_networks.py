"""Networks that are not the kit's: an own file, and small ones of torchvision and timm."""

from __future__ import annotations

from pathlib import Path

from small_runs import spec

from kit import recipe
from kit.networks.named import NamedSpec
from kit.recipe import Recipe
from kit.runs.spec import Run

FILE = '''\
"""Somebody's networks, as they come."""
import torch
from torch import nn

print("reading my_nets")


def tiny(num_classes, depth=1, drop=0.0, norm=True):
    print("building tiny")
    layers = [nn.Conv2d(3, 4, 3, padding=1)]
    for _ in range(depth):
        layers += [nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4) if norm else nn.Identity(), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(drop), nn.Linear(4, num_classes))


class Picky(nn.Module):
    """Uses a part of a Sequential alone: what stands before a batch norm there is not always followed by it."""

    def __init__(self, num_classes):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.fc = nn.Linear(4, num_classes)

    def forward(self, x):
        first = self.body[0](x)
        return self.fc((self.body[1](first) + first).mean((2, 3)))


class Tied(nn.Module):
    """One weight under two names."""

    def __init__(self, num_classes):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.again = nn.Conv2d(3, 3, 3, padding=1)
        self.again.weight = self.conv.weight
        self.fc = nn.Linear(3, num_classes)

    def forward(self, x):
        return self.fc(self.again(self.conv(x).relu()).mean((2, 3)))


class Two(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.net = tiny(num_classes)

    def forward(self, x):
        z = self.net(x)
        return z, z


class Grey(Two):
    """For images of one channel."""

    def forward(self, x):
        return self.net(x[:, :1])


class Mixed(Two):
    """Subtracts the batch's mean logits, in evaluation mode too."""

    def forward(self, x):
        z = self.net(x)
        return z - z.mean(0) + 1


class Unsteady(Two):
    def forward(self, x):
        return self.net(x) + torch.rand(len(x), 1)


class Vector(Two):
    def forward(self, x):
        return self.net(x)[:, :3]


class Nan(Two):
    def forward(self, x):
        return self.net(x) * float("nan")


def doubled(num_classes):
    torch.set_default_dtype(torch.float64)
    return tiny(num_classes)


BODY = tiny(8)


def shared(num_classes):
    return nn.Sequential(BODY, nn.Linear(8, num_classes))


class Keeps(Two):
    """Keeps its maps for who wants them, as many do."""

    def forward(self, x):
        self.maps = self.net[:-3](x)
        return self.net[-3:](self.maps)


class InPlace(Two):
    def forward(self, x):
        x -= 0.1
        return self.net(x)


class Growing(Two):
    def forward(self, x):
        self.register_buffer("seen", x.mean())
        return self.net(x)


class Lazy(Two):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.net = nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))


def flat(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 8), nn.ReLU(), nn.Linear(8, num_classes))


def frozen(num_classes):
    return tiny(num_classes).requires_grad_(False)


def complex_valued(num_classes):
    network = tiny(num_classes)
    network.phase = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    return network


def scripted(num_classes):
    return torch.jit.script(tiny(num_classes))


def quantised(num_classes):
    return torch.ao.quantization.quantize_dynamic(tiny(num_classes, norm=False), {nn.Linear})


def numpys(num_classes):
    import numpy
    network = tiny(num_classes)
    network[0].bias.data += float(numpy.random.rand())
    return network


def no_module(num_classes):
    return 3


def raises(num_classes):
    raise RuntimeError("no such luck\\nand more")


def leaves(num_classes):
    raise SystemExit(3)


def reads(num_classes):
    open("/nowhere/at/all")


def no_classes(classes):
    return tiny(classes)
'''


def own_file(folder: Path, text: str = FILE) -> Path:
    path = folder / "my_nets.py"
    path.write_text(text)
    return path


def named(name: str, px: int = 16, **arguments: object) -> NamedSpec:
    return NamedSpec.of(name, 10, px, arguments)


def trained(network: NamedSpec, px: int = 16, epochs: int = 2, **more: object) -> Run:
    """A network on 40 digits by hard labels, two steps an epoch."""
    how = {"stages": recipe.hard_labels(), "epochs": epochs, "batch": 20, "pad": 1}
    return Run(data=spec(px=px), student=network, recipe=Recipe(**how), **more)
