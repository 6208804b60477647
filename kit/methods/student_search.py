"""[11] The best student for a given teacher, by search (most likely "Search to Distill", Liu et al., CVPR 2020).

A controller picks depth, width and kernel for every stage of a VGG- or ResNet-like student. A sample's reward is
`accuracy · (cost / target)^w` with w = −0.07 and the accuracy after a short distillation by the explained model itself:
that the teacher is part of the reward is the paper's point. Its random twin samples the same space at the same budget.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

from pydantic import Field

from kit.errors import Described, KitError
from kit.methods.base import Method, Setting, in_full
from kit.methods.reinforce import LR, Autoregressive, Reinforce, UniformChoice
from kit.methods.search import Candidate, Search
from kit.networks.flops import flops_per_image
from kit.networks.layered import Layer, LayeredSpec

W = -0.07  # how much the cost weighs in the reward


class Space(Described):
    """The students to choose from: one family, and a depth, a width and a kernel for each stage."""

    families: tuple[Literal["plain", "residual"], ...] = Field(default=("plain", "residual"), min_length=1)
    depths: tuple[int, ...] = Field(default=(1, 2, 4), min_length=1)  # convolutions in a stage
    widths: tuple[float, ...] = Field(default=(0.5, 1.0, 1.5), min_length=1)  # times the table student's channels
    kernels: tuple[Literal[1, 3, 5, 7], ...] = Field(default=(3, 5), min_length=1)
    channels: tuple[int, ...] = Field(min_length=1)  # of the table's student, stage by stage
    classes: int = Field(ge=2)

    @classmethod
    def around(cls, student: LayeredSpec, **choices: Any) -> Space:
        """Makes the space around a network: a stage lies between two places where it pools or strides, and is as wide
        as its widest layer."""
        stages = [0]
        for layer in student.layers:
            stages += [0] * (layer.stride > 1)
            stages[-1] = max(stages[-1], layer.channels)
            stages += [0] * layer.pool
        return cls(channels=tuple(filter(None, stages)), classes=student.classes, **choices)

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many are open at each choice: the family, then depth, width and kernel of every stage."""
        a_stage = (len(self.depths), len(self.widths), len(self.kernels))
        return (len(self.families), *(a_stage * len(self.channels)))

    def network(self, choices: Sequence[int]) -> tuple[LayeredSpec, str]:
        """The network of a tuple of choices, and the choices in words: `plain | 2×8k3 1×24k5 …`."""
        family = self.families[choices[0]]
        layers, words = [], []
        for stage, base in enumerate(self.channels):
            depth, width, kernel = choices[1 + 3 * stage : 4 + 3 * stage]
            depth, kernel = self.depths[depth], self.kernels[kernel]
            channels = max(1, round(base * self.widths[width]))
            for i in range(depth):
                back = 2 if family == "residual" and i % 2 == 1 else 0  # a basic block is two convolutions
                layers.append(Layer(channels=channels, kernel=kernel, pool=i == depth - 1, back=back))
            words.append(f"{depth}×{channels}k{kernel}")
        spec = LayeredSpec(layers=tuple(layers), classes=self.classes)
        return spec, f"{family} | {' '.join(words)}"

    def cheapest(self, px: int) -> int:
        """FLOPs of one image through the cheapest student. All are least at once: no choice makes another cheaper."""
        least = [options.index(min(options)) for options in (self.depths, self.widths, self.kernels)]
        cheap = ((family, *least * len(self.channels)) for family in range(len(self.families)))
        return min(flops_per_image(self.network(choices)[0], px)[0] for choices in cheap)


class StudentSearch:
    """The controller over a space (`random`: its twin). See `kit.methods.search.Proposer`."""

    def __init__(
        self, space: Space, px: int, seed: int, fallback: LayeredSpec, target: float | None = None, random: bool = False
    ) -> None:
        self.space, self.px, self.seed, self.fallback = space, px, seed, fallback
        self.target = float(flops_per_image(fallback, px)[0] if target is None else target)
        least = space.cheapest(px)
        if not math.isfinite(self.target) or self.target < least:
            raise KitError(
                f"cost target {self.target:g} FLOPs an image cannot be met: the cheapest student of the space "
                f"takes {least:,}; allowed: that or more"
            )
        self.name = "random search" if random else "search"
        sizes = space.sizes
        self._learner = UniformChoice(sizes, seed) if random else Reinforce(Autoregressive(sizes, seed), seed)

    @property
    def identity(self) -> Mapping[str, Any]:
        own = {"name": self.name, "seed": self.seed, "target": self.target, "w": W, "lr": LR}
        return own | {"space": self.space.model_dump(mode="json")}

    def propose(self, n: int, round: int, rounds: int) -> list[Candidate]:
        proposed = [(choices, *self.space.network(choices)) for choices in self._learner.propose(n)]
        return [Candidate.of(choices, what, spec, self.px) for choices, spec, what in proposed]

    def reward(self, candidate: Candidate, accuracy: float) -> float:
        """accuracy · (cost / target)^w, w < 0: half the cost is worth about 5 % of the accuracy."""
        return accuracy * (candidate.cost / self.target) ** W

    def learn(self, candidates: Sequence[Candidate], rewards: Sequence[float]) -> None:
        self._learner.learn([candidate.choices for candidate in candidates], rewards)


def search(setting: Setting, seed: int, random: bool = False) -> Search:
    """A search around the table's student, whose own FLOPs are the cost target unless the setting has one."""
    student = LayeredSpec.of(setting.student)
    proposer = StudentSearch(Space.around(student), setting.data.px, seed, student, setting.cost_target, random)
    return Search(setting, proposer, seed)


METHOD = Method(
    key="[11]",
    title="student search",
    reading="REINFORCE over depth, width and kernel per stage; reward accuracy·(FLOPs/target)^−0.07; best in full",
    cite='most likely "Search to Distill", Liu et al., CVPR 2020 (which uses PPO and latency)',
    build=in_full,
    search=search,
)
RANDOM_TWIN = Method(
    key="[11]",
    title="student search, random twin",
    reading="the same space, reward and budget, candidates drawn at random",
    cite="a baseline that the paper lacks: does the controller earn its keep?",
    build=in_full,
    search=partial(search, random=True),
)
