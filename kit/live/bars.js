// Draws softened distributions as the kernel describes them (kit/live/drawn.py, `Bars`): a row a class, a bar a network.

const escaped = (text) => String(text).replace(/[&<>"]/g, (letter) => `&#${letter.charCodeAt(0)};`);

function bar(kind, share, end) {
  return share === null ? "" : `<i class="kit-${kind}" style="width:calc((100% - 3em) * ${Math.min(1, share / end)})"></i>` +
    `<span>${share.toFixed(2)}</span>`;
}

function render({ model, el }) {
  el.classList.add("kit-live", "kit-bars");
  const draw = () => {
    const { title, rows, others, end, words } = model.get("shown");
    if (!rows) return;
    const lines = rows.map(([name, teacher, student, isTrue]) =>
      `<tr><th scope="row" title="${escaped(name)}">${isTrue ? "✓ " : ""}${escaped(name)}</th>` +
      `<td><div>${bar("teacher", teacher, end)}</div><div>${bar("student", student, end)}</div></td></tr>`);
    el.innerHTML = `<table><caption><b>${escaped(title)}</b>` +
      (rows[0][1] === null ? "" : `<span><i class="kit-teacher"></i>teacher</span>`) +
      `<span><i class="kit-student"></i>student</span><span>✓ true class</span></caption>${lines.join("")}</table>` +
      `<p>${escaped(others)}</p><p class="kit-words">${escaped(words)}</p>`;
  };
  model.on("change:shown", draw);
  draw();
  return () => model.off("change:shown", draw);
}

export default { render };
