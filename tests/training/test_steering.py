"""Steering: what an event changes and from when, and that a run steered midway can be described and trained again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import ClassVar, Literal

import pandas as pd
import pytest
import small_runs
import torch
from commands import last_json, refused
from pydantic import Field, ValidationError
from safetensors.torch import load_file
from small_runs import hard
from small_trainings import DATA, cnn, same_weights, teachers, three_steps

from kit import recipe
from kit.__main__ import main
from kit.errors import KitError
from kit.runs.spec import Run, replayed
from kit.runs.training import start, train
from kit.temperature import Adaptive, Falling, Fixed, Scheduled
from kit.trainer import Training
from kit.training.steering import Event, checked, read, steered, text

pytestmark = [pytest.mark.numerics, pytest.mark.usefixtures("own_cache")]

STEPS = 6  # a run's batches: 3 epochs of 2


def taught(policy, stages=recipe.small_teacher, **changes) -> Run:
    """A student whose teachers are in the cache."""
    teacher = hard(epochs=1)
    train(teacher)
    return small_runs.taught(teacher, teacher, stages=stages(policy), **changes)


def weights(training) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in training.student.state_dict().items()}


# ---- what an event changes -------------------------------------------------------------------------------------------


def test_k_bounds_t_at_once_and_starts_later_stages():
    training = start(taught(Adaptive(rate=1e-9), epochs=10))
    before = []
    for step in training:
        if step == 3:
            training.steer("k", 7.5)
            assert training.thermostat.t == 7.5
        before.append(training.stages[-1].name)
        if before[-1] == "hard labels":
            break
    used = training.history.temperatures[: training.step, 1].tolist()
    assert used[:3] == [20, 20, 20] and set(used[3:]) == {7}  # ⌊7.5⌋, in both soft stages
    assert [stage.t_start for stage in training.stages] == [20, 7.5, None]


def test_raising_k_leaves_t_where_it_is_until_the_next_stage():
    training = start(taught(Adaptive(k=5, rate=1e-9), epochs=10))
    training.steer("k", 30)
    assert training.thermostat.t == 5 and training.thermostat.policy.k == 30
    while len(training.stages) == 1:
        next(iter(training))
    assert training.thermostat.t == 30


def test_the_rate_acts_from_the_next_batch():
    """θ moves by rate / batches an epoch times the gradient that the thermostat had."""
    training = start(taught(Adaptive(rate=3.0)))
    steps = iter(training)
    next(steps)
    before = training.thermostat.t
    training.steer("rate", 0.25)
    next(steps)
    moved = training.thermostat.t / before
    expected = torch.tensor(-0.25 / 2 * training.thermostat.memory["gradient"]).double().exp()
    assert moved == pytest.approx(min(float(expected), 20 / before), rel=1e-12)


def test_alpha_weighs_the_next_batch():
    """At α = 0 the improved loss is the hard labels' alone: the step is that of a student without a teacher."""
    run = taught(Fixed(T=4))
    guided, alone = start(run), start(hard(epochs=3))
    guided.steer("alpha", 0)
    for training in (guided, alone):
        next(iter(training))
    assert same_weights(weights(guided), weights(alone))
    assert guided.history.loss[0] == alone.history.loss[0]


def test_a_stage_gets_only_what_it_has():
    values = {"k": 3.0, "alpha": 0.25, "rate": 2.0}
    small, _, hard = recipe.small_teacher(Adaptive(rate=1))
    assert steered(small, values).temperature == Adaptive(k=3, rate=2)
    assert steered(small, values).objective.alpha == 0.25
    assert steered(hard, values) == hard
    fixed, scheduled = (recipe.big_teacher_only(policy)[0] for policy in (Fixed(T=5), Scheduled()))
    assert steered(fixed, values).temperature == Fixed(T=5)
    assert steered(scheduled, values).temperature == Scheduled(k=3)
    assert steered(small, {}) is small


