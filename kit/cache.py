"""Housekeeping of the cache: removing runs, and carrying them to another machine in a plain folder.

A run travels as its own sealed folder. What is taken in is checked first: its checksums, that its description has the
hash that its folder is named after, and that its files are plain ones. Nothing outside the two folders is touched.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

from kit.errors import KitError
from kit.runs import DIVERGED_FILES, FILES, Entry, cache_folder, cached, entry_of, folder_of, locked, set_aside
from kit.sealed import CHECKSUMS, sealed, sha256, sweep, writing_to


def prune(damaged: bool = False, diverged: bool = False, keep: Collection[str] = ()) -> int:
    """Removes runs and says how many: all but `keep` and what those learnt from, or only damaged or diverged ones.

    What was set aside as damaged goes with the damaged; what is left of interrupted runs and teachers' logits that runs
    share, where all runs go.
    """
    entries = cached()
    known = {entry.hash for entry in entries}
    for name in keep:
        if name not in known:
            raise KitError(f"run {name!r} to keep is not in the cache, so nothing was removed; see 'cache list'")
    kept = set(keep).union(*(entry.needs for entry in entries if entry.hash in keep))
    only = [test for wanted, test in ((damaged, is_damaged), (diverged, has_diverged)) if wanted]
    doomed = [e.folder for e in entries if e.hash not in kept and (not only or any(test(e) for test in only))]
    if damaged or not only:
        doomed += sorted((cache_folder() / "damaged").glob("*"))
    with writing_to(cache_folder()):
        for folder in doomed:
            shutil.rmtree(folder)
    if not only:
        shutil.rmtree(cache_folder() / "checkpoints", ignore_errors=True)
        shutil.rmtree(cache_folder() / "teacher-logits", ignore_errors=True)
    return len(doomed)


def is_damaged(entry: Entry) -> bool:
    return entry.complaint is not None


def has_diverged(entry: Entry) -> bool:
    return entry.diverged is not None


def export_runs(folder: Path, hashes: Sequence[str] = ()) -> list[str]:
    """Copies runs, and all they learnt from, into a folder; every whole run where none is named. KitError."""
    whole = {entry.hash: entry for entry in cached() if entry.complaint is None}
    for name in hashes:
        if name not in whole:
            raise KitError(f"run {name!r} is not in the cache, or not whole; see 'cache list'")
    wanted = set(hashes).union(*(whole[name].needs for name in hashes)) if hashes else set(whole)
    chosen = [name for name in whole if name in wanted]
    for name in chosen:
        place = folder / name
        if place.exists() and (why := entry_of(place).complaint):
            raise KitError(f"{place} is there already and damaged ({why}); remove it, or choose another folder")
        if not place.exists():
            copy(whole[name].folder, place)
    return chosen


def import_runs(folder: Path) -> tuple[list[str], list[str]]:
    """Takes over a folder's runs: the hashes that are now in the cache, and a line on each that was refused."""
    if not folder.is_dir():
        raise KitError(f"folder {str(folder)!r} is not there")
    taken, refused = [], []
    for source in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        why = "a link, not a folder" if source.is_symlink() else entry_of(source).complaint
        if why is not None:
            refused.append(f"run {source.name!r} is not imported: {why}")
            continue
        place = folder_of(source.name)
        with locked(place):
            sweep(place)
            if place.exists() and entry_of(place).complaint:
                set_aside(place)
            if not place.exists():
                copy(source, place)
        taken.append(source.name)
    return taken, refused


def copy(source: Path, place: Path) -> None:
    """Copies a whole run's own files, and none beside them, into a sealed folder. Raises KitError if they change."""
    names = DIVERGED_FILES if (source / "diverged.json").exists() else FILES
    checksums = json.loads((source / CHECKSUMS).read_text())
    with sealed(place) as draft:
        for name in names:
            shutil.copyfile(source / name, draft / name, follow_symlinks=False)
            if (draft / name).is_symlink() or sha256(draft / name) != checksums[name]:
                raise KitError(f"{source / name} changed while it was copied")
