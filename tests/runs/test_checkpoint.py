"""Resume: stopped anywhere, in this process or by SIGKILL, a run ends as one that was never stopped, bit for bit."""

from __future__ import annotations

import copy
import json
import random
import time
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from forked import forked
from safetensors.torch import load_file
from small_runs import hard as hard_run
from small_runs import taught
from small_trainings import DATA, PX, cnn, hard, history, same_weights, teachers, three_steps
from torch import nn

from kit import recipe
from kit.methods import complexity
from kit.recipe import Recipe
from kit.runs import checkpoint
from kit.runs.checkpoint import Checkpoints
from kit.runs.store import find, folder_of
from kit.runs.training import train
from kit.temperature import Adaptive, Fixed, Scheduled
from kit.trainer import Training
from kit.training.cost import CIRCUMSTANCES
from kit.training.steering import Event

pytestmark = [pytest.mark.numerics, pytest.mark.usefixtures("own_cache")]


def steps(policy, **changes) -> Recipe:
    stages = recipe.small_teacher(policy, soft_ends=(0.3, 0.6))
    return Recipe(**{"stages": stages, "epochs": 3, "batch": 8, "pad": 1} | changes)


class WithDropout(nn.Module):
    """Draws from torch's own stream at every step, as torchvision's VGG does."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(3 * PX * PX, len(DATA.classes)))

    def forward(self, x):
        return self.body(x)


RECIPES = {
    "adaptive": lambda: three_steps(3, rate=60),
    "adam on θ": lambda: steps(Adaptive(rate=6, optimiser="adam")),
    "schedule": lambda: steps(Scheduled()),
    "fixed": lambda: steps(Fixed(T=5)),
    "a teacher that learns along": lambda: Recipe(stages=complexity.held_near(4), epochs=3, batch=8, pad=1),
    "no momentum": lambda: hard(3, momentum=0.0),
    "hard labels": lambda: hard(3),
    "a first stage without a step": lambda: three_steps(3, rate=60, soft_ends=(0.01, 0.6)),
}


def fresh(made: Recipe, student=lambda: cnn(1)) -> Training:
    torch.manual_seed(7)  # where dropout's stream begins
    return Training(made, DATA, student(), teachers(), seed=3)


def up_to(step: int, training: Training) -> Training:
    next(done for done in training if done == step)
    return training


def stopped_at(step: int, made: Recipe, **given) -> Training:
    return up_to(step, fresh(made, **given))


def gone_on(folder: Path, training: Training) -> Training:
    """The training from where the newest checkpoint in a folder leaves it."""
    Checkpoints(folder, {}).resume(training)
    return training


def same(a: Training, b: Training) -> bool:
    timeless = [{k: v for k, v in t.metrics().items() if k not in CIRCUMSTANCES} for t in (a, b)]
    return same_weights(a.student, b.student) and history(a) == history(b) and repr(timeless[0]) == repr(timeless[1])


@pytest.mark.parametrize("name", RECIPES)
def test_stopped_anywhere_it_ends_as_if_never_stopped(name, tmp_path):
    """18 steps in 3 epochs; stopped at five of them, each time gone on from disk with the networks made anew."""
    whole = fresh(RECIPES[name]()).run()
    assert whole.total_steps == 18
    for step in (1, 5, 6, 11, 17):
        Checkpoints(tmp_path / str(step), {}).save(stopped_at(step, RECIPES[name]()))
        torch.manual_seed(99)
        again = gone_on(tmp_path / str(step), Training(RECIPES[name](), DATA, cnn(1), teachers(), seed=3))
        assert again.step == step
        assert same(again.run(), whole)


def test_a_steered_training_goes_on_as_steered(tmp_path):
    """Changes planned before, at and after the stop, and one in a stage that is not yet entered."""
    changes = [(2, "k", 9.0), (5, "alpha", 0.5), (6, "rate", 30.0), (6, "k", 4.0), (12, "alpha", 0.9)]
    events = [Event(step=step, name=name, value=value) for step, name, value in changes]

    def made() -> Training:
        return Training(three_steps(3, rate=60), DATA, cnn(1), teachers(), seed=3, events=events)

    whole = made().run()
    assert whole.events == events
    for stop in (1, 2, 5, 6, 7, 13):
        Checkpoints(tmp_path / str(stop), {}).save(up_to(stop, made()))
        again = gone_on(tmp_path / str(stop), made())
        assert same(again.run(), whole)
        assert again.events == events


def test_stopped_again_and_again_it_ends_the_same(tmp_path):
    made, rng = three_steps(4, rate=60), random.Random(5)
    whole = fresh(made).run()
    rounds, step = 0, 0
    while step < whole.total_steps:
        training, rounds = gone_on(tmp_path, fresh(made)), rounds + 1
        step = min(step + rng.randint(1, 5), whole.total_steps)
        Checkpoints(tmp_path, {}).save(up_to(step, training))
    assert rounds > 4
    assert same(training, whole)


def test_dropouts_stream_goes_on_where_it_was(tmp_path):
    whole = fresh(hard(2), student=WithDropout).run()
    other = Training(hard(2), DATA, copy.deepcopy(fresh(hard(2), student=WithDropout).student), {}, seed=3)
    torch.manual_seed(8)
    assert not same_weights(other.run().student, whole.student)  # it does hang on the stream
    Checkpoints(tmp_path, {}).save(stopped_at(7, hard(2), student=WithDropout))
    torch.manual_seed(99)
    assert same(gone_on(tmp_path, fresh(hard(2), student=WithDropout)).run(), whole)


def test_time_goes_on_from_what_was_spent(tmp_path):
    stopped = stopped_at(9, hard(3))
    stopped.spent.wall_s, stopped.spent.cpu_s = 1000.0, 900.0
    Checkpoints(tmp_path, {}).save(stopped)
    again = gone_on(tmp_path, fresh(hard(3)))
    assert again.run().spent.wall_s > 1000 > again.spent.cpu_s > 900
    assert again.spent.student_images == 18 * 8


def test_the_two_newest_are_kept_and_nothing_is_pickled(tmp_path):
    for step in (2, 4, 6):
        Checkpoints(tmp_path, {}).save(stopped_at(step, hard(2)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000004", "step-000000006"]
    for folder in tmp_path.iterdir():
        assert sorted(path.name for path in folder.iterdir()) == ["checksums.json", "state.json", "state.safetensors"]
        load_file(folder / "state.safetensors")
        json.loads((folder / "state.json").read_text())


def damaged(folder: Path, name: str, how: str) -> None:
    path = folder / name
    content = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        path.write_bytes(content[:middle] if how == "cut" else flipped)


@pytest.mark.parametrize("how", ["gone", "cut", "flipped"])
@pytest.mark.parametrize("name", [*checkpoint.FILES, "checksums.json"])
def test_a_damaged_newest_falls_back_and_says_so(name, how, tmp_path, capsys):
    for step in (4, 9):
        Checkpoints(tmp_path, {"run": "r"}).save(stopped_at(step, hard(2)))
    damaged(tmp_path / "step-000000009", name, how)
    again, checkpoints = fresh(hard(2)), Checkpoints(tmp_path, {"run": "r"})
    checkpoints.resume(again)
    assert again.step == 4
    (note,) = checkpoints.notes
    assert note.startswith("checkpoint step-000000009 is not used: ")
    assert capsys.readouterr().err == f"warning: {tmp_path.name}: {note}\n"
    Checkpoints(tmp_path / "later", {}).save(again)
    assert gone_on(tmp_path / "later", fresh(hard(2))).notes == [note]  # it stays with the run, whoever ends it
    assert same(again.run(), fresh(hard(2)).run())

    damaged(tmp_path / "step-000000004", name, how)
    anew, checkpoints = fresh(hard(2)), Checkpoints(tmp_path, {"run": "r"})
    checkpoints.resume(anew)
    assert (anew.step, len(checkpoints.notes)) == (0, 2)


def test_a_checkpoint_of_something_else_is_not_used(tmp_path):
    Checkpoints(tmp_path, {"run": "a", "torch": "1.0"}).save(stopped_at(4, hard(2)))
    again, checkpoints = fresh(hard(2)), Checkpoints(tmp_path, {"run": "a", "torch": "2.0"})
    checkpoints.resume(again)
    assert again.step == 0
    assert checkpoints.notes == ["checkpoint step-000000004 is not used: it was written under torch 1.0, here 2.0"]


def test_what_is_written_after_an_upgrade_is_gone_on_from(tmp_path):
    """Checkpoints of other versions, which nobody here goes on from, are further on; they make room."""
    older, newer = ({"run": "a", "torch": version} for version in ("1.0", "2.0"))
    for step in (9, 10):
        Checkpoints(tmp_path, older).save(stopped_at(step, hard(2)))
    for step in (2, 4):
        Checkpoints(tmp_path, newer).save(stopped_at(step, hard(2)))
        again, checkpoints = fresh(hard(2)), Checkpoints(tmp_path, newer)
        checkpoints.resume(again)
        assert (again.step, checkpoints.notes) == (step, [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000002", "step-000000004"]


def test_short_runs_write_none_and_long_ones_now_and_then(tmp_path, monkeypatch):
    made, now = hard(4), [0.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])
    offered, checkpoints, seen = fresh(made), Checkpoints(tmp_path, {}), []
    for step in offered:
        now[0] += 1.0 if step < 15 else 101.0
        checkpoints.offer(offered)
        seen.append(sorted(int(path.name[5:]) for path in tmp_path.glob("step-*")))
    # 6 steps an epoch: at 6 s it is too soon, at 12 s due; from step 15 each takes longer than 100 s
    assert seen[5] == seen[10] == []
    assert seen[11] == seen[15] == [12]
    assert seen[16] == [12, 17]  # within an epoch after 300 s
    assert seen[17] == [17, 18]  # at an epoch's end after 10 s


# ---- whole runs ------------------------------------------------------------------------------------------------------


def content(result) -> dict[str, object]:
    """All of a finished run that its seed decides."""
    timeless = {name: value for name, value in result.metrics.items() if name not in CIRCUMSTANCES}
    epochs = result.epochs.filter(regex="^(?!.*_s$)").to_csv()
    files = {name: (result.folder / name).read_bytes() for name in ("student.safetensors", "steps.csv")}
    return files | {"metrics": timeless, "epochs": epochs}


def test_a_run_stopped_by_the_keyboard_goes_on(monkeypatch, own_cache, tmp_path):
    run = taught(train(hard_run(width=4)).run, train(hard_run(width=3)).run)
    monkeypatch.setenv("KIT_CHECKPOINT_S", "0")

    def interrupt(share):
        if share > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(run, interrupt)
    assert find(run) is None
    (kept,) = (own_cache / "checkpoints").iterdir()
    assert kept.name == run.hash
    ticks = []
    result = train(run, ticks.append)
    # 40 images in batches of 16: two an epoch. What was done before, and after each batch what that has added
    assert ticks == pytest.approx([1 / 3, 0, 1 / 3, 0, 1 / 3])
    assert not kept.exists()
    monkeypatch.setenv("KIT_CACHE", str(tmp_path / "other"))
    for teacher in run.teachers.values():
        train(teacher)
    assert content(train(run)) == content(result)


def test_waiting_for_anothers_run_it_hears_whether_that_is_still_wanted(own_cache):
    class NotWanted(Exception):
        pass

    def ask(share):
        raise NotWanted

    with FileLock(folder_of(hard_run().hash).with_suffix(".lock")), pytest.raises(NotWanted):
        train(hard_run(), ask)
    assert find(hard_run()) is None
    train(hard_run())  # the lock is free


def train_long() -> None:
    train(hard_run(epochs=200))


def test_killed_by_the_system_it_ends_the_same(monkeypatch, own_cache, tmp_path):
    """SIGKILL, twice, at moments that nobody chose; against a cache in which nothing was killed."""
    rng, reached = random.Random(11), [""]
    for _ in range(2):
        process = forked(train_long, output=tmp_path, KIT_CHECKPOINT_S="0")
        deadline = time.monotonic() + 120
        while newest(own_cache) <= reached[-1]:
            assert process.is_alive(), (tmp_path / "stderr").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.2))
        process.kill()
        process.join()
        reached.append(newest(own_cache))
    assert find(hard_run(epochs=200)) is None  # it was killed before its end
    killed = train(hard_run(epochs=200))
    assert [path.name for path in (own_cache / "runs").iterdir() if path.suffix != ".lock"] == [killed.run.hash]
    monkeypatch.setenv("KIT_CACHE", str(tmp_path / "whole"))
    assert content(train(hard_run(epochs=200))) == content(killed)


def newest(cache: Path) -> str:
    return max((path.name for path in (cache / "checkpoints").glob("*/step-*")), default="")
