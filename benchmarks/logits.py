"""What a step of distillation costs beside a step of hard-label training, when the teacher's logits are in the cache.

    python -m benchmarks.logits --json      # both pairs, two minutes on two quiet cores

`cached_over_hard`: the kit's step with cached logits over its step on hard labels, the larger of the pairs' medians;
each ratio is taken round by round, in turns of a few steps, as in `benchmarks.throughput`. Filling the cache is left
out: it is done once for all runs with the same teacher, images, seed and epochs.
"""

from __future__ import annotations

import json
import sys
from typing import Annotated, Optional

import typer

from benchmarks.interleaved import Ended, Place, Spread, served, taken_in_turns
from benchmarks.task import PAIRS
from benchmarks.throughput import STEPS, task_for
from kit.errors import KitError, not_one_of


def main(
    as_json: Annotated[bool, typer.Option("--json", help="end with one line of JSON")] = False,
    pair: Annotated[Optional[str], typer.Option(help="vgg16 or resnet34; default: both")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="turns of each")] = 7,
    width: Annotated[int, typer.Option(min=1, help="the student's first channel count")] = 16,
    batch: Annotated[int, typer.Option(min=2, help="images a step")] = 128,
    steps: Annotated[Optional[int], typer.Option(min=1, help="a turn; default: 16 of VGG-16, 6 of ResNet-34")] = None,
    threads: Annotated[int, typer.Option(min=1, help="of torch")] = 2,
) -> None:
    """Cached distillation beside hard labels and a live teacher: time a step."""
    if pair is not None and pair not in PAIRS:
        raise not_one_of("pair", pair, PAIRS)
    cached_over_hard = []
    for name in [pair] if pair else PAIRS:
        turn = steps or STEPS[name]
        rungs = dict.fromkeys(("kit hard", "kit cached", "kit"), Place(threads))
        with served(rungs, task_for(name, width, batch, turn, repeats)) as processes:
            rates = taken_in_turns(processes, turn, repeats)
        print(f"{name}, time a step over hard labels':")
        for rung, word in (("kit cached", "cached"), ("kit", "live")):
            ratio = Spread.of_ratio(rates["kit hard"], rates[rung])
            print(f"    {word:8} {ratio.median:.3f}   ({ratio.least:.3f} … {ratio.largest:.3f})")
            cached_over_hard += [ratio.median] if word == "cached" else []
    if as_json:
        print(json.dumps({"cached_over_hard": round(max(cached_over_hard), 3)}))


if __name__ == "__main__":
    try:
        typer.run(main)
    except (KitError, Ended) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, KitError) else 1)
