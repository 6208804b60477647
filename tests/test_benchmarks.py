"""The ladder compares like with like: its loops train the same student, and each trick leaves the arithmetic alone."""

from __future__ import annotations

import json
import re
import runpy
import sys
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import bare, faults, grid
from benchmarks.bare import all_at_once, bare_loop, one_by_one
from benchmarks.cockpit import slowdown
from benchmarks.interleaved import served
from benchmarks.regime import planned
from benchmarks.report import Ended, spread
from benchmarks.rungs import KIT, PAIRS, Rung, Task, of_kit, recalled, torchdistill, tutorial
from benchmarks.throughput import ratios
from kit.data.augment import EpochPlan
from kit.errors import KitError
from kit.paper.plan import Plan
from kit.paper.presets import PRESETS
from kit.recipe import Improved
from kit.runs.spec import with_teachers
from kit.temperature import Adaptive, Fixed

RATIOS = {"kit_over_tutorial", "cached_over_tutorial", "kit_over_torchdistill", "kit_over_bare", "adaptive_over_fixed",
          "cached_over_hard"}  # fmt: skip


def plain(pair: str) -> Task:
    """One batch of all images, not augmented, so that nothing is left to chance but the order within it."""
    return Task(pair, width=2, images=16, batch=16, pad=0, flip=False, lr=0.1, weight_decay=0.05)


def by_hand(task: Task, spared: bool = True) -> nn.Module:
    """One step written out: Eq. (1) as Hinton has it, and nesterov's first step, 1 + momentum plain ones.

    `spared`: biases and batch norms do not decay.
    """
    student, teacher = task.networks()
    mean, std = task.data.mean_std
    x = ((task.data.train.images.pixels.float() - mean) / std).permute(0, 3, 1, 2)
    y = task.data.train.labels
    with torch.no_grad():
        p = F.softmax(teacher.eval()(x) / task.T, 1)
    zs = student.train()(x)
    soft = -(p * F.log_softmax(zs / task.T, 1)).sum(1).mean()
    hard = -F.log_softmax(zs, 1)[range(len(y)), y].mean()
    (task.alpha * task.T**2 * soft + (1 - task.alpha) * hard).backward()
    with torch.no_grad():
        for parameter in student.parameters():
            decay = 0 if spared and parameter.ndim == 1 else task.weight_decay
            parameter -= (1 + task.momentum) * task.lr * (parameter.grad + decay * parameter)
    return student


def flat(network: nn.Module) -> torch.Tensor:
    return torch.cat([tensor.double().flatten() for tensor in network.state_dict().values()])


def error(ours: nn.Module, theirs: nn.Module, task: Task) -> float:
    """How far apart two students are after a step, as a share of what the step changed. A few 1e-7 as a rule; 1e-3
    where rounding has put a value on the other side of a ReLU's kink."""
    return float((flat(ours) - flat(theirs)).norm() / (flat(theirs) - flat(task.networks()[0])).norm())


def one_step(rung: Rung, task: Task) -> nn.Module:
    loop = rung(task)
    next(iter(loop.epoch()))
    return loop.student


@pytest.mark.parametrize("pair", PAIRS)
def test_one_step_of_each_loop_is_the_same_arithmetic(pair):
    task = plain(pair)
    for rung in (partial(tutorial, workers=0), bare_loop, KIT["kit"], KIT["kit cached"]):
        assert error(one_step(rung, task), by_hand(task), task) < 3e-3, rung
    assert error(one_step(KIT["kit hard"], task), by_hand(replace(task, alpha=0)), task) < 3e-3


def test_other_arithmetic_would_be_noticed():
    """An untrained VGG's logits are so near 0 that T hardly matters to it; a ResNet's are not."""
    task = plain("resnet34")
    for other in (replace(task, T=2), replace(task, alpha=0.7), replace(task, weight_decay=0)):
        assert error(by_hand(other), by_hand(task), task) > 1e-2
    assert error(by_hand(task, spared=False), by_hand(task), task) > 1e-2


@pytest.mark.parametrize("name", bare.LEFT_OUT)
def test_a_trick_left_out_changes_no_number(name):
    task = plain("resnet34")
    assert error(one_step(bare.LEFT_OUT[name], task), by_hand(task), task) < 3e-3


def test_torchdistill_step_differs_by_what_decays_alone():
    pytest.importorskip("torchdistill")
    task = plain("resnet34")
    assert error(one_step(partial(torchdistill, workers=0), task), by_hand(task, spared=False), task) < 3e-3


def test_known_logits_are_not_asked_for():
    task = plain("vgg16")
    (rung,) = bare.PUT_IN.values()  # random ones are known
    assert error(one_step(rung, task), by_hand(task), task) > 1e-2  # taught by others, it becomes another student


