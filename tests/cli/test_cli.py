"""The command line, in this process: wrong input is one line and status 2; right input ends in JSON that parses."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from commands import last_json, refused
from made_cache import make_all
from small_runs import Here

from kit.__main__ import main
from kit.cli import options
from kit.grid import engines
from kit.grid.engines import Task
from kit.paper import table2
from kit.paper.plan import Plan, runs_of

ROOT = Path(__file__).resolve().parents[2]
DISTIL = ["train", "--preset", "smoke", "--role", "cifar-10", "--student", "cnn", "--teacher", "vgg16"]


@pytest.fixture
def no_training(monkeypatch):
    monkeypatch.setattr(engines, "LocalProcesses", lambda *_: pytest.fail("something was trained"))


# ---- wrong input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "--student", "vgg17"], "model 'vgg17' is not known; allowed: cnn, vgg16, vgg19, resnet34, resnet50"),
        ([*DISTIL, "--teacher", "resnet18"], "model 'resnet18'"),
        ([*DISTIL, "--small-teacher", "tiny"], "model 'tiny'"),
        ([*DISTIL, "--role", "mnist"], "role 'mnist' is not known; allowed: cifar-10, cifar-100, imagenet, hrsc2016"),
        ([*DISTIL, "--preset", "huge"], "preset 'huge' is not known; allowed: smoke, quick, paper"),
        ([*DISTIL, "--source", "fake"], "source of cifar-10 'fake'"),
        ([*DISTIL, "--source", "real"], "no real images for cifar-10"),
        (
            [*DISTIL, "--temperature", "hot"],
            "temperature 'hot' is not known; allowed: adaptive, schedule, rising, CTKD, ",
        ),
        ([*DISTIL, "--temperature", "nan"], "T: nan"),
        ([*DISTIL, "--reading", "loose"], "reading: 'loose'"),
        ([*DISTIL, "--k", "0.5"], "k: 0.5"),
        ([*DISTIL, "--alpha", "1.5"], "alpha: 1.5"),
        ([*DISTIL, "--alpha", "nan", "--small-teacher", "cnn"], "alpha: nan"),
        ([*DISTIL, "--rate", "0"], "rate: 0.0"),
        ([*DISTIL, "--follows", "mse"], "follows: 'mse'"),
        ([*DISTIL, "--logits", "float8"], "logits: 'float8'"),
        ([*DISTIL, "--optimiser", "lbfgs"], "optimiser: 'lbfgs'"),
        ([*DISTIL, "--epochs", "0"], "epochs: 0"),
        ([*DISTIL, "--epochs", "99999999999999999999"], "epochs: 99999999999999999999"),
        ([*DISTIL, "--batch", "1"], "batch: 1"),
        ([*DISTIL, "--lr", "0"], "lr: 0.0"),
        ([*DISTIL, "--width", "0"], "width: 0"),
        ([*DISTIL, "--seed", "-1"], "seed: -1"),
        ([*DISTIL, "--seed", "99999999999999999999"], "seed: 99999999999999999999"),
        ([*DISTIL, "--jobs", "0"], "--jobs 0 is not allowed; allowed: a whole number from 1 up"),
        (
            [*DISTIL, "--epochs", "many"],
            "'--epochs': Input should be a valid integer, unable to parse string as an integer: got 'many'",
        ),
        ([*DISTIL, "--data", "/no/such/folder"], "folder '/no/such/folder' is not there"),
        (["train"], "--student"),
        (["train", "--student", "cnn", "--small-teacher", "vgg16"], "--small-teacher 'vgg16' is not allowed"),
        (["train", "--student", "cnn", "--k", "0.5"], "allowed: 20.0, as there is no --teacher"),
        (["train", "--student", "cnn", "--alpha", "2"], "alpha: 2.0"),
        (["train", "--student", "cnn", "--temperature", "5"], "--temperature '5' is not allowed; allowed: "),
        (["train", "--student", "cnn", "--teacher", ""], "teacher: '' is not allowed"),  # of a shell's unset variable
        (["judge", "--data", ""], "data: '' is not allowed"),
        ([*DISTIL, "--temperature", "5", "--rate", "3"], "--rate 3.0 is not allowed; allowed: without it, as tempera"),
        (["train", "--student", "cnn", "--colour", "red"], "--colour"),
        (["table", "9"], "table '9' is not known; allowed: 1, 2"),
        (["table", "2", "--preset", "huge"], "preset 'huge'"),
        (["table", "2", "--assistants", "vgg16"], "table 2 has no assistants; allowed: for table 4"),
        (["table", "4", "--assistants", "vgg16,tiny"], "model 'tiny'"),
        (["table", "4", "--assistants", ""], "model '' is not known; allowed: cnn, "),  # no assistant is no such method
        (["table", "4", "--preset", "smoke", "--cost-target", "3e4"], "cost target 30000 FLOPs an image cannot be met"),
        (["table", "4", "--preset", "smoke", "--cost-target", "nan"], "cost target nan FLOPs"),
        (["table", "2", "--seeds", "0"], "--seeds 0 is not allowed; allowed: a whole number from 1 up"),
        (["table", "2", "--role-data", "cifar-100"], "role data 'cifar-100' is not of the form NAME=VALUE"),
        (["table", "2", "--role-data", "mnist=real"], "role 'mnist'"),
        (
            ["table", "2", "--role-data", "imagenet=embedded"],
            "role of table 2 'imagenet' is not known; allowed: cifar-",
        ),
        (["table", "2", "--preset", "smoke", "--seeds", "5000000"], "allowed: a whole number from 1 to 1000"),
        (["table", "2", "--role-data", "cifar-100=fake"], "source of cifar-100 'fake'"),
        (["table", "2", "--data", "/no/such/folder"], "'/no/such/folder'"),
        (["figures", "99"], "notebook '99' is not known; allowed: 00_start_here"),
        (["figures", "00", "-p", "colour=red"], "notebook parameter 'colour'"),
        (["figures", "00", "-p", "colour"], "parameter 'colour' is not of the form NAME=VALUE"),
        (["figures", "09", "-p", 'networks={"student":'], "parameter 'networks' '{\"student\":' is not JSON"),
        (
            ["figures", "09", "-p", "networks=abc"],
            "notebook parameter networks 'abc' is not allowed; allowed: a JSON o",
        ),
        (["figures", "09", "-p", 'networks={"seeds": 2}'], "networks has 'seeds'; allowed: -p seeds=… beside it"),
        (["figures", "09", "-p", 'networks={"studnet": "cnn"}'], "studnet: 'cnn' is not allowed"),
        (["figures", "09", "-p", 'networks={"student": "cnm"}'], "model 'cnm'"),
        (["figures", "00", "-p", "seeds=many"], "notebook parameter seeds: 'many'"),
        (["figures", "01", "--preset", "huge"], "preset 'huge'"),
        (["figures", "01", "--data", "/no/such/folder"], "'/no/such/folder'"),
        (["data", "check", "mnist"], "role 'mnist'"),
        (["data", "check", "cifar-10", "--level", "type"], "level 'type' is not allowed for role 'cifar-10'"),
        (["train", "--student", "cnn", "--role", "hrsc2016", "--preset", "smoke", "--level", "ship"], "have one class"),
        (["data", "prepare", "mnist"], "role 'mnist'"),
        (["data", "download", "mnist", "--data", "x"], "role 'mnist'"),
        (["data", "download", "imagenet", "--data", "x"], "role to download 'imagenet'"),
        (["data", "list", "--data", "/no/such/folder"], "'/no/such/folder'"),
        (["paint"], "'paint'"),
    ],
)
def test_wrong_input_is_one_line(arguments, said, capsys, no_training):
    assert said in refused(arguments, capsys)


@pytest.mark.parametrize("where", ["cifar-10-batches-py", "cifar-10/cifar-10-batches-py"])
def test_a_half_downloaded_cifar_is_refused(where, tmp_path, capsys, no_training):
    folder = tmp_path / where
    folder.mkdir(parents=True)
    (folder / "data_batch_1").write_bytes(b"the first few bytes of it")
    for arguments in (DISTIL, ["table", "1", "--preset", "smoke"]):
        line = refused([*arguments, "--data", str(tmp_path)], capsys)
        assert "data_batch_1 has another md5" in line
        assert str(folder) in line
    assert main(["data", "list", "--data", str(tmp_path)]) == 2  # a line for each role that cannot be filled
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("cifar-10: ") and "data_batch_1 has another md5" in lines[0]
    assert [line.split(":")[0] for line in lines] == ["cifar-10", "cifar-100", "imagenet", "hrsc2016"]


def test_without_a_command_there_is_help(capsys):
    for arguments, word in (([], "train"), (["data"], "download"), (["cache"], "prune")):
        assert main(arguments) == 2
        captured = capsys.readouterr()
        assert word in captured.out
        assert len(captured.out.splitlines()) > 5
        assert captured.err == ""


def test_every_command_is_told_in_a_line_that_is_not_cut_and_has_help(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    seen = set()
    for group in ([], ["data"], ["cache"]):
        assert main([*group, "--help"]) == 0
        listed = capsys.readouterr().out.partition("Commands:")[2]
        for command, told in re.findall(r"^  ([a-z]+)  +(\w.+)$", listed, re.M):
            assert told.endswith(".") and not told.endswith("..")
            assert main([*group, command, "--help"]) == 0
            assert "Usage: python -m kit" in capsys.readouterr().out
            seen.add(command)
    assert {"figures", "train", "judge", "cam", "download", "prune"} <= seen


def test_as_a_program_wrong_input_is_one_line_and_status_2(tmp_path):
    command = [sys.executable, "-m", "kit", "train", "--student", "vgg16", "--teacher", "resnet34", "--k", "0.5",
               "--preset", "smoke", "--role", "cifar-10"]  # fmt: skip
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 2
    assert ran.stdout == ""
    (line,) = ran.stderr.splitlines()
    assert line.startswith("error: k: 0.5 is not allowed")


# ---- train -----------------------------------------------------------------------------------------------------------


def test_train_ends_in_json_and_trains_once(own_cache, capsys, monkeypatch):
    arguments = [*DISTIL, "--small-teacher", "cnn", "--width", "2", "--json"]
    assert main(arguments) == 0
    record = last_json(capsys)
    assert record["role"] == "cifar-10"
    assert record["data"]["source"] == "embedded"
    assert record["data"]["name"] == "scikit-learn digits"
    assert len(record["data"]["fingerprint"]) == 64
    for name in ("test_top1", "test_top5", "train_top1", "train_top5"):
        assert 0 <= record[name] <= 1
    assert record["test_top1"] <= record["test_top5"]
    assert record["seconds"] > 0
    assert [stage["name"] for stage in record["stages"]] == ["small teacher", "big teacher", "hard labels"]
    for stage in record["stages"]:
        assert set(stage) == {"name", "epochs", "steps", "ended_by", "t_start", "t_end"}
        assert stage["ended_by"] in ("temperature", "budget")
        assert stage["epochs"] == pytest.approx(stage["steps"] / 5)  # 160 images in batches of 32
    assert [stage["t_start"] for stage in record["stages"]] == [20.0, 20.0, None]
    assert sum(stage["epochs"] for stage in record["stages"]) == pytest.approx(record["epochs"]) == 2
    folder = Path(record["folder"])
    assert folder == own_cache / "runs" / record["run"]
    assert json.loads((folder / "metrics.json").read_text())["test_top1"] == record["test_top1"]
    assert (
        len([path for path in (own_cache / "runs").iterdir() if path.is_dir()]) == 3
    )  # the student and its two teachers

    monkeypatch.setattr(engines, "LocalProcesses", lambda *_: pytest.fail("trained again"))
    assert main(arguments) == 0
    assert last_json(capsys) == record


def test_train_in_one_step(own_cache, here, capsys):
    """It is the big teacher's: of one step, 45 % round to none and 80 % to one."""
    assert main([*DISTIL, "--small-teacher", "cnn", "--epochs", "1", "--batch", "500", "--width", "2", "--json"]) == 0
    record = last_json(capsys)
    assert [(stage["steps"], stage["ended_by"]) for stage in record["stages"]] == [
        (0, "budget"),
        (1, "budget"),
        (0, "budget"),
    ]