@pytest.mark.parametrize(
    ("name", "value"),
    [("k", 0.5), ("k", float("nan")), ("alpha", -0.1), ("alpha", 1.1), ("rate", 0), ("rate", float("inf")), ("T", 3),
     ("k", "5"), ("alpha", True), ("k", None)],
)  # fmt: skip
def test_wrong_values_are_refused_and_change_nothing(name, value):
    training = start(taught(Adaptive(rate=1)))
    with pytest.raises(KitError) as raised:
        training.steer(name, value)
    assert name in str(raised.value) and "allowed" in str(raised.value) and "\n" not in str(raised.value)
    assert training.events == [] and training.thermostat.policy.k == 20


class Bounded(Falling):
    """Somebody's temperature, whose bound has other limits than the paper's."""

    kind: Literal["bounded"] = "bounded"
    k: float = Field(default=3.0, gt=0, lt=10)


def test_what_several_stages_have_under_one_name_is_held_to_the_limits_of_all():
    stages = (*recipe.big_teacher_only(Bounded())[:1], *recipe.big_teacher_only(Adaptive(rate=1), soft_end=0.9))
    for given in (stages, stages[::-1]):
        for value, why in [(0.5, "greater than or equal to 1"), (12.0, "less than 10")]:
            with pytest.raises(KitError, match=rf"^k {value} is not allowed \(Input should be {why}\)$"):
                checked("k", value, given)
        assert checked("k", 9, given) == 9.0


@pytest.mark.parametrize(("name", "value"), [("k", 0.5), ("alpha", 1.1), ("rate", 0), ("k", float("nan"))])
def test_no_event_has_a_wrong_value(name, value):
    with pytest.raises(ValidationError):
        Event(step=0, name=name, value=value)


class Counted(Fixed):
    """Somebody's temperature with a whole number."""

    kind: Literal["counted"] = "counted"
    every: int = Field(default=2, ge=1)
    steerable: ClassVar[tuple[str, ...]] = ("every",)


def test_a_whole_number_stays_one():
    stages = recipe.big_teacher_only(Counted(T=4))
    with pytest.raises(KitError, match="^every 2.5 is not allowed .*integer"):
        checked("every", 2.5, stages)
    policy = steered(stages[0], {"every": checked("every", 3, stages)}).temperature
    assert type(policy.every) is int and policy == Counted(T=4, every=3)


def test_no_run_has_an_event_of_what_it_does_not_have():
    with pytest.raises(ValidationError, match="control 'T' is not known; allowed: k, rate, alpha"):
        replayed(taught(Adaptive(rate=1)), [Event(step=0, name="T", value=3)])


def test_nothing_is_steered_after_the_end():
    training = start(taught(Adaptive(rate=1))).run()
    with pytest.raises(KitError, match="all 6 batches are done"):
        training.steer("k", 5)


# ---- runs with events ------------------------------------------------------------------------------------------------


def test_a_run_without_events_is_hashed_as_before_there_were_any():
    run = hard(epochs=3)
    description = run.model_dump(mode="json")
    assert "events" not in description
    canonical = json.dumps(description, sort_keys=True, separators=(",", ":"))
    assert run.hash == hashlib.sha256(canonical.encode()).hexdigest()[:16]


def test_events_are_part_of_a_runs_identity_and_of_its_description():
    run = taught(Adaptive(rate=1))
    once = replayed(run, [Event(step=2, name="k", value=5)])
    other = replayed(run, [Event(step=3, name="k", value=5)])
    assert len({run.hash, once.hash, other.hash}) == 3
    assert once.model_dump(mode="json")["events"] == [{"step": 2, "name": "k", "value": 5.0}]
    assert "steered 1×" in once.title and "steered" not in run.title
    assert replayed(once, []) == run


