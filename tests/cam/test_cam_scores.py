"""kit/cam/scores.py: scores of maps drawn by hand, of a map made of the mask itself, and of one that says nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from kit.cam import scores
from kit.errors import KitError

# A map of 2×2 pixels, four times over, each with a region of its own.
DRAWN = np.tile(np.array([[[0.0, 0.2], [0.5, 1.0]]]), (4, 1, 1))
REGIONS = np.array(
    [[[0, 0], [0, 1]], [[0, 0], [1, 0]], [[1, 1], [0, 0]], [[0, 0], [0, 0]]], dtype=bool
)  # the hottest pixel; the next; the two coldest; none


def test_scores_of_a_map_drawn_by_hand():
    nan = math.nan
    np.testing.assert_allclose(scores.pointing(DRAWN, REGIONS), [1, 0, 0, nan])
    np.testing.assert_allclose(scores.energy(DRAWN, REGIONS), [1 / 1.7, 0.5 / 1.7, 0.2 / 1.7, nan])
    np.testing.assert_allclose(scores.iou(DRAWN, REGIONS), [1 / 2, 1 / 2, 0, nan])  # at half: the two hottest
    np.testing.assert_allclose(scores.iou(DRAWN, REGIONS, 0.6), [1, 0, 0, nan])
    np.testing.assert_allclose(scores.best_iou(DRAWN, REGIONS), [1, 1 / 2, 1 / 4, nan])
    np.testing.assert_allclose(scores.area(REGIONS), [1 / 4, 1 / 4, 1 / 2, 0])


def test_an_empty_map_misses_and_has_no_shares():
    nothing = np.zeros((1, 2, 2))
    region = REGIONS[2:3]
    assert scores.empty(nothing) == 1 and scores.empty(DRAWN).tolist() == [0, 0, 0, 0]
    assert scores.pointing(nothing, region) == scores.iou(nothing, region) == 0
    assert np.isnan(scores.energy(nothing, region))
    assert np.isnan(scores.rank_correlation(nothing, DRAWN[:1]))


def masks(n: int = 6, px: int = 16) -> np.ndarray:
    """Tilted bars of several sizes."""
    y, x = np.mgrid[:px, :px]
    return np.stack([np.abs(x - y + i - 3) < 1 + i / 2 for i in range(n)])


def test_the_mask_itself_scores_one_and_a_map_that_is_the_same_everywhere_scores_chance():
    region = masks()
    oracle, uniform = region.astype(np.float32), np.ones(region.shape, np.float32)
    for score in (scores.pointing, scores.energy, scores.iou, scores.best_iou):
        np.testing.assert_allclose(score(oracle, region), 1)
        np.testing.assert_allclose(score(uniform, region), scores.area(region))
        np.testing.assert_array_equal(score(1 - oracle, region) < 0.5, True)


def test_a_region_seen_through_cells():
    region = np.zeros((2, 8, 8), bool)
    region[0, :4, :4] = True  # one whole cell of four
    region[1, :4, :] = True
    seen = scores.through_cells(region, (2, 2))
    assert seen.shape == (2, 8, 8) and seen.max() > 0.99
    np.testing.assert_allclose(seen[0], seen[0].T, atol=1e-6)
    expected = np.interp(np.arange(8) + 0.5, [2, 6], [1, 0])  # bilinear between the cells' centres
    np.testing.assert_allclose(seen[1], np.tile(expected[:, None], 8), atol=1e-5)
    np.testing.assert_allclose(seen[0], np.outer(expected, expected), atol=1e-5)


def test_boxes_cover_the_pixels_whose_centres_they_hold():
    regions = scores.boxes_as_regions(torch.tensor([[0.0, 1.0, 2.0, 3.0], [-5.0, 0.6, 9.0, 2.4]]), 4)
    np.testing.assert_array_equal(regions[0], np.array([[0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]))
    np.testing.assert_array_equal(regions[1].any(1), [False, True, False, False])
    assert regions[1, 1].all()


def test_rank_correlation_is_scipys():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 5, (2, 3, 8, 8)) / 4  # with many ties
    expected = [spearmanr(p.ravel(), q.ravel()).statistic for p, q in zip(a, b, strict=True)]
    np.testing.assert_allclose(scores.rank_correlation(a, b), expected)
    np.testing.assert_allclose(scores.rank_correlation(a, a**3), 1)


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
    np.testing.assert_allclose(scores.ssim(a, b), expected)
    np.testing.assert_allclose(scores.ssim(a, a), 1)
    with pytest.raises(KitError, match="no SSIM"):
        scores.ssim(a[:, :6], b[:, :6])


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
    right, wrong = (scores.road(Corner(), x, m, classes) for m in (seen, 1 - seen))
    assert (right > 0.1).all() and (wrong < -0.05).all()
    np.testing.assert_array_equal(right, scores.road(Corner(), x, seen, classes))  # a fixed draw
    assert np.isnan(scores.road(Corner(), x, 0 * seen, classes)).all()


def test_what_does_not_go_together_is_refused():
    x, classes = torch.zeros(4, 3, 2, 2), torch.zeros(4).long()
    for call, said in (
        (lambda: scores.energy(DRAWN, REGIONS[:2]), r"\(4, 2, 2\) do not go with \(2, 2, 2\)"),
        (lambda: scores.area(REGIONS[0]), r"of shape \(2, 2\) are not allowed; allowed: \(N, H, W\)"),
        (
            lambda: scores.boxes_as_regions(np.zeros((2, 3)), 4),
            r"boxes of shape \(2, 3\) are not allowed; allowed: \(N, 4\)",
        ),
        (lambda: scores.road(Corner(), x, DRAWN[:2], classes), "do not go with images"),
        (lambda: scores.road(Corner(), x, DRAWN, classes[:2]), "2 classes do not go with images"),
    ):
        with pytest.raises(KitError, match=said):
            call()


def test_no_images_have_no_scores():
    for score in (scores.pointing, scores.energy, scores.iou, scores.best_iou, scores.rank_correlation):
        assert score(DRAWN[:0], REGIONS[:0]).shape == (0,)
    assert scores.road(Corner(), torch.zeros(0, 3, 2, 2), DRAWN[:0], torch.zeros(0).long()).shape == (0,)
    assert scores.empty(DRAWN[:0]).shape == scores.area(REGIONS[:0]).shape == (0,)
