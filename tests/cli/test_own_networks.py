"""Networks by name and given weights on the command line and in `Settings`."""

from __future__ import annotations

import json
import shlex
import shutil

import pytest
import torch
from commands import refused
from foreign_networks import FILE, own_file
from safetensors.torch import load_file

from kit.__main__ import main
from kit.errors import KitError
from kit.files import cache_folder
from kit.paper.plan import Chosen, Plan
from kit.paper.settings import Settings
from kit.recipe import hard_labels
from kit.runs.store import find, folder_of

pytestmark = pytest.mark.usefixtures("own_cache")
SMOKE = ["train", "--role", "cifar-10", "--preset", "smoke", "--epochs", "1", "--jobs", "1"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "beside.py").write_text("WIDTH = 4\n")
    own_file(tmp_path, FILE.replace("import torch\n", "import torch\nimport beside\n", 1))
    return tmp_path


def test_a_teacher_of_timm_and_a_student_of_ones_own_then_the_teacher_given_back(here, capfd):
    own = ["--student", "my_nets.py:tiny", "--student-args", '{"depth": 2}', "--json"]
    assert main([*SMOKE, "--teacher", "timm:test_resnet", *own]) == 0
    printed = capfd.readouterr()
    assert "building tiny" in printed.err  # here and in the worker
    assert "building" not in printed.out and len(printed.out.splitlines()) > 2
    record = json.loads(printed.out.splitlines()[-1])
    assert (record["student"], record["given"]) == ("my_nets.py:tiny", {})

    teacher, student = (path for path in (cache_folder() / "runs").iterdir() if path.is_dir())
    teacher, student = (teacher, student) if student.name == record["run"] else (student, teacher)
    shutil.copy(teacher / "student.safetensors", "teacher.safetensors")
    again = [*SMOKE, "--teacher", "timm:test_resnet", "--teacher-weights", "teacher.safetensors", *own]
    assert main(again) == 0
    printed = capfd.readouterr()
    given = json.loads(printed.out.splitlines()[-1])
    assert given["run"] != record["run"]
    measured = given["given"]["big"]["test_top1"]
    assert f"big teacher timm:test_resnet, given: test Top-1 {measured:.1%}" in printed.out
    theirs, ours = (load_file(folder_of(run["run"]) / "student.safetensors") for run in (record, given))
    assert all(torch.equal(tensor, ours[name]) for name, tensor in theirs.items())


def test_settings_say_the_command_and_the_same_run_follows_from_a_plan(here):
    torch.save(Settings(student="my_nets.py:tiny", role="cifar-10", preset="smoke").run().begun().state_dict(), "w.pth")
    settings = Settings(
        student="my_nets.py:tiny", student_args={"depth": 1, "drop": 0.5}, student_weights="w.pth", role="cifar-10",
        preset="smoke",
    )  # fmt: skip
    words = shlex.split(settings.command())
    options = dict(zip(words[4::2], words[5::2], strict=True))
    assert json.loads(options["--student-args"]) == {"depth": 1, "drop": 0.5}
    assert options["--student-weights"] == "w.pth"
    again = Settings(**{name[2:].replace("-", "_"): value for name, value in options.items()})
    chosen = Chosen("my_nets.py:tiny", {"drop": 0.5, "depth": 1}, "w.pth")
    planned = Plan.of("smoke").student(chosen, "cifar-10", lambda epochs: hard_labels(), None)
    assert settings.run().hash == again.run().hash == planned.hash
    assert find(planned) is None


REFUSED = {
    "--student torchvision:resnet81": "network 'torchvision:resnet81' is not known; nearest: resnet18",
    "--student resnet18": "model 'resnet18' is not known; allowed: cnn, vgg16, vgg19, resnet34, resnet50, "
    "torchvision:NAME, timm:NAME, FILE.py:FUNCTION, MODULE:FUNCTION",
    "--student :tiny": "model ':tiny' is not known",
    "--student my_nets.py:": "model 'my_nets.py:' is not known",
    "--student other.py:tiny": "network 'other.py:tiny': file other.py cannot be read (No such file or directory)",
    "--student my_nets.py:tiny --width 3": "width 3 is not allowed; allowed: for cnn, vgg16",
    "--student my_nets.py:tiny --student-args depth": "--student-args 'depth' is not allowed; allowed: a JSON object",
    "--student my_nets.py:tiny --student-args [1]": "--student-args '[1]' is not allowed; allowed: a JSON object",
    "--student cnn --student-args {\"depth\":1}": "model 'cnn' has no arguments; allowed: for torchvision:NAME",
    "--student cnn --teacher-args {}": "--teacher-args '{}' is of no network; give --teacher",
    "--student cnn --teacher-weights w.pth": "--teacher-weights 'w.pth' is of no network; give --teacher",
    "--student cnn --teacher cnn --teacher-weights w.pth": "w.pth' cannot be read (No such file or directory)",
    "--student cnn --student-weights my_nets.py": "my_nets.py' cannot be read (",
}  # fmt: skip


@pytest.mark.parametrize("words", REFUSED)
def test_wrong_words_are_refused_in_one_line(words, here, capsys):
    assert REFUSED[words] in refused([*SMOKE, *words.split()], capsys)


def test_a_plan_refuses_names_that_it_does_not_know():
    with pytest.raises(KitError, match="model 'tiny' is not known"):
        Plan.of("smoke").teacher("tiny", "cifar-10")


def test_help_names_the_forms(capsys):
    assert main(["train", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    for words in ("torchvision:NAME, timm:NAME", "--student-args", "--small-teacher-weights"):
        assert words in told
