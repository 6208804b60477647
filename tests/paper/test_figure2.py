"""Fig. 2's scores and claims: on numbers made by hand, and on students trained for a moment."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from kit.cam import scores as cam_scores
from kit.cam.heat_maps import maps
from kit.data import load
from kit.errors import KitError
from kit.grid.training import train_all
from kit.paper import figure2
from kit.paper.claims import FAILS, HOLDS, NONE
from kit.paper.figure2 import OURS, Scenes, means, per_image, signed_rank, wider
from kit.paper.plan import Plan, runs_of
from kit.runs.store import Failure, Result

# ---- numbers made by hand --------------------------------------------------------------------------------------------


def made(gain: float, seeds: int = 3, images: int = 40, noise: float = 0.01) -> pd.DataFrame:
    """Two explained models' students: adaptive has `gain` more energy on the hull than T = 5's 0.2; chance is 0.1."""
    rng = np.random.default_rng(0)
    lines = []
    for teacher in ("ResNet-50", "VGG-19"):
        for temperature, reading, level in (
            ("T=5", "printed", 0.2), ("T=5", "hinton", 0.2), ("adaptive", "three steps", 0.2 + gain),
            ("uniform map", "", 0.1), ("oracle", "", 1.0),
        ):  # fmt: skip
            drawn = temperature in ("uniform map", "oracle")
            for seed in range(1 if drawn else seeds):
                for image in range(images):
                    value = level if drawn else level + noise * rng.standard_normal()
                    of = {"teacher": teacher, "temperature": temperature, "reading": reading, "seed": seed}
                    lines.append(
                        of | {"image": image, "correct": True, "energy_mask": value, "agreement": value, "empty": 0.0}
                    )
    return pd.DataFrame(lines)


def judged(frame: pd.DataFrame, claim: str) -> list[str]:
    found = figure2.verdicts(frame, Plan.of("smoke"))
    return found.loc[found["claim"] == claim, "verdict"].tolist()


def test_a_claim_follows_the_numbers():
    more = "adaptive has more of its energy on the hull"
    assert judged(made(+0.1), more) == [HOLDS] * 6  # two readings × (two explained models and their mean)
    assert judged(made(-0.1), more) == [FAILS] * 6
    assert set(judged(made(+0.1, seeds=1), more)) == {NONE}
    assert judged(made(+0.1), "adaptive's energy is mostly on the hull") == [FAILS] * 2  # 0.3 is less than a half
    assert judged(made(+0.1), "adaptive's energy is drawn to the hull") == [HOLDS] * 2  # but more than 0.1
    assert judged(made(+0.1), "T=5's energy is mostly off the hull") == [HOLDS] * 4
    assert judged(made(+0.1), "T=5's energy is kept off the hull") == [FAILS] * 4
    assert judged(made(0.0), "adaptive points at the hull more often") == []  # no such column


def test_both_intervals_are_students_and_the_verdict_takes_the_wider():
    difference = pd.DataFrame([[0.10, 0.30], [0.12, 0.26], [0.11, 0.31], [math.nan, 0.29]])  # images × seeds
    of_seeds = [100 * np.mean([0.10, 0.12, 0.11]), 100 * np.mean([0.30, 0.26, 0.31, 0.29])]
    of_images = [20, 19, 21, 29]
    assert [list(each) for each in means(difference)] == [pytest.approx(of_seeds), pytest.approx(of_images)]
    low, high = stats.t.interval(0.95, 1, np.mean(of_seeds), stats.sem(of_seeds))
    assert (wider(difference).low, wider(difference).high) == (pytest.approx(low), pytest.approx(high))
    same = pd.DataFrame([[0.0, 0.01], [0.4, 0.41], [0.8, 0.79]])  # seeds agree, images do not
    low, high = stats.t.interval(0.95, 2, 40 + 1 / 6, stats.sem([0.5, 40.5, 79.5]))
    assert (wider(same).low, wider(same).high, wider(same).n) == (pytest.approx(low), pytest.approx(high), 3)
    assert math.isnan(wider(difference[[0]]).low)  # one seed leaves it open


def test_the_test_over_images_is_wilcoxons():
    images = pd.Series(np.random.default_rng(0).normal(1, 2, 12))
    assert signed_rank(images) == f"{stats.wilcoxon(images).pvalue:.3f}"
    assert [signed_rank(each) for each in (images[:1], 0 * images, images.abs())] == ["–", "–", "< 0.001"]


def test_an_interval_over_images_decides_where_it_is_the_wider():
    frame = made(0.02, noise=0.0)
    ours = frame["temperature"] == "adaptive"
    alike = ours & (frame["teacher"] == "VGG-19")  # every seed sees the same, and some images gain much more
    frame.loc[alike, "energy_mask"] += 0.1 * (frame["image"] % 4 == 0) + 0.001 * frame["seed"]
    lines = figure2.verdicts(frame, Plan.of("smoke")).query("claim == 'adaptive has more of its energy on the hull'")
    line = lines[lines["against"] == "T=5, Eq. (1) hinton · VGG-19"].iloc[0]
    gain = [2 + 0.1 + 10 * (image % 4 == 0) for image in range(40)]
    assert (line["method"], line["df"]) == ("t over images, 39 df", 39)
    assert line["high"] - line["effect"] == pytest.approx(stats.sem(gain) * stats.t.isf(line["level"] / 2, 39))
    assert line["p"] >= stats.ttest_1samp(gain, 0).pvalue  # the larger of two, as both must exclude zero


def test_pairs_are_of_the_same_image_and_seed():
    frame = made(0.1, noise=0.0).sample(frac=1, random_state=0)
    ours, theirs = (per_image(frame, "VGG-19", procedure, "energy_mask") for procedure in (OURS, ("T=5", "hinton")))
    of_seeds, of_images = means(ours - theirs)
    assert of_images.tolist() == pytest.approx([10] * 40) and of_seeds.tolist() == pytest.approx([10] * 3)
    assert set(figure2.comparisons(frame)["energy on hull"]) == {"+10.0 [+10.0, +10.0]"}


def test_images_shown_are_a_fixed_draw_then_the_extremes():
    frame = made(0.0, noise=0.0)
    ours = frame["temperature"] == "adaptive"
    frame.loc[ours & (frame["image"] == 7), "energy_mask"] = 0.9
    frame.loc[ours & (frame["image"] == 9), "energy_mask"] = 0.0
    chosen = figure2.shown(frame, drawn=3, extremes=1)
    assert chosen == figure2.shown(made(0.0, noise=0.0), 3, 0) | {7: "best for adaptive", 9: "worst for adaptive"}
    assert list(chosen.values()).count("random draw") == 3
    assert set(figure2.shown(frame.drop(columns="energy_mask")).values()) == {"random draw"}


# ---- students trained for a moment -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small():
    """VGG-19's students at preset smoke: rows, results, scenes, subjects and their scores."""
    plan = Plan.of("smoke", first_seed=7)
    rows = figure2.table(plan, 1, readings=("printed",), explained=("vgg19",))
    results = train_all(runs_of(rows), show_progress=False)
    scenes = Scenes.of(rows[0].runs[0].data.load())
    subjects = list(figure2.subjects(rows, results, scenes))
    return plan, rows, results, scenes, subjects, figure2.scores(subjects, scenes)


