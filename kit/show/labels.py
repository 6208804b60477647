"""Names for screen readers: ipywidgets ties a label to a drop-down, but neither to a slider nor to a picture."""

from __future__ import annotations

from collections.abc import Mapping

import anywidget
import ipywidgets as widgets
import traitlets


class Labels(anywidget.AnyWidget):
    """A widget without a face that names the page's sliders by the labels beside them, and `pictures` by their words.

    A slider says its value as its readout does, and not to the last digit of a binary fraction.
    """

    pictures = traitlets.Dict().tag(sync=True)  # words by the picture's class

    _esm = """
    const set = (node, name, value) => { if (node.getAttribute(name) !== value) node.setAttribute(name, value); };
    export default {
      initialize({ model }) {
        let waiting = false;
        const label = () => {
          waiting = false;
          for (const slider of document.querySelectorAll(".widget-slider")) {
            const name = slider.querySelector(".widget-label")?.textContent;
            const readout = slider.querySelector(".widget-readout");
            if (!name || !readout) continue;
            set(readout, "aria-label", `${name}, as a number`);
            set(readout, "role", "textbox");
            for (const handle of slider.querySelectorAll(".noUi-handle")) {
              set(handle, "aria-label", name);
              set(handle, "aria-valuetext", readout.textContent);
            }
          }
          for (const [at, words] of Object.entries(model.get("pictures")))
            for (const picture of document.getElementsByClassName(at)) set(picture, "alt", words);
        };
        const soon = () => { if (!waiting) { waiting = true; window.requestAnimationFrame(label); } };
        const changes = new MutationObserver(soon);
        const seen = { childList: true, subtree: true, attributeFilter: ["aria-valuetext"] };
        changes.observe(document.body, seen);
        model.on("change:pictures", soon);
        soon();
        return () => changes.disconnect();
      },
      render() {},
    };
    """

    def __init__(self, pictures: Mapping[str, str] | None = None) -> None:
        super().__init__(pictures=dict(pictures or {}), layout=widgets.Layout(display="none"))
