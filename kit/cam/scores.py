"""Scores of heat maps: against a hull's mask, a ship's box, a planted mark, the network, another map.

Maps are (N, H, W), 0 … 1; regions are bool (N, H, W). Every score is (N,) float64, a number per image. A map that is 0
everywhere points at nothing: it misses (pointing, IoU: 0) and has no shares, order or likeness (NaN); how many do is a
score of its own, `empty`. A region without a pixel has no score (NaN). What a map scores that knows nothing is its
region's share of the image (`area`).
"""

from __future__ import annotations

import numpy as np
import torch
from pytorch_grad_cam.metrics.road import ROADCombined
from pytorch_grad_cam.utils.image import scale_cam_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget
from scipy.ndimage import uniform_filter
from scipy.stats import rankdata
from torch import Tensor, nn

from kit.cam.heat_maps import evaluating
from kit.errors import KitError
from kit.runtime.seeds import seeded

THRESHOLD = 0.5  # of a map's largest value: the fixed threshold of `iou`
THRESHOLDS = tuple(i / 20 for i in range(1, 20))  # among which `best_iou` picks an image's best
PERCENTILES = (20, 40, 60, 80)  # of the pixels that ROAD removes
SSIM_WINDOW = 7  # px


def empty(maps: np.ndarray) -> np.ndarray:
    """Returns 1 where a map is 0 everywhere, else 0."""
    return (_flat(maps).max(1) <= 0).astype(float)


def area(regions: np.ndarray) -> np.ndarray:
    """Computes the region's share of the image: pointing game and energy of a map that is the same everywhere."""
    return _flat(regions).mean(1)