def test_the_rows_are_the_papers():
    rows = figure2.table(Plan.of("smoke"), 2)
    assert [row.name for row in rows[:5]] == [
        "T=5, printed", "T=5, hinton", "T=20, printed", "T=20, hinton", "adaptive, three steps"
    ]  # fmt: skip
    assert {run.student.name for run in runs_of(rows)} == {"resnet34"}
    taught = {
        row.group: [t.student.name for t in row.runs[0].teachers.values()] for row in rows if row.label == "adaptive"
    }
    assert taught == {"ResNet-50": ["vgg19", "resnet50"], "VGG-19": ["cnn", "vgg19"]}
    assert all(list(run.teachers) == ["big"] for row in rows if row.label != "adaptive" for run in row.runs)


def test_there_is_a_line_for_every_network_and_image(small):
    *_, scenes, subjects, frame = small
    wanted = "teacher student temperature seed image pointing energy_mask energy_box iou road energy_shortcut agreement"
    assert set(wanted.split()) <= set(frame.columns)
    assert [each.temperature for each in subjects] == ["teacher", "T=5", "T=20", "adaptive", "random weights"]
    counts = frame.groupby("temperature")["image"].nunique()
    assert (counts == len(scenes)).all() and len(frame) == 8 * len(scenes)
    students = frame[frame["temperature"].isin(["T=5", "T=20", "adaptive"])]
    assert students["road"].notna().sum() <= 3 * len(figure2.road_images(scenes))
    has_float = scenes.shortcuts.any((1, 2))
    one = students[(students["temperature"] == "T=5") & (students["empty"] == 0)]
    np.testing.assert_array_equal(one["energy_shortcut"].notna(), has_float[one["image"]])


