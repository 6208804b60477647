"""A training on a thread of its own: the same student, steered or not; nothing hangs, raises or is left behind."""

from __future__ import annotations

import random
import shlex
import sys
import threading
import time

import psutil
import pytest
import torch
from commands import asked_for, last_json
from foreign_networks import own_file
from safetensors.torch import load_file
from small_trainings import same_weights

from kit.__main__ import main
from kit.errors import KitError
from kit.grid.durations import FORWARD, images_of
from kit.live import session as sessions
from kit.live.session import LENT, Session, Settings
from kit.live.teachers import shares
from kit.networks.flops import flops_per_image
from kit.runs.spec import changed, with_teachers
from kit.runs.store import find, folder_of
from kit.runs.training import train
from kit.runs.weights import Given, Weights
from kit.several import Weighted, several
from kit.temperature import Fixed

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]
PATIENCE = 60  # seconds: a busy machine's; nothing here takes more than a few

SMALL = Settings(preset="smoke", role="cifar-10", student="cnn", teacher="cnn", small_teacher="cnn", epochs=6)


@pytest.fixture(scope="module", autouse=True)
def teachers():
    for run in with_teachers([SMALL.run()])[:-1]:
        train(run)


@pytest.fixture
def open_session():
    sessions = []

    def opened(settings: Settings = SMALL, **options) -> Session:
        sessions.append(Session(settings, **options))
        return sessions[-1]

    yield opened
    for session in sessions:
        assert session.close(timeout=PATIENCE)


