"""Teachers' logits on one level: each divided by its own deviation, times the mean of all.

Two copies of one teacher, the logits of one twice those of the other, should count alike; at one t the larger ones are
sharper and pull harder. Brought to one deviation they are the same. A teacher alone stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from kit.losses import Sides
from kit.parallel.ranks import Ranks


def deviations(logits: Mapping[str, Tensor], ranks: Ranks) -> dict[str, Tensor]:
    """By teacher, its logits' deviation over classes, a mean over the batch, over the mean of all teachers': ()."""
    own = ranks.mean(torch.stack([zt.std(-1, correction=0).mean() for zt in logits.values()]))  # (K,)
    return dict(zip(logits, own / own.mean() if len(own) > 1 else torch.ones_like(own), strict=True))


def levelled(logits: Mapping[str, Tensor], ranks: Ranks) -> dict[str, Tensor]:
    """The logits (N, C) with the same deviation each."""
    return {name: logits[name] / each for name, each in deviations(logits, ranks).items()}


def given(t: Mapping[str, float], logits: Mapping[str, Tensor], ranks: Ranks) -> dict[str, Sides]:
    """The temperatures by which the teachers' logits are softened as the levelled ones are by t, by teacher."""
    return {name: Sides(t[name] * each, t[name]) for name, each in deviations(logits, ranks).items()}
