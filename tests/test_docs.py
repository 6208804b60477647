"""The pages are true: links lead somewhere, rooms are those of the imports, examples and commands are known."""

from __future__ import annotations

import ast
import re
import runpy
from pathlib import Path
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from PIL import Image

from kit.__main__ import main

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("README.md", "README.zh.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "PAPER.md")
PAGES = [*(ROOT / name for name in NAMES), *sorted((ROOT / "docs").glob("*.md"))]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def tokens(page: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))


def targets(page: Path) -> list[str]:
    """Where a page's links and pictures lead."""
    inline = [child for token in tokens(page) for child in token.children or ()]
    return [
        str(child.attrs.get("href") or child.attrs["src"]) for child in inline if child.type in ("link_open", "image")
    ]


def anchors(page: Path) -> set[str]:
    """A page's headings as addresses, as GitHub makes them."""
    found = tokens(page)
    titles = [found[i + 1].content for i, token in enumerate(found) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@every_page
def test_links_lead_to_files_and_headings(page):
    for target in targets(page):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = unquote(target).partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.is_relative_to(ROOT) and there.exists(), target
        assert not anchor or anchor in anchors(there), target


@every_page
def test_files_that_it_names_are_there(page):
    """`kit/…` and the like in text; a change log may name what was."""
    if page.name != "CHANGELOG.md":
        for name in re.findall(r"`((?:kit|tests|docs|notebooks|benchmarks|figures)/[\w./-]*)`", page.read_text()):
            assert (ROOT / name).exists(), name


@every_page
def test_its_commands_and_options_are_known(page, capsys):
    text = page.read_text(encoding="utf-8").replace("\\\n", "")
    for line in re.findall(r"^python -m kit (.+)$", text, re.M):
        words = line.split("#")[0].split()
        command = words[:2] if words[0] in ("data", "cache") else words[:1]
        assert main([*command, "--help"]) == 0, line
        known = capsys.readouterr().out
        for option in (word for word in words if word.startswith("-")):
            assert option in known, f"{option} in: {line}"


@every_page
def test_what_its_examples_import_is_there(page):
    for code in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S):
        imports = [node for node in ast.parse(code).body if isinstance(node, ast.Import | ast.ImportFrom)]
        exec(compile(ast.Module(imports, []), str(page), "exec"), {})


def test_every_page_is_reached_from_the_readme():
    seen, left = set(), [ROOT / "README.md"]
    while left:
        page = left.pop()
        seen.add(page)
        paths = [target.partition("#")[0] for target in targets(page) if not re.match(r"https?://", target)]
        linked = {(page.parent / path).resolve() for path in paths if path.endswith(".md")}
        left += linked - seen - set(left)
    assert set(PAGES) <= seen


def test_the_readme_is_short_and_its_pictures_are_small():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
    moving = ROOT / "docs" / "cockpit.gif"
    assert moving.stat().st_size < 1_200_000
    with Image.open(moving) as picture:
        assert picture.n_frames > 10


def test_the_rooms_are_those_of_the_imports():
    rooms = runpy.run_path(str(ROOT / "docs" / "rooms.py"))
    page = rooms["PAGE"].read_text(encoding="utf-8")
    assert rooms["written"](page) == rooms["text"](rooms["edges"]()), "stale: python docs/rooms.py"
    for room in rooms["edges"]():
        assert f"`{room}" in page.split(rooms["BEGIN"])[0] or room == "__main__", f"{room} is not described"
