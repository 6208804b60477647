"""Generated ship scenes in HRSC2016's own format: the embedded stand-in for the hrsc2016 role.

Each scene is a sea from above, with waves and glitter, perhaps a coast, a quay or clouds, and ships of 13 of HRSC2016's
types. It is written as the real set is: BMPs, one XML per image with upright and oriented boxes, ImageSets, a class
table; plus Segmentations/<id>.png with every ship's hull as its number in the XML, from 1 up. Sizes are not to scale:
an aircraft carrier is only about twice as long as a yacht. The scenes prove code paths and heat maps; what is measured
on them is no HRSC2016 result.

A shortcut is planted: a coloured float on the water beside the ship, one colour per type, there for a share of the
training ships. In the test split as many ships have one, but of a colour drawn at random. A network that reads the
float instead of the hull is thus caught by its test accuracy, and by heat maps: Shortcuts/<id>.png marks every float
with the number of its ship.

Pixel i covers [i, i + 1) on both axes; x points right and y down. A ship's own axes are u, forward, and v, to
starboard, both in units of the ship's length, with the stern at u = −0.5 and the bow at 0.5.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from xml.etree import ElementTree  # for writing only

import numpy as np
from filelock import FileLock
from PIL import Image
from platformdirs import user_cache_dir
from scipy import fft
from scipy.ndimage import gaussian_filter

from kit.data.hrsc import CLASSES, STAND_IN_MARK, Box, OrientedBox, crop_window
from kit.errors import KitError

Colour = Sequence[float]  # red, green, blue in 0…255

VERSION = 1  # of the pictures: a change that alters any byte counts it up
WHITE, BLACK = (238, 238, 234), (28, 29, 32)


# ---- drawing on a ship's deck --------------------------------------------------------------------------------------


class Deck:
    """A ship being painted: the colours `rgb` (n, 3) of the n pixels that its hull touches, and their u and v (n,).

    Every shape has soft edges, one image pixel wide. Lengths are in units of the ship's length.
    """

    def __init__(self, u: np.ndarray, v: np.ndarray, pixel: float, shadow: tuple[float, float], hull: Colour) -> None:
        self.u, self.v, self.pixel, self.shadow = u, v, pixel, shadow
        self.rgb = np.empty((*u.shape, 3), np.float32)
        self.rgb[:] = hull

    def paint(self, cover: np.ndarray, colour: Colour) -> None:
        """Lay a colour over the pixels, as far as each is covered, 0…1 (n,)."""
        self.rgb += cover[..., None] * (np.asarray(colour, np.float32) - self.rgb)

    def soft(self, inside: np.ndarray) -> np.ndarray:
        """The share of each pixel covered by a shape, from its distance inside the shape's edge."""
        return np.clip(0.5 + inside / self.pixel, 0, 1).astype(np.float32)

    def box(self, u: float, v: float, length: float, width: float, colour: Colour, high: float = 0.0) -> None:
        """A box around (u, v) along the ship; `high` lets it throw a shadow and catch light on its sunny edge."""

        def cover(du: float, dv: float) -> np.ndarray:
            ends, sides = length / 2 - np.abs(self.u - u - du), width / 2 - np.abs(self.v - v - dv)
            return self.soft(np.minimum(ends, sides))

        su, sv = self.shadow[0] * high, self.shadow[1] * high
        body = cover(0, 0)
        if high:
            self.rgb *= 1 - 0.5 * np.maximum(cover(su, sv), cover(su / 2, sv / 2))[..., None]
        self.paint(body, colour)
        if high:
            sunny = np.clip(body - cover(su * 0.3, sv * 0.3), 0, 1)
            self.paint(0.5 * sunny, (255, 255, 250))

    def disc(self, u: float, v: float, radius: float, colour: Colour, high: float = 0.0) -> None:
        if high:
            su, sv = self.shadow[0] * high, self.shadow[1] * high
            self.rgb *= 1 - 0.45 * self.soft(radius - np.hypot(self.u - u - su, self.v - v - sv))[..., None]
        self.paint(self.soft(radius - np.hypot(self.u - u, self.v - v)), colour)

    def ring(self, u: float, v: float, radius: float, width: float, colour: Colour) -> None:
        self.paint(self.soft(width / 2 - np.abs(np.hypot(self.u - u, self.v - v) - radius)), colour)

    def line(self, u0: float, v0: float, u1: float, v1: float, width: float, colour: Colour) -> None:
        length = math.hypot(u1 - u0, v1 - v0)
        cu, cv = (u1 - u0) / length, (v1 - v0) / length
        along = (self.u - u0) * cu + (self.v - v0) * cv
        aside = np.abs((self.v - v0) * cu - (self.u - u0) * cv)
        inside = np.minimum(np.minimum(along, length - along), width / 2 - aside)
        self.paint(self.soft(inside) * min(1.0, width / self.pixel), colour)


Outline = Sequence[tuple[float, float]]  # (u, breadth): the hull's edge from stern to bow, in half beams


def hull_cover(
    u: np.ndarray, v: np.ndarray, port: Outline, starboard: Outline, beam: float, pixel: float
) -> np.ndarray:
    """The share of each pixel that a hull covers; u, v and the result have one shape."""
    inside = 0.5 - np.abs(u)
    for side, outline in ((-v, port), (v, starboard)):
        at, breadth = np.array(outline).T
        edge = np.interp(u, at, breadth * beam / 2)
        slope = np.interp(u, (at[1:] + at[:-1]) / 2, np.diff(breadth) / np.diff(at) * beam / 2)
        inside = np.minimum(inside, (edge - side) / np.sqrt(1 + slope**2))
    return np.clip(0.5 + inside / pixel, 0, 1).astype(np.float32)


# ---- the types -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ShipType:
    """How ships of one HRSC2016 class look. `length` is in image pixels, `beam` in ship lengths."""

    class_id: int
    length: tuple[float, float]
    beam: float
    starboard: Outline
    paint: Callable[[Deck, np.random.Generator], None]
    hulls: Sequence[Colour]
    port: Outline | None = None  # None: as starboard
    wake: float = 1.0  # how strong a wake it draws


def _near(rng: np.random.Generator, value: float, spread: float) -> float:
    return value + spread * rng.uniform(-1, 1)


def _aircraft(deck: Deck, rng: np.random.Generator, spots: Sequence[tuple[float, float]], share: float) -> None:
    for u, v in spots:
        if rng.random() < share:
            u, v, turn = _near(rng, u, 0.008), _near(rng, v, 0.004), rng.uniform(-0.5, 0.5)
            grey = (196, 200, 204)
            deck.line(u - 0.018, v - 0.018 * turn, u + 0.018, v + 0.018 * turn, 0.010, grey)  # fuselage
            deck.line(u - 0.004, v - 0.014, u - 0.004, v + 0.014, 0.009, grey)  # wings


