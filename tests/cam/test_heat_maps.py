"""kit/cam/heat_maps.py: maps against autograd and against evidence that is known; layers; wrong input."""

from __future__ import annotations

import threading
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from kit.cam.heat_maps import METHODS, convolutions, default_layer, feature_maps, maps
from kit.cam.scores import road
from kit.errors import KitError
from kit.models import MODELS, ModelSpec, build
from kit.networks.layered import LayeredSpec

pytestmark = pytest.mark.numerics

CLASSES = 5


def images(n: int = 4, px: int = 32) -> torch.Tensor:
    x = torch.randn(n, 3, px, px, generator=torch.Generator().manual_seed(0))
    return x.contiguous(memory_format=torch.channels_last)


def network(name: str, seed: int = 0) -> nn.Module:
    return build(name, CLASSES, width=4, stem="small", seed=seed).to(memory_format=torch.channels_last)


LABELS = torch.tensor([0, 3, 1, 4])


# ---- maps ------------------------------------------------------------------------------------------------------------


def by_autograd(network: nn.Module, x: torch.Tensor, labels: torch.Tensor, layer: str) -> np.ndarray:
    """Grad-CAM as its authors write it (Eqs. 1 and 2), then shifted, scaled and enlarged; one image at a time."""
    drawn = []
    for image, label in zip(x, labels, strict=True):
        kept = []
        hook = network.get_submodule(layer).register_forward_hook(lambda m, i, out: kept.append(out) or out.clone())  # noqa: B023
        logit = network.eval()(image[None].clone().requires_grad_())[0, label]
        hook.remove()
        (activation,) = kept
        (gradient,) = torch.autograd.grad(logit, activation)
        alpha = gradient.mean((2, 3), keepdim=True)
        heat = (alpha * activation).sum(1, keepdim=True).relu().detach()
        heat = (heat - heat.min()) / (1e-7 + heat.max() - heat.min())
        heat = nn.functional.interpolate(heat, x.shape[2:], mode="bilinear", align_corners=False)[0, 0]
        drawn.append(((heat - heat.min()) / (1e-7 + heat.max() - heat.min())).numpy())
    return np.stack(drawn)


@pytest.mark.parametrize("name", MODELS)
def test_grad_cam_is_what_autograd_gives(name):
    trained = network(name)
    found = maps(trained, images(), LABELS, batch=3)
    assert found.maps.dtype == np.float32 and found.maps.shape == (4, 32, 32)
    assert found.maps.max() > 0.99
    np.testing.assert_allclose(found.maps, by_autograd(trained, images(), LABELS, found.layer), atol=2e-5)


@pytest.mark.parametrize("layer", ["features.0", "features.1", "features.2"])
def test_an_in_place_relu_after_the_layer_does_not_reach_into_the_map(layer):
    plain = ModelSpec(name="vgg16", classes=CLASSES, width=4, stem="small", batch_norm=False).build(seed=0)
    found = maps(plain, images(), LABELS, layer=layer)
    np.testing.assert_allclose(found.maps, by_autograd(plain, images(), LABELS, layer), atol=2e-5)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_maps_of_the_images_size_and_the_same_ones_again(method, capsys):
    once, again = (maps(network("cnn"), images(), LABELS, method, batch=batch) for batch in (4, 1))
    assert once.maps.shape == (4, 32, 32)
    assert once.maps.min() >= 0 and once.maps.max() <= 1
    np.testing.assert_allclose(once.maps, again.maps, atol=1e-5)
    assert capsys.readouterr() == ("", "")  # Score-CAM's package draws bars


def test_the_network_is_left_as_it_was():
    trained = network("resnet34").train().requires_grad_(False)
    trained.fc.weight.grad = torch.ones_like(trained.fc.weight)
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    maps(trained, images(), LABELS)
    trained.layer1.eval()  # a part that is kept in evaluation mode
    feature_maps(trained, images())
    road(trained, images()[:1], np.random.default_rng(0).random((1, 32, 32)), LABELS[:1])
    assert trained.training and trained.layer2.training and not trained.layer1[0].training
    assert not any(p.requires_grad for p in trained.parameters())
    assert (trained.fc.weight.grad == 1).all()
    assert not any(module._forward_hooks for module in trained.modules())
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())


def test_predicted_classes_are_those_with_the_highest_logit():
    trained = network("vgg16")
    with torch.no_grad():
        logits = trained.eval()(images())
    found = maps(trained, images())
    assert found.classes.tolist() == found.predicted.tolist() == found.logits.argmax(1).tolist()
    np.testing.assert_allclose(found.logits, logits, atol=1e-5)
    np.testing.assert_array_equal(found.maps, maps(trained, images(), found.predicted).maps)


def test_a_network_of_ones_own():
    own = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 64, 2))
    assert default_layer(own, images(2, 8)) == "1"
    assert maps(own, images(2, 8), 1).maps.shape == (2, 8, 8)


