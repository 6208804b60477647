"""What a training comes to: a line an epoch, and metrics at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from kit.data.base import Split
from kit.training.evaluation import Evaluation, agreement, evaluate

if TYPE_CHECKING:
    from kit.trainer import Training


def epoch_line(training: Training, epoch: int) -> dict[str, Any]:
    """Accuracies and costs at the end of an epoch, counted from 1. Raises Diverged where a loss was not a number."""
    first, history = (epoch - 1) * training.steps_per_epoch, training.history
    top1, top5 = history.accuracy(first, training.step, training.batch)  # running, of augmented batches
    stage = training.recipe.stages[int(history.stage[training.step - 1])].name
    line = {"epoch": epoch, "stage": stage, "train_top1": top1, "train_top5": top5}
    return line | evaluated(training, training.data.test).scores("test") | training.spent.so_far()


def metrics(training: Training) -> dict[str, Any]:
    """See `Training.metrics`."""
    train, test = evaluated(training, training.data.train), evaluated(training, training.data.test)
    stages = {"stages": [stage.row(training.steps_per_epoch) for stage in training.stages]}
    metrics = train.scores("train") | test.scores("test") | training.spent.record() | stages
    if "big" in training.teachers.networks:
        big = evaluated(training, training.data.test, training.teachers.networks["big"])
        metrics["agreement"] = agreement(big.logits, test.logits)
    return metrics


def evaluated(training: Training, split: Split, network: nn.Module | None = None) -> Evaluation:
    """How the student, or another network, answers on a split."""
    return evaluate(network or training.student, split, training.mean, training.std, training.ranks)
