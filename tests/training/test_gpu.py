"""On a GPU a training is what it is on a CPU: the same to rounding, without waiting, in parts where memory ends."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from small_runs import hard, taught
from small_trainings import cnn, dataset, same_weights
from torch import nn

from kit import recipe
from kit.cam import METHODS, maps
from kit.data.base import Dataset, Split, TensorImages
from kit.models import build
from kit.parallel.ranks import Group
from kit.recipe import Improved, Recipe, Stage
from kit.runs import find, train
from kit.runs.logits import Drawn, TeacherLogits
from kit.siblings import SIBLINGS
from kit.temperature import Adaptive, Fixed, Policy
from kit.trainer import Training
from kit.training.forward import Machine

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

STEPS = 50
BATCH = 16
ON_GPU = Machine("cuda")


@pytest.fixture(autouse=True)
def float32(monkeypatch):
    """Convolutions in float32 proper and by kernels that give the same bits again."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)


def under(policy: Policy, epochs: int = 10) -> Recipe:
    """One soft stage of 5 steps an epoch, which no temperature ends."""
    soft = Stage(name="soft", teacher="big", objective=Improved(), temperature=policy, until=1)
    return Recipe(stages=(soft,), epochs=epochs, batch=BATCH, lr=0.02, warmup=0, pad=1)


def training(described: Recipe, machine: Machine = ON_GPU, **options) -> Training:
    """A CNN under another one, which has logits of some size."""
    data = dataset(train=5 * BATCH)
    teacher = cnn(1)
    with torch.no_grad():
        teacher.fc.weight.mul_(5)
    return Training(described, data, cnn(0), {"big": teacher}, seed=0, machine=machine, **options)


FALLS_SLOWLY = Adaptive(k=20, rate=2)


def test_the_temperature_falls_as_on_a_cpu():
    here, there = (training(under(FALLS_SLOWLY), machine).run() for machine in (Machine(), ON_GPU))
    t, t_there = here.history.temperatures[:, 0], there.history.temperatures[:, 0]
    assert len(t) == STEPS and 1 < t[-1] < t[0] == 20
    assert float((t - t_there).abs().max()) < 1e-3
    assert torch.allclose(here.history.loss, there.history.loss.cpu(), rtol=1e-3)
    assert here.metrics()["agreement"]["kl"] == pytest.approx(there.metrics()["agreement"]["kl"], rel=1e-2)


def test_the_same_training_twice_is_the_same_bit_for_bit():
    assert same_weights(*(training(under(FALLS_SLOWLY)).run().student for _ in range(2)))


def with_dropout() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(), nn.Linear(144, 6)
    )


EVERY_METHOD = {"adaptive": under(FALLS_SLOWLY)} | {
    " ".join(name): Recipe(stages=stages(10), epochs=10, batch=BATCH, lr=0.002, pad=1)
    for name, stages in SIBLINGS.items()
}


@pytest.mark.parametrize("described", EVERY_METHOD.values(), ids=EVERY_METHOD)
def test_kernels_recorded_and_replayed_give_the_bits_of_kernels_launched_one_by_one(described):
    def trained() -> Training:
        torch.manual_seed(3)
        return Training(described, dataset(train=5 * BATCH), with_dropout(), {"big": cnn(1)}, 0, machine=ON_GPU).run()

    recorded = trained()
    with ThreadPoolExecutor(1) as elsewhere:  # where none is recorded
        launched = elsewhere.submit(trained).result()
    assert recorded.learner._recorded and not launched.learner._recorded
    assert same_weights(recorded.student, launched.student)
    exactly = {"rtol": 0, "atol": 0, "equal_nan": True}  # none in a stage of hard labels
    torch.testing.assert_close(recorded.history.temperatures, launched.history.temperatures, **exactly)


