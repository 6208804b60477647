"""Generated scenery: water with waves and glitter, a coast, a quay, clouds. Pixel i covers [i, i + 1) on both axes.

Pictures are painted channel by channel, (3, H, W): arithmetic along rows is several times as quick as along colours.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy import fft

from kit.data.hrsc.ships import BOXES, Colour


def random_field(
    rng: np.random.Generator, shape: tuple[int, int], size: float, angle: float | None = None
) -> np.ndarray:
    """Draws random waves, (H, W), mean 0, deviation 1, about `size` pixels long, running along `angle` or anywhere."""
    noise = fft.rfft2(rng.standard_normal(shape, np.float32))
    kx, ky, k = frequencies(shape)
    k = k * size
    if angle is None:
        spectrum = np.exp(-(k**2))
    else:
        direction = np.abs(kx * math.cos(angle) + ky * math.sin(angle)) * size / np.maximum(k, 1e-6)
        spectrum = np.exp(-(((k - 1) / 0.4) ** 2)) * direction**6
    field = fft.irfft2(noise * spectrum, s=shape, overwrite_x=True)
    field -= field.mean()
    field /= field.std(mean=0)
    return field


@lru_cache(maxsize=16)
def frequencies(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the spectrum's frequencies along x (1, W'), along y (H, 1), and of the wave, (H, W')."""
    height, width = shape
    ky, kx = fft.fftfreq(height).astype(np.float32)[:, None], fft.rfftfreq(width).astype(np.float32)[None]
    return kx, ky, np.hypot(kx, ky)


def rgb(*colour: float) -> np.ndarray:
    """Returns a colour as a picture of one pixel, (3, 1, 1)."""
    return np.array(colour)[:, None, None]


def blend(picture: np.ndarray, cover: np.ndarray | float, colour: np.ndarray) -> None:
    """Lays a colour, (3, 1, 1) or (3, H, W), over a picture, as far as each of its pixels is covered, 0…1 (H, W)."""
    for channel, value in zip(picture, colour, strict=True):  # one by one, as what lies in between is then small
        channel += cover * (value - channel)


def patch(x: float, y: float, reach: float, shape: tuple[int, int]) -> tuple[slice, slice]:
    """Returns the rows and columns within `reach` of a point."""
    rows, columns = (
        slice(min(max(0, int(at - reach)), size), max(0, min(size, math.ceil(at + reach))))
        for at, size in ((y, shape[0]), (x, shape[1]))
    )
    return rows, columns


