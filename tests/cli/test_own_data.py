"""A folder of one's own on the command line: its name, its classes one by one, sizes, teachers of other classes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from commands import last_json, refused
from image_trees import shaded_tree
from safetensors.torch import save_file
from sklearn.metrics import balanced_accuracy_score, recall_score
from small_runs import Here, reseal

from kit import recipe
from kit.cli import options
from kit.cli.main import main
from kit.data import load
from kit.data.check import check
from kit.deploy import export, predict
from kit.files import sha256
from kit.models import ModelSpec
from kit.paper.plan import Plan
from kit.paper.presets import PRESETS, by_crd
from kit.paper.settings import Settings
from kit.runs.store import folder_of, stored

PETS = {"cat": (9, 8), "dog": (4, 3), "stick insect": (6, 4)}  # training and test images


@pytest.fixture
def pets(own_cache, tmp_path, monkeypatch):
    monkeypatch.setattr(options, "engine_at", lambda *_: Here())  # no worker to start
    monkeypatch.chdir(tmp_path)
    shaded_tree(tmp_path / "pets", PETS)
    return tmp_path / "pets"


TRAIN = ["train", "--data", "pets", "--student", "cnn", "--preset", "smoke", "--test-per-class", "8", "--json"]


def test_a_folder_is_a_role_of_its_own_and_its_classes_are_told_one_by_one(pets, capsys, tmp_path):
    assert main(TRAIN) == 0
    captured = capsys.readouterr()
    record = json.loads(captured.out.splitlines()[-1])
    assert captured.out.startswith("CNN on pets, seed 0 (real: image folder pets)\n")
    assert "image folder pets (real): 3 classes, 16 of 19 training and 15 test images, 16 px\n" in captured.err
    assert (record["data"]["px"], record["data"]["train_images"], record["data"]["test_images"]) == (16, 16, 15)
    assert "note: image folder pets: not all its images are used; train and judge take more by --tr" in captured.err
    assert "note: classes are uneven: 4 of 'dog' to 6 of 'cat'" not in captured.err  # half as many again is little
    assert "note: classes are uneven: 3 of 'dog' to 8 of 'cat' test images; Top-1 counts images" in captured.err
    assert "Top-5" not in captured.out.partition("{")[0]  # three classes are always among five
    table = predict(record["run"], pets / "test").table
    recalls = recall_score(table["true"], table["class"], average=None, labels=list(PETS))
    assert record["test_by_class"] == pytest.approx(dict(zip(PETS, recalls, strict=True)))
    balanced = balanced_accuracy_score(table["true"], table["class"])
    assert record["test_balanced"] == pytest.approx(balanced) != record["test_top1"]
    assert f"test Top-1 {record['test_top1']:.1%}, balanced {balanced:.1%}; training" in captured.out
    lowest = min(zip(recalls, PETS, strict=True))
    assert f"test by class, lowest first: {lowest[1]} {lowest[0]:.1%}, " in captured.out

    card = (export(record["run"], tmp_path / "student", ["safetensors"], pets).folder / "README.md").read_text()
    assert card.startswith("# CNN on pets, seed 0\n") and "filled by image folder pets (real images)" in card
    assert f"Balanced accuracy (the mean over classes): {balanced:.1%}. Lowest classes first: {lowest[1]} " in card
    assert main(["cache", "list"]) == 0
    assert "CNN on pets, seed 0" in capsys.readouterr().out

    forget(record["run"])  # as if an older kit had stored it
    assert main(TRAIN) == 0
    again = last_json(capsys)
    assert (again["run"], again["seconds"]) == (record["run"], record["seconds"])  # not trained again
    assert again["test_by_class"] == record["test_by_class"]
    card = (export(record["run"], tmp_path / "older", ["safetensors"], pets).folder / "README.md").read_text()
    assert "Balanced" not in card


def forget(run_hash: str) -> None:
    """Takes what is told of classes, and the folder's name, out of a stored run."""
    folder = folder_of(run_hash)
    metrics = stored(run_hash).metrics
    del metrics["test_recalls"], metrics["images"]["name"]
    (folder / "metrics.json").write_text(json.dumps(metrics))
    reseal(folder)


def test_where_the_tree_lies_its_name_is_that_of_the_folder_given(pets, tmp_path):
    whole = load("own", px=8, folder=pets)
    assert whole.name == "image folder pets"
    assert load("own", px=8, folder=pets / "train").name == "image folder pets"
    (tmp_path / "unpacked").mkdir()
    pets.rename(tmp_path / "unpacked" / "archive")
    deeper = load("own", px=8, folder=tmp_path / "unpacked")
    assert (deeper.name, deeper.fingerprint) == ("image folder unpacked", whole.fingerprint)
    report = check("own", tmp_path / "unpacked")
    assert report.sound and (report.name, report.fingerprint) == (deeper.name, whole.fingerprint)


