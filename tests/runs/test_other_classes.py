"""Teachers of other classes: mapped by names, or with a new head; against their own rows and scikit-learn."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from foreign_networks import own_file
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from small_runs import hard, taught
from torch import nn

from kit.data.augment import normalise
from kit.errors import KitError
from kit.grid.durations import FORWARD, NOMINAL, Pace
from kit.models import ModelSpec
from kit.networks.flops import flops_per_image
from kit.networks.folding import folded
from kit.networks.named import NamedSpec, described, images
from kit.networks.view import View
from kit.runs.names import names_in, outputs
from kit.runs.probe import head_of
from kit.runs.spec import Run, changed, hash_of
from kit.runs.store import find
from kit.runs.training import start, train
from kit.runs.weights import Given, Weights

pytestmark = pytest.mark.usefixtures("own_cache")
CLASSES = [str(i) for i in range(10)]  # of the digits


def lines(tmp_path, *names: str) -> str:
    (tmp_path / "names.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return str(tmp_path / "names.txt")


def given(network: NamedSpec | ModelSpec, weights: Weights) -> Run:
    return changed(hard(), student=network, weights=weights, recipe=Given(), seed=0)


# ---- by names -----------------------------------------------------------------------------------------------------


def test_names_are_found_as_written_else_where_one_is_spelt_alike(tmp_path):
    file = lines(tmp_path, "Tench, Tinca", "sea_gull", "dog", "Dog", "polar bear")
    assert outputs(file, ["dog", "Sea Gull", "polar-bear"]).chosen == (2, 1, 4)
    with pytest.raises(KitError) as raised:
        outputs(file, ["DOG", "dog", "a", "b", "c"])  # DOG may be either
    assert str(raised.value).startswith(
        "of the data's 5 classes 'DOG', 'a', 'b' and 1 more are not among the 5 names of"
    )
    with pytest.raises(KitError, match="stand for two of the data's classes: 'sea_gull'; allowed: for one"):
        outputs(file, ["sea gull", "Sea-Gull"])


BAD = {
    b"": "it is empty", b"\n\n": "it is empty", b"a\n\nb\n": "line 2 is empty", b"a\nb\na\n": "'a' is on lines 1 and 3",
    b"a\n\xff\n": "byte 2 is not UTF-8",
}  # fmt: skip


@pytest.mark.parametrize("content", BAD)
def test_files_of_names_that_are_refused(content, tmp_path):
    (tmp_path / "names.txt").write_bytes(content)
    with pytest.raises(KitError) as raised:
        names_in(tmp_path / "names.txt")
    named = f"names of classes '{tmp_path}/names.txt' cannot be read"
    assert str(raised.value) == f"{named} ({BAD[content]}); allowed: a text file, one name a line"
    with pytest.raises(KitError, match="No such file"):
        names_in(tmp_path / "none.txt")


def test_names_as_other_systems_write_them(tmp_path):
    (tmp_path / "names.txt").write_bytes("\ufeffa\r\nb c\r\n\r\n".encode())
    assert names_in(tmp_path / "names.txt") == ["a", "b c"]


def test_a_teacher_of_more_classes_in_another_order_answers_as_its_own_rows(tmp_path):
    """Ten of 13 outputs, shuffled: logits are those of the network itself; folded, taught, described too."""
    names = ["x", *CLASSES[5:], "y", *CLASSES[:5], "z"]
    found = outputs(lines(tmp_path, *names), CLASSES)
    name = f"{own_file(tmp_path)}:tiny"
    wide, seen = NamedSpec.of(name, 13, 8), NamedSpec.of(name, 10, 8, view=View(outputs=found))
    network = wide.build(seed=3).eval()
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    weights = Weights.of(tmp_path / "w.safetensors", seen)
    own = weights.into(seen.build(0), seen.title).eval()
    rows = [names.index(label) for label in CLASSES]
    with torch.no_grad():
        logits = network(images(8))[:, rows]
        assert torch.equal(own(images(8)), logits)
        torch.testing.assert_close(folded(own)(images(8)), logits)
    teacher = given(seen, weights)
    written = json.loads(json.dumps(teacher.model_dump(mode="json")))
    assert written["student"]["view"]["outputs"] == {"count": 13, "names": found.names, "chosen": rows}
    assert hash_of(written) == teacher.hash
    assert described(written["student"]).model_dump() == seen.model_dump()
    other = outputs(lines(tmp_path, *["w", *names[1:]]), CLASSES)  # the same rows, another classifier
    assert given(NamedSpec.of(name, 10, 8, view=View(outputs=other)), weights).hash != teacher.hash
    train(teacher)
    data = teacher.data.load()
    x = normalise(data.test.images.take(torch.arange(len(data.test))), *data.mean_std)
    with torch.no_grad():
        right = (network(x)[:, rows].argmax(1) == data.test.labels).double().mean()
    assert find(teacher).metrics["test_top1"] == pytest.approx(float(right))
    assert train(taught(teacher, epochs=1)).metrics["agreement"]["kl"] > 0
    assert teacher.title.startswith("my_nets.py:tiny of 13 classes on cifar-10, given weights ")


# ---- a new head ---------------------------------------------------------------------------------------------------

CNN = ModelSpec(name="cnn", classes=10, width=4, stem="small")


@pytest.fixture
def body(tmp_path):
    """A network of seven classes, as a file; of it only the body is taken."""
    network = ModelSpec(name="cnn", classes=7, width=4, stem="small").build(1).eval()
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    return network


def test_a_trained_head_is_scikit_learns_logistic_regression_on_the_bodys_features(body, tmp_path):
    head = head_of(CNN.build(0), 8, CNN.title)
    assert head == "fc"
    run = given(CNN, Weights.of(tmp_path / "w.safetensors", CNN, head))
    result = train(run)
    network, data = result.student(), run.data.load()
    for name, tensor in body.state_dict().items():
        assert name.startswith("fc.") or torch.equal(network.state_dict()[name], tensor)
    body.fc = nn.Identity()
    x, tests = (normalise(s.images.take(torch.arange(len(s))), *data.mean_std) for s in (data.train, data.test))
    with torch.no_grad():
        features, unseen = (body(each).double().numpy() for each in (x, tests))
        ours = network(tests).softmax(1).numpy()
    reference = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, tol=1e-8, max_iter=1000))
    reference.fit(features, data.train.labels.numpy())
    assert np.abs(ours - reference.predict_proba(unseen)).max() < 1e-3
    assert result.metrics["test_top1"] == pytest.approx(reference.score(unseen, data.test.labels.numpy()))


def test_its_training_is_charged_is_the_same_again_and_is_part_of_the_identity(body, tmp_path):
    file = tmp_path / "w.safetensors"
    run = given(CNN, Weights.of(file, CNN, "fc"))
    first = train(run)
    assert first.metrics["student_flops"] > 0 and first.seconds > 0
    answers = run.data.train_images * flops_per_image(CNN, run.data.px)[0]
    assert Pace().seconds(run) == pytest.approx(FORWARD * answers / NOMINAL["cpu"])
    assert answers < first.metrics["student_flops"] < 2 * answers  # even of a network as small as this
    assert run.model_dump(mode="json")["weights"] == {"sha256": run.weights.sha256, "head": "fc"}
    assert run.title.endswith(f"given weights {run.weights.sha256[:8]}, head trained")
    again = start(run).student.state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.student().state_dict().items())


def test_a_body_alone_is_enough_for_a_new_head_and_less_is_not(body, tmp_path):
    file, state = tmp_path / "w.safetensors", body.state_dict()
    with pytest.raises(
        KitError, match=r"of another shape: fc.weight .*; allowed: as many classes as there, or for a teacher --"
    ):
        Weights.of(file, CNN)
    save_file({name: tensor for name, tensor in state.items() if not name.startswith("fc.")}, file)
    assert Weights.of(file, CNN, "fc").head == "fc"
    with pytest.raises(KitError, match="do not fit CNN: missing: fc.weight, fc.bias$"):
        Weights.of(file, CNN)
    save_file({name: tensor for name, tensor in state.items() if name != "features.0.weight"}, file)
    with pytest.raises(KitError, match="do not fit CNN: missing: features.0.weight$"):
        Weights.of(file, CNN, "fc")


def test_another_stem_is_not_taken_for_other_classes(body, tmp_path):
    file, first = tmp_path / "w.safetensors", "features.0.weight"
    save_file(body.state_dict() | {first: torch.zeros(*body.state_dict()[first].shape[:2], 7, 7)}, file)
    with pytest.raises(KitError, match=r"of another shape: features.0.weight \(\d+, 3, 7, 7\) rather than [^;]*$"):
        Weights.of(file, CNN, "fc")


@pytest.mark.parametrize(("name", "head"), [("torchvision:shufflenet_v2_x0_5", "fc"), ("timm:test_vit", "head")])
def test_heads_are_found_behind_a_view_too(name, head):
    network = NamedSpec.of(name, 10, 32, {}, View(px=160 if "vit" in name else 32))
    assert head_of(network.build(0), 32, name) == head


def test_a_network_without_a_linear_head_is_refused():
    network = NamedSpec.of("torchvision:squeezenet1_1", 10, 32)
    with pytest.raises(KitError, match="squeezenet1_1 has no head to be trained; allowed: a linear layer with a bias"):
        head_of(network.build(0), 32, network.title)