@contextmanager
def waits() -> Iterator[list[str]]:
    """Collects where the host waits for the GPU."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        found: list[str] = []
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode("default")
            found += [f"{w.filename}:{w.lineno}" for w in caught if "called a synchronizing" in str(w.message)]


@pytest.mark.parametrize(("policy", "a_step"), [(Fixed(T=20), 0), (FALLS_SLOWLY, 1)])
def test_a_step_waits_for_the_gpu_at_most_to_read_the_temperature(policy, a_step):
    steps = iter(training(under(policy)))
    list(islice(steps, 2))
    with waits() as found:
        list(islice(steps, 2))
    assert len(found) == 2 * a_step, found


def test_cached_logits_are_not_waited_for(tmp_path):
    described, data = under(Fixed(T=20)), dataset(train=5 * BATCH)
    kept = TeacherLogits(tmp_path / "teacher", len(data.train), len(data.classes))
    drawn = Drawn(seed=0, batch=BATCH, pad=1)
    list(kept.compute(range(2), cnn(1), data, drawn, torch.device("cuda"), "float32"))
    reading = training(described, cached_logits={"big": kept})
    steps = iter(reading)
    list(islice(steps, 2))
    with waits() as found:
        list(islice(steps, 2))
    assert not found and reading.spent.cached_logits_images == 4 * BATCH


def test_a_stopped_training_goes_on_bit_for_bit():
    straight = training(under(FALLS_SLOWLY)).run()
    begun = training(under(FALLS_SLOWLY))
    list(islice(begun, 23))
    resumed = training(under(FALLS_SLOWLY))
    resumed.restore(*begun.state())
    resumed.run()
    assert same_weights(straight.student, resumed.student)
    assert straight.history.temperatures.equal(resumed.history.temperatures)


def test_a_process_of_a_group_by_nccl_trains_the_student_of_one_alone(tmp_path):
    """One is all that a single GPU has room for."""
    alone = training(under(FALLS_SLOWLY)).run()
    store = f"file://{tmp_path / 'store'}"
    torch.distributed.init_process_group("cpu:gloo,cuda:nccl", init_method=store, rank=0, world_size=1)
    try:
        grouped = training(under(FALLS_SLOWLY), Machine("cuda", ranks=Group(0, 1))).run()
    finally:
        torch.distributed.destroy_process_group()
    assert same_weights(alone.student, grouped.student)
    assert alone.history.temperatures.equal(grouped.history.temperatures)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", SIBLINGS, ids=" ".join)
def test_every_sibling_trains_as_on_a_cpu(name, precision):
    described = Recipe(stages=SIBLINGS[name](4), epochs=4, batch=BATCH, lr=0.02, pad=1)
    here, there = (training(described, Machine(device, precision)).run() for device in ("cpu", "cuda"))
    rtol = 1e-2 if precision == "float32" else 0.1
    assert torch.allclose(here.history.loss, there.history.loss.cpu(), rtol=rtol)
    assert there.metrics()["gpu_s"] > 0 and there.student.fc.weight.dtype == torch.float32


def large(images: int) -> Dataset:
    """Black pictures of 64 px, which a GPU has to hold all the same."""
    black = Split(TensorImages(torch.zeros(images, 64, 64, 3, dtype=torch.uint8)), torch.arange(images) % 10)
    few = Split(TensorImages(black.images.pixels[:20]), black.labels[:20])
    return replace(dataset(), classes=tuple("0123456789"), train=black, test=few, px=64)


def test_a_batch_that_does_not_fit_is_taken_in_parts_and_that_is_said():
    images = 512
    student = build("vgg16", 10, width=16, stem="small", seed=0)
    described = Recipe(stages=recipe.hard_labels(), epochs=2, batch=images, lr=0.01, pad=1)
    whole = Training(described, large(images), student, {}, seed=0, machine=ON_GPU)
    gc.collect()
    torch.cuda.empty_cache()
    allowed = torch.cuda.memory_reserved() + 0.6e9
    torch.cuda.set_per_process_memory_fraction(allowed / torch.cuda.get_device_properties(0).total_memory)
    try:
        whole.run()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
    assert whole.micro_batches.count > 1 and whole.history.loss.isfinite().all()
    assert any(note.startswith("out of memory at step 1: ") for note in whole.notes), whole.notes


def test_a_run_on_a_gpu_is_kept_and_read_like_any_other(own_cache):
    big = hard(seed=1).model_copy(update={"device": "cuda"})
    small = hard(seed=2).model_copy(update={"device": "cuda"})
    run = taught(big, small).model_copy(update={"device": "cuda"})
    assert run.hash != taught(hard(seed=1), hard(seed=2)).hash
    first, again = [train(each) for each in (big, small, run)][-1], find(run)
    assert first.metrics == again.metrics and first.metrics["gpu_s"] > 0
    assert next(again.student().parameters()).device.type == "cpu"


@pytest.mark.parametrize("method", list(METHODS))
def test_heat_maps_are_those_of_a_cpu(method):
    network, x = build("resnet34", 10, width=4, stem="small", seed=0).eval(), torch.randn(3, 3, 32, 32)
    here = maps(network, x, method=method)
    there = maps(network.to("cuda"), x, method=method)
    assert np.abs(here.maps - there.maps).max() < 1e-2 and here.classes.equal(there.classes)
