"""kit.show: numbers as text, files with stable bytes, figures whose text can be read, and the temperature explorer."""

from __future__ import annotations

import asyncio
import io
import math
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from drawn_texts import cut, drawn_texts
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from scipy import stats
from scipy.special import softmax

from kit import recipe
from kit.derivation import gradient_curves
from kit.errors import KitError
from kit.losses import eq1_hinton, eq1_printed, temperature_gradient
from kit.paper import table3
from kit.paper.claims import FAILS, HOLDS, OPEN, Claim, judged
from kit.paper.plan import Plan
from kit.runs.spec import Run
from kit.runs.training import train
from kit.show import (
    artefacts,
    claims_at_a_glance,
    derivation_plots,
    html_tables,
    pages,
    panels,
    paper_figures,
    plots,
    style,
    tables,
)
from kit.show.artefacts import csv_bytes, picture, png_bytes, save
from kit.show.explore import explore
from kit.show.table_pictures import Measure
from kit.show.widgets import temperature_explorer
from kit.temperature import Adaptive

CAPTION = style.source_line(
    {"cifar-100": "generated 100 classes (embedded)"}, "quick", 3, "bands: 95 % t-interval", "a second line " * 9
)


def fake_run(label: str, seed: int = 0, epochs: int = 6, per_epoch: int = 10, ends: tuple[float, float] = (0.4, 0.65)):
    """A finished run as the kit's trainer records it."""
    rng = np.random.default_rng(seed)
    n = epochs * per_epoch
    stage, t = np.full(n, "hard labels", dtype=object), np.full(n, np.nan)
    stages = [{"name": "hard labels", "steps": n, "ended_by": "budget", "t_end": None}]
    if label.startswith("T="):
        stage[:], t[:] = "big teacher", float(re.findall(r"\d+", label)[0])
        stages = [{"name": "big teacher", "steps": n, "ended_by": "budget", "t_end": t[0]}]
    elif label.startswith("adaptive"):
        a, b = (int(end * n) for end in ends)
        stage[:a], stage[a:b] = "small teacher", "big teacher"
        t[:a], t[a:b] = np.geomspace(20, 1, a), np.geomspace(20, 2.5, b - a)
        stages = [
            {"name": "small teacher", "steps": a, "ended_by": "temperature", "t_end": 1.0},
            {"name": "no step was left for it", "steps": 0, "ended_by": "budget", "t_end": 20.0},
            {"name": "big teacher", "steps": b - a, "ended_by": "budget", "t_end": 2.25},
            *stages,
        ]
    steps = {"step": np.arange(n), "epoch": (np.arange(n) + 1) / per_epoch, "stage": stage, "loss": 1.0, "t": t}
    epoch = np.arange(1, epochs + 1)
    right = 0.6 * (1 - np.exp(-epoch / 2)) + 0.02 * rng.standard_normal(epochs)
    return SimpleNamespace(
        label=label,
        seed=seed,
        steps=pd.DataFrame(steps | {"t_used": np.floor(t), "lr": 0.1, "batch_top1": 0.5}),
        epochs=pd.DataFrame({"epoch": epoch, "test_top1": right, "train_top1": right + 0.05}),
        metrics={"stages": stages},
    )


def logits(n: int = 64, c: int = 12) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    zt = 3 * torch.randn(n, c, generator=generator)
    zs = 0.6 * zt + torch.randn(n, c, generator=generator)
    return zt, zs, zt.argmax(1)


CLASSES = [f"class {i} of a long name" for i in range(12)]
LABELS = ("hard labels", "T=5 (printed)", "T=5 (hinton)", "T=20 (printed)", "T=20 (hinton)", "adaptive")


# -- tables -----------------------------------------------------------------------------------------------------------


def test_interval_is_the_t_interval():
    mean, low, high = tables.interval([1.0, 2.0, 3.0])
    assert mean == 2
    assert high - mean == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)  # t(0.975, 2) = 4.302653, s = 1
    values = [0.5, 0.61, 0.58, 0.55, float("nan")]
    wanted = stats.t.interval(0.95, 3, loc=np.mean(values[:4]), scale=stats.sem(values[:4]))
    assert tables.interval(values)[1:] == pytest.approx(wanted)
    assert low < mean


def test_interval_of_one_value_has_no_bounds():
    mean, low, high = tables.interval([0.4])
    assert mean == 0.4 and math.isnan(low) and math.isnan(high)
    assert math.isnan(tables.interval([])[0])


def test_numbers_as_text():
    assert tables.with_interval([0.56, 0.57, 0.58]) == "57.0 ± 2.5"
    assert tables.with_interval([0.573]) == "57.3"
    assert tables.with_interval([]) == "–"
    assert tables.with_interval([40, 44], percent=False, digits=0) == "42 ± 25"
    assert tables.with_interval([-0.01, -0.01], percent=False) == "0.0 ± 0.0"  # no zero has a sign


