"""Foreign networks × what the kit does with its own: each works, or is refused in one line by name.

A network is trained once, for four batches, and then goes through every test below. What cannot be trained at all is
refused before (`test_named.py`).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import onnxruntime
import pytest
import torch
from foreign_networks import own_file
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from kit import cam
from kit.deploy import FORMATS, export, predict
from kit.deploy.export import DEFAULT
from kit.errors import KitError
from kit.files import cache_folder
from kit.live.cockpit import Cockpit, cockpit
from kit.networks.folding import folded
from kit.paper.plan import Chosen, Plan
from kit.paper.presets import PRESETS, Preset, Size
from kit.paper.settings import Settings
from kit.runs.store import Result, find, stored
from kit.runs.training import start, train
from kit.training.evaluation import evaluate

PATIENCE = 60  # seconds: a busy machine's
SAVED = ("timm:test_vit", "OWN:scripted")  # of which the cockpit saves a picture, with heat maps and without
SIZE = Size(px=16, train_per_class=4, test_per_class=10, epochs=2, teacher_epochs=2, batch=20)
BLINK = Preset("blink", {"cifar-10": SIZE}, teacher_width=2, student_width=2, seeds=1, says="two epochs of 40 images")


@dataclass(frozen=True)
class Foreign:
    """A network's arguments, in which formats it is taken home, and what it is refused, by stage."""

    arguments: dict[str, object] = field(default_factory=dict)
    formats: tuple[str, ...] = tuple(FORMATS)
    refused: dict[str, str] = field(default_factory=dict)


DEEP = ("safetensors",)  # of hundreds of operations, of which each takes torch's exporters 10 to 50 ms
UNTRACED = {name: "cannot be taken by torch.export (" for name in ("torch-export", "onnx")}
NETWORKS = {
    "torchvision:shufflenet_v2_x0_5": Foreign(formats=DEEP),
    "torchvision:mobilenet_v3_small": Foreign(formats=DEEP),
    "timm:test_resnet": Foreign(formats=DEEP),
    "timm:test_efficientnet_ln": Foreign(formats=DEEP),  # without batch norm
    "timm:test_vit": Foreign({"img_size": 16, "patch_size": 4}, DEFAULT),  # a transformer
    "OWN:tiny": Foreign({"depth": 2, "drop": 0.3}),
    "OWN:Tied": Foreign(formats=DEFAULT),
    "OWN:Picky": Foreign(formats=DEFAULT),
    "OWN:Keeps": Foreign(formats=DEFAULT),
    "OWN:flat": Foreign(
        formats=DEFAULT, refused={"cam": "has no convolution; allowed: a network with at least one nn.Conv2d"}
    ),
    "OWN:scripted": Foreign(refused={"cam": "is scripted; allowed: the network that it was made of"} | UNTRACED),
    "own_package.nets:small": Foreign({"width": 3}, DEFAULT),
}


