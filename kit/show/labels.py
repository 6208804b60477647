"""Names for screen readers: ipywidgets ties a label to a drop-down, but neither to a slider nor to a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import anywidget
import ipywidgets as widgets
import traitlets


class Labels(anywidget.AnyWidget):
    """A widget without a face that names the page's sliders by the labels beside them, and `pictures` by their words.

    A slider says its value as its readout does, and not to the last digit of a binary fraction.
    """

    pictures = traitlets.Dict().tag(sync=True)  # words by the picture's class

    _esm = Path(__file__).with_name("labels.js")

    def __init__(self, pictures: Mapping[str, str] | None = None) -> None:
        super().__init__(pictures=dict(pictures or {}), layout=widgets.Layout(display="none"))
