"""`python -m kit bench`: speeds that are the machine's own, and minutes that add up."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from small_runs import Here
from torch.utils.flop_counter import FlopCounterMode

from kit import recipe
from kit.__main__ import main
from kit.errors import KitError
from kit.figures import forecast as bench
from kit.figures.forecast import Prediction, duration, measured_rates, networks_of, speed
from kit.figures.needs import NEEDS, TYPICAL_DRAWING_S, drawing_seconds, note_drawing
from kit.files import cache_folder
from kit.grid.dask import DaskCluster
from kit.grid.durations import FORWARD, NOMINAL, Pace, images_of
from kit.models import ModelSpec
from kit.networks.flops import flops_per_image
from kit.paper import scale, table1, table2, table4
from kit.paper.plan import Plan, runs_of
from kit.paper.settings import Settings
from kit.runs.spec import changed, with_teachers
from kit.runs.training import train
from kit.runtime.machine import cores

pytestmark = pytest.mark.usefixtures("module_cache")  # without runs


@pytest.fixture(scope="module")
def plan(module_cache) -> Plan:
    return Plan.of("smoke")


def everything(plan: Plan, seeds: int | None) -> list:
    return with_teachers([run for need in NEEDS.values() for run in runs_of(need(plan, seeds))])


@pytest.fixture
def pace(plan, monkeypatch) -> Pace:
    """That of networks which have all been measured, and of which no run is known."""
    rates = measured_rates(bench.Speed(*each, 1000, 1, 3000, 1) for each in networks_of(everything(plan, 1)))
    pace = Pace().with_rates(rates)
    monkeypatch.setattr(bench.Pace, "from_cache", lambda folder: pace)
    return pace


VGG = ModelSpec(name="vgg16", classes=10, width=8, stem="small")


@pytest.fixture
def made_clock(monkeypatch):
    """A clock that each training step moves on by 0.5 s, each batch asked of a teacher by 0.25 s; on two threads by
    half of that."""
    now = [0.0]

    def ticking(seconds):
        def step(_):
            now[0] += seconds / torch.get_num_threads()

        return lambda *_: step

    monkeypatch.setattr("kit.data.throughput.time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(bench, "cores", lambda: 2)
    monkeypatch.setattr(bench, "_training", ticking(0.5))
    monkeypatch.setattr(bench, "_teaching", ticking(0.25))


def test_a_networks_speed_is_images_over_seconds(made_clock):
    measured = speed(VGG, 16, 32, 1)
    assert measured == bench.Speed(VGG, 16, 32, training=64, training_all=128, teaching=128, teaching_all=256)
    assert measured_rates([measured]) == {(VGG, 16): 64 * flops_per_image(VGG, 16)[1]}


@pytest.mark.parametrize(("prepare", "passes"), [(bench._training, 1), (bench._teaching, 0)])
def test_a_measured_step_executes_the_flops_of_its_images(prepare, passes):
    """Of a batch of 32: forward and backward in training, forward alone as a teacher."""
    step = prepare(VGG, 16, 32, 0.01)
    with FlopCounterMode(display=False) as counted:
        step(0)
    assert counted.get_total_flops() == 32 * flops_per_image(VGG, 16)[passes]


def test_a_batch_that_would_take_too_long_is_cut(made_clock):
    """A network that a second's measurement has no time for 128 images of is measured with two."""
    network = ModelSpec(name="resnet34", classes=10, width=16, stem="small")
    assert speed(network, 64, 128, 0.05).batch == 2


def test_networks_are_measured_once_whatever_their_classes(plan):
    runs = runs_of(table1.table(plan, 1, ["cifar-10", "cifar-100"]))  # both have 16 px at smoke
    networks = networks_of(runs)
    assert len(networks) == 5 < len({run.student for run in runs})
    assert {spec.classes for spec, *_ in networks} == {100}
    assert {batch for *_, batch in networks} == {run.recipe.batch for run in runs}
    fast = [bench.Speed(*each, 100, 1, 300, 1) for each in networks]
    known = Pace().with_rates(measured_rates(fast))
    for run in runs:  # also for as many classes as were not measured, at the rate of the network itself
        both = flops_per_image(run.student.model_copy(update={"classes": 100}), 16)[1]
        assert known.rate(run.student, 16) == 100 * both