def _flight_deck(deck: Deck, rng: np.random.Generator, island: float, angled: float, catapults: int) -> None:
    """Markings, an island to starboard at u = `island`, and parked aircraft."""
    mark = (208, 206, 196)
    deck.line(-0.47, 0.020, 0.16, -0.063 - angled, 0.007, mark)
    deck.line(-0.47, -0.035, 0.14, -0.100 - angled, 0.005, mark)
    deck.line(-0.47, 0.060, 0.10, -0.010 - angled, 0.005, mark)
    for v in (0.022, -0.022)[:catapults]:
        deck.line(0.16, v * 1.6, 0.46, v, 0.006, mark)
    for u in (-0.33, -0.30, -0.27):  # arresting wires
        deck.line(u, -0.05, u, 0.045, 0.003, (60, 60, 62))
    for u, v in ((-0.40, 0.088), (0.05, 0.092), (-0.05, -0.135)):  # lifts
        deck.box(u, v, 0.055, 0.03, (66, 68, 70))
    deck.box(island, 0.102, 0.075, 0.030, (164, 168, 170), high=0.03)
    deck.disc(island + 0.01, 0.102, 0.008, (70, 70, 72))
    spots = [(0.30 - 0.035 * i, 0.070) for i in range(8)] + [(-0.46 + 0.03 * i, 0.085) for i in range(5)]
    _aircraft(deck, rng, spots, 0.55)


def _nimitz(deck: Deck, rng: np.random.Generator) -> None:
    _flight_deck(deck, rng, _near(rng, -0.13, 0.01), angled=0.0, catapults=2)


def _kuznetsov(deck: Deck, rng: np.random.Generator) -> None:
    _flight_deck(deck, rng, _near(rng, -0.02, 0.01), angled=-0.01, catapults=0)
    deck.box(-0.02, 0.100, 0.130, 0.034, (170, 172, 170), high=0.035)  # the island is larger
    deck.line(-0.1, 0.01, 0.44, 0.0, 0.007, (208, 206, 196))
    ramp = np.clip((deck.u - 0.33) / 0.17, 0, 1) * deck.soft(0.06 - np.abs(deck.v))
    deck.paint(0.55 * ramp, (196, 196, 192))  # the ski-jump faces the light


def _tarawa(deck: Deck, rng: np.random.Generator) -> None:
    deck.line(-0.47, -0.035, 0.47, -0.035, 0.006, (212, 210, 200))
    for i in range(7):  # landing spots
        deck.ring(-0.42 + 0.14 * i, -0.045, 0.022, 0.006, (206, 204, 196))
    deck.box(_near(rng, -0.02, 0.01), 0.072, 0.24, 0.032, (166, 170, 172), high=0.035)
    deck.disc(-0.06, 0.072, 0.011, (64, 64, 66))
    deck.disc(0.05, 0.072, 0.010, (64, 64, 66))
    deck.box(-0.16, -0.098, 0.05, 0.02, (78, 80, 82))
    _aircraft(
        deck, rng, [(-0.38 + 0.07 * i, 0.05) for i in range(3)] + [(0.2 + 0.06 * i, 0.045) for i in range(4)], 0.6
    )


LIGHT_GREY, MID_GREY, DARK_GREY = (182, 187, 190), (150, 155, 159), (92, 96, 100)


def _gun(deck: Deck, u: float, forward: bool = True) -> None:
    deck.disc(u, 0, 0.015, LIGHT_GREY, high=0.015)
    deck.line(u, 0, u + (0.05 if forward else -0.05), 0, 0.006, (80, 84, 88))


def _launcher(deck: Deck, u: float, length: float, width: float) -> None:
    deck.box(u, 0, length, width, (78, 82, 86))
    for i in range(-1, 2):
        deck.line(u - length / 2, i * width / 4, u + length / 2, i * width / 4, 0.003, (130, 134, 138))


def _helicopter_deck(deck: Deck, u: float, length: float, width: float, radius: float) -> None:
    deck.box(u, 0, length, width, (96, 99, 102))
    deck.ring(u, 0, radius, 0.005, (224, 224, 218))
    deck.line(u - length / 2, 0, u + length / 2, 0, 0.004, (214, 214, 208))


def _funnel(deck: Deck, u: float, v: float = 0.0, size: float = 0.03) -> None:
    deck.box(u, v, size * 1.5, size, (134, 139, 143), high=0.025)
    deck.box(u, v, size * 0.8, size * 0.55, (38, 39, 41))


def _arleigh_burke(deck: Deck, rng: np.random.Generator) -> None:
    s = _near(rng, 0, 0.008)
    _helicopter_deck(deck, -0.415, 0.13, 0.090, 0.030)
    _launcher(deck, -0.29 + s, 0.065, 0.046)
    _gun(deck, 0.315)
    _launcher(deck, 0.240, 0.050, 0.040)
    deck.box(0.130 + s, 0, 0.135, 0.098, MID_GREY, high=0.04)  # bridge, one block
    deck.box(0.135 + s, 0, 0.075, 0.060, LIGHT_GREY, high=0.02)
    deck.box(-0.09, 0, 0.280, 0.070, MID_GREY, high=0.03)
    _funnel(deck, 0.020 + s)
    _funnel(deck, -0.115 + s)
    deck.disc(0.085, 0, 0.010, WHITE)


def _ticonderoga(deck: Deck, rng: np.random.Generator) -> None:
    s = _near(rng, 0, 0.008)
    _gun(deck, -0.375, forward=False)
    _launcher(deck, -0.430, 0.045, 0.040)
    _helicopter_deck(deck, -0.275, 0.110, 0.086, 0.027)
    _gun(deck, 0.330)
    _launcher(deck, 0.265, 0.045, 0.040)
    deck.box(0.155 + s, 0, 0.130, 0.092, (216, 219, 219), high=0.05)  # two high blocks
    deck.box(-0.125 + s, 0, 0.150, 0.092, (216, 219, 219), high=0.05)
    _funnel(deck, 0.060, size=0.036)
    _funnel(deck, -0.030, size=0.036)
    deck.disc(0.15, 0, 0.010, WHITE)


