"""Given weights: read whatever wraps them, named where they do not fit; a given teacher teaches as its own run does."""

from __future__ import annotations

import argparse
import json
import os
from collections import OrderedDict
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

import numpy as np
import pytest
import torch
from commands import one_line
from foreign_networks import FILE, named, own_file, trained
from safetensors.torch import load_file, save_file
from small_runs import Here, hard, taught
from small_trainings import same_weights
from torch import nn

from kit.errors import KitError
from kit.grid.durations import Pace
from kit.grid.training import train_all
from kit.models import ModelSpec
from kit.runs.spec import Run, changed, hash_of
from kit.runs.store import cached, find
from kit.runs.training import train
from kit.runs.weights import Given, Weights

pytestmark = pytest.mark.usefixtures("own_cache")
CNN = ModelSpec(name="cnn", classes=10, width=2, stem="small")


def brought(run: Run, tmp_path: Path) -> Run:
    """The run's network, taken out of the cache and given back as weights."""
    file = tmp_path / f"{run.hash}.safetensors"
    file.write_bytes((find(run).folder / "student.safetensors").read_bytes())
    return changed(run, weights=Weights.of(file, run.student), recipe=Given(), seed=0)


# ---- a given teacher ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["torchvision:shufflenet_v2_x0_5", "timm:test_resnet"])
@pytest.mark.parametrize("shared", [False, True], ids=["asked", "cached logits"])
def test_a_student_of_given_weights_is_the_one_of_the_run_they_come_from(name, shared, tmp_path):
    big, small = trained(named(name, px=8), px=8), hard(width=3)
    runs = [taught(big, small), *([taught(big, small, epochs=4)] if shared else [])]
    first = train_all(runs, jobs=Here(), show_progress=False)
    teachers = [brought(teacher, tmp_path) for teacher in (big, small)]
    given = [taught(*teachers, epochs=run.recipe.epochs) for run in runs]
    again = train_all(given, jobs=Here(), show_progress=False)
    for run, other in zip(runs, given, strict=True):
        assert run.hash != other.hash
        assert same_weights(*(load_file(find(each).folder / "student.safetensors") for each in (run, other)))
        assert first[run].metrics["agreement"] == again[other].metrics["agreement"]
    measured, known = (find(each).metrics for each in (teachers[0], big))
    for score in ("train_top1", "train_top5", "test_top1", "test_top5"):
        assert measured[score] == known[score]
    assert measured["student_flops"] == 0


def test_a_given_teacher_is_a_run_like_others(tmp_path):
    train(hard())
    given = brought(hard(), tmp_path)
    result = train(given)
    assert same_weights(result.student(), find(hard()).student())
    assert given.title == f"CNN on cifar-10, given weights {given.weights.sha256[:8]}"
    assert {entry.title for entry in cached()} == {given.title, hard().title}
    assert len(result.steps) == len(result.epochs) == 0
    described = json.loads((result.folder / "run.json").read_text())
    assert hash_of(described) == given.hash
    assert str(tmp_path) not in json.dumps(described)
    assert Pace().seconds(given) == 0


def test_the_files_content_decides_and_its_place_does_not(tmp_path):
    train(hard()), train(hard(seed=1))
    here, other = brought(hard(), tmp_path), brought(hard(seed=1), tmp_path)
    (tmp_path / "moved").mkdir()
    assert brought(hard(), tmp_path / "moved").hash == here.hash != other.hash
    assert here.hash != hard().hash
    assert "weights" not in hard().model_dump(mode="json")


def test_a_teacher_at_chance_level_is_told_before_its_student_is_taught(tmp_path, capsys):
    network = CNN.build(0)
    nn.init.zeros_(network.fc.weight)
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    given = changed(hard(), weights=Weights.of(tmp_path / "w.safetensors", CNN), recipe=Given(), seed=0)
    for epochs in (1, 2):  # measured, and known
        train_all([taught(given, epochs=epochs)], jobs=Here(), show_progress=False)
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"warning: {given.title}: test Top-1 10.0% on 30 images is at chance level, 10.0%; ")
    train_all([taught(hard(epochs=20))], jobs=Here(), show_progress=False)
    assert capsys.readouterr().err == ""


def test_a_recipe_of_no_epochs_needs_weights():
    with pytest.raises(ValueError, match="a recipe of no epochs needs weights"):
        changed(hard(), recipe=Given())


# ---- a warm start -------------------------------------------------------------------------------------------------


def test_a_student_begins_with_its_weights(tmp_path):
    train(hard())
    weights = brought(hard(), tmp_path).weights
    warm = changed(hard(seed=3), weights=weights)
    assert same_weights(warm.begun(), find(hard()).student())
    assert warm.hash != hard(seed=3).hash
    assert not same_weights(train(warm).student(), train(hard(seed=3)).student())
    assert warm.title == f"CNN on cifar-10, seed 3, from weights {weights.sha256[:8]}"