# ---- layers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "stem", "px", "layer", "cells"),
    [
        ("resnet50", "imagenet", 224, "layer4", (7, 7)),
        ("vgg19", "imagenet", 224, "features.51", (14, 14)),  # the ReLU after the last of its 16 convolutions
        ("vgg19", "small", 32, "features.38", (4, 4)),  # the fourth stage's end: the fifth has 2×2 cells
        ("resnet34", "small", 32, "layer4", (4, 4)),
        ("resnet34", "small", 16, "layer3", (4, 4)),
        ("resnet50", "small", 16, "layer3", (4, 4)),
        ("cnn", "small", 32, "features.14", (4, 4)),
    ],
)
def test_the_default_layer_is_the_deepest_with_four_by_four_cells(name, stem, px, layer, cells):
    built, x = build(name, CLASSES, width=2, stem=stem, seed=0), images(1, px)
    assert default_layer(built, x) == layer
    assert feature_maps(built, x)[layer] == cells


def test_searched_networks_have_a_default_layer_after_their_residual():
    spec = LayeredSpec.of(ModelSpec(name="resnet34", classes=CLASSES, width=4, stem="small"))
    searched = spec.build(seed=0)
    layer = default_layer(searched, images())
    assert layer == f"relus.{len(spec.layers) - 1}"
    np.testing.assert_allclose(
        maps(searched, images(), LABELS).maps, by_autograd(searched, images(), LABELS, layer), atol=2e-5
    )


def test_convolutions_by_name():
    assert convolutions(network("cnn")) == ["features.0", "features.4", "features.8", "features.12"]


def says(call) -> str:
    with pytest.raises(KitError) as raised:
        call()
    assert "\n" not in str(raised.value)
    return str(raised.value)


class Branched(nn.Module):
    """A network that computes a convolution and does not use it."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.idle = nn.Conv2d(3, 2, 3), nn.Conv2d(3, 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.idle(x)
        return self.used(x).mean((2, 3))


class Shuffled(nn.Module):
    """A network with maps and without a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.shuffle, self.relu, self.fc = nn.PixelUnshuffle(4), nn.ReLU(), nn.Linear(48, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.relu(self.shuffle(x)).mean((2, 3)))


def test_a_layer_may_be_named_where_there_is_no_convolution():
    """Its logits are linear in the pooled map: the class's weights times the map, negative parts cut off."""
    network, x = Shuffled(), images()
    found = maps(network, x, 1, layer="relu")
    with torch.no_grad():
        heat = torch.einsum("nchw,c->nhw", network.relu(network.shuffle(x)), network.fc.weight[1]).relu()
        heat = nn.functional.interpolate(heat[:, None], x.shape[2:], mode="bilinear")[:, 0]
        least, most = heat.amin((1, 2), keepdim=True), heat.amax((1, 2), keepdim=True)
    assert found.cells == (8, 8)
    np.testing.assert_allclose(found.maps, (heat - least) / (most - least), atol=1e-4)


def test_wrong_input_is_one_line():
    cnn = network("cnn")
    deepest = "layer 'layer4' is not known; allowed: features, features.12, features.8, features.4, features.0"
    assert says(lambda: maps(cnn, images(), layer="layer4")) == deepest
    assert "method 'gradcam' is not known; allowed: grad-cam, grad-cam++" in says(
        lambda: maps(cnn, images(), method="gradcam")
    )
    for method in METHODS:
        assert "class 5 is out of range; allowed: 0 to 4" in says(lambda: maps(cnn, images(), 5, method))  # noqa: B023
    assert "class -1 is out of range" in says(lambda: maps(cnn, images(), -1))
    assert "classes 'all' is not known" in says(lambda: maps(cnn, images(), "all"))
    assert "classes of shape (3,)" in says(lambda: maps(cnn, images(), LABELS[:3]))
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2))
    assert "Sequential has no convolution" in says(lambda: maps(linear, images()))
    assert "Sequential has no convolution" in says(lambda: maps(linear, images(), layer="1"))
    assert "once in a pass; allowed: a layer by name, relu, shuffle" in says(lambda: maps(Shuffled(), images()))
    assert "images of shape (3, 32, 32)" in says(lambda: maps(cnn, images()[0]))
    assert "CNN does not take images of shape (4, 32, 32)" in says(lambda: maps(cnn, torch.zeros(1, 4, 32, 32)))
    assert "layer 'idle' has no part in the logits" in says(lambda: maps(Branched(), images(), layer="idle"))
    assert "does not give logits" in says(lambda: maps(nn.Sequential(nn.Conv2d(3, 2, 1)), images()))


def test_heat_is_where_the_evidence_is():
    """A network that adds up the left half for class 0 and the right half for class 1."""

    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1, bias=False)
            self.register_buffer("mask", torch.zeros(2, 1, 8))
            self.mask[0, :, :4], self.mask[1, :, 4:] = 1, 1
            nn.init.ones_(self.conv.weight)

        def forward(self, x):
            return (self.conv(x) * self.mask).mean((2, 3))

    x = torch.zeros(1, 3, 8, 8)
    x[..., 1:3] = 1.0
    hot = maps(Halves(), x, 0).maps[0]
    assert hot.shape == (8, 8) and hot[:, 1:3].min() > 0.9 and hot[:, 4:].max() < 0.1