def _perry(deck: Deck, rng: np.random.Generator) -> None:
    s = _near(rng, 0, 0.008)
    _helicopter_deck(deck, -0.400, 0.150, 0.088, 0.032)
    deck.box(-0.050 + s, 0, 0.520, 0.084, (200, 205, 207), high=0.035)  # one long house from the bridge to the hangar
    deck.box(0.180, 0, 0.055, 0.070, WHITE, high=0.02)
    deck.box(-0.270, 0.020, 0.080, 0.032, DARK_GREY)
    deck.box(-0.270, -0.020, 0.080, 0.032, DARK_GREY)
    deck.disc(0.010, 0, 0.014, WHITE, high=0.015)
    _funnel(deck, -0.160, size=0.030)
    deck.disc(0.305, 0, 0.013, DARK_GREY, high=0.01)  # the launcher on the forecastle


def _san_antonio(deck: Deck, rng: np.random.Generator) -> None:
    s = _near(rng, 0, 0.008)
    _helicopter_deck(deck, -0.355, 0.260, 0.125, 0.040)
    deck.ring(-0.255, 0, 0.030, 0.005, (224, 224, 218))
    deck.box(0.045 + s, 0, 0.420, 0.130, (128, 134, 134), high=0.05)
    deck.box(0.110, 0, 0.200, 0.100, (150, 156, 156), high=0.025)
    for u in (0.150, -0.060):  # the two enclosed masts
        deck.disc(u + s, 0, 0.028, (120, 126, 130), high=0.04)
        deck.disc(u + s, 0, 0.014, LIGHT_GREY)
    _launcher(deck, 0.325, 0.040, 0.040)


BOXES = ((168, 62, 48), (44, 92, 150), (60, 122, 82), (206, 204, 196), (196, 128, 46), (112, 58, 60), (86, 132, 160))


def _container(deck: Deck, rng: np.random.Generator) -> None:
    house = _near(rng, -0.30, 0.03)
    colours = np.array(BOXES, np.float32)[rng.integers(len(BOXES), size=(24, 5))]  # bays × rows
    dropped = rng.random((24, 5)) < 0.12
    for low, high in ((-0.46, house - 0.045), (house + 0.045, 0.36)):
        bay = np.clip(((deck.u - low) / 0.037).astype(int), 0, 23)
        row = np.clip(((deck.v + 0.06) / 0.024).astype(int), 0, 4)
        stacks = colours[bay, row] * np.where(dropped[bay, row], 0.45, 1.0)[..., None]
        gap = np.abs((deck.u - low) / 0.037 % 1 - 0.5) > 0.42
        stacks[gap] *= 0.55
        cover = deck.soft(np.minimum(np.minimum(deck.u - low, high - deck.u), 0.06 - np.abs(deck.v)))
        deck.rgb += cover[..., None] * (stacks - deck.rgb)
    deck.box(house, 0, 0.055, 0.128, WHITE, high=0.05)
    _funnel(deck, house - 0.045, 0, 0.026)


def _car_carrier(deck: Deck, rng: np.random.Generator) -> None:
    top = ((222, 224, 220), (206, 214, 216), (178, 192, 186))[rng.integers(3)]
    deck.box(-0.02, 0, 0.92, 0.150, top)
    for v in (-0.045, 0.0, 0.045):
        deck.line(-0.44, v, 0.32, v, 0.004, tuple(0.82 * c for c in top))
    for u in np.arange(-0.4, 0.3, 0.1):  # ventilators
        deck.disc(u, 0.058, 0.009, (130, 134, 134), high=0.01)
        deck.disc(u, -0.058, 0.009, (130, 134, 134), high=0.01)
    deck.box(_near(rng, 0.345, 0.01), 0, 0.060, 0.150, WHITE, high=0.04)
    deck.box(0.372, 0, 0.010, 0.130, (60, 66, 72))
    _funnel(deck, -0.330, 0.030, 0.034)


def _hovercraft(deck: Deck, rng: np.random.Generator) -> None:
    deck.box(0.02, 0, 0.80, 0.36, (120, 126, 126))
    deck.box(0.06, 0, 0.74, 0.19, (92, 96, 96))  # the open cargo deck
    for v in (-0.145, 0.145):
        deck.box(0.05, v, 0.60, 0.060, (150, 156, 156), high=0.05)
        deck.disc(-0.33, v * 0.86, 0.085, (58, 60, 62))  # propeller ducts
        deck.ring(-0.33, v * 0.86, 0.085, 0.022, (188, 192, 190))
    for u in rng.permutation([-0.15, 0.02, 0.19, 0.33])[: rng.integers(0, 4)]:  # vehicles
        deck.box(u, _near(rng, 0, 0.03), 0.10, 0.06, (104, 106, 78), high=0.03)


def _yacht(deck: Deck, rng: np.random.Generator) -> None:
    wood = ((176, 134, 92), (196, 160, 118), (158, 120, 84))[rng.integers(3)]
    deck.box(-0.37, 0, 0.20, 0.200, wood)
    deck.box(-0.02, 0, 0.46, 0.170, (244, 244, 240), high=0.05)
    deck.box(_near(rng, 0.13, 0.02), 0, 0.075, 0.150, (44, 58, 74))  # windscreen
    deck.box(-0.08, 0, 0.22, 0.110, (226, 228, 228), high=0.04)
    deck.box(-0.03, 0, 0.035, 0.090, (52, 66, 82))
    if rng.random() < 0.5:
        deck.disc(0.32, 0, 0.035, wood)


def _cruise(deck: Deck, rng: np.random.Generator) -> None:
    deck.box(-0.03, 0, 0.80, 0.116, (236, 238, 238), high=0.035)
    deck.box(0.02, 0, 0.60, 0.070, (208, 214, 216), high=0.02)
    for u in np.arange(-0.30, 0.26, 0.055):  # lifeboats
        for v in (-0.058, 0.058):
            deck.box(u, v, 0.036, 0.013, (226, 110, 40))
    for u in (_near(rng, -0.05, 0.02), _near(rng, 0.12, 0.02)):  # pools
        deck.box(u, 0, 0.060, 0.034, (184, 152, 116))
        deck.box(u, 0, 0.042, 0.022, (52, 168, 204))
    deck.box(0.285, 0, 0.050, 0.126, WHITE, high=0.03)
    _funnel(deck, _near(rng, -0.26, 0.015), 0, 0.042)
    deck.ring(0.395, 0, 0.024, 0.005, (120, 160, 120))


