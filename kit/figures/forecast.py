"""How fast this machine is, and how long each notebook will take on it, before anything is trained.

speeds = [speed(*measurable, seconds=1) for measurable in networks_of(runs)]
Prediction.of(plan, Pace.from_cache(cache_folder()).with_rates(measured_rates(speeds)), runs_at_once())
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, takewhile
from typing import Any

import pandas as pd
import torch

from kit import recipe
from kit.data.base import Dataset, Split, TensorImages
from kit.data.throughput import FASTEST, rate
from kit.errors import KitError
from kit.figures.needs import APART, FORESEEN, NEEDS, chosen, drawing_seconds, expected_drawing
from kit.files import cache_folder
from kit.grid.durations import NOMINAL, Pace, kinds_of
from kit.grid.engines import Engine, default_jobs
from kit.grid.training import shared_logits
from kit.models import ModelSpec
from kit.networks.flops import flops_per_image
from kit.networks.folding import folded
from kit.networks.named import NamedSpec, Network
from kit.paper.plan import Plan, runs_of
from kit.paper.scale import PUBLISHED, PublishedPlan
from kit.recipe import Recipe
from kit.runs.spec import Run, with_teachers
from kit.runs.store import folder_of
from kit.runs.training import readable_logits
from kit.runtime.machine import cores
from kit.runtime.threads import threads
from kit.trainer import Training
from kit.training.forward import frozen, teach

STEPS = 8  # in an epoch of the images made up for measuring
AROUND_A_RUN = 0.2  # seconds to load, check and store what a run needs and leaves
HOPELESS_DAYS = 14


# ---- images a second ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Speed:
    """Images a second of a network: training steps, and forward passes as a teacher; on one thread and on all cores."""

    network: Network
    px: int
    batch: int
    training: float
    training_all: float
    teaching: float
    teaching_all: float


def networks_of(runs: Iterable[Run]) -> list[tuple[Network, int, int]]:
    """Lists each network with a name at each image size and a batch that it is trained on, once: of those that differ
    in classes alone, the one with the most."""
    named = [run for run in with_teachers(runs) if isinstance(run.student, ModelSpec | NamedSpec)]
    named.sort(key=lambda run: (run.data.px, run.student.name, width_of(run.student), run.student.classes))
    of_kind = {kinds_of(run.student, run.data.px): run for run in named}
    return [(run.student, run.data.px, run.recipe.batch) for run in of_kind.values()]


def width_of(network: Network) -> int:
    """The first channel count, 0 where the network's name says all."""
    return network.width if isinstance(network, ModelSpec) else 0


def speed(network: Network, px: int, batch: int, seconds: float) -> Speed:
    """Measures a network by the trainer itself on made-up images, each of four numbers for so many seconds.

    Where a whole batch would take far longer than that, as at the paper's sizes, it is a smaller one.
    """
    affordable = int(seconds * NOMINAL["cpu"] / flops_per_image(network, px)[1])
    batch = max(2, min(batch, affordable))
    rates = []
    for work in (_training, _teaching):
        for count in (1, cores()):
            with threads(count):
                rates.append(rate(work(network, px, batch, seconds), batch, seconds))
    return Speed(network, px, batch, *rates)


def _training(network: Network, px: int, batch: int, seconds: float) -> Callable[[int], object]:
    epochs = 2 + int(seconds * FASTEST / STEPS)
    made = Recipe(stages=recipe.hard_labels(), epochs=epochs, batch=batch)
    steps = iter(Training(made, _made_up(px, network.classes, batch), network.build(0), {}, seed=0))
    return lambda _: next(steps)


def _teaching(network: Network, px: int, batch: int, seconds: float) -> Callable[[int], object]:
    teacher = folded(frozen(network.build(0), torch.device("cpu")))
    x = torch.randn(batch, 3, px, px).to(memory_format=torch.channels_last)
    return lambda _: teach(teacher, x)


