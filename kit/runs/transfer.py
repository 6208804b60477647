"""Housekeeping of the cache: removing runs, and carrying them to another machine in a plain folder or as bytes.

A run travels as its own sealed folder, or in a parcel: its files' bytes by their names. What is taken in is checked
first: its checksums, that its description has the hash that its folder is named after, and that its files are plain
ones. Nothing outside the two folders is touched.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from kit.errors import KitError, few
from kit.files import CHECKSUMS, cache_folder, locked, remove, sealed, sha256, sweep, writing_to
from kit.runs.store import DIVERGED_FILES, FILES, Stored, cached, entry_of, files_of, folder_of, in_full, set_aside

Parcel = Mapping[str, bytes]


def prune(damaged: bool = False, diverged: bool = False, keep: Collection[str] = ()) -> int:
    """Removes runs and says how many: all but `keep` and what those learnt from, or only damaged or diverged ones.

    What was set aside as damaged goes with the damaged; what is left of interrupted runs and teachers' logits that runs
    share, where all runs go.
    """
    entries = {entry.hash: entry for entry in cached()}
    kept = {in_full(digits, entries) for digits in keep}
    kept = kept.union(*(entries[name].needs for name in kept))
    everything = not damaged and not diverged

    def is_asked_for(entry: Stored) -> bool:
        return everything or (damaged and entry.is_damaged) or (diverged and entry.diverged is not None)

    doomed = [entry.folder for entry in entries.values() if is_asked_for(entry) and entry.hash not in kept]
    if damaged or everything:
        doomed += sorted((cache_folder() / "damaged").glob("*"))
    with writing_to(cache_folder()):
        for folder in doomed:
            remove(folder)
    if everything:
        for further in ("checkpoints", "teacher-logits", "logs"):
            shutil.rmtree(cache_folder() / further, ignore_errors=True)
    return len(doomed)


def export_runs(folder: Path, hashes: Sequence[str] = ()) -> list[str]:
    """Copies runs, and all they learnt from, into a folder; every whole run where none is named. KitError."""
    entries = {entry.hash: entry for entry in cached()}
    asked = {in_full(digits, entries) for digits in hashes}
    if damage := [f"run {name}: {why}" for name in sorted(asked) if (why := entries[name].complaint)]:
        raise KitError(f"{few(damage)}; allowed: whole, unaltered runs")
    wanted = asked.union(*(entries[name].needs for name in asked)) if asked else set(entries)
    chosen = [name for name, entry in entries.items() if name in wanted and entry.complaint is None]
    for name in chosen:
        place = folder / name
        if not place.exists():
            copy(entries[name].folder, place)
        elif (why := entry_of(place).complaint) is not None:
            raise KitError(f"{place} is there already ({why}); remove it, or choose another folder")
    return chosen


def import_runs(folder: Path) -> tuple[list[str], list[str]]:
    """Takes over a folder's runs: the hashes that are now in the cache, and a line on each that was refused."""
    if not folder.is_dir():
        raise KitError(f"folder {str(folder)!r} is not there")
    taken, refused = [], []
    for source in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        why = take_over(source)
        if why is None:
            taken.append(source.name)
        else:
            refused.append(f"run {source.name!r} is not imported: {why}")
    return taken, refused


def take_over(source: Path) -> str | None:
    """Copies the run in a folder that is named after it into the cache; None, or in a few words why it is refused."""
    why = "a link, not a folder" if source.is_symlink() else entry_of(source).complaint
    if why is not None:
        return why
    place = folder_of(source.name)
    with locked(place):
        sweep(place)
        if place.exists() and (there := entry_of(place)).complaint:
            if not there.is_damaged:
                return f"there is one in the cache already ({there.complaint})"
            set_aside(place)
        if not place.exists():
            copy(source, place)
    return None


def packed(run_hash: str) -> Parcel:
    """A run's own files, to be taken over elsewhere, where they are checked. Raises KitError where it is not there."""
    folder = folder_of(run_hash)
    try:
        return {name: (folder / name).read_bytes() for name in (*files_of(folder), CHECKSUMS)}
    except OSError as error:
        raise KitError(f"run {run_hash} cannot be read from {folder}: {error.strerror}") from None


def unpacked(run_hash: str, parcel: Parcel) -> str | None:
    """Takes a run's parcel over into the cache, checked as a folder is; None, or in a few words why it is refused."""
    if not re.fullmatch("[0-9a-f]{16}", run_hash):
        return "its name is not a run's"
    foreign = sorted(set(parcel) - {*FILES, *DIVERGED_FILES, CHECKSUMS})
    if foreign:
        return f"{foreign[0]!r} is not a run's file"
    with writing_to(cache_folder()):
        cache_folder().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".arrived-", dir=cache_folder()) as place:
            folder = Path(place) / run_hash
            folder.mkdir()
            for name, content in parcel.items():
                (folder / name).write_bytes(content)
            return take_over(folder)


def copy(source: Path, place: Path) -> None:
    """Copies a whole run's own files, and none beside them, into a sealed folder. Raises KitError if they change."""
    checksums = json.loads((source / CHECKSUMS).read_text())
    with sealed(place) as draft:
        for name in files_of(source):
            shutil.copyfile(source / name, draft / name, follow_symlinks=False)
            if (draft / name).is_symlink() or sha256(draft / name) != checksums[name]:
                raise KitError(f"{source / name} changed while it was copied")