def test_a_folder_without_a_tree_and_no_folder_are_refused(pets, tmp_path, capsys):
    words = ["train", "--student", "cnn", "--preset", "smoke"]
    (tmp_path / "cifar-10").mkdir()
    shaded_tree(tmp_path / "cifar-10" / "deep", PETS)
    pets.rename(tmp_path / "cifar-10" / "pets")
    (tmp_path / "roles").mkdir()
    (tmp_path / "cifar-10").rename(tmp_path / "roles" / "cifar-10")
    said = refused([*words, "--data", "roles"], capsys)
    assert "no real images for own in " in said and "holds cifar-10/; allowed: an ImageFolder tree (" in said
    assert said.endswith("; or for what else it holds --role cifar-10, cifar-100, imagenet or hrsc2016")
    (tmp_path / "roles" / "cifar-10" / "pets" / "train").rename(tmp_path / "flat")
    said = refused([*words, "--data", "flat"], capsys)
    assert (
        "which holds cat/, dog/, stick insect/, classes in no split: of cat/ some images go into train/cat/, " in said
    )
    assert "as no folder is given and KIT_DATA names none" in refused([*words, "--role", "own"], capsys)
    assert "among the stand-ins" in refused([*words, "--role", "own", "--source", "embedded"], capsys)


def test_a_folder_without_images_is_checked_and_found_to_hold_nothing(tmp_path, capsys):
    assert main(["data", "check", "own", "--data", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert said.out == "own: nothing\n" and said.err.startswith("  problem: no real images for own in ")


# ---- sizes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--px", "7"], "px 7 is not allowed; allowed: a whole number from 8 to 512"),
        (["--px", "513"], "px 513 is not allowed"),
        (["--px", "large"], "--px"),
        (["--train-per-class", "0"], "train_per_class 0 is not allowed; allowed: a whole number from 1 up"),
        (["--train-per-class", "many"], "train_per_class 'many' is not allowed; allowed: a whole number from 1 up, or"),
        (["--test-per-class", "-1"], "test_per_class -1 is not allowed"),
    ],
)
@pytest.mark.parametrize("command", [TRAIN[:-3], ["judge", "--preset", "smoke"]], ids=["train", "judge"])
def test_impossible_sizes_are_one_line(command, words, said, pets, capsys):
    assert said in refused([*command, *words], capsys)


def test_a_network_that_takes_no_images_so_small_is_refused_in_one_line(pets, capsys):
    small = refused([*TRAIN, "--px", "16", "--student", "torchvision:squeezenet1_1"], capsys)
    assert "network 'torchvision:squeezenet1_1' raised RuntimeError: " in small
    assert small.endswith("in training mode on images (2, 3, 16, 16), which are larger with --px")


def test_all_images_are_taken_by_that_word(pets, capsys, monkeypatch):
    monkeypatch.setenv("KIT_STRICT", "0")  # which --strict sets, for this test alone
    broken = pets / "train" / "cat" / "broken.png"
    broken.write_bytes(b"no image")
    assert main([*TRAIN, "--train-per-class", "all", "--strict"]) == 2
    said = capsys.readouterr().err
    assert "broken.png: not an image; allowed: readable images only, as --strict or KIT_STRICT has it" in said
    broken.unlink()
    assert main([*TRAIN, "--train-per-class", "all"]) == 0
    captured = capsys.readouterr()
    assert "3 classes, 19 training and 15 test images, 16 px\n" in captured.err and "not all" not in captured.err
    described = stored(json.loads(captured.out.splitlines()[-1])["run"]).description["data"]
    assert (described["train_images"], described["train_per_class"], described["test_per_class"]) == (19, None, 8)


def test_a_third_split_is_said_to_be_left_out(pets, capsys):
    shaded_tree(pets / "more", PETS)
    (pets / "more" / "train").rename(pets / "Val")
    assert main(TRAIN) == 0
    said = "left out: Val/ (19 images), as test/ is the test split\n"
    assert f"note: image folder pets: {said}" in (err := capsys.readouterr().err) and "1 passed over (1 in nei" in err
    assert main(["data", "check", "own", "--data", "pets"]) == 0
    assert said in capsys.readouterr().out


