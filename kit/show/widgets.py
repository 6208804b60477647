"""Sliders over logits: what the temperature does to distributions, losses and its own gradient.

Pictures are `Image.value` from a matplotlib `Figure` whose artists are moved, not made anew; nothing prints, no Output
widget and no pyplot. While a slider is dragged, changes that arrive before the next picture make one picture.
"""

from __future__ import annotations

import asyncio
import html
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import anywidget
import ipywidgets as widgets
import numpy as np
import torch
import traitlets
from torch import Tensor

from kit.derivation.numeric import Cases
from kit.errors import KitError
from kit.losses import eq1_hinton, eq1_printed, hard_cross_entropy, soft_cross_entropy
from kit.runtime.threads import one_thread
from kit.show import style, themes
from kit.show.artefacts import LivePicture, pixels_png
from kit.show.panels import GradientTerms, Softened

K_MAX = 40
WIDTH = 1140  # px: fits JupyterLab's cell at 1280
PICTURES = {
    "thumbnail": "the chosen image",
    "bars": "bars of the teacher's and the student's softened distribution of the chosen image",
    "gradient": "the temperature's gradient and its two terms against t",
}


class TemperatureExplorer(widgets.VBox):
    """Sliders for K, α and t on a batch of logits (N, C) with labels (N,), and a drop-down for one of its images.

    Shows at once the image's softened distributions, the losses (Eq. (1) in both readings, and the improved loss), and
    what moves t. `images` (N, H, W, 3) uint8 are shown beside the drop-down.

    The controls are `k`, `alpha`, `t` and `image`; the displays `bars`, `gradient`, `losses` and `thumbnail`.
    """

    def __init__(
        self,
        teacher_logits: Tensor,
        student_logits: Tensor,
        labels: Tensor,
        classes: Sequence[str],
        k: int = 20,
        alpha: float = 0.5,
        images: np.ndarray | None = None,
    ) -> None:
        zt, zs = (torch.as_tensor(given).detach().double() for given in (teacher_logits, student_logits))
        cases = Cases(zt, zs, torch.as_tensor(labels))
        n, c = zt.shape
        for what, given, wanted in (("classes", classes, c), ("images", images, n)):
            if given is not None and len(given) != wanted:
                raise KitError(f"{len(given)} {what} are not allowed; allowed: {wanted}, to go with logits {n, c}")
        if not 1 <= k <= K_MAX:
            raise KitError(f"k {k!r} is not allowed; allowed: 1 to {K_MAX}")
        if not 0 <= alpha <= 1:
            raise KitError(f"alpha {alpha!r} is not allowed; allowed: 0 to 1")
        self._zt, self._zs, self._labels = zt, zs, cases.y.long()
        self._images = images
        wide = {"style": {"description_width": "112px"}, "layout": widgets.Layout(width="400px", max_width="100%")}
        names = [(f"{i}: {classes[y]}", i) for i, y in enumerate(self._labels.tolist())]
        self.image = widgets.Dropdown(options=names, description="image", **wide)
        self.k = widgets.IntSlider(
            value=k, min=1, max=K_MAX, description="K, threshold", tooltip="K: the highest temperature allowed", **wide
        )
        self.t = widgets.FloatSlider(
            value=k, min=1, max=K_MAX, step=0.1, readout_format=".1f", description="t, temperature",
            tooltip="t: the temperature, between 1 and K", **wide,
        )  # fmt: skip
        self.alpha = widgets.FloatSlider(
            value=alpha, min=0, max=1, step=0.05, description="α, soft share",
            tooltip="α: the weight of the soft loss in Eq. (1)", **wide,
        )  # fmt: skip
        self.bars = _picture(540)
        self.gradient = _picture(540)
        self.thumbnail = _picture(128)
        self.thumbnail.layout.display = None if images is not None else "none"
        self.losses = widgets.HTML()
        with style.styled():
            left, right = style.new_figure(540, 360), style.new_figure(540, 360)
            self._softened = Softened(left.add_axes((0.27, 0.14, 0.69, 0.76)), classes)
            upper, lower = right.add_axes((0.17, 0.68, 0.79, 0.24)), right.add_axes((0.17, 0.14, 0.79, 0.41))
            self._terms = GradientTerms(upper, lower, self._zt, self._zs, K_MAX)
        self._bars_picture = LivePicture(left, self._softened.moving)
        self._gradient_picture = LivePicture(right, self._terms.moving)
        controls = widgets.VBox([self.image, self.k, self.t, self.alpha], layout=widgets.Layout(flex="0 0 auto"))
        side_by_side = widgets.Layout(grid_gap="16px", flex_flow="row wrap")  # below each other where it is narrow
        super().__init__(
            [
                widgets.HBox([controls, self.thumbnail, self.losses], layout=side_by_side),
                widgets.HBox([self.bars, self.gradient], layout=side_by_side),
                Labels({f"kit-{name}": words for name, words in PICTURES.items()}),
                widgets.HTML(themes.PIXELS, layout=widgets.Layout(display="none")),
            ],
            layout=widgets.Layout(width=f"{WIDTH}px", max_width="100%"),
        )
        for name in PICTURES:
            getattr(self, name).add_class(f"kit-{name}")
        for chart in (self.bars, self.gradient):
            chart.add_class(themes.CHART)
        self._shown: dict[Callable[..., None], list] = {}  # of what state each display is
        # ipywidgets lowers t with its end; a slider's ends must differ, so that at K = 1 `draw` holds t itself at 1
        widgets.dlink((self.k, "value"), (self.t, "max"), lambda k: max(float(k), 1.1))
        self._redraw = Coalesced(self.draw)
        for control in (self.k, self.t, self.alpha, self.image):
            control.observe(lambda _: self._redraw(), "value")
        self.draw()

    def draw(self) -> None:
        """Brings every display up to date; what has not changed is left alone."""
        k, alpha, i = self.k.value, self.alpha.value, self.image.value
        t = min(self.t.value, float(k))
        if t != self.t.value:
            self.t.value = t
        with style.styled():
            for show, *state in (
                (self._show_thumbnail, i),
                (self._show_bars, i, t),
                (self._show_gradient, t, k),
                (self._show_losses, i, t, alpha),
            ):
                if self._shown.get(show) != state:
                    show(*state)
                    self._shown[show] = state

    def _show_thumbnail(self, i: int) -> None:
        if self._images is not None:
            pixels = np.asarray(self._images[i])
            factor = max(1, round(128 / max(pixels.shape[:2])))
            self.thumbnail.value = pixels_png(pixels.repeat(factor, 0).repeat(factor, 1))

    def _show_bars(self, i: int, t: float) -> None:
        self._softened.update(self._zt[i], self._zs[i], t, int(self._labels[i]))
        self.bars.value = self._bars_picture.png(self._softened.background)

    def _show_gradient(self, t: float, k: int) -> None:
        self._terms.update(t, k)
        self.gradient.value = self._gradient_picture.png(self._terms.background)

    def _show_losses(self, i: int, t: float, alpha: float) -> None:
        self.losses.value = losses_table(self._zt, self._zs, self._labels, t, alpha, i)