def test_networks_are_measured_where_the_cache_knows_them_not(own_cache):
    settings = {"role": "cifar-10", "preset": "smoke", "temperature": 5, "student": "timm:test_resnet"}
    run = Settings(**settings, teacher="cnn").run()
    assert [network.name for network, *_ in networks_of([run])] == ["cnn", "timm:test_resnet"]
    train(run.teachers["big"])
    known, pace = Pace.from_cache(cache_folder()), bench.pace_of([run])
    shutil.rmtree(cache_folder() / "runs")
    teacher = run.teachers["big"].student
    assert pace.rate(teacher, 16) == known.rate(teacher, 16)  # what runs took is believed
    assert not known.knows(run.student, 16) and pace.knows(run.student, 16)
    assert pace.rate(run.student, 16) != known.rate(run.student, 16)


def test_minutes_count_every_run_once_in_the_notebooks_order(plan):
    """At a rate of 1 GFLOP/s for everything, and nothing in the cache."""
    runs = everything(plan, None)
    pace = Pace().with_rates({(runs[0].student, 16): 1e9})
    prediction = Prediction.of(plan, pace, at_once=2)
    books = prediction.notebooks
    assert books["runs"].sum() - books["foreseen"].sum() == len(runs)
    assert list(books.loc[books["foreseen"] > 0, "notebook"]) == ["06_table4_methods"]
    assert not books["finished"].any() and (books["left"] == books["seconds"]).all()
    alone = sum(bench.whole(run, pace, bench.test_images(plan, run), {}) for run in runs)
    assert books.loc[books["foreseen"] == 0, "seconds"].sum() < alone
    assert prediction.training == pytest.approx(books["seconds"].sum() / 2)
    assert prediction.left == pytest.approx(prediction.training + prediction.drawing)
    assert Prediction.of(plan, pace, at_once=1).training == pytest.approx(2 * prediction.training)


def test_as_many_seeds_as_fit_and_never_none(plan, pace):
    within = Prediction.of(plan, pace, 2, 2).left / 60
    assert bench.rounds_within(1.001 * within, plan, 2) == 2
    assert bench.rounds_within(1.001 * within, plan, 2, equal_time=True) == 1  # Table 4 twice does not fit
    assert bench.rounds_within(0.999 * within, plan, 2) == bench.rounds_within(1e-3, plan, 2) == 1


def test_as_many_seeds_as_fit_into_the_notebooks_that_are_named(plan, pace):
    """Table 2's own, and its teachers', though another notebook shows those, too."""
    three = Prediction.of(plan, pace, 2, 3, names=["04"])
    count = len(with_teachers(runs_of(table2.table(plan, 3))))
    assert three.notebooks[["notebook", "runs"]].values.tolist() == [["04_table2_adaptive", count]]
    assert bench.rounds_within(1.001 * three.left / 60, plan, 2, names=["04"]) == 3
    assert bench.rounds_within(0.999 * three.left / 60, plan, 2, names=["04"]) == 2


def test_no_more_runs_compute_at_once_than_there_are_cores_or_workers(monkeypatch):
    monkeypatch.setattr(bench, "cores", lambda: 2)
    assert [bench.runs_at_once(jobs) for jobs in (1, 2, 64)] == [1, 2, 2]
    assert bench.runs_at_once(Many()) == 7
    assert bench.runs_at_once(DaskCluster("local", 64)) == 2
    assert bench.runs_at_once(DaskCluster("local"), ["cuda"]) == 1 == bench.runs_at_once(None, ["cuda"])


class Many(Here):
    """A cluster of seven workers."""

    slots = 7


@pytest.mark.parametrize(
    ("where", "expected"),
    [(["--jobs", "64"], 2), (["--scheduler", "tcp://there:1", "--jobs", "64"], 7)],
)
def test_minutes_are_those_of_where_it_is_trained(where, expected, monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "cores", lambda: 2)
    monkeypatch.setattr("kit.cli.options.engine_at", lambda scheduler, jobs: Many() if scheduler else None)
    told = []

    def heard(*given):
        told.append(given)
        raise KitError("enough")

    monkeypatch.setattr(bench, "rounds_within", heard)
    monkeypatch.setattr(bench, "seconds_left", heard)
    out = ["--preset", "smoke", "--out", str(tmp_path / "out")]
    assert main(["figures", "04", "--minutes", "5", *out, *where]) == main(["judge", *out, *where]) == 2
    (_, _, of_figures, _, names), (_, of_judge) = told
    assert (of_figures, names, of_judge) == (expected, ["04"], expected)


