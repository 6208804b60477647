"""bfloat16 by autocast: what answers in it and what does not, and that it is part of a run's identity; copies ahead."""

from __future__ import annotations

import pytest
import torch
from small_runs import hard
from small_trainings import DATA, cnn, same_weights, teachers, three_steps
from torch import nn

from kit.__main__ import main
from kit.errors import KitError
from kit.paper.plan import Plan
from kit.paper.settings import Settings
from kit.recipe import Improved, Moment, Recipe, Stage
from kit.runs.spec import Run
from kit.runs.training import train
from kit.temperature import Fixed
from kit.trainer import Training
from kit.training.batches import Prefetch
from kit.training.forward import Machine

pytestmark = [pytest.mark.numerics, pytest.mark.usefixtures("own_cache")]


class Listening(Improved):
    """Notes in what type the losses see logits."""

    def __call__(self, at: Moment):
        SEEN.append((at.x.dtype, at.zs.dtype, at.zt.dtype))
        return super().__call__(at)


SEEN: list[tuple] = []


class Answering(nn.Module):
    """A network that notes in what type it answers."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.answers = network, []

    def forward(self, x):
        z = self.network(x)
        self.answers.append(z.dtype)
        return z


def test_networks_answer_in_bfloat16_and_everything_else_is_single_precision():
    SEEN.clear()
    student, teacher = Answering(cnn(1)), cnn(102, 4)
    objective = Listening()
    stage = Stage(name="s", objective=objective, teacher="big", temperature=Fixed(T=4), until=1)
    made = Recipe(stages=(stage,), epochs=1, batch=16, pad=1)
    training = Training(made, DATA, student, {"big": teacher}, seed=0, machine=Machine(precision="bfloat16"))
    for _ in training:
        pass
    assert SEEN == [(torch.float32, torch.float32, torch.float32)] * 3
    assert student.answers[:3] == [torch.bfloat16] * 3  # in training
    assert set(student.answers[3:]) == {torch.float32}  # in evaluation, at the epoch's end
    assert {p.dtype for p in student.parameters()} == {p.grad.dtype for p in student.parameters()} == {torch.float32}


def test_the_student_is_near_that_of_single_precision_and_another():
    single, half = (
        Training(
            three_steps(1, rate=20, lr=0.01), DATA, cnn(1), teachers(), seed=0, machine=Machine(precision=precision)
        ).run()
        for precision in ("float32", "bfloat16")
    )
    assert not same_weights(single.student, half.student)
    away = (single.history.loss - half.history.loss).abs() / single.history.loss
    assert 0 < away.max() < 2**-5  # bfloat16 has 8 bits of precision; six steps


def test_single_precision_is_the_default():
    a = Training(three_steps(1, rate=20), DATA, cnn(1), teachers(), seed=0).run()
    b = Training(three_steps(1, rate=20), DATA, cnn(1), teachers(), seed=0, machine=Machine(precision="float32")).run()
    assert same_weights(a.student, b.student)


def test_another_precision_is_refused():
    with pytest.raises(KitError, match="precision 'half' is not known; allowed: float32, bfloat16"):
        Training(three_steps(1, rate=20), DATA, cnn(1), teachers(), seed=0, machine=Machine(precision="half"))


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_here_is_refused_in_one_line(device):
    with pytest.raises(KitError, match=f"^device '{device}' is not allowed here: [^\\n]+$"):
        Training(three_steps(1, rate=20), DATA, cnn(0), teachers(), seed=0, machine=Machine(device))


def test_it_is_part_of_a_runs_identity_and_of_older_descriptions_none(own_cache):
    run = hard()
    halved = Run(**{name: getattr(run, name) for name in Run.model_fields} | {"precision": "bfloat16"})
    assert halved.hash != run.hash
    assert "precision" not in run.model_dump(mode="json")
    assert halved.model_dump(mode="json")["precision"] == "bfloat16"
    assert halved.title == f"{run.title}, bfloat16"
    one, other = train(run).student(), train(halved).student()
    assert not same_weights(one, other)


def test_the_command_line_knows_it(here, capsys):
    command = ["train", "--role", "cifar-10", "--student", "cnn", "--preset", "smoke", "--jobs", "1"]
    assert main([*command, "--precision", "half"]) == 2
    assert "precision: 'half' is not allowed" in capsys.readouterr().err
    assert main([*command, "--precision", "bfloat16", "--json"]) == 0
    assert '"device": "cpu", "precision": "bfloat16"' in capsys.readouterr().out


@pytest.mark.parametrize("can", [True, False])
def test_preset_paper_takes_it_where_a_gpu_can(can, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: can)
    assert Plan.of("paper").precision == ("bfloat16" if can else "float32")
    assert Plan.of("quick").precision == "float32"


@pytest.mark.parametrize("there", [True, False])
def test_whoever_names_a_device_trains_on_it_or_is_told_that_it_is_not_there(there, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: there)
    here = Settings(student="cnn", role="cifar-10", preset="smoke")
    on_gpu = here.model_copy(update={"device": "cuda"})
    assert here.run().device == here.model_copy(update={"preset": "paper", "device": "cpu"}).run().device == "cpu"
    if there:
        assert (on_gpu.run().device, on_gpu.run().precision) == ("cuda", "bfloat16")
        assert on_gpu.command().endswith("--device cuda --preset smoke")
    else:
        with pytest.raises(KitError, match="^device 'cuda' is not known; allowed: cpu$"):
            on_gpu.run()


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]


@pytest.mark.parametrize("device", DEVICES)
def test_batches_arrive_whether_expected_or_not(device):
    arrivals = Prefetch(DATA.train, torch.device(device))
    first, second = torch.arange(8), torch.arange(40, 48)
    for indices, following in ((first, second), (second, first), (first, None), (second, None)):
        pixels, labels = arrivals.take(indices)
        assert pixels.cpu().equal(DATA.train.images.pixels[indices])
        assert labels.cpu().equal(DATA.train.labels[indices])
        arrivals.expect(following)
