"""Table 3: the whole method. A small teacher, then the big teacher, then hard labels, in eight configurations."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import hypot
from statistics import fmean

import pandas as pd

from kit import recipe
from kit.errors import one_of
from kit.models import TITLES
from kit.paper.claims import Claim, Data, has, number, own_claims, plus_minus, time_ratio
from kit.paper.plan import Plan, Row, Ways, accuracies, cells, data_of, judging, papers, rows, soft_ends, training
from kit.paper.printed import ROLE_TITLES, TABLE_3, TABLE_3_EPOCHS, UNPRINTED, Configuration, Timed, as_printed

ROLES = tuple(dict.fromkeys(configuration.role for configuration in TABLE_3))
FIRST = next(iter(TABLE_3))  # CIFAR-10: ResNet-34 explained, VGG-19 small teacher, VGG-16 student
SWEPT = Configuration("cifar-100", "resnet50", "vgg19", "vgg16")  # where the temperature's rate is varied
RATES = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the default rate

OURS = ("adaptive", "three steps")
BASELINES = (("T=5", "printed"), ("T=5", "hinton"), ("T=20", "printed"), ("T=20", "hinton"))
PROCEDURES = papers(*BASELINES, OURS)


def title(configuration: Configuration) -> str:
    """`CIFAR-10 · ResNet-34, VGG-19 → VGG-16`: role, explained model and small teacher, student. KitError for others
    than the paper's."""
    role, *models = configuration
    big, small, student = (TITLES[one_of("model", model, TITLES)] for model in models)
    return f"{ROLE_TITLES[one_of('role', role, ROLE_TITLES)]} · {big}, {small} → {student}"


PRINTED = {title(configuration): printed_here for configuration, printed_here in TABLE_3.items()}


def table(
    plan: Plan,
    seeds: int = 3,
    configurations: Sequence[Configuration] = tuple(TABLE_3),
    own: Ways | None = None,
) -> list[Row]:
    """One row a configuration and procedure, the reader's own by label and reading after the paper's.

    T = 5 and T = 20 go from the big teacher straight to the student.
    """
    epochs = TABLE_3_EPOCHS if plan.preset.name == "paper" else None
    found = []
    for each in configurations:
        role, big, small, student = each
        found += rows(plan, PROCEDURES, seeds, role, student, big, small, title(each), own, epochs=epochs)
    return found


run = training(table)


def printed(group: str, label: str, reading: str) -> Timed:
    """What the paper prints of a procedure in a configuration, by its title; nothing where one is the reader's own."""
    return PRINTED.get(group, {}).get(label, UNPRINTED) if (label, reading) in PROCEDURES else UNPRINTED


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """One line a configuration and procedure: the paper's Top-5 and time, and this kit's figures with intervals."""
    frame, lines = frame.assign(ratio=time_ratio(frame)), []
    for (group, label, reading), cell in frame.groupby(["group", "temperature", "reading"], sort=False):
        paper = printed(group, label, reading)
        line = {
            "configuration": group,
            "data": data_of(cell),
            "temperature": label,
            "reading": reading,
            "paper Top-5": as_printed(paper.top5, ".2f"),
            "paper time / T=5": as_printed(paper.seconds / printed(group, *BASELINES[0]).seconds, ".2f"),
        }
        measures = accuracies(cell, "train Top-1", "train Top-5", "test Top-1", "test Top-5") | {
            "CPU s": plus_minus(cell["seconds"]),
            "time / T=5": plus_minus(cell["ratio"], 2),
            "student GFLOP": number(cell["student_flops"].mean() / 1e9),
            "teacher GFLOP": number(cell["teacher_flops"].mean() / 1e9),
            "teachers' own training, CPU s": number(cell["teacher_seconds"].mean()),
            "soft stages ended at epoch": soft_ends(cell),
        }
        lines.append(line | cells(cell, measures))
    return pd.DataFrame(lines)


def claims(frame: pd.DataFrame, data: Data | None = None) -> list[Claim]:
    """The headline claims on this kit's runs: for each baseline, the mean over configurations, seed by seed.

    A configuration in which a side failed at every seed is left out, and said to be.
    """
    found = []
    for T, reading in BASELINES:
        baseline, against = (T, reading), f"{T}, Eq. (1) {reading}"
        for what, column, paper in (
            ("raises mean test Top-1", "test_top1", "+2.45 %"),
            ("raises mean training Top-1", "train_top1", "+2.45 %"),
            ("raises mean test Top-5", "test_top5", f"{printed_gain(T):+.2f} points in Table 3"),
            ("saves time on average", "seconds", "+26.33 %"),
            ("saves FLOPs on average", "student_flops+teacher_flops", "+26.33 % of the time"),
        ):
            if has(frame, column):
                said = {"text": f"the method {what}", "where": "Table 3, Section 2.4", "paper": paper}
                found.append(Claim.of(frame, OURS, baseline, column, data, against=against, **said))
        roles = {role: frame[frame["role"] == role] for role in ("imagenet", "cifar-10")}
        if all(map(len, roles.values())) and has(frame, "test_top5"):
            gains = {role: Claim.of(here, OURS, baseline, "test_top5", data) for role, here in roles.items()}
            large, small = gains.values()
            near = [f"{ROLE_TITLES[role]}: {each.at_chance}" for role, each in gains.items() if each.at_chance]
            claim = Claim(
                "the method gains more Top-5 on ImageNet than on CIFAR-10",
                "Table 3, Section 3",
                f"{printed_gain(T, 'imagenet') - printed_gain(T, 'cifar-10'):+.2f} points in Table 3",
                "points",
                large.differences - small.differences,
                against,
                quantity="gains",
                at_chance="; ".join(near),
                rounding=hypot(large.rounding, small.rounding),
                left_out=large.left_out + small.left_out,
            )
            found.append(claim)
    return found


verdicts = judging(claims)
own_verdicts = judging(partial(own_claims, papers=PROCEDURES))  # the reader's own, mean over configurations


def printed_gain(T: str, role: str | None = None) -> float:
    """By how many points of Top-5 adaptive is above T in Table 3: the mean over configurations, of one role or all."""
    gains = [c["adaptive"].top5 - c[T].top5 for names, c in TABLE_3.items() if role in (None, names.role)]
    return fmean(gains)


# ---- the first notebook's run, and the temperature's rate ---------------------------------------------------------


def first_run(plan: Plan) -> Row:
    """The first row's adaptive student, once: what notebook 00 shows."""
    return rows(plan, papers(OURS), 1, FIRST.role, FIRST.student, FIRST.explained, FIRST.small)[0]


def rates(plan: Plan, seeds: int = 2) -> list[Row]:
    """The same student at several rates of θ: how the soft stages' length and the student depend on it."""
    role, big, small, student = SWEPT
    each = [factor * recipe.RATE / plan.size(role).epochs for factor in RATES]
    swept = {("adaptive", f"rate {rate:g} per epoch"): partial(three_steps, rate=rate) for rate in each}
    return rows(plan, swept, seeds, role, student, big, small, group=role)


def three_steps(epochs: int, rate: float) -> tuple[recipe.Stage, ...]:
    return recipe.small_teacher(recipe.adaptive(epochs, rate=rate))
