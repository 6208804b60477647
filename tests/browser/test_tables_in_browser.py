"""Tables and figures in the real JupyterLab: legible in both themes and narrow; tables sorted by a click, copied."""

from __future__ import annotations

from io import BytesIO

import nbformat
import pytest
from PIL import Image, ImageStat
from playwright.sync_api import Page, expect

from benchmarks import pages
from benchmarks.pages import SECONDS

NOTEBOOK = "tables.ipynb"
CELL = """
import numpy as np
import pandas as pd

from kit.paper.claims import Claim, judged
from kit.show import Measure, show
from kit.show.html_tables import compared_table, judged_table, plain_table
from kit.show.pages import contact_sheet

draw = np.random.default_rng(0)
names = [(f"CIFAR-100 · ResNet-50, VGG-19 → {student}", t) for student in ("ResNet-34", "VGG-16")
         for t in ("T=5, printed", "T=5, hinton", "T=20, printed", "adaptive, three steps")]
df = pd.DataFrame(names, columns=["configuration", "procedure"])
for column in ("train5", "train1", "test5", "test1"):
    df[column] = list(draw.uniform(0.1, 0.9, (8, 1)) + draw.normal(0, 0.05, (8, 3)))
df["ratio"] = list(draw.uniform(0.6, 1.1, (8, 1)) + draw.normal(0, 0.05, (8, 3)))
paper = pd.DataFrame({"train5": 95.32, "ratio": draw.uniform(0.6, 1, 8)})
measures = [Measure("train5", "train Top-5 %", 100), Measure("test5", "test Top-5 %", 100),
            Measure("train1", "train Top-1 %", 100), Measure("test1", "test Top-1 %", 100, dots=True),
            Measure("ratio", "time / T=5 printed", digits=2, dots=True, reference=1.0)]
caption = "cifar-100 role filled by: generated objects · preset quick · 3 seeds · " * 3
show(compared_table(df, ["configuration", "procedure"], measures, paper, title="Table 3 · Small teachers",
                    caption=caption))
claims = [Claim(f"the adaptive temperature raises test Top-1, claim {i}", "Section 2.3", f"+{i}.4 points", "points",
                pd.Series(effect + draw.normal(0, 1, seeds)), "T=5, Eq. (1) printed", "Top-1")
          for i, (effect, seeds) in enumerate([(20, 3), (-20, 3), (0, 3), (5, 1)])]
show(judged_table(judged(claims), "Section 2.3's claims, judged", caption))
classes = pd.DataFrame({"class": ["<b>bold</b>", "舟 and a name that goes on " * 6], "images": [7, None]})
show(plain_table(classes, "Classes"))
show(contact_sheet(np.full((2, 20, 20, 3), 128, np.uint8), title="Squares", caption="both grey", tile=500),
     alt="two grey squares")
"""

EXPLORER = """
import torch

from kit.show.widgets import temperature_explorer

logits = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
temperature_explorer(*logits, torch.arange(6) % 4, ["cat", "dog", "舟", "a name that goes on and on"])
"""