def pointing(maps: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """The pointing game, without tolerance: whether the largest value lies inside. Where several pixels share it, the
    share of them that does."""
    values, inside = _pair(maps, regions)
    highest = values == values.max(1, keepdims=True)
    hit = (highest & inside).sum(1) / highest.sum(1)
    return _scored(np.where(empty(maps) == 1, 0.0, hit), inside)


def energy(maps: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Computes the share of the map's sum that lies inside."""
    values, inside = _pair(maps, regions)
    total = values.sum(1)
    with np.errstate(invalid="ignore"):
        return _scored(np.where(total > 0, (values * inside).sum(1) / total, np.nan), inside)


def iou(maps: np.ndarray, regions: np.ndarray, threshold: float = THRESHOLD) -> np.ndarray:
    """Computes intersection over union of the region and the pixels at or above `threshold` times the map's largest
    value."""
    values, inside = _pair(maps, regions)
    highest = values.max(1, keepdims=True)
    hot = (values >= threshold * highest) & (highest > 0)
    return _scored((hot & inside).sum(1) / np.maximum((hot | inside).sum(1), 1), inside)


def best_iou(maps: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Computes the IoU at each image's own best threshold of THRESHOLDS: an upper bound, as it looks at the region to
    choose."""
    return np.max([iou(maps, regions, threshold) for threshold in THRESHOLDS], axis=0)


def boxes_as_regions(boxes: Tensor | np.ndarray, px: int) -> np.ndarray:
    """Converts boxes (N, 4) xmin, ymin, xmax, ymax in pixels to regions (N, px, px): pixels whose centre lies
    inside."""
    boxes = np.asarray(boxes, float)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise KitError(f"boxes of shape {boxes.shape} are not allowed; allowed: (N, 4)")
    xmin, ymin, xmax, ymax = boxes.T[:, :, None, None]  # (N, 1, 1) each
    centre = np.arange(px) + 0.5
    rows, columns = centre[None, :, None], centre[None, None, :]
    return (xmin <= columns) & (columns <= xmax) & (ymin <= rows) & (rows <= ymax)


def through_cells(regions: np.ndarray, cells: tuple[int, int]) -> np.ndarray:
    """Regions (N, H, W) as a layer of so many cells would show them: averaged in each cell, then scaled and enlarged as
    heat maps are. No control for being right, but for being coarse: a thin hull in 4×4 cells cannot score 1."""
    coarse = nn.functional.adaptive_avg_pool2d(torch.from_numpy(regions.astype(np.float32)), cells).numpy()
    return scale_cam_image(scale_cam_image(coarse, regions.shape[:0:-1]))  # OpenCV's sizes are (W, H)


# ---- two maps of the same image and class ----------------------------------------------------------------------------


def rank_correlation(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Computes Spearman's rank correlation over the pixels, −1 … 1; NaN where either map is the same everywhere."""
    a, b = (rankdata(_flat(maps), axis=1) for maps in _same(ours, theirs))
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    norm = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    with np.errstate(invalid="ignore"):
        return np.where(norm > 0, (a * b).sum(1) / norm, np.nan)


def ssim(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Structural similarity (Wang et al. 2004, Eq. 13) with a uniform 7×7 window, range 1, K = (0.01, 0.03), mean over
    the windows that lie inside the image; NaN where either map is empty."""
    a, b = (maps.astype(float) for maps in _same(ours, theirs))
    if min(a.shape[1:]) < SSIM_WINDOW:
        raise KitError(f"maps of {a.shape[1]}×{a.shape[2]} pixels have no SSIM; allowed: {SSIM_WINDOW} px and larger")

    def local(values: np.ndarray) -> np.ndarray:  # (N, H, W) → means over each window inside
        rim = SSIM_WINDOW // 2
        return uniform_filter(values, size=(1, SSIM_WINDOW, SSIM_WINDOW))[:, rim:-rim, rim:-rim]

    n = SSIM_WINDOW**2
    mean_a, mean_b = local(a), local(b)
    unbiased = n / (n - 1)
    var_a, var_b = unbiased * (local(a * a) - mean_a**2), unbiased * (local(b * b) - mean_b**2)
    cov = unbiased * (local(a * b) - mean_a * mean_b)
    c1, c2 = 0.01**2, 0.03**2
    likeness = (2 * mean_a * mean_b + c1) * (2 * cov + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    either = (empty(ours) + empty(theirs)) > 0
    return np.where(either, np.nan, likeness.mean((1, 2)))


# ---- what the pixels do to the network -------------------------------------------------------------------------------


def road(network: nn.Module, x: Tensor, maps: np.ndarray, classes: Tensor, seed: int = 0) -> np.ndarray:
    """ROAD (Rong et al. 2022), pytorch-grad-cam's combined score at PERCENTILES: how much more of the class's
    probability is lost when the pixels that the map ranks first are blurred away than when those it ranks last are,
    halved; −0.5 … 0.5, 0 for a map that ranks at random. Images x (N, 3, H, W), classes (N,).

    Only the order of a map's pixels counts. Ties (a map has many zeros, and the imputation needs pixels that are kept)
    are broken by a fixed draw; empty maps have no score.
    """
    if maps.shape != (len(x), *x.shape[2:]) or len(classes) != len(x):
        what = f"maps {maps.shape} and {len(classes)} classes do not go with images {tuple(x.shape)}"
        raise KitError(f"{what}; allowed: (N, H, W), N and (N, 3, H, W)")
    if not len(x):
        return np.empty(0)
    values = _flat(maps)
    draw = np.random.default_rng(seed).permuted(np.tile(np.arange(values.shape[1]), (len(values), 1)), axis=1)
    order = np.lexsort((draw, values), axis=1)
    ranks = np.empty_like(values, dtype=np.float32)
    np.put_along_axis(ranks, order, np.linspace(0, 1, values.shape[1], dtype=np.float32)[None], axis=1)
    targets = [ClassifierOutputSoftmaxTarget(int(c)) for c in classes]
    x = x.contiguous().to(next(network.parameters(), x).device)
    with evaluating(network), seeded(seed):  # the imputation adds a little noise
        score = ROADCombined(list(PERCENTILES))(x, ranks.reshape(maps.shape), targets, network)
    return np.where(empty(maps) == 1, np.nan, score.astype(float))


# ---- shapes ----------------------------------------------------------------------------------------------------------


def _flat(images: np.ndarray) -> np.ndarray:
    """Flattens the pixels: (N, H·W)."""
    images = np.asarray(images)
    if images.ndim != 3 or 0 in images.shape[1:]:
        raise KitError(f"maps or regions of shape {images.shape} are not allowed; allowed: (N, H, W)")
    n, height, width = images.shape
    return images.reshape(n, height * width)


def _same(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.asarray(first), np.asarray(second)
    if first.shape != second.shape or first.ndim != 3:
        raise KitError(f"maps {first.shape} do not go with {second.shape}; allowed: (N, H, W), both the same")
    return first, second


def _pair(maps: np.ndarray, regions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values float (N, H·W) and bool (N, H·W)."""
    maps, regions = _same(maps, regions)
    return _flat(maps).astype(float), _flat(regions).astype(bool)


def _scored(score: np.ndarray, inside: np.ndarray) -> np.ndarray:
    return np.where(inside.any(1), score, np.nan)
