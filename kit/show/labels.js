// Names sliders and pictures as `Labels` of kit/show/widgets.py describes.

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
