"""Executed notebooks as pages: what is shown is what was drawn, in a form that a code host leaves as it is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from markdown_it import MarkdownIt
from PIL import Image

from kit.figures import needs
from kit.figures.make import make
from kit.figures.needs import Request
from kit.figures.pages import bare, github_maths
from kit.files import sha256
from kit.paper.claims import Claim, judged
from kit.show.html_tables import judged_table, plain_table

FIGURES = Path(__file__).resolve().parents[2] / "figures"
COMMITTED = sorted(FIGURES.glob("[0-9]*.md"))
CELLS = (
    'preset = "quick"\nout = None',
    "import ipywidgets as widgets\nimport pandas as pd\nfrom IPython.display import Math, display\n"
    "from kit.show import save, show\nfrom kit.show.style import new_figure",
    'figure = new_figure(80, 40)\nfigure.suptitle("a [title]")\nsave(figure, "mine", out)\nshow(figure)',
    'show(new_figure(20, 20), alt="never saved")',
    'print("said")\ndisplay(Math(r"\\frac{a}{t^2}"))',
    'picture = show.__globals__["png_bytes"](new_figure(30, 20))\n'
    'widgets.VBox([widgets.FloatSlider(value=2, description="K"), widgets.Dropdown(options=["none", "vgg16"], '
    'description="teacher"), widgets.Image(value=picture), widgets.HTML("<table><tr><td>1</td></tr></table>")])',
    'pd.DataFrame({"a": [1]})',
)


def cells(html: str) -> list[list[str]]:
    return [[cell.get_text() for cell in row(["th", "td"])] for row in BeautifulSoup(html, "html.parser")("tr")]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A notebook with every kind of output, drawn."""
    folder = tmp_path_factory.mktemp("pages") / "notebooks"
    folder.mkdir()
    first = "# 00 · Of all kinds\n\nSee [01](01_next.ipynb), [09](09_own.ipynb), [zh](zh/00_a.ipynb): $z^t_i$"
    book = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell(first), *map(nbformat.v4.new_code_cell, CELLS)]
    )
    book.cells[1].metadata["tags"] = ["parameters"]
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, folder / "00_kinds.ipynb")
    nbformat.write(nbformat.v4.new_notebook(cells=book.cells[:2], metadata=book.metadata), folder / "01_next.ipynb")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(needs, "NOTEBOOKS", folder)
        assert make([], Request(preset="smoke", jobs=1), folder.parent / "figures") == []
    return folder.parent / "figures"


def test_a_page_has_every_kind_of_output(drawn):
    text = (drawn / "00_kinds.md").read_text("utf-8")
    assert text.startswith("# 00 · Of all kinds\n\n*Executed at preset smoke. To run it")
    assert "(../notebooks/00_kinds.ipynb)" in text
    links = "[01](01_next.md), [09](../notebooks/09_own.ipynb), [zh](../notebooks/zh/00_a.ipynb)"  # 09 has no page
    assert f"See {links}: $`z^t_i`$" in text
    assert re.findall(r"^!\[(.*)\]\((.*)\)$", text, re.M) == [
        ("a [title]", "mine.png"), ("never saved", "00_kinds_1.png"), ("VBox", "00_kinds_2.png")]  # fmt: skip
    assert "```text\nsaid\n```" in text and "```math\n\\frac{a}{t^2}\n```" in text
    assert "K: 2.0 · teacher: none" in text
    assert re.findall(r"```python\n(.*?)\n```", text, re.S) == list(CELLS)
    assert str(drawn) not in text  # nothing of this machine
    tables = [cells(token.content) for token in MarkdownIt().parse(text) if token.type == "html_block"]
    assert tables == [[["1"]], [["", "a"], ["0", "1"]]]


