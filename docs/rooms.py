"""Draws the rooms of `kit/` and the arrows between them from the imports themselves: `python docs/rooms.py`.

It writes into `docs/architecture.md`, picture and edges as text; `tests/test_docs.py` compares that text with the
imports, so the page cannot be stale. Rooms lie in the layers that `pyproject.toml` has as a contract.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import grimp
import networkx

HERE = Path(__file__).resolve().parent
PAGE = HERE / "architecture.md"
BEGIN, END = "<!-- edges: begin, written by docs/rooms.py -->", "<!-- edges: end -->"
GROUND = ("errors", "runtime", "files")  # what every room stands on: drawn without its arrows
METHOD = ("losses", "temperature", "recipe", "models", "trainer")

Edges = dict[str, set[str]]


def layers() -> list[list[str]]:
    """The contract's layers, top first, each a list of rooms that do not know each other."""
    contracts = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    (words,) = (contract["layers"] for contract in contracts["contracts"] if contract["type"] == "layers")
    return [re.findall(r"\w+", line) for line in words]


def edges() -> Edges:
    """Which room imports which, room by room, types aside; `import kit` itself is no room."""
    graph = grimp.build_graph("kit", exclude_type_checking_imports=True)
    found: Edges = {room.removeprefix("kit."): set() for room in graph.find_children("kit")}
    for module in graph.modules - {"kit"}:
        for imported in graph.find_modules_directly_imported_by(module) - {"kit"}:
            room, other = module.split(".")[1], imported.split(".")[1]
            if room != other:
                found[room].add(other)
    return found


def written(page: str) -> str:
    """The edges as a page has them."""
    return page.split(BEGIN)[1].split(END)[0].strip()


def reduced(found: Edges) -> networkx.DiGraph:
    """What is worth drawing: arrows down the layers that no longer way says too, and none to the ground."""
    height = {room: -n for n, layer in enumerate(layers()) for room in layer if room not in GROUND}
    down = networkx.DiGraph(
        (room, other)
        for room, others in found.items()
        for other in others
        if room in height and other in height and height[room] > height[other]
    )
    return networkx.transitive_reduction(down)


def diagram(found: Edges) -> str:
    """The picture, by Mermaid: GitHub and JupyterLab draw it where the page is shown."""
    drawn = reduced(found)
    arrows = [f"    {room} --> {' & '.join(sorted(drawn[room]))}" for room in sorted(drawn) if drawn[room]]
    method = ["    classDef method fill:#fbe3c6,color:#000000", f"    class {','.join(METHOD)} method"]
    return "\n".join(["```mermaid", "flowchart TD", *arrows, *method, "```"])


def text(found: Edges) -> str:
    """The picture, and all edges as a list in Markdown, in the layers' order."""
    order = [room for layer in layers() for room in layer]
    rooms = sorted(found, key=lambda room: (order.index(room) if room in order else -1, room))
    lines = {room: [f"`{other}`" for other in rooms if other in found[room]] for room in rooms}
    edges = [f"- `{room}` imports {', '.join(line) or 'nothing of the kit'}" for room, line in lines.items()]
    return "\n".join([diagram(found), "", *edges])


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(page.replace(written(page), text(edges())), encoding="utf-8")


if __name__ == "__main__":
    main()