def test_curves_count_iterations_and_seeds():
    runs = {"adaptive": [fake_run("adaptive", seed) for seed in range(3)], "T=5": [fake_run("T=5")]}
    data = tables.curves(runs, ["test_top1"])
    one = data[data["label"] == "adaptive"]
    assert one["iteration"].tolist() == [10, 20, 30, 40, 50, 60] and set(one["seeds"]) == {3}
    third = [100 * run.epochs["test_top1"][2] for run in runs["adaptive"]]
    assert tuple(one.iloc[2][["test_top1", "test_top1_low", "test_top1_high"]]) == pytest.approx(tables.interval(third))
    assert data[data["label"] == "T=5"]["test_top1_low"].isna().all()


# -- style ------------------------------------------------------------------------------------------------------------


def test_a_label_keeps_its_colour_and_readings_differ_without_it():
    looks = style.looks(LABELS)
    assert looks["T=5 (printed)"].colour == looks["T=5 (hinton)"].colour == style.looks(["T=5"])["T=5"].colour
    assert (looks["T=5 (printed)"].line, looks["T=5 (printed)"].filled) != (looks["T=5 (hinton)"].line, False)
    assert looks["T=20 (printed)"].colour != looks["T=5 (printed)"].colour  # T=2… is no T=20 and no T=5
    assert style.looks(["T=50"])["T=50"].colour not in (looks["T=5 (hinton)"].colour, looks["adaptive"].colour)
    assert len(set(style.looks(["adaptive", "adaptive, rate 5", "adaptive, rate 9"]).values())) == 3


def test_a_label_that_ends_in_hard_labels_is_another_than_hard_labels():
    table = style.looks(
        ["hard labels, no teacher", "falling, then hard labels", "T=4, α = 1", "rising, then hard labels"]
    )
    curves = style.looks(["falling", "T=4", "rising"])
    assert len({look.colour for look in table.values()}) == 4
    assert [look.colour for look in table.values()][1:] == [look.colour for look in curves.values()]


def test_a_fall_is_told_of_the_stages_whose_temperature_moves():
    warm = {"name": "small teacher", "t_start": 20.0, "t_end": 2.25, "ended_by": "budget"}
    cold = {"name": "big teacher", "t_start": 20.0, "t_end": 1.0, "ended_by": "temperature"}
    hard = {"name": "hard labels", "t_start": None, "t_end": None, "ended_by": "budget"}
    fixed = {"name": "big teacher", "t_start": 4.0, "t_end": 4.0, "ended_by": "budget"}
    for stages, ends, said in (
        (recipe.small_teacher(Adaptive(rate=20)), [warm, cold, hard],
         "The temperature falls to 1 by itself in 1 of 2 soft stages; by budget ends small teacher at t = 2.2"),
        (recipe.eq1(4.0, "hinton"), [fixed], ""),
        (recipe.hard_labels(), [hard], ""),
    ):  # fmt: skip
        run = SimpleNamespace(recipe=recipe.Recipe(stages=stages, epochs=3))
        assert paper_figures.fall(SimpleNamespace(run=run, metrics={"stages": ends})) == said


def test_an_interval_is_not_drawn_beyond_what_a_measure_can_be():
    plan = Plan.of("smoke")
    rows = table3.rates(plan, 2)
    lines = [
        {"run": run.hash, "status": "finished", "test_top1": 0.01 + 0.02 * i, "soft_end": 2.0 - i, "epochs": 2,
         "seconds": 0.1 + i}
        for row in rows for i, run in enumerate(row.runs)
    ]  # fmt: skip
    figure, numbers = paper_figures.rates_figure(plan, rows, pd.DataFrame(lines))
    assert (numbers["test_top1_low"] < 0).all() and (numbers["soft_share_high"] > 100).all()
    for ax, most in zip(figure.axes, (100, 100, np.inf), strict=True):
        ends = np.concatenate(ax.collections[0].get_segments())[:, 1]
        assert ends.min() >= 0 and ends.max() <= most


def test_spread_moves_things_apart_and_no_further():
    assert style.spread([0.2, 0.8], [0.1, 0.1], 0, 1).tolist() == [0.2, 0.8]
    sizes = np.full(5, 0.1)
    places = style.spread([0.97, 0.5, 0.51, 0.98, 0.96], sizes, 0, 1)
    assert all(b - a >= 0.1 - 1e-9 for a, b in pairwise(sorted(places)))
    assert places.max() == pytest.approx(0.95) and places[1] == pytest.approx(0.455)
    crowded = style.spread([0.5] * 20, [0.1] * 20, 0, 1)
    assert 0 <= crowded.min() and crowded.max() <= 1


def test_wrapping_keeps_words_and_width():
    text = "cifar-100 role filled by: generated 100 classes · bands: 95 % t-interval"
    lines = style.wrapped(text, 150, style.SMALL).split("\n")
    assert max(style.text_size(line, style.SMALL)[0] for line in lines) <= 150
    assert " ".join(lines).replace("\u00a0", " ") == text
    assert style.text_size(style.shortened("a very long name indeed", 60))[0] <= 60


