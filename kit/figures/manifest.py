"""`manifest.json`: what each notebook was drawn from, and each artefact's notebook and checksum."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kit.errors import KitError
from kit.files import flush, sha256, write, writing_to
from kit.runs.spec import PACKAGES, Run
from kit.runs.store import Failure, Result

READY, ENTRY = ".ready-", ".entry.json"  # a folder of drawn artefacts, and in it what the manifest will say of them
KIT = Path(__file__).resolve().parents[1]
DRAWING = ("matplotlib", "pandas", "scipy", "sympy")


def entry_of(
    inputs: str, parameters: Mapping[str, Any], runs: Sequence[Run], results: Mapping[Run, Result | Failure]
) -> dict[str, Any]:
    """Returns what the manifest says of a notebook."""
    data = {run.data.role: run.data for run in runs}
    return {
        "inputs": inputs,
        "parameters": dict(parameters),
        "runs": {run.hash: run.title for run in runs},
        "failed": {run.hash: results[run].reason for run in runs if isinstance(results[run], Failure)},
        "data": {role: spec.model_dump(include={"name", "source", "fingerprint"}) for role, spec in data.items()},
        "versions": {name: version(name) for name in (*PACKAGES, *DRAWING)},
    }


def fingerprint(path: Path, parameters: Mapping[str, Any], outcomes: Sequence[Result | Failure]) -> str:
    """Hashes all that a notebook's pictures follow from: its text, the kit's code, the parameters, the runs' results.

    Results, not only descriptions: the same run trained on another machine has other seconds, and perhaps other digits.
    """
    digest = hashlib.sha256()
    for source in [path, *sorted(KIT.rglob("*.py"), key=Path.as_posix)]:  # by name, the same on every system
        digest.update(source.read_bytes())
    ended = [[each.run.hash, each.seal if isinstance(each, Result) else each.reason] for each in outcomes]
    digest.update(json.dumps([dict(parameters), ended], sort_keys=True, default=str).encode())
    return digest.hexdigest()


def _listing(path: Path, to_remove: Path) -> dict[str, Any]:
    """Reads a file that lists notebooks and artefacts. Raises KitError for another, which says what to remove."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        why = f"is not readable as JSON ({error})"
    else:
        if _is_listing(content):
            return content
        why = "does not list notebooks and artefacts"
    raise KitError(f"{path} {why}; remove {to_remove} to draw everything in it anew")


def _is_listing(content: object) -> bool:
    """Checks whether this is what a manifest holds, as far as it is used; artefacts have plain names, so they stay
    inside."""
    if not isinstance(content, dict) or not all(isinstance(content.get(p), dict) for p in ("notebooks", "artefacts")):
        return False
    notebooks, artefacts = content["notebooks"], content["artefacts"]
    return all(
        isinstance(entry, dict) and isinstance(entry.get("inputs"), str) and isinstance(entry.get("parameters"), dict)
        for entry in notebooks.values()
    ) and all(
        name not in ("", ".", "..")
        and not set(name) & set("/\\\0")
        and isinstance(about, dict)
        and all(isinstance(about.get(key), str) for key in ("notebook", "sha256"))
        and about["notebook"] in notebooks
        for name, about in artefacts.items()
    )


class Manifest:
    """`manifest.json`: for each notebook what went in, for each artefact its notebook and sha256."""

    def __init__(self, out: Path) -> None:
        self.out, self.path = out, out / "manifest.json"
        there = self.path.exists()
        self.content = _listing(self.path, self.path) if there else {"notebooks": {}, "artefacts": {}}

    def is_current(self, notebook: str, inputs: str) -> bool:
        entry = self.content["notebooks"].get(notebook)
        artefacts = self.content["artefacts"].items()
        own = (name for name, about in artefacts if about["notebook"] == notebook)
        return bool(entry and entry["inputs"] == inputs and all(map(self.has, own)))

    def has(self, name: str) -> bool:
        """Checks whether an artefact lies beside the manifest as it was drawn."""
        about = self.content["artefacts"].get(name)
        return bool(about and (self.out / name).is_file() and sha256(self.out / name) == about["sha256"])

    def take(self, notebook: str, entry: Mapping[str, Any], drawn: Path) -> None:
        """Moves a folder of artefacts that a notebook has drawn to their place, on the disk before it is begun."""
        files = sorted(drawn.iterdir())
        artefacts = {file.name: {"notebook": notebook, "sha256": sha256(file)} for file in files}
        with writing_to(self.out):
            write(drawn / ENTRY, json.dumps({"notebooks": {notebook: entry}, "artefacts": artefacts}))
            for path in (*files, drawn):
                flush(path)
            drawn.rename(self.out / f"{READY}{notebook}")
            self.take_all()

    def take_all(self) -> None:
        """Moves what notebooks have drawn to its place and enters it; also what an interrupted process had ready.

        What a notebook drew before and draws no more is removed, unless somebody has altered it.
        """
        for ready in sorted(self.out.glob(f"{READY}*")):
            if not any(ready.iterdir()):  # all was done but to remove it
                ready.rmdir()
                continue
            drawn = _listing(ready / ENTRY, ready)
            for name in drawn["artefacts"]:
                if (ready / name).exists():  # else it was moved before the interruption
                    os.replace(ready / name, self.out / name)
            before = self.content["artefacts"]
            own = {name for name, about in before.items() if about["notebook"] in drawn["notebooks"]}
            for name in filter(self.has, own - drawn["artefacts"].keys()):
                (self.out / name).unlink()
            artefacts = {name: about for name, about in before.items() if name not in own} | drawn["artefacts"]
            notebooks = self.content["notebooks"] | drawn["notebooks"]
            self.content = {"notebooks": notebooks, "artefacts": artefacts}
            draft = self.path.with_suffix(".draft")
            write(draft, json.dumps(self.content, indent=1, sort_keys=True) + "\n")
            os.replace(draft, self.path)
            shutil.rmtree(ready)