@dataclass(frozen=True)
class Trained:
    name: str
    foreign: Foreign
    chosen: Chosen
    result: Result
    fresh: dict[str, Tensor]  # weights before training

    @property
    def settings(self) -> dict[str, object]:
        """As a teacher of itself."""
        whose = ("student", "teacher")
        args = {f"{who}_args": json.dumps(self.chosen.arguments) for who in whose if self.chosen.arguments}
        return {"preset": "blink", "role": "cifar-10", **dict.fromkeys(whose, self.chosen.name), **args}

    def pixels(self) -> Tensor:
        """The 100 test images (100, 16, 16, 3)."""
        return self.result.run.data.load().test.images.pixels

    def inputs(self) -> Tensor:
        data = self.result.run.data.load()
        mean, std = data.mean_std
        return ((self.pixels() - mean) / std).permute(0, 3, 1, 2).contiguous()


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Iterator[Path]:
    """A file, and beside it a package that can be imported."""
    folder = tmp_path_factory.mktemp("own")
    package = folder / "own_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "blocks.py").write_text("from torch import nn\n\ndef block(a, b):\n    return nn.Conv2d(a, b, 3)\n")
    (package / "nets.py").write_text(
        "from torch import nn\nfrom own_package.blocks import block\n\n\ndef small(num_classes, width=2):\n"
        "    return nn.Sequential(block(3, width), nn.AdaptiveAvgPool2d(1), nn.Flatten(), "
        "nn.Linear(width, num_classes))\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield own_file(folder)
    for module in [name for name in sys.modules if name.partition(".")[0] == "own_package"]:
        del sys.modules[module]


@pytest.fixture(scope="module", params=NETWORKS)
def trained(request, own, tmp_path_factory) -> Iterator[Trained]:
    """Once a network: a run in a cache of its own, as a plan describes a teacher."""
    name, foreign = request.param, NETWORKS[request.param]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setitem(PRESETS, "blink", BLINK)
        chosen = Chosen(name.replace("OWN", str(own)), foreign.arguments)
        run = Plan.of("blink").teacher(chosen, "cifar-10")
        fresh = start(run).student.state_dict()
        fresh = {key: tensor.clone() for key, tensor in fresh.items()}
        torch.manual_seed(5)  # which is nothing to it
        yield Trained(name, foreign, chosen, train(run), fresh)


def refused_or(trained: Trained, stage: str, call: Callable[[], object]) -> object:
    """What the call gives; None where it is refused, in the one line that is expected of this network."""
    if stage not in trained.foreign.refused:
        return call()
    with pytest.raises(KitError) as raised:
        call()
    (line,) = str(raised.value).splitlines()
    assert trained.foreign.refused[stage] in line
    return None


def test_it_learns_is_kept_and_is_found(trained):
    result = trained.result
    weights = load_file(result.folder / "student.safetensors")
    assert any(not torch.equal(tensor, trained.fresh[key]) for key, tensor in weights.items())
    assert [path.name for path in (cache_folder() / "runs").iterdir() if path.is_dir()] == [result.run.hash]
    data = result.run.data.load()
    found = evaluate(stored(result.run.hash).student(), data.test, *data.mean_std)
    assert found.top1 == result.metrics["test_top1"]


def test_folded_it_answers_alike(trained):
    network, x = trained.result.student(), trained.inputs()
    quick = folded(network)
    with torch.no_grad():
        torch.testing.assert_close(quick(x), network(x), rtol=1e-4, atol=1e-4)


def test_resumed_it_is_the_same_bit_for_bit(trained, monkeypatch, tmp_path):
    monkeypatch.setenv("KIT_CHECKPOINT_S", "0")
    monkeypatch.setenv("KIT_CACHE", str(tmp_path))

    def stop(share: float) -> None:
        if share == 0.5:
            raise KeyboardInterrupt

    run = trained.result.run
    with pytest.raises(KeyboardInterrupt):
        train(run, stop)
    assert find(run) is None
    resumed, weights = (load_file(each.folder / "student.safetensors") for each in (train(run), trained.result))
    assert weights.keys() == resumed.keys()
    assert all(torch.equal(tensor, resumed[key]) for key, tensor in weights.items())


def test_heat_maps_of_it(trained):
    x = trained.inputs()[:4]
    found = refused_or(trained, "cam", lambda: cam.maps(trained.result.student(), x))
    assert found is None or (found.maps.shape == (4, 16, 16) and found.maps.max() <= 1)


def test_taken_home_it_gives_the_same_logits_on_a_hundred_images(trained, tmp_path):
    x = trained.inputs()
    assert len(x) == 100
    with torch.inference_mode():
        expected = trained.result.student()(x)
    largest = max(1.0, float(expected.abs().max()))
    for form in trained.foreign.refused.keys() & FORMATS.keys():
        refused_or(trained, form, lambda: export(trained.result.run.hash, tmp_path / "student", [form]))  # noqa: B023
        assert not (tmp_path / "student").exists()
    written = [form for form in trained.foreign.formats if form not in trained.foreign.refused]
    folder = export(trained.result.run.hash, tmp_path / "student", written).folder
    for form in written:
        with torch.inference_mode():
            z = answers(form, folder / FORMATS[form], trained)(x)
        assert (z - expected).abs().max() <= 1e-5 * largest, form


def answers(form: str, file: Path, trained: Trained) -> Callable[[Tensor], Tensor]:
    """What each format's own library makes of a file."""
    if form == "onnx":
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        return lambda x: torch.from_numpy(session.run(["logits"], {"images": x.numpy()})[0])
    if form == "torch-export":
        return torch.export.load(file).module()
    network = trained.result.run.student.build(seed=1)
    network.load_state_dict(load_file(file))
    return network.eval()


def test_pictures_are_predicted_as_it_was_tested(trained, tmp_path):
    data = trained.result.run.data.load()
    for i, (pixels, label) in enumerate(zip(trained.pixels(), data.test.labels.tolist(), strict=True)):
        place = tmp_path / data.classes[label]
        place.mkdir(exist_ok=True)
        Image.fromarray(pixels.numpy()).save(place / f"{i}.png", compress_level=0)
    found = predict(trained.result.run.hash, tmp_path)
    assert found.accuracy.top1 == trained.result.metrics["test_top1"]


# ---- in the cockpit --------------------------------------------------------------------------------------------------


def test_the_cockpit_teaches_it_by_itself(trained, tmp_path):
    settings = trained.settings
    shown: Cockpit = cockpit(**settings, small_teacher=None, folder=tmp_path)
    try:
        session = shown.lanes[0].session
        shown.step()
        wait_for(lambda: session.state.step == 1 and session.state.phase == "paused", shown)
        assert session.run == Settings(**settings).run()
        assert session.run.teachers["big"].hash == trained.result.run.hash  # it is not trained again
        wait_for(lambda: shown.lanes[0].eyes[0].value, shown)
        seen = [eye.value for eye in shown.lanes[0].eyes]  # the image, teacher's heat on it, student's
        no_heat = "cam" in trained.foreign.refused
        assert (seen[1] == seen[0]) == (seen[2] == seen[0]) == no_heat
        assert ("no heat map: " in shown.lanes[0].captions[2].value) == no_heat
        if trained.name not in SAVED:
            return
        place, _ = shown.snapshot()
        saved = json.loads((place / "settings.json").read_text())["A"]
        assert saved["run"] == Settings(**saved["settings"]).run().hash == session.run.hash
    finally:
        shown.close()


def wait_for(condition: Callable[[], object], shown: Cockpit) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        state = shown.lanes[0].session.state
        assert state.phase != "failed" and time.monotonic() < deadline, state.message
        shown.draw()
        time.sleep(0.02)