def test_styled_gives_the_users_settings_back():
    with matplotlib.rc_context({"font.size": 31}):
        with style.styled():
            assert matplotlib.rcParams["font.size"] == style.TEXT
        assert matplotlib.rcParams["font.size"] == 31


# -- files ------------------------------------------------------------------------------------------------------------

SAVES = """
import sys
import matplotlib
if sys.argv[2] == "mine":
    matplotlib.rcParams.update({"font.size": 17, "axes.grid": False, "svg.fonttype": "none", "savefig.dpi": 33})
sys.path.insert(0, sys.argv[3])
import test_show as fakes
from kit.show import plots, tables, widgets
from kit.show.artefacts import save
runs = {label: [fakes.fake_run(label, seed) for seed in range(3)] for label in ("T=5", "adaptive")}
save(plots.accuracy_curves(runs, caption="c"), "curves", sys.argv[1], tables.curves(runs, ["test_top1"]))
save(plots.temperature_trace(runs["adaptive"]), "trace", sys.argv[1])
assert "matplotlib.pyplot" not in sys.modules, "something imports pyplot"
"""


def test_two_processes_write_the_same_bytes(tmp_path: Path):
    started = []
    for name in ("yours", "mine"):
        environment = os.environ | {"PYTHONHASHSEED": "1" if name == "mine" else "2"}
        here = str(Path(__file__).parent)
        command = [sys.executable, "-c", SAVES, str(tmp_path / name), name, here]
        started.append(subprocess.Popen(command, env=environment, cwd=Path(here).parents[1]))
    assert [process.wait(120) for process in started] == [0, 0]
    names = sorted(path.name for path in (tmp_path / "mine").iterdir())
    assert names == ["curves.csv", "curves.png", "curves.svg", "trace.png", "trace.svg"]
    for name in names:
        assert (tmp_path / "mine" / name).read_bytes() == (tmp_path / "yours" / name).read_bytes(), name


def test_saving_twice_gives_the_same_bytes_and_nothing_personal(tmp_path: Path):
    figure = plots.temperature_trace(fake_run("adaptive"), caption=CAPTION)
    paths = save(figure, "trace", tmp_path / "one")
    again = save(figure, "trace", tmp_path / "two")
    for first, second in zip(paths, again, strict=True):
        assert first.read_bytes() == second.read_bytes()
        assert b"atplotlib" not in first.read_bytes().replace(b"matplotlib.axis", b"")
    assert b"<dc:date>" not in paths[1].read_bytes()
    assert b"<text" not in paths[1].read_bytes()  # outlines: no font is needed


def test_pictures_of_text_are_saved_small_and_look_the_same(tmp_path: Path):
    df = pd.DataFrame({"claim": ["it holds here"] * 30, "measured": np.arange(30.0)})
    table = html_tables.plain_table(df, "A table").picture()
    image, _ = save(table, "table", tmp_path)
    whole = png_bytes(table, scale=2)
    assert image.stat().st_size < 0.6 * len(whole)
    pixels = [np.asarray(Image.open(source).convert("RGB"), int) for source in (image, io.BytesIO(whole))]
    assert np.abs(pixels[0] - pixels[1]).max() <= 8  # of 255
    noise = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    image, _ = save(pages.contact_sheet(noise), "sheet", tmp_path)
    assert Image.open(image).mode != "P"  # colours that a palette would lose


def test_save_writes_nothing_without_a_folder_and_refuses_paths(tmp_path: Path, monkeypatch):
    figure = style.new_figure(100, 100)
    assert save(figure, "f", None) is None
    with pytest.raises(KitError, match="name '../f' is not allowed"):
        save(figure, "../f", tmp_path)
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save(figure, "f", tmp_path)
    assert list(tmp_path.iterdir()) == []  # no half-written file stays


def test_csv_has_fixed_digits_and_line_ends():
    assert csv_bytes(pd.DataFrame({"a": [1 / 3, 2.0], "b": ["x", None]})) == b"a,b\n0.333333,x\n2,\n"
    assert csv_bytes(pd.DataFrame({"a": [1]}, index=["row"])) == b",a\nrow,1\n"


def test_notebook_picture_is_sharp_and_described():
    table = html_tables.plain_table(pd.DataFrame({"a": [1]}), title="Table 9")
    shown = picture(table.picture())
    width = int.from_bytes(shown.data[16:20], "big")
    assert abs(width - 2 * shown.width) <= 2 and shown.alt == "Table 9"
    assert picture(table).data == png_bytes(table, scale=2) == shown.data  # of a table its picture


# -- figures ----------------------------------------------------------------------------------------------------------


