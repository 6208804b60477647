"""What is taken home answers as the run does, in each format, without the kit, and is whole or not there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from made_cache import make
from PIL import Image
from safetensors.torch import load_file
from scipy.stats import norm
from small_runs import hard, spec, taught
from small_students import of
from torch import nn

from kit.__main__ import main
from kit.data.hrsc import generated
from kit.data.picture import decode_file
from kit.deploy import FORMATS, Accuracy, alone, export, predict
from kit.deploy.card import network, seen, text
from kit.deploy.export import traced
from kit.deploy.predictions import Classifier
from kit.errors import KitError
from kit.models import RESNET_STAGES, ModelSpec
from kit.networks.flops import flops_per_image
from kit.networks.view import Outputs, View, normalisation
from kit.runs.spec import changed
from kit.runs.store import Result, Stored, find, stored
from kit.runs.training import train
from kit.runs.weights import Given, Weights
from kit.runtime.onednn import PickingConv2d

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_THE_KIT = """
import runpy, sys
for name in ("kit", "torchvision", "numpy", "pandas", "safetensors"):
    sys.modules[name] = None  # importing it fails
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def normalised(pixels: np.ndarray, folder: Path) -> np.ndarray:
    """Pixels (N, px, px, 3) by numpy, as the folder's own file says."""
    how = json.loads((folder / "preprocess.json").read_text(encoding="utf-8"))
    x = (pixels.astype(np.float32) - np.float32(how["mean"])) / np.float32(how["std"])
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


