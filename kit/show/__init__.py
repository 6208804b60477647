"""What a reader sees: figures, tables and widgets. The only part of the kit that imports matplotlib and ipywidgets.

- `style`: sizes, colours per label, captions (`source_line`)
- `plots`: functions of runs, frames and logits that return a Figure
- `tables`: means with 95 % intervals, FLOPs and minutes as text
- `artefacts`: a Figure as files (PNG, SVG and the CSV behind it, byte-stable) and as a notebook's picture
- `widgets`: sliders over a finished run, imported on their own: `from kit.show.widgets import temperature_explorer`
"""

from kit.show.artefacts import picture, png_bytes, save, show
from kit.show.plots import (
    Measure,
    accuracy_curves,
    compare_table,
    contact_sheet,
    dot_intervals,
    gradient_terms,
    sensitivity,
    softened_bars,
    table_picture,
    temperature_trace,
)
from kit.show.style import source_line
from kit.show.tables import curves, interval, minutes, ratios, si_flops, with_interval

__all__ = [
    "Measure",
    "accuracy_curves",
    "compare_table",
    "contact_sheet",
    "curves",
    "dot_intervals",
    "gradient_terms",
    "interval",
    "minutes",
    "picture",
    "png_bytes",
    "ratios",
    "save",
    "sensitivity",
    "show",
    "si_flops",
    "softened_bars",
    "source_line",
    "table_picture",
    "temperature_trace",
    "with_interval",
]
