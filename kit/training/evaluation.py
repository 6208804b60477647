"""How good a network is on a split, and how like its teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor, nn

from kit.data.augment import normalise
from kit.data.base import Split
from kit.losses import kl_divergence
from kit.parallel.ranks import ALONE, Ranks

EVALUATION_BATCH = 100  # of five times as many, the activations are most of a process' memory


def topk_correct(z: Tensor, y: Tensor) -> Tensor:
    """How many of the N images have their label at the largest logit, and how many among the five largest: (2,)."""
    ranked = z.topk(min(5, z.shape[1]), dim=-1).indices  # (N, k)
    correct = ranked == y[:, None]
    return torch.stack([correct[:, :k].any(-1).sum() for k in (1, 5)])


def recalls(z: Tensor, y: Tensor) -> list[float | None]:
    """Computes for each of C classes which share of its images has its logit for the largest; None for a class without
    images. z (N, C), y (N,)."""
    ranked = z.topk(1, dim=-1).indices[:, 0]  # as Top-1 has it, also where two are equal
    counts, correct = (labels.bincount(minlength=z.shape[1]).tolist() for labels in (y, y[ranked == y]))
    return [hits / count if count else None for hits, count in zip(correct, counts, strict=True)]


def balanced_accuracy(recalls: Sequence[float | None]) -> float:
    """Computes the mean over classes of the share of their images that are classified rightly."""
    return fmean(recall for recall in recalls if recall is not None)


def lowest_first(classes: Sequence[str], recalls: Sequence[float | None]) -> list[str]:
    """Names every class with its recall, the lowest first: `dog 25.0%`."""
    known = [(recall, name) for name, recall in zip(classes, recalls, strict=True) if recall is not None]
    return [f"{name} {recall:.1%}" for recall, name in sorted(known)]


@dataclass(frozen=True)
class Evaluation:
    """Top-1 and Top-5 as fractions, and the logits (N, C) they come from."""

    top1: float
    top5: float
    logits: Tensor

    def scores(self, split: str) -> dict[str, float]:
        """As metrics have it."""
        return {f"{split}_top1": self.top1, f"{split}_top5": self.top5}


@torch.inference_mode()
def evaluate(network: nn.Module, split: Split, mean: Tensor, std: Tensor, ranks: Ranks = ALONE) -> Evaluation:
    """Accuracy of a network on a split's clean images, in evaluation mode; each rank looks at some of them."""
    network.eval()
    device = mean.device
    logits = torch.cat(
        [
            network(normalise(split.images.take(indices).to(device, non_blocking=True), mean, std))
            for indices in ranks.part(len(split)).split(EVALUATION_BATCH)
        ]
    ).cpu()  # (N, C), of this rank's part
    logits = ranks.gather(logits, len(split))
    top1, top5 = (topk_correct(logits, split.labels).double() / len(split)).tolist()
    return Evaluation(top1, top5, logits)


def agreement(zt: Tensor, zs: Tensor) -> dict[str, float]:
    """Does the student inherit? KL at t = 1, share of images with the same Top-1, mean overlap of the Top-5 sets."""
    k = min(5, zt.shape[1])
    ours, theirs = zs.topk(k).indices, zt.topk(k).indices  # (N, k)
    overlap = (ours[:, :, None] == theirs[:, None, :]).any(2).double().mean()
    return {
        "kl": float(kl_divergence(zt, zs, 1.0)),
        "top1": float((ours[:, 0] == theirs[:, 0]).double().mean()),
        "top5": float(overlap),
    }