MEASURED = """
() => {
  const pen = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d");
  const rgba = (colour) => {
    pen.clearRect(0, 0, 1, 1); pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a)];
  const ground = (node) => {
    if (!node) return [255, 255, 255];
    const own = rgba(getComputedStyle(node).backgroundColor);
    return own[3] === 1 ? own : over(own, ground(node.parentElement));
  };
  const luminance = (rgb) => rgb.slice(0, 3).map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const letters = [], drawn = [], contrasts = [], wide = [];
  const contrast = (node, colour, text) => {
    const behind = ground(node);
    const [a, b] = [luminance(over(rgba(colour), behind)), luminance(behind)].sort((x, y) => y - x);
    contrasts.push([(a + 0.05) / (b + 0.05), text]);
  };
  for (const table of document.querySelectorAll(".kit-table")) {
    const texts = document.createTreeWalker(table, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      const node = texts.currentNode.parentElement;
      if (!texts.currentNode.data.trim() || node.closest("style, script")) continue;
      const look = getComputedStyle(node);
      letters.push(parseFloat(look.fontSize));
      contrast(node, look.color, texts.currentNode.data.trim());
    }
    const room = table.closest(".jp-OutputArea-output").getBoundingClientRect();
    const scroll = table.querySelector(".kit-scroll");
    for (const box of [table, scroll, ...table.querySelectorAll("figcaption")])
      if (box.getBoundingClientRect().right > room.right + 1) wide.push(box.className);
    for (const cell of table.querySelectorAll("th, td"))
      if (cell.scrollWidth > cell.clientWidth + 1) wide.push(cell.textContent);
  }
  for (const words of document.querySelectorAll(".kit-figure g[transform]:has(> use)")) {  // outlines, 100 px high
    const shown = words.getScreenCTM();
    drawn.push(100 * Math.hypot(shown.a, shown.b));
    contrast(words, getComputedStyle(words).fill, "of the figure");
  }
  const scrolled = [...document.querySelectorAll(".kit-scroll")].map((box) => box.scrollWidth - box.clientWidth);
  return { smallest: Math.min(...letters), drawn: Math.min(...drawn), wide, scrolled,
           faintest: contrasts.sort((a, b) => a[0] - b[0])[0],
           texts: letters.length, dark: document.body.dataset.jpThemeLight === "false" };
}
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables") / "notebooks"
    folder.mkdir()
    cells = [nbformat.v4.new_code_cell(CELL), nbformat.v4.new_code_cell(EXPLORER)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / NOTEBOOK)
    with pages.jupyter("lab", folder, folder.parent / "lab.log") as address:
        yield address


def read_aloud(explorer) -> None:
    """Sliders and pictures have names, and a slider says its value as one reads it."""
    for name, value in (("K, threshold", "20"), ("t, temperature", "20.0"), ("α, soft share", "0.50")):
        expect(explorer.get_by_role("slider", name=name, exact=True)).to_have_attribute("aria-valuetext", value)
    pictures = explorer.get_by_role("img")
    expect(pictures).to_have_count(2)  # no images were given
    assert [bool(picture.get_attribute("alt")) for picture in pictures.all()] == [True, True]


def column(page: Page, at: int) -> list[str]:
    texts = "(rows, at) => rows.map(row => row.cells[at].textContent.trim())"
    return page.locator(".kit-table").first.locator("tbody tr").evaluate_all(texts, at)


def test_tables_are_legible_sorted_by_a_click_and_copied(page, lab, screenshots):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.set_viewport_size({"width": 1280, "height": 800})
    pages.open_lab(page, lab, NOTEBOOK)
    pages.run_all(page)
    figure = page.get_by_role("img", name="two grey squares")
    figure.wait_for(timeout=60 * SECONDS)
    assert page.locator(".kit-table").count() == 3
    explorer = page.locator(".jp-OutputArea-output", has=page.locator(".widget-slider"))
    read_aloud(explorer)

    light, dark = "JupyterLab Light", "JupyterLab Dark"
    for name, width in ((light, 1600), (light, 700), (dark, 700), (dark, 1280)):
        page.set_viewport_size({"width": 1280, "height": 800})  # where the menus are
        pages.theme(page, name)
        page.set_viewport_size({"width": width, "height": 1000 if width == 1600 else 800})
        page.wait_for_timeout(1 * SECONDS)
        explorer.scroll_into_view_if_needed()
        explorer.screenshot(path=screenshots / f"explorer-{name.split()[1].lower()}-{width}.png")
        for chart in explorer.get_by_role("img").all():
            lightness = Image.open(BytesIO(chart.screenshot())).convert("L")
            assert sum(ImageStat.Stat(lightness).median) == pytest.approx(17 if "Dark" in name else 255, abs=3)
        for i, table in enumerate(page.locator(".kit-table").all()):
            table.scroll_into_view_if_needed()
            table.screenshot(path=screenshots / f"table-{i}-{name.split()[1].lower()}-{width}.png")
        seen = page.evaluate(MEASURED)
        assert seen["texts"] > 100 and seen["dark"] == ("Dark" in name)
        assert seen["smallest"] >= 12, seen
        assert seen["faintest"][0] >= 4.5, seen
        assert not seen["wide"], seen
        assert max(seen["scrolled"]) <= 0 or width == 700, seen
        expect(figure).to_have_count(1)  # the still picture beside it, for where no SVG may be, is not shown
        figure.scroll_into_view_if_needed()
        figure.screenshot(path=screenshots / f"figure-{name.split()[1].lower()}-{width}.png")
        assert 10 <= seen["drawn"] < 12, seen

    # a click sorts by that column, a second one turns it round, a third one gives the table's own order
    printed = column(page, 2)[0]  # later rows have fewer cells: the first one's stand for several rows
    head = page.locator(".kit-table").first.get_by_role("button", name="test Top-1 %")
    head.scroll_into_view_if_needed()
    head.click()
    at = len(["configuration", "procedure", "train Top-5 %", "paper", "test Top-5 %", "train Top-1 %"])
    means = [float(text.split(" ±")[0]) for text in column(page, at)]
    assert means == sorted(means) and len(means) == 8
    heads = page.locator(".kit-table").first.locator("thead th")
    expect(heads.nth(at)).to_have_attribute("aria-sort", "ascending")
    students = [text.split(" → ")[1] for text in column(page, 0)]  # what stood once for four rows stands in each
    assert sorted(students) == ["ResNet-34"] * 4 + ["VGG-16"] * 4
    head.click()
    assert [float(text.split(" ±")[0]) for text in column(page, at)] == means[::-1]
    head.focus()
    page.keyboard.press("Enter")  # the same by keyboard; JupyterLab leaves the key to the button
    assert column(page, 2)[0] == printed and means != sorted(column(page, 2))

    # what is selected is copied as text, a row a line
    page.locator(".kit-table").nth(1).locator("table").evaluate("table => getSelection().selectAllChildren(table)")
    page.keyboard.press("Control+c")
    copied = page.evaluate("() => navigator.clipboard.readText()")
    lines = copied.splitlines()
    assert "1 hold, 1 do not, 1 cannot be told, 1 have no verdict" in copied
    assert [line.split("\t")[:3] for line in lines if line.startswith("claim")] == [["claim", "against", "paper"]]
    row = next(line for line in lines if "claim 0" in line)
    assert "+0.4 points" in row and "✓" in row and row.rstrip().endswith("holds here")
    expect(page.locator(".kit-table").nth(2).locator("tbody th").first).to_have_text("<b>bold</b>")
