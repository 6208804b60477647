"""Executed notebooks as Markdown pages, which every code host shows: pictures are links to the files that were drawn.

A host's own view of notebooks drops styles, scripts and widgets, and wants pictures inside the file. Here a picture is
the artefact that its cell has saved, a table is bare HTML, and of a widget stay its controls' values and its pictures.
"""

from __future__ import annotations

import os
import re
from base64 import b64decode
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import nbformat
from bs4 import BeautifulSoup

WIDGET, STATE = "application/vnd.jupyter.widget-view+json", "application/vnd.jupyter.widget-state+json"
MOVING = {"Cockpit": Path(__file__).resolve().parents[2] / "docs" / "cockpit.gif"}  # drawn by the browser alone
KEPT = ("rowspan", "colspan", "scope", "abbr")  # of a table's attributes


class Page:
    """One executed notebook, written as `NAME.md` into the folder of its artefacts, which will be moved to `out`."""

    def __init__(self, executed: Path, source: Path, scratch: Path, out: Path, beside: Collection[str]) -> None:
        self._name, self._source, self._scratch, self._out = executed.stem, source, scratch, out
        self._beside = beside  # the notebooks whose pages are being written there, too
        self._book = nbformat.read(executed, as_version=4)
        self._stills = 0

    def write(self) -> Path:
        preset = self._book.metadata["papermill"]["parameters"].get("preset", "quick")
        head, *rest = [part for cell in self._book.cells for part in self._cell(cell)]
        title, _, text = head.partition("\n")
        says = f"*Executed at preset {preset}. To run it yourself: `make lab`, {self._link(self._source)}.*"
        path = self._scratch / f"{self._name}.md"
        path.write_text("\n\n".join([title, says, text.strip(), *rest]) + "\n", encoding="utf-8", newline="\n")
        return path

    def _cell(self, cell: Any) -> Iterator[str]:
        if cell.cell_type == "markdown":
            yield re.sub(r"\]\(([\w/]+)\.ipynb\)", self._follow, github_maths(cell.source))
        elif "injected-parameters" not in cell.metadata.get("tags", []):
            yield fenced(cell.source, "python")
            outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            if printed := "".join(output.text for output in outputs if output.output_type == "stream").strip():
                yield fenced(printed)
            for output in outputs:
                if output.output_type != "stream":
                    yield from self._shown(output.data, output.metadata)

    def _follow(self, link: re.Match[str]) -> str:
        """A link to a notebook leads to that one's page where there is one, else to the notebook."""
        name = link[1]
        has_page = name in self._beside or (self._out / f"{name}.md").is_file()
        return f"]({name}.md)" if has_page else f"]({self._path(self._source.parent / name)}.ipynb)"

    def _shown(self, data: Any, metadata: Any) -> Iterator[str]:
        """What an output shows, in the richest form that a page can have."""
        if WIDGET in data:
            yield from self._widget(data[WIDGET]["model_id"], data["text/plain"].partition("(")[0])
        elif "image/png" in data:
            about = metadata.get("image/png", {})
            saved = self._scratch / f"{about.get('artefact')}.png"
            file = saved.name if saved.is_file() else self._still(b64decode(data["image/png"]))
            yield f"![{about.get('alt', '')}]({file})"
        elif "text/html" in data:
            yield bare(data["text/html"])
        elif "text/latex" in data:
            yield github_maths(data["text/latex"].replace("$\\displaystyle", "$").replace("$", "$$"))
        else:
            yield fenced(data["text/plain"])

    def _widget(self, model: str, kind: str) -> Iterator[str]:
        yield f"*`{kind}`: its controls live in a running notebook.*"
        if kind in MOVING:
            yield f"![{kind}, moved while it runs]({self._path(MOVING[kind])})"
            return
        controls = []
        for state, picture in self._parts(model.removeprefix("IPY_MODEL_")):
            if picture:
                yield f"![{kind}]({self._still(picture)})"
            elif state["_model_name"] == "HTMLModel":
                yield bare(state["value"])
            elif state.get("description"):
                at = state.get("index")  # of a choice
                value = state.get("value") if at is None else state["_options_labels"][at]
                controls.append(f"{state['description']}: {value}")
        yield " · ".join(controls)

    def _parts(self, model: str) -> Iterator[tuple[Any, bytes | None]]:
        """A widget and all in it, from top to bottom: its state, and the picture where it is one."""
        of = self._book.metadata["widgets"][STATE]["state"][model]
        pictures = [b64decode(buffer["data"]) for buffer in of.get("buffers", []) if buffer["path"] == ["value"]]
        yield of["state"], pictures[0] if pictures else None
        for child in of["state"].get("children", []):
            yield from self._parts(child.removeprefix("IPY_MODEL_"))

    def _still(self, png: bytes) -> str:
        """Writes a picture that no cell has saved; returns its file's name."""
        self._stills += 1
        file = self._scratch / f"{self._name}_{self._stills}.png"
        file.write_bytes(png)
        return file.name

    def _link(self, path: Path) -> str:
        return f"[{path.parent.name}/{path.name}]({self._path(path)})"

    def _path(self, path: Path) -> str:
        try:
            return Path(os.path.relpath(path, self._out)).as_posix()
        except ValueError:  # on another drive
            return path.as_uri()


def fenced(text: str, language: str = "text") -> str:
    return f"```{language}\n{text}\n```"


def github_maths(text: str) -> str:
    """Formulas as GitHub and GitLab take them without reading Markdown in them: `$a$` in backquotes, `$$a$$` fenced."""
    blocks = re.sub(r"\s*\$\$\s*(.+?)\s*\$\$\s*", r"\n\n```math\n\1\n```\n\n", text, flags=re.S)
    parts = re.split(r"(```math\n.*?\n```)", blocks, flags=re.S)
    parts[::2] = [re.sub(r"\$([^$`]+)\$", lambda m: f"$`{' '.join(m[1].split())}`$", part) for part in parts[::2]]
    return "".join(parts).strip()


def bare(html: str) -> str:
    """A table's HTML without style, script and drawings, on lines of which none is empty: that would end it."""
    soup = BeautifulSoup(html, "html.parser")
    for tag in soup(["style", "script", "svg"]):
        tag.decompose()
    for title in soup.select("caption strong"):
        if title.next_sibling:
            title.insert_after(": ")
    for sign in soup(class_="kit-sign"):
        sign.insert_after(" ")
    for tag in soup(True):
        kept = {name: tag[name] for name in KEPT if tag.has_attr(name)}
        tag.attrs = kept | ({"align": "right"} if "kit-number" in tag.get("class", []) else {})
    for tag in soup(["button", "span", "div", "figure"]):
        tag.unwrap()
    for cell in soup(["th", "td"]):
        lines = cell.decode_contents().strip().split("\n")
        if len(lines) > 1:
            cell.clear()
            cell.append(BeautifulSoup("<br/>".join(map(str.strip, lines)), "html.parser"))
    for tag in soup("figcaption"):
        tag.name = "p"
    return re.sub(r"\s*\n\s*", "\n", str(soup)).strip()