def _made_up(px: int, classes: int, batch: int) -> Dataset:
    """Makes a dataset of noise: an epoch of STEPS batches, and two test images."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (STEPS * batch, px, px, 3), generator=generator, dtype=torch.uint8)
    train, test = (Split(TensorImages(pixels[:n]), torch.arange(n) % classes) for n in (STEPS * batch, 2))
    return Dataset("cifar-10", "noise", "embedded", "", tuple(map(str, range(classes))), train, test, px, flip=True)


def speeds_table(speeds: Sequence[Speed]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "network": each.network.title,
            "width": width_of(each.network) or "",
            "px": each.px,
            "batch": each.batch,
            "training images/s": each.training,
            "all cores": each.training_all,
            "teaching images/s": each.teaching,
            "all cores ": each.teaching_all,
        }
        for each in speeds
    )


def measured_rates(speeds: Iterable[Speed]) -> dict[tuple[Network, int], float]:
    """Computes the FLOP/s of each measured network in training, on one thread."""
    return {(each.network, each.px): each.training * flops_per_image(each.network, each.px)[1] for each in speeds}


# ---- minutes ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prediction:
    """What `figures` will take at a preset.

    `notebooks` has a line a notebook, in order, with what it adds to those before it: `runs`, of which so many are
    `foreseen`, as only searches will decide them; how many of all are `finished`; the `seconds` of all on one thread,
    of which those `left` are of runs that are not in the cache; and those of `drawing`.
    """

    preset: str
    at_once: int  # runs, each on a core of its own
    notebooks: pd.DataFrame
    longest: float  # seconds of the longest chain of a run and its teachers that is left

    @classmethod
    def of(
        cls,
        plan: Plan,
        pace: Pace,
        at_once: int,
        seeds: int | None = None,
        equal_time: bool = False,
        names: Sequence[str] = (),
    ) -> Prediction:
        """Predicts what the named notebooks take, by default all, with so many runs computed `at_once`; a run counts
        with the first that shows it. Nothing is trained. With `equal_time` Table 4 is made twice.

        Which networks a search proposes, only it can tell: its runs are taken to be there once its notebook was drawn,
        as long as all of those are that are known beforehand.
        """
        preset, wanted = plan.preset.name, chosen(names)
        needs = {name: with_teachers(runs_of(needed(plan, seeds))) for name, needed in NEEDS.items() if name in wanted}
        foreseen = {name: runs(plan, seeds, equal_time) for name, runs in FORESEEN.items() if name in wanted}
        everything = [*dict.fromkeys(chain(*needs.values())), *chain(*foreseen.values())]
        users = users_of_logits(everything)
        cost = {run: whole(run, pace, test_images(plan, run), users) for run in everything}
        found, left, before = [], {}, set()
        for name in wanted:
            new, following = [run for run in needs.get(name, ()) if run not in before], foreseen.get(name, [])
            before.update(new)
            missing = [run for run in new if not has_ended(run)]
            left |= {run: cost[run] for run in missing}
            undecided = following if missing or drawing_seconds(preset, name) is None else []
            found.append(
                {
                    "notebook": name,
                    "runs": len(new) + len(following),
                    "foreseen": len(following),
                    "finished": len(new) + len(following) - len(missing) - len(undecided),
                    "seconds": sum(cost[run] for run in (*new, *following)),
                    "left": sum(cost[run] for run in (*missing, *undecided)),
                    "drawing": expected_drawing(preset, name),
                }
            )
        return cls(preset, at_once, pd.DataFrame(found), longest(left))

    @property
    def training(self) -> float:
        """Predicts the seconds of all training from an empty cache, runs side by side."""
        return self.notebooks["seconds"].sum() / self.at_once

    @property
    def left(self) -> float:
        """Predicts the seconds of what is left to do, drawing included."""
        return max(self.notebooks["left"].sum() / self.at_once, self.longest) + self.drawing

    @property
    def drawing(self) -> float:
        return self.notebooks["drawing"].sum()

    @property
    def table(self) -> pd.DataFrame:
        """A line a notebook, in minutes."""
        of = self.notebooks
        runs = of["runs"].astype(str)
        return pd.DataFrame(
            {
                "notebook": of["notebook"],
                "runs": runs.where(of["foreseen"] == 0, "about " + runs),
                "in the cache": of["finished"],
                "training": of["seconds"] / self.at_once / 60,
                "drawing": of["drawing"] / 60,
                "left to do": (of["left"] / self.at_once + of["drawing"]) / 60,
            }
        )


def runs_at_once(jobs: int | Engine | None = None, devices: Collection[str] = ()) -> int:
    """Counts the runs that compute at once where `train_all` gets these jobs: of this machine's no more than it has
    cores, of an engine's all. KitError where no cluster answers."""
    if jobs is None or isinstance(jobs, int):
        return min(jobs or default_jobs(devices=devices), cores())
    from kit.grid.dask import DaskCluster  # only now: it takes a second to import

    if isinstance(jobs, DaskCluster) and jobs.address == "local":
        return runs_at_once(jobs.jobs, devices)
    with jobs:
        return jobs.slots


MOST_ROUNDS, A_GLANCE = 100, 0.2  # seeds that are tried; seconds of a measurement where only the minutes matter


