"""Learning from rewards: REINFORCE with a moving-average baseline, and the recurrent policies that searches use.

∇J = E_a[(R(a) − b)·∇ log π(a)] (Williams 1992): `Reinforce.learn` takes a step along the sample mean of the bracket.
Policies are small and run on one thread, so that a seed gives the same choices everywhere on one machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from kit.runtime.seeds import seeded
from kit.runtime.threads import one_thread

LR = 0.03  # Adam's
KEPT = 0.8  # of the baseline, a moving average of the rewards' means, at each round


def reinforce_loss(log_prob: Tensor, rewards: Tensor, baseline: Tensor | float) -> Tensor:
    """−mean (R − b)·log π(a), for log-probabilities and rewards (n,): its gradient is REINFORCE's estimate of −∇J."""
    return -((rewards - baseline) * log_prob).mean()


class Reinforce:
    """A policy that learns: `propose` samples choices, `learn` is told their rewards."""

    def __init__(self, policy: Autoregressive | KeepOrRemove, seed: int) -> None:
        self.policy = policy
        self.optimiser = torch.optim.Adam(policy.parameters(), lr=LR)
        self.generator = torch.Generator().manual_seed(seed)
        self.baseline: float | None = None

    def propose(self, n: int) -> list[tuple[int, ...]]:
        with one_thread(), torch.no_grad():
            return [tuple(row) for row in self.policy.sample(n, self.generator).tolist()]

    def learn(self, choices: Sequence[Sequence[int]], rewards: Sequence[float]) -> None:
        with one_thread():
            reward = torch.tensor(rewards, dtype=torch.float32)
            baseline = float(reward.mean()) if self.baseline is None else self.baseline
            loss = reinforce_loss(self.policy.log_prob(torch.tensor(choices)), reward, baseline)
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            self.baseline = KEPT * baseline + (1 - KEPT) * float(reward.mean())


class UniformChoice:
    """The honest twin: every choice alike, whatever the rewards were. Also usable where `Reinforce` is."""

    def __init__(self, sizes: Sequence[int], seed: int) -> None:
        self.sizes = tuple(sizes)
        self.generator = torch.Generator().manual_seed(seed)

    def propose(self, n: int) -> list[tuple[int, ...]]:
        return [tuple(int(torch.randint(size, (), generator=self.generator)) for size in self.sizes) for _ in range(n)]

    def learn(self, choices: Sequence[Sequence[int]], rewards: Sequence[float]) -> None:
        pass


class Autoregressive(nn.Module):
    """An LSTM that makes one choice after the other and reads each before the next: of choice d, `sizes[d]` are open.

    `features` (D, F), optional, describes what each choice is about (N2N's second policy reads layers).
    """

    hidden = 32

    def __init__(self, sizes: Sequence[int], seed: int, features: Tensor | None = None) -> None:
        super().__init__()
        described = torch.zeros(len(sizes), 0) if features is None else features
        self.register_buffer("features", described)
        self.most = max(sizes)
        with seeded(seed):
            self.cell = nn.LSTMCell(self.most + described.shape[1], self.hidden)
            self.heads = nn.ModuleList(nn.Linear(self.hidden, size) for size in sizes)
            for head in self.heads:
                nn.init.zeros_(head.weight)  # every choice starts as likely as the others
                nn.init.zeros_(head.bias)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n tuples of choices, (n, D) int64."""
        choices: list[Tensor] = []
        for logits in self._unrolled(n, choices):
            choices.append(torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0])  # (n,)
        return torch.stack(choices, 1)

    def log_prob(self, choices: Tensor) -> Tensor:
        """Of each of n tuples (n, D), with gradient: (n,)."""
        taken = list(choices.unbind(1))
        steps = zip(self._unrolled(len(choices), taken), taken, strict=True)
        return torch.stack([logits.log_softmax(1).gather(1, a[:, None])[:, 0] for logits, a in steps]).sum(0)

    def _unrolled(self, n: int, taken: list[Tensor]) -> Iterator[Tensor]:
        """Each choice's logits (n, size) in turn; `taken` must hold a choice by the time the next one is asked for."""
        state = torch.zeros(n, self.hidden), torch.zeros(n, self.hidden)
        previous = torch.zeros(n, self.most)
        for d, head in enumerate(self.heads):
            described = self.features[d].expand(n, -1)  # (n, F)
            state = self.cell(torch.cat([previous, described], 1), state)
            yield head(state[0])
            previous = nn.functional.one_hot(taken[d], self.most).float()


class KeepOrRemove(nn.Module):
    """N2N's first policy: a bidirectional LSTM reads the layers' descriptions (D, F) and keeps (1) or removes (0)."""

    hidden, keep = 16, 0.8  # it starts at this chance to keep

    def __init__(self, features: Tensor, seed: int) -> None:
        super().__init__()
        self.register_buffer("features", features)
        with seeded(seed):
            self.lstm = nn.LSTM(features.shape[1], self.hidden, bidirectional=True, batch_first=True)
            self.head = nn.Linear(2 * self.hidden, 1)
            nn.init.zeros_(self.head.weight)
            nn.init.constant_(self.head.bias, float(torch.tensor(self.keep).logit()))

    def logits(self) -> Tensor:
        """Of keeping each layer, (D,)."""
        return self.head(self.lstm(self.features[None])[0])[0, :, 0]

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        chance = self.logits().sigmoid().expand(n, -1)
        return torch.bernoulli(chance, generator=generator).long()

    def log_prob(self, choices: Tensor) -> Tensor:
        logits = self.logits().expand(len(choices), -1)
        kept = choices.to(logits.dtype)
        return -nn.functional.binary_cross_entropy_with_logits(logits, kept, reduction="none").sum(1)