def frame_of_rows() -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(0)
    rows = [
        {"dataset": "cifar-100", "student": student, "temperature": label, "top1": 0.5 + 0.02 * rng.standard_normal(3),
         "ratio": 1 + 0.1 * rng.standard_normal(3)}
        for student in ("ResNet-34", "VGG-16") for label in LABELS
    ]  # fmt: skip
    return pd.DataFrame(rows), pd.DataFrame({"top1": [np.nan, 88.9, np.nan, 92.1, np.nan, 95.32] * 2})


@style.styled()
def softened_bars(
    zt, zs, t: float, top: int = 8, true: int | None = None, title: str = "", caption: str = ""
) -> Figure:
    """The explorer's bars as a figure of their own."""
    figure = style.sheet(560, 340, title, caption)
    panels.Softened(figure.subplots(), CLASSES, top).update(zt, zs, t, true)
    return style.settle(figure)


@style.styled()
def gradient_terms(zt, zs, t: float, k: float, title: str = "", caption: str = ""):
    """The explorer's gradient as a figure of its own."""
    figure = style.sheet(560, 440, title, caption)
    panels.GradientTerms(*figure.subplots(2, 1, height_ratios=(2, 3)), zt, zs, k).update(t, k)
    return style.settle(figure)


def claims_made(of: int, seeds: int = 3) -> list[Claim]:
    """Claims of two procedures against some baselines, with a longer name for each third."""
    rng = np.random.default_rng(of)
    return [
        Claim(
            f"the {'adaptive and small-teacher-assisted ' * (i % 3 == 0)}method gains {i // 4}",
            "Table 9",
            f"{paper:+.1f} points" if i % 5 else "by eye",
            "points",
            pd.Series(effect + rng.standard_normal(seeds)),
            f"baseline {i % 4}, seed by seed, with an equal number of steps",
            "Top-1",
        )
        for i, (paper, effect) in enumerate(zip(rng.normal(0, 30, of), rng.choice([0, 2, -8, 300], of), strict=True))
    ]


def all_figures() -> dict[str, Figure]:
    runs = {label: [fake_run(label, seed) for seed in range(3)] for label in LABELS}
    rows, paper = frame_of_rows()
    zt, zs, _ = logits()
    text = {"title": "A title that is long enough to need more than one line in all but the widest figures here: " * 2}
    text["caption"] = CAPTION
    sweep = pd.DataFrame({"rate": [2.5, 5, 10, 11, 80], "acc": [48, 53, 56, 52, 51], "s": [80, 58, 47, 43, 38]})
    sweep = sweep.assign(acc_low=sweep["acc"] - 1, acc_high=sweep["acc"] + 1)
    method = "a loss that minimises the complexity gap between teacher and student " * 3
    measures = [
        Measure("top1", "test Top-1 %", 100, dots=True),
        Measure("ratio", "time / T=20", digits=2, dots=True, reference=1),
    ]
    images, derived = np.zeros((11, 16, 24, 3), np.uint8), gradient_curves(8, points=61)
    return {
        "curves": plots.accuracy_curves(runs, **text),
        "curves of one seed": plots.accuracy_curves({k: v[:1] for k, v in runs.items()}, **text),
        "trace": plots.temperature_trace(runs["adaptive"], **text),
        "trace with short stages": plots.temperature_trace(fake_run("adaptive", epochs=40, ends=(0.03, 0.06)), **text),
        "trace at fixed T": plots.temperature_trace(runs["T=5 (printed)"], **text),
        "trace without t": plots.temperature_trace(runs["hard labels"], **text),
        "comparison": html_tables.compared_table(
            rows, ["dataset", "student", "temperature"], measures, paper, **text
        ).picture(),
        "table": html_tables.plain_table(
            pd.DataFrame({"ref": ["[10]", "[11]"], "method": method, "s": [18040, None]}), **text
        ).picture(),
        "verdicts": html_tables.judged_table(judged(claims_made(6)), "Judged", CAPTION).picture(),
        "glance": claims_at_a_glance({f"Table {n}": judged(claims_made(10 * n)) for n in range(1, 6)}, CAPTION),
        "glance at a few": claims_at_a_glance({"Table 1": judged(claims_made(3, seeds=1))}, CAPTION),
        "sweep": plots.sensitivity(sweep, "rate", ["acc", "s"], **text),
        "images": pages.contact_sheet(images, [f"class {i}: something" for i in range(11)], 4, **text),
        "bars": softened_bars(zt[0], zs[0], 4, true=3, **text),
        "gradient": gradient_terms(zt, zs, 7, 20, **text),
        "gradient at K=1": gradient_terms(zt, zs, 1, 1, **text),
        "derived gradient": derivation_plots.gradient_figure(derived, CAPTION),
        "derived limits": derivation_plots.limits_figure(derived, CAPTION),
        "derived steps": derivation_plots.step_figure(derived, CAPTION),
    }


@pytest.fixture(scope="module")
def figures() -> dict[str, Figure]:
    return all_figures()


