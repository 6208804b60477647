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


def _is_listing(content: object) -> bool:
    """Checks whether this is what a manifest holds, as far as it is used; artefacts have plain names, so they stay
    inside."""
    if not isinstance(content, dict) or not all(isinstance(content.get(p), dict) for p in ("notebooks", "artefacts")):
        return False
    entries, artefacts = content["notebooks"].values(), content["artefacts"].items()
    return all(isinstance(entry, dict) and isinstance(entry.get("inputs"), str) for entry in entries) and all(
        name not in ("", ".", "..")
        and not set(name) & set("/\\\0")
        and isinstance(about, dict)
        and all(isinstance(about.get(key), str) for key in ("notebook", "sha256"))
        for name, about in artefacts
    )


class Manifest:
    """`manifest.json`: for each notebook what went in, for each artefact its notebook and sha256."""

    def __init__(self, out: Path) -> None:
        self.out, self.path = out, out / "manifest.json"
        try:
            self.content = json.loads(self.path.read_text())
        except FileNotFoundError:
            self.content = {"notebooks": {}, "artefacts": {}}
        except (OSError, ValueError, RecursionError) as error:
            raise KitError(
                f"{self.path} is not readable as JSON ({error}); remove it to draw everything anew"
            ) from None
        if not _is_listing(self.content):
            raise KitError(f"{self.path} does not list notebooks and artefacts; remove it to draw everything anew")

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
            write(drawn / ENTRY, json.dumps({"notebook": notebook, "entry": entry, "artefacts": artefacts}))
            for path in (*files, drawn):
                flush(path)
            drawn.rename(self.out / f"{READY}{notebook}")
            self.take_all()

    def take_all(self) -> None:
        """Moves what notebooks have drawn to its place and enters it; also what an interrupted process had ready."""
        for ready in sorted(self.out.glob(f"{READY}*")):
            said = json.loads((ready / ENTRY).read_text())
            notebook, artefacts = said["notebook"], said["artefacts"]
            if not _is_listing({"notebooks": {notebook: said["entry"]}, "artefacts": artefacts}):
                raise KitError(f"{ready / ENTRY} does not list what is beside it; remove {ready} to draw it anew")
            for name in artefacts:
                if (ready / name).exists():  # else it was moved before the interruption
                    os.replace(ready / name, self.out / name)
            kept = {name: entry for name, entry in self.content["artefacts"].items() if entry["notebook"] != notebook}
            self.content["artefacts"] = dict(sorted({**kept, **artefacts}.items()))
            self.content["notebooks"] = dict(sorted({**self.content["notebooks"], notebook: said["entry"]}.items()))
            draft = self.path.with_suffix(".draft")
            write(draft, json.dumps(self.content, indent=1, sort_keys=True) + "\n")
            os.replace(draft, self.path)
            shutil.rmtree(ready)
