"""What is evaluated, cached or taught from is finite, or the run is recorded as diverged."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_runs import hard, reseal, taught

from kit.cli.output import print_json
from kit.errors import KitError
from kit.runs.spec import DataSpec
from kit.runs.store import Failure, folder_of, lookup, stored
from kit.runs.training import compute_logits, train
from kit.runs.training import teacher_logits as kept_logits
from kit.training.history import Diverged

pytestmark = pytest.mark.usefixtures("own_cache")


def test_a_student_whose_logits_are_no_numbers_has_diverged():
    """One step, whose loss is a number, to weights that are none."""
    run = hard(epochs=1, batch=40, lr=1e30)
    for _ in range(2):  # the second time as recorded
        with pytest.raises(Diverged, match="the student's logits are not finite numbers after step 1$") as raised:
            train(run)
        assert raised.value.step == 1
    outcome = lookup(run)
    assert isinstance(outcome, Failure) and "logits" in outcome.reason and outcome.step == 1
    with pytest.raises(KitError, match="diverged"):
        stored(run.hash)


def test_a_loss_that_is_no_number_is_recorded_as_before():
    run = hard(lr=1e30)
    with pytest.raises(Diverged, match="the loss is not a finite number at step"):
        train(run)
    assert json.loads((folder_of(run.hash) / "diverged.json").read_text()).keys() == {"step"}
    assert lookup(run).reason.startswith("the loss is not")


def spoilt(run, value: float):
    """A whole run whose student's weights are not numbers, as could be stored once."""
    result = train(run)
    file = result.folder / "student.safetensors"
    weights = load_file(file)
    name = next(name for name in weights if name.endswith("weight"))
    weights[name] = torch.full_like(weights[name], value)
    save_file(weights, file)
    reseal(result.folder)
    return lookup(run)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_stored_student_of_no_numbers_neither_answers_nor_teaches(value):
    big = hard(width=3)
    result = spoilt(big, value)
    for ask in (result.student, stored(big.hash).student, lambda: train(taught(big))):
        with pytest.raises(KitError, match=f"run {big.hash}: its student's weights are not finite numbers"):
            ask()


def test_logits_that_overflow_half_precision_are_not_cached():
    big = hard(width=3)
    spoilt(big, 3e4)  # numbers all, whose logits are beyond 65,504
    run = taught(big).model_copy(update={"logits": "float16"})
    with pytest.raises(KitError, match="logits as float16 are not finite numbers in epoch 1"):
        list(compute_logits(run, "big", [0]))
    assert kept_logits(run, "big").missing([0]) == [0]
    with pytest.raises(Diverged):
        train(run)


def test_json_is_json(capsys):
    numbers = {"a": float("nan"), "b": [float("inf"), -float("inf"), 1.5], "c": {"d": torch.nan}, "e": None}
    print_json(numbers)
    line = capsys.readouterr().out

    def refuse(word: str) -> None:
        raise ValueError(word)

    said = json.loads(line, parse_constant=refuse)
    assert said == {"a": None, "b": [None, None, 1.5], "c": {"d": None}, "e": None}


def test_a_run_says_what_its_student_must_be_asked_with():
    run = hard(width=3)
    train(run)
    data = run.data.load()
    kept = stored(run.hash).images
    assert torch.equal(torch.tensor(kept["mean"]), data.mean_std[0])
    assert torch.equal(torch.tensor(kept["std"]), data.mean_std[1]) and kept["classes"] == list(data.classes)


def test_a_notebook_finds_the_data_of_its_runs_or_says_so(monkeypatch):
    found = DataSpec.of("cifar-10", 8, 4, 3)
    for fingerprint, is_fine in ((found.fingerprint, True), ("0" * 64, False)):
        monkeypatch.setenv("KIT_EXPECTED_DATA", json.dumps({found.asked: fingerprint}))
        assert DataSpec.of("cifar-10", 8, 4, 2).fingerprint  # other images than the runs' are free
        if is_fine:
            assert DataSpec.of("cifar-10", 8, 4, 3) == found
        else:
            with pytest.raises(KitError, match=f"{found.fingerprint[:12]}.*described with 000000000000"):
                DataSpec.of("cifar-10", 8, 4, 3)
