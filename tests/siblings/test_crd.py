"""The field's protocol against a plain PyTorch loop, written from its words."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from small_runs import Here, hard, left_in, spec
from small_trainings import PX, cnn, dataset
from torch import nn
from torch.nn import functional as F

from kit import recipe
from kit.__main__ import main
from kit.data.augment import EpochPlan, trained_on
from kit.grid.training import train_all
from kit.models import ModelSpec
from kit.paper.presets import PRESETS, by_crd
from kit.paper.settings import Settings
from kit.runs.spec import Run
from kit.runs.store import find
from kit.runs.training import train
from kit.siblings import crd
from kit.trainer import Training

pytestmark = pytest.mark.numerics


class Double(nn.Module):
    """In double precision, so that 56 steps' rounding is no difference."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.double()

    def forward(self, x):
        return self.network(x.double())


def cropped(image: np.ndarray, top: int, left: int, mirrored: bool) -> np.ndarray:
    """Black by 4 on each side, a crop of the old size, mirrored; (H, W, 3) in 0 … 255."""
    padded = np.zeros((PX + 8, PX + 8, 3), image.dtype)
    padded[4:-4, 4:-4] = image
    crop = padded[top : top + PX, left : left + PX]
    return crop[:, ::-1] if mirrored else crop


def test_it_is_the_protocol_in_plain_pytorch():
    """52 images in batches of 8: six whole ones and one of four. 8 epochs, so that lr falls after 5, 6 and 7."""
    data, epochs = dataset(train=52), 8
    by_hand, teacher = Double(cnn(1, 2)).train(), Double(cnn(2, 4)).eval()
    ours = copy.deepcopy(by_hand)
    training = Training(crd.recipe(epochs=epochs, batch=8), data, ours, {"big": copy.deepcopy(teacher)}, seed=7)

    optimiser = torch.optim.SGD(by_hand.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, foreach=False)
    pixels = data.train.images.pixels.numpy().astype(np.float64)
    mean, std = (stat.astype(np.float32) for stat in (pixels.mean((0, 1, 2)), pixels.std((0, 1, 2), ddof=1)))
    pixels = pixels.astype(np.float32)
    losses, sizes = [], []
    for epoch in range(epochs):
        for group in optimiser.param_groups:
            group["lr"] = 0.05 * 0.1 ** sum(240 * epoch >= milestone * epochs for milestone in (150, 180, 210))
        drawn = EpochPlan(52, 7, epoch, 4, True)  # which images, where cropped, which mirrored: all else is done here
        for indices in drawn.order.split(8):
            changed = [
                (cropped(pixels[i], *drawn.offsets[i].tolist(), bool(drawn.flips[i])) - mean) / std for i in indices
            ]
            x, y = torch.from_numpy(np.stack(changed)).permute(0, 3, 1, 2), data.train.labels[indices]
            with torch.no_grad():
                zt = teacher(x).float()  # as teachers' logits are kept
            zs = by_hand(x)
            kd = F.kl_div(F.log_softmax(zs / 4, 1), F.softmax(zt / 4, 1), reduction="sum") / len(indices) * 4**2
            loss = 0.1 * F.cross_entropy(zs, y) + 0.9 * kd
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
            sizes.append(len(indices))
    training.run()
    assert training.step == 56 == len(losses) and set(sizes) == {8, 4}
    assert [row["loss"] for row in training.steps()] == pytest.approx(losses, rel=1e-5)
    for name, tensor in by_hand.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], tensor, rtol=1e-5, atol=1e-6, msg=name)
    assert [row["lr"] for row in training.steps()[::7]] == pytest.approx([0.05] * 5 + [0.005, 0.0005, 0.00005])
    assert training.spent.student_images == epochs * 52 == epochs * trained_on(52, 8, True)
    assert [row["batch_top1"] * size % 1 for row, size in zip(training.steps(), sizes, strict=True)] == [0] * 56
    assert all(row["train_top1"] * 52 % 1 == pytest.approx(0, abs=1e-9) for row in training.epochs)


def test_sizes_go_with_the_preset():
    paper, quick = (by_crd(PRESETS[name]).roles["cifar-100"] for name in ("paper", "quick"))
    assert (paper.epochs, paper.teacher_epochs, paper.batch) == (240, 240, 64)
    assert (quick.epochs, quick.teacher_epochs, quick.px) == (19, 58, 16)  # 1.6 times 12 and 36
    assert crd.recipe(network="cifar:shufflenetv2").lr == 0.01 and crd.recipe(network="cifar:vgg8").lr == 0.05
    assert crd.recipe(epochs=8, batch=32).batch == 32


def taught(**more) -> Settings:
    return Settings(student="cnn", teacher="vgg16", role="cifar-10", preset="smoke", recipe="crd", **more)


def test_settings_give_the_protocol_to_student_and_teacher(own_cache):
    run = taught().run()
    assert run.recipe == crd.recipe(epochs=3)
    assert run.teachers["big"].recipe == crd.recipe(recipe.hard_labels(), epochs=5)
    assert taught(temperature=4, alpha=0.9).run() == run
    assert taught(temperature="2", alpha=0.5, lr=0.02).run().recipe == crd.recipe(crd.stages(2, 0.5), epochs=3, lr=0.02)
    method = taught(temperature="adaptive", small_teacher="cnn").run().recipe
    assert method == crd.recipe(recipe.small_teacher(recipe.adaptive(3)), epochs=3)
    alone = Settings(student="cifar:mobilenetv2", role="cifar-10", preset="smoke", recipe="crd").run()
    assert alone.recipe == crd.recipe(recipe.hard_labels(), "cifar:mobilenetv2", 3) and alone.recipe.lr == 0.01
    usual = Settings(student="cnn", teacher="vgg16", role="cifar-10", preset="smoke")
    assert usual.run() == Settings(**dict(usual) | {"temperature": "adaptive"}).run()
    assert usual.run().recipe.stages == recipe.big_teacher_only(recipe.adaptive(2))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--recipe", "kd"], "recipe 'kd' is not known; allowed: kit, crd"),
        (
            ["--recipe", "crd", "--small-teacher", "cnn"],
            "--small-teacher 'cnn' is not allowed; allowed: without it, as t",
        ),
        (["--recipe", "crd", "--alpha", "1.5"], "alpha: 1.5"),
        (["--recipe", "crd", "--temperature", "-4"], "T: -4.0"),
        (["--recipe", "crd", "--batch", "53"], "batch 53 is not allowed: an epoch's last one would be of one image"),
    ],
)
def test_bad_input_is_one_line(words, said, own_cache, capsys):
    asked = ["train", "--role", "cifar-10", "--preset", "smoke", "--student", "cnn", "--teacher", "vgg16", *words]
    assert main(asked) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_milestones_that_do_not_rise_are_refused():
    for milestones in ((0.5, 0.5), (0.8, 0.2), (0.0,), (1.0,)):
        with pytest.raises(ValueError, match="milestones must rise between 0 and 1"):
            crd.recipe(milestones=milestones)


def files(run: Run) -> tuple[bytes, bytes]:
    return tuple((find(run).folder / name).read_bytes() for name in ("student.safetensors", "steps.csv"))


def test_cached_logits_and_a_resumed_run_give_the_same_bits(own_cache, monkeypatch, tmp_path):
    """40 images in batches of 16, the last of eight; two students share their teacher's logits."""
    one, other = (
        Run(
            data=spec(),
            student=ModelSpec(name="cnn", classes=10, width=2, stem="small"),
            recipe=crd.recipe(crd.stages(T), epochs=3, batch=16, pad=1),
            teachers={"big": hard(width=4)},
        )
        for T in (2.0, 4.0)
    )
    results = train_all([one, other], show_progress=False, jobs=Here())
    assert [results[run].metrics["cached_logits_images"] for run in (one, other)] == [120, 120]
    expected = files(one)

    monkeypatch.setenv("KIT_CACHE", str(tmp_path / "again"))
    monkeypatch.setenv("KIT_CHECKPOINT_S", "0")
    train(one.teachers["big"])
    batches = iter(range(5))  # three an epoch: it is stopped amid the second

    def stop(share: float) -> None:
        if next(batches, None) is None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(one, stop)
    assert one.hash not in left_in(tmp_path / "again")
    assert train(one).metrics["cached_logits_images"] == 0
    assert files(one) == expected


def test_updates_are_described_only_where_they_are_not_the_usual_ones():
    of_crd = {"milestones", "nesterov", "decays", "padding", "keep_last"}
    assert not of_crd & hard().recipe.model_dump().keys()
    assert of_crd <= crd.recipe().model_dump().keys()
