"""Figures in the page's theme: no ground of their own, and other colours where the page is dark."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape

from matplotlib.colors import to_hex, to_rgb

from kit.show.style import DPI, SMALL

DARK = '[data-jp-theme-light="false"], .vscode-dark'  # JupyterLab's and Voilà's pages, and VS Code's
GROUND = 0.07  # a dark page's luma; a pale colour's is as far above it as it is below white
BLACK = "000000"  # what an SVG leaves unsaid
LEAST = 10 / (SMALL * DPI / 72)  # of its own width: where there is less room it scrolls, so that letters have 10 px
CHART = "kit-chart"  # the class of a chart that is pixels: on a dark page its lightness is turned, its hues stay
PIXELS = f"<style>:is({DARK}) .{CHART} {{ filter: invert({1 - GROUND}) hue-rotate(180deg) }}</style>"
PALE = 0.8  # the luma from which on a colour is one of grounds and rules, not of lines and letters

_COLOUR = re.compile(r"(?<=: )#([0-9a-f]{6})(?=[;\"])")
_SIZE = re.compile(r' width="\S+" height="\S+"')


def themed(svg: bytes, alt: str, width: int, instead: str) -> str:
    """Returns a figure's SVG as HTML that follows the page's theme. `instead` is shown where HTML may not have SVG, as
    in a notebook that JupyterLab does not trust."""
    drawing = svg.decode().replace('<style type="text/css">*{', '<style type="text/css">.kit-figure *{')
    dark = nights({BLACK, *_COLOUR.findall(drawing)})
    drawing = _COLOUR.sub(r"var(--kit-\1,#\1)", drawing[drawing.index("<svg") :])
    look = f"max-width:100%;min-width:{LEAST * width:.0f}px;height:auto;fill:var(--kit-{BLACK},#{BLACK})"
    drawing = _SIZE.sub(f' width="{width}" style="{look}" aria-hidden="true"', drawing, count=1)
    style = f".kit-figure{{overflow-x:auto}} .kit-figure+img{{display:none}} :is({DARK}) .kit-figure{{{dark}}}"
    label = f'class="kit-figure" role="img" aria-label="{escape(alt)}"'
    return f"<div {label}><style>{style}</style>{drawing}</div>{instead}"


def nights(colours: Iterable[str]) -> str:
    """Returns CSS that gives each colour, `rrggbb`, a name and what it is on a dark page: `--kit-rrggbb:#…;…`."""
    return ";".join(f"--kit-{colour}:{night(colour)}" for colour in sorted(colours))


def night(colour: str) -> str:
    """Returns the colour on a dark page of one on white, `rrggbb`: its channels, shifted by one number, so that
    ink is light and pale shades are dark; what is neither stays."""
    channels = to_rgb(f"#{colour}")
    luma = sum(share * channel for share, channel in zip((0.2126, 0.7152, 0.0722), channels, strict=True))
    wanted = 1 - (1 - GROUND) * luma if luma > PALE else max(luma, 1 - luma)
    return to_hex([min(1.0, max(0.0, channel + wanted - luma)) for channel in channels])
