"""The field's CIFAR networks against what RepDistiller's own code gives: names, shapes, counts and logits.

`cifar_networks.json` was written by that code (HobbitLong/RepDistiller, its networks for 100 classes in evaluation
mode): of each network the parameters, a sha256 of the sorted lines "name [shape]" of its state dict, and the first
logits of the image `ramp(…)` under weights that are `ramp(…)` too.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from pathlib import Path

import pytest
import torch
from foreign_networks import named, trained
from torch import Tensor, nn

from kit import cam
from kit.cam.heat_maps import default_layer
from kit.errors import KitError
from kit.networks.cifar import NETWORKS
from kit.networks.flops import parameter_count
from kit.networks.folding import folded
from kit.paper.plan import Chosen, Plan
from kit.runs.store import stored
from kit.runs.training import train
from kit.runs.weights import Weights

pytestmark = pytest.mark.numerics

THEIRS = json.loads(Path(__file__).with_name("cifar_networks.json").read_text())
PUBLISHED = {
    "resnet20": 0.28, "resnet32": 0.47, "resnet56": 0.86, "resnet110": 1.74, "resnet8x4": 1.23, "resnet32x4": 7.43,
    "wrn_16_2": 0.70, "wrn_40_1": 0.57, "wrn_40_2": 2.26, "vgg8": 3.97, "vgg13": 9.46, "mobilenetv2": 0.81,
    "shufflenetv1": 0.95, "shufflenetv2": 1.36,
}  # fmt: skip


def ramp(shape: tuple[int, ...], key: str) -> Tensor:
    """Numbers in −0.5 … 0.5 that follow from a shape and a name, in any program that can multiply."""
    start = int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) / 2**32
    return ((torch.arange(math.prod(shape), dtype=torch.float64) * 0.6180339887498949 + start) % 1 - 0.5).view(shape)


def on_ramps(network: nn.Module) -> nn.Module:
    """Weights of about unit gain, norms that are not those of a fresh network."""
    network = network.double().eval()
    state = network.state_dict()
    for name, tensor in state.items():
        if tensor.is_floating_point():
            drawn = ramp(tuple(tensor.shape), name)
            gain = math.sqrt(24 / tensor[0].numel()) if tensor.ndim > 1 else 1.0
            tensor.copy_(drawn * gain + (1.0 if name.endswith(("running_var", "weight")) and tensor.ndim == 1 else 0.0))
    return network


def described(network: nn.Module, px: int) -> dict:
    lines = sorted(f"{name} {list(tensor.shape)}" for name, tensor in network.state_dict().items())
    with torch.no_grad():
        logits = on_ramps(network)(4 * ramp((1, 3, px, px), "image"))[0, :3].tolist()
    return {
        "parameters": parameter_count(network),
        "names": hashlib.sha256("\n".join(lines).encode()).hexdigest(),
        "px": px,
        "logits": [float(f"{value:.9g}") for value in logits],
    }


@pytest.mark.parametrize("case", THEIRS)
def test_a_network_is_the_one_that_its_checkpoints_are_of(case):
    name = case.partition(" ")[0]
    found = described(NETWORKS[name](num_classes=100), THEIRS[case]["px"])
    assert found | {"logits": None} == THEIRS[case] | {"logits": None}
    assert found["logits"] == pytest.approx(THEIRS[case]["logits"], rel=1e-6)


def test_none_is_missing_and_counts_are_the_published_ones():
    assert {case.partition(" ")[0] for case in THEIRS} == set(NETWORKS)
    assert {name: round(THEIRS[name]["parameters"] / 1e6, 2) for name in PUBLISHED} == PUBLISHED


@pytest.mark.parametrize(
    ("name", "layer", "of_small_images"),
    [
        ("resnet8x4", "layer3", "layer3"),
        ("resnet50", "layer4", "layer3"),
        ("wrn_16_2", "relu", "relu"),
        ("vgg8", "block4", "block2"),
        ("mobilenetv2", "blocks.4", "blocks.2"),
        ("shufflenetv1", "layer3", "layer2"),
        ("shufflenetv2", "relu2", "layer2"),
    ],
)
def test_it_is_folded_and_explained(name, layer, of_small_images):
    network = on_ramps(NETWORKS[name](num_classes=5))
    x = 4 * ramp((2, 3, 32, 32), "two images")
    small, quick = x[:, :, ::2, ::2], folded(network)
    with torch.no_grad():
        torch.testing.assert_close(quick(small), network(small), rtol=1e-9, atol=1e-9)
    left = [key for key, module in quick.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(left) == (7 if name == "wrn_16_2" else 0)  # a WRN's norms come first: one a block is behind a sum
    assert default_layer(network, x) == layer
    assert default_layer(network, small) == of_small_images


@pytest.mark.parametrize("name", ["resnet8", "shufflenetv2"])
def test_it_is_trained_kept_and_explained(name, own_cache):
    run = trained(named(f"cifar:{name}"), epochs=1)
    result = train(run)
    network = stored(run.hash).student()
    assert run.title == f"cifar:{name} on cifar-10, seed 0"
    assert cam.maps(network, run.data.load().test.images.take(torch.arange(2)).permute(0, 3, 1, 2).float()).maps.any()
    assert 0 < result.metrics["student_flops"] < math.inf


def test_a_checkpoint_of_theirs_teaches(own_cache, tmp_path):
    """As their training scripts save it, with options and the best accuracy beside the weights."""
    file = tmp_path / "ckpt_epoch_240.pth"
    network = on_ramps(NETWORKS["resnet8"](num_classes=10)).float()
    about = {
        "opt": argparse.Namespace(model="resnet8", lr_decay_epochs=[150, 180, 210]),
        "best_acc": torch.tensor(72.5),
    }
    torch.save({"epoch": 240, "model": network.state_dict()} | about, file)
    run = Plan.of("smoke").teacher(Chosen("cifar:resnet8", weights=file), "cifar-10")
    assert run.is_given
    given = run.begun()
    assert all(torch.equal(given.state_dict()[key], tensor) for key, tensor in network.state_dict().items())
    with pytest.raises(KitError, match="do not fit cifar:resnet14: missing: layer1.1.conv1.weight"):
        Weights.of(file, named("cifar:resnet14"))


def test_a_name_that_is_none_is_refused():
    with pytest.raises(KitError, match="network 'cifar:resnet21' is not known; nearest: .*resnet20"):
        named("cifar:resnet21")
    with pytest.raises(KitError, match="'cifar:inception' is not known; allowed: resnet8, resnet14.* and 14 more"):
        named("cifar:inception")