def test_logits_rounded_to_float16_are_another_run(own_cache, here, capsys):
    records = []
    for more in ([], ["--logits", "float16"]):
        arguments = [*DISTIL, "--temperature", "5", "--epochs", "1", "--width", "2", "--json", *more]
        assert main(arguments) == 0
        records.append(last_json(capsys))
    assert records[0]["run"] != records[1]["run"]
    assert "logits" not in json.loads((own_cache / "runs" / records[0]["run"] / "run.json").read_text())
    assert json.loads((own_cache / "runs" / records[1]["run"] / "run.json").read_text())["logits"] == "float16"
    assert records[0]["cached_logits_s"] == 0  # nobody else wanted them


def test_a_diverging_student_is_told_in_one_line(own_cache, here, capsys):
    arguments = ["train", "--preset", "smoke", "--role", "cifar-10", "--student", "cnn", "--lr", "1e30"]
    assert main(arguments) == 1
    captured = capsys.readouterr()
    (line,) = (line for line in captured.err.splitlines() if "did not finish" in line)
    assert "the loss is not a finite number at step" in line
    assert "Traceback" not in captured.err
    assert captured.out == ""


# ---- table -----------------------------------------------------------------------------------------------------------


def test_table_2(here, capsys, tmp_path):
    csv = tmp_path / "runs.csv"
    assert main(["table", "2", "--preset", "smoke", "--seeds", "2", "--csv", str(csv), "--json"]) == 0
    record = last_json(capsys)
    assert (record["table"], record["preset"]) == ("2", "smoke")
    rows = record["rows"]
    assert len(rows) == 7 * 2
    assert {row["seed"] for row in rows} == {0, 1}
    assert {row["role"] for row in rows} == {"cifar-100"}
    assert {(row["temperature"], row["reading"]) for row in rows} >= {
        ("T=5", "printed"), ("T=20", "hinton"), ("adaptive", "three steps"), ("hard labels", "no teacher"),
    }  # fmt: skip
    assert all(0 <= row["test_top1"] <= row["test_top5"] <= 1 for row in rows if row["status"] == "finished")
    assert record["claims"]
    assert {claim["verdict"] for claim in record["claims"]} <= {
        "holds here", "does not hold here", "cannot be told from these data",
    }  # fmt: skip
    assert len(csv.read_text().splitlines()) == 15


