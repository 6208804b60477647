"""Checkpoints of unfinished trainings, which a killed run is resumed from.

Each checkpoint is a sealed folder of its own, `step-<n>`, with `state.safetensors` (every tensor) and `state.json` (the
rest, and which run, format and versions it is of). The two written last are kept; a damaged one falls back to the one
before.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from kit.errors import KitError
from kit.files import changed_at, complaint, sealed, sweep, write
from kit.runtime.environment import number_from
from kit.trainer import Training

FORMAT = 2  # raised whenever `Training.state` changes its meaning: older checkpoints are then not read
FILES = ("state.json", "state.safetensors")
KEPT = 2

# Seconds that must have passed since the last checkpoint; KIT_CHECKPOINT_S sets both. A short run is trained anew
# sooner than it is read back.
AT_EPOCH_END = 10.0
WITHIN_EPOCH = 300.0


class Checkpoints:
    """Keeps a run's checkpoints in a folder. To be resumed from, one must have the same `identity`: run and
    versions."""

    def __init__(self, folder: Path, identity: Mapping[str, object]) -> None:
        self.folder = folder
        self.identity = {"format": FORMAT, **identity}
        self.notes: list[str] = []  # what could not be used or written, in a line each
        self._last = time.monotonic()
        self._at_epoch_end, self._within_epoch = (
            number_from("KIT_CHECKPOINT_S", usual, "seconds") for usual in (AT_EPOCH_END, WITHIN_EPOCH)
        )

    def offer(self, training: Training) -> None:
        """Writes a checkpoint when one is due; to be called after every step. A full disk becomes a note, no error."""
        ended = training.step % training.steps_per_epoch == 0
        due = time.monotonic() - self._last >= (self._at_epoch_end if ended else self._within_epoch)
        if not training.ranks.broadcast(due):
            return
        try:
            self.save(training)
        except KitError as error:
            self._note(f"no checkpoint at step {training.step}: {error}")
            training.notes.append(self.notes[-1])
        self._last = time.monotonic()

    def save(self, training: Training) -> None:
        """Writes a checkpoint of the training; of several ranks, which all call it, the first does. Raises KitError
        where the disk cannot take it."""
        tensors, plain = training.state()
        if not training.ranks.is_first:
            return
        place = self.folder / f"step-{training.step:09d}"
        sweep(place)
        if place.exists():  # not usable, or it would have been gone on from
            shutil.rmtree(place)
        with sealed(place) as draft:
            save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, draft / FILES[1])
            write(draft / FILES[0], json.dumps({"of": self.identity, "state": plain}))
        for old in self._newest_first()[KEPT:]:
            shutil.rmtree(old, ignore_errors=True)

    def resume(self, training: Training) -> None:
        """Resumes a fresh training from the newest usable checkpoint, if there is one."""
        for folder in self._newest_first():
            why = complaint(folder, FILES)
            if why is None:
                content = json.loads((folder / FILES[0]).read_text())
                if content["of"] == self.identity:
                    training.restore(load_file(folder / FILES[1]), content["state"])
                    break
                why = f"it was written under {difference(content['of'], self.identity)}"
            self._note(f"checkpoint {folder.name} is not used: {why}")
        training.notes += self.notes
        steps = training.ranks.all_gather(torch.tensor(training.step))
        if steps.unique().numel() > 1:
            raise KitError(
                f"checkpoints in {self.folder} are not the same for all processes (steps {steps.tolist()}); allowed: a "
                f"cache, by KIT_CACHE, in a folder that all of them see"
            )

    def discard(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _newest_first(self) -> list[Path]:
        """By when they were written: those of other versions, which are not gone on from, may be further on."""
        return sorted(sorted(self.folder.glob("step-*")), key=changed_at)[::-1]

    def _note(self, line: str) -> None:
        self.notes.append(line)
        print(f"warning: {self.folder.name}: {line}", file=sys.stderr)


def difference(theirs: Mapping[str, object], ours: Mapping[str, object]) -> str:
    """Names the first thing in which two identities differ, as `torch 2.9.0, here 2.14.1`."""
    name = next(name for name in {**ours, **theirs} if theirs.get(name) != ours.get(name))
    return f"{name} {theirs.get(name, 'unknown')}, here {ours.get(name, 'unknown')}"
