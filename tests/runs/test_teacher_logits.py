"""Cached teacher logits: what they are, who shares them, that they change no student, and what they cost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_runs import Here, hard, reseal, spec

import kit.runs.logits
from kit import recipe
from kit.data.augment import mixed
from kit.grid.training import epochs_with, shared_logits, train_all
from kit.models import ModelSpec
from kit.recipe import Recipe
from kit.runs.spec import Run
from kit.runs.store import folder_of
from kit.runs.training import compute_logits, start, train
from kit.runs.training import teacher_logits as kept_logits
from kit.temperature import Adaptive, Fixed
from kit.training.evaluation import evaluate

pytestmark = [pytest.mark.numerics, pytest.mark.usefixtures("own_cache")]

EPOCHS = 5


def student(stages, seed: int = 0, width: int = 2, **changes) -> Run:
    return Run(
        data=spec(),
        student=ModelSpec(name="cnn", classes=10, width=width, stem="small"),
        recipe=Recipe(stages=stages, epochs=EPOCHS, batch=16, pad=1),
        teachers={"big": hard(width=4), "small": hard(width=3)},
        seed=seed,
        **changes,
    )


def five(**changes) -> Run:
    return student(recipe.eq1(5, "hinton"), **changes)


def twenty(**changes) -> Run:
    return student(recipe.eq1(20, "hinton"), **changes)


def three_steps(**changes) -> Run:
    return student(recipe.small_teacher(Adaptive(rate=20)), **changes)


def with_logits() -> Run:
    """A student whose teachers are trained, the big one's logits of all epochs in the cache."""
    run = five()
    train(run.teachers["small"]), train(run.teachers["big"])
    list(compute_logits(run, "big", range(EPOCHS)))
    return run


def files(result) -> tuple[bytes, bytes]:
    return tuple((result.folder / name).read_bytes() for name in ("student.safetensors", "steps.csv"))


def live(runs, monkeypatch, tmp_path) -> dict[Run, tuple[bytes, bytes]]:
    """The same runs in a cache of their own, each asking its teachers in every step."""
    with monkeypatch.context() as patch:
        patch.setenv("KIT_CACHE", str(tmp_path / "live"))
        patch.setenv("KIT_LOGITS_GB", "0")
        results = train_all(runs, show_progress=False, jobs=Here())
        assert not any(result.metrics["cached_logits_images"] for result in results.values())
        return {run: files(result) for run, result in results.items()}


# ---- what they are ---------------------------------------------------------------------------------------------------


def by_hand(run: Run, epoch: int) -> torch.Tensor:
    """The teacher's logits of an epoch, image by image with numpy's padding, cropping and mirroring. (rows, C)"""
    data, pad = run.data.load(), run.recipe.pad
    generator = torch.Generator().manual_seed(mixed(run.seed, epoch))
    order = torch.randperm(40, generator=generator)
    offsets = torch.randint(0, 2 * pad + 1, (40, 2), generator=generator)
    mean, std = (stat.numpy() for stat in data.mean_std)
    images = []
    for i in order[:32].tolist():  # two whole batches of 16
        padded = np.pad(
            data.train.images.take(torch.tensor([i]))[0].numpy(), ((pad, pad), (pad, pad), (0, 0)), "reflect"
        )
        top, left = offsets[i].tolist()
        images.append((padded[top : top + 8, left : left + 8] - mean) / std)
    x = torch.tensor(np.stack(images)).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        return train(run.teachers["big"]).student()(x)