def test_a_table_whose_runs_did_not_finish_ends_in_1(monkeypatch, capsys, own_cache):
    class Without(Here):
        """An engine that one run is too many for."""

        def submit(self, task):
            nothing = Task(task.key, task.title, lambda about, tick: "no memory", None)
            return super().submit(nothing if task.key == lost.hash else task)

    lost, *others = runs_of(table2.table(Plan.of("smoke"), 2))
    make_all(others)
    monkeypatch.setattr(options, "engine_at", lambda *_: Without())
    assert main(["table", "2", "--preset", "smoke", "--seeds", "2", "--json"]) == 1
    captured = capsys.readouterr()
    assert f"run {lost.hash} ({lost.title}) did not finish: no memory" in captured.err
    rows = json.loads(captured.out.splitlines()[-1])["rows"]
    assert [row["status"] for row in rows if row["run"] == lost.hash] == ["did not finish: no memory"]


def test_table_4_with_assistants_and_a_cost_target(here, capsys):
    asked = ["table", "4", "--preset", "smoke", "--seeds", "1", "--assistants", "cnn", "--cost-target", "2e5", "--json"]
    assert main(asked) == 0
    rows = last_json(capsys)["rows"]
    own = {"hard labels", "hinton", "small alone", "ours"}
    assert {row["method"] for row in rows} == {*own, *(f"[{n}]" for n in range(9, 14))}
    needed = ("reading", "steps", "seconds_total", "seconds_student", "flops", "test_top1", "test_top5")
    assert all(row[name] is not None for row in rows for name in needed)