# ---- files --------------------------------------------------------------------------------------------------------


def prefixed(prefix: str, state: dict) -> dict:
    return {prefix + name: tensor for name, tensor in state.items()}


LAYOUTS = {
    "plain": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3, "best_acc1": torch.tensor(70.1)},
    "RepDistiller": lambda state: {"epoch": 240, "model": state, "best_acc": torch.tensor(72.3), "optimizer": {}},
    "RepDistiller, older": lambda state: {"opt": argparse.Namespace(lr=0.1), "model": state, "accuracy": np.float64(1)},
    "timm": lambda state: {"epoch": 1, "arch": "x", "state_dict": state, "args": argparse.Namespace(lr=0.1),
                           "version": 2, "metric": 71.5},
    "timm, averaged": lambda state: {"state_dict": {k: v + 1 for k, v in state.items()}, "state_dict_ema": state},
    "timm, no average": lambda state: {"state_dict_ema": {}, "model_ema": None, "model": state},
    "net": lambda state: {"net": state, "acc": 93.1, "epoch": 9},
    "model_state": lambda state: {"model_state": state, "cfg": {"lr": 0.1}},
    "data parallel": lambda state: {"state_dict": prefixed("module.", state)},
    "compiled": lambda state: prefixed("_orig_mod.", state),
    "both": lambda state: {"model": prefixed("module._orig_mod.", state)},
    "Lightning": lambda state: {"state_dict": OrderedDict(prefixed("model.", state)), "hyper_parameters": {"lr": 1}},
    "torch's averaged model": lambda state: prefixed("module.", state) | {"n_averaged": torch.tensor(5)},
    "without counters": lambda state: {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")},
    "half": lambda state: {k: v.half() if v.is_floating_point() else v for k, v in state.items()},
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_layouts(layout, zipped, tmp_path):
    network = CNN.build(4)
    network.load_state_dict({k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()})
    torch.save(LAYOUTS[layout](network.state_dict()), tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    weights = Weights.of(tmp_path / "w.pth", CNN)
    assert same_weights(weights.into(CNN.build(0), "CNN"), network)


def test_a_networks_own_prefix_stays(tmp_path):
    """DistributedDataParallel's `module.` is taken off, that of a network with such a part of its own is not."""
    text = FILE + "\n\nclass Module(nn.Module):\n    def __init__(self, num_classes):\n        super().__init__()\n"
    text += "        self.module = tiny(num_classes)\n\n    def forward(self, x):\n        return self.module(x)\n"
    network = named(f"{own_file(tmp_path, text)}:Module")
    for depth in (0, 1, 2):
        torch.save(prefixed("module." * depth, network.build(1).state_dict()), tmp_path / "w.pth")
        assert same_weights(Weights.of(tmp_path / "w.pth", network).into(network.build(0), "Module"), network.build(1))


class Code:
    def __reduce__(self):
        return print, ("executed",)


def written(content: object, path: Path) -> None:
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)


STATE = CNN.build(0).state_dict()
BIAS = STATE["fc.bias"]
ITSELF: dict = {}
ITSELF["state_dict"] = ITSELF
NAN = STATE | {"fc.bias": torch.full((10,), torch.nan)}
BAD = {
    "another network": (ModelSpec(name="resnet34", classes=10, width=2, stem="small").build(0).state_dict(),
                        "do not fit CNN: missing: features.0.weight, features.1.weight, features.1.bias and "),
    "other classes": (ModelSpec(name="cnn", classes=7, width=2, stem="small").build(0).state_dict(),
                      "do not fit CNN: of another shape: fc.weight (7, 8) rather than (10, 8), fc.bias (7,) rather"),
    "another's beside it": ({f"net.own.{name}": each for name, each in STATE.items()} | {"loss.weight": BIAS},
                            " more; allowed: a file of those alone that begin with 'net.own.', without it"),
    "keys too many": (STATE | {"head.weight": torch.zeros(1)}, "do not fit CNN: unexpected: head.weight"),
    "not numbers": (NAN, "are not finite numbers: fc.bias; allowed: finite ones"),
    "beyond float32": (STATE | {"fc.bias": BIAS.double() + 1e300}, "are not finite numbers: fc.bias; allowed: finite"),
    "sparse": (STATE | {"fc.bias": BIAS.to_sparse()}, "are not plain numbers: fc.bias; allowed: dense tensors of real"),
    "without content": (STATE | {"fc.bias": BIAS.to("meta")}, "are not plain numbers: fc.bias"),
    "complex": (STATE | {"fc.bias": torch.complex(BIAS, BIAS)}, "are not plain numbers: fc.bias"),
    "a number for a name": (STATE | {1: BIAS}, "do not fit CNN: unexpected: 1"),
    "itself": (ITSELF, "cannot be read (it holds a dict of state_dict, no state dict)"),
    "code": ({"state_dict": STATE, "hook": Code()}, "cannot be read (it holds code, "),
    "a whole network": (CNN.build(0), "cannot be read (it holds code, kit.models.CNN, which is not run)"),
    "a number": (3, "cannot be read (it holds a int, no state dict)"),
    "an empty file": ({}, "cannot be read (it holds a dict of nothing, no state dict)"),
    "no tensors": ({"epoch": 3, "lr": 0.1}, "cannot be read (it holds a dict of epoch, lr, no state dict)"),
    "empty": (b"", "cannot be read ("),
    "text": (b"once upon a time", "cannot be read ("),
    "safetensors cut short": (b"\x80\0\0\0\0\0\0\0{", "cannot be read (SafetensorError: "),
}  # fmt: skip


def test_eight_bits_are_read(tmp_path):
    state = {k: v.to(torch.float8_e4m3fn) if v.is_floating_point() else v for k, v in STATE.items()}
    save_file(state, tmp_path / "w.safetensors")
    read = Weights.of(tmp_path / "w.safetensors", CNN).into(CNN.build(1), "CNN")
    assert same_weights(read, {k: v.to(STATE[k].dtype) for k, v in state.items()})


@pytest.mark.filterwarnings("ignore:.*(nested|quantize)")
def test_tensors_that_hold_their_numbers_otherwise_are_refused(tmp_path):
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    for odd in (nested, torch.quantize_per_tensor(BIAS, 0.1, 0, torch.qint8)):
        torch.save(STATE | {"fc.bias": odd}, tmp_path / "w.pth")
        with pytest.raises(KitError, match="are not plain numbers: fc.bias") as raised:
            Weights.of(tmp_path / "w.pth", CNN)
        one_line(raised)


@pytest.mark.parametrize("what", BAD)
def test_files_that_are_refused(what, tmp_path, capsys):
    content, said = BAD[what]
    written(content, tmp_path / "w.pth")
    with pytest.raises(KitError) as raised:
        Weights.of(tmp_path / "w.pth", CNN)
    message = one_line(raised)
    assert message.startswith(f"weights '{tmp_path}/w.pth' ")
    assert said in message
    assert "executed" not in capsys.readouterr().out


def sparse(path: Path, numbers: int) -> None:
    """Writes a safetensors file whose head tells of so many numbers, of which none is on the disk."""
    shape, size = [10, numbers // 10], 4 * numbers
    head = json.dumps({"fc.weight": {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}}).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head)
    os.truncate(path, 8 + len(head) + size)


def test_files_that_are_larger_than_the_memory_or_the_network_are_refused_unread(tmp_path):
    file, before = tmp_path / "w.safetensors", getrusage(RUSAGE_SELF).ru_maxrss
    sparse(file, 500_000_000)
    allowed = (
        "do not fit CNN: missing: .*; of another shape: fc.weight .10, 50000000. rather than .10, 8.|do not fit the"
    )
    with pytest.raises(KitError, match=allowed) as raised:
        Weights.of(file, CNN)
    one_line(raised)
    sparse(file, 250_000_000_000)
    with pytest.raises(
        KitError, match=r"cannot be read \(its 1000.0 GB do not fit the memory\); allowed: a safetensors"
    ):
        Weights.of(file, CNN)
    file.write_bytes(b"\x80\x02")  # a pickle's begin
    os.truncate(file, 10**12)
    with pytest.raises(KitError, match="its 1000.0 GB do not fit the memory"):
        Weights.of(file, CNN)
    assert getrusage(RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


def test_torch_files_cut_short_and_programs(tmp_path):
    torch.save(STATE, tmp_path / "w.pth")
    whole = (tmp_path / "w.pth").read_bytes()
    (tmp_path / "w.pth").write_bytes(whole[: len(whole) // 2])
    torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "program.pt")
    for name, said in (("w.pth", "it may be cut short"), ("program.pt", "TorchScript"), ("none.pth", "No such file"),
                       ("", "Is a directory")):  # fmt: skip
        with pytest.raises(KitError) as raised:
            Weights.of(tmp_path / name, CNN)
        assert said in one_line(raised)


def test_files_that_change_or_go_after_the_run_was_described(tmp_path):
    train(hard())
    given = brought(hard(), tmp_path)
    file = Path(given.weights.path)
    save_file(CNN.build(1).state_dict(), file)
    with pytest.raises(KitError, match="have changed since the run was described") as raised:
        train(given)
    one_line(raised)
    file.unlink()
    with pytest.raises(KitError, match="are not there; allowed: a file that this process sees") as raised:
        train(given)
    one_line(raised)