def test_all_text_is_inside_the_canvas_and_none_overlaps(figures: dict[str, Figure]):
    for name, figure in figures.items():
        texts = drawn_texts(figure)
        assert any(text.startswith("cifar-100 role") for text, _ in texts), f"{name}: no caption"
        assert not cut(figure, texts), name
        for (one, a), (two, b) in combinations(texts, 2):
            across, down = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
            assert across <= 1 or down <= 2, f"{name}: {one!r} and {two!r} overlap"


def test_figures_fit_a_page(figures: dict[str, Figure]):
    assert all(figure.get_figwidth() * style.DPI <= 1181 for figure in figures.values())


def test_curves_draw_the_numbers(figures: dict[str, Figure]):
    runs = {label: [fake_run(label, seed) for seed in range(3)] for label in LABELS}
    wanted = tables.curves(runs, ["test_top1"]).set_index("label")
    test_panel = figures["curves"].axes[1]
    for line, label in zip(test_panel.lines, LABELS, strict=False):
        assert line.get_ydata() == pytest.approx(wanted.loc[label, "test_top1"].to_numpy())
    low, high = test_panel.get_ylim()
    assert low < wanted["test_top1"].min() and high > wanted["test_top1"].max()
    assert any(text.get_text().startswith("adaptive  ") for text in test_panel.texts)


def test_bands_are_drawn_whole_as_far_as_an_accuracy_can_be():
    for worst, whole in ((0.7, True), (0.1, False)):
        seeds = [fake_run("adaptive", seed) for seed in range(3)]
        seeds[0].epochs["test_top1"] *= worst
        last = tables.curves({"adaptive": seeds}, ["test_top1"]).iloc[-1]
        assert (last["test_top1_high"] < 100) == whole
        low, high = plots.accuracy_curves({"adaptive": seeds}).axes[1].get_ylim()
        assert 102 >= high > min(100, last["test_top1_high"]) and 0 <= low < max(0.1, last["test_top1_low"])


def test_trace_names_stages_and_what_ended_them(figures: dict[str, Figure]):
    spans = plots.stage_spans(fake_run("adaptive"))
    assert [(s["name"], s["first"], s["last"], s["ended_by"]) for s in spans] == [
        ("small teacher", 0, 23, "temperature"), ("big teacher", 24, 38, "budget"), ("hard labels", 39, 59, "budget"),
    ]  # fmt: skip
    texts = [text for text, _ in drawn_texts(figures["trace"])]
    assert {"small teacher", "ended by temperature", "at epoch 2.4", "K=20"} <= set(texts)
    assert "T=5" in [text for text, _ in drawn_texts(figures["trace at fixed T"])]


def test_a_trace_ends_where_its_last_step_left_the_temperature():
    seeds = [fake_run("adaptive", seed) for seed in range(2)]
    lines = [line.get_xydata().tolist() for line in plots.temperature_trace(seeds).axes[0].lines]
    assert [line[-1] for line in lines if line[0] == [24, 20]] == [[39, 2.25], [39, 2], [39, 2.25]]  # others' t, ⌊t⌋, t
    assert [line[-1] for line in lines if line[0] == [0, 20] and len(line) > 2] == [[24, 1]] * 3
    numbers = plots.traced(seeds[0])
    assert numbers.groupby("stage", sort=False)["t"].last().dropna().to_dict() == {
        "small teacher": 1.0,
        "big teacher": 2.25,
    }
    assert len(numbers) == len(seeds[0].steps) + 2 and numbers["step"].is_monotonic_increasing


def test_stages_of_the_same_name_are_told_apart():
    """Where the first has ended is in the record of its steps: 24 of 39 that are called alike."""
    run = fake_run("adaptive")
    run.steps["stage"] = run.steps["stage"].replace("big teacher", "small teacher")
    spans = [(span["name"], span["first"], span["last"], span["t_end"]) for span in plots.stage_spans(run)]
    assert spans[:2] == [("small teacher", 0, 23, 1.0), ("small teacher", 24, 38, 2.25)]
    lines = [line.get_xydata().tolist() for line in plots.temperature_trace(run).axes[0].lines]
    assert [24, 1] in [line[-1] for line in lines] and [24, 20] in [line[0] for line in lines]


@pytest.mark.parametrize("values", [[25.0, 25.0], [25.0, 25.0 + 1e-9], [0.0], [1.0, 1.0001], [0.5, 60.0]])
def test_dots_that_are_all_alike_have_a_scale_without_an_offset(values):
    df = pd.DataFrame({"row": [f"row {i}" for i in range(len(values))], "top1": [[value] for value in values]})
    figure = html_tables.compared_table(df, ["row"], [Measure("top1", "Top-1 %", dots=True)]).picture()
    panel = figure.axes[-1]
    drawn_texts(figure)
    low, high = panel.get_xlim()
    assert panel.xaxis.get_offset_text().get_text() == "" and low < min(values) and high > max(values)


