"""Generated ships: what 13 of HRSC2016's types look like from above, painted with soft edges.

A ship's own axes are u, forward, and v, to starboard, both in units of the ship's length, with the stern at u = −0.5
and the bow at 0.5. Sizes are not to scale: an aircraft carrier is only about twice as long as a yacht.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

Colour = Sequence[float]  # red, green, blue in 0…255

WHITE = (238, 238, 234)


# ---- drawing on a ship's deck --------------------------------------------------------------------------------------


class Deck:
    """A ship being painted: the colours `rgb` (3, n) of the n pixels that its hull touches, and their u and v (n,).

    Every shape has soft edges, one image pixel wide. Lengths are in units of the ship's length.
    """

    def __init__(self, u: np.ndarray, v: np.ndarray, pixel: float, shadow: tuple[float, float], hull: Colour) -> None:
        self.u, self.v, self.pixel, self.shadow = u, v, pixel, shadow
        self.rgb = np.empty((3, *u.shape), np.float32)
        self.rgb.T[:] = hull

    def paint(self, cover: np.ndarray, colour: Colour) -> None:
        """Lays a colour over the pixels, as far as each is covered, 0…1 (n,)."""
        self.rgb += cover * (np.asarray(colour, np.float32)[:, None] - self.rgb)

    def soft(self, inside: np.ndarray) -> np.ndarray:
        """Returns the share of each pixel covered by a shape, from its distance inside the shape's edge."""
        return (0.5 + inside / self.pixel).clip(0, 1).astype(np.float32, copy=False)

    def box(self, u: float, v: float, length: float, width: float, colour: Colour, high: float = 0.0) -> None:
        """Draws a box around (u, v) along the ship; `high` lets it throw a shadow and catch light on its sunny edge."""

        def cover(du: float, dv: float) -> np.ndarray:
            ends, sides = length / 2 - np.abs(self.u - u - du), width / 2 - np.abs(self.v - v - dv)
            return self.soft(np.minimum(ends, sides))

        su, sv = self.shadow[0] * high, self.shadow[1] * high
        body = cover(0, 0)
        if high:
            self.rgb *= 1 - 0.5 * np.maximum(cover(su, sv), cover(su / 2, sv / 2))
        self.paint(body, colour)
        if high:
            sunny = np.clip(body - cover(su * 0.3, sv * 0.3), 0, 1)
            self.paint(0.5 * sunny, (255, 255, 250))

    def disc(self, u: float, v: float, radius: float, colour: Colour, high: float = 0.0) -> None:
        if high:
            su, sv = self.shadow[0] * high, self.shadow[1] * high
            self.rgb *= 1 - 0.45 * self.soft(radius - np.hypot(self.u - u - su, self.v - v - sv))
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

    @cached_property
    def breadths(self) -> tuple[float, float]:
        """How far the hull reaches to port and to starboard, in half beams."""
        return max(b for _, b in self.port or self.starboard), max(b for _, b in self.starboard)

    def cover(self, u: np.ndarray, v: np.ndarray, pixel: float) -> np.ndarray:
        """Returns the share of each pixel that the hull covers; u, v and the result have one shape."""
        inside = 0.5 - np.abs(u)
        for side, outline in ((-v, self.port or self.starboard), (v, self.starboard)):
            at, breadth = np.array(outline).T
            edge = np.interp(u, at, breadth * self.beam / 2)
            slope = np.interp(u, (at[1:] + at[:-1]) / 2, np.diff(breadth) / np.diff(at) * self.beam / 2)
            inside = np.minimum(inside, (edge - side) / np.sqrt(1 + slope**2))
        return np.clip(0.5 + inside / pixel, 0, 1).astype(np.float32)


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
    """Draws markings, an island to starboard at u = `island`, and parked aircraft."""
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
        deck.rgb += cover * (stacks.T - deck.rgb)
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
    deck.rgb += 26 * ridge  # a round back
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
