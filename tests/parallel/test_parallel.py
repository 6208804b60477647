"""One training shared by two processes against the same training by one, the layers that see the whole batch against
torch's own, and the command itself under torchrun: its result, its errors, and its end when a process is killed."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil
import pytest
import shared_trainings
import torch
from commands import last_json
from forked import forked
from torch import nn
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from kit import recipe
from kit.__main__ import main
from kit.errors import KitError
from kit.methods import complexity
from kit.parallel.ranks import ALONE, Ranks
from kit.recipe import Recipe
from kit.training.batches import check_shareable

TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def torchrun(do: Callable, *about: object) -> None:
    """What TWO does, but that the two are forked from this process, which spares them importing torch."""
    once = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "run_id": uuid.uuid4().hex, "max_restarts": 0}
    config = LaunchConfig(min_nodes=1, max_nodes=1, nproc_per_node=2, start_method="fork", **once)
    elastic_launch(config, do)(*about)


def two_forked(do: Callable, *about: object, output: Path, **environment: str) -> BaseProcess:
    """Has two processes do it, whose cache is the folder of their output."""
    return forked(torchrun, do, *about, output=output, KIT_CACHE=str(output), **environment)


def train(*words: str) -> None:
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
        signal.signal(number, handler)  # a fork has the launcher's
    sys.exit(main(list(words)))


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> dict[str, dict]:
    return shared_trainings.scenarios(ALONE, tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> list[dict[str, dict]]:
    out = tmp_path_factory.mktemp("two")
    running = two_forked(shared_trainings.share, out, output=out)
    running.join(300)
    assert running.exitcode == 0, (out / "stderr").read_text()
    return [torch.load(out / f"{rank}.pt") for rank in (0, 1)]


def near(a: dict, b: dict, weights: float, t: float) -> None:
    """Of two trainings: the same stages and counts; weights and temperatures within relative tolerances, and one hit,
    as an image whose two best logits are as near to each other as rounding may be ranked either way."""
    for name, tensor in a["weights"].items():
        torch.testing.assert_close(
            b["weights"][name],
            tensor,
            rtol=weights,
            atol=weights * float(tensor.abs().max()),
            msg=lambda said, name=name: f"{name}: {said}",
        )
    torch.testing.assert_close(b["t"], a["t"], rtol=t, atol=0, equal_nan=True)
    torch.testing.assert_close(b["loss"], a["loss"], rtol=1e-5, atol=1e-6)
    assert (b["hits"] - a["hits"]).abs().sum() <= 1
    assert b["stage"].equal(a["stage"])
    assert len(b["epochs"]) == len(a["epochs"])
    one = 1 / len(shared_trainings.DATA.test)
    for ours, theirs in zip([*a["epochs"], a["metrics"]], [*b["epochs"], b["metrics"]], strict=True):
        assert ours.keys() == theirs.keys()
        for name in ours.keys() - {"stages", "agreement"}:
            assert theirs[name] == (pytest.approx(ours[name], abs=one) if "_top" in name else ours[name])
    for ours, theirs in zip(a["metrics"]["stages"], b["metrics"]["stages"], strict=True):
        assert [theirs[n] for n in ("name", "steps", "ended_by")] == [ours[n] for n in ("name", "steps", "ended_by")]
        assert theirs["t_start"] == ours["t_start"]
        assert theirs["t_end"] == (ours["t_end"] and pytest.approx(ours["t_end"], rel=10 * t))
    assert b["metrics"]["agreement"] == pytest.approx(a["metrics"]["agreement"], rel=1e-3, abs=1e-6)


def same(a: object, b: object) -> bool:
    """Bit for bit, NaN like NaN, seconds and all."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    if isinstance(a, torch.Tensor):
        return torch.equal(a.nan_to_num(-1), b.nan_to_num(-1))
    return repr(a) == repr(b)


# ---- the same student ------------------------------------------------------------------------------------------------


@pytest.mark.numerics
def test_a_resnet_goes_through_three_adaptive_steps_as_in_one_process(alone, two):
    """The student in double precision, so that what rounding grows to in 16 steps is small: measured, of a tensor's
    largest weight 4e-6, of t 1e-7 (teachers' logits are rounded to single)."""
    ours = alone["three steps"]
    assert [stage["ended_by"] for stage in ours["metrics"]["stages"]] == ["temperature", "budget", "budget"]
    assert ours["t"][:, 0].nan_to_num(20).min() < 8  # it did move
    near(ours, two[0]["three steps"], weights=1e-4, t=1e-6)


@pytest.mark.numerics
def test_a_student_with_batch_norm_and_dropout_is_that_of_one_process_in_single_precision(alone, two):
    """18 steps; measured: of a tensor's largest weight 6e-6, of t 8e-8."""
    near(alone["dropout"], two[0]["dropout"], weights=1e-3, t=1e-6)