def centres(rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pixels' centres, x (w,) and y (h, 1)."""
    return np.arange(columns.start, columns.stop) + 0.5, np.arange(rows.start, rows.stop)[:, None] + 0.5


WATERS = (
    (24, 58, 82), (18, 48, 66), (30, 68, 76), (38, 74, 72), (26, 52, 60), (44, 82, 92), (34, 58, 62), (20, 40, 62),
)  # fmt: skip


def sea(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Draws open water, float (3, H, W)."""
    wind = rng.uniform(0, math.pi)
    rough = rng.uniform(0.4, 1.3)
    swell = random_field(rng, shape, rng.uniform(10, 18), wind)
    chop = random_field(rng, shape, rng.uniform(4, 6), wind + rng.normal(0, 0.3))
    depth = random_field(rng, shape, 90)
    waves = rough * (2.2 * swell + 2.4 * chop)
    sea = depth * np.float32(rgb(2.0, 4.0, 4.5))
    sea += np.float32(rgb(*WATERS[rng.integers(len(WATERS))])) * np.float32(rng.uniform(0.8, 1.25))
    sea += waves * np.float32(rgb(0.9, 1.0, 1.0))
    gleam = rng.uniform(0, 2 * math.pi)
    sparkle = 0.7 * chop + 0.5 * swell + 0.6 * rng.standard_normal(shape, np.float32)
    y, x = lit = (sparkle > 2.3).nonzero()
    toward_sun = 0.5 + (x / shape[1] - 0.5) * math.cos(gleam) + (y / shape[0] - 0.5) * math.sin(gleam)
    glitter = np.clip(sparkle[lit] - 2.3, 0, 1) * np.clip(toward_sun, 0, 1) * rough
    sea[:, *lit] += 120 * rng.uniform(0.2, 1) * glitter
    return sea


def coast(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Draws a stretch of coast into the picture; returns where it is land, bool (H, W)."""
    height, width = shape = picture.shape[1:]
    side, share = rng.uniform(0, 2 * math.pi), rng.uniform(0.26, 0.36)
    x, y = np.arange(width) - width / 2, np.arange(height)[:, None] - height / 2
    cos, sin = math.cos(side), math.sin(side)
    inland = x * cos + y * sin - share * (width * abs(cos) + height * abs(sin))  # pixels from the water's edge
    inland = inland + 12 * random_field(rng, shape, 60) + 4 * random_field(rng, shape, 18)
    woods, fields, grain = random_field(rng, shape, 14), random_field(rng, shape, 40), random_field(rng, shape, 2.5)
    green, earth = rgb(70, 86, 54), rgb(142, 128, 98)
    land = green + (earth - green) * np.clip(0.5 + fields, 0, 1) - 16 * np.clip(woods, 0, 1.5)
    blend(land, np.clip(1.6 - inland / 6, 0, 1), rgb(196, 180, 142))  # sand
    land += 7 * grain
    blend(picture, np.clip(1 + inland / 22, 0, 1) * 0.5, rgb(96, 146, 140))  # shallow water
    surf = np.exp(-(((inland + 2.5 + 1.5 * grain) / 1.8) ** 2)) * 0.6
    blend(picture, surf, rgb(226, 232, 230))
    blend(picture, np.clip(0.5 + inland, 0, 1), land)
    return inland > -6


def quay(rng: np.random.Generator, picture: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """Draws a quay along a side; returns where it is land, bool (H, W), and (a, d): its edge is x cos a + y sin a = d.

    (cos a, sin a) points from the water inland; d is in pixels.
    """
    height, width = shape = picture.shape[1:]
    a = rng.integers(4) * math.pi / 2 + rng.uniform(-0.25, 0.25)
    cos, sin = math.cos(a), math.sin(a)
    reach = (width * abs(cos) + height * abs(sin)) / 2
    d = width / 2 * cos + height / 2 * sin + reach - rng.uniform(52, 80)
    x, y = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5
    inland = x * cos + y * sin - d
    along = y * cos - x * sin
    grain, stains = random_field(rng, shape, 2.5), random_field(rng, shape, 24)
    concrete = rgb(158, 154, 146) * rng.uniform(0.8, 1.1) + 4 * grain + 7 * stains

    def fill(near: float, far: float, start: float, end: float, colour: Colour) -> None:
        """Fills a rectangle from `near` to `far` inland and `start` to `end` along the edge."""
        middle_in, middle_along = (near + far) / 2 + d, (start + end) / 2
        centre = middle_in * cos - middle_along * sin, middle_in * sin + middle_along * cos
        here = patch(*centre, math.hypot(far - near, end - start) / 2 + 2, shape)
        deep, wide = inland[here], along[here]
        inside = np.minimum(np.minimum(deep - near, far - deep), np.minimum(wide - start, end - wide))
        blend(concrete[:, *here], np.clip(0.5 + inside, 0, 1), rgb(*colour))

    fill(3.0, 4.2, -1e3, 1e3, (214, 200, 130))  # a painted line
    fill(9.0, 10.0, -1e3, 1e3, (96, 94, 92))  # crane rails
    fill(15.0, 16.0, -1e3, 1e3, (96, 94, 92))
    at = along.min()
    while at < along.max():
        length, kind = rng.uniform(26, 60), rng.random()
        if kind < 0.45:  # a shed
            roof = ((124, 84, 72), (176, 180, 180), (96, 112, 126), (198, 194, 184))[rng.integers(4)]
            deep = rng.uniform(44, 60)
            fill(27, deep + 2, at + 2, at + length + 2, (92, 90, 86))
            fill(25, deep, at, at + length, roof)
            fill((25 + deep) / 2, deep, at, at + length, tuple(0.86 * c for c in roof))
        elif kind < 0.75:  # stacked containers
            for column in np.arange(at, at + length - 8, 8.0):
                for row in np.arange(24, 40, 4.0):
                    if rng.random() < 0.8:
                        fill(row, row + 3.4, column, column + 7.2, BOXES[rng.integers(len(BOXES))])
        if kind > 0.65:  # a crane, its jib over the water's edge
            fill(8, 17, at, at + 6, (190, 120, 50))
            fill(1, 30, at + 2, at + 4, (214, 140, 60))
        at += length + rng.uniform(6, 24)
    shade = np.clip(1 + inland / 3, 0, 1) * 0.5  # the quay wall
    picture *= 1 - shade
    blend(picture, np.clip(0.5 + inland, 0, 1), concrete)
    return inland > -1.5, (a, d)


def clouds(rng: np.random.Generator, picture: np.ndarray) -> None:
    """Draws thin clouds and their shadows."""
    shape = picture.shape[1:]
    thick = np.clip(0.8 * random_field(rng, shape, 55) + 0.35 * random_field(rng, shape, 20) - 1.1, 0, 1.0)
    picture *= 1 - 0.25 * np.roll(thick, (14, 22), (0, 1))
    blend(picture, 0.45 * thick, rgb(232, 235, 238))