def wait(session: Session, *phases: str, until=lambda state: True):
    """The first state seen in one of these phases."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        state = session.state
        if state.phase in phases and until(state):
            return state
        time.sleep(0.002)
    raise AssertionError(f"still {session.state.phase}: {session.state.message}")


def weights(session: Session) -> dict[str, torch.Tensor]:
    return {name: weight.cpu() for name, weight in session._training.student.state_dict().items()}


# ---- the same student -----------------------------------------------------------------------------------------------


def test_untouched_it_trains_the_student_that_the_command_line_trains(open_session, here, capsys):
    session = open_session()
    session.start()
    state = wait(session, "finished")
    assert main([*shlex.split(SMALL.command())[3:], "--json"]) == 0
    told = last_json(capsys)
    assert told["run"] == session.run.hash
    assert same_weights(load_file(folder_of(told["run"]) / "student.safetensors"), weights(session))
    result = find(session.run)
    assert state.step == state.total == len(result.steps) == len(state.history["loss"])
    assert state.history["loss"] == pytest.approx(result.steps["loss"].to_numpy())
    assert state.history["t"] == pytest.approx(result.steps["t"].to_numpy(), nan_ok=True)
    assert state.history["batch_top1"] == pytest.approx(result.steps["batch_top1"].to_numpy())
    assert [top1 for _, top1 in state.epochs] == pytest.approx(result.epochs["test_top1"].tolist())
    assert f"{told['test_top1']:.1%}" in state.message


def test_looking_pausing_and_stepping_change_nothing(open_session):
    session = open_session()
    for i in range(8):
        session.step()
        session.look_at(i)
        wait(session, "paused", until=lambda s, i=i: s.step == i + 1 and s.look.image == i)
    session.start()
    wait(session, "finished")
    assert same_weights(load_file(train(session.run).folder / "student.safetensors"), weights(session))


def test_what_is_steered_midway_is_replayed_bit_for_bit(open_session, tmp_path, capsys):
    session = open_session(Settings(**vars(SMALL) | {"rate": 3.0}))
    for name, value in (("k", 9.0), ("alpha", 0.4), ("rate", 30.0), ("k", 3.5)):
        session.step()
        step = wait(session, "paused", until=lambda s: True).step
        session.steer(name, value)
        session.step()
        wait(session, "paused", until=lambda s, at=step: s.step > at)
    session.start()
    state = wait(session, "finished")
    assert [event.name for event in state.events] == ["k", "alpha", "rate", "k"]
    assert session.replay.hash != session.run.hash
    assert same_weights(load_file(train(session.replay).folder / "student.safetensors"), weights(session))


@pytest.mark.parametrize("device", DEVICES)
def test_what_dropout_drops_is_each_sessions_own(device, open_session, tmp_path):
    own = Settings(**vars(SMALL) | {"student": f"{own_file(tmp_path)}:tiny", "device": device})
    for run in with_teachers([own.run()])[:-1]:
        train(run)
    outside = torch.get_rng_state()
    alone, *pair = (open_session(Settings(**vars(own) | {"student_args": {"drop": drop}})) for drop in (0.5, 0.5, 0.2))
    alone.start()
    wait(alone, "finished")
    for session, other in zip(pair, pair[::-1], strict=True):
        session.keep_step(other)
        session.start()
    for session in pair:
        wait(session, "finished")
    assert torch.equal(torch.get_rng_state(), outside)
    for session in (alone, *pair):
        assert same_weights(load_file(train(session.run).folder / "student.safetensors"), weights(session))


def test_who_drops_nothing_waits_for_nobodys_stream(open_session):
    session = open_session(Settings(**vars(SMALL) | {"epochs": 400}))
    session.start()
    wait(session, "running", until=lambda s: s.step > 1)
    with LENT:
        step = session.state.step
        wait(session, "running", until=lambda s: s.step > step + 20)


def test_steering_acts_from_the_next_batch_and_before_the_first(open_session):
    session = open_session(Settings(**vars(SMALL) | {"rate": 1e-9}))
    session.steer("k", 6.5)  # nothing is set up yet, or only just
    session.step()
    state = wait(session, "paused", until=lambda s: s.step == 1)
    assert state.history["t_used"].tolist() == [6] and state.k == 6.5
    session.steer("k", 4)
    state = wait(session, "paused", until=lambda s: len(s.events) == 2)
    assert (state.t, state.step) == (4, 1)  # t follows at once, nothing was trained for it
    session.step()
    assert wait(session, "paused", until=lambda s: s.step == 2).history["t_used"].tolist() == [6, 4]


def test_the_two_terms_are_those_that_move_t(open_session):
    """θ ← θ − rate / batches an epoch · (mismatch + spread), with both as terms of ∂L_D/∂log t."""
    session = open_session(Settings(**vars(SMALL) | {"rate": 2.0, "normalised": False}))
    session.start()
    state = wait(session, "finished")
    history, batches = state.history, state.steps_per_epoch
    first = next(step for name, step in state.stages[1:])  # within the first stage
    moved = torch.tensor(history["t"][1:first]).log() - torch.tensor(history["t"][: first - 1]).log()
    wanted = -2.0 / batches * torch.tensor(history["dlogt_mismatch"] + history["dlogt_spread"])[: first - 1]
    free = torch.tensor(history["t"][1:first]) < 20  # where K did not stop it
    assert free.any()
    assert moved[free].numpy() == pytest.approx(wanted[free].numpy(), rel=1e-4, abs=1e-9)


# ---- what it shows --------------------------------------------------------------------------------------------------


def test_the_picked_image_is_seen_by_its_stages_teacher(open_session):
    session = open_session(image=3)
    state = wait(session, "ready", until=lambda s: s.look is not None)
    assert (state.look.image, state.look.teacher, state.step) == (3, "small", 0)
    copies = state.networks
    assert set(copies) == {"small", "big", "student"}
    x = state.pictures.images.pixels[3:4].float()
    mean, std = session.run.data.load().mean_std
    x = ((x - mean) / std).permute(0, 3, 1, 2)
    with torch.no_grad():
        assert torch.allclose(copies["small"](x)[0], state.look.zt, atol=1e-4)
        assert torch.allclose(copies["student"](x)[0], state.look.zs, atol=1e-4)
    session.look_at(5)
    assert wait(session, "ready", until=lambda s: s.look.image == 5)


def test_states_are_said_to_whoever_listens_and_never_change(open_session):
    heard = threading.Event()
    session = open_session(hear=heard.set)
    session.start()
    last = wait(session, "finished")
    assert heard.is_set()
    before = last.history["loss"].copy()
    session.reset()
    wait(session, "ready")
    assert (last.history["loss"] == before).all()


def test_missing_teachers_are_announced_and_trained_first(monkeypatch, tmp_path, open_session):
    monkeypatch.setenv("KIT_CACHE", str(tmp_path / "cache"))
    session = open_session()
    state = wait(session, "ready")
    assert "training teacher CNN (3 epochs)" in state.message and " s" in state.message
    assert state.step == state.total == 0
    session.start()
    assert wait(session, "teachers", "running", "finished").phase == "teachers"
    assert wait(session, "finished").share == 1.0
    assert all(find(run) for run in with_teachers([session.run])[:-1])
    assert find(session.run) is None  # a live student is not put into the cache


def test_progress_counts_all_teachers_that_a_stage_asks_at_once_and_a_given_run_for_its_answers():
    run = SMALL.run()
    small, big = (run.teachers[name] for name in ("small", "big"))
    stages = (several(("small", "big"), Weighted(), Fixed(T=4)),)
    both = changed(run, recipe=run.recipe.model_copy(update={"stages": stages}))
    given = changed(big, weights=Weights.of(find(big).folder / "student.safetensors", big.student), recipe=Given())
    forward, step = flops_per_image(run.student, run.data.px)
    of_teachers = sum(flops_per_image(teacher.student, run.data.px)[0] for teacher in (small, big))
    images, answered = images_of(both), run.data.train_images  # in the end, on the training split
    work = images * (step + FORWARD * of_teachers) + FORWARD * answered * forward
    answers = FORWARD * answered * flops_per_image(big.student, run.data.px)[0]
    found = shares([both, given])
    assert found == pytest.approx({both: work / (work + answers), given: answers / (work + answers)})


def test_closing_ends_the_teachers_process_too(monkeypatch, tmp_path):
    monkeypatch.setenv("KIT_CACHE", str(tmp_path / "cache"))
    session = Session(Settings(**vars(SMALL) | {"teacher": "vgg19"}))
    session.start()
    wait(session, "teachers")
    (child,) = [p for p in psutil.Process().children() if "spawn_main" in " ".join(p.cmdline())]
    assert session.close(timeout=PATIENCE)
    assert not child.is_running()


def test_a_training_that_diverges_says_so_and_can_be_reset(open_session, monkeypatch):
    session, run = open_session(), SMALL.run()
    run = run.model_copy(update={"recipe": run.recipe.model_copy(update={"lr": 1e30})})
    session.reset(run)
    session.start()
    assert "not a finite number" in wait(session, "failed").message
    session.start()
    session.steer("k", 3)
    session.reset(SMALL)
    assert wait(session, "ready", until=lambda s: s.look is not None).message == ""


def test_held_it_stands_still_and_goes_on_as_before(open_session):
    session = open_session(Settings(**vars(SMALL) | {"epochs": 400}))
    session.start()
    wait(session, "running", until=lambda s: s.step > 0)
    session.hold(True)
    state = wait(session, "paused", until=lambda s: s.held)
    time.sleep(0.1)
    assert session.state.step == state.step
    session.hold(False)
    wait(session, "running", until=lambda s: s.step > state.step)


def test_wrong_values_are_refused_where_they_are_given(open_session):
    session = open_session()
    with pytest.raises(KitError, match="alpha 2 is not allowed"):
        session.steer("alpha", 2)
    assert wait(session, "ready").events == ()


# ---- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [{}, {"small_teacher": None}, {"teacher": None, "small_teacher": None}, {"temperature": "5", "small_teacher": None,
     "reading": "hinton", "alpha": 0.3}, {"temperature": "schedule", "k": 7.5}, {"rate": 1 / 3, "seed": 2}],
)  # fmt: skip
def test_the_command_line_of_settings_means_the_same_run(changes, monkeypatch):
    settings = Settings(**vars(SMALL) | changes)
    assert asked_for(shlex.split(settings.command())[3:], monkeypatch) == [settings.run()]


@pytest.mark.parametrize(
    ("changes", "said"), [({"k": 0.5}, "k: 0.5 is not allowed"), ({"preset": "huge"}, "preset 'huge'")]
)
def test_wrong_settings_are_one_line_and_not_the_end(changes, said, open_session):
    session = open_session(Settings(**vars(SMALL) | changes))
    message = wait(session, "failed").message
    assert said in message and "\n" not in message
    session.reset(SMALL)
    wait(session, "ready", until=lambda s: s.look is not None)


# ---- whatever is pressed --------------------------------------------------------------------------------------------


def test_250_random_controls_neither_hang_nor_raise_nor_lose_t(monkeypatch, open_session):
    raised = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    rng = random.Random(7)
    session = open_session(Settings(**vars(SMALL) | {"rate": 40.0, "epochs": 40}))
    others = [changed(Settings(**vars(SMALL)).run(), seed=seed) for seed in range(3)]  # of the same teachers
    wait(session, "ready")
    presses = {
        "start": lambda: session.start(),
        "pause": lambda: session.pause(),
        "step": lambda: session.step(),
        "k": lambda: session.steer("k", rng.uniform(1, 40)),
        "alpha": lambda: session.steer("alpha", rng.random()),
        "rate": lambda: session.steer("rate", 10 ** rng.uniform(-3, 3)),
        "look": lambda: session.look_at(rng.randint(-5, 60)),
        "hold": lambda: session.hold(rng.random() < 0.3),
        "reset": lambda: session.reset(rng.choice([None, None, *others])),
    }
    often = [10, 4, 10, 20, 10, 10, 6, 4, 1]
    steps, seen = 0, set()
    for _ in range(250):
        presses[rng.choices(list(presses), often)[0]]()
        if rng.random() < 0.2:
            time.sleep(rng.random() * 0.03)
        state = session.state
        seen.add(state.phase)
        steps = max(steps, state.step)
        if state.k is not None:
            assert 1 <= state.t <= state.k
        t = state.history["t"]
        assert ((t[t == t] >= 1) & (t[t == t] <= 40)).all()
    assert raised == [] and session._thread.is_alive()
    assert steps and {"running", "paused"} <= seen
    session.hold(False)
    session.reset(others[0])
    session.start()
    assert wait(session, "finished", until=lambda s: s.total == 30).events == ()  # and it still trains as it should
    assert same_weights(load_file(train(others[0]).folder / "student.safetensors"), weights(session))


def test_the_last_to_close_restores_what_the_first_found():
    sessions.close_all()
    before, interval = torch.get_num_threads(), sys.getswitchinterval()
    torch.set_num_threads(2)
    try:
        first, second, third = (Session(SMALL) for _ in range(3))
        for session in (first, third, first):
            assert session.close(timeout=PATIENCE)
            assert (torch.get_num_threads(), sys.getswitchinterval()) == (1, pytest.approx(sessions.SWITCHING))
        assert second.close(timeout=PATIENCE)
        assert (torch.get_num_threads(), sys.getswitchinterval()) == (2, interval)
    finally:
        torch.set_num_threads(before)


def test_closing_ends_the_thread_after_the_batch_it_is_at():
    before = threading.active_count()
    for settings in (SMALL, Settings(**vars(SMALL) | {"epochs": 500})):
        session = Session(settings)
        session.start()
        wait(session, "running", "finished", until=lambda s: s.step > 0)
        training = session._training
        assert session.close(timeout=PATIENCE)
        assert session.state.phase == "closed"
    assert training.step < training.total_steps  # of the second one, which has 500 epochs
    assert threading.active_count() == before
    sessions.close_all()
