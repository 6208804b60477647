"""How many images a second a dataset gives and a network takes, and which of the two bounds a training."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import nn

from kit.data.augment import EpochPlan, augment, normalise
from kit.data.base import Dataset
from kit.losses import hard_cross_entropy
from kit.runtime.threads import one_thread

FASTEST = 5_000  # steps a second that no network makes


@one_thread()
def throughput(data: Dataset, network: nn.Module, batch: int = 64, seconds: float = 1.0) -> str:
    """Says how many images a second taking, augmenting and training handle, each measured alone for so many seconds on
    the training images, and all in turn. `network` is trained on them a little. On one thread, as runs are."""
    plan = EpochPlan(len(data.train), 0, 0, 2, data.flip)
    batches = list(plan.batches(batch))
    mean, std = data.mean_std
    pixels = data.train.images.take(batches[0])  # (B, H, W, 3)
    labels = data.train.labels[batches[0]]

    def prepared() -> torch.Tensor:
        return normalise(augment(pixels, plan.offsets[batches[0]], plan.flips[batches[0]], plan.pad), mean, std)

    x = prepared()
    network = network.to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01)

    def step(_: int) -> None:
        optimiser.zero_grad()
        hard_cross_entropy(network(x), labels).backward()
        optimiser.step()

    stored = getattr(data.train.images, "stored", "in memory")
    rates = {
        f"taking ({stored})": rate(lambda i: data.train.images.take(batches[i % len(batches)]), len(labels), seconds),
        "augmenting": rate(lambda i: prepared(), len(labels), seconds),
        "training": rate(step, len(labels), seconds),
    }
    each = ", ".join(f"{part} {number:,.0f}" for part, number in rates.items())
    together = 1 / sum(1 / number for number in rates.values())
    return f"{together:,.0f} images/s ({each}); bounded by {min(rates, key=rates.get)}"


def rate(work: Callable[[int], object], images: int, seconds: float) -> float:
    """Measures the images a second of `work(i)`, which handles so many; the first call is not counted."""
    work(0)
    done, begin = 0, time.perf_counter()
    while (spent := time.perf_counter() - begin) < seconds:
        done += 1
        work(done)
    return done * images / spent