@pytest.mark.numerics
def test_a_temperature_that_knows_nothing_of_processes_is_the_mean_of_theirs(alone, two):
    ours = alone["by somebody"]
    assert [stage["ended_by"] for stage in ours["metrics"]["stages"]] == ["temperature", "budget"]
    near(ours, two[0]["by somebody"], weights=1e-4, t=1e-6)


@pytest.mark.numerics
def test_what_is_recorded_of_several_teachers_is_of_all_images(alone, two):
    ours, theirs = (of["several teachers"] for of in (alone, two[0]))
    for name in ("t", "t_least", "t_most", "weight_small", "weight_big", "pull_small", "pull_big"):
        torch.testing.assert_close(theirs[name], ours[name], rtol=1e-5, atol=0)


@pytest.mark.numerics
@pytest.mark.parametrize("name", ["three steps", "several teachers", "by somebody", "dropout"])
def test_all_ranks_have_the_same_student_history_and_metrics_bit_for_bit(name, two):
    assert same(two[0][name], two[1][name])


@pytest.mark.numerics
def test_seconds_are_those_of_both(two):
    for wall, cpu in two[0]["dropout"]["seconds"]:
        assert 0 < wall
        assert 0 < cpu < 2.5 * wall  # two at work, hardly more
    assert two[0]["dropout"]["seconds"] == sorted(two[0]["dropout"]["seconds"])


@pytest.mark.numerics
def test_stopped_and_resumed_it_ends_as_if_never_stopped_bit_for_bit(two):
    for rank in two:
        assert rank["resumed"]["from"] == 8  # of 6 steps an epoch: within the second
        for name in ("weights", "t", "loss", "hits", "stage", "metrics", "epochs"):
            assert same(rank["resumed"][name], rank["dropout"][name]), name


@pytest.mark.numerics
def test_a_cache_that_only_the_first_process_sees_is_told_by_all(alone, two):
    assert alone["elsewhere"] == ""
    for number, rank in enumerate(two):
        assert f"seen by {number} are not the same for all processes (steps [2, 0])" in rank["elsewhere"]
        assert "\n" not in rank["elsewhere"]


@pytest.mark.numerics
def test_a_loss_that_is_no_number_on_one_rank_ends_all_of_them_at_its_step(alone, two):
    assert [came["diverging"] for came in (alone, *two)] == [{"step": 7}] * 3


# ---- layers ----------------------------------------------------------------------------------------------------------


@pytest.mark.numerics
@pytest.mark.parametrize("name", shared_trainings.NORMS)
def test_batch_norm_sees_the_whole_batch(name, alone, two):
    """Outputs, gradients and running statistics against nn.BatchNorm2d's on all images."""
    torchs, ours = alone[f"norm {name}"], [rank[f"norm {name}"] for rank in two]
    assert ours[0]["keys"] == torchs["keys"]
    for key in torchs.keys() - {"keys"}:
        is_shared = key[0] in "yd"  # outputs and the images' gradient
        found = torch.cat([rank[key] for rank in ours]) if is_shared else ours[0][key]
        torch.testing.assert_close(
            found,
            torchs[key],
            rtol=1e-5,
            atol=1e-5 * float(torchs[key].abs().max()),
            msg=lambda said, key=key: f"{key}: {said}",
        )


@pytest.mark.numerics
def test_dropout_masks_are_those_of_the_whole_batch_and_leave_the_stream_alike(alone, two):
    eps = torch.finfo(torch.float32).eps  # what is kept is weighed by a rounded 1 / (1 − p) and rounded: twice ε/2 each
    for key in ("first", "second", "dx"):
        found, torchs = torch.cat([rank["dropped"][key] for rank in two]), alone["dropped"][key]
        assert (found == 0).equal(torchs == 0)
        torch.testing.assert_close(found, torchs, rtol=2 * eps, atol=0)
    assert all(rank["dropped"]["then"].equal(alone["dropped"]["then"]) for rank in two)


# ---- what cannot be shared -------------------------------------------------------------------------------------------


def hard(batch: int) -> Recipe:
    return Recipe(stages=recipe.hard_labels(), epochs=1, batch=batch)


@pytest.mark.parametrize(
    ("made", "images", "said"),
    [
        (hard(32), 100, "batch 32 is not allowed with 3 processes; allowed: their multiples up to 100 images"),
        (hard(99), 40, "batch 40 is not allowed with 3 processes"),
        (Recipe(stages=complexity.held_near(4), epochs=1, batch=33), 99, "objective 'held near' .* neither train"),
        (Recipe(stages=complexity.stages(4), epochs=1, batch=33), 99, "objective .* nor look at the images' gradient"),
    ],
)
def test_what_ranks_cannot_share_is_refused_in_one_line(made, images, said):
    check_shareable(made, images, ALONE)
    with pytest.raises(KitError, match=said) as raised:
        check_shareable(made, images, Ranks(count=3))
    assert "\n" not in str(raised.value)