def test_the_rooms_face_has_the_function_not_a_module():
    from kit import cam

    assert cam.maps is maps and cam.METHODS is METHODS


# ---- networks as they come -----------------------------------------------------------------------------------------


def plain_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))


@pytest.mark.parametrize("how", ["weight norm", "spectral norm", "pruned", "kept", "locked"])
def test_a_network_of_which_something_cannot_be_copied_is_left_as_it_was(how):
    from torch.nn.utils import prune, spectral_norm, weight_norm

    ways = {
        "weight norm": weight_norm,
        "spectral norm": spectral_norm,
        "pruned": lambda conv: prune.l1_unstructured(conv, "weight", 0.5),
        "kept": lambda conv: conv.register_forward_hook(lambda module, x, out: setattr(module, "kept", [out])),
        "locked": lambda conv: conv.register_forward_hook(partial(lambda lock, *seen: None, threading.Lock())),
    }
    x, network = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)), plain_network()
    ways[how](network[0])
    network(x)  # computes the weight, which is what cannot be copied
    network.train()
    network[4].weight.grad = torch.ones_like(network[4].weight)
    wanted = {name: parameter.requires_grad for name, parameter in network.named_parameters()}
    hooks = [len(module._forward_hooks) for module in network.modules()]
    same = plain_network()  # with the weights as they are in the end
    with torch.no_grad():
        network.eval()(x)
        same[0].weight.copy_(network[0].weight)
        same[0].bias.copy_(network[0].bias)
        same[4].load_state_dict(network[4].state_dict())
        network.train()
    found = maps(network, x)
    np.testing.assert_allclose(found.maps, maps(same, x).maps, atol=1e-6)
    assert all(module.training for module in network.modules())
    assert {name: parameter.requires_grad for name, parameter in network.named_parameters()} == wanted
    assert [len(module._forward_hooks) for module in network.modules()] == hooks
    assert (network[4].weight.grad == 1).all()
    network(x).sum().backward()  # it still learns


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_maps_of_half_precision_are_those_of_its_weights_in_float32(dtype):
    x, network = torch.randn(2, 3, 16, 16), plain_network().to(dtype)
    same = plain_network()
    same.load_state_dict({name: value.float() for name, value in network.state_dict().items()})
    np.testing.assert_array_equal(maps(network, x.to(dtype)).maps, maps(same, x.to(dtype).float()).maps)
    assert next(network.parameters()).dtype == dtype


@pytest.mark.parametrize("mode", [torch.inference_mode, lambda: torch.autocast("cpu")])
def test_inference_mode_and_autocast_make_no_difference(mode):
    x, network = torch.randn(2, 3, 16, 16), plain_network()
    with mode():
        inside = maps(network, x.clone()).maps
        made_there = maps(plain_network(), x.clone()).maps
    np.testing.assert_array_equal(inside, maps(network, x).maps)
    np.testing.assert_array_equal(made_there, maps(plain_network(), x).maps)


@pytest.mark.parametrize(("words", "named"), [({"classes": None}, "classes None"), ({"batch": 0}, "batch 0")])
def test_words_that_are_refused(words, named):
    with pytest.raises(KitError, match=named):
        maps(plain_network(), torch.randn(2, 3, 16, 16), **words)


class Fussy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = plain_network()

    def forward(self, x):
        assert x.shape[-1] == 32, "images of 32 px are wanted"
        return self.inner(x)


def without_a_number() -> nn.Module:
    network = plain_network()
    nn.init.constant_(network[4].bias, float("nan"))
    return network


@pytest.mark.parametrize(
    ("network", "why"),
    [
        (lambda: torch.jit.script(plain_network()), "is scripted"),
        (lambda: torch.jit.trace(plain_network().eval(), torch.zeros(1, 3, 16, 16)), "is scripted"),
        (lambda: torch.ao.quantization.quantize_dynamic(plain_network(), {nn.Linear}), "is quantised"),
        (lambda: nn.Sequential(nn.LazyConv2d(4, 3)), "has parameters without a shape before the first images"),
        (lambda: nn.Sequential(nn.AvgPool2d(2), nn.Flatten()), "has no parameters"),
        (lambda: nn.functional.relu, "a network of type builtin_function_or_method|function"),
        (Fussy, "does not take images of shape .* 32 px are wanted"),
        (without_a_number, "not finite numbers"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_network_that_cannot_be_looked_into_says_why(network, why):
    with pytest.raises(KitError, match=why):
        maps(network(), torch.zeros(2, 3, 16, 16))


def test_images_may_be_an_array():
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    np.testing.assert_array_equal(maps(plain_network(), x.numpy()).maps, maps(plain_network(), x).maps)
    with pytest.raises(KitError, match="images of type list"):
        maps(plain_network(), x.tolist())