def answers(result: Result, folder: Path, x: np.ndarray) -> dict[str, torch.Tensor]:
    """Each file's logits of images (N, 3, px, px), by its own format's library."""
    weights = result.run.student.build(seed=1)
    weights.load_state_dict(load_file(folder / "student.safetensors"))
    session = onnxruntime.InferenceSession(folder / "student.onnx", providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        return {
            "safetensors": weights.eval()(torch.from_numpy(x)),
            "torch-export": torch.export.load(folder / "student.pt2").module()(torch.from_numpy(x)),
            "onnx": torch.from_numpy(session.run(["logits"], {"images": x})[0]),
        }


# ---- the same logits -------------------------------------------------------------------------------------------------


@pytest.fixture
def shallow(monkeypatch):
    """ResNets of one block a stage: whole ones repeat its layers, of which each takes torch's exporters a while."""
    for name, (block, _) in RESNET_STAGES.items():
        monkeypatch.setitem(RESNET_STAGES, name, (block, (1, 1, 1, 1)))
    yield
    flops_per_image.cache_clear()


@pytest.mark.parametrize("name", ["cnn", "vgg16", "resnet50"])  # the others are deeper ones of the same layers
def test_every_network_answers_alike_in_every_format(name, shallow, own_cache, tmp_path, capfd):
    result = train(of(name))
    picking = [module for module in result.student().modules() if isinstance(module, PickingConv2d)]
    assert bool(picking) == name.startswith("resnet")
    capfd.readouterr()
    done = export(result.run.hash, tmp_path / "student", tuple(FORMATS))
    assert capfd.readouterr().out == ""  # exporters talk
    pixels = result.run.data.load().test.images.pixels
    assert len(pixels) == 100
    x = normalised(pixels.numpy(), done.folder)
    with torch.inference_mode():
        expected = result.student()(torch.from_numpy(x))
    largest = max(1.0, float(expected.abs().max()))
    for form, z in answers(result, done.folder, x).items():
        assert (z - expected).abs().max() <= 1e-5 * largest, form
        assert done.differences[form] <= 1e-5
    for form, z in answers(result, done.folder, x[:1]).items():  # one alone
        assert (z - expected[:1]).abs().max() <= 1e-5 * largest, form
    assert done.checked_on == "100 of its 100 test images"


def test_its_files_are_those_asked_for(result, tmp_path):
    always = {"README.md", "preprocess.json", "classes.txt"}
    for formats, files in (
        ([], {"student.safetensors", "student.pt2", "predict.py"}),
        (["safetensors", "safetensors"], {"student.safetensors"}),
    ):
        place = tmp_path / "-".join(("of", *formats))
        done = export(result.run.hash, place, *([formats] if formats else []))
        assert {path.name for path in done.folder.iterdir()} == files | always
        weights = (place / "student.safetensors").read_bytes()
        assert weights == (result.folder / "student.safetensors").read_bytes()


def test_its_files_name_no_folder_of_this_machine(taken):
    texts = [path.read_bytes() for path in taken.iterdir()]
    with zipfile.ZipFile(taken / "student.pt2") as archive:
        texts += [archive.read(name) for name in archive.namelist()]
    for place in (str(ROOT), str(taken.parent), sys.prefix):
        assert not any(place.encode() in text for text in texts)
    onnx.checker.check_model(taken / "student.onnx", full_check=True)


# ---- without the kit -------------------------------------------------------------------------------------------------


def test_alone_and_without_a_picture_it_says_how_it_is_used():
    done = subprocess.run([sys.executable, "-I", alone.__file__], capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == "" and "`python predict.py PICTURE …`" in done.stderr


def test_alone_it_says_of_any_picture_what_the_kit_says_and_names_what_it_cannot_read(result, taken, album, tmp_path):
    files = sorted(album.iterdir())
    deep, broken = tmp_path / "deep.png", tmp_path / "broken.jpg"
    Image.fromarray(np.full((9, 9), 3000, np.uint16)).save(deep)
    broken.write_bytes((album / "large.jpg").read_bytes()[:300])
    done = subprocess.run(
        [sys.executable, "-I", "-c", WITHOUT_THE_KIT, str(taken / "predict.py"), *map(str, (deep, *files, broken))],
        cwd="/", capture_output=True, text=True,
    )  # fmt: skip
    first, second = (line for line in done.stderr.splitlines() if ": not read: " in line)  # torch may warn of a host
    assert first.startswith(f"{deep}: not read: levels of mode I;16") and second.startswith(f"{broken}: not read: ")
    assert done.returncode == 1

    said = [line.split("\t") for line in done.stdout.splitlines()]
    assert [Path(file) for file, _, _ in said] == files
    table = predict(result.run.hash, album).table.set_index("image")
    program = torch.export.load(taken / "student.pt2").module()
    for file, name, probability in said:
        row = table.loc[Path(file).name]
        assert name == row["class"], file
        assert float(probability) == pytest.approx(row["probability"], abs=6e-5)  # four digits are printed
        pixels = decode_file(Path(file), result.run.data.px).pixels
        assert np.array_equal(alone.pixels(file, result.run.data.px).numpy(), pixels), file
        x = torch.from_numpy(normalised(pixels[None], taken))
        with torch.inference_mode():
            assert (program(x) - result.student()(x)).abs().max() <= 1e-5


# ---- the card --------------------------------------------------------------------------------------------------------


def test_the_card_says_what_it_is(result, tmp_path):
    folder = export(result.run.hash, tmp_path / "student", ("safetensors",)).folder
    card = (folder / "README.md").read_text(encoding="utf-8")
    for word in (result.run.data.fingerprint, "scikit-learn digits", "an embedded stand-in", result.run.hash,
                 "It is the network cnn (width 2, stem small",
                 "A classifier of images, trained with small", "None: it learnt from the labels alone",
                 f"{result.metrics['test_top1']:.1%}", "of 100 images", "of such weights holds for these.\n",
                 f"{result.metrics['student_flops']:.3g} FLOPs", torch.__version__.split("+")[0]):  # fmt: skip
        assert word in card
    assert "student.pt2" not in card and "predict.py" not in card and "Between" not in card
    assert (folder / "classes.txt").read_text() == "".join(f"{digit}\n" for digit in range(10))


def test_a_checkout_that_is_not_installed_exports_too(result, tmp_path, monkeypatch):
    monkeypatch.setattr("kit.deploy.card.distributions", lambda name: iter(()))
    card = (export(result.run.hash, tmp_path / "student", ("safetensors",)).folder / "README.md").read_text("utf-8")
    assert "Exported with small-teacher-kit (not installed) and torch 2" in card


def test_a_student_of_teachers_was_trained_by_distillation(own_cache, tmp_path):
    big = train(of("cnn")).run
    student = train(changed(big, teachers={"big": big}, recipe=taught(big).recipe)).run
    card = (export(student.hash, tmp_path / "student", ("safetensors",)).folder / "README.md").read_text("utf-8")
    told = f"2 epochs, seed 0, test Top-1 {find(big).metrics['test_top1']:.1%}"
    assert "A classifier of images, trained by distillation with small" in card
    assert re.search(rf"^- `big`: cnn \(.*\), {told}$", card, re.M)


def test_weights_that_a_network_was_given_are_told(own_cache, tmp_path):
    trained = train(of("cnn"))
    weights = Weights.of(trained.folder / "student.safetensors", trained.run.student)
    given = train(changed(trained.run, weights=weights, recipe=Given()))
    warm = train(changed(trained.run, weights=weights, seed=3))
    given_card, warm_card = (
        (export(each.run.hash, tmp_path / each.run.hash, ("safetensors",)).folder / "README.md").read_text("utf-8")
        for each in (given, warm)
    )
    kept = weights.sha256[:12]
    assert "\nA classifier of images, whose weights were given to small-teacher-kit.\n" in given_card
    assert "\nNone: its weights were given.\n" in given_card
    assert re.search(rf"## Recipe\n\nGiven weights {kept}\.\n\n## How", given_card)
    assert re.search(rf"## Recipe\n\nFrom weights {kept}, 2 epochs, seed 3\.\n\n1\. hard labels: ", warm_card)
    assert "\nA classifier of images, trained with small-teacher-kit.\n" in warm_card


def test_a_teachers_own_way_to_see_images_is_told_in_words():
    mean, std = torch.tensor([120.0, 100.0, 90.0]), torch.tensor([60.0, 50.0, 70.0])
    classifier = Classifier(nn.Identity(), 8, mean, std, ("cat", "dog"))
    outputs = Outputs(count=1000, names="0" * 64, chosen=(7, 3))
    for words, px, said in (
        ("imagenet", 32, ["images at 32 px", "normalised by ImageNet's mean and deviation"]),
        ("0.5,0.4,0.3/0.25", None, ["normalised by mean (0.5, 0.4, 0.3) and deviation (0.25, 0.25, 0.25)"]),
        ("role", None, []),
    ):
        view = View.of((mean, std), normalisation(words), px, outputs)
        assert [*seen(view.model_dump(mode="json"), classifier)] == [*said, "2 of its 1000 classes"]
    spec = {
        "name": "my.py:net",
        "classes": 2,
        "arguments": {"depth": 2},
        "code": "0123456789abcdef",
        "shapes": "f" * 16,
    }
    assert network(spec) == "my.py:net (arguments {'depth': 2}, code 0123456789ab)"


def test_a_student_of_single_ships_says_so(own_cache, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(generated, "PLAN", generated.TreePlan(train_scenes=9, test_scenes=4))
    data = spec(role="hrsc2016", train_per_class=2)
    student = ModelSpec(name="cnn", classes=data.classes, width=2, stem="small")
    run = train(changed(hard(), data=data, student=student)).run
    folder = export(run.hash, tmp_path / "student", ("safetensors",)).folder
    said = "one ship a picture: a square around its upright box, 1.6 times as wide as the box's longer side"
    assert json.loads((folder / "preprocess.json").read_text("utf-8"))["framing"] == said
    assert said in (folder / "README.md").read_text("utf-8")
    Image.new("RGB", (30, 20)).save(tmp_path / "scene.png")
    assert main(["predict", "--run", run.hash, "--images", str(tmp_path / "scene.png")]) == 0
    assert capsys.readouterr().err == f"note: the student was taught {said}\n"


@pytest.mark.parametrize(("correct", "images"), [(0, 30), (7, 10), (88, 100), (100, 100)])
def test_an_accuracys_interval_is_wilsons(correct, images):
    z, p = norm.ppf(0.975), correct / images
    middle, half = p + z**2 / (2 * images), z * (p * (1 - p) / images + z**2 / (4 * images**2)) ** 0.5
    expected = [(middle - half) / (1 + z**2 / images), (middle + half) / (1 + z**2 / images)]
    assert Accuracy(correct, images).interval == pytest.approx(expected, abs=1e-12)


def test_where_the_runs_images_are_not_there_random_ones_are_checked_and_the_card_says_so(
    result, tmp_path, monkeypatch
):
    def elsewhere(self, folder=None):
        raise KitError("no real images here")

    monkeypatch.setattr(Stored, "data", elsewhere)
    done = export(result.run.hash, tmp_path / "student")
    card = (done.folder / "README.md").read_text(encoding="utf-8")
    assert done.checked_on == "100 images of random pixels, as its own are not here (--data says where)"
    assert done.checked_on in card and "% interval" in card and "of 100 images). " in card
    with pytest.raises(KitError, match="no real images here"):
        export(result.run.hash, tmp_path / "other", data=tmp_path)


def test_the_card_of_an_older_run_with_its_own_way_to_see_images(result, tmp_path):
    kept = stored(result.run.hash)
    metrics = {name: value for name, value in kept.metrics.items() if name != "test_recalls"}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    view = View(px=12, outputs=Outputs(count=1000, names="0" * 64, chosen=range(10))).model_dump(mode="json")
    older = Stored(tmp_path, kept.description | {"student": kept.description["student"] | {"view": view}})
    card = text(older, Classifier.of(kept), None, tmp_path, {"onnx": 2e-7}, "ten images")
    assert "so there is no interval.\n\n## Cost" in card and "Balanced accuracy" not in card
    assert "the run's logits on ten images: onnx to 2e-07.\n" in card
    assert (
        " Between these and the network: images at 12 px, 10 of its 1000 classes. The programs do that, the weights "
        "alone do not.\n"
    ) in card


# ---- whole or not there ----------------------------------------------------------------------------------------------


def refused(result: Result, place: Path, *formats: str) -> str:
    """The one line, and nothing is left beside the place."""
    before = sorted(place.parent.rglob("*")) if place.parent.is_dir() else None
    with pytest.raises(KitError) as raised:
        export(result.run.hash, place, *([formats] if formats else []))
    assert before is None or sorted(place.parent.rglob("*")) == before
    (line,) = str(raised.value).splitlines()
    return line


def test_a_folder_of_images_is_refused_where_the_kits_own_were_trained_on(result, tmp_path, capsys):
    assert main(["export", result.run.hash, "--to", str(tmp_path / "student"), "--data", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: --data '{tmp_path}' has no use: run {result.run.hash} was trained on")
    assert line.endswith("which the kit has; allowed: without it") and not (tmp_path / "student").exists()


class Counting(nn.Module):
    """Asks for the number of its images as Python does: a plain number, which would be fixed at the example's."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3)) @ torch.ones(3, 10).expand(len(x), 3, 10)[0]


def test_a_network_that_counts_its_images_is_traced_for_any_number():
    program = traced(Counting().eval(), "Counting", 8).module()
    x = torch.rand(5, 3, 8, 8)
    assert torch.equal(program(x), Counting()(x)) and torch.equal(program(x[:1]), Counting()(x[:1]))


class Doubling(nn.Module):
    """Its answer hangs on whether its images are bright: control flow that hangs on data."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = x.mean((2, 3)) @ torch.ones(3, 10)
        return 2 * z if x.sum() > 0 else z


def test_a_network_that_cannot_be_traced_is_refused_by_name(result, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(Stored, "student", lambda self: Doubling().eval())
    line = refused(result, tmp_path / "student", "torch-export")
    assert line.startswith(f"the network of {result.run.title} cannot be taken by torch.export (")
    assert "data-dependent" in line.lower() and line.endswith("allowed: format safetensors")


def test_a_format_that_answers_otherwise_is_refused_by_name(result, tmp_path, monkeypatch):
    def rounded(program, file):
        file.write_bytes(b"a file")
        return lambda x: program.module()(x) + 1e-3

    monkeypatch.setitem(export.__globals__["OF_A_PROGRAM"], "onnx", rounded)
    line = refused(result, tmp_path / "student", "safetensors", "onnx")
    assert line.startswith(f"format 'onnx' of run {result.run.hash}: its logits differ from the run's by ")
    assert line.endswith("allowed: 1e-05; nothing was written")


def test_a_folder_that_is_not_free_is_refused_before_the_work(result, tmp_path, monkeypatch):
    monkeypatch.setattr(Stored, "student", lambda self: pytest.fail("it was worked on"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    assert refused(result, tmp_path / "full") == (
        f"folder '{tmp_path}/full' is not empty, it holds 'mine.txt'; allowed: a new or empty folder"
    )
    assert "is a file" in refused(result, tmp_path / "full" / "mine.txt")
    assert "cannot write to" in refused(result, tmp_path / "full" / "mine.txt" / "student")
    monkeypatch.chdir(tmp_path)
    assert "the one that you are in" in refused(result, Path("."))


def test_an_empty_folder_and_a_link_to_one_are_filled(result, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    assert export(result.run.hash, tmp_path / "link", ("safetensors",)).folder == (tmp_path / "empty").resolve()
    assert (tmp_path / "link" / "student.safetensors").is_file()


def test_formats_are_known_and_installed(result, tmp_path, monkeypatch):
    assert refused(result, tmp_path / "student", "tflite") == (
        "format 'tflite' is not known; allowed: safetensors, torch-export, onnx"
    )
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert refused(result, tmp_path / "student", "onnx") == (
        "format 'onnx' needs onnxscript, not installed here; allowed: safetensors, torch-export, "
        "or pip install onnxscript first"
    )


def test_an_older_run_that_says_nothing_of_its_images_is_refused(own_cache, tmp_path):
    run = of("cnn")
    make(run)
    with pytest.raises(KitError, match="was stored without mean, deviation and classes of its training images"):
        export(run.hash, tmp_path / "student")
    with pytest.raises(KitError, match="was stored without mean"):
        predict(run.hash, tmp_path)
    assert not (tmp_path / "student").exists()
