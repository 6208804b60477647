"""From the paper's words to runs: a plan knows the preset and the data, and names teachers and students."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from numbers import Integral
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch

from kit import recipe
from kit.data.augment import batch_sizes
from kit.data.roles import check_arguments, check_sources, filled_by
from kit.errors import KitError, not_one_of, one_of
from kit.grid.engines import Engine
from kit.grid.training import train_all
from kit.models import MODELS, ModelSpec
from kit.networks.named import FORMS, NamedSpec, Network, check_name
from kit.networks.view import View, normalisation
from kit.paper.claims import Claim, Data, Side, judged, percent
from kit.paper.presets import Preset, Size, preset_named, stem_at
from kit.paper.printed import TABLE_1
from kit.recipe import Recipe, Stage
from kit.runs.names import outputs
from kit.runs.probe import head_of
from kit.runs.spec import TEACHERS, DataSpec, Run, changed
from kit.runs.store import Failure, Result, find
from kit.runs.weights import Given, Weights
from kit.runtime.environment import absolute
from kit.training.batches import check_shareable
from kit.training.forward import Precision

Stages = Callable[[int], tuple[Stage, ...]]  # a procedure for so many epochs
Ways = Mapping[Side, Stages]  # procedures, by the label and reading that their rows have
SEEDS = 2**62  # of students; what is added for their teachers is a seed, too


@dataclass(frozen=True)
class Row:
    """One row of a table: a label, how Eq. (1) is read in it, and the same student from several seeds."""

    label: str
    reading: str
    runs: tuple[Run, ...]
    group: str = ""  # what the row stands under: a role, or a configuration of Table 3

    @property
    def name(self) -> str:
        return f"{self.label}, {self.reading}"


@dataclass(frozen=True)
class Chosen:
    """A network as a person chooses it: by its name and, of one that is not the kit's, further arguments of its
    function, and how it wants to see images: normalised by `imagenet` or `MEAN/STD`, of a size of its own. With
    `weights`, a file, a teacher is as given there, and a student begins as given there. A teacher of other classes has
    a file of their names, `classes`, or a new `head`, trained here."""

    name: str
    arguments: Mapping[str, object] = field(default_factory=dict)
    weights: str | Path | None = None
    normalise: str = "role"
    px: int | None = None
    classes: str | Path | None = None
    head: Literal["train"] | None = None

    @classmethod
    def of(cls, model: str | Chosen) -> Chosen:
        """The choice that a network's name alone is. Raises KitError where the name is not known."""
        chosen = model if isinstance(model, Chosen) else Chosen(model)
        check_name(chosen.name)
        asked = {"classes": chosen.classes, "head": chosen.head}
        given = [f"{what} {str(value)!r}" for what, value in asked.items() if value is not None]
        if chosen.head not in (None, "train"):
            raise not_one_of("head", chosen.head, ["train"])
        if given and chosen.weights is None:
            raise KitError(f"{given[0]} of {chosen.name} is for given weights, and none are; allowed: with weights")
        if len(given) > 1:
            raise KitError(f"{' and '.join(given)} of {chosen.name} exclude each other; allowed: one of them")
        return chosen