# ---- cache, data, doctor ---------------------------------------------------------------------------------------------


def test_siblings_are_rows_of_tables_2_and_3_alone(own_cache, capsys):
    from kit.siblings import SIBLINGS

    assert "table 1 has no --siblings; allowed: for tables 2 and 3" in refused(["table", "1", "--siblings"], capsys)
    make_all(runs_of(table2.table(Plan.of("smoke"), 1, own=SIBLINGS)))  # that they train is tested with themselves
    assert main(["table", "2", "--preset", "smoke", "--seeds", "1", "--siblings", "--json"]) == 0
    told = last_json(capsys)
    rows = {(row["temperature"], row["reading"]) for row in told["rows"]}
    assert rows == {*SIBLINGS, *table2.PROCEDURES}
    assert len(told["own"]) == len(SIBLINGS) * len(table2.PROCEDURES)  # each sibling against each of the paper's


def test_cache_list_verify_prune(own_cache, here, capsys):
    assert main(["cache", "list"]) == 0
    assert capsys.readouterr().out == "no runs yet\n"
    for seed in ("0", "1", "2"):
        assert main(["train", "--preset", "smoke", "--role", "cifar-10", "--student", "cnn", "--seed", seed,
                     "--epochs", "1"]) == 0  # fmt: skip
    capsys.readouterr()
    assert main(["cache", "list", "--json"]) == 0
    listed = last_json(capsys)
    assert {(entry["device"], entry["status"]) for entry in listed} == {("cpu", "whole")}
    assert {entry["title"] for entry in listed} == {f"CNN on cifar-10, seed {seed}" for seed in range(3)}
    assert main(["cache", "verify"]) == 0
    assert capsys.readouterr().out == "3 of 3 runs are whole\n"

    hurt = listed[0]["run"]
    weights = own_cache / "runs" / hurt / "student.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    assert main(["cache", "verify"]) == 2
    captured = capsys.readouterr()
    assert captured.err == f"run {hurt}: student.safetensors does not match its checksum\n"
    assert captured.out == "2 of 3 runs are whole\n"
    assert main(["cache", "list", "--json"]) == 0
    assert {e["run"]: e["status"] for e in last_json(capsys)}[hurt].startswith("student.safetensors")

    assert main(["cache", "prune", "--damaged"]) == 0
    assert capsys.readouterr().out == "removed 1 runs\n"
    left = {path.name for path in (own_cache / "runs").iterdir() if path.is_dir()}
    assert left == {entry["run"] for entry in listed[1:]}
    assert main(["cache", "prune", "--keep", listed[1]["run"]]) == 0
    assert {path.name for path in (own_cache / "runs").iterdir() if path.is_dir()} == {listed[1]["run"]}
    assert main(["cache", "prune"]) == 0
    assert main(["cache", "verify"]) == 0


