"""Generated trees in the kit's cache: written once, and anew where a file is not the one that was written."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from kit.files import built_once, in_cache, sha256, write

MARK = "stand-in.json"  # lies in the root of a generated tree, so that it is never taken for the real one


def kept_tree(below: str, name: str, plan: Mapping[str, object], write_tree: Callable[[Path], None]) -> Path:
    """Returns the tree of this name in a folder of the cache, written by `write_tree` where it is not there.

    Every later call compares its mark, the plan and every file with its sha256, and writes anew what differs.
    """

    def mark(tree: Path) -> str:
        files = sorted(path for path in tree.rglob("*") if path.is_file() and path != tree / MARK)
        return json.dumps({"plan": plan, "files": {p.relative_to(tree).as_posix(): sha256(p) for p in files}}, indent=1)

    def is_whole() -> bool:
        with suppress(OSError, ValueError):
            return (tree / MARK).read_text(encoding="utf-8") == mark(tree)
        return False

    def build(draft: Path) -> None:
        write_tree(draft)
        write(draft / MARK, mark(draft))

    with in_cache(below) as folder:
        tree = folder / name
        return built_once(tree, is_whole, build)