def test_its_pictures_are_those_that_its_cells_show(drawn):
    book = nbformat.read(drawn / "executed" / "00_kinds.ipynb", as_version=4)
    shown = [output.data["image/png"] for cell in book.cells for output in cell.get("outputs", [])
             if "image/png" in output.get("data", {})]  # fmt: skip
    for file, size in (("mine.png", (160, 80)), ("00_kinds_1.png", (40, 40)), ("00_kinds_2.png", (30, 20))):
        with Image.open(drawn / file) as image:
            assert image.size == size
    assert len(shown) == 2
    listed = json.loads((drawn / "manifest.json").read_text())["artefacts"]
    for name in ("00_kinds.md", "00_kinds_1.png", "00_kinds_2.png", "mine.png"):
        assert listed[name] == {"notebook": "00_kinds", "sha256": sha256(drawn / name)}


def test_a_table_is_bare_and_says_the_same():
    claims = judged([Claim("raises", "Section 2", "+1 points", "points", pd.Series([1.0, 1.1, 0.9]), "T=5", "Top-1")])
    frame = pd.DataFrame({"row": ["a\nb", "<i>"], "top": [1.25, None]})
    for table in (judged_table(claims, "Claims", "by hand"), plain_table(frame, "Rows")):
        text = bare(table.html)
        assert not re.search(r"<(style|script|svg|button|span|div)|style=|class=|\n\n", text)
        (token,) = MarkdownIt().parse(text)
        assert token.type == "html_block" and token.content.strip() == text
    assert cells(text) == [["row", "top"], ["ab", "1.25"], ["<i>", ""]]
    assert "a<br/>b" in text and '<td align="right">1.25' in text
    assert "✓ holds here" in bare(judged_table(claims, "Claims", "by hand").html)


def test_words_stay_apart_at_signs_and_lines_at_the_cells_ends():
    told = "L_D of student = teacher\nrests within 10 % of 1\n12 %\nz^t"
    html = plain_table(pd.DataFrame({"found": [told]}), "Rows").html
    said = "L<sub>D</sub> of student = teacher<br/>rests within 10 % of 1<br/>12 %<br/>z^t"
    assert said + "</t" in bare(html)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (r"$a_i$ and $\{b\}$", r"$`a_i`$ and $`\{b\}`$"),
        ("over\n$a\n+ b$ lines", "over\n$`a + b`$ lines"),
        ("so\n\n$$L = a\\\\\nb$$\n\nthen $c$", "so\n\n```math\nL = a\\\\\nb\n```\n\nthen $`c`$"),
        ("| $p$ | $q$ |", "| $`p`$ | $`q`$ |"),
        ("no formula", "no formula"),
    ],
)
def test_formulas_are_kept_from_markdown(text, said):
    assert github_maths(text) == said


# ---- what is committed -------------------------------------------------------------------------------------------


def test_the_committed_pages_are_small():
    stills = [path for page in COMMITTED for path in FIGURES.glob(f"{page.stem}_*.png")]
    linked = {
        FIGURES / name for page in COMMITTED for name in re.findall(r"\]\((\w[\w.-]*\.png)\)", page.read_text("utf-8"))
    }
    assert sum(path.stat().st_size for path in {*COMMITTED, *stills, *linked}) < 5_000_000


@pytest.mark.parametrize("page", COMMITTED, ids=lambda page: page.stem)
def test_a_committed_page_is_that_of_the_committed_figures(page):
    """It was written together with its notebook's figures: the manifest has its checksum and theirs."""
    artefacts, text = json.loads((FIGURES / "manifest.json").read_text())["artefacts"], page.read_text("utf-8")
    assert artefacts[page.name] == {"notebook": page.stem, "sha256": sha256(page)}
    assert "data:image" not in text and "*Executed at preset quick." in text
    for name in re.findall(r"\]\(([^)#]+)\)", text):
        assert re.match("https?:", name) or (FIGURES / name).is_file(), name
        if name.endswith(".png"):
            assert artefacts[name] == {"notebook": page.stem, "sha256": sha256(FIGURES / name)}


def test_every_notebook_of_the_committed_figures_has_a_page():
    listed = json.loads((FIGURES / "manifest.json").read_text())["notebooks"]
    assert [page.stem for page in COMMITTED] == [name for name in needs.notebooks() if name in listed]
