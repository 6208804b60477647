"""Table 4 as pictures: one for each method, then the table and its verdicts."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kit.methods.annealing import phi
from kit.methods.complexity import complexity
from kit.methods.layer_removal import FACTORS
from kit.networks.flops import flops_per_image, parameter_count
from kit.networks.layered import LayeredSpec
from kit.paper.printed import TABLE_4
from kit.paper.table4 import BUDGETS, Comparison, printed, readings, search_log
from kit.runs.store import Result, find
from kit.show import style
from kit.show.html_tables import Table, compared_table, judged_table, plain_table
from kit.show.paper_figures import BAND, TEST_TOP1, TEST_TOP5, by_procedure
from kit.show.plots import accuracy_curves, temperature_trace, traced
from kit.show.style import INK, MUTED, SMALL, source_line
from kit.show.table_pictures import Measure
from kit.show.tables import curves

CURVE_HEIGHT = 360  # px


def caption(comparison: Comparison, *more: str) -> str:
    """What filled the role, preset, seeds, and what the preset's numbers can show."""
    frame, preset = comparison.frame, comparison.plan.preset
    data = {frame["role"].iloc[0]: f"{frame['data'].iloc[0]} ({frame['source'].iloc[0]})"}
    return source_line(data, preset.name, frame["seed"].nunique(), *more, preset.says)


def labels_of(comparison: Comparison, *keys: str) -> list[str]:
    """The labels of the readings of these keys, each key's default reading first."""
    rows = comparison.frame.drop_duplicates("label")
    return [label for key in keys for label in rows.loc[rows["method"] == key, "label"]]


def nothing_finished(comparison: Comparison, title: str, *keys: str) -> Table:
    """What stands where no run of a picture finished: what became of the rows of these keys."""
    lines = comparison.frame[comparison.frame["method"].isin(keys)]
    lines = lines[["label", "budget", "seed", "status"]].rename(columns={"label": "row", "status": "ended"})
    return plain_table(lines, title, caption(comparison))


# ---- a picture a method -------------------------------------------------------------------------------------------


def chain_figure(comparison: Comparison) -> tuple[Figure | Table, pd.DataFrame]:
    """[9]: the assistant, the student that learns from it, one whose assistant was given, and the one that learns
    straight from the big teacher."""
    split, given, ordinary = labels_of(comparison, "[9]", "hinton")
    hops: dict[str, list[Result]] = {}
    for row in comparison.rows:
        if (row.method.label, row.budget) == (split, "steps") and isinstance(row.outcome, Result):
            for number, run in enumerate(row.procedure.before, 1):
                hops.setdefault(f"assistant {number}: {run.student.title}", []).append(find(run))
    hops["student of the assistant"] = comparison.results(split)
    hops["student of a given assistant"] = comparison.results(given)
    hops["student straight from the big teacher"] = comparison.results(ordinary)
    hops = {label: results for label, results in hops.items() if results}
    title = "[9] Teacher assistant: the budget's steps are split evenly over the hops, or the assistant is given"
    numbers = curves(hops, ["train_top1", "test_top1"])
    if not hops:
        return nothing_finished(comparison, title, "[9]", "hinton"), numbers
    text = caption(comparison, "bands: 95 % t over seeds")
    return accuracy_curves(hops, title=title, caption=text, height=CURVE_HEIGHT), numbers


@style.styled()
def complexity_figure(comparison: Comparison) -> tuple[Figure, pd.DataFrame]:
    """[10]: how steep the loss is at test images, n = ‖∂CE/∂x‖₂, for the explained model and three students."""
    data = comparison.setting.data.load()
    networks = {f"explained model, {comparison.setting.big.student.title}": find(comparison.setting.big)}
    students = {label: comparison.results(label) for label in labels_of(comparison, "hinton", "[10]")}
    networks |= {label: results[0] for label, results in students.items() if results}
    norms = pd.DataFrame({name: complexity(found.student(), data).numpy() for name, found in networks.items()})
    figure = style.sheet(
        900,
        90 + 34 * len(networks) + 60,
        "[10] Complexity: how steep the loss is at each test image",
        caption(
            comparison,
            f"first seed that finished; box: quartiles of {len(norms)} test images, spread over the classes, "
            "whiskers: 5 % and 95 %",
        ),
    )
    ax = figure.subplots()
    looks = style.looks(networks)
    boxes = ax.boxplot(
        norms.to_numpy(), orientation="horizontal", whis=(5, 95), showfliers=False, widths=0.55, patch_artist=True
    )
    for box, median, name in zip(boxes["boxes"], boxes["medians"], networks, strict=True):
        box.set(facecolor=looks[name].colour, alpha=0.55, edgecolor=INK)
        median.set(color=INK, lw=1.6)
    ax.set_xscale("log")
    ax.set_yticks(range(1, len(networks) + 1), list(networks), color=INK)
    ax.invert_yaxis()
    ax.set_xlabel("n(x) = ‖∂CE(y, z(x))/∂x‖₂, normalised pixels")
    return style.settle(figure), norms.rename_axis("test image").reset_index()


