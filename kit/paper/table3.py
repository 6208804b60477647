"""Table 3: the whole method. A small teacher, then the big teacher, then hard labels, in eight configurations."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from kit import recipe
from kit.grid.engines import Engine
from kit.models import TITLES
from kit.paper.claims import Claim, gain, judged, number, percent, plus_minus, saving, t_interval
from kit.paper.plan import Plan, Row, cells, measured, rows
from kit.paper.printed import ROLE_TITLES, TABLE_3, TABLE_3_EPOCHS, Configuration

ROLES = tuple(dict.fromkeys(configuration.role for configuration in TABLE_3))
FIRST = next(iter(TABLE_3))  # CIFAR-10: ResNet-34 explained, VGG-19 small teacher, VGG-16 student
SWEPT = Configuration("cifar-100", "resnet50", "vgg19", "vgg16")  # where the temperature's rate is varied
RATES = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the default rate

OURS = ("adaptive", "three steps")
PROCEDURES = (("T=5", "printed"), ("T=5", "hinton"), ("T=20", "printed"), ("T=20", "hinton"), OURS)
BASELINES = PROCEDURES[:-1]


def title(configuration: Configuration) -> str:
    """`CIFAR-10 · ResNet-34, VGG-19 → VGG-16`: role, explained model and small teacher, student."""
    role, big, small, student = configuration
    return f"{ROLE_TITLES[role]} · {TITLES[big]}, {TITLES[small]} → {TITLES[student]}"


def table(plan: Plan, seeds: int = 3, configurations: Sequence[Configuration] = tuple(TABLE_3)) -> list[Row]:
    """One row a configuration and procedure; T = 5 and T = 20 go from the big teacher straight to the student."""
    epochs = TABLE_3_EPOCHS if plan.preset.name == "paper" else None
    return [
        row
        for configuration in configurations
        for row in rows(
            plan,
            PROCEDURES,
            seeds,
            configuration.role,
            configuration.student,
            configuration.explained,
            configuration.small,
            epochs,
            title(configuration),
        )
    ]


def run(plan: Plan, seeds: int, jobs: int | Engine | None = None) -> pd.DataFrame:
    """Trains what is missing; a line a run."""
    return measured(table(plan, seeds), jobs)


def seeds(plan: Plan) -> int:
    return plan.preset.seeds


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """One line a configuration and procedure: the paper's Top-5 and time, and this kit's figures with intervals."""
    printed = {title(configuration): cells for configuration, cells in TABLE_3.items()}
    lines = []
    for (group, label, reading), cell in frame.groupby(["group", "temperature", "reading"], sort=False):
        paper, slowest = printed[group][label], printed[group]["T=5"]
        relative = paired_ratio(frame[frame["group"] == group], (label, reading), ("T=5", "printed"))
        lines.append(
            {
                "configuration": group,
                "data": f"{cell['data'].iloc[0]} ({cell['source'].iloc[0]})",
                "temperature": label,
                "reading": reading,
                "paper Top-5": f"{paper.top5:.2f}",
                "paper time / T=5": f"{paper.seconds / slowest.seconds:.2f}",
            }
            | cells(
                cell,
                {
                    "train Top-1": percent(cell["train_top1"]),
                    "train Top-5": percent(cell["train_top5"]),
                    "test Top-1": percent(cell["test_top1"]),
                    "test Top-5": percent(cell["test_top5"]),
                    "CPU s": plus_minus(cell["seconds"]),
                    "time / T=5": plus_minus(relative, 2),
                    "student GFLOP": number(cell["student_flops"].mean() / 1e9),
                    "teacher GFLOP": number(cell["teacher_flops"].mean() / 1e9),
                    "teachers' own training, CPU s": number(cell["teacher_seconds"].mean()),
                    "soft stages ended at epoch": " | ".join(sorted(set(cell["soft_ends"].dropna()) - {""})[:3]),
                },
            )
        )
    return pd.DataFrame(lines)


def paired_ratio(frame: pd.DataFrame, ours: tuple[str, str], theirs: tuple[str, str]) -> list[float]:
    """Our seconds over theirs, seed by seed."""
    seconds = frame.pivot_table(index="seed", columns=["temperature", "reading"], values="seconds")
    return (seconds[ours] / seconds[theirs]).dropna().tolist() if {ours, theirs} <= set(seconds.columns) else []


def verdicts(frame: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    return judged(claims(frame))


def claims(frame: pd.DataFrame) -> list[Claim]:
    """The headline claims on this kit's runs: for each baseline, the mean over configurations, seed by seed."""
    found = []
    for baseline in BASELINES:
        against = f"{baseline[0]}, Eq. (1) {baseline[1]}"
        for text, column, paper, unit, measure in (
            ("raises mean test Top-1", "test_top1", "+2.45 % (of training Top-1)", "points", gain),
            ("raises mean training Top-1", "train_top1", "+2.45 %", "points", gain),
            (
                "raises mean test Top-5",
                "test_top5",
                f"{_printed_gain(baseline[0]):+.2f} points in Table 3",
                "points",
                gain,
            ),
            ("saves time on average", "seconds", "+26.33 %", "%", saving),
            ("saves FLOPs on average", "student_flops+teacher_flops", "+26.33 % of the time", "%", saving),
        ):
            means = _mean_over_configurations(frame, baseline, column, measure)
            found.append(Claim(f"the method {text}", "Table 3, Section 2.4", paper, unit, t_interval(means), against))
    return found


def _mean_over_configurations(frame: pd.DataFrame, baseline: tuple[str, str], column: str, measure) -> list[float]:
    """For each seed, the mean over configurations of our gain or saving: what an interval over seeds is made of."""
    return [
        math.fsum(each) / len(each)
        for _, of_seed in frame.groupby("seed")
        if (each := [measure(group, OURS, baseline, column).mean for _, group in of_seed.groupby("group", sort=False)])
    ]


def _printed_gain(T: str) -> float:
    gains = [cells["adaptive"].top5 - cells[T].top5 for cells in TABLE_3.values()]
    return math.fsum(gains) / len(gains)


# ---- the first notebook's run, and the temperature's rate ---------------------------------------------------------


def first_run(plan: Plan) -> Row:
    """The first row's adaptive student, once: what notebook 00 shows."""
    return rows(plan, [OURS], 1, FIRST.role, FIRST.student, FIRST.explained, FIRST.small)[0]


def rates(plan: Plan, seeds: int = 2) -> list[Row]:
    """The same student at several rates of θ: how the soft stages' length and the student depend on it."""
    role, big, small, student = SWEPT

    def at(rate: float) -> Row:
        def stages(epochs: int) -> tuple[recipe.Stage, ...]:
            return recipe.small_teacher(recipe.adaptive(epochs, rate=rate * recipe.RATE / epochs))

        runs = tuple(plan.student(student, role, stages, big, small, seed) for seed in range(seeds))
        return Row("adaptive", f"rate {runs[0].recipe.stages[0].temperature.rate:g} per epoch", runs, role)

    return [at(rate) for rate in RATES]