def test_comparison_shows_ours_beside_the_papers(figures: dict[str, Figure]):
    rows, _ = frame_of_rows()
    texts = [text for text, _ in drawn_texts(figures["comparison"])]
    assert tables.with_interval(rows["top1"][5]) in texts and "95.32" in texts
    assert texts.count("ResNet-34") == 1 and texts.count("adaptive") == 2  # repeats left of the last column are blank


def test_a_glance_shows_each_claim_where_its_verdict_is():
    frame = judged(claims_made(60))
    assert set(frame["verdict"]) == {HOLDS, FAILS, OPEN}
    figure = claims_at_a_glance({"Table 9": frame}, CAPTION)
    ax = figure.axes[0]
    legend = len({HOLDS, FAILS, OPEN}) + 2
    marks = [line for line in ax.lines if len(line.get_xdata()) == 1][legend:]
    drawn = [line for line in marks if line.get_color() != style.INK]
    bands = [patch for patch in ax.patches if patch.get_facecolor() == matplotlib.colors.to_rgba("#e6e6e6")]
    assert len(drawn) == len(bands) == len(frame)
    in_order = [claim for _, claims in frame.groupby("claim", sort=False) for _, claim in claims.iterrows()]
    for mark, band, claim in zip(drawn, bands, in_order, strict=True):
        (x,), (y,) = mark.get_data()
        assert band.get_y() < y < band.get_y() + band.get_height()
        where = HOLDS if x > band.get_x() + band.get_width() else FAILS if x < band.get_x() else OPEN
        assert where == claim["verdict"]
        assert mark.get_marker() in ({HOLDS: "o", FAILS: "X", OPEN: "o"}[where], "<", ">")
    papers = [line for line in marks if line.get_color() == style.INK]
    assert len(papers) == frame["printed"].notna().sum()
    without = claims_at_a_glance({"Mine": frame.drop(columns=["printed", "paper", "where"])})  # as `kit.judge` has them
    assert sum(len(line.get_xdata()) == 1 for line in without.axes[0].lines) == legend + len(frame)
    sizes = [text.get_fontsize() * style.DPI / 72 for text in figure.findobj(Text) if text.get_text()]
    assert min(sizes) >= 10  # px


@pytest.mark.parametrize("same", ["against", "text"])
def test_a_table_of_one_baseline_or_of_one_claims_words_is_split_over_both_columns(same):
    frame = judged([replace(claim, **{same: "hard labels"}) for claim in claims_made(20)])
    figure = claims_at_a_glance({"Table 9": frame}, CAPTION)
    grey = matplotlib.colors.to_rgba("#e6e6e6")
    bands = Counter(patch.get_x() for patch in figure.axes[0].patches if patch.get_facecolor() == grey)
    assert len(bands) == 2 and min(bands.values()) >= 8
    texts = Counter(text for text, _ in drawn_texts(figure))
    assert texts["Table 9, continued"] == 1 and texts["hard labels"] == (2 if same == "text" else 0)


def test_a_glance_at_one_seed_says_so():
    texts = [text for text, _ in drawn_texts(claims_at_a_glance({"Table 9": judged(claims_made(5, seeds=1))}))]
    assert "All claims at a glance: 0 hold, 0 do not, 0 cannot be told, 5 have no verdict" in texts
    assert "no verdict: n < 2" in texts


def test_contact_sheet_refuses_what_is_no_image():
    with pytest.raises(KitError, match="allowed: \\(N, H, W, 3\\) uint8"):
        pages.contact_sheet(np.zeros((3, 8, 8, 3)))
    with pytest.raises(KitError, match="images \\(3, 0, 8, 3\\) uint8 cannot be drawn"):
        pages.contact_sheet(np.zeros((3, 0, 8, 3), np.uint8))
    with pytest.raises(KitError, match="1 titles do not go with 3 images; allowed: one for each"):
        pages.contact_sheet(np.zeros((3, 8, 8, 3), np.uint8), ["a"])


@pytest.mark.parametrize("true", [0, 7, 11])
def test_bars_are_the_softened_distributions_with_the_true_class_among_them(true):
    zt, zs = np.random.RandomState(3).randn(2, 12)
    classes = [f"class {c}" for c in range(12)]
    shown = panels.distributions(torch.tensor(zt), torch.tensor(zs), 3.0, classes, true)
    pt, ps = softmax(zt / 3), softmax(zs / 3)
    chosen = [classes.index(name) for name, *_ in shown["rows"]]
    assert len(chosen) == 8 and {true, int(zs.argmax()), int(zt.argmax())} <= set(chosen)
    assert zt[chosen].tolist() == sorted(zt[chosen], reverse=True)
    for c, (_, teacher, student, marked) in zip(chosen, shown["rows"], strict=True):
        assert (teacher, student, marked) == (pytest.approx(pt[c]), pytest.approx(ps[c]), c == true)
    left = [1 - p[chosen].sum() for p in (pt, ps)]
    assert shown["others"] == f"4 other classes: teacher {left[0]:.2f}, student {left[1]:.2f}"
    assert max(*pt[chosen], *ps[chosen]) <= shown["end"]
    alone = panels.distributions(None, torch.tensor(zs), 3.0, classes, true)
    assert all(teacher is None for _, teacher, *_ in alone["rows"])
    assert "teacher" not in alone["words"] + alone["others"]
    sure = (panels.distributions(z, z, 1.0, classes, true) for z in 30 * torch.randn(100, 12))
    assert not any("-0.00" in each["others"] for each in sure)