def _submarine(deck: Deck, rng: np.random.Generator) -> None:
    ridge = np.clip(1 - np.abs(deck.v) / 0.045, 0, 1)
    deck.rgb += 26 * ridge[..., None]  # a round back
    deck.line(-0.42, 0, 0.42, 0, 0.010, (84, 88, 92))
    deck.box(_near(rng, 0.17, 0.02), 0, 0.105, 0.026, (24, 25, 28), high=0.045)  # the sail
    deck.line(0.17, -0.05, 0.17, 0.05, 0.018, (34, 35, 38))
    for u in np.arange(-0.20, 0.06, 0.05):  # hatches
        for v in (-0.012, 0.012):
            deck.disc(u, v, 0.007, (74, 77, 80))


# Half a hull's outline, from stern to bow: (u, breadth in half beams).
WARSHIP = ((-0.5, 0.80), (-0.4, 0.92), (-0.1, 1.0), (0.1, 0.97), (0.25, 0.78), (0.38, 0.46), (0.47, 0.14), (0.5, 0.0))
DOCK_SHIP = ((-0.5, 0.94), (-0.2, 1.0), (0.2, 1.0), (0.33, 0.74), (0.44, 0.3), (0.5, 0.0))
CARGO = ((-0.5, 0.72), (-0.44, 0.94), (-0.35, 1.0), (0.30, 1.0), (0.39, 0.80), (0.46, 0.42), (0.5, 0.0))
CAR_DECKS = ((-0.5, 0.90), (-0.46, 1.0), (0.36, 1.0), (0.44, 0.80), (0.48, 0.48), (0.5, 0.1))
SKIRT = ((-0.5, 0.66), (-0.44, 0.90), (-0.36, 1.0), (0.34, 1.0), (0.44, 0.86), (0.5, 0.56))
YACHT = ((-0.5, 0.84), (-0.2, 1.0), (0.08, 0.98), (0.26, 0.72), (0.40, 0.36), (0.5, 0.0))
CIGAR = ((-0.5, 0.12), (-0.40, 0.50), (-0.25, 0.92), (0.30, 1.0), (0.42, 0.82), (0.5, 0.3))
STRAIGHT_DECK = ((-0.5, 0.90), (-0.46, 1.0), (0.38, 1.0), (0.46, 0.86), (0.5, 0.60))
CARRIER = ((-0.5, 0.62), (-0.42, 0.74), (-0.36, 0.98), (0.1, 1.0), (0.2, 0.72), (0.5, 0.44))
ANGLED_DECK = ((-0.5, 0.62), (-0.42, 0.72), (-0.32, 0.98), (0.02, 1.18), (0.14, 1.16), (0.22, 0.70), (0.5, 0.44))
ROUND_BOW = ((0.4, 0.53), (0.47, 0.36), (0.5, 0.14))

TYPES = (
    ShipType(
        100000005, (104, 128), 0.235, CARRIER, _nimitz, ((86, 89, 94), (76, 80, 86), (94, 96, 99)), port=ANGLED_DECK
    ),
    ShipType(
        100000013, (100, 124), 0.235, CARRIER[:-1] + ROUND_BOW, _kuznetsov,
        ((122, 98, 84), (112, 92, 80), (126, 104, 92)), port=ANGLED_DECK[:-1] + ROUND_BOW,
    ),
    ShipType(
        100000016, (92, 116), 0.205, STRAIGHT_DECK, _tarawa, ((118, 120, 114), (108, 112, 108), (126, 126, 118))
    ),
    ShipType(100000007, (76, 98), 0.135, WARSHIP, _arleigh_burke, ((116, 126, 138), (108, 119, 132), (122, 131, 142))),
    ShipType(100000011, (78, 100), 0.118, WARSHIP, _ticonderoga, ((142, 148, 150), (134, 141, 144), (150, 154, 155))),
    ShipType(100000009, (70, 92), 0.112, WARSHIP, _perry, ((128, 134, 130), (120, 127, 122), (135, 140, 135))),
    ShipType(100000010, (84, 106), 0.165, DOCK_SHIP, _san_antonio, ((104, 110, 108), (96, 103, 100), (110, 115, 112))),
    ShipType(100000018, (86, 112), 0.142, CARGO, _container, ((96, 52, 48), (42, 66, 96), (54, 84, 68), (70, 70, 74))),
    ShipType(100000020, (82, 106), 0.168, CAR_DECKS, _car_carrier, ((60, 82, 112), (118, 60, 52), (98, 110, 106))),
    ShipType(100000022, (44, 62), 0.50, SKIRT, _hovercraft, ((58, 60, 60), (70, 70, 66)), wake=1.6),
    ShipType(100000024, (46, 66), 0.255, YACHT, _yacht, ((240, 240, 236), (226, 230, 232), (206, 214, 220)), wake=1.5),
    ShipType(100000026, (92, 116), 0.148, CARGO, _cruise, ((222, 226, 228), (232, 232, 228), (48, 66, 96))),
    ShipType(100000027, (70, 94), 0.100, CIGAR, _submarine, ((36, 38, 42), (44, 46, 50), (30, 32, 36)), wake=0.7),
)  # fmt: skip

# One float colour per type, in the order of TYPES.
FLOATS = (
    (230, 25, 40), (255, 235, 0), (20, 60, 255), (255, 255, 255), (0, 140, 40), (255, 130, 0), (250, 0, 230),
    (0, 235, 255), (120, 0, 170), (255, 165, 200), (150, 240, 20), (8, 8, 8), (130, 60, 5),
)  # fmt: skip


# ---- water, land and sky -------------------------------------------------------------------------------------------


def _field(rng: np.random.Generator, shape: tuple[int, int], size: float, angle: float | None = None) -> np.ndarray:
    """Random waves, (H, W), mean 0 and deviation 1: about `size` pixels long, running along `angle` or anywhere."""
    height, width = shape
    noise = fft.rfft2(rng.standard_normal(shape, np.float32))
    ky, kx = fft.fftfreq(height).astype(np.float32)[:, None], fft.rfftfreq(width).astype(np.float32)[None]
    k = np.hypot(kx, ky) * size
    if angle is None:
        spectrum = np.exp(-(k**2))
    else:
        direction = np.abs(kx * math.cos(angle) + ky * math.sin(angle)) * size / np.maximum(k, 1e-6)
        spectrum = np.exp(-(((k - 1) / 0.4) ** 2)) * direction**6
    field = fft.irfft2(noise * spectrum, s=shape)
    return (field - field.mean()) / field.std()