def test_what_is_in_the_cache_is_not_left_to_do(plan):
    before = Prediction.of(plan, Pace(), at_once=1)
    run = table1.table(plan, 1)[0].runs[0]
    folder = cache_folder() / "runs" / run.hash
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text("{}")
    note_drawing("smoke", "07_gradcam", 1000.0)
    after = Prediction.of(plan, Pace(), at_once=1)
    (folder / "metrics.json").rename(folder / "diverged.json")
    assert Prediction.of(plan, Pace(), at_once=1).left == after.left
    shutil.rmtree(folder.parent)
    shutil.rmtree(cache_folder() / "drawing")
    gone = before.notebooks["left"] - after.notebooks["left"]
    assert list(before.notebooks.loc[gone > 0, "notebook"]) == ["03_table1_teachers"]
    assert gone.sum() == pytest.approx(bench.whole(run, Pace(), bench.test_images(plan, run), {}))
    assert after.drawing == pytest.approx(before.drawing - TYPICAL_DRAWING_S["07_gradcam"] + 1000)


def test_searched_runs_are_taken_to_be_there_once_their_notebook_was_drawn(plan):
    runs = everything(plan, None)
    folders = [cache_folder() / "runs" / run.hash for run in runs]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text("{}")
    before = Prediction.of(plan, Pace(), at_once=1)
    note_drawing("smoke", "06_table4_methods", 5.0)
    after = Prediction.of(plan, Pace(), at_once=1)
    (folders[0] / "metrics.json").unlink()  # of notebook 00: what 06 needs is still there
    missing = Prediction.of(plan, Pace(), at_once=1)
    shutil.rmtree(folders[0].parent)
    shutil.rmtree(cache_folder() / "drawing")

    def left(prediction: Prediction) -> list[str]:
        return list(prediction.notebooks.loc[prediction.notebooks["left"] > 0, "notebook"])

    assert (left(before), left(after), left(missing)) == (["06_table4_methods"], [], ["00_start_here"])
    assert after.left == after.drawing and (after.notebooks["runs"] == after.notebooks["finished"]).all()


def test_the_longest_chain_bounds_what_many_cores_can_do(plan):
    prediction = Prediction.of(plan, Pace(), at_once=10_000)
    runs = everything(plan, None)
    users = bench.users_of_logits([*runs, *table4.foreseen(plan, plan.preset.seeds)])
    seconds = {run: bench.whole(run, Pace(), bench.test_images(plan, run), users) for run in runs}
    longest = max(seconds[run] + max(seconds[t] for t in run.teachers.values()) for run in runs if run.teachers)
    assert prediction.left - prediction.drawing == pytest.approx(longest)


def test_logits_that_many_read_are_charged_once(plan, monkeypatch):
    """A teacher's students at one seed: together they take what they take alone, less all its passes but one's."""
    rows = [run for run in runs_of(table1.table(plan, 1)) if not run.teachers]
    big, small = (run for run in rows if run.data.role == "cifar-10" and run.student.name in ("vgg19", "cnn"))
    students = [
        changed(small, teachers={"big": big}, recipe=small.recipe.model_copy(update={"stages": stages}))
        for stages in (recipe.eq1(5, "hinton"), recipe.eq1(20, "hinton"), recipe.eq1(5, "printed"))
    ]
    users = bench.users_of_logits(students)
    assert list(users.values()) == [3]
    passes = FORWARD * images_of(small) * flops_per_image(big.student, 16)[0] / NOMINAL["cpu"]
    alone, together = (sum(bench.whole(run, Pace(), 10, known) for run in students) for known in ({}, users))
    assert alone - together == pytest.approx(2 * passes)
    assert bench.users_of_logits(students[:1]) == {}
    monkeypatch.setenv("KIT_LOGITS_GB", "0")
    assert bench.users_of_logits(students) == {}