def test_bars_are_drawn_as_described_and_without_a_teacher_the_students_alone():
    zt, zs, y = logits()
    panel = panels.Softened(style.new_figure(300, 200).add_axes((0, 0, 1, 1)), CLASSES)
    for teacher in (zt[0], None):
        panel.update(teacher, zs[0], 4.0, int(y[0]))
        rows = panels.distributions(teacher, zs[0], 4.0, panel.classes, int(y[0]))["rows"]
        widths = [[bar.get_width() for bar in bars] for bars in (panel.teacher, panel.student)]
        assert widths == [[each[1] or 0 for each in rows], [each[2] for each in rows]]
        names = [label.get_text() for label in panel.ax.get_yticklabels()]
        assert names == [f"✓ {each[0]}" if each[3] else each[0] for each in rows]
        said = [text.get_text() for text in panel.legend.texts if text.get_visible()]
        assert said == (["teacher"] if teacher is not None else []) + ["student"]
        assert ("teacher" in panel.others.get_text()) == (teacher is not None)


def test_gradient_panel_has_the_closed_form():
    zt, zs, _ = logits()
    panel = panels.GradientTerms(*style.new_figure(300, 200).subplots(2), zt, zs, 20)
    i = 60
    t = panel.t[i]
    terms = temperature_gradient(zt.double(), zs.double(), t)
    assert (panel.mismatch[i], panel.spread[i]) == pytest.approx((t * float(terms.mismatch), t * float(terms.spread)))
    slope = np.gradient(panel.loss, np.log(panel.t))  # ∂L_D/∂log t, by differences
    assert slope[1:-1] == pytest.approx((panel.mismatch + panel.spread)[1:-1], abs=0.02)


FRAME = pd.DataFrame({"rate": [1.0], "top1": [[0.5]]})