def test_an_explained_model_that_failed_costs_its_own_seed_alone(small, monkeypatch):
    """Of two explained models and two seeds, one model failed at one of them: its students cannot have finished."""
    plan, _, _, scenes, *_ = small
    rows = figure2.table(plan, 2, readings=("printed",))
    lost = rows[0].runs[1].teachers["big"]
    network = rows[0].runs[0].student
    monkeypatch.setattr(figure2, "find", lambda run: None if run == lost else SimpleNamespace(student=network.build))
    failed = {run: Failure(run, "made to fail") for row in rows for run in row.runs}
    few = replace(scenes, x=scenes.x[:2], labels=scenes.labels[:2])
    seen = [(each.teacher, each.temperature, each.seed) for each in figure2.subjects(rows, failed, few)]
    there = {"ResNet-50": [7], "VGG-19": [7, 8]}
    assert seen == [(big, of, seed) for big in there for of in ("teacher", "random weights") for seed in there[big]]
    monkeypatch.setattr(figure2, "find", lambda run: None)
    with pytest.raises(KitError, match="no explained model finished"):
        figure2.scores(list(figure2.subjects(rows, failed, few)), few)


def test_students_that_failed_leave_the_claims_without_a_verdict():
    frame = made(0.1)
    whole = figure2.verdicts(frame, Plan.of("smoke"))
    lost = figure2.verdicts(frame[frame["temperature"] != "adaptive"], Plan.of("smoke"))
    of_ours = whole["claim"].str.startswith("adaptive")
    assert lost["claim"].tolist() == whole["claim"].tolist()
    assert lost["verdict"].tolist() == whole["verdict"].mask(of_ours, NONE).tolist()


def test_a_student_is_compared_with_the_teacher_of_its_own_seed(small):
    *_, scenes, subjects, _ = small
    explained, student = subjects[0], subjects[1]
    others = torch.rand(explained.heat.maps.shape, generator=torch.Generator().manual_seed(0)).numpy()
    second = replace(explained, seed=8, heat=replace(explained.heat, maps=others))
    seen = [explained, second, replace(student, heat=explained.heat), replace(student, seed=8, heat=second.heat)]
    frame = figure2.scores(seen, scenes)
    students = frame[(frame["temperature"] == student.temperature) & (frame["empty"] == 0)]
    assert set(students["seed"]) == {7, 8}
    np.testing.assert_allclose(students["agreement"], 1)
    assert (frame["temperature"] == "uniform map").sum() == len(scenes)  # once for both


def test_road_is_left_to_a_few_of_many_or_large_images(small):
    *_, scenes, _, _ = small
    assert figure2.road_images(scenes).tolist() == list(range(0, 52, 10))
    x = torch.zeros(1, 1, 1, 1).expand(1000, 3, 224, 224)
    some = figure2.road_images(Scenes(scenes.data, x, torch.zeros(1000), scenes.pixels))
    assert len(some) * 224**2 <= 1.2 * figure2.ROAD_PIXELS and len(some) >= 5


def test_scores_are_of_the_students_own_maps_for_the_true_class(small):
    _, rows, results, scenes, _, frame = small
    run = rows[-1].runs[0]
    assert isinstance(results[run], Result)
    again = maps(results[run].student(), scenes.x, scenes.labels)
    line = frame[frame["temperature"] == "adaptive"].set_index("image")
    np.testing.assert_allclose(line["energy_mask"], cam_scores.energy(again.maps, scenes.masks))
    assert line["correct"].mean() == pytest.approx(results[run].metrics["test_top1"])


def test_controls_score_chance_and_one(small):
    *_, scenes, _, frame = small
    uniform, oracle = (frame[frame["temperature"] == name] for name in ("uniform map", "oracle"))
    for column in ("pointing", "energy_mask", "iou", "iou_best"):
        np.testing.assert_allclose(uniform[column], cam_scores.area(scenes.masks))
        np.testing.assert_allclose(oracle[column], 1)
    np.testing.assert_allclose(oracle["energy_box"], 1, atol=0.1)  # a box cuts through pixels at its edge
    coarse = frame[frame["temperature"] == "coarse oracle"]["energy_mask"].mean()
    assert uniform["energy_mask"].mean() < coarse < 0.7
    before = frame[frame["temperature"] == "random weights"]
    chance = cam_scores.area(scenes.masks).mean()
    assert abs(before["energy_mask"].mean() - chance) < 0.05


def test_other_roles_have_maps_and_likeness_but_no_regions():
    rows = figure2.table(Plan.of("smoke"), 1, ("hinton",), ("vgg19",), role="cifar-10")
    results = train_all(runs_of(rows), show_progress=False)
    scenes = Scenes.of(load("cifar-10", px=16, train_per_class=16, test_per_class=8, source="embedded"))
    assert scenes.masks is None
    frame = figure2.scores(list(figure2.subjects(rows, results, scenes)), scenes)
    assert "energy_mask" not in frame and {"agreement", "ssim", "road", "empty"} <= set(frame.columns)
    assert set(figure2.verdicts(frame, Plan.of("smoke"))["claim"]) == {"adaptive's map is more like its teacher's"}
    assert list(figure2.comparisons(frame)) == ["explained model", "adaptive against", "ROAD ×100", "ρ to teacher ×100"]
