"""Draws the rooms of `kit/` and the arrows between them from the imports themselves: `python docs/rooms.py`.

It writes `docs/rooms.svg`, and the same edges as text into `docs/architecture.md`; `tests/test_docs.py` compares that
text with the imports, so the page cannot be stale. Rooms lie in the layers that `pyproject.toml` has as a contract.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import grimp
import matplotlib
import networkx
from matplotlib import pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

HERE = Path(__file__).resolve().parent
PAGE, PICTURE = HERE / "architecture.md", HERE / "rooms.svg"
BEGIN, END = "<!-- edges: begin, written by docs/rooms.py -->", "<!-- edges: end -->"
GROUND = ("errors", "runtime", "files")  # what every room stands on: drawn without its arrows
METHOD = ("losses", "temperature", "recipe", "models", "trainer")
WIDTH, HEIGHT, GAP, MARGIN = 1.36, 0.44, 0.5, 0.8  # of a room, between layers, around all: inches

Edges = dict[str, set[str]]
Place = tuple[float, float]


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


def text(found: Edges) -> str:
    """The edges as a list in Markdown, in the layers' order."""
    order = [room for layer in layers() for room in layer]
    rooms = sorted(found, key=lambda room: (order.index(room) if room in order else -1, room))
    lines = {room: [f"`{other}`" for other in rooms if other in found[room]] for room in rooms}
    return "\n".join(f"- `{room}` imports {', '.join(line) or 'nothing of the kit'}" for room, line in lines.items())


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


def bend(start: Place, end: Place, boxes: list[Place]) -> float:
    """How far an arrow must bow, as a share of its length, to pass no box on its way; the least that does."""
    (x, y), (to_x, to_y) = start, end
    across, down = to_x - x, to_y - y

    def passes(bow: float) -> bool:
        turn_x, turn_y = (x + to_x) / 2 + bow * down, (y + to_y) / 2 - bow * across  # Bézier's, as arc3 has it
        for s in (step / 60 for step in range(3, 58)):
            at_x = (1 - s) ** 2 * x + 2 * s * (1 - s) * turn_x + s**2 * to_x
            at_y = (1 - s) ** 2 * y + 2 * s * (1 - s) * turn_y + s**2 * to_y
            if any(abs(at_x - bx) < WIDTH / 2 + 0.05 and abs(at_y - by) < HEIGHT / 2 + 0.03 for bx, by in boxes):
                return False
        return True

    bows = (sign * bow / 50 for bow in range(50) for sign in (-1, 1))
    return next((bow for bow in bows if passes(bow)), 0.0)


def draw(found: Edges) -> None:
    """Writes the picture: a row a layer, what all stand on beneath, the same bytes each time."""
    matplotlib.use("svg")
    plt.rcParams |= {"svg.hashsalt": "rooms", "svg.fonttype": "path", "font.family": "DejaVu Sans", "font.size": 10}
    rows = [[room for room in layer if room in found and room not in GROUND] for layer in layers()]
    rows = [row for row in rows if row]
    span, pitch = max(len(row) for row in rows) * (WIDTH + 0.5), HEIGHT + GAP
    place = {
        room: (span * (i + 0.5) / len(row), (len(rows) - n) * pitch)
        for n, row in enumerate(rows)
        for i, room in enumerate(row)
    }
    width, height = span + 2 * MARGIN, len(rows) * pitch + HEIGHT + 2 * MARGIN
    figure = plt.figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))  # one unit is an inch
    axes.set(xlim=(-MARGIN, width - MARGIN), ylim=(-HEIGHT / 2 - MARGIN, height - HEIGHT / 2 - MARGIN))
    axes.axis("off")

    def box(x: float, y: float, width: float, label: str, colour: str) -> None:
        corner = (x - width / 2, y - HEIGHT / 2)
        style = "round,pad=0,rounding_size=0.1"
        axes.add_patch(FancyBboxPatch(corner, width, HEIGHT, style, fc=colour, ec="#444444", lw=0.8))
        axes.text(x, y, label, ha="center", va="center")

    for room, (x, y) in place.items():
        box(x, y, WIDTH, room, "#fbe3c6" if room in METHOD else "#dcebf7")
    box(span / 2, 0, span, "  ·  ".join(reversed(GROUND)) + "   (every room stands on these)", "#ececec")
    for room, other in sorted(reduced(found).edges):
        (x, y), (to_x, to_y) = place[room], place[other]
        start, end = (x, y - HEIGHT / 2), (to_x, to_y + HEIGHT / 2)
        others = [at for name, at in place.items() if name not in (room, other)]
        shape = {"arrowstyle": "-|>", "connectionstyle": f"arc3,rad={bend(start, end, others)}", "mutation_scale": 9}
        axes.add_patch(FancyArrowPatch(start, end, **shape, color="#555555", lw=0.9, shrinkA=0, shrinkB=0))
    figure.savefig(PICTURE, metadata={"Date": None, "Creator": None})
    plt.close(figure)


def main() -> None:
    found = edges()
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(page.replace(written(page), text(found)), encoding="utf-8")
    draw(found)


if __name__ == "__main__":
    main()
