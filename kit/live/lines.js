// Shows lines to be copied (kit/live/drawn.py, `Lines`), each with a button that does so.

function render({ model, el }) {
  el.classList.add("kit-live", "kit-lines");
  const draw = () => el.replaceChildren(...model.get("lines").map(([about, line]) => {
    const row = document.createElement("p"), code = document.createElement("code"), copy = document.createElement("button");
    code.textContent = line;
    copy.textContent = "Copy";
    copy.className = "jupyter-button widget-button";
    copy.setAttribute("aria-label", `Copy the line: ${about}`);
    copy.onclick = async () => {
      try {
        await navigator.clipboard.writeText(line);
        copy.textContent = "Copied";
      } catch { // a page without a certificate has no clipboard: mark the line for Ctrl+C
        getSelection().selectAllChildren(code);
        copy.textContent = "Press Ctrl+C";
      }
    };
    row.append(about, copy, code);
    return row;
  }));
  model.on("change:lines", draw);
  draw();
  return () => model.off("change:lines", draw);
}

export default { render };