def test_they_are_the_teachers_of_the_epochs_batches_in_order():
    run = five(seed=3)
    train(run.teachers["big"])
    assert list(compute_logits(run, "big", [0, 4])) == [0, 4]
    kept = kept_logits(run, "big")
    for epoch in (0, 4):
        torch.testing.assert_close(kept(epoch).logits, by_hand(run, epoch), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(kept(0).logits, kept(4).logits, atol=1e-2)
    assert kept(1) is None
    assert kept.missing(range(5)) == [1, 2, 3]


def test_all_that_decides_them_names_them():
    run = five()
    other_batch = run.model_copy(update={"recipe": run.recipe.model_copy(update={"batch": 8})})
    other_pad = run.model_copy(update={"recipe": run.recipe.model_copy(update={"pad": 2})})
    others = [five(seed=1), five(logits="float16"), other_batch, other_pad]
    keys = [kept_logits(each, "big").key for each in (run, *others)] + [kept_logits(run, "small").key]
    assert len(set(keys)) == 6
    alike = [twenty(), three_steps(), five(width=3)]  # temperature, stages and student make no difference
    assert {kept_logits(each, "big").key for each in alike} == {keys[0]}


# ---- no student is another -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_students_are_the_same_bits_with_them_and_without(dtype, monkeypatch, tmp_path):
    runs = [make(logits=dtype) for make in (five, twenty, three_steps)]
    results = train_all(runs, show_progress=False, jobs=Here())
    assert {run: files(result) for run, result in results.items()} == live(runs, monkeypatch, tmp_path)
    assert [results[run].metrics["cached_logits_images"] for run in runs[:2]] == [EPOCHS * 32] * 2
    assert 0 < results[runs[2]].metrics["cached_logits_images"] < EPOCHS * 32  # the small teacher's are not shared


def test_float16_is_another_run_with_almost_the_same_student():
    whole, half = five(), five(logits="float16")
    assert whole.hash != half.hash
    assert "logits" not in whole.model_dump() and half.model_dump()["logits"] == "float16"
    a, b = (train_all([run], show_progress=False, jobs=Here())[run].student() for run in (whole, half))
    data = whole.data.load()
    scores = [evaluate(network, data.test, *data.mean_std).logits for network in (a, b)]
    assert not torch.equal(*scores)
    torch.testing.assert_close(*scores, rtol=0.1, atol=0.05)


def test_damaged_logits_are_not_used(monkeypatch, tmp_path, capsys):
    run = with_logits()
    kept = kept_logits(run, "big")
    flip(kept.place(2) / "logits.bin")
    (kept.place(3) / "about.json").unlink()
    result = train(run)
    assert result.metrics["cached_logits_images"] == (EPOCHS - 2) * 32
    said = capsys.readouterr().err.splitlines()
    assert [line.split(" are not used: ")[1] for line in said] == [
        "logits.bin does not match its checksum",
        "about.json is missing",
    ]
    assert kept.missing(range(EPOCHS)) == [2, 3]
    assert list(compute_logits(run, "big", range(EPOCHS))) == list(range(EPOCHS))
    assert kept.missing(range(EPOCHS)) == []
    assert files(result) == live([run], monkeypatch, tmp_path)[run]


def test_those_of_a_teacher_that_has_come_out_otherwise_are_not_used(capsys):
    """The same description, trained on another machine or by another torch, and taken over."""
    run = with_logits()
    folder = folder_of(run.teachers["big"].hash)

    def missing() -> list[int]:
        return kept_logits(run, "big").missing(range(EPOCHS))

    shutil.rmtree(folder)
    assert missing() == [*range(EPOCHS)]
    train(run.teachers["big"])  # to the same bits, in other seconds
    assert missing() == []
    weights = load_file(folder / "student.safetensors")
    save_file({name: tensor * 1.5 if tensor.ndim > 1 else tensor for name, tensor in weights.items()},
              folder / "student.safetensors")  # fmt: skip
    reseal(folder)
    assert missing() == [*range(EPOCHS)]
    result = train(run)
    assert result.metrics["cached_logits_images"] == 0
    said = capsys.readouterr().err.splitlines()
    assert [line.split(" are not used: ")[1] for line in said] == [
        "the teacher has been trained anew since, to other weights"
    ] * EPOCHS
    list(compute_logits(run, "big", range(EPOCHS)))
    shutil.rmtree(result.folder)
    again = train(run)
    assert again.metrics["cached_logits_images"] == EPOCHS * 32
    assert again.metrics["test_top1"] == result.metrics["test_top1"] and files(again) == files(result)


def test_those_that_another_process_removes_while_they_are_read_are_not_used(monkeypatch, capsys):
    run = with_logits()
    place, verified = kept_logits(run, "big").place(1), kit.runs.logits.complaint

    def complaint(folder, names):
        why = verified(folder, names)
        if folder == place:
            shutil.rmtree(place)
        return why

    monkeypatch.setattr(kit.runs.logits, "complaint", complaint)
    assert train(run).metrics["cached_logits_images"] == (EPOCHS - 1) * 32
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: teacher logits in {place} are not used: FileNotFoundError: ")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


# ---- what they cost --------------------------------------------------------------------------------------------------


def test_a_run_is_charged_what_computing_them_took():
    run = with_logits()
    cost = {"wall_s": 100.0, "cpu_s": 50.0, "gpu_s": 0.0}
    for epoch in range(EPOCHS):
        place = kept_logits(run, "big").place(epoch)
        (place / "about.json").write_text(json.dumps(cost))
        reseal(place)
    training = start(run)
    for step in training:
        if step == 3:  # of two steps an epoch: one epoch and a half
            break
    assert training.spent.cached_logits_s == pytest.approx(75)
    assert 75 < training.spent.cpu_s < 100
    assert 150 < training.spent.wall_s < 200
    assert training.spent.teacher_images == {"big": 48}  # FLOPs are the procedure's, cached or not
    assert training.spent.cached_logits_images == 48


# ---- who shares them -------------------------------------------------------------------------------------------------


def test_epochs_with_a_teacher():
    def epochs(stages, teacher):
        return epochs_with(Recipe(stages=stages, epochs=20), teacher)

    moving, still = Adaptive(rate=1), Fixed(T=5)
    assert epochs(recipe.eq1(5), "big") == range(20)
    assert epochs(recipe.big_teacher_only(moving), "big") == range(16)
    assert epochs(recipe.small_teacher(moving), "small") == range(9)
    assert epochs(recipe.small_teacher(moving), "big") == range(16)  # the small teacher's stage may end at once
    assert epochs(recipe.small_teacher(still), "big") == range(9, 16)  # and here it ends with its budget


def test_only_what_several_runs_want_is_computed_apart():
    assert shared_logits([five()]) == []
    (both,) = shared_logits([five(), twenty(), five(seed=1)])
    assert both.teacher == "big" and both.run.seed == 0 and both.epochs == tuple(range(EPOCHS))
    (part,) = shared_logits([five(), three_steps()])
    assert part.epochs == (0, 1, 2, 3)  # the adaptive run leaves its big teacher after 80 % of 5 epochs
    train(five().teachers["big"])
    list(compute_logits(five(), "big", [1, 2]))
    assert shared_logits([five(), twenty()])[0].epochs == (0, 3, 4)


def test_how_much_is_kept_can_be_limited(monkeypatch):
    monkeypatch.setenv("KIT_LOGITS_GB", "0")
    assert shared_logits([five(), twenty()]) == []
    run = five()
    train(run.teachers["big"])
    epoch = 32 * 10 * 4  # bytes
    monkeypatch.setenv("KIT_LOGITS_GB", str(3.9 * epoch / 1e9))
    list(compute_logits(run, "big", range(EPOCHS)))
    assert kept_logits(run, "big").missing(range(EPOCHS)) == [0, 1]  # those used longest ago have gone