def rounds_within(minutes: float, plan: Plan, at_once: int, equal_time: bool = False, names: Sequence[str] = ()) -> int:
    """Chooses how many seeds the named notebooks' tables, or all, can have within so many minutes, at least one, before
    anything is trained.

    So it depends on time, never on results. What the cache has counts as done; networks that it has no times of are
    measured first. Raises KitError for notebooks whose runs are not known beforehand.
    """
    named = chosen(names)
    if named.keys() & APART or not named.keys() & NEEDS.keys():
        raise KitError(
            f"--minutes {minutes:g} cannot choose the seeds of {', '.join(named)}; allowed: with {', '.join(NEEDS)}, "
            f"whose runs are known beforehand"
        )
    pace = pace_of([run for name in named if name in NEEDS for run in runs_of(NEEDS[name](plan, 1))])
    predicted = (Prediction.of(plan, pace, at_once, n, equal_time, names) for n in range(2, MOST_ROUNDS + 1))
    return 1 + sum(1 for _ in takewhile(lambda each: each.left <= 60 * minutes, predicted))


def pace_of(runs: Sequence[Run]) -> Pace:
    """Returns the pace of what has finished here; of networks that have not, as measured at a glance."""
    pace, networks = Pace.from_cache(cache_folder()), networks_of(run for run in runs if run.device == "cpu")
    unknown = ((network, px, batch) for network, px, batch in networks if not pace.knows(network, px))
    return pace.with_rates(measured_rates(speed(*each, A_GLANCE) for each in unknown))


def seconds_left(runs: Sequence[Run], at_once: int) -> float:
    """Predicts the seconds until these runs and all they learn from are in the cache, so many computed at once."""
    everything = with_teachers(runs)
    left = [run for run in everything if not has_ended(run)]
    if not left:
        return 0.0
    pace, users = pace_of(everything), users_of_logits(everything)
    cost = {run: whole(run, pace, len(run.data.load().test), users) for run in left}
    return max(sum(cost.values()) / at_once, longest(cost))


def longest(cost: Mapping[Run, float]) -> float:
    """Adds up the longest chain of a run and one of its teachers, as far as these have a cost."""
    return max((cost[run] + max((cost.get(t, 0) for t in run.teachers.values()), default=0) for run in cost), default=0)


def whole(run: Run, pace: Pace, tested: int, users: Mapping[str, int]) -> float:
    """Predicts the seconds of one thread: training, evaluating on so many test images after each epoch, and what is
    around it. Of a teacher's logits that many `users` read each is charged an equal part."""
    spared = {name: 1 - 1 / users.get(kept.key, 1) for name, kept in readable_logits(run).items()}
    return pace.seconds(run, spared) + pace.evaluating(run, tested) + AROUND_A_RUN


def users_of_logits(runs: Sequence[Run]) -> Mapping[str, int]:
    """Counts, by the key of cached logits, how many of the runs read them."""
    shared = {each.key for each in shared_logits(runs, missing=lambda kept, epochs: epochs)}
    wanted = Counter(kept.key for run in runs for kept in readable_logits(run).values())
    return {key: wanted[key] for key in shared}


def test_images(plan: Plan, run: Run) -> int:
    """Counts the test images, or an upper bound of them where that is cheaper."""
    if isinstance(plan, PublishedPlan):
        return PUBLISHED[run.data.role].test_images
    return len(plan.data(run.data.role).load().test)


def has_ended(run: Run) -> bool:
    """Whether the cache has the run's result, or that it diverged; nothing is verified."""
    return any((folder_of(run.hash) / name).is_file() for name in ("metrics.json", "diverged.json"))


def duration(seconds: float) -> str:
    """`40 s`, `12 minutes`, `3.5 hours`, `6 days`, `3 years`."""
    for unit, size, digits in (("years", 365 * 86400, 0), ("days", 86400, 0), ("hours", 3600, 1), ("minutes", 60, 0)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.{digits}f} {unit}"
    return f"{seconds:.0f} s"


def verdict(prediction: Prediction) -> str:
    """Says in one line what is left to do, and whether to wait for it."""
    took = f"left to do: about {duration(prediction.left)} on {prediction.at_once} cores"
    is_hopeless = prediction.left > HOPELESS_DAYS * 86400
    return f"{took}: hopeless here; it wants a GPU (see PAPER.md)" if is_hopeless else took


def record(prediction: Prediction, speeds: Sequence[Speed]) -> dict[str, Any]:
    """All of it for JSON: images/s, and seconds."""
    return {
        "preset": prediction.preset,
        "at_once": prediction.at_once,
        "speeds": [{**asdict(each), "network": each.network.model_dump()} for each in speeds],
        "notebooks": prediction.notebooks,
        "training_s": prediction.training,
        "drawing_s": prediction.drawing,
        "left_s": prediction.left,
    }
