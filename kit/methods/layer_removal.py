"""[12] Reinforcement learning removes redundant layers (most likely N2N learning, Ashok et al., ICLR 2018).

For the first half of its rounds a bidirectional LSTM reads the layers' descriptions and keeps or removes each; then a
second, autoregressive LSTM shrinks the channels of the best network so far by factors 0.1 … 1.0. The reward is
`C(2−C)·A/A_teacher` with the compression C = 1 − params/params of the uncut network, and −1 where nothing is left.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from kit.methods.base import Method, Setting, in_full
from kit.methods.reinforce import LR, Autoregressive, KeepOrRemove, Reinforce
from kit.methods.search import Candidate, Search
from kit.networks.flops import parameter_count
from kit.networks.layered import LayeredSpec, shrunk, without
from kit.runs.store import find

FACTORS = tuple(round(0.1 * i, 1) for i in range(1, 11))


def compression_reward(params: int, params_whole: int, accuracy: float, accuracy_teacher: float) -> float:
    """R = C(2−C)·A/A_teacher, C = 1 − params/params_whole: 0 at no compression, rising ever more slowly with it."""
    C = 1 - params / params_whole
    return C * (2 - C) * accuracy / accuracy_teacher


def descriptions(spec: LayeredSpec) -> Tensor:
    """Each layer as (D, 8): kernel, stride, padding, channels in and out (log), pool, a residual's start and end."""
    starts = {i + 1 - layer.back for i, layer in enumerate(spec.layers) if layer.back}
    inputs = [3, *(layer.channels for layer in spec.layers)]
    rows = [
        [
            layer.kernel / 7, layer.stride / 2, (layer.kernel // 2) / 3, math.log(inputs[i]) / 8,
            math.log(layer.channels) / 8, float(layer.pool), float(i in starts), float(layer.back > 0),
        ]
        for i, layer in enumerate(spec.layers)
    ]  # fmt: skip
    return torch.tensor(rows)


class LayerRemoval:
    """Cuts a network in two phases (`random`: by choices that no reward teaches). See `kit.methods.search.Proposer`."""

    def __init__(self, whole: LayeredSpec, px: int, seed: int, accuracy_teacher: float, random: bool = False) -> None:
        self.fallback = self.whole = whole
        self.px, self.seed, self.random = px, seed, random
        self.name = "random cut" if random else "cut"
        self.accuracy_teacher = accuracy_teacher
        self.params_whole = parameter_count(whole.build())
        self._remover = Reinforce(KeepOrRemove(descriptions(whole), seed), seed)
        self._shrinker: Reinforce | None = None
        self._best, self._best_reward = whole, -math.inf

    @property
    def identity(self) -> Mapping[str, Any]:
        own = {"name": self.name, "seed": self.seed, "lr": LR, "accuracy_teacher": self.accuracy_teacher}
        return own | {"whole": self.whole.model_dump(mode="json")}

    def propose(self, n: int, round: int, rounds: int) -> list[Candidate]:
        if round < math.ceil(rounds / 2):
            return [self._removed(choices) for choices in self._remover.propose(n)]
        if self._shrinker is None:
            self._base = self._best
            features = descriptions(self._base)
            policy = Autoregressive((len(FACTORS),) * len(features), self.seed, features)
            self._shrinker = Reinforce(policy, self.seed)
        return [self._shrunk(choices) for choices in self._shrinker.propose(n)]

    def _removed(self, choices: tuple[int, ...]) -> Candidate:
        spec = without(self.whole, [bool(kept) for kept in choices])
        what = f"{sum(choices)} of {len(choices)} layers: {''.join('·█'[kept] for kept in choices)}"
        note = "" if spec else "all layers removed: no network, reward −1"
        return Candidate.of(choices, what, spec, self.px, "remove", note)

    def _shrunk(self, choices: tuple[int, ...]) -> Candidate:
        spec = shrunk(self._base, [FACTORS[choice] for choice in choices])
        return Candidate.of(choices, f"channels {spec.widths}", spec, self.px, "shrink")

    def reward(self, candidate: Candidate, accuracy: float) -> float:
        return compression_reward(candidate.params, self.params_whole, accuracy, self.accuracy_teacher)

    def learn(self, candidates: Sequence[Candidate], rewards: Sequence[float]) -> None:
        for candidate, reward in zip(candidates, rewards, strict=True):
            if candidate.spec is not None and reward > self._best_reward:
                self._best, self._best_reward = candidate.spec, reward
        if self.random:
            return
        learner = self._remover if self._shrinker is None else self._shrinker
        learner.learn([candidate.choices for candidate in candidates], rewards)


def search(setting: Setting, seed: int, random: bool = False) -> Search:
    """Cuts the table's student (N2N cuts the teacher itself; the table fixes the explaining model).

    The explained model must be trained: its accuracy scales all rewards alike, so it favours no candidate.
    """
    accuracy = find(setting.big).metrics["test_top1"]
    whole = LayeredSpec.of(setting.student)
    proposer = LayerRemoval(whole, setting.data.px, seed, max(accuracy, 1e-3), random=random)
    return Search(setting, proposer, seed)


METHOD = Method(
    key="[12]",
    title="layer removal",
    reading="a bidirectional LSTM removes layers of the student, a second shrinks the rest; reward C(2−C)·A/A_teacher "
    "(N2N: −1 for an uncut network, here 0; 10 channels at least; candidates by squared error of logits)",
    cite="most likely N2N learning, Ashok et al., ICLR 2018 (which cuts the teacher itself)",
    build=in_full,
    search=search,
)
RANDOM_TWIN = Method(
    key="[12]",
    title="layer removal, random twin",
    reading="the same cuts and reward, chosen as before anything was learnt",
    cite="a baseline that the paper lacks: do the two policies earn their keep?",
    build=in_full,
    search=partial(search, random=True),
)
