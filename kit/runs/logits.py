"""The cache of teachers' logits: an epoch's are computed once and read by every run that would compute the same.

Augmentation is drawn from (seed, epoch), so a teacher's logits of an epoch's batches are the same in every run with the
same teacher, images, seed, batch and padding. Each epoch is a sealed folder: `logits.bin`, memory-mapped when read, and
`about.json`, which says what computing them took and the sha256 of the teacher's weights. What does not match its
checksums, or a teacher that was trained anew to other weights, is not used.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor, nn

from kit.data.augment import EpochPlan, Padding
from kit.data.base import Dataset
from kit.errors import Described, KitError, said
from kit.files import changed_at, complaint, sealed, sweep, write
from kit.networks.folding import folded
from kit.runtime.environment import number_from
from kit.training.cost import SECONDS, Spent
from kit.training.forward import Precision, answering, augmented, frozen, teach
from kit.training.teachers import EpochLogits

FILES = ("about.json", "logits.bin")
DTYPES = {"float32": torch.float32, "float16": torch.float16}
LARGEST_GB = 4.0  # of all cached logits together


@dataclass(frozen=True)
class TeacherLogits:
    """Caches one teacher's logits of one seed's epochs: `(epoch) -> EpochLogits | None`.

    Raises nothing for what is damaged or missing: a training then asks the teacher itself.
    """

    folder: Path
    rows: int  # images an epoch that are trained on
    classes: int
    dtype: str = "float32"
    teacher: Callable[[], str | None] = lambda: None  # the sha256 of its weights, where it is trained and known

    def __call__(self, epoch: int) -> EpochLogits | None:
        place = self.place(epoch)
        if not place.is_dir():
            return None
        found = self._read(place)
        if isinstance(found, str):
            print(f"warning: teacher logits in {place} are not used: {found}", file=sys.stderr)
            return None
        with suppress(OSError):  # another user's
            os.utime(place)  # used last now
        return found

    def place(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch:04d}"

    @property
    def key(self) -> str:
        """Identifies the logits by a hash of all that decides them."""
        return self.folder.name

    @property
    def bytes_an_epoch(self) -> int:
        return self.rows * self.classes * DTYPES[self.dtype].itemsize

    def missing(self, epochs: Iterable[int]) -> list[int]:
        """Lists those of the epochs that are not cached whole."""
        return [epoch for epoch in epochs if isinstance(self._read(self.place(epoch)), str)]

    def compute(
        self,
        epochs: Iterable[int],
        teacher: nn.Module,
        data: Dataset,
        drawn_by: Drawn,
        device: torch.device,
        precision: Precision,
    ) -> Iterator[int]:
        """Computes and caches what is missing, and yields each epoch that is there. For a holder of the folder's lock.

        Raises KitError when the disk is full, and for logits that are not numbers.
        """
        network = folded(frozen(teacher, device))
        mean, std = (stat.to(device) for stat in data.mean_std)
        for epoch in epochs:
            if not self.missing([epoch]):
                yield epoch
                continue
            drawn = EpochPlan(len(data.train), drawn_by.seed, epoch, drawn_by.pad, data.flip, drawn_by.padding)
            spent, logits = Spent(), []
            for indices in drawn.batches(drawn_by.batch, drawn_by.keep_last):
                pixels = data.train.images.take(indices).to(device)
                changes = drawn.changes(indices, device)
                x = augmented(pixels, *changes, drawn.pad, drawn.padding, mean, std)  # a run's own work: not timed
                with spent.clock(device), answering(device, precision):
                    logits.append(teach(network, x, DTYPES[self.dtype]))
            spent.settle()
            answers = torch.cat(logits).to(DTYPES[self.dtype]).cpu()
            if not answers.isfinite().all():
                raise KitError(f"a teacher's logits as {self.dtype} are not finite numbers in epoch {epoch + 1}")
            self._keep(epoch, answers, spent)
            yield epoch

    def _keep(self, epoch: int, logits: Tensor, spent: Spent) -> None:
        place = self.place(epoch)
        sweep(place)
        shutil.rmtree(place, ignore_errors=True)  # damaged, or it would not be missing
        make_room(self.folder.parent, self.bytes_an_epoch)
        with sealed(place) as draft:
            about = dict(zip(SECONDS, spent.seconds, strict=True)) | {"teacher": self.teacher()}
            write(draft / FILES[0], json.dumps(about))
            (draft / FILES[1]).write_bytes(logits.contiguous().numpy().tobytes())

    def _read(self, place: Path) -> EpochLogits | str:
        """Reads an epoch's logits, or says in a few words why they are not used."""
        why = complaint(place, FILES)
        if why is not None:
            return why
        try:
            about = json.loads((place / FILES[0]).read_text())
            if about.pop("teacher", None) not in (None, self.teacher()):
                return "the teacher has been trained anew since, to other weights"
            if (place / FILES[1]).stat().st_size != self.bytes_an_epoch:
                return f"{FILES[1]} does not hold {self.rows} × {self.classes} numbers"
            dtype, size = DTYPES[self.dtype], self.rows * self.classes
            logits = torch.from_file(str(place / FILES[1]), shared=False, size=size, dtype=dtype)  # memory-mapped
        except (OSError, RuntimeError) as error:  # another process has just removed it
            return said(error)
        return EpochLogits(logits.view(self.rows, self.classes), Spent(**about))


class Drawn(Described):
    """Describes how batches are drawn, which with teacher and images decides an epoch's logits."""

    seed: int
    batch: int
    pad: int
    padding: Padding = Field(default="reflect", exclude_if=lambda padding: padding == "reflect")
    keep_last: bool = Field(default=False, exclude_if=lambda keep_last: not keep_last)


def limit() -> int:
    """Reads how many bytes all cached logits may have; KIT_LOGITS_GB sets it, 0 keeps none. KitError."""
    return round(1e9 * number_from("KIT_LOGITS_GB", LARGEST_GB, "gigabytes"))


def make_room(folder: Path, wanted: int) -> None:
    """Removes the epochs that were used longest ago, until `wanted` bytes fit under the limit."""
    epochs = sorted(folder.glob("*/epoch-*"), key=changed_at)  # when they were used last, as well
    sizes = {place: _size(place) for place in epochs}
    too_many = sum(sizes.values()) + wanted - limit()
    for place in epochs:
        if too_many <= 0:
            break
        shutil.rmtree(place, ignore_errors=True)  # who reads it has it mapped, and keeps it
        too_many -= sizes[place]


def _size(place: Path) -> int:
    try:
        return sum(file.stat().st_size for file in place.iterdir())
    except OSError:
        return 0