temperature_explorer = TemperatureExplorer  # as a notebook calls it


class Labels(anywidget.AnyWidget):
    """A widget without a face that names the page's sliders by the labels beside them, and `pictures` by their words,
    for screen readers: ipywidgets ties a label to a drop-down, but neither to a slider nor to a picture.

    A slider says its value as its readout does, and not to the last digit of a binary fraction.
    """

    pictures = traitlets.Dict().tag(sync=True)  # words by the picture's class
    _esm = Path(__file__).with_name("labels.js")

    def __init__(self, pictures: Mapping[str, str] | None = None) -> None:
        super().__init__(pictures=dict(pictures or {}), layout=widgets.Layout(display="none"))


class Coalesced:
    """Calls `draw` as soon as it is asked to, but a pause after the last time, and once for all requests until then.

    The pause lets the kernel read the messages that came in while it drew, so a dragged slider's picture is never more
    than one behind. Where no event loop runs it draws before it returns.
    """

    def __init__(self, draw: Callable[[], None], pause: float = 0.02) -> None:
        self._draw, self._pause = draw, pause
        self._waiting, self._drawn_at = False, -math.inf

    def __call__(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._draw()
            return
        if not self._waiting:
            self._waiting = True
            loop.call_later(max(0.0, self._drawn_at + self._pause - loop.time()), self._now, loop)

    def _now(self, loop: asyncio.AbstractEventLoop) -> None:
        self._waiting = False
        self._draw()
        self._drawn_at = loop.time()


@one_thread()
def losses_table(zt: Tensor, zs: Tensor, y: Tensor, t: float, alpha: float, i: int) -> str:
    """HTML: the paper's losses at temperature t for image i and the batch (N, C), in nats, and how hard each pulls.

    The pull is the mean over the batch of ‖∂loss/∂zs‖ of each image: what the student is moved by.
    """
    floor = math.floor(t)
    if floor > 1:
        soft = [
            (f"improved, ⌊t⌋ = {floor}", "L_D", lambda zt, zs, y: soft_cross_entropy(zt, zs, floor)),
            ("improved, with t²", "⌊t⌋²·L_D", lambda zt, zs, y: floor**2 * soft_cross_entropy(zt, zs, floor)),
        ]
    else:
        soft = [("improved, ⌊t⌋ = 1", "L_S", lambda zt, zs, y: hard_cross_entropy(zs, y))]
    rows = [
        ("Eq. (1), printed", "α·L_D + (1−α)·L_S(t)", lambda zt, zs, y: eq1_printed(zt, zs, y, t, alpha)),
        ("Eq. (1), Hinton", "α·t²·L_D + (1−α)·L_S(1)", lambda zt, zs, y: eq1_hinton(zt, zs, y, t, alpha)),
        *soft,
    ]
    cells = []
    for name, formula, loss in rows:
        leaf = zs.detach().requires_grad_()
        batch = loss(zt, leaf, y)
        (pull,) = torch.autograd.grad(batch * len(zs), leaf)  # (N, C)
        one = loss(zt[i : i + 1], zs[i : i + 1], y[i : i + 1])
        numbers = "".join(
            f'<td style="{_RIGHT}">{float(v):.3f}</td>' for v in (one, batch.detach(), pull.norm(dim=1).mean())
        )
        cells.append(
            f'<tr><td style="{_LEFT}">{html.escape(name)}</td><td style="{_LEFT}">{formula}</td>{numbers}</tr>'
        )
    heads = [("loss", _LEFT), ("formula", _LEFT), ("this image", _RIGHT), ("batch", _RIGHT), ("pull", _RIGHT)]
    head = "".join(f'<th scope="col" style="{side}">{name}</th>' for name, side in heads)
    return (
        f'<table style="border-collapse:collapse;line-height:1.5"><caption style="text-align:left;caption-side:bottom">'
        f"t = {t:.1f}, α = {alpha:.2f}; nats; pull: mean ‖∂loss/∂z<sub>s</sub>‖</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(cells)}</tbody></table>"
    )


_LEFT = "text-align:left;padding:0 10px 0 0"
_RIGHT = "text-align:right;padding:0 0 0 10px;font-variant-numeric:tabular-nums"


def _picture(width: int) -> widgets.Image:
    # no tooltip: with one, the page cannot show an Image of ipywidgets 8.1 at all
    layout = widgets.Layout(width="auto", min_width="0", max_width=f"{width}px", flex=f"1 1 {0.7 * width:.0f}px")
    return widgets.Image(format="png", layout=layout)
