"""Heat maps against autograd, their scores against maps drawn by hand, and against a map made of the mask itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from kit import cam_scores
from kit.cam import METHODS, convolutions, default_layer, feature_maps, maps
from kit.errors import KitError
from kit.layered import LayeredSpec
from kit.models import MODELS, ModelSpec, build

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
    cam_scores.road(trained, images()[:1], np.random.default_rng(0).random((1, 32, 32)), LABELS[:1])
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


def test_wrong_input_is_one_line():
    cnn = network("cnn")
    assert "features.0, features.4, features.8" in says(lambda: maps(cnn, images(), layer="layer4"))
    assert "layer 'layer4' is not known" in says(lambda: maps(cnn, images(), layer="layer4"))
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
    assert "images of shape (3, 32, 32)" in says(lambda: maps(cnn, images()[0]))
    assert "CNN does not take images of shape (4, 32, 32)" in says(lambda: maps(cnn, torch.zeros(1, 4, 32, 32)))
    assert "layer 'idle' has no part in the logits" in says(lambda: maps(Branched(), images(), layer="idle"))
    assert "does not give logits" in says(lambda: maps(nn.Sequential(nn.Conv2d(3, 2, 1)), images()))


# ---- scores ----------------------------------------------------------------------------------------------------------

# A map of 2×2 pixels, four times over, each with a region of its own.
DRAWN = np.tile(np.array([[[0.0, 0.2], [0.5, 1.0]]]), (4, 1, 1))
REGIONS = np.array(
    [[[0, 0], [0, 1]], [[0, 0], [1, 0]], [[1, 1], [0, 0]], [[0, 0], [0, 0]]], dtype=bool
)  # the hottest pixel; the next; the two coldest; none


def test_scores_of_a_map_drawn_by_hand():
    nan = math.nan
    np.testing.assert_allclose(cam_scores.pointing(DRAWN, REGIONS), [1, 0, 0, nan])
    np.testing.assert_allclose(cam_scores.energy(DRAWN, REGIONS), [1 / 1.7, 0.5 / 1.7, 0.2 / 1.7, nan])
    np.testing.assert_allclose(cam_scores.iou(DRAWN, REGIONS), [1 / 2, 1 / 2, 0, nan])  # at half: the two hottest
    np.testing.assert_allclose(cam_scores.iou(DRAWN, REGIONS, 0.6), [1, 0, 0, nan])
    np.testing.assert_allclose(cam_scores.best_iou(DRAWN, REGIONS), [1, 1 / 2, 1 / 4, nan])
    np.testing.assert_allclose(cam_scores.area(REGIONS), [1 / 4, 1 / 4, 1 / 2, 0])


def test_an_empty_map_misses_and_has_no_shares():
    nothing = np.zeros((1, 2, 2))
    region = REGIONS[2:3]
    assert cam_scores.empty(nothing) == 1 and cam_scores.empty(DRAWN).tolist() == [0, 0, 0, 0]
    assert cam_scores.pointing(nothing, region) == cam_scores.iou(nothing, region) == 0
    assert np.isnan(cam_scores.energy(nothing, region))
    assert np.isnan(cam_scores.rank_correlation(nothing, DRAWN[:1]))


def masks(n: int = 6, px: int = 16) -> np.ndarray:
    """Tilted bars of several sizes."""
    y, x = np.mgrid[:px, :px]
    return np.stack([np.abs(x - y + i - 3) < 1 + i / 2 for i in range(n)])


def test_the_mask_itself_scores_one_and_a_map_that_is_the_same_everywhere_scores_chance():
    region = masks()
    oracle, uniform = region.astype(np.float32), np.ones(region.shape, np.float32)
    for score in (cam_scores.pointing, cam_scores.energy, cam_scores.iou, cam_scores.best_iou):
        np.testing.assert_allclose(score(oracle, region), 1)
        np.testing.assert_allclose(score(uniform, region), cam_scores.area(region))
        np.testing.assert_array_equal(score(1 - oracle, region) < 0.5, True)


def test_a_region_seen_through_cells():
    region = np.zeros((2, 8, 8), bool)
    region[0, :4, :4] = True  # one whole cell of four
    region[1, :4, :] = True
    seen = cam_scores.through_cells(region, (2, 2))
    assert seen.shape == (2, 8, 8) and seen.max() > 0.99
    np.testing.assert_allclose(seen[0], seen[0].T, atol=1e-6)
    expected = np.interp(np.arange(8) + 0.5, [2, 6], [1, 0])  # bilinear between the cells' centres
    np.testing.assert_allclose(seen[1], np.tile(expected[:, None], 8), atol=1e-5)
    np.testing.assert_allclose(seen[0], np.outer(expected, expected), atol=1e-5)


def test_boxes_cover_the_pixels_whose_centres_they_hold():
    regions = cam_scores.boxes_as_regions(torch.tensor([[0.0, 1.0, 2.0, 3.0], [-5.0, 0.6, 9.0, 2.4]]), 4)
    np.testing.assert_array_equal(regions[0], np.array([[0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]))
    np.testing.assert_array_equal(regions[1].any(1), [False, True, False, False])
    assert regions[1, 1].all()


def test_rank_correlation_is_scipys():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 5, (2, 3, 8, 8)) / 4  # with many ties
    expected = [spearmanr(p.ravel(), q.ravel()).statistic for p, q in zip(a, b, strict=True)]
    np.testing.assert_allclose(cam_scores.rank_correlation(a, b), expected)
    np.testing.assert_allclose(cam_scores.rank_correlation(a, a**3), 1)


def test_ssim_is_the_mean_of_equation_13_over_all_windows():
    rng = np.random.default_rng(1)
    a, b = rng.random((2, 2, 9, 8))
    expected = []
    for p, q in zip(a, b, strict=True):
        windows = []
        for i in range(9 - 6):
            for j in range(8 - 6):
                u, v = p[i : i + 7, j : j + 7].ravel(), q[i : i + 7, j : j + 7].ravel()
                ((vu, cuv), (_, vv)), mu, mv = np.cov(u, v), u.mean(), v.mean()
                windows.append((2 * mu * mv + 1e-4) * (2 * cuv + 9e-4) / ((mu**2 + mv**2 + 1e-4) * (vu + vv + 9e-4)))
        expected.append(np.mean(windows))
    np.testing.assert_allclose(cam_scores.ssim(a, b), expected)
    np.testing.assert_allclose(cam_scores.ssim(a, a), 1)
    assert "no SSIM" in says(lambda: cam_scores.ssim(a[:, :6], b[:, :6]))


class Corner(nn.Module):
    """A network that sees only the upper left quarter of its images: the brighter, the surer of class 1."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bright = x[:, :, : x.shape[2] // 2, : x.shape[3] // 2].mean((1, 2, 3))
        return torch.stack([torch.zeros_like(bright), 4 * bright - 2], 1)


def test_road_tells_a_map_of_what_the_network_sees_from_its_opposite():
    x = torch.full((2, 3, 12, 12), -1.0)
    x[:, :, :6, :6] = 1.0
    seen = np.zeros((2, 12, 12), np.float32)
    seen[:, :6, :6] = 1
    classes = torch.ones(2, dtype=torch.long)
    right, wrong = (cam_scores.road(Corner(), x, m, classes) for m in (seen, 1 - seen))
    assert (right > 0.1).all() and (wrong < -0.05).all()
    np.testing.assert_array_equal(right, cam_scores.road(Corner(), x, seen, classes))  # a fixed draw
    assert np.isnan(cam_scores.road(Corner(), x, 0 * seen, classes)).all()


def test_maps_and_regions_must_go_together():
    assert "do not go with" in says(lambda: cam_scores.energy(DRAWN, REGIONS[:2]))


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
