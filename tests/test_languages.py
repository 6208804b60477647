"""The Chinese README and notebook 00 keep in step with the English ones: structure, code, formulas, names and links."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import nbformat
from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parent.parent
ENGLISH, CHINESE = ROOT / "notebooks" / "00_start_here.ipynb", ROOT / "notebooks" / "zh" / "00_start_here.ipynb"


def parsed(text: str) -> tuple[list[str], Counter]:
    """A text's headings, tables' rows and code (comments left out) in order; its names in code, formulas and links."""
    outline, words = [], Counter(re.findall(r"\$[^$]+\$", text))
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type in ("heading_open", "tr_open", "list_item_open"):
            outline.append(token.tag)
        elif token.type == "fence":
            outline.append(re.sub(r" +# .*", "", token.content) if token.info == "sh" else token.content)
        for child in token.children or ():
            if child.type == "code_inline":
                words[child.content] += 1
            elif child.type in ("link_open", "image"):
                words[str(child.attrs.get("href") or child.attrs["src"])] += 1
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