def test_data_list(capsys):
    assert main(["data", "list", "--json"]) == 0
    found = last_json(capsys)
    assert [entry["role"] for entry in found] == ["cifar-10", "cifar-100", "imagenet", "hrsc2016"]
    assert {entry["source"] for entry in found} == {"embedded"}
    assert [entry["classes"] for entry in found[:2]] == [10, 100]
    assert all(len(entry["fingerprint"]) == 64 for entry in found)


def test_doctor_says_what_is_here(capsys):
    assert main(["doctor"]) == 0
    told = capsys.readouterr().out
    assert f"small-teacher-kit {tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['version']}\n" in told
    assert f"torch {torch.__version__.split('+')[0]}" in told
    assert f"python {sys.version.split()[0]}" in told
    for role in ("cifar-10: scikit-learn digits (embedded)", "cifar-100: ", "imagenet: ", "hrsc2016: "):
        assert role in told
    assert "GPU: " in told


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here, a disk that is always full")
def test_output_that_cannot_be_written_is_one_line():
    with open("/dev/full", "w") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "kit", "cache", "list"], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert (ran.returncode, ran.stderr) == (2, "error: cannot write the output: No space left on device\n")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGPIPE")
def test_who_wants_no_more_may_close_the_pipe():
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as closed:
        ran = subprocess.run(
            [sys.executable, "-m", "kit", "cache", "list"], cwd=ROOT, stdout=closed, stderr=subprocess.PIPE, text=True
        )
    assert ran.returncode in (1, 128 + signal.SIGPIPE) and ran.stderr == ""


@pytest.mark.skipif(os.name == "nt", reason="Windows has another shell")
def test_streams_that_are_closed_cost_no_training(own_cache):
    words = f"{sys.executable} -m kit train --role cifar-10 --student cnn --preset smoke --epochs 1 <&- >&- 2>&-"
    assert subprocess.run(words, shell=True, cwd=ROOT).returncode == 0
    assert len(list((own_cache / "runs").glob("*/student.safetensors"))) == 1


def test_a_tilde_that_the_shell_left_is_the_home(own_cache, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["cache", "export", "~/sent"]) == 0
    assert f"0 runs are in {tmp_path / 'sent'}" in capsys.readouterr().out


def test_doctor_names_a_package_that_is_missing(capsys, monkeypatch):
    monkeypatch.setattr("kit.cli.machine.PACKAGES", ("torch", "no-such-package"))
    assert main(["doctor"]) == 2
    said = capsys.readouterr().out
    assert "no-such-package: not installed\n" in said and "cifar-100: " in said


@pytest.mark.parametrize("command", ["doctor", "data list"])
def test_whatever_is_wrong_with_a_role_costs_that_role(command, own_cache, monkeypatch, capsys):
    from kit.data import roles

    whole = roles.load

    def load(role, *sizes, **options):
        if role == "cifar-100":
            raise OSError("the disk hums")
        return whole(role, *sizes, **options)

    monkeypatch.setattr(roles, "load", load)
    assert main(command.split()) == 2
    told = capsys.readouterr().out
    assert "cifar-100: OSError: the disk hums" in told and "imagenet" in told and "hrsc2016" in told
