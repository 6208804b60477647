"""Class names in any script: drawn by a font that has them, else transliterated, without a warning."""

from __future__ import annotations

import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.font_manager import fontManager, get_font
from matplotlib.text import Text

from kit.show import letters
from kit.show.artefacts import png_bytes, svg_bytes
from kit.show.html_tables import plain_table
from kit.show.letters import drawable
from kit.show.pages import contact_sheet

IMAGES = np.zeros((2, 8, 8, 3), np.uint8)
OWN = [entry for entry in fontManager.ttflist if Path(entry.fname).is_relative_to(matplotlib.get_data_path())]


@pytest.fixture(autouse=True)
def fonts(monkeypatch):
    """As where no font is but matplotlib's own: DejaVu, STIX and Computer Modern."""
    monkeypatch.setattr(fontManager, "ttflist", OWN)
    forget()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    forget()


def forget() -> None:
    del letters.FAMILIES[1:]
    letters._is_drawn.cache_clear()
    letters._tell.cache_clear()


def texts(figure) -> set[str]:
    return {text.get_text() for text in figure.findobj(Text)} - {""}


def test_letters_that_no_font_has_are_transliterated_and_that_is_said_once(capsys):
    figure = contact_sheet(IMAGES, ["巡洋舰", "Schiff ✓"], title="角色")
    assert texts(figure) == {"XunYangJian", "Schiff ✓", "JiaoSe"}
    assert png_bytes(figure) and svg_bytes(figure)
    table = plain_table(pd.DataFrame({"类": ["舟"], "n": [2]}), "舟")
    assert "舟" in table.html  # a browser has fonts of its own
    assert {"Lei", "Zhou"} <= texts(table.picture())
    assert capsys.readouterr().err.count("\n") == 1


def test_another_font_that_has_the_letter_draws_it():
    have = {family: set().union(*(get_font(e.fname).get_charmap() for e in OWN if e.name == family))
            for family in ("DejaVu Sans", "STIXGeneral")}  # fmt: skip
    letter = next(chr(code) for code in sorted(have["STIXGeneral"] - have["DejaVu Sans"]) if chr(code).isalpha())
    latin = contact_sheet(IMAGES, ["ship", "yacht"], title="Latin")
    before = png_bytes(latin), svg_bytes(latin)
    figure = contact_sheet(IMAGES, [f"{letter} ship", "yacht"])
    assert texts(figure) == {f"{letter} ship", "yacht"} and len(letters.FAMILIES) == 2
    assert png_bytes(figure) != png_bytes(contact_sheet(IMAGES, ["  ship", "yacht"]))  # something is there
    latin = contact_sheet(IMAGES, ["ship", "yacht"], title="Latin")
    assert (png_bytes(latin), svg_bytes(latin)) == before


def test_plain_names_stay_as_they_are():
    for text in ("ResNet-34", "α, ⌊t⌋ ½ → ✓", "Ärger\nŁódź", "Крейсер"):
        assert drawable(text) == text
    assert letters.FAMILIES == ["DejaVu Sans"]


def test_long_names_stay_apart():
    figure = contact_sheet(
        IMAGES, ["Pneumonoultramicroscopicsilicovolcanoconiosis" * 2, "a name of many words " * 9], 2
    )
    boxes = [text.get_window_extent() for text in figure.findobj(Text) if text.get_text()]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
