"""Training a run, or finding it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import cache, lru_cache, partial

import torch
from torch import nn

from kit.data.augment import mixed, trained_on
from kit.data.base import Dataset
from kit.errors import KitError
from kit.files import cache_folder, locked, sweep
from kit.networks.flops import flops_per_image
from kit.parallel.ranks import ALONE, Ranks
from kit.runs.checkpoint import Checkpoints
from kit.runs.logits import DTYPES, Drawn, TeacherLogits
from kit.runs.probe import train_head
from kit.runs.spec import DataSpec, Run, hash_of, versions
from kit.runs.store import Failure, Result, clear_damage, find, folder_of, lookup, store, store_diverged
from kit.runtime.progress import Progress
from kit.runtime.threads import one_thread
from kit.trainer import Training
from kit.training.cost import Spent
from kit.training.evaluation import evaluate, recalls
from kit.training.forward import Machine
from kit.training.history import Diverged
from kit.training.teachers import Answers, needs_graph


def start(run: Run, ranks: Ranks = ALONE) -> Training:
    """Builds a run's training, not yet begun. Its teachers must be in the cache; cached logits of theirs are used."""
    trained = {name: _trained(run, name) for name in run.teachers}
    teachers = {name: result.student() for name, result in trained.items()}
    student, data, spent = run.begun(), run.data.load(), Spent()
    if run.weights is not None and run.weights.head is not None:
        _train_head(run, run.weights.head, student, data, spent)
    machine = Machine(run.device, run.precision, ranks)
    known, rounded_to = readable_logits(run), DTYPES[run.logits]
    training = Training(run.recipe, data, student, teachers, run.seed, run.events, machine, known, rounded_to)
    training.spent = spent
    training.teachers.answers = {name: _answers(each.seal, run.data, run.device) for name, each in trained.items()}
    return training


@lru_cache(maxsize=12)  # Table 6 has three teachers and three seeds
def _answers(seal: str, data: DataSpec, device: str) -> Answers:
    """Returns what the teacher of this seal answers on the data's test split, kept for every run of this process."""
    return Answers()


def _train_head(run: Run, head: str, network: nn.Module, data: Dataset, spent: Spent) -> None:
    """Trains the head that a given network lacks, and charges the run for it."""
    device = torch.device(run.device)
    forward, step = flops_per_image(run.student, run.data.px)
    with spent.clock(device):
        flops = train_head(network, head, data.train, *(stat.to(device) for stat in data.mean_std))
    spent.student_images = (len(data.train) * forward + flops) / step  # what is counted is priced as whole steps


def _trained(run: Run, name: str) -> Result:
    """Returns a run's teacher by its name, as it was trained. KitError where it was not."""
    teacher = run.teachers[name]
    result = find(teacher)
    if result is None:
        raise KitError(f"teacher {name!r} ({teacher.title}) has not been trained yet")
    return result


def recalls_of(result: Result) -> list[float | None]:
    """Returns by class the share of test images that a finished run's student classifies rightly; what an older kit has
    stored does not say, so it is asked again."""
    known = result.metrics.get("test_recalls")
    if known is None:
        data = result.run.data.load()
        with one_thread():
            known = recalls(evaluate(result.student(), data.test, *data.mean_std).logits, data.test.labels)
    return known


def readable_logits(run: Run) -> dict[str, TeacherLogits]:
    """Returns, by teacher, the cache of the logits that the run can read; other teachers it asks in every step."""
    stages = run.recipe.stages
    return {
        name: teacher_logits(run, name)
        for name in run.recipe.teachers
        if not all(needs_graph(stage.objective) for stage in stages if name in stage.teachers)
    }


def teacher_logits(run: Run, name: str) -> TeacherLogits:
    """Returns the cache of this teacher's logits in this run, and in every other run in which they are the same."""
    drawn = _drawn(run)
    decided_by = drawn.model_dump() | {
        "teacher": run.teachers[name].hash,
        "data": run.data.model_dump(mode="json"),
        "logits": run.logits,
        "device": run.device,
        "precision": run.precision,
        "numerics": run.numerics,
        "packages": versions(),
    }
    rows = trained_on(run.data.train_images, drawn.batch, drawn.keep_last)
    folder = cache_folder() / "teacher-logits" / hash_of(decided_by)
    teacher = cache(partial(_weights_of, run.teachers[name]))  # looked up once, as the run may outlive its folder
    return TeacherLogits(folder, rows, run.data.classes, run.logits, teacher)