@pytest.mark.parametrize("steps", [[3, 2], [STEPS]])
def test_events_must_fit_into_the_run(steps):
    with pytest.raises(ValidationError, match=f"before the last of {STEPS} batches"):
        replayed(taught(Adaptive(rate=1)), [Event(step=step, name="k", value=5) for step in steps])


def test_a_training_refuses_an_event_that_would_never_come():
    with pytest.raises(KitError, match="^step 6 is not allowed for an event; allowed: before the last of 6 batches$"):
        Training(three_steps(1, 20), DATA, cnn(0), teachers(), seed=0, events=[Event(step=6, name="k", value=5)])


def test_a_run_changed_midway_is_replayed_bit_for_bit():
    run = taught(Adaptive(rate=8))
    live = start(run)
    changes = {1: [("k", 1.0), ("k", 12.0)], 2: [("rate", 30.0)], 4: [("alpha", 0.3), ("k", 6.0)]}
    for step in live:
        for name, value in changes.get(step, []):
            live.steer(name, value)
    result = train(replayed(run, live.events))
    assert same_weights(load_file(result.folder / "student.safetensors"), live.student.state_dict())
    assert len(result.steps) == STEPS
    recorded = torch.tensor(result.steps["t"].tolist(), dtype=torch.float64)
    assert torch.allclose(recorded, live.history.temperatures[:, 0], rtol=1e-12, equal_nan=True)
    unsteered = start(run).run()
    assert not same_weights(weights(unsteered), weights(live))
    again = start(replayed(run, live.events)).run()
    assert again.events == live.events


# ---- the events file -------------------------------------------------------------------------------------------------


def test_events_are_read_as_written(tmp_path):
    events = (Event(step=0, name="k", value=5), Event(step=7, name="alpha", value=0.1))
    (tmp_path / "events.json").write_text(text(events))
    assert read(tmp_path / "events.json") == events


@pytest.mark.parametrize(
    ("content", "said"),
    [("{", "not readable as JSON"), ("[" * 200_000, "not readable as JSON"), ("{}", "Input should be a valid tuple"),
     ('[{"step": 1}]', ": 0.name: Field required"),
     ("[3]", ": 0: 3 is not allowed"),
     ('[{"step": 1, "name": "k", "value": 0.5}]', "k 0.5 is not allowed"),
     ('[{"step": -1, "name": "k", "value": 5}]', "-1")],
)  # fmt: skip
def test_a_wrong_events_file_is_one_line(tmp_path, capsys, content, said):
    file = tmp_path / "events.json"
    file.write_text(content)
    line = refused(["train", "--preset", "smoke", "--role", "cifar-10", "--student", "cnn", "--teacher", "vgg16",
                    "--events", str(file)], capsys)  # fmt: skip
    assert str(file) in line and said in line


def test_what_is_wrong_with_a_whole_run_is_said_without_the_run(tmp_path, capsys):
    (tmp_path / "events.json").write_text(text((Event(step=99999, name="k", value=5),)))
    command = ["train", "--preset", "smoke", "--role", "cifar-10", "--student", "cnn", "--teacher", "cnn", "--events"]
    said = refused([*command, str(tmp_path / "events.json")], capsys)
    assert said == "error: events must be in order and before the last of 10 batches: got steps [99999]"


def test_the_command_line_replays_events(here, tmp_path, capsys):
    command = ["train", "--preset", "smoke", "--role", "cifar-10", "--student", "cnn", "--teacher", "cnn", "--json"]
    assert main(command) == 0
    plain = last_json(capsys)["run"]
    (tmp_path / "events.json").write_text(text((Event(step=3, name="k", value=4.5),)))
    assert main([*command, "--events", str(tmp_path / "events.json")]) == 0
    told = last_json(capsys)
    assert told["run"] != plain
    steps = pd.read_csv(Path(told["folder"]) / "steps.csv")
    assert (steps["t"][:3] > 4.5).all() and (steps["t"][3:].dropna() <= 4.5).all()
    assert main([*command, "--events", str(tmp_path / "none.json")]) == 2