def test_one_process_is_left_as_it_is():
    network, x = nn.Sequential(nn.BatchNorm2d(2)), torch.rand(4)
    assert ALONE.wrap(network) is network
    assert all(method(x) is x for method in (ALONE.sum, ALONE.mean))
    assert ALONE.shard(x).equal(x) and ALONE.gather(x, 4).equal(x)
    assert ALONE.agreed(0.1) == 0.1 and math.isnan(ALONE.agreed(math.nan))
    assert ALONE.part(3).tolist() == [0, 1, 2]
    assert ALONE.broadcast(True) and not ALONE.broadcast(False)


# ---- the command -----------------------------------------------------------------------------------------------------

TRAIN = ["train", "--role", "cifar-10", "--student", "cnn", "--preset", "smoke"]


def folders(cache: Path) -> list[Path]:
    """Finished runs'."""
    return [path for path in (cache / "runs").glob("[!.]*") if path.is_dir()]


def has_begun(cache: Path) -> bool:
    """Whether the teacher is finished and the student has a checkpoint."""
    begun = {path.parent.parent.name for path in (cache / "checkpoints").glob("*/step-*/state.json")}
    return bool(folders(cache)) and bool(begun - {path.name for path in folders(cache)})


def test_the_command_ends_with_one_entry_a_run_and_says_so_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KIT_CACHE", str(tmp_path))
    words = [*TRAIN, "--teacher", "vgg16", "--json"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [*TWO, "-m", "kit", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    title, *_, last = done.stdout.splitlines()
    assert title.startswith("CNN ← VGG-16 on cifar-10, seed 0 (embedded:")
    assert done.stdout.count("test Top-1") == 1
    record = json.loads(last)
    assert len(folders(tmp_path)) == 2  # the teacher and the student
    assert list((tmp_path / "checkpoints").glob("*")) == []
    for folder in folders(tmp_path):
        (note,) = json.loads((folder / "run.json").read_text())["notes"]
        assert note == "trained by 2 processes; CPU and GPU seconds are their sum, wall seconds their mean"

    assert main(words) == 0  # alone: it is found, under the same hash
    assert last_json(capsys) == record


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--batch", "33"],
            "error: batch 33 is not allowed with 2 processes; allowed: their multiples up to 160 images",
        ),
        (
            ["--teacher", "vgg17"],
            "error: model 'vgg17' is not known; allowed: cnn, vgg16, vgg19, resnet34, resnet50, torchvision:NAME, "
            "timm:NAME, FILE.py:FUNCTION, MODULE:FUNCTION, cifar:NAME",
        ),
    ],
)
def test_bad_input_is_one_line(options, said, tmp_path):
    """Before torchrun's own account of its processes' exit statuses, which is torchrun's."""
    refused = two_forked(train, *TRAIN, *options, output=tmp_path)
    refused.join(300)
    assert refused.exitcode not in (None, 0)
    assert (tmp_path / "stdout").read_text() == ""
    before, _, account = (tmp_path / "stderr").read_text().partition("failed (exitcode: 2)")
    assert [line for line in before.splitlines() if line.startswith("error:")] == [said]
    assert "Traceback" not in before and "error: batch" not in account
    assert "exitcode  : 1" not in account
    assert folders(tmp_path) == []


@pytest.mark.parametrize("how", ["kill the second", "kill the first", "interrupt"])
def test_a_process_that_ends_before_its_time_ends_the_command_and_finished_runs_are_kept(how, tmp_path):
    running = two_forked(train, *TRAIN, "--teacher", "cnn", "--epochs", "300", output=tmp_path, KIT_CHECKPOINT_S="0")
    deadline = time.monotonic() + 120
    while not has_begun(tmp_path):
        assert running.is_alive(), (tmp_path / "stderr").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    if how == "interrupt":
        os.kill(running.pid, signal.SIGINT)
    else:
        ranks = sorted(child.pid for child in psutil.Process(running.pid).children())
        os.kill(ranks[0 if how == "kill the first" else 1], signal.SIGKILL)
    running.join(60)  # neither hangs
    assert running.exitcode not in (None, 0)
    if how == "interrupt":
        assert (tmp_path / "stderr").read_text().count("error: stopped; finished runs are kept") == 1
    assert len(folders(tmp_path)) == 1  # the teacher
    assert has_begun(tmp_path)  # and the student goes on from there
