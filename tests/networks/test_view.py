"""Networks that see images as they want them: normalised by their own numbers, in their own size."""

from __future__ import annotations

import pytest
import torch
import torchvision.transforms.v2.functional as T
from commands import one_line
from foreign_networks import own_file
from pydantic import ValidationError
from small_runs import Here, spec

from kit import cam
from kit.data.augment import normalise
from kit.errors import KitError
from kit.grid.training import train_all
from kit.networks.flops import flops_per_image
from kit.networks.folding import folded
from kit.networks.named import NamedSpec
from kit.networks.view import IMAGENET, View, normalisation
from kit.paper.plan import Chosen, Plan
from kit.paper.settings import Settings
from kit.runs.store import find
from kit.runs.training import train

pytestmark = pytest.mark.usefixtures("own_cache")


def seeing(view: View | None, px: int = 16, name: str = "timm:test_resnet") -> NamedSpec:
    return NamedSpec.of(name, 10, px, {}, view)


def test_a_view_prepares_images_as_torchvision_does():
    data = spec(px=16).load()
    pixels = data.test.images.take(torch.arange(4))
    view = View.of(data.mean_std, IMAGENET, 24)
    plain, behind = seeing(None, 24).build(1).eval(), seeing(view).build(1).eval()
    images = T.to_dtype(pixels.permute(0, 3, 1, 2), torch.float32, scale=True)
    with torch.no_grad():
        theirs = plain(T.normalize(T.resize(images, [24, 24], antialias=True), *IMAGENET))
        torch.testing.assert_close(behind(normalise(pixels, *data.mean_std)), theirs, rtol=1e-3, atol=1e-4)


def test_a_view_changes_no_weights_and_no_names(own_cache):
    plain, behind = seeing(None).build(1), seeing(View(scale=(2, 2, 2))).build(1)
    assert plain.state_dict().keys() == behind.state_dict().keys()
    behind.load_state_dict(seeing(None).build(2).state_dict())
    assert torch.equal(behind.network.fc.weight, seeing(None).build(2).fc.weight)
    assert seeing(View(scale=(2, 2, 2))).shapes == seeing(None).shapes


def test_a_larger_size_costs_more_and_can_be_folded_and_explained():
    view = View(px=32)
    assert flops_per_image(seeing(view), 16) == flops_per_image(seeing(None, 32), 32)
    network, x = seeing(view).build(0).eval(), torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(folded(network)(x), network(x), rtol=1e-4, atol=1e-4)
    assert cam.maps(network, x).maps.shape == (2, 16, 16)


def test_a_given_teacher_of_another_normalisation_is_right_with_its_own_alone(tmp_path):
    """A teacher trained outside on images by ImageNet's numbers answers by `--teacher-normalise imagenet` as it did."""
    plan, role = Plan.of("smoke"), "cifar-10"
    name = f"{own_file(tmp_path)}:tiny"
    teacher = plan.teacher(Chosen(name, normalise="imagenet"), role)
    run = teacher.model_copy(update={"recipe": teacher.recipe.model_copy(update={"epochs": 12, "batch": 16})})
    learnt = train(run)
    file = learnt.folder / "student.safetensors"
    accuracy = {}
    for normalise_by in ("imagenet", "role", "0.9/0.05"):
        settings = Settings(
            student="cnn", teacher=name, teacher_weights=str(file), teacher_normalise=normalise_by, role=role,
            preset="smoke", epochs=1,
        )  # fmt: skip
        given = settings.run().teachers["big"]
        train_all([given], jobs=Here(), show_progress=False)
        accuracy[normalise_by] = find(given).metrics["test_top1"]
    assert accuracy["imagenet"] == learnt.metrics["test_top1"] > accuracy["0.9/0.05"]


@pytest.mark.parametrize("words", ["", "image", "0.5", "0.5/0", "0.5,0.5/0.5", "1/2/3", "2/1", "nan/1", "a/b"])
def test_normalisations_that_are_none(words):
    with pytest.raises(KitError, match="is not allowed; allowed: role, imagenet, or MEAN/STD in 0 … 1") as raised:
        normalisation(words)
    one_line(raised)


def test_the_words_of_a_normalisation():
    assert normalisation("role") is None
    assert normalisation("0.5/0.25") == ((0.5,) * 3, (0.25,) * 3)
    assert normalisation("0.1,0.2,0.3/0.4,0.5,0.6") == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


@pytest.mark.parametrize("px", [0, 1025])
def test_a_size_that_no_teacher_wants_is_refused(px):
    with pytest.raises(ValidationError, match="px"):
        View(px=px)


def test_the_kits_own_networks_see_the_roles_images():
    with pytest.raises(
        KitError, match="model 'cnn' has no normalisation, size or classes of its own; allowed: for torchvision"
    ):
        Plan.of("smoke").teacher(Chosen("cnn", normalise="imagenet"), "cifar-10")