@pytest.mark.parametrize(
    ("draw", "said"),
    [
        (lambda: plots.accuracy_curves({}), "no run to draw"),
        (lambda: plots.accuracy_curves({"adaptive": []}), "no run to draw; allowed: at least one for each label"),
        (lambda: plots.accuracy_curves({"T=5": [fake_run("T=5")]}, "test_top5"), "metric 'train_top5' is not known"),
        (lambda: plots.temperature_trace([]), "no run to draw"),
        (lambda: plots.sensitivity(FRAME, "rate", "acc"), "column 'acc' is not known; allowed: rate, top1"),
        (lambda: html_tables.plain_table(FRAME, merge=["role"]), "column 'role' is not known; allowed: rate, top1"),
        (lambda: html_tables.plain_table(FRAME, merge=["top1"]), r"merge \['top1'\] is not allowed; allowed: \['rate'"),
        (lambda: html_tables.compared_table(FRAME, ["role"], []), "column 'role' is not known; allowed: rate, top1"),
        (lambda: html_tables.compared_table(FRAME, ["rate"], [], label="role"), "column 'role' is not known"),
        (lambda: tables.curves({"adaptive": []}, ["test_top1"]), "label 'adaptive' has no run to draw; allowed: at"),
        (lambda: claims_at_a_glance({}), "no verdict to draw; allowed: at least one"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(draw, said):
    with pytest.raises(KitError, match=said):
        draw()


# -- the explorer -----------------------------------------------------------------------------------------------------


@pytest.fixture
def explorer():
    zt, zs, y = logits()
    return temperature_explorer(zt, zs, y, CLASSES, images=np.zeros((64, 16, 16, 3), np.uint8))


def test_a_run_is_explored_with_the_teacher_that_it_has():
    from small_runs import hard  # here: this file is imported by processes that do not know where tests are

    big = hard(epochs=1)
    stage = recipe.eq1(20)[0].model_copy(update={"teacher": "small"})
    how = big.recipe.model_copy(update={"stages": (stage,)})
    run = Run(data=big.data, student=big.student, recipe=how, teachers={"small": big})
    found = {each: train(each) for each in (big, run)}
    assert explore(found[run], images=5).k.value == 20
    with pytest.raises(KitError, match="has no teacher; allowed: a run whose student learns from one"):
        explore(found[big])


def test_k_moves_the_picture_and_holds_t(explorer):
    before = explorer.gradient.value
    explorer.k.value = 7
    assert explorer.t.value == 7 and explorer.t.max == 7
    assert explorer.gradient.value != before and bytes(explorer.gradient.value[:4]) == b"\x89PNG"
    explorer.k.value = 1
    assert explorer.t.value == 1
    explorer.t.value = 1.1  # the slider's end, which must differ from its start
    assert explorer.t.value == 1
    explorer.k.value = 40
    explorer.t.value = 33.3
    assert explorer.t.value == 33.3


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 3e4])
def test_labels_of_logits_of_any_size_are_inside_the_picture(scale):
    zt, zs, y = logits()
    explorer = temperature_explorer(scale * zt, scale * zs, y, CLASSES)
    for ax in (explorer._terms.loss_ax, explorer._terms.slope_ax):
        assert ax.yaxis.label.get_window_extent().x0 >= 0


@pytest.fixture
def drawn(explorer, monkeypatch):
    """Counts the explorer's pictures from now on."""
    counted = Mock(side_effect=lambda pixels: b"%d" % hash(pixels.tobytes()))
    monkeypatch.setattr(artefacts, "pixels_png", counted)
    return counted


def test_only_what_changed_is_drawn(explorer, drawn):
    bars, gradient, losses = explorer.bars.value, explorer.gradient.value, explorer.losses.value
    explorer.alpha.value = 0.9
    assert (explorer.bars.value, explorer.gradient.value, drawn.call_count) == (bars, gradient, 0)
    assert explorer.losses.value != losses
    explorer.image.value = 3
    assert explorer.bars.value != bars and explorer.gradient.value == gradient and drawn.call_count == 1
    explorer.k.value = 30
    assert drawn.call_count == 2  # t and the image are the same


def test_a_picture_over_its_kept_background_is_the_same_picture(explorer):
    zt, zs, y = logits()
    explorer.t.value = 3.0
    explorer.t.value = 12.0
    fresh = temperature_explorer(zt, zs, y, CLASSES, k=12)  # at t = 12 from the first
    fresh.k.value = 20  # a new background
    assert explorer.bars.value == fresh.bars.value and explorer.gradient.value == fresh.gradient.value


def test_many_changes_make_one_picture(explorer, drawn):
    async def drag():
        for t in np.linspace(19, 5, 15):
            explorer.t.value = t
        await asyncio.sleep(0.5)

    asyncio.run(drag())
    assert drawn.call_count == 2  # bars and gradient, once each
    assert "t = 5.0" in explorer.losses.value


def test_losses_are_the_kits(explorer):
    zt, zs, y = (z.double() if z.is_floating_point() else z for z in logits())
    explorer.t.value = 6.5
    explorer.alpha.value = 0.3
    assert f"{float(eq1_printed(zt, zs, y, 6.5, 0.3)):.3f}" in explorer.losses.value
    assert f"{float(eq1_hinton(zt[:1], zs[:1], y[:1], 6.5, 0.3)):.3f}" in explorer.losses.value
    assert "⌊t⌋ = 6" in explorer.losses.value
    explorer.t.value = 1.9
    assert "L_S</td>" in explorer.losses.value  # once ⌊t⌋ = 1 the improved loss is the hard one


def test_drawing_leaves_a_training_threads_threads_alone():
    started, go_on, seen = threading.Event(), threading.Event(), []

    def train():
        torch.ones(8, 8).softmax(1)
        seen.append(torch.get_num_threads())
        started.set()
        go_on.wait(10)
        seen.append(torch.get_num_threads())

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        thread = threading.Thread(target=train)
        thread.start()
        started.wait(10)
        with panels.one_thread():
            assert torch.get_num_threads() == 1
            go_on.set()
            thread.join()
        assert seen == [2, 2] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_controls_are_named_and_fit(explorer):
    for control in (explorer.image, explorer.k, explorer.t, explorer.alpha):
        assert control.description
    assert int(explorer.layout.width.removesuffix("px")) <= 1180


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"labels": torch.zeros(3, dtype=torch.long)},
            r"shapes zt \(64, 12\), zs \(64, 12\), y \(3,\) are not allowed",
        ),
        ({"labels": torch.full((64,), 12)}, "are not allowed; allowed: whole numbers from 0 to 11"),
        ({"classes": ["a"]}, "1 classes are not allowed; allowed: 12"),
        ({"images": np.zeros((3, 8, 8, 3), np.uint8)}, "3 images are not allowed; allowed: 64"),
        ({"k": 50}, "k 50 is not allowed; allowed: 1 to 40"),
        ({"alpha": 1.5}, "alpha 1.5 is not allowed"),
    ],
)
def test_explorer_refuses_what_does_not_fit(change, message):
    zt, zs, y = logits()
    given = {"teacher_logits": zt, "student_logits": zs, "labels": y, "classes": CLASSES} | change
    with pytest.raises(KitError, match=message):
        temperature_explorer(**given)