@dataclass(frozen=True)
class Plan:
    """Preset, data and device, from which every table's runs follow."""

    preset: Preset
    sources: Mapping[str, str] = field(default_factory=dict)  # role → auto, embedded or real; auto where absent
    folder: Path | None = None  # where real images are looked for
    device: str = "cpu"
    level: str | None = None  # of hrsc2016's labels, where not the default
    precision: Precision = "float32"  # of training
    px: int | None = None  # of every image; this and what follows in place of the preset's for the role
    train_per_class: int | Literal["all"] | None = None  # at most
    test_per_class: int | Literal["all"] | None = None
    first_seed: int = 0
    one_teacher: bool = False  # a reading: whatever a student's seed, its teachers are those of seed 0

    @classmethod
    def of(
        cls,
        preset: str,
        sources: Mapping[str, str] | None = None,
        folder: str | Path | None = None,
        first_seed: int = 0,
        one_teacher: bool = False,
        device: str | None = None,
        **sizes: Any,
    ) -> Plan:
        """The plan for a preset by name. Trains on a GPU at preset paper where there is one, in bfloat16 if it can.
        `sizes` are px, train_per_class and test_per_class (these two may be 'all') where they are not to be the
        preset's, and hrsc2016's `level`.
        Raises KitError for a GPU that is not there."""
        here = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
        device = here[-1 if preset == "paper" else 0] if device is None else one_of("device", device, here)
        precision = "bfloat16" if device == "cuda" and torch.cuda.is_bf16_supported() else "float32"
        folder = absolute(folder) if folder else None
        sources, draw = check_sources(sources or {}), {"first_seed": first_seed, "one_teacher": one_teacher}
        return cls(preset_named(preset), sources, folder, device, precision=precision, **draw, **sizes)

    def seeds(self, count: int) -> range:
        """So many seeds of students, from the plan's first on. Raises KitError for none, so many that students have the
        seeds of others' teachers, and one below 0."""
        whole = isinstance(count, Integral) and isinstance(self.first_seed, Integral)
        if not (whole and 1 <= count <= TEACHERS and self.first_seed >= 0):
            asked = f"{count!r} seeds from {self.first_seed!r} on"
            raise KitError(f"{asked} are not allowed; allowed: a whole number from 1 to {TEACHERS}, from 0 or above")
        return range(self.first_seed, self.first_seed + count)

    def size(self, role: str) -> Size:
        """A role's size at the preset, but for what the plan says of it; another px decides the networks' stem, too.
        Raises KitError for an unknown role and a folder that is missing."""
        size = self.preset.roles[one_of("role", role, self.preset.roles)]
        if role in self.preset.real and filled_by(role, self.sources.get(role, "auto"), self.folder) == "real":
            size = self.preset.real[role]
        if self.px is not None and self.px != size.px:
            check_arguments(role, self.px)
            size = replace(size, px=self.px, stem=stem_at(self.px))
        own = {"train_per_class": self.train_per_class, "test_per_class": self.test_per_class}
        own = {name: None if count == "all" else count for name, count in own.items() if count is not None}
        return replace(size, **own)

    def data(self, role: str) -> DataSpec:
        size, source = self.size(role), self.sources.get(role, "auto")
        of_class = size.train_per_class, size.test_per_class
        return DataSpec.of(role, size.px, *of_class, source, self.folder, self.level)

    def teachers_seed(self, seed: int) -> int:
        """The seed by which `teacher` finds the teachers of the student of this seed."""
        return 0 if self.one_teacher else seed

    def teacher(self, model: str | Chosen, role: str, seed: int = 0) -> Run:
        """A network trained on hard labels for as long as teachers are: also a cell of Table 1. Chosen with weights it
        is given, and not trained.

        It is the teacher of the student of this seed; its own weights, batches and crops are others.
        """
        seed = seed if self.one_teacher else TEACHERS + seed
        chosen, size = Chosen.of(model), self.size(role)
        epochs = size.teacher_epochs or (TABLE_1[chosen.name, role].epochs if chosen.name in MODELS else size.epochs)
        how = {"width": self.preset.teacher_width} if chosen.name in MODELS else {}
        run = self._run(chosen, role, recipe.hard_labels(), {}, seed, epochs=epochs, **how)
        return run if run.weights is None else changed(run, recipe=Given(), seed=0)

    def student(
        self,
        model: str | Chosen,
        role: str,
        stages: Stages,
        big: str | Chosen | None,
        small: str | Chosen | None = None,
        seed: int = 0,
        epochs: int | None = None,
        others: Mapping[str, str | Chosen] | None = None,
        **changes: float | None,
    ) -> Run:
        """A student of the big teacher and, where the procedure has them, the small teacher and others by their names
        in its stages, all of the same seed.

        `changes` to width, batch or lr override the preset; None leaves it as it is. Networks are the kit's, or any
        other by its name (`kit.networks.named`).
        """
        chosen = Chosen.of(model)
        if not (isinstance(seed, Integral) and 0 <= seed < SEEDS):
            raise KitError(f"seed: {seed} is not allowed; allowed: a whole number from 0 up to {SEEDS - 1}")
        epochs = self.size(role).epochs if epochs is None else epochs
        built, named, own = stages(epochs), {"small": small, "big": big} | dict(others or {}), self.teachers_seed(seed)
        needed = {name for stage in built for name in stage.teachers}
        wanted = {name: network for name, network in named.items() if name in needed and network is not None}
        teachers = {name: self.teacher(network, role, own) for name, network in wanted.items()}
        changes = {name: value for name, value in changes.items() if value is not None}
        if chosen.head or chosen.classes:
            raise KitError(f"student {chosen.name!r} has classes or a head of its own; allowed: for teachers")
        if "width" in changes and chosen.name not in MODELS:
            raise KitError(f"width {changes['width']} is not allowed; allowed: for {', '.join(MODELS)}")
        run = self._run(chosen, role, built, teachers, seed, epochs=epochs, **changes)
        sizes = batch_sizes(run.data.train_images, run.recipe.batch, run.recipe.keep_last)
        if run.data.source == "real" and len(sizes) == 1:
            _say_few(run.data.train_images, sizes[0])
        return run

    def _run(
        self, chosen: Chosen, role: str, stages: Sequence[Stage], teachers: Mapping[str, Run], seed: int, **how: float
    ) -> Run:
        size, data = self.size(role), self.data(role)
        if data.classes < 2:
            raise KitError(f"data for role {role!r} ({data.name}) have one class; allowed: at least two to tell apart")
        wanted, of_classes = normalisation(chosen.normalise), None
        if chosen.classes is not None:
            of_classes = outputs(chosen.classes, data.load().classes)
        is_plain = wanted is None and chosen.px is None and of_classes is None
        view = None if is_plain else View.of(data.load().mean_std, wanted, chosen.px, of_classes)
        if chosen.name in MODELS:
            asked_of_it = {"arguments": chosen.arguments, "normalisation, size or classes of its own": view}
            for what, asked in asked_of_it.items():
                if asked:
                    raise KitError(f"model {chosen.name!r} has no {what}; allowed: for {', '.join(FORMS)}")
            width = how.pop("width", self.preset.student_width)
            network: Network = ModelSpec(name=chosen.name, classes=data.classes, width=width, stem=size.stem)
        else:
            network = NamedSpec.of(chosen.name, data.classes, data.px, chosen.arguments, view)
        head = head_of(network.build(seed=0), data.px, network.title) if chosen.head else None
        usual = {"batch": size.batch, "lr": self.preset.lrs.get(chosen.name, self.preset.lr), **self.preset.updates}
        followed = Recipe(**{"stages": tuple(stages)} | usual | how)
        check_shareable(followed, data.train_images)
        return Run(
            data=data,
            student=network,
            recipe=followed,
            teachers=dict(teachers),
            seed=seed,
            preset=self.preset.name,
            device=self.device,
            precision=self.precision,
            weights=None if chosen.weights is None else Weights.of(chosen.weights, network, head),
        )