def test_cached_logits_are_the_teachers_in_the_order_of_the_batches():
    task = Task("resnet34", width=2, images=12, batch=4, pad=0, flip=False)
    _, teacher = task.networks()
    known = recalled(task, teacher)(0)
    x = ((task.data.train.images.pixels.float() - task.data.mean_std[0]) / task.data.mean_std[1]).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = teacher.eval()(x)[EpochPlan(12, task.seed, 0, 0, False).order]
    assert torch.allclose(known.logits, expected, atol=1e-4)


def test_fixed_and_adaptive_do_the_same_but_for_the_temperature():
    task = Task("vgg16", width=2, images=40, batch=8)
    students = []
    for temperature in (Fixed(T=19.0), Adaptive(k=19.0001, rate=1e-9)):  # ⌊t⌋ is 19 in both
        loop = of_kit(task, Improved(), temperature)
        assert sum(1 for _ in islice(loop.epoch(), 4)) == 4
        students.append(loop.student)
    assert torch.allclose(flat(students[0]), flat(students[1]), atol=1e-6)


def test_batched_crops_are_crops_of_the_reflected_image():
    """Every image of a batch is one of the 25 crops, or their mirror images, that numpy's own padding allows."""
    import numpy as np

    task = Task("vgg16", width=2, images=16, px=8)
    pixels, (mean, std) = task.data.train.images.pixels, task.data.mean_std
    x, y = all_at_once(task)(torch.arange(16))
    assert torch.equal(y, task.data.train.labels)
    found = (x.permute(0, 2, 3, 1) * std + mean).round().byte()
    where = []
    for image, original in zip(found, pixels, strict=True):
        padded = np.pad(original.numpy(), ((2, 2), (2, 2), (0, 0)), mode="reflect")
        allowed = {
            (top, left, step): padded[top : top + 8, left : left + 8][:, ::step]
            for top in range(5) for left in range(5) for step in (1, -1)
        }  # fmt: skip
        where += [which for which, crop in allowed.items() if np.array_equal(image.numpy(), crop)]
    assert len(where) == 16 and len(set(where)) > 8


def test_images_one_by_one_are_the_same_as_in_a_batch():
    task = Task("vgg16", width=2, images=8, pad=0, flip=False)
    indices = torch.tensor([5, 0, 3])
    (one, labels), (batch, same) = one_by_one(task)(indices), all_at_once(task)(indices)
    assert torch.allclose(one, batch, atol=1e-5) and torch.equal(labels, same)


def test_a_ratio_is_taken_round_by_round():
    rates = pd.DataFrame({"kit": [10, 100, 30], "tutorial": [5, 25, 30]})  # 2, 4, 1
    of = {"kit_over_tutorial": ("kit", "tutorial"), "kit_over_torchdistill": ("kit", "torchdistill")}
    found = spread(ratios(rates, of))
    assert found.loc["kit_over_tutorial"].to_dict() == {"median": 2, "min": 1, "max": 4}
    assert found.loc["kit_over_torchdistill"].isna().all()


SMALL = ("--width", "2", "--batch", "4", "--steps", "1", "--threads", "1")


@pytest.fixture
def bench(monkeypatch, capfd):
    """A benchmark as a program, but in this process: its status, what it prints, and what it says on stderr."""

    def ran(name: str, *words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [name, *words])
        monkeypatch.delitem(sys.modules, f"benchmarks.{name}", raising=False)
        with pytest.raises(SystemExit) as ended:
            runpy.run_module(f"benchmarks.{name}", run_name="__main__")
        return ended.value.code, *capfd.readouterr()

    return ran


def test_commands_that_pages_and_docstrings_name_are_known(bench):
    root = Path(__file__).resolve().parent.parent
    pages = [*root.glob("docs/*.md"), *root.glob("README*.md"), *root.glob("benchmarks/*.py")]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    named: dict[str, set[str]] = {}
    for name, words in re.findall(r"python -m benchmarks\.(\w+)([^#`\n]*)", text):
        named.setdefault(name, set()).update(re.findall(r"--[\w-]+", words))
    assert {"throughput", "grid", "cockpit", "faults", "intervals", "regime"} == set(named)
    for name, options in named.items():
        status, out, _ = bench(name, "--help")
        assert status == 0 and options <= set(re.findall(r"--[\w-]+", out)), name


