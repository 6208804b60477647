"""Heat maps to play with: pick network, image, class, method and layer, and blend map and image with a slider.

Pictures are `Image.value`; nothing prints, no Output widget and no pyplot. Changes that arrive before the next picture
make one picture. A map is computed once and kept, so that the slider only blends.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from functools import lru_cache

import ipywidgets as widgets
import torch
from torch import nn

from kit.cam.heat_maps import METHODS, HeatMaps, default_layer, feature_maps, maps, nameable
from kit.errors import KitError
from kit.paper.figure2 import Scenes, Subject, against_regions
from kit.runtime.threads import one_thread
from kit.show.artefacts import pixels_png
from kit.show.cam_figures import enlarged, overlay
from kit.show.widgets import Coalesced, Labels

SIDE = 320  # px
KEPT = 64  # maps
DEFAULT = "default"  # a choice like others: a drop-down has nothing to show for None


def named(subjects: Sequence[Subject]) -> dict[str, nn.Module]:
    """The first seed's explained models and students (trained and not), by what a reader calls them."""
    found, first = {}, min(each.seed for each in subjects)
    for each in (each for each in subjects if each.seed == first):
        if each.temperature == "teacher":
            found[f"{each.student}, explained"] = each.network
        else:
            how = ", ".join(filter(None, (each.temperature, each.reading)))
            found[f"{each.student} of {each.teacher}, {how}"] = each.network
    return found


class CamExplorer(widgets.VBox):
    """Drop-downs over named networks and some of a test split's images; a slider from the image to the map.

    The controls are `network`, `image`, `target`, `method`, `layer` and `blend`; the displays `picture` and `numbers`.
    """

    @one_thread()
    def __init__(self, networks: Mapping[str, nn.Module], scenes: Scenes, images: Sequence[int]) -> None:
        if not networks or not len(images):
            raise KitError("nothing to look at; allowed: at least one network and one image")
        for image in images:
            if not 0 <= image < len(scenes):
                raise KitError(f"image {image} is not there; allowed: 0 to {len(scenes) - 1}")

        @lru_cache(KEPT)
        def heat(network: str, i: int, target: str | int, method: str, layer: str) -> HeatMaps:
            wanted = scenes.labels[i : i + 1] if target == "true" else target
            return maps(networks[network], scenes.x[i : i + 1], wanted, method, None if layer == DEFAULT else layer)

        self._networks, self._scenes, self._heat = networks, scenes, heat
        self._shown: tuple = ()
        wide = {"style": {"description_width": "70px"}, "layout": widgets.Layout(width="330px", max_width="100%")}
        classes = list(scenes.data.classes)
        names = [(f"{i}: {classes[int(scenes.labels[i])]}", int(i)) for i in images]
        targets = [
            ("true class", "true"),
            ("predicted class", "predicted"),
            *zip(classes, range(len(classes)), strict=True),
        ]
        self.network = widgets.Dropdown(options=list(networks), description="network", **wide)
        self.image = widgets.Dropdown(options=names, description="image", **wide)
        self.target = widgets.Dropdown(options=targets, description="class", **wide)
        self.method = widgets.Dropdown(options=list(METHODS), description="method", **wide)
        self.layer = widgets.Dropdown(description="layer", **wide)
        self.blend = widgets.FloatSlider(value=0.6, min=0, max=1, step=0.05, description="blend",
                                         tooltip="0: the image, 1: the map", **wide)  # fmt: skip
        self.picture = widgets.Image(format="png", layout=widgets.Layout(width=f"{SIDE}px", max_width="100%"))
        self.picture.add_class("kit-map")
        self.numbers = widgets.HTML()
        self._offer_layers()
        self._controls = [self.network, self.image, self.target, self.method, self.layer, self.blend]
        side_by_side = widgets.Layout(grid_gap="16px", flex_flow="row wrap")  # below each other where it is narrow
        super().__init__(
            [
                widgets.HBox([widgets.VBox(self._controls), self.picture, self.numbers], layout=side_by_side),
                Labels({"kit-map": "the chosen image, blended with its heat map"}),
            ]
        )
        self._redraw = Coalesced(self.draw)
        self.network.observe(lambda _: self._offer_layers(), "value")
        for control in self._controls:
            control.observe(lambda _: self._redraw(), "value")
        self.draw()

    @one_thread()
    def _offer_layers(self) -> None:
        """The chosen network's layers, the default first; one that it has too stays chosen."""
        network, x = self._networks[self.network.value], self._scenes.x[:1]
        sizes = feature_maps(network, x)
        usual = default_layer(network, x, sizes)
        names = nameable(network, sizes)
        before = self.layer.value
        shown = {name: f"{name} ({rows}×{columns})" for name, (rows, columns) in sizes.items()}
        self.layer.options = [(f"default: {shown[usual]}", DEFAULT), *((shown[name], name) for name in names)]
        self.layer.value = before if before in names else DEFAULT

    @one_thread()
    def draw(self) -> None:
        """Brings picture and numbers up to date."""
        state = tuple(control.value for control in self._controls)
        if state == self._shown:
            return
        i = self.image.value
        mixed = self._scenes.pixels[i]
        try:
            found = self._heat(*state[:-1])
            mixed = overlay(mixed, found.maps[0], self.blend.value)
            self.numbers.value = _numbers(found, self._scenes, i)
        except KitError as error:  # a layer without a part in the logits, say: nobody else would be told
            self.numbers.value = html.escape(str(error))
        self.picture.value = pixels_png(enlarged(mixed, self._scenes.box(i), SIDE))
        self._shown = state


cam_explorer = CamExplorer  # as a notebook calls it


def _numbers(found: HeatMaps, scenes: Scenes, i: int) -> str:
    """HTML: what the network says of image i, and the map's scores."""
    classes, p = scenes.data.classes, torch.softmax(found.logits[0].double(), 0)
    first, of = int(found.predicted[0]), int(found.classes[0])
    lines = [
        ("true class", classes[int(scenes.labels[i])]),
        ("predicted", f"{classes[first]} ({p[first]:.0%})"),
        ("map for", f"{classes[of]} ({p[of]:.0%})"),
        ("layer", found.layer),
    ]
    if scenes.masks is not None:
        here = slice(i, i + 1)
        parts = scenes.x, scenes.labels, scenes.pixels, scenes.masks, scenes.boxes, scenes.shortcuts
        one = Scenes(scenes.data, *(part if part is None else part[here] for part in parts))
        score = {name: float(value[0]) for name, value in against_regions(found.maps, one).items()}
        if score["empty"]:
            lines.append(("scores", "none: the map is empty"))
        else:
            shown = {f"energy on {scenes.region}": "energy_mask", "energy in box": "energy_box", "IoU": "iou",
                     "on shortcut": "energy_shortcut"}  # fmt: skip
            values = {name: score[column] for name, column in shown.items() if column in score}
            lines += [(name, "none in view" if value != value else f"{value:.0%}") for name, value in values.items()]
            lines.append((f"chance on {scenes.region}", f"{scenes.masks[i].mean():.0%}"))
    rows = "".join(
        f'<tr><th scope="row" style="{_LEFT};font-weight:normal">{name}</th>'
        f'<td style="{_LEFT}">{html.escape(str(value))}</td></tr>'
        for name, value in lines
    )
    return f'<table style="border-collapse:collapse;line-height:1.5">{rows}</table>'


_LEFT = "text-align:left;padding:0 14px 0 0"
