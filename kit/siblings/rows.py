"""The siblings as rows of a table: what `table2.run(plan, seeds, own=SIBLINGS)` trains beside the paper's procedures.

All learn from the big teacher alone, for as long as the paper's method. Weights are the published ones for 240 epochs
at width 16 and more; none is tuned here.
"""

from __future__ import annotations

from collections.abc import Callable

from kit.recipe import Stage
from kit.siblings import ctkd, dist, dkd, dtkd, lskd, normkd, rising, ttm

SIBLINGS: dict[tuple[str, str], Callable[[int], tuple[Stage, ...]]] = {
    ("rising", "1 → K, then hard labels"): rising.stages,
    ("CTKD", "global"): ctkd.stages,
    ("DTKD", "by maximum"): dtkd.stages,
    ("NormKD", "2 · std"): normkd.stages,
    ("LSKD", "τ = 2"): lskd.stages,
    ("TTM", "γ = 0.1"): ttm.stages,
    ("WTTM", "γ = 0.2"): ttm.weighted_stages,
    ("DKD", "β = 8"): dkd.stages,
    ("DIST", "τ = 4"): dist.stages,
}

NAMED = {label: stages for (label, _), stages in SIBLINGS.items()}  # as a command and the cockpit call them