def test_throughput_ends_with_the_ratios(bench):
    status, out, err = bench("throughput", "--pair", "vgg16", "--no-torchdistill", *SMALL, "--repeats", "1", "--json")
    assert status == 0, err
    found = json.loads(out.splitlines()[-1])
    assert set(found) == {"vgg16"} and set(found["vgg16"]) == RATIOS
    assert found["vgg16"].pop("kit_over_torchdistill") is None
    assert all(ratio > 0 for ratio in found["vgg16"].values())


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("throughput --pair vgg17", "pair 'vgg17' is not known; allowed: vgg16, resnet34, resnet50"),
        ("throughput --px 4", "Invalid value for '--px': Input should be greater than or equal to 8: got '4'"),
        ("faults --kill 3", "No such option: --kill (Possible options: --kills)"),
        ("regime --lr 0", "lr: 0.0 is not allowed (Input should be greater than 0)"),
        ("regime --role cifar-10 --batch 1", "batch: 1 is not allowed (Input should be greater than or equal to 2)"),
    ],
)
def test_wrong_input_is_one_line(bench, words, line):
    assert bench(*words.split()) == (2, "", f"error: {line}\n")


def test_json_of_what_is_no_number_is_null(bench):
    """Table 2 has no search whose intervals could be judged."""
    status, out, err = bench("intervals", "--tables", "20", "--json")
    assert status == 0, err
    first, *_ = json.loads(out.splitlines()[-1], parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert first["rules"]["kit"]["searches"] is None and 0 < first["rules"]["kit"]["power"] < 1


def test_an_unknown_app_is_refused_before_anything_is_trained(monkeypatch):
    from benchmarks import cockpit

    monkeypatch.setattr(cockpit.pages, "chromium", lambda: "a browser")
    monkeypatch.setattr(cockpit, "train_all", lambda runs: pytest.fail("trained"))
    with pytest.raises(KitError, match="^app 'vola' is not known; allowed: lab, voila$"):
        cockpit.main(apps="lab, vola")


def test_a_ratio_of_the_grid_is_what_its_name_says(monkeypatch, capsys):
    seconds = {"alone": 10.0, "side_by_side": 6.0, "one_after_another": 8.0}
    arm = lambda name, *_: {"wall_s": seconds[name], "chain_s": 1.0, "start_up_s": 1.0}  # noqa: E731
    monkeypatch.setattr(grid, "measure", arm)
    monkeypatch.setattr(grid, "cores", lambda: 2)
    grid.main(repeats=1, epochs=1, as_json=True)
    found = json.loads(capsys.readouterr().out.splitlines()[-2])
    assert found["grid_over_ideal"]["median"] == 1.2
    assert found["side_by_side_over_one_after_another"]["median"] == 0.75


@pytest.mark.parametrize(("benchmark", "students", "teachers"), [(grid, 10, 2), (faults, 6, 2)])
def test_a_grid_is_as_many_students_and_teachers_as_it_says(benchmark, students, teachers):
    runs = benchmark.grid(2)
    assert (len(set(runs)), len(set(with_teachers(runs)) - set(runs))) == (students, teachers)
    assert {run.data.source for run in with_teachers(runs)} == {"embedded"}


def test_a_loop_that_fails_says_why():
    with (
        pytest.raises(Ended, match="bare: KeyError: 'unheard of'"),
        served({"bare": bare_loop}, Task("unheard of", width=2, images=8)),
    ):
        pass


def test_a_study_of_sizes_is_of_the_sizes_given():
    given = {"px": 12, "train_per_class": 3, "test_per_class": None, "epochs": 4, "teacher_epochs": 6, "batch": 8}
    plan = planned("cifar-100", None, lr=0.02, width=4, **given)
    assert plan.size("cifar-100") == replace(PRESETS["quick"].roles["cifar-100"], **given | {"test_per_class": 15})
    assert plan.size("cifar-10") == PRESETS["quick"].roles["cifar-10"]
    large = planned("cifar-100", None, lr=0.02, width=4, px=96)
    assert large.size("cifar-100") == replace(Plan.of("quick"), px=96).size("cifar-100")
    assert large.size("cifar-100").stem == "imagenet"  # as `train --px 96` has it
    assert (plan.preset.lr, plan.preset.student_width, plan.preset.teacher_width) == (0.02, 4, 4)


def test_what_drawing_costs_is_told_from_a_machine_that_drifts(tmp_path):
    """Turns of 1 s: a batch takes 20 ms, 22 where it is drawn, and each turn 1 % more than the one before; one turn in
    which another process came between counts no more than another."""
    at, step, lines = 0.0, 0, []
    while at < 80:
        turn = int(at)
        at += 0.020 * (1.1 if turn % 2 == 0 else 1.0) * 1.01**turn * (3 if turn == 40 else 1)
        step += 1
        lines.append(f"{at},{step},{int(at)}")
    notes = tmp_path / "turns.csv"
    notes.write_text("\n".join(lines))
    slower, (low, high), turns = slowdown(notes)
    assert turns == 39
    assert low < slower < high
    assert slower == pytest.approx(0.1, abs=0.005)