def test_the_command_says_minutes_and_ends_with_json(capsys):
    assert main(["bench", "--preset", "smoke", "--seconds", "0.05", "--jobs", "64", "--json"]) == 0
    said = capsys.readouterr().out.splitlines()
    record = json.loads(said[-1])
    assert (record["preset"], record["jobs"], record["at_once"]) == ("smoke", 64, cores())
    assert any(f", 64 runs side by side on {cores()} cores, expected from " in line for line in said)
    assert record["notebooks"][0]["notebook"] == "00_start_here"
    assert len(record["speeds"]) == 5 and all(each["training"] > 0 for each in record["speeds"])
    assert said[-2].startswith("left to do: about ") and said[-2].endswith(f" on {cores()} cores")
    assert not (cache_folder() / "runs").exists()  # nothing was trained


def test_preset_paper_is_foreseen_without_its_images_and_called_hopeless():
    plan = scale.plan()
    prediction = Prediction.of(plan, Pace(), at_once=2)
    assert "hopeless" in bench.verdict(prediction) and "years" in bench.verdict(prediction)
    imagenet = [run for run in runs_of(table1.table(plan, 1)) if run.data.role == "imagenet"]
    least = sum(run.recipe.epochs * 1_281_024 * flops_per_image(run.student, 224)[1] for run in imagenet) / 30e9
    assert prediction.training > least / 2


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--preset", "tiny"], "preset 'tiny'"),
        (["--jobs", "0"], "--jobs 0"),
        (["--seconds", "0"], "--seconds 0 is not allowed"),
        (["--seconds", "nan"], "--seconds nan is not allowed"),
        (["--page", "x.md"], "--page 'x.md'"),
        (["--gpu-tflops", "500"], "--gpu-tflops 500.0 is of preset 'paper'"),
        (["--preset", "paper", "--role-data", "imagenet=real"], "--role-data"),
        (["--preset", "paper", "--page", "nowhere/PAPER.md", "--utilisation", "2"], "--utilisation 2"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(words, named, capsys):
    assert main(["bench", *words]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and named in said[0]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--minutes", "0"], "--minutes 0"),
        (["--minutes", "-3"], "--minutes -3"),
        (["--minutes", "nan"], "--minutes nan"),
        (["--minutes", "5", "--seeds", "2"], "--seeds 2"),
        (["--minutes", "5", "09"], "cannot choose the seeds of 09_your_own"),  # would have had a hundred
        (["--minutes", "5", "01", "08"], "cannot choose the seeds of 01_derivation, 08_playground"),
        (["-p", "first_seed=-1"], "first_seed: -1"),
        (["--minutes", "5", "-p", "seeds=2"], "--seeds 2"),
        (["-p", "one_teacher=2"], "one_teacher: 2"),
        (["-p", "equal_time=twice"], "equal_time: 'twice'"),
    ],
)
def test_draws_that_are_refused(words, named, capsys, tmp_path):
    assert main(["figures", "--preset", "smoke", "--out", str(tmp_path / "out"), *words]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and named in said[0]


def test_durations_are_words():
    assert [duration(s) for s in (5, 90, 720, 12_600, 5 * 86400, 3.2 * 365 * 86400)] == [
        "5 s", "90 s", "12 minutes", "3.5 hours", "5 days", "3 years",
    ]  # fmt: skip


# ---- what a notebook took to draw ----------------------------------------------------------------------------------


def test_what_a_notebook_last_took_is_noted(own_cache):
    assert drawing_seconds("quick", "05_table3") is None
    for preset, seconds in (("quick", 30.0), ("smoke", 3.0), ("quick", 15.25)):
        note_drawing(preset, "05_table3", seconds)
    assert (drawing_seconds("quick", "05_table3"), drawing_seconds("smoke", "05_table3")) == (15.25, 3.0)
    assert drawing_seconds("quick", "06_table4") is None


@pytest.mark.parametrize("content", [b"", b"long", b"\xff", b"-1", b"nan", b"inf"])
def test_a_damaged_note_is_none_and_is_written_anew(own_cache, content):
    note_drawing("quick", "a", 1.0)
    (own_cache / "drawing" / "quick-a").write_bytes(content)
    assert drawing_seconds("quick", "a") is None
    note_drawing("quick", "a", 2.0)
    assert drawing_seconds("quick", "a") == 2.0


def test_a_cache_that_cannot_be_written_is_only_read(own_cache):
    (own_cache / "drawing").write_text("")  # as good as a folder without permission, to root, too
    note_drawing("quick", "a", 1.0)
    assert drawing_seconds("quick", "a") is None