def _weights_of(run: Run) -> str | None:
    """Returns the sha256 of the run's weights; None where it has not been trained to its end."""
    result = find(run)
    return None if result is None else result.student_sha256


def compute_logits(run: Run, name: str, epochs: Iterable[int]) -> Iterator[int]:
    """Computes what is missing of the teacher's logits, on one thread, as the run would; yields each epoch.
    KitError."""
    kept = teacher_logits(run, name)
    with locked(kept.folder), one_thread():
        teacher, device = _trained(run, name).student(), torch.device(run.device)
        yield from kept.compute(epochs, teacher, run.data.load(), _drawn(run), device, run.precision)


def _drawn(run: Run) -> Drawn:
    how = run.recipe
    batch = min(how.batch, run.data.train_images)
    return Drawn(seed=run.seed, batch=batch, pad=how.pad, padding=how.padding, keep_last=how.keep_last)


def train(run: Run, progress: Progress = lambda share: None) -> Result:
    """Trains one run on one thread, or finds it. Its teachers must be in the cache.

    `progress` is called with each epoch's share, and with 0 after every other batch and while another process has the
    run: what it raises stops the training there, and its checkpoint stays. A run that was killed goes on from its
    newest checkpoint, to the same result; a damaged result is set aside. Raises Diverged when loss or logits stop being
    numbers, now or when the run was first tried, and KitError where the cache cannot be written.
    """
    outcome = outcome_of(run, progress)
    if isinstance(outcome, Failure):
        raise Diverged(outcome.step or 0, outcome.reason)
    return outcome


def outcome_of(run: Run, progress: Progress, ranks: Ranks = ALONE) -> Result | Failure:
    """Trains a run as `train` does, or finds how it ended; of several ranks, which all call this, the first locks and
    writes. Raises KitError where they do not see one cache."""

    def is_missing() -> bool:
        return ranks.broadcast(ranks.is_first and lookup(run) is None)

    if ranks.is_first:
        clear_damage(run)
    if is_missing():  # asked without the lock: a cache that cannot be written can be read
        with locked(folder_of(run.hash), progress) if ranks.is_first else nullcontext():
            if is_missing():  # another process may have trained it meanwhile
                with suppress(Diverged):  # that is written down
                    train_missing(run, progress, ranks)
            else:
                progress(1.0)
        ranks.wait()  # for the first to have written
    else:
        progress(1.0)
    outcome = lookup(run)
    if outcome is None:
        raise KitError(
            f"run {run.hash} is not in {cache_folder()}, though it has been stored there; allowed: a cache, by "
            f"KIT_CACHE, in a folder that all processes see"
        )
    return outcome


def train_missing(run: Run, progress: Progress, ranks: Ranks = ALONE) -> None:
    """Trains and stores; the caller, or the first of its ranks, holds the run's lock."""
    if hash_of(run.model_dump(mode="json")) != run.hash:  # which came along from where it was described
        raise KitError(
            f"the code of its loss or temperature has been edited since run {run.hash} was described; allowed: a run "
            f"described anew, in a notebook after its kernel's restart"
        )
    if ranks.is_first:
        sweep(folder_of(run.hash))
    checkpoints = Checkpoints(cache_folder() / "checkpoints" / run.hash, {"run": run.hash} | versions())
    with one_thread(), own_stream(run):
        training = start(run, ranks)
        checkpoints.resume(training)
        progress(training.step // training.steps_per_epoch / max(1, run.recipe.epochs))
        try:
            for step in training:
                checkpoints.offer(training)
                progress(0.0 if step % training.steps_per_epoch else 1 / run.recipe.epochs)
            for note in training.notes:
                if note not in checkpoints.notes:  # those have been said
                    print(f"warning: run {run.hash} ({run.title}): {note}", file=sys.stderr)
            if ranks.count > 1:
                how = "CPU and GPU seconds are their sum, wall seconds their mean"
                training.notes.append(f"trained by {ranks.count} processes; {how}")
            store(run, training)
        except Diverged as error:
            store_diverged(run, training, error)
            if ranks.is_first:
                checkpoints.discard()
            raise
    if ranks.is_first:
        checkpoints.discard()


@contextmanager
def own_stream(run: Run) -> Iterator[None]:
    """Seeds torch's own random stream, which dropout draws from, for this run, and restores it afterwards."""
    with torch.random.fork_rng(devices=[run.device] if run.device == "cuda" else []):
        torch.manual_seed(mixed(run.seed, -1))  # epochs are counted from 0
        yield
