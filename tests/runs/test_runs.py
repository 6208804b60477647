"""Runs: what makes them the same, their cache when it is damaged or interrupted, and training many."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from commands import one_line
from pydantic import ValidationError
from safetensors.torch import load_file
from sklearn.metrics import top_k_accuracy_score
from small_runs import Here, cut, hard, left_in, reseal, spec, taught
from torch import nn

import kit.data
from kit import recipe
from kit.errors import KitError
from kit.grid.training import train_all
from kit.models import ModelSpec
from kit.networks.flops import flops_per_image
from kit.recipe import Recipe
from kit.runs import training as trainings
from kit.runs.spec import DataSpec, HeldOutSpec, Run, with_teachers
from kit.runs.spec import changed as with_fields
from kit.runs.store import FILES, FORMAT, Failure, Result, cached, find, folder_of, store, stored
from kit.runs.training import start, train
from kit.runs.transfer import export_runs, import_runs, prune
from kit.temperature import Adaptive, Fixed, Scheduled
from kit.training import record
from kit.training.evaluation import Evaluation, agreement, evaluate
from kit.training.history import Diverged

pytestmark = pytest.mark.usefixtures("own_cache")


def no_training(monkeypatch) -> None:
    monkeypatch.setattr(trainings, "Training", lambda *_, **__: pytest.fail("trained again"))


# ---- identity --------------------------------------------------------------------------------------------------------


def changed(run: Run, path: str, value: object) -> Run:
    """The run with one field, however deep, set anew: made from its description, as a stranger would make it."""
    description = run.model_dump(mode="json")
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    inner = description
    for part in way:
        inner = inner[part]
    assert inner.get(last) != value  # a field may be left out where it has its default
    inner[last] = value
    return described(description)


def described(description: dict) -> Run:
    objectives = {"hard": recipe.HardLabels, "eq1": recipe.Eq1, "improved": recipe.Improved}
    policies = {"fixed": Fixed, "adaptive": Adaptive, "schedule": Scheduled}

    def made(part: dict | None, kinds: dict) -> object:
        return part and kinds[part["kind"]](**part)

    def stages(of: dict) -> dict:
        built = [
            recipe.Stage(
                **stage
                | {
                    "objective": made(stage["objective"], objectives),
                    "temperature": made(stage["temperature"], policies),
                }
            )
            for stage in of["recipe"]["stages"]
        ]
        return of | {"recipe": of["recipe"] | {"stages": built}}

    teachers = {name: described(teacher) for name, teacher in description["teachers"].items()}
    return Run(**stages(description) | {"teachers": teachers})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seed", 7),
        ("preset", "other"),
        ("device", "cuda"),
        ("numerics", 999),
        ("student.width", 3),
        ("student.name", "vgg16"),
        ("student.stem", "imagenet"),
        ("student.batch_norm", False),
        ("data.fingerprint", "f" * 64),
        ("data.px", 9),
        ("data.role", "cifar-100"),
        ("data.train_images", 41),
        ("recipe.epochs", 4),
        ("recipe.batch", 8),
        ("recipe.lr", 0.11),
        ("recipe.warmup", 0.2),
        ("recipe.momentum", 0.8),
        ("recipe.weight_decay", 0.0),
        ("recipe.pad", 2),
        ("recipe.milestones", [0.5]),
        ("recipe.nesterov", False),
        ("recipe.decays", "all"),
        ("recipe.padding", "zeros"),
        ("recipe.keep_last", True),
        ("recipe.stages.0.name", "first"),
        ("recipe.stages.0.until", 0.4),
        ("recipe.stages.0.objective.alpha", 0.9),
        ("recipe.stages.0.objective.t_squared", False),
        ("recipe.stages.0.temperature.k", 19.0),
        ("recipe.stages.0.temperature.rate", 21.0),
        ("recipe.stages.0.temperature.optimiser", "adam"),
        ("recipe.stages.0.temperature.follows", "kl"),
        ("recipe.stages.0.temperature.floor", False),
        ("teachers.big.seed", 1),
        ("teachers.big.recipe.epochs", 9),
        ("teachers.small.recipe.lr", 0.2),
        ("teachers.small.data.fingerprint", "e" * 64),
    ],
)
def test_all_that_can_change_the_result_changes_the_hash(path, value):
    run = taught(hard(width=4), hard(width=3))
    same = described(run.model_dump(mode="json"))
    assert (same.hash, same) == (run.hash, run)
    other = changed(run, path, value)
    assert other.hash != run.hash
    assert other != run
    assert len({run, same, other}) == 2


def test_a_device_that_no_run_trains_on_is_refused():
    with pytest.raises(ValidationError, match="device"):
        with_fields(hard(), device="gpu")


def test_where_the_images_lie_is_not_part_of_the_identity(tmp_path):
    tmp_path.joinpath("images").mkdir()
    here, there = hard(), changed(hard(), "preset", "x")
    moved = Run(**dict(here) | {"data": DataSpec(**dict(here.data) | {"folder": str(tmp_path / "images")})})
    assert moved.hash == here.hash != there.hash
    assert "folder" not in moved.model_dump()["data"]


def test_hashes_are_the_same_in_every_process():
    run = taught(hard(width=4), hard(width=3))
    assert pickle.loads(pickle.dumps(run)).hash == run.hash
    assert len(run.hash) == 16
    assert int(run.hash, 16) >= 0


def test_a_run_without_its_teachers_is_refused():
    with pytest.raises(ValueError, match=r"needs teachers \['big', 'small'\]"):
        Run(**dict(hard()) | {"recipe": Recipe(stages=recipe.small_teacher(Adaptive(rate=1)), epochs=2)})
    with pytest.raises(ValueError, match="11 classes, the data 10"):
        Run(**dict(hard()) | {"student": ModelSpec(name="cnn", classes=11)})
    with pytest.raises(ValueError, match="seed"):
        hard(seed=-1)


def test_images_that_have_changed_are_refused():
    stale = DataSpec(**dict(spec()) | {"fingerprint": "0" * 64})
    with pytest.raises(KitError, match="the images have changed") as raised:
        stale.load()
    assert "'cifar-10'" in one_line(raised)


def test_titles_name_students_teachers_role_and_seed():
    assert taught(hard(width=4), hard(width=3), seed=2).title == "CNN ← CNN ← CNN on cifar-10, seed 2"


# ---- one run ---------------------------------------------------------------------------------------------------------


def test_asked_twice_it_is_trained_once(monkeypatch):
    first = train(hard())
    stamps = {path.name: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    no_training(monkeypatch)
    heard = []
    second = train(hard(), heard.append)
    assert second.metrics == first.metrics
    assert heard == [1.0]
    assert {path.name: path.stat().st_mtime_ns for path in second.folder.iterdir()} == stamps
    assert train_all([hard(), hard()], show_progress=False)[hard()].metrics == first.metrics


def test_the_stored_student_is_the_trained_one(own_cache):
    run = hard()
    training = start(run).run()
    store(run, training)
    result = find(run)
    stored = result.student()
    assert not stored.training
    for name, tensor in training.student.state_dict().items():
        assert torch.equal(stored.state_dict()[name], tensor)

    data = run.data.load()
    mean, std = data.mean_std
    x = ((data.test.images.pixels.float() - mean) / std).permute(0, 3, 1, 2)
    scores, labels = evaluate(training.student, data.test, mean, std).logits, data.test.labels.numpy()
    with torch.no_grad():
        torch.testing.assert_close(stored(x), scores)  # in another memory layout
    for k in (1, 5):
        assert result.metrics[f"test_top{k}"] == pytest.approx(top_k_accuracy_score(labels, scores, k=k))
    assert left_in(own_cache) == [run.hash]


def test_what_is_stored(own_cache):
    run = taught(train(hard(width=4)).run, train(hard(width=3)).run)
    ticks = []
    result = train(run, ticks.append)
    assert sum(ticks) == pytest.approx(1)
    assert sorted(path.name for path in result.folder.iterdir()) == sorted((*FILES, "checksums.json"))
    description = json.loads((result.folder / "run.json").read_text())
    assert description["title"] == run.title
    assert description["versions"]["torch"] == torch.__version__.split("+")[0]
    assert description["seed"] == 0
    assert {k: v for k, v in description.items() if k in Run.model_fields} == run.model_dump(mode="json")
    assert list(result.steps["step"]) == list(range(1, 7))
    assert list(result.epochs["epoch"]) == [1, 2, 3]
    assert result.steps["t"].iloc[0] == 20.0
    assert result.seconds == result.metrics["cpu_s"] > 0


def test_flops_are_those_of_the_images_seen():
    small, big = train(hard(width=3)).run, train(hard(width=4)).run
    run = taught(big, small)
    metrics = train(run).metrics
    of_stage = {stage["name"]: 16 * stage["steps"] for stage in metrics["stages"]}
    assert metrics["student_flops"] == 3 * 32 * flops_per_image(run.student, 8)[1]
    assert metrics["teacher_flops"] == (
        of_stage["small teacher"] * flops_per_image(small.student, 8)[0]
        + of_stage["big teacher"] * flops_per_image(big.student, 8)[0]
    )


def test_a_student_learns_from_its_stored_teacher():
    teacher = train(hard(width=4))
    training = start(taught(teacher.run))
    weights = load_file(teacher.folder / "student.safetensors")
    assert all(
        torch.equal(tensor, weights[name]) for name, tensor in training.teachers.networks["big"].state_dict().items()
    )


def test_a_teacher_answers_for_a_test_split_once_in_a_process(monkeypatch):
    teacher, asked = train(hard(width=4)), []

    def listening(network: nn.Module, *about: object) -> Evaluation:
        asked.extend(["teacher"] * (network.fc.in_features == 16))  # four times its width; a student's are 8
        return evaluate(network, *about)

    monkeypatch.setattr(record, "evaluate", listening)
    of_others = with_fields(taught(teacher.run), data=HeldOutSpec.split(spec(), 0.25))  # of the same fingerprint
    for run in taught(teacher.run), taught(teacher.run, seed=1), of_others, with_fields(of_others, seed=1):
        result, data = train(run), run.data.load()
        theirs, ours = (evaluate(of.student(), data.test, *data.mean_std).logits for of in (teacher, result))
        assert result.metrics["agreement"] == agreement(theirs, ours)
    assert len(asked) == 2


def test_a_student_before_its_teacher_is_refused():
    with pytest.raises(KitError, match=r"teacher 'big' \(CNN on cifar-10, seed 0\) has not been trained yet") as raised:
        train(taught(hard(width=4)))
    one_line(raised)


def test_training_leaves_the_number_of_threads_alone():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        train(hard())
        assert torch.get_num_threads() == 2
        with pytest.raises(Diverged):
            train(hard(lr=1e30))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


# ---- damage and interruption -----------------------------------------------------------------------------------------


def altered(path: Path) -> None:
    path.write_text(path.read_text().replace("1", "2", 1))


DAMAGES = {
    "weights cut short": (lambda f: cut(f / "student.safetensors"), "student.safetensors does not match its checksum"),
    "weights empty": (lambda f: (f / "student.safetensors").write_bytes(b""), "student.safetensors does not match"),
    "metrics edited": (lambda f: altered(f / "metrics.json"), "metrics.json does not match its checksum"),
    "description edited": (lambda f: altered(f / "run.json"), "run.json does not match its checksum"),
    "history gone": (lambda f: (f / "steps.csv").unlink(), "steps.csv is missing"),
    "checksums gone": (lambda f: (f / "checksums.json").unlink(), "checksums.json is missing or unreadable"),
    "checksums cut short": (lambda f: cut(f / "checksums.json"), "checksums.json is missing or unreadable"),
    "checksums of nothing": (lambda f: (f / "checksums.json").write_text("{}"), "checksums.json does not list"),
    "all gone": (lambda f: [path.unlink() for path in f.iterdir()], "checksums.json is missing or unreadable"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("use", [train, lambda run: train_all([run], jobs=Here(), show_progress=False)[run]])
def test_a_damaged_run_is_set_aside_and_trained_anew(damage, use, own_cache, monkeypatch, capsys):
    whole, hurt = train(hard(seed=1)), train(hard())
    weights = (hurt.folder / "student.safetensors").read_bytes()
    do, said = DAMAGES[damage]
    do(hurt.folder)
    left = {path.name: path.read_bytes() for path in hurt.folder.iterdir()}
    with pytest.raises(KitError) as raised:
        find(hard())
    message = one_line(raised)
    assert message.startswith(f"run {hurt.run.hash} in ")
    assert said in message
    assert "cache prune --damaged" in message
    assert {entry.hash: bool(entry.complaint) for entry in cached()} == {whole.run.hash: False, hurt.run.hash: True}

    again = use(hard())
    assert (again.folder / "student.safetensors").read_bytes() == weights
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: run {hurt.run.hash} ({hurt.run.title}): {said}")
    aside = own_cache / "damaged" / f"{hurt.run.hash}-1"
    assert str(aside) in line
    assert {path.name: path.read_bytes() for path in aside.iterdir()} == left  # nothing was removed unasked
    assert [entry.complaint for entry in cached()] == [None, None]
    assert find(whole.run).metrics == whole.metrics

    do(again.folder)
    use(hard())
    assert sorted(path.name for path in aside.parent.iterdir()) == [f"{hurt.run.hash}-{n}" for n in (1, 2)]


def test_a_folder_is_verified_once_a_process_until_it_changes(monkeypatch):
    result = train(hard())
    copy = result.folder.with_name("copy")
    shutil.copytree(result.folder, copy)
    computed, real = [], hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda file, kind: computed.append(file.name) or real(file, kind))
    for use in (find, find, train, lambda run: train_all([run], show_progress=False)):
        use(hard())
    assert computed == []  # storing it, `train` has read it back
    shutil.rmtree(result.folder)
    copy.rename(result.folder)
    assert find(hard()).metrics == result.metrics and len(computed) == len(FILES)
    find(hard())
    assert len(computed) == len(FILES)
    cut(result.folder / "student.safetensors")
    with pytest.raises(KitError, match="student.safetensors does not match its checksum"):
        find(hard())


def test_a_damaged_teacher_is_trained_anew_first(monkeypatch, capsys):
    teacher = train(hard(width=4))
    weights = (teacher.folder / "student.safetensors").read_bytes()
    cut(teacher.folder / "student.safetensors")
    results = train_all([taught(teacher.run)], jobs=1, show_progress=False)
    assert isinstance(results[taught(teacher.run)], Result)
    assert (teacher.folder / "student.safetensors").read_bytes() == weights
    assert f"warning: run {teacher.run.hash}" in capsys.readouterr().err


def resealed(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    reseal(folder)


def test_another_runs_folder_is_found_out():
    ours, theirs = train(hard()), train(hard(seed=1))
    shutil.rmtree(ours.folder)
    shutil.copytree(theirs.folder, ours.folder)
    with pytest.raises(KitError, match=f"run {ours.run.hash} in .*: run.json describes run {theirs.run.hash}"):
        find(ours.run)
    for text in ("[]", '{"a": 1}', "{", "null", '{"teachers": 3}'):
        resealed(ours.folder, "run.json", text)
        with pytest.raises(KitError, match=r"its files are not those of a run"):
            find(ours.run)


def test_metrics_that_are_none_are_found_out():
    result = train(hard())
    for text in ("{}", "[]", "1", '{"test_top1": "high"}', "\ufeff"):
        resealed(result.folder, "metrics.json", text)
        with pytest.raises(KitError, match=r"its files are not those of a run"):
            find(result.run)


def test_weights_of_another_network_are_refused_in_one_line():
    ours, theirs = train(hard(width=3)), train(hard(width=2))
    shutil.copyfile(theirs.folder / "student.safetensors", ours.folder / "student.safetensors")
    reseal(ours.folder)
    for found in find(ours.run), stored(ours.run.hash):
        with pytest.raises(KitError, match="student.safetensors does not fit CNN") as raised:
            found.student()
        one_line(raised)


def test_a_newer_kits_folder_is_refused_by_its_format_and_left_alone(tmp_path):
    result = train(hard())
    export_runs(tmp_path / "ours")
    description = json.loads((result.folder / "run.json").read_text())
    assert description["format"] == FORMAT == 1
    resealed(result.folder, "run.json", json.dumps(description | {"format": 2}))
    before = {path.name: path.read_bytes() for path in result.folder.iterdir()}
    for use in (find, train, lambda run: train_all([run], show_progress=False)):
        with pytest.raises(KitError, match=f"run {result.run.hash} in .*: cache format 2; this kit reads 1"):
            use(hard())
    assert [entry.status for entry in cached()] == ["cache format 2; this kit reads 1"]
    assert prune(damaged=True) == 0
    said = "there is one in the cache already (cache format 2; this kit reads 1)"
    assert import_runs(tmp_path / "ours") == ([], [f"run {result.run.hash!r} is not imported: {said}"])
    assert {path.name: path.read_bytes() for path in result.folder.iterdir()} == before


def test_an_older_kits_folder_that_says_nothing_of_its_format_is_read():
    result = train(hard())
    description = json.loads((result.folder / "run.json").read_text())
    for name in ("format", "notes", "title"):
        description.pop(name)
    resealed(result.folder, "run.json", json.dumps(description))
    assert find(result.run).metrics == result.metrics
    (entry,) = cached()
    assert stored(result.run.hash).title == entry.title == "None"


# ---- diverged --------------------------------------------------------------------------------------------------------


def test_a_run_that_diverges_is_written_down_and_not_tried_again(monkeypatch, own_cache, capsys):
    hopeless = hard(lr=1e30)
    with pytest.raises(Diverged) as first:
        train(hopeless)
    (entry,) = cached()
    assert entry.status == f"diverged at step {first.value.step}"
    assert find(hopeless) is None
    assert not list((own_cache / "checkpoints").glob("*"))
    no_training(monkeypatch)
    with pytest.raises(Diverged) as second:
        train(hopeless)
    assert second.value.step == first.value.step
    failed = train_all([hopeless], show_progress=False, jobs=Here())[hopeless]
    assert failed == Failure(hopeless, f"the loss is not a finite number at step {first.value.step}", first.value.step)
    assert f"run {hopeless.hash} ({hopeless.title}) did not finish: the loss" in capsys.readouterr().err
    history = pd.read_csv(entry.folder / "steps.csv")
    assert len(history) >= first.value.step
    assert not np.isfinite(history["loss"][first.value.step - 1])
    assert np.isfinite(history["loss"][: first.value.step - 1]).all()


def test_a_damaged_record_of_divergence_is_tried_again(own_cache):
    with pytest.raises(Diverged):
        train(hard(lr=1e30))
    (entry,) = cached()
    cut(entry.folder / "diverged.json")
    with pytest.raises(Diverged):
        train(hard(lr=1e30))
    assert [entry.status[:8] for entry in cached()] == ["diverged"]
    assert len(list((own_cache / "damaged").iterdir())) == 1


# ---- interruption, and others at the same time -----------------------------------------------------------------------


def test_a_run_whose_loss_was_edited_since_is_refused_untrained(monkeypatch):
    run = hard()
    described = run.hash  # travels to workers, which import the loss as it is then
    monkeypatch.setattr("kit.training.kind.code_of", lambda kind: "edited")
    no_training(monkeypatch)
    with pytest.raises(KitError, match=f"code of its loss or temperature has been edited since run {described} was"):
        train(run)


def test_a_removed_run_is_trained_again_to_the_same_weights():
    first = train(hard())
    weights = (first.folder / "student.safetensors").read_bytes()
    shutil.rmtree(first.folder)
    assert find(hard()) is None
    assert (train(hard()).folder / "student.safetensors").read_bytes() == weights


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, MemoryError])
@pytest.mark.parametrize("moment", ["kit.runs.store.save_file", "kit.files.sha256", "kit.runs.store.write"])
def test_an_interrupted_store_leaves_nothing_behind(error, moment, monkeypatch, own_cache):
    kept = train(hard(seed=1))

    def interrupt(*_, **__):
        raise error("in the middle")

    with monkeypatch.context() as patch:
        patch.setattr(moment, interrupt)
        with pytest.raises(error):
            train(hard(seed=2))
    assert left_in(own_cache) == [kept.run.hash]
    assert train(hard(seed=2)).metrics["test_top1"] >= 0  # and the lock is free again
    assert find(kept.run) is not None


def test_the_cache_lists_what_it_holds():
    assert cached() == []
    first, second = train(hard()), train(hard(seed=1))
    os.utime(first.folder, ns=(0, 0))
    assert [entry.hash for entry in cached()] == [second.run.hash, first.run.hash]  # newest first
    assert [entry.title for entry in cached()] == [second.run.title, first.run.title]
    (folder_of("x").parent / ".draft-of-something").mkdir()
    assert len(cached()) == 2


# ---- many ------------------------------------------------------------------------------------------------------------


def test_teachers_come_first_and_once():
    small, big = hard(width=3), hard(width=4)
    assistant = taught(big, seed=8)
    students = [taught(assistant, small, seed=seed) for seed in range(3)]
    ordered = with_teachers([*students, big, students[0]])
    assert len(ordered) == len(set(ordered)) == 6
    for run in ordered:
        for teacher in run.teachers.values():
            assert ordered.index(teacher) < ordered.index(run)
    assert with_teachers([]) == []


def test_data_specs_load_what_they_describe():
    found = spec()
    data = found.load()
    assert data is kit.data.load("cifar-10", px=8, train_per_class=4, test_per_class=3, source="embedded")
    assert (found.classes, found.train_images, found.source) == (10, 40, "embedded")
    assert np.bincount(data.train.labels).tolist() == [4] * 10
