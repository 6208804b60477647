"""`manifest.json`: what each notebook was drawn from, and each artefact's notebook and checksum."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kit.errors import KitError
from kit.files import flush, sha256, write_atomically, writing_to
from kit.runs.spec import PACKAGES, Run
from kit.runs.store import Failure, Result

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


def _listing(path: Path) -> dict[str, Any]:
    """Reads a file that lists notebooks and artefacts. Raises KitError for another."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        why = f"is not readable as JSON ({error})"
    else:
        if _is_listing(content):
            return content
        why = "does not list notebooks and artefacts"
    raise KitError(f"{path} {why}; remove {path} to draw everything in it anew")


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
        self.content = _listing(self.path) if self.path.exists() else {"notebooks": {}, "artefacts": {}}

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
        """Moves a folder of what a notebook has drawn to its place and enters it. Where that is interrupted the
        artefacts are not as they are listed, so the notebook is drawn anew.

        What it drew before and draws no more is removed, unless somebody has altered it.
        """
        files = sorted(drawn.iterdir())
        artefacts = {file.name: {"notebook": notebook, "sha256": sha256(file)} for file in files}
        others = {name: about for name, about in self.content["artefacts"].items() if about["notebook"] != notebook}
        with writing_to(self.out):
            for name in filter(self.has, self.content["artefacts"].keys() - others.keys() - artefacts.keys()):
                (self.out / name).unlink()
            for file in files:
                flush(file)
                os.replace(file, self.out / file.name)
            drawn.rmdir()
            self.content = {
                "notebooks": {**self.content["notebooks"], notebook: entry},
                "artefacts": {**others, **artefacts},
            }
            write_atomically(self.path, json.dumps(self.content, indent=1, sort_keys=True) + "\n")
