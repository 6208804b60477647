"""Folded teachers: the same logits, no batch norm left where one can go, nothing changed in the network itself."""

from __future__ import annotations

from threading import Thread

import pytest
import torch
from torch import nn

from kit.models import MODELS, ModelSpec, build
from kit.networks.folding import folded
from kit.networks.layered import LayeredSpec

pytestmark = pytest.mark.numerics


def lived_in(network: nn.Module, px: int = 32) -> nn.Module:
    """With running statistics and affine weights that are not those of a fresh network."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor in (module.weight, module.running_var):
                    tensor.uniform_(0.5, 2, generator=generator)
                for tensor in (module.bias, module.running_mean):
                    tensor.normal_(generator=generator)
    return network.eval()


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def same_logits(a: nn.Module, b: nn.Module, px: int = 32) -> None:
    x = torch.randn(3, 3, px, px, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():  # in double precision, where only mistakes are left and no rounding
        torch.testing.assert_close(a.double()(x), b.double()(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("stem", ["small", "imagenet"])
@pytest.mark.parametrize("name", MODELS)
def test_the_kits_networks_keep_their_logits_and_lose_their_batch_norms(name, stem):
    network = lived_in(build(name, 10, 4, stem, seed=0))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    quick = folded(network.double())
    assert norms(network) > 0 == norms(quick)
    same_logits(network, quick)
    for key, value in network.float().state_dict().items():
        torch.testing.assert_close(value, before[key])
    assert not any(p.requires_grad for name, p in quick.named_parameters() if "folded" in name)


def test_searched_networks_too():
    spec = LayeredSpec.of(ModelSpec(name="resnet34", classes=10, width=4, stem="small"))
    network = lived_in(spec.build(0)).double()
    assert norms(folded(network)) == 0
    same_logits(network, folded(network))


def test_what_stands_in_a_sequential_of_somebody_elses_network():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4), nn.Flatten())
    network = lived_in(network).double()
    assert norms(folded(network)) == 1  # the one behind the ReLU
    same_logits(network, folded(network))


class Shared(nn.Module):
    """A convolution that is used twice, once with a batch norm behind it; and a batch norm that nobody knows of."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.both = nn.Sequential(self.conv, nn.BatchNorm2d(3))

    def forward(self, x):
        return self.last(self.both(x) + self.conv(x)).mean((2, 3))


def test_what_cannot_be_folded_stays():
    network = lived_in(Shared()).double()
    assert norms(folded(network)) == 2
    same_logits(network, folded(network))


def test_trainings_in_other_threads_are_left_alone():
    """While teachers are folded here, another thread's network answers as before."""
    network, x = build("resnet34", 10, 4, "small", seed=0).eval(), torch.zeros(1, 3, 8, 8)
    folding = Thread(target=lambda: [folded(build("resnet50", 10, 4, "small", seed=0)) for _ in range(3)])
    with torch.no_grad():
        before = network(x)
        folding.start()
        while folding.is_alive():
            assert torch.equal(network(x), before)


def test_a_network_that_is_listened_to_is_left_alone():
    network = lived_in(build("cnn", 10, 4, "small", seed=0))
    network.features[1].register_forward_hook(lambda *_: None)
    assert folded(network) is network