@cache
def _say_few(images: int, batch: int) -> None:
    """Says it once a process."""
    print(
        f"hint: a student takes one step an epoch, by {batch} of {images} training images; a smaller batch or more "
        f"epochs give it more",
        file=sys.stderr,
    )


# The procedures that the tables compare, by the label and reading they carry there.
PROCEDURES: Ways = {
    ("hard labels", "no teacher"): lambda epochs: recipe.hard_labels(),
    ("T=5", "printed"): lambda epochs: recipe.eq1(5, "printed"),
    ("T=5", "hinton"): lambda epochs: recipe.eq1(5, "hinton"),
    ("T=20", "printed"): lambda epochs: recipe.eq1(20, "printed"),
    ("T=20", "hinton"): lambda epochs: recipe.eq1(20, "hinton"),
    ("adaptive", "big teacher only"): lambda epochs: recipe.big_teacher_only(recipe.adaptive(epochs)),
    ("adaptive", "three steps"): lambda epochs: recipe.small_teacher(recipe.adaptive(epochs)),
}


def papers(*names: Side) -> dict[Side, Stages]:
    """Those of the paper's procedures that a table compares. Raises KitError for a name that none has."""
    return {one_of("procedure", name, PROCEDURES): PROCEDURES[name] for name in names}


def rows(
    plan: Plan,
    procedures: Ways,
    seeds: int,
    role: str,
    student: str,
    big: str,
    small: str | None = None,
    group: str = "",
    own: Ways | None = None,
    **how: Any,
) -> list[Row]:
    """A table's procedures on one configuration, then the reader's own, each from `seeds` seeds. `how`: the students'
    `epochs`, and `others` of their teachers."""
    own = own or {}
    for name in own:
        if not (isinstance(name, tuple) and len(name) == 2):
            raise KitError(f"procedure {name!r} is not allowed; allowed: a label and a reading, ('mine', 'by image')")
        if name in procedures:
            raise KitError(f"procedure {', '.join(name)!r} is one of the table's; allowed: another label or reading")

    def runs(stages: Stages) -> tuple[Run, ...]:
        return tuple(plan.student(student, role, stages, big, small, seed, **how) for seed in plan.seeds(seeds))

    return [Row(*name, runs(stages), group) for name, stages in {**procedures, **own}.items()]


def runs_of(table: Sequence[Row]) -> list[Run]:
    return [run for row in table for run in row.runs]


def training(table: Callable[..., list[Row]]) -> Callable[..., pd.DataFrame]:
    """A table's `run(plan, seeds, jobs)`: it trains what is missing of its rows, and gives a line a run."""

    def run(plan: Plan, seeds: int, jobs: int | Engine | None = None, **own: Ways | None) -> pd.DataFrame:
        return measured(table(plan, seeds, **own), jobs)

    return run


def measured(table: Sequence[Row], jobs: int | Engine | None = None) -> pd.DataFrame:
    """Trains what is missing of the rows, and `collect`s."""
    return collect(table, train_all(runs_of(table), jobs))


def collect(table: Sequence[Row], results: Mapping[Run, Result | Failure]) -> pd.DataFrame:
    """One line a run: what was trained on what, how it ended, what it cost. A run that failed has its `status`."""
    frame = pd.DataFrame([_line(row, run, results[run]) for row in table for run in row.runs])
    return with_columns(frame, [*(name for run in runs_of(table) for name in tops(run)), *MEASURED])


