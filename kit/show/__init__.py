"""What a reader sees: figures, tables and widgets. The only part of the kit that imports matplotlib and ipywidgets.

- `style`: sizes, colours per label, captions (`source_line`)
- `plots`, `pages`: functions of runs and frames that return a Figure: curves, images
- `glance`: every table's verdicts in one picture
- `panels`: parts of a figure that a widget updates
- `tables`: means with 95 % intervals as text
- `table_pictures`: tables, described column by column, and their pictures
- `html_tables`: the tables as a notebook shows them, to read, sort and copy
- `artefacts`: a Figure as files (PNG, SVG and the CSV behind it, byte-stable) and as a notebook's picture
- `widgets`: sliders over a finished run, imported on their own: `from kit.show.widgets import temperature_explorer`
"""

from kit.show.artefacts import picture, png_bytes, save, show
from kit.show.glance import claims_at_a_glance
from kit.show.html_tables import Table, compared_table, plain_table
from kit.show.pages import contact_sheet
from kit.show.plots import accuracy_curves, sensitivity, temperature_trace
from kit.show.style import source_line
from kit.show.table_pictures import Measure
from kit.show.tables import curves, interval, with_interval

__all__ = [
    "Measure",
    "Table",
    "accuracy_curves",
    "claims_at_a_glance",
    "compared_table",
    "contact_sheet",
    "curves",
    "interval",
    "picture",
    "plain_table",
    "png_bytes",
    "save",
    "sensitivity",
    "show",
    "source_line",
    "temperature_trace",
    "with_interval",
]
