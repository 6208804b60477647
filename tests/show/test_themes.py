"""Figures in a page's theme: the same picture on white, legible on black, and nothing that leaks into the page."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from IPython.core.formatters import DisplayFormatter
from matplotlib.figure import Figure

from kit.show import style
from kit.show.artefacts import picture, svg_bytes
from kit.show.themes import night

LETTERS = (style.INK, style.MUTED)
LINES = (*style.COLOURS.values(), *style.SPARE, style.TEACHER, style.STUDENT)
GROUNDS = (*style.STAGES.values(), *style.SPARE_STAGES, style.ZEBRA)


def luminance(colour: str) -> float:
    """WCAG 2.1's relative luminance of `#rrggbb`."""
    shares = zip((0.2126, 0.7152, 0.0722), bytes.fromhex(colour[1:]), strict=True)
    return sum(s * (c / 12.92 if (c := b / 255) <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4) for s, b in shares)


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def dark(colour: str) -> str:
    return night(colour.removeprefix("#"))


def figure() -> Figure:
    with style.styled():
        fig = style.sheet(500, 300, "A <title>", "a caption")
        ax = fig.add_subplot(xlabel="steps", ylabel="t")
        ax.axvspan(0, 1, color=style.STAGES["big teacher"])
        ax.plot([0, 1, 2], [2, 1, 0], marker="o", mfc="white", color=style.BLUE, label="adaptive")
        ax.legend()
    return fig


@pytest.mark.parametrize("page", ["#111111", "#1e1e1e"])  # JupyterLab's dark ground and VS Code's
def test_colours_can_be_told_on_a_dark_page(page):
    for shade in (page, *map(dark, GROUNDS)):
        for colour in map(dark, LETTERS):
            assert contrast(colour, shade) >= 4.5, (colour, shade)
    for colour in map(dark, LINES):
        assert contrast(colour, page) >= 3, colour
    assert len({dark(colour) for colour in LINES}) == len(set(LINES))  # told apart as before


def test_a_pale_shade_stays_as_near_to_the_page_and_keeps_its_hue():
    for colour in GROUNDS:
        assert contrast(dark(colour), dark("#ffffff")) < 1.6, colour
        assert by_size(dark(colour)) == by_size(colour)


def by_size(colour: str) -> list[int]:
    """The channels, in the order of how much of each there is."""
    return sorted(range(3), key=bytes.fromhex(colour[1:]).__getitem__)


def test_a_notebook_gets_the_figure_as_it_is_saved_without_its_ground():
    fig = figure()
    data, metadata = DisplayFormatter().format(picture(fig, alt='2 < 3 & "so"'))
    assert {"image/png", "text/html"} <= set(data) and metadata["image/png"]["alt"] == '2 < 3 & "so"'
    page = ElementTree.fromstring(f"<body>{data['text/html'].replace('<img', '<br/><img', 1)[:-1]}/></body>")
    box, still = page.find("div"), page.find("img")
    assert box.get("role") == "img" and box.get("aria-label") == still.get("alt") == '2 < 3 & "so"'
    assert still.get("src").startswith("data:image/png;base64,")

    drawing = re.search(r"<svg.*</svg>", data["text/html"], re.DOTALL)[0]
    assert 'width="500"' in drawing[:400]
    light = re.sub(r"var\(--kit-([0-9a-f]{6}),#\1\)", r"#\1", drawing)
    body = re.compile(r"<g id=\"figure_1\">.*</svg>", re.DOTALL)
    assert body.search(light)[0] == body.search(svg_bytes(fig, ground=False).decode())[0]  # on white: the same picture

    used = set(re.findall(r"var\(--kit-([0-9a-f]{6})", drawing))
    assert {colour[1:] for colour in (style.INK, style.MUTED, style.BLUE.lower(), "#fbe6cf")} <= used
    assert used == set(re.findall(r"--kit-([0-9a-f]{6}):#", data["text/html"]))  # each has one for the dark page
    assert not re.search(r"(fill|stroke): #(?!000000)", drawing)

    ground = next(iter(ElementTree.fromstring(drawing).iter("{http://www.w3.org/2000/svg}path")))
    assert "fill: none" in ground.get("style")
    assert "metadata" not in drawing
    assert re.findall(r"<style[^>]*>([^{]*)\{", drawing) == [".kit-figure *"]  # no rule for the whole page