def with_columns(frame: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    """The frame with these columns, too, also where no run that has them finished."""
    return frame.reindex(columns=list(dict.fromkeys([*frame.columns, *names])))


def tops(run: Run) -> list[str]:
    """Names a run's accuracies. Of five classes or fewer all are among the first five, so they have no Top-5."""
    return [f"{split}_top{k}" for split in ("train", "test") for k in (1, 5) if k == 1 or run.data.classes > k]


MEASURED = (
    "seconds", "cached_logits_s", "wall_s", "teacher_seconds", "student_flops", "teacher_flops", "soft_end",
    "soft_ends",
)  # fmt: skip


def ended(cell: pd.DataFrame) -> str:
    """What became of a row of which no run finished: `diverged`, `did not finish` or both; '' where one finished."""
    endings = cell["status"].str.partition(":")[0].unique()
    return "" if "finished" in endings else " / ".join(sorted(endings))


def cells(cell: pd.DataFrame, columns: Mapping[str, str]) -> dict[str, str]:
    """A table's row: its measured columns, said to be `diverged` instead where no run finished, and its seeds."""
    endings = cell["status"].str.partition(":")[0].value_counts()
    failed = "".join(f", {count} {ending}" for ending, count in endings.items() if ending != "finished")
    shown = columns if "finished" in endings else dict.fromkeys(columns, ended(cell))
    return {**shown, "seeds": f"{endings.get('finished', 0)}{failed}"}


def accuracies(cell: pd.DataFrame, *names: str) -> dict[str, str]:
    """The named columns of a table's row that its data have, such as `train Top-1`, in % with half their intervals."""
    columns = {name: name.lower().replace(" top-", "_top") for name in names}
    return {name: percent(cell[column]) for name, column in columns.items() if column in cell}


def data_of(cell: pd.DataFrame) -> str:
    """`objects (embedded)`: what filled the role."""
    return f"{cell['data'].iloc[0]} ({cell['source'].iloc[0]})"


def judging(claims: Callable[[pd.DataFrame, Data], Sequence[Claim]]) -> Callable[[pd.DataFrame, Plan], pd.DataFrame]:
    """A table's `verdicts(frame, plan)`: its claims, judged together, each by what its role's images can tell."""

    def verdicts(frame: pd.DataFrame, plan: Plan) -> pd.DataFrame:
        return judged(claims(frame, {role: plan.data(role).load() for role in set(frame["role"])}))

    return verdicts


def soft_ends(cell: pd.DataFrame) -> str:
    """When the soft stages of a table's row ended, and by what: the first three answers."""
    return " | ".join(sorted(set(cell["soft_ends"].dropna()) - {""})[:3])


def _line(row: Row, run: Run, outcome: Result | Failure) -> dict[str, object]:
    line: dict[str, object] = {
        "group": row.group,
        "temperature": row.label,
        "reading": row.reading,
        "role": run.data.role,
        "data": run.data.name,
        "source": run.data.source,
        "student": run.student.title,
        "teachers": " + ".join(run.teachers[name].student.title for name in run.recipe.teachers),
        "seed": run.seed,
        "epochs": run.recipe.epochs,
        "run": run.hash,
        "status": "finished",
        **({} if run.precision == "float32" else {"precision": run.precision}),
    }
    if isinstance(outcome, Failure):
        return line | {"status": outcome.status}
    metrics = outcome.metrics
    soft = [stage for stage in metrics["stages"] if stage["t_start"] is not None and stage["ended_by"]]
    return line | {
        **{name: metrics[name] for name in tops(run)},
        "seconds": outcome.seconds,
        "cached_logits_s": metrics["cached_logits_s"],  # of these seconds, those that were spent once for several runs
        "wall_s": metrics["wall_s"],
        "teacher_seconds": math.fsum(find(run.teachers[name]).seconds for name in run.recipe.teachers),
        "student_flops": metrics["student_flops"],
        "teacher_flops": metrics["teacher_flops"],
        **{f"agreement_{name}": value for name, value in metrics.get("agreement", {}).items()},
        **{f"kl to {name}": found["kl"] for name, found in metrics.get("agreements", {}).items()},
        "soft_end": max((_end_epoch(metrics, stage) for stage in soft), default=math.nan),
        "soft_ends": "; ".join(f"{_end_epoch(metrics, stage):.1f} ({stage['ended_by']})" for stage in soft),
    }


def _end_epoch(metrics: dict, stage: dict) -> float:
    """The epoch at which a stage ended, from the run's start."""
    stages = metrics["stages"]
    return math.fsum(other["epochs"] for other in stages[: stages.index(stage) + 1])