@style.styled()
def search_figure(comparison: Comparison) -> Figure:
    """[11]: the best reward after each sample, the controller beside its random twin; and what every sample costs."""
    log = search_log(comparison)
    log = log[log["method"].str.startswith("[11]")]
    figure = style.sheet(
        style.WIDTH,
        380,
        "[11] Student search: does the controller earn its keep?",
        caption(
            comparison,
            "thick: mean over seeds, thin: each seed",
            "accuracy on held-out training images after a short distillation",
            "reward = accuracy · (cost / target)^−0.07",
        ),
    )
    left, right = figure.subplots(1, 2)
    looks = style.looks(log["method"].unique())
    for label, of_method in log.groupby("method", sort=False):
        look, wide = looks[label], of_method.pivot(index="sample", columns="seed", values="best")
        left.plot(wide.index, wide, color=look.colour, lw=0.8, alpha=0.5)
        left.plot(wide.index, wide.mean(axis=1), color=look.colour, ls=look.line, lw=2.2, label=label)
        trained = of_method.dropna(subset="accuracy")
        right.scatter(trained["cost"] / 1e6, 100 * trained["accuracy"], s=22, color=look.colour, label=label, alpha=0.8)
    setting, target, named = comparison.setting, comparison.setting.cost_target, "the target"
    if target is None:
        target, named = flops_per_image(setting.student, setting.data.px)[0], f"{setting.student.title} (the target)"
    right.axvline(target / 1e6, color=MUTED, lw=1, ls=(0, (3, 2)))
    right.annotate(
        named, (target / 1e6, 1), (3, -3), xycoords=("data", "axes fraction"), textcoords="offset points", va="top",
        fontsize=SMALL, color=MUTED,
    )  # fmt: skip
    right.margins(y=0.12)  # room for the target's name
    left.set(xlabel="samples", ylabel="best reward so far")
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.legend(loc="best")
    right.set(xlabel="MFLOP an image", ylabel="held-out Top-1 %")
    return style.settle(figure)


@style.styled()
def removal_figure(comparison: Comparison) -> tuple[Figure, pd.DataFrame]:
    """[12] at the first seed: each candidate's layers, kept or removed, then shrunk; beside it the reward and what it
    is made of."""
    seed = comparison.plan.first_seed
    log = comparison.found[labels_of(comparison, "[12]")[0], seed].log
    kept = layers_kept(log)
    figure = style.sheet(
        style.WIDTH,
        150 + 24 * len(log),
        f"[12] Layer removal: the candidates of {comparison.setting.student.title}, seed {seed}",
        caption(
            comparison,
            "left: a row a candidate, a column a layer; dark: all its channels, pale: few, white: removed",
            "C = 1 − params/params of the whole; reward C(2−C)·A/A_teacher, −1 where no layer is left",
        ),
    )
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    left.imshow(kept, aspect="auto", cmap="Blues", vmin=0, vmax=1.15, interpolation="nearest")
    left.set(xlabel="layer", xticks=range(kept.shape[1]))
    left.set_yticks(range(len(log)), [f"{row.sample} {row.phase}" for row in log.itertuples()], color=INK)
    left.grid(visible=False)
    rows = np.arange(len(log))
    right.plot(log["reward"], rows, color=style.VERMILLION, marker="o", ls="", label="reward")
    right.plot(log["accuracy"], rows, color=style.BLUE, marker="s", ls="", mfc="white", label="held-out Top-1")
    compression = 1 - log["params"] / parameter_count(LayeredSpec.of(comparison.setting.student).build())
    right.plot(compression, rows, color=style.GREEN, marker="D", ls="", mfc="white", label="compression C")
    right.set_ylim(left.get_ylim())
    right.set_yticks([])
    right.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3)
    return style.settle(figure), log


def layers_kept(log: pd.DataFrame) -> np.ndarray:
    """Of every candidate and layer of the whole network the share of channels that is left, (candidates, layers)."""
    removals = log[log["phase"] == "remove"]
    networks = removals[removals["params"] > 0]  # the best of them was shrunk, even if none could be trained
    layers = len(removals["choices"].iloc[0])
    base = np.ones(layers)
    if len(networks):
        base = np.array(networks.loc[networks["reward"].idxmax(), "choices"], dtype=float)
    rows = []
    for candidate in log.itertuples():
        if candidate.phase == "remove":
            rows.append(np.array(candidate.choices, dtype=float))
        else:
            row = base.copy()
            row[base > 0] = [FACTORS[choice] for choice in candidate.choices]
            rows.append(row)
    return np.stack(rows)


