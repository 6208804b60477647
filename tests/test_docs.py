"""The pages are true: links lead somewhere, rooms are those of the imports, examples and commands are known, and what
is there in Chinese, README and notebook 00, keeps in step: structure, code, formulas, names and links."""

from __future__ import annotations

import ast
import re
import runpy
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from PIL import Image

from kit.__main__ import main

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("README.md", "README.zh.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "PAPER.md")
PAGES = [*(ROOT / name for name in NAMES), *sorted((ROOT / "docs").glob("*.md"))]
ENGLISH, CHINESE = (ROOT / "notebooks" / folder / "00_start_here.ipynb" for folder in ("", "zh"))
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def tokens(text: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(text)


def leads(part: Token) -> str | None:
    """Where a link or a picture leads."""
    return str(part.attrs.get("href") or part.attrs["src"]) if part.type in ("link_open", "image") else None


def targets(page: Path) -> list[str]:
    """Where a page's links and pictures lead."""
    inline = [child for token in tokens(page.read_text(encoding="utf-8")) for child in token.children or ()]
    return [there for child in inline if (there := leads(child))]


def anchors(page: Path) -> set[str]:
    """A page's headings as addresses, as GitHub makes them."""
    found = tokens(page.read_text(encoding="utf-8"))
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


# ---- in Chinese ----------------------------------------------------------------------------------------------------


def parsed(text: str) -> tuple[list[str], Counter]:
    """A text's headings, tables' rows and code (comments left out) in order; its names in code, formulas and links."""
    outline, words = [], Counter(re.findall(r"\$[^$]+\$", text))
    for token in tokens(text):
        if token.type in ("heading_open", "tr_open", "list_item_open"):
            outline.append(token.tag)
        elif token.type == "fence":
            outline.append(re.sub(r" +# .*", "", token.content) if token.info == "sh" else token.content)
        for child in token.children or ():
            if named := child.content if child.type == "code_inline" else leads(child):
                words[named] += 1
    return outline, words


def test_the_readme_says_the_same_in_chinese():
    english, chinese = (parsed((ROOT / name).read_text("utf-8")) for name in ("README.md", "README.zh.md"))
    assert chinese[0] == english[0]
    english[1].subtract(["README.zh.md"])
    chinese[1].subtract(["README.md", "notebooks/zh/00_start_here.ipynb"])
    assert +chinese[1] == +english[1]


def test_notebook_00_is_the_same_in_chinese():
    english, chinese = (nbformat.read(path, as_version=4) for path in (ENGLISH, CHINESE))
    nbformat.validate(chinese)
    assert [cell.cell_type for cell in chinese.cells] == [cell.cell_type for cell in english.cells]
    assert chinese.metadata == english.metadata
    for here, there in zip(english.cells, chinese.cells, strict=True):
        if here.cell_type == "code":
            assert there.source == here.source and not there.outputs and there.execution_count is None
            continue
        (outline, words), (chinese_outline, chinese_words) = parsed(here.source), parsed(there.source)
        assert chinese_outline == outline
        paths = Counter(word.removeprefix("../").replace("zh/00", "00") for word in chinese_words.elements())
        assert paths == Counter(word.replace("zh/00", "00") for word in words.elements())
        for link in re.findall(r"\]\(([^)]+)\)", there.source):
            assert (CHINESE.parent / link).is_file(), link