def test_sizes_override_the_presets_and_are_part_of_a_run_as_they_are(pets):
    usual = Settings(student="cnn", role="cifar-10", preset="smoke").run()
    size = PRESETS["smoke"].roles["cifar-10"]
    same = Settings(student="cnn", role="cifar-10", preset="smoke", px=size.px, train_per_class=size.train_per_class)
    assert same.run().hash == usual.hash
    other = Settings(student="cnn", role="cifar-10", preset="smoke", px=12, train_per_class=3, test_per_class=2).run()
    assert (other.data.px, other.data.train_images, len(other.data.load().test)) == (12, 30, 20)
    plan = Plan.of("smoke", px=12, train_per_class=3, test_per_class=2)
    assert plan.student("cnn", "cifar-10", lambda epochs: recipe.hard_labels(), None).hash == other.hash != usual.hash
    assert plan.teacher("cnn", "cifar-10").data == other.data


def test_real_images_have_sizes_of_their_own_and_options_override_them(pets):
    few = {"cifar-10": replace(PRESETS["smoke"].roles["cifar-10"], px=12, train_per_class=3, epochs=5)}
    plan = replace(Plan.of("smoke", folder="pets"), preset=replace(PRESETS["smoke"], real=few))
    assert (plan.size("cifar-10").px, plan.size("imagenet").px) == (12, 16)
    real = plan.student("cnn", "cifar-10", lambda epochs: recipe.hard_labels(), None)
    assert (real.data.source, real.data.px, real.data.train_images, real.recipe.epochs) == ("real", 12, 9, 5)
    assert replace(plan, train_per_class=2).size("cifar-10") == replace(few["cifar-10"], train_per_class=2)
    for other in (replace(plan, sources={"cifar-10": "embedded"}), replace(plan, folder=None)):
        assert other.size("cifar-10") == PRESETS["smoke"].roles["cifar-10"]
    crd = by_crd(plan.preset)
    assert crd.real["cifar-10"].epochs == 8 and crd.real["cifar-10"].train_per_class == 3


def test_the_stem_follows_a_size_of_ones_own():
    assert Plan.of("paper", px=32).size("imagenet").stem == "small"
    assert Plan.of("quick", px=128).size("own").stem == "imagenet"
    assert Plan.of("paper", px=224).size("imagenet") == PRESETS["paper"].roles["imagenet"]


def test_the_line_that_trains_the_same_student(pets):
    words = Settings(student="cnn", data="pets", px=12, preset="smoke").command().split()
    assert words[3:] == ["train", "--student", "cnn", "--preset", "smoke", "--px", "12", "--data", "pets"]
    assert Settings(student="cnn").command().split()[6:8] == ["--role", "cifar-100"]
    assert Settings(student="cnn", data="pets", role="imagenet").role == "imagenet"


# ---- given teachers of other classes ------------------------------------------------------------------------------


REFUSED = {
    "--teacher-classes names.txt": "--teacher-classes 'names.txt' is for a teacher that is given; give --",
    "--teacher-head train": "--teacher-head 'train' is for a teacher that is given; give --teacher-weights",
    "--teacher-head all --teacher-weights w": "teacher_head: 'all' is not allowed",
    "--teacher-head train --teacher-classes n --teacher-weights w": "classes 'n' and head 'train' of cnn exclude each",
    "--teacher-classes names.txt --teacher-weights w": "model 'cnn' has no normalisation, size or classes of its own",
    "--small-teacher-head train": "--small-teacher-head 'train' is of no network; give --small-teacher",
}  # fmt: skip


@pytest.mark.parametrize("words", REFUSED)
def test_wrong_words_are_refused_in_one_line(words, pets, capsys, tmp_path):
    (tmp_path / "names.txt").write_text("dog\nstick insect\ncat\n")
    assert REFUSED[words] in refused([*TRAIN, "--teacher", "cnn", *words.split()], capsys)


def test_a_teacher_with_a_new_head_teaches_and_is_told(pets, capsys, tmp_path):
    save_file(ModelSpec(name="cnn", classes=7, width=4, stem="small").build(1).state_dict(), tmp_path / "w.safetensors")
    words = ["--teacher", "cnn", "--teacher-weights", "w.safetensors", "--teacher-head", "train"]
    assert main([*TRAIN, *words]) == 0
    out = capsys.readouterr().out
    record = json.loads(out.splitlines()[-1])
    assert record["given"]["big"]["head"] == "fc"
    told = f"test Top-1 {record['given']['big']['test_top1']:.1%}"
    assert f"big teacher CNN, given, its head trained: {told}" in out
    card = (export(record["run"], tmp_path / "student", ["safetensors"], pets).folder / "README.md").read_text()
    given = f"given weights {sha256(tmp_path / 'w.safetensors')[:12]}, its head trained by a linear probe, {told}\n"
    assert f"), {given}" in card