@style.styled()
def annealing_figure(comparison: Comparison) -> tuple[Figure | Table, pd.DataFrame]:
    """[13]: Φ(T) along the run, and the accuracy of both readings beside ordinary distillation."""
    labels = labels_of(comparison, "[13]", "hinton")
    runs = {label: results for label in labels if (results := comparison.results(label))}
    title, numbers = "[13] The paper does not say what it is; two readings", curves(runs, ["test_top1"])
    if labels[0] not in runs:
        return nothing_finished(comparison, title, "[13]", "hinton"), numbers
    text = caption(comparison, "bands: 95 % t over seeds", "left: first seed that finished")
    figure = style.sheet(style.WIDTH, CURVE_HEIGHT, title, text)
    left, right = figure.subplots(1, 2)
    steps = runs[labels[0]][0].steps
    soft, T = steps[steps["t"].notna()], comparison.setting.T
    left.plot(soft["step"], [phi(t, T) for t in soft["t_used"]], color=style.VERMILLION)
    left.axvspan(len(soft), len(steps), color=style.STAGES["hard labels"], lw=0)
    left.text((len(soft) + len(steps)) / 2, 0.5, "hard labels", ha="center", rotation=90, color=MUTED)
    left.set(xlabel="step", ylabel="Φ(T) = 1 − (T−1)/T_max", ylim=(0, 1.03), xlim=(1, len(steps)))
    looks = style.looks(runs)
    for label, curve in numbers.groupby("label", sort=False):
        look = looks[label]
        right.plot(curve["iteration"], curve["test_top1"], color=look.colour, ls=look.line, label=label)
        low, high = curve["test_top1_low"], curve["test_top1_high"]
        if low.notna().all():
            right.fill_between(curve["iteration"], low, high, color=look.colour, alpha=0.13, lw=0)
    highest = numbers[["test_top1", "test_top1_high"]].clip(upper=100).max(axis=None)
    right.set(xlabel="step", ylabel="test Top-1 %", ylim=(0, 1.35 * highest))
    right.legend(loc="upper left")
    return style.settle(figure), numbers


def ours_figure(comparison: Comparison) -> tuple[Figure | Table, pd.DataFrame]:
    """t and ⌊t⌋ of ours, its three steps shaded."""
    results = comparison.results(*labels_of(comparison, "ours"))
    title = "Ours: t falls while the student follows the small teacher, then again with the big one"
    if not results:
        return nothing_finished(comparison, title, "ours"), pd.DataFrame()
    return temperature_trace(results, title=title, caption=caption(comparison)), traced(results[0])


# ---- the table ----------------------------------------------------------------------------------------------------


def table_4(comparison: Comparison, budget: str = "steps") -> Table:
    """One budget's table: the paper's Top-1, Top-5 and time beside this kit's; time as a ratio to ours, as printed."""
    frame = comparison.frame
    title = f"Table 4 · The paper's method and five others, each given {BUDGETS[budget]}"
    here = frame[frame["budget"] == budget]
    if here.empty:  # ours took no time that others could be given
        return nothing_finished(comparison, title, "ours")
    ours = here[here["method"] == "ours"].set_index("seed")["seconds_total"]
    here = here.assign(ratio=here["seconds_total"] / here["seed"].map(ours), tflop=here["flops"] / 1e12)
    measures = [
        TEST_TOP1,
        TEST_TOP5,
        Measure("seconds_total", "CPU s, whole"),
        Measure("seconds_student", "student alone"),
        Measure("tflop", "TFLOP, whole", digits=2),
        *([] if budget == "steps" else [Measure("steps", "steps", digits=0)]),  # else they are all alike
        Measure("ratio", "time / ours", digits=2, dots=True, reference=1.0),
    ]
    cells = by_procedure(here, ["method", "title", "label"], measures)
    size, shared = comparison.setting.search, ", shared by both tables" if frame["budget"].nunique() > 1 else ""
    paper = pd.DataFrame([printed(frame, key, label) for key, _, label in cells.index])
    paper["ratio"] = paper["seconds"] / TABLE_4["ours"].seconds
    return compared_table(
        cells,
        ["method", "title"],
        measures,
        paper.rename(columns={"top1": "test_top1", "top5": "test_top5"}),
        label="label",
        title=title,
        width=1640,
        caption=caption(
            comparison,
            BAND,
            f"one search a seed{shared}: {size.rounds} rounds of {size.candidates} candidates, {size.epochs} "
            f"epoch{'s'[: size.epochs > 1]} each on {1 - size.held_out:.0%} of the training images",
            "time: process CPU seconds, candidates and assistants in, the explained model's and the small teacher's "
            "own training out",
            "paper: CIFAR-100, 150 epochs; it does not say what [13] is",
        ),
    )


def readings_figure(comparison: Comparison) -> Table:
    """What each row is a reading of."""
    named = {"reading": "what it is here", "cite": "which paper is meant"}
    return plain_table(
        readings(comparison.frame).rename(columns=named),
        title="What each row is a reading of",
        max_width=style.WIDTH + 160,
    )


def verdicts(comparison: Comparison, claims: pd.DataFrame, title: str) -> Table:
    """Claims as a table: what the paper says, what was measured, and the verdict that follows."""
    return judged_table(claims, title, caption(comparison))


def headline(claims: pd.DataFrame) -> pd.Series:
    """Which claims are about ranks and baselines, not about one other method."""
    return ~(claims["where"].eq("Table 4") & claims["claim"].str.contains("[", regex=False))
