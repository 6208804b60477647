"""Widgets that the page draws: the kernel sends what is shown, a few kilobytes whatever has been trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import anywidget
import traitlets
from torch import Tensor

from kit.losses import softened
from kit.show.panels import Softened, first_classes

HERE = Path(__file__).parent
TOP = 8  # classes whose bars are shown


class Curves(anywidget.AnyWidget):
    """Draws `kit.live.plots.Curves`, sent as their `message`; the first `panels` of them."""

    _esm = HERE / "curves.js"
    _css = HERE / "cockpit.css"
    shown = traitlets.Dict().tag(sync=True)
    panels = traitlets.Int(4).tag(sync=True)


class Bars(anywidget.AnyWidget):
    """Draws an image's softened distributions, see `distributions`."""

    _esm = HERE / "bars.js"
    _css = HERE / "cockpit.css"
    shown = traitlets.Dict().tag(sync=True)


class Lines(anywidget.AnyWidget):
    """Shows lines to be copied, each with what it is about."""

    _esm = HERE / "lines.js"
    _css = HERE / "cockpit.css"
    lines: Sequence[tuple[str, str]] = traitlets.List().tag(sync=True)


def distributions(zt: Tensor | None, zs: Tensor, t: float, classes: Sequence[str], true: int) -> dict[str, object]:
    """Describes p(zt, t) and p(zs, t) of logits (C,) on the teacher's first classes, in its order, with the student's
    first and the true one always among them, and what is left for the others. Without a teacher the student's alone."""
    chosen = first_classes(zs if zt is None else zt, zs, true, TOP)
    ps = softened(zs.double(), t)
    pt = None if zt is None else softened(zt.double(), t)
    rows = [(classes[c], None if pt is None else float(pt[c]), float(ps[c]), c == true) for c in chosen]
    names = {"teacher": pt, "student": ps}
    said = [f"{name}: {classes[int(p.argmax())]} ({float(p.max()):.2f})" for name, p in names.items() if p is not None]
    left = [f"{name} {1 - float(p[chosen].sum()):.2f}" for name, p in names.items() if p is not None]
    rest = len(classes) - len(chosen)
    widest = max(p or 0 for row in rows for p in row[1:3])
    return {
        "title": f"softened at t = {t:.3g}",
        "rows": rows,
        "others": f"{rest} other classes: {', '.join(left)}" if rest else "",
        "end": next(end for end in Softened.SCALES if widest <= end + 1e-9),
        "words": f"t = {t:.2f} · {' · '.join(said)}",
    }
