"""The five networks against torchvision's own, and their FLOPs against formulas written out by hand."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
import torchvision
from pydantic import ValidationError
from torch import nn
from torchvision.models.vgg import make_layers

from kit.errors import KitError
from kit.models import MODELS, TITLES, ModelSpec, build
from kit.networks.flops import flops_per_image, parameter_count
from kit.runtime.onednn import PickingConv2d

pytestmark = pytest.mark.numerics

TORCHVISION = {
    ("resnet34", True): torchvision.models.resnet34,
    ("resnet50", True): torchvision.models.resnet50,
    ("vgg16", True): torchvision.models.vgg16_bn,
    ("vgg19", True): torchvision.models.vgg19_bn,
    ("vgg16", False): torchvision.models.vgg16,
    ("vgg19", False): torchvision.models.vgg19,
}


def shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


# ---- against torchvision -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "batch_norm"), TORCHVISION)
def test_has_torchvisions_layers_at_the_papers_width(name, batch_norm):
    with torch.device("meta"):
        ours = ModelSpec(name=name, classes=1000, width=64, stem="imagenet", batch_norm=batch_norm).build()
        theirs = TORCHVISION[name, batch_norm](weights=None)
    assert shapes(ours) == shapes(theirs)
    assert parameter_count(ours) == sum(p.numel() for p in theirs.parameters())
    if name.startswith("vgg"):  # their layers are plain sequences, so every option shows in their text
        for part in ("features", "classifier"):
            assert str(getattr(ours, part)) == str(getattr(theirs, part))
        assert ours.avgpool(torch.empty(1, 512, 9, 9, device="meta")).shape == (1, 512, 7, 7)


def test_the_papers_vggs_are_the_batch_normalised_ones_by_default():
    assert any(isinstance(module, nn.BatchNorm2d) for module in build("vgg16", 10, width=1).modules())


@pytest.mark.parametrize(("name", "parameters"), [("resnet34", 21_797_672), ("resnet50", 25_557_032)])
def test_parameter_counts_are_the_published_ones(name, parameters):
    with torch.device("meta"):
        assert parameter_count(build(name, 1000)) == parameters


def same_in_double_precision(ours: nn.Module, theirs: nn.Module, x: torch.Tensor) -> None:
    """Two implementations may round differently: 50 layers of sums of up to 4,608 terms by 50 · 4608 · 2⁻⁵² = 5e-11."""
    with torch.inference_mode():
        torch.testing.assert_close(ours.double()(x.double()), theirs.double()(x.double()), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["resnet34", "resnet50"])
def test_torchvisions_weights_give_torchvisions_logits(name):
    torch.manual_seed(0)
    theirs = TORCHVISION[name, True](weights=None, num_classes=7).eval()
    for module in theirs.modules():  # fresh running statistics are 0 and 1: make them tell
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    ours = build(name, classes=7).eval()
    ours.load_state_dict(theirs.state_dict())
    same_in_double_precision(ours, theirs, torch.randn(2, 3, 64, 64))


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("vgg16", [2, 2, "M", 4, 4, "M", 8, 8, 8, "M", 16, 16, 16, "M", 16, 16, 16, "M"]),
        ("vgg19", [2, 2, "M", 4, 4, "M", 8, 8, 8, 8, "M", 16, 16, 16, 16, "M", 16, 16, 16, 16, "M"]),
    ],
)
def test_vgg_features_are_torchvisions_at_any_width(name, layers, batch_norm):
    ours = ModelSpec(name=name, classes=5, width=2, batch_norm=batch_norm).build(seed=1).eval()
    theirs = make_layers(layers, batch_norm).eval()
    theirs.load_state_dict(ours.features.state_dict())
    same_in_double_precision(ours.features, theirs, torch.randn(1, 3, 64, 64))


def test_initial_weights_have_torchvisions_spread():
    ours, theirs = build("resnet34", 100, width=16, seed=0), build("vgg16", 100, width=16, stem="small", seed=0)
    for layer in (ours.layer3[0].conv1, ours.layer4[2].conv2):  # Kaiming, fan out: std = sqrt(2 / (C_out · 9))
        assert layer.weight.std().item() == pytest.approx((2 / (layer.out_channels * 9)) ** 0.5, rel=0.05)
    assert theirs.classifier[0].weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not theirs.classifier[0].bias.any()


# ---- stems, seeds ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("px", [16, 24, 32, 64])
@pytest.mark.parametrize("name", MODELS)
def test_small_stem_takes_small_images(name, px):
    network = build(name, classes=6, width=2, stem="small", seed=0)
    logits = network(torch.randn(3, 3, px, px))
    assert logits.shape == (3, 6)
    assert logits.isfinite().all()
    logits.sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_imagenet_stem_takes_224_px():
    for name in MODELS:
        with torch.device("meta"):
            assert build(name, classes=6, width=2)(torch.empty(1, 3, 224, 224)).shape == (1, 6)


@pytest.mark.parametrize("name", MODELS)
def test_a_seed_decides_the_weights_and_leaves_torchs_stream_alone(name):
    spec = ModelSpec(name=name, classes=4, width=2, stem="small")
    torch.manual_seed(123)
    before = torch.get_rng_state()
    first = spec.build(seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(321)
    second, other = spec.build(seed=5), spec.build(seed=6)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


def test_without_a_seed_weights_come_from_torchs_stream():
    torch.manual_seed(9)
    first = build("cnn", 4, width=2)
    torch.manual_seed(9)
    second = build("cnn", 4, width=2)
    assert torch.equal(first.fc.weight, second.fc.weight)


def test_wider_is_wider():
    assert build("resnet34", 4, width=3).conv1.out_channels == 3
    assert build("resnet50", 4, width=3).fc.in_features == 3 * 8 * 4
    assert build("vgg19", 4, width=3, stem="small").classifier[0].in_features == 3 * 8


def test_titles_name_every_model():
    assert [TITLES[name] for name in MODELS] == ["CNN", "VGG-16", "VGG-19", "ResNet-34", "ResNet-50"]
    assert ModelSpec(name="resnet50", classes=2).title == "ResNet-50"


# ---- FLOPs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [3, 10])
def test_flops_of_a_cnn_by_hand(classes):
    # (C_in, C_out, px of the output): 3×3 convolutions, each followed by halving; 2 FLOPs a multiply-add
    convolutions = [2 * c_in * c_out * 9 * px**2 for c_in, c_out, px in ((3, 2, 8), (2, 4, 4), (4, 8, 2), (8, 8, 1))]
    linear = 2 * 8 * classes
    forward = sum(convolutions) + linear
    # backward: the gradient of the weights costs as much again, and that of the input too, but for the first layer
    backward = 2 * forward - convolutions[0]
    spec = ModelSpec(name="cnn", classes=classes, width=2, stem="small")
    assert flops_per_image(spec, 8) == (forward, forward + backward)


def test_flops_of_resnet34_are_the_published_ones():
    # torchvision's model page: 3.66 GFLOPS, by which it means multiply-adds
    forward, both = flops_per_image(ModelSpec(name="resnet34", classes=1000), 224)
    assert forward == pytest.approx(2 * 3.66e9, rel=0.01)
    assert both == pytest.approx(3 * forward, rel=0.05)


# ---- wrong input -----------------------------------------------------------------------------------------------------


def test_unknown_model_is_named():
    with pytest.raises(KitError, match=r"model 'vgg17' is not known; allowed: cnn, vgg16, vgg19, resnet34, resnet50"):
        build("vgg17", 10)


@pytest.mark.parametrize(
    ("field", "value"), [("name", "vgg17"), ("classes", 1), ("width", 0), ("stem", "tiny"), ("depth", 3)]
)
def test_a_bad_field_is_refused(field, value):
    with pytest.raises(ValidationError, match=field):
        ModelSpec(**({"name": "cnn", "classes": 2} | {field: value}))


# ---- the shortcut of a narrow ResNet ---------------------------------------------------------------------------------


def passed(convolution: nn.Module, x: torch.Tensor, dy: torch.Tensor) -> list[torch.Tensor]:
    """The output y, ∂S/∂x and ∂S/∂w of S = Σ y·dy."""
    x = x.detach().requires_grad_()
    y = convolution(x)
    return [y.detach(), *torch.autograd.grad(y, (x, convolution.weight), dy.to(y.dtype))]


def of_doubles(weight: torch.Tensor) -> nn.Module:
    """torch's own convolution in double precision."""
    made = nn.Conv2d(8, 16, 1, 2, bias=False).double()
    made.weight.data.copy_(weight)
    return made


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("px", [8, 24, 7])
def test_picking_pixels_first_is_a_strided_convolution(px, layout):
    """To rounding, which every kernel does in its own order: n products add up within n·ε of the sum of their sizes."""
    torch.manual_seed(0)
    ours = PickingConv2d(8, 16, 1, 2, bias=False)
    x, weight, side = torch.randn(6, 8, px, px), ours.weight.detach().clone(), (px + 1) // 2
    dy = torch.randn(6, 16, side, side)
    found = passed(ours.to(memory_format=torch.channels_last), x.to(memory_format=layout, copy=True), dy)
    exact = passed(of_doubles(weight), x.double(), dy)
    sizes = passed(of_doubles(weight.abs()), x.double().abs(), dy.abs())
    terms = 8, 16, 6 * side**2  # channels in, channels out, positions of all images
    for own, true, size, n in zip(found, exact, sizes, terms, strict=True):
        assert ((own - true).abs() <= n * torch.finfo(torch.float32).eps * size).all()


def test_only_a_narrow_resnets_first_projection_picks():
    found = {
        (name, width): sum(isinstance(each, PickingConv2d) for each in build(name, 10, width, "small", 0).modules())
        for name in ("resnet34", "resnet50")
        for width in (4, 8, 64)
    }
    assert found == {("resnet34", 4): 2, ("resnet34", 8): 1, ("resnet34", 64): 0,
                     ("resnet50", 4): 0, ("resnet50", 8): 0, ("resnet50", 64): 0}  # fmt: skip


TWO_THREADS = """
import torch
from kit.models import build
torch.set_num_threads(2)
network = build("resnet34", 10, 8, "small", 0).to(memory_format=torch.channels_last)
for _ in range(20):
    network(torch.randn(9, 3, 32, 32)).sum().backward()
print(torch.get_num_threads())
"""


def test_a_narrow_resnet_lives_with_two_threads_and_an_odd_batch():
    """torch's own convolution ends the process here, on processors with AVX-512."""
    asleep = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}  # threads that wait for each other leave busy cores to others
    done = subprocess.run([sys.executable, "-c", TWO_THREADS], capture_output=True, text=True, timeout=120, env=asleep)
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr
