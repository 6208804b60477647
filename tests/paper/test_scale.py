"""What preset paper asks for: its counts against formulas, real tensors and the runs themselves."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from torch import nn

from kit.__main__ import main
from kit.errors import KitError
from kit.grid.durations import flops_of
from kit.methods import METHODS
from kit.models import MODELS, ModelSpec
from kit.paper import scale, table4
from kit.paper.plan import Plan
from kit.runs.spec import hash_of

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def parts() -> list[scale.Part]:
    return scale.parts(scale.plan())


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("stem", "px"), [("small", 16), ("imagenet", 64)])
def test_as_many_bytes_are_kept_of_shapes_as_of_real_tensors(name, stem, px):
    network = ModelSpec(name=name, classes=10, width=4, stem=stem)
    real = scale.saved_bytes(network.build(0), torch.randn(4, 3, px, px), torch.zeros(4, dtype=torch.int64))
    assert scale.kept_for_backward(network, px, 4) == real > 0


def test_what_a_convolution_and_a_relu_keep_is_known():
    """The convolution keeps its input, the ReLU its output, cross-entropy its log-softmax, labels and total weight."""
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten())
    images, features = 5 * 3 * 4 * 4, 5 * 8 * 4 * 4
    kept = scale.saved_bytes(network, torch.randn(5, 3, 4, 4), torch.zeros(5, dtype=torch.int64))
    assert kept == 4 * (images + features + features) + 8 * 5 + 4


def test_the_flops_of_table_1_are_those_of_its_convolutions(parts):
    """CNN on cifar-10 by hand: four 3×3 convolutions on halving maps, a linear layer; 250 epochs of 390 batches."""
    run = next(run for run in parts[0].runs if (run.student.name, run.data.role) == ("cnn", "cifar-10"))
    channels, sides = (3, 64, 128, 256, 256), (32, 16, 8, 4)
    layers = [2 * 9 * a * b * side**2 for a, b, side in zip(channels, channels[1:], sides, strict=False)]
    linear = 2 * 256 * 10
    step = 3 * (sum(layers) + linear) - layers[0]  # no gradient to the images
    training, asking = flops_of(run)
    assert not asking and training == pytest.approx(250 * 390 * 128 * step)


def test_every_run_is_counted_once(parts):
    runs = [run for part in parts for run in part.runs]
    assert len(runs) == len(set(runs)) > 100
    assert len(parts[0].runs) == 5 * 4 * 3  # networks, roles, seeds
    assert all(part.shared > 0 for part in parts[1:])  # their teachers are Table 1's
    assert parts[0].flops[1] == 0  # which has no teachers itself


def test_memory_is_the_sum_of_what_is_held(parts):
    run = max((run for part in parts for run in part.runs), key=lambda run: scale.memory(run).total)
    held = scale.memory(run)
    weights = sum(p.numel() for p in torch.nn.ModuleList([_meta(run)]).parameters())
    assert 3 * 4 * weights < held.student < 3 * 4 * weights * 1.01  # and batch norms' statistics
    assert held.total == held.student + held.teachers + held.activations
    assert held.activations > 128 * 64 * 224 * 224 * 4  # its first feature map alone


def _meta(run) -> nn.Module:
    with torch.device("meta"):
        return run.student.build()


def test_hours_are_flops_over_the_assumed_rate(parts):
    frame = scale.summary(parts, tflops=100, utilisation=0.5)
    expected = [sum(part.flops) / 100e12 / 0.5 / 3600 for part in parts]
    assert frame["gpu_hours"].tolist() == pytest.approx(expected)


def test_rates_that_no_gpu_has_are_refused(capsys):
    for words in (["--gpu-tflops", "0"], ["--gpu-tflops", "nan"], ["--utilisation", "1.5"], ["--utilisation", "-1"]):
        assert main(["bench", "--preset", "paper", *words]) == 2
        said = capsys.readouterr()
        assert len(said.err.splitlines()) == 1 and words[0] in said.err and "allowed" in said.err
    with pytest.raises(KitError, match="allowed"):
        scale.gpu_rate(1, 0)


def test_foreseen_runs_of_table_4_are_as_many_as_its_searches_may_try():
    plan, seeds = Plan.of("smoke"), 2
    foreseen = table4.foreseen(plan, seeds)
    size, searches = table4.SEARCHES["smoke"], sum(method.search is not None for method in METHODS)
    candidates = [run for run in foreseen if run.data.train_images < plan.data("cifar-100").train_images]
    assert len(candidates) == seeds * searches * size.rounds * size.candidates
    assert all(run.recipe.epochs == size.epochs for run in candidates)
    assert len(foreseen) == len(candidates) + searches * seeds  # each search has a final student
    assert hash_of(foreseen[0].model_dump(mode="json")) == foreseen[0].hash  # ordinary runs


def test_table_4_in_equal_time_trains_every_method_but_ours_once_more():
    plan, seeds = Plan.of("smoke"), 2
    once, twice = table4.foreseen(plan, seeds), table4.foreseen(plan, seeds, equal_time=True)
    again = Counter(run.hash for run in twice) - Counter(run.hash for run in once)
    assert again.total() == seeds * (len(METHODS) - 1)
    ours = next(run for row in table4.known(plan, 1) if row.label == "ours" for run in row.runs)
    (searched,) = {run.hash for run in once if run.data == ours.data}
    assert again == {ours.hash: seeds * (len(METHODS) - 1 - 4), searched: seeds * 4}  # two searches and their twins


def test_paper_md_is_what_the_kit_computes_without_images(monkeypatch, tmp_path):
    monkeypatch.setenv("KIT_CACHE", str(tmp_path))
    monkeypatch.setattr("kit.data.roles.load", lambda *_, **__: pytest.fail("an image was loaded"))
    monkeypatch.setattr(scale, "parts", Mock(wraps=scale.parts))
    assert (ROOT / "PAPER.md").read_text(encoding="utf-8") == scale.page(), (
        "write it anew: python -m kit bench --preset paper --page PAPER.md"
    )
    assert list(tmp_path.iterdir()) == []
    scale.parts.assert_called_once()
    assert "Assumed: one GPU, 500 TFLOP/s at its peak" in scale.page(500.0)  # of another GPU the name is not known