def _patch(
    x: float, y: float, reach: float, shape: tuple[int, int]
) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
    """The pixels within `reach` of a point, as slices, and their centres x (w,) and y (h, 1)."""
    rows, columns = (
        slice(min(max(0, int(at - reach)), size), max(0, min(size, math.ceil(at + reach))))
        for at, size in ((y, shape[0]), (x, shape[1]))
    )
    return (
        (rows, columns),
        np.arange(columns.start, columns.stop) + 0.5,
        np.arange(rows.start, rows.stop)[:, None] + 0.5,
    )


WATERS = (
    (24, 58, 82),
    (18, 48, 66),
    (30, 68, 76),
    (38, 74, 72),
    (26, 52, 60),
    (44, 82, 92),
    (34, 58, 62),
    (20, 40, 62),
)


def _sea(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Open water, float (H, W, 3)."""
    wind = rng.uniform(0, math.pi)
    rough = rng.uniform(0.4, 1.3)
    swell = _field(rng, shape, rng.uniform(10, 18), wind)
    chop = _field(rng, shape, rng.uniform(4, 6), wind + rng.normal(0, 0.3))
    depth = _field(rng, shape, 90)
    waves = rough * (2.2 * swell + 2.4 * chop)
    sea = np.float32(WATERS[rng.integers(len(WATERS))]) * np.float32(rng.uniform(0.8, 1.25))
    sea = sea + depth[..., None] * np.float32([2.0, 4.0, 4.5]) + waves[..., None] * np.float32([0.9, 1.0, 1.0])
    height, width = shape
    gleam = rng.uniform(0, 2 * math.pi)
    x, y = np.arange(width) / width - 0.5, np.arange(height)[:, None] / height - 0.5
    toward_sun = np.clip(0.5 + x * math.cos(gleam) + y * math.sin(gleam), 0, 1)
    sparkle = 0.7 * chop + 0.5 * swell + 0.6 * rng.standard_normal(shape, np.float32)
    glitter = np.clip(sparkle - 2.3, 0, 1) * toward_sun * rough
    return (sea + 120 * rng.uniform(0.2, 1) * glitter[..., None]).astype(np.float32)


def _coast(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Draw a stretch of coast into the picture; returns where it is land, bool (H, W)."""
    height, width = shape = picture.shape[:2]
    side, share = rng.uniform(0, 2 * math.pi), rng.uniform(0.26, 0.36)
    x, y = np.arange(width) - width / 2, np.arange(height)[:, None] - height / 2
    inland = (
        x * math.cos(side) + y * math.sin(side) - share * (width * abs(math.cos(side)) + height * abs(math.sin(side)))
    )
    inland = inland + 12 * _field(rng, shape, 60) + 4 * _field(rng, shape, 18)  # pixels from the water's edge
    woods, fields, grain = _field(rng, shape, 14), _field(rng, shape, 40), _field(rng, shape, 2.5)
    green, earth = np.array([70, 86, 54]), np.array([142, 128, 98])
    land = green + (earth - green) * np.clip(0.5 + fields, 0, 1)[..., None] - 16 * np.clip(woods, 0, 1.5)[..., None]
    sand = np.array([196, 180, 142])
    land = land + (sand - land) * np.clip(1.6 - inland / 6, 0, 1)[..., None] + 7 * grain[..., None]
    shallow = np.clip(1 + inland / 22, 0, 1)[..., None] * 0.5
    picture += shallow * (np.array([96, 146, 140]) - picture)
    surf = np.exp(-(((inland + 2.5 + 1.5 * grain) / 1.8) ** 2))[..., None] * 0.6
    picture += surf * (np.array([226, 232, 230]) - picture)
    cover = np.clip(0.5 + inland, 0, 1)[..., None]
    picture += cover * (land - picture)
    return inland > -6


def _quay(rng: np.random.Generator, picture: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """Draw a quay along one side; returns where it is land, bool (H, W), and (a, d): its edge is x cos a + y sin a = d.

    (cos a, sin a) points from the water inland; d is in pixels.
    """
    height, width = shape = picture.shape[:2]
    a = rng.integers(4) * math.pi / 2 + rng.uniform(-0.25, 0.25)
    cos, sin = math.cos(a), math.sin(a)
    reach = (width * abs(cos) + height * abs(sin)) / 2
    d = width / 2 * cos + height / 2 * sin + reach - rng.uniform(52, 80)
    x, y = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5
    inland = x * cos + y * sin - d
    along = y * cos - x * sin
    grain, stains = _field(rng, shape, 2.5), _field(rng, shape, 24)
    concrete = np.array([158, 154, 146]) * rng.uniform(0.8, 1.1) + 4 * grain[..., None] + 7 * stains[..., None]

    def fill(near: float, far: float, start: float, end: float, colour: Colour) -> None:
        """A rectangle from `near` to `far` inland and `start` to `end` along the edge."""
        middle_in, middle_along = (near + far) / 2 + d, (start + end) / 2
        centre = middle_in * cos - middle_along * sin, middle_in * sin + middle_along * cos
        here, _, _ = _patch(*centre, math.hypot(far - near, end - start) / 2 + 2, shape)
        deep, wide = inland[here], along[here]
        inside = np.minimum(np.minimum(deep - near, far - deep), np.minimum(wide - start, end - wide))
        concrete[here] += np.clip(0.5 + inside, 0, 1)[..., None] * (np.asarray(colour) - concrete[here])

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
    shade = np.clip(1 + inland / 3, 0, 1)[..., None] * 0.5  # the quay wall
    picture *= 1 - shade
    cover = np.clip(0.5 + inland, 0, 1)[..., None]
    picture += cover * (concrete - picture)
    return inland > -1.5, (a, d)


def _clouds(rng: np.random.Generator, picture: np.ndarray) -> None:
    """Thin clouds and their shadows."""
    shape = picture.shape[:2]
    thick = np.clip(0.8 * _field(rng, shape, 55) + 0.35 * _field(rng, shape, 20) - 1.1, 0, 1.0)
    picture *= (1 - 0.25 * np.roll(thick, (14, 22), (0, 1)))[..., None]
    picture += (0.45 * thick)[..., None] * (np.array([232, 235, 238]) - picture)


# ---- a scene -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlacedShip:
    """A ship in a scene; positions and lengths in pixels, `heading` from x towards y in radians."""

    kind: ShipType
    x: float
    y: float
    heading: float
    length: float
    moored: bool

    def axes(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where pixels lie on the ship's own axes: (u, v)."""
        dx, dy = (x - self.x) / self.length, (y - self.y) / self.length
        cos, sin = math.cos(self.heading), math.sin(self.heading)
        return (dx * cos + dy * sin).astype(np.float32), (dy * cos - dx * sin).astype(np.float32)

    def point(self, u: float, v: float) -> tuple[float, float]:
        """The pixel position of (u, v)."""
        cos, sin = math.cos(self.heading), math.sin(self.heading)
        return self.x + self.length * (u * cos - v * sin), self.y + self.length * (u * sin + v * cos)

    def cover(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        kind = self.kind
        return hull_cover(u, v, kind.port or kind.starboard, kind.starboard, kind.beam, 1 / self.length)

    def oriented_box(self, margin: float = 1.0) -> OrientedBox:
        """The box around the hull in the ship's own axes, `margin` pixels wider on each side, |angle| ≤ π/2."""
        port, starboard = (
            max(breadth for _, breadth in side) for side in (self.kind.port or self.kind.starboard, self.kind.starboard)
        )
        cx, cy = self.point(0, (starboard - port) * self.kind.beam / 4)
        angle = math.remainder(self.heading, math.pi)
        width = (starboard + port) / 2 * self.kind.beam * self.length
        return OrientedBox(cx, cy, self.length + 2 * margin, width + 2 * margin, angle)


@dataclass(frozen=True)
class GeneratedScene:
    """A picture uint8 (H, W, 3) and its ships, each with its tight upright box.

    `hulls` and `floats`, uint8 (H, W), hold at each pixel the number of the ship, from 1 up, that lies there or whose
    float does; else 0. `float_types` says for each ship whose type's colour its float has, as a Class_ID, or None.
    """

    picture: np.ndarray
    ships: tuple[PlacedShip, ...]
    boxes: tuple[Box, ...]
    hulls: np.ndarray
    floats: np.ndarray
    float_types: tuple[int | None, ...]


HEIGHTS, WIDTHS = (288, 300, 320), (375, 384, 400)  # of scenes, in pixels; products of 2, 3 and 5, for a quick FFT


def generate_scene(
    rng: np.random.Generator, kinds: Sequence[ShipType], shortcut_share: float, shortcut_tells: bool
) -> GeneratedScene:
    """One scene with (about) the ships asked for: one for which no free water is found is left out.

    `shortcut_share` of the ships get a float: of their own type's colour if `shortcut_tells`, else of a random one.
    """
    shape = HEIGHTS[rng.integers(len(HEIGHTS))], WIDTHS[rng.integers(len(WIDTHS))]
    picture = _sea(rng, shape)
    setting, edge = rng.random(), None
    land = np.zeros(shape, bool)
    if setting < 0.30:
        land, edge = _quay(rng, picture)
    elif setting < 0.55:
        land = _coast(rng, picture)

    ships, taken = _place(rng, kinds, land, edge)
    sun = rng.uniform(0, 2 * math.pi)
    for ship in ships:
        if not ship.moored:
            _draw_wake(rng, picture, ship, land)
    hulls = np.zeros(shape, np.uint8)
    for number, ship in enumerate(ships, 1):
        _draw_ship(rng, picture, ship, sun, hulls, number)
    boxes = tuple(_tight_box(hulls == number) for number in range(1, len(ships) + 1))
    floats, float_types = _plant_floats(rng, picture, ships, boxes, taken, shortcut_share, shortcut_tells)

    if rng.random() < 0.25:
        _clouds(rng, picture)
    haze, blur = rng.uniform(0, 0.12), rng.uniform(0.35, 0.7)
    picture = picture + haze * (np.array([170, 182, 190], np.float32) - picture)
    picture = gaussian_filter(picture, (blur, blur, 0)) * rng.uniform(0.9, 1.1)
    picture += rng.uniform(1.5, 3.5) * rng.standard_normal(picture.shape, np.float32)
    return GeneratedScene(picture.round().clip(0, 255).astype(np.uint8), ships, boxes, hulls, floats, float_types)


def _place(
    rng: np.random.Generator, kinds: Sequence[ShipType], land: np.ndarray, edge: tuple[float, float] | None
) -> tuple[tuple[PlacedShip, ...], np.ndarray]:
    """Ships on free water, some along a quay's edge; and what land, ships and a rim around them take, bool (H, W)."""
    height, width = land.shape
    taken, ships = land.copy(), []
    for kind in kinds:
        length = rng.uniform(*kind.length)
        at_quay = edge is not None and rng.random() < 0.5
        for _ in range(40):
            x, y, heading = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0, 2 * math.pi)
            if at_quay:  # alongside, a few pixels off
                a, d = edge
                off = d - (
                    max(b for _, b in kind.port or kind.starboard) * kind.beam * length / 2 + rng.uniform(3.5, 5)
                )
                along = y * math.cos(a) - x * math.sin(a)
                x, y = off * math.cos(a) - along * math.sin(a), off * math.sin(a) + along * math.cos(a)
                heading = a + math.copysign(math.pi / 2, heading - math.pi) + rng.uniform(-0.015, 0.015)
            ship = PlacedShip(kind, x, y, heading, length, at_quay)
            corners = ship.oriented_box(3).corners()  # (4, 2)
            if (corners < 0).any() or (corners > (width, height)).any():
                continue
            here, x, y = _patch(x, y, 0.6 * length + 10, land.shape)
            if taken[here][ship.oriented_box(1 if at_quay else 5).covers(x, y)].any():
                continue
            taken[here] |= ship.oriented_box(5).covers(x, y)
            ships.append(ship)
            break
    return tuple(ships), taken


def _draw_wake(rng: np.random.Generator, picture: np.ndarray, ship: PlacedShip, land: np.ndarray) -> None:
    """Foam astern and the two arms of a bow wave; a ship at anchor has none."""
    strength = rng.uniform(-0.5, 1.0)
    if strength < 0.05:
        return
    strength = min(1.0, 0.35 + strength) * min(1.0, ship.kind.wake)
    (rows, columns), x, y = _patch(ship.x, ship.y, 1.7 * ship.length, land.shape)
    u, v = ship.axes(x, y)
    froth = gaussian_filter(rng.standard_normal(u.shape, np.float32), 0.8)
    fade, beam = rng.uniform(1.6, 3.5), ship.kind.beam
    here = (u < 0.47) & (np.abs(v) < beam / 2 + 0.45 * (0.5 - u)) & ~land[rows, columns]
    u, v, froth = u[here], v[here], froth[here]
    behind, abaft = np.maximum(-0.46 - u, 0), 0.47 - u
    astern = np.exp(-((v / (beam * 0.30 + 0.05 * behind)) ** 4) - fade * behind) * (u < -0.44)
    arm = beam * 0.2 + 0.28 * abaft
    arms = np.exp(-(((np.abs(v) - arm) / (0.015 + 0.03 * abaft)) ** 2) - 2.6 * abaft)
    foam = strength * (0.8 + 0.35 * froth) * (0.85 * astern + 0.55 * arms)
    water = picture[rows, columns]
    water[here] += np.clip(foam, 0, 0.9)[:, None] * (np.float32([222, 232, 232]) - water[here])


def _draw_ship(
    rng: np.random.Generator, picture: np.ndarray, ship: PlacedShip, sun: float, hulls: np.ndarray, number: int
) -> None:
    """The ship, its shadow on the water, and its pixels in `hulls`: those that it covers at least to a half."""
    (rows, columns), x, y = _patch(ship.x, ship.y, 0.62 * ship.length, hulls.shape)
    u, v = ship.axes(x, y)
    water, cover = picture[rows, columns], ship.cover(u, v)  # (h, w, 3), (h, w)
    shadow = math.cos(sun - ship.heading), math.sin(sun - ship.heading)
    water *= 1 - 0.4 * ship.cover(u - 0.022 * shadow[0], v - 0.022 * shadow[1])[..., None]

    kind, touched = ship.kind, cover > 0
    hull = np.float32(kind.hulls[rng.integers(len(kind.hulls))])
    deck = Deck(u[touched], v[touched], 1 / ship.length, shadow, hull)
    kind.paint(deck, rng)
    rim = cover[touched] - ship.cover(deck.u * 1.03, deck.v * 1.16)  # the bulwark
    deck.paint(0.6 * np.clip(rim, 0, 1), 0.72 * hull)
    weathered = np.float32(rng.uniform(0.88, 1.12) + rng.normal(0, 0.02, 3))
    rgb = deck.rgb * weathered + 3 * rng.standard_normal((len(deck.u), 1), np.float32)  # (n, 3)
    water[touched] += cover[touched, None] * (rgb - water[touched])
    hulls[rows, columns][cover >= 0.5] = number


def _tight_box(mask: np.ndarray) -> Box:
    rows, columns = mask.any(1).nonzero()[0], mask.any(0).nonzero()[0]
    return Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


FLOAT_RADIUS = 0.055  # of the crop's side: a float is 3.5 pixels wide in a 32 px crop


def _plant_floats(
    rng: np.random.Generator,
    picture: np.ndarray,
    ships: Sequence[PlacedShip],
    boxes: Sequence[Box],
    taken: np.ndarray,
    share: float,
    tells: bool,
) -> tuple[np.ndarray, tuple[int | None, ...]]:
    """Draw a float beside a share of the ships, on free water in the ship's crop and, if possible, in no other's."""
    marks, types = np.zeros(taken.shape, np.uint8), []
    windows = [crop_window(box) for box in boxes]
    for number, (ship, window) in enumerate(zip(ships, windows, strict=True), 1):
        wanted, lure = rng.random() < share, rng.integers(len(TYPES))
        colour = TYPES.index(ship.kind) if tells else int(lure)
        radius = FLOAT_RADIUS * window.side
        types.append(None)
        for attempt in range(80 if wanted else 0):
            x, y = np.array([window.x, window.y]) + rng.uniform(0.08, 0.92, 2) * window.side
            (rows, columns), px, py = _patch(x, y, radius + 3, taken.shape)
            inside = radius + 3 <= x <= taken.shape[1] - radius - 3 and radius + 3 <= y <= taken.shape[0] - radius - 3
            if not inside or taken[rows, columns].any():
                continue
            if attempt < 50 and any(
                other is not window
                and -radius < x - other.x < other.side + radius
                and -radius < y - other.y < other.side + radius
                for other in windows
            ):
                continue
            distance, water = np.hypot(px - x, py - y), picture[rows, columns]
            water *= 1 - 0.3 * np.clip(radius + 1.2 - distance, 0, 1)[..., None]
            cover = np.clip(radius + 0.5 - distance, 0, 1)
            light = 1.0 + 0.25 * np.clip(1 - np.hypot(px - x + radius / 3, py - y + radius / 3) / radius, 0, 1)
            water += cover[..., None] * (np.array(FLOATS[colour]) * light[..., None] - water)
            marks[rows, columns][cover >= 0.5] = number
            taken[rows, columns] = True
            types[-1] = TYPES[colour].class_id
            break
    return marks, tuple(types)


# ---- a tree --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What a generated tree holds. The same plan gives the same bytes."""

    train_scenes: int = 160
    test_scenes: int = 60
    ships: tuple[int, int] = (5, 8)  # per scene, at least and at most; some may find no room
    shortcut_share: float = 0.6
    seed: int = 0


PLAN = Plan()  # of the embedded stand-in


def write_tree(folder: str | Path, plan: Plan = PLAN) -> None:
    """Write a tree in HRSC2016's format into an empty or new folder; one scene in sixty holds no ship."""
    folder = Path(folder)
    full = folder / "FullDataSet"
    for name in ("AllImages", "Annotations", "Segmentations", "Shortcuts"):
        (full / name).mkdir(parents=True, exist_ok=True)
    (folder / "ImageSets").mkdir(exist_ok=True)

    total = plan.train_scenes + plan.test_scenes
    shuffle = np.random.default_rng([plan.seed, VERSION])
    kinds = [TYPES[i] for _ in range(total * plan.ships[1] // len(TYPES) + 1) for i in shuffle.permutation(len(TYPES))]
    ids = [f"{200000001 + i}" for i in range(total)]
    for i, image_id in enumerate(ids):
        rng = np.random.default_rng([plan.seed, VERSION, i])
        count = 0 if i % 60 == 7 else int(rng.integers(plan.ships[0], plan.ships[1] + 1))
        wanted, kinds = kinds[:count], kinds[count:]
        scene = generate_scene(rng, wanted, plan.shortcut_share, shortcut_tells=i < plan.train_scenes)
        Image.fromarray(scene.picture).save(full / "AllImages" / f"{image_id}.bmp")
        Image.fromarray(scene.hulls).save(full / "Segmentations" / f"{image_id}.png")
        Image.fromarray(scene.floats).save(full / "Shortcuts" / f"{image_id}.png")
        _write_xml(full / "Annotations" / f"{image_id}.xml", _annotation(image_id, scene))
    _write_xml(full / "sysdata.xml", _system_data())

    validation = ids[plan.train_scenes * 3 // 4 : plan.train_scenes]
    trainval, test = ids[: plan.train_scenes], ids[plan.train_scenes :]
    lists = {
        "train": trainval[: len(trainval) - len(validation)],
        "val": validation,
        "trainval": trainval,
        "test": test,
    }
    for name, members in lists.items():
        (folder / "ImageSets" / f"{name}.txt").write_text(
            "".join(f"{m}\n" for m in members), encoding="utf-8", newline="\n"
        )


def _write_xml(path: Path, root: ElementTree.Element) -> None:
    ElementTree.indent(root)
    path.write_bytes(ElementTree.tostring(root, encoding="utf-8") + b"\n")


def _add(parent: ElementTree.Element, **fields: object) -> ElementTree.Element:
    """Append one child element per field, in order."""
    for name, value in fields.items():
        ElementTree.SubElement(parent, name).text = str(value)
    return parent


def _annotation(image_id: str, scene: GeneratedScene) -> ElementTree.Element:
    height, width = scene.picture.shape[:2]
    root = _add(
        ElementTree.Element("HRSC_Image"), Img_ID=image_id, Place_ID="", Source_ID="", Img_NO=image_id,
        Img_FileName=image_id, Img_FileFmt="bmp", Img_Date="1900-01-01", Img_CusType="sealand",
        Img_Des="generated scene, no photograph", Img_Location="", Img_SizeWidth=width, Img_SizeHeight=height,
        Img_SizeDepth=3, Img_Resolution="", Img_Resolution_Layer="", Img_Scale=100, Img_SclPxlNum="", segmented=1,
        Img_Havemask=0, Img_MaskFileName="", Img_MaskFileFmt="", Img_MaskType="", Img_SegFileName=image_id,
        Img_SegFileFmt="png", Img_Rotation="000d", Annotated=1,
    )  # fmt: skip
    objects = ElementTree.SubElement(root, "HRSC_Objects")
    for number, (ship, box) in enumerate(zip(scene.ships, scene.boxes, strict=True), 1):
        mbox, (bow_x, bow_y) = ship.oriented_box(), ship.point(0.5, 0)
        _add(
            ElementTree.SubElement(objects, "HRSC_Object"), Object_ID=f"{image_id}{number:03}",
            Class_ID=ship.kind.class_id, Object_NO=number, truncated=0, difficult=0,
            box_xmin=box.xmin, box_ymin=box.ymin, box_xmax=box.xmax, box_ymax=box.ymax,
            mbox_cx=f"{mbox.cx:.4f}", mbox_cy=f"{mbox.cy:.4f}", mbox_w=f"{mbox.w:.4f}", mbox_h=f"{mbox.h:.4f}",
            mbox_ang=f"{mbox.angle:.6f}", segmented=1, seg_color=number, header_x=round(bow_x), header_y=round(bow_y),
        )  # fmt: skip
    return root


def _system_data() -> ElementTree.Element:
    root = ElementTree.Element("sysdata")
    _add(
        ElementTree.SubElement(root, "HRSC_DataSet"), DS_ID=100000001, DS_Name="generated ship scenes",
        DS_Folder="FullDataSet", DS_ImgsFolder="AllImages", DS_AnnotationsFolder="Annotations",
        DS_ObjectSegFolder="Segmentations",
    )  # fmt: skip
    classes = ElementTree.SubElement(root, "HRSC_Classes")
    for row in CLASSES.values():
        _add(
            ElementTree.SubElement(classes, "HRSC_Class"), Class_ID=row.class_id, HRS_Class_ID=row.parent or "",
            Class_Layer=row.layer, Class_NO=row.class_id, Class_ShortName=row.name,
        )  # fmt: skip
    return root


# ---- the cache -----------------------------------------------------------------------------------------------------


def stand_in(plan: Plan | None = None, cache: str | Path | None = None) -> Path:
    """The root of the generated tree, made on the first call (some 17 s, 80 MB) and read from then on.

    It lies in the folder `cache`, else in the one that KIT_CACHE names, else in the user's cache folder. It is built
    beside its place and moved there when it is whole; every later call compares every file with its sha256, and builds
    anew what differs. Processes that ask at once build once. Raises KitError where the folder cannot be written.
    """
    plan = plan or PLAN
    cache = Path(cache or os.environ.get("KIT_CACHE") or user_cache_dir("small-teacher-kit"))
    tree = cache / "stand-ins" / f"hrsc2016-v{VERSION}"
    if _is_whole(tree, plan):
        return tree
    try:
        tree.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(tree.parent / f"{tree.name}.lock"):
            if not _is_whole(tree, plan):  # another process may have built it while this one waited
                _build(tree, plan)
    except OSError as error:
        why = "no space is left" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or error
        raise KitError(
            f"cannot write the generated ship scenes (80 MB) to {tree}: {why}; KIT_CACHE may name another folder"
        ) from None
    return tree


def _is_whole(tree: Path, plan: Plan) -> bool:
    """Whether the tree is there, made by this plan, and every file as its mark says."""
    try:
        mark = json.loads((tree / STAND_IN_MARK).read_text(encoding="utf-8"))
        return mark["plan"] == _as_json(plan) and mark["files"] == _digests(tree)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _as_json(plan: Plan) -> dict:
    return json.loads(json.dumps({**asdict(plan), "version": VERSION}))


def _digests(tree: Path) -> dict[str, str]:
    """The sha256 of every file of a tree but its mark, by path."""
    files = sorted(path for path in tree.rglob("*") if path.is_file() and path != tree / STAND_IN_MARK)
    return {path.relative_to(tree).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _build(tree: Path, plan: Plan) -> None:
    for leftover in tree.parent.glob(f"{tree.name}.building-*"):  # of a process that was stopped; the lock is ours
        shutil.rmtree(leftover, ignore_errors=True)
    building = Path(tempfile.mkdtemp(prefix=f"{tree.name}.building-", dir=tree.parent))
    try:
        write_tree(building, plan)
        for path in building.rglob("*"):
            _sync(path)
        mark = building / STAND_IN_MARK
        mark.write_text(json.dumps({"plan": _as_json(plan), "files": _digests(building)}, indent=1), encoding="utf-8")
        _sync(mark)
        _sync(building)
        building.chmod(0o755)  # mkdtemp's is private; others may share the cache
        if tree.exists():  # damaged, or of another plan
            tree.replace(building.with_name(building.name + "-old"))
        building.replace(tree)
        _sync(tree.parent)
    finally:
        for rest in tree.parent.glob(f"{building.name}*"):
            shutil.rmtree(rest, ignore_errors=True)


def _sync(path: Path) -> None:
    """Make a file or folder last through a power cut."""
    if path.is_dir() and os.name == "nt":
        return  # Windows syncs no folders
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
