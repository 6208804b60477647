"""Names in any script, drawn: DejaVu Sans lacks Chinese and other letters, which another font of this system may have.

Such a font is looked for when it is needed, and stands behind DejaVu Sans from then on: a letter is drawn by the first
font that has it. Letters that no font has are transliterated, which is said once.
"""

from __future__ import annotations

import sys
from functools import cache

import matplotlib
from matplotlib.font_manager import FontEntry, fontManager, get_font

FAMILIES = ["DejaVu Sans"]  # comes with matplotlib: the same everywhere
BOXES = "Last Resort High-Efficiency"  # has a box for every letter
SPACES = "\n\u00a0"  # of a text's layout: nothing to draw


def drawable(text: str) -> str:
    """The text as it can be drawn."""
    if text.isascii():
        return text
    lost = {letter for letter in text if letter not in SPACES and not _is_drawn(letter)}
    if not lost:
        return text
    from anyascii import anyascii  # where it is needed: its tables take memory

    _tell()
    return "".join(anyascii(letter) if letter in lost else letter for letter in text)


@cache
def _tell() -> None:
    """Says it once a process."""
    print("letters that no font of this system has are transliterated in pictures; another font helps", file=sys.stderr)


@cache
def _is_drawn(letter: str) -> bool:
    """Whether one of the fonts has it, or one can be found that does."""
    if any(_has(entry, letter) for entry in fontManager.ttflist if entry.name in FAMILIES):
        return True
    for entry in sorted(fontManager.ttflist, key=_preference):
        if _has(entry, letter):
            FAMILIES.append(entry.name)
            matplotlib.rcParams["font.family"] = FAMILIES  # of the figure that is being made, too
            return True
    return False


def _preference(entry: FontEntry) -> tuple[bool, bool, bool, str]:
    """Upright sans-serif letters of usual weight come first."""
    return "Sans" not in entry.name, entry.style != "normal", entry.weight not in (400, "normal", "regular"), entry.name


def _has(entry: FontEntry, letter: str) -> bool:
    return entry.name != BOXES and ord(letter) in _letters(entry.fname)


@cache
def _letters(file: str) -> frozenset[int]:
    try:
        return frozenset(get_font(file).get_charmap())
    except (OSError, RuntimeError):  # a font that is gone or damaged has none
        return frozenset()
