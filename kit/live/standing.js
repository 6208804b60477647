// Draws how sessions stand (kit/live/drawn.py, `Standing`): in words, with lines to be copied, and by curves as the kernel
// describes them (kit/live/plots.py, `Curves`), each panel an SVG in px of the page. Whenever something or the page's width
// has changed, at most once a frame; what stays as it was is left alone: lines that only went on keep their elements and
// get another path.

const HEIGHT = 176, LEFT = 48, RIGHT = 18, TOP = 6, BOTTOM = 20; // of a panel and of its margins, px
const INKS = { "#1a1a1a": "var(--kit-ink)", "#555555": "var(--kit-muted)" }; // follow the page's theme

const escaped = (text) => String(text).replace(/[&<>"]/g, (letter) => `&#${letter.charCodeAt(0)};`);
const worded = (text) => escaped(text).replace(/(\p{L})_(\p{L})/gu, "$1<sub>$2</sub>");
const ink = (colour) => INKS[colour] ?? colour;
const floats = (view) => new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));

/** A line's x and y: the places that it names among all points. */
const ends = (line, points) => [points.subarray(...line.x), points.subarray(...line.y)];

/** About so many round numbers between two. */
function ticks(low, high, count) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => +((first + i) * step).toPrecision(9));
}

/** Powers of ten, at most five; of a single decade also twice and five times the lower. */
function decades(low, high) {
  const first = Math.round(Math.log10(low)), last = Math.round(Math.log10(high)), by = Math.ceil((last - first) / 5);
  if (last - first === 1) return [1, 2, 5, 10].map((factor) => factor * low);
  return Array.from({ length: Math.floor((last - first) / by) + 1 }, (_, i) => 10 ** (first + i * by));
}

/** As short as it goes: 0.05, −2, 5e−5. */
function number(y) {
  const short = +y.toPrecision(6);
  return (short && Math.abs(short) < 1e-3 ? short.toExponential() : String(short)).replaceAll("-", "−");
}

/** A line's path: a gap where a value is no number, a corner before each point of a staircase. */
function path(line, points, X, Y) {
  const [x, y] = ends(line, points);
  let d = "", open = false;
  for (let i = 0; i < x.length; i++) {
    if (Number.isNaN(y[i])) { open = false; continue; }
    const at = X(x[i]).toFixed(1), to = Y(y[i]).toFixed(1);
    d += open ? (line.steps ? `H${at}V${to}` : `L${at} ${to}`) : `M${at} ${to}`;
    open = true;
  }
  return d;
}

function stroke(line) {
  const dash = line.dash.length ? ` stroke-dasharray="${line.dash.map((px) => px * line.width).join(" ")}"` : "";
  return `fill="none" stroke="${ink(line.colour)}" stroke-width="${line.width}" stroke-opacity="${line.opacity}"${dash}`;
}

/** A line's elements, by how they look and by where they go. */
function drawn(line, points, X, Y) {
  if (!line.marker) return [[stroke(line), path(line, points, X, Y)]];
  const [x, y] = ends(line, points); // a dot is a line of no length, with its cap
  const d = Array.from(x, (at, i) => `M${X(at).toFixed(1)} ${Y(y[i]).toFixed(1)}h0`).join("");
  const cap = (colour, width) => `stroke="${colour}" stroke-width="${width}" stroke-linecap="${line.marker === "s" ? "square" : "round"}"`;
  return [[cap("var(--kit-ground)", line.width + 2), d], [cap(ink(line.colour), line.width + 1), d]];
}

/** What seldom changes, the lines' elements, and their paths. */
function parts(panel, shown, points, width) {
  const log = panel.scale === "log", of = log ? Math.log10 : (y) => y, low = of(panel.low), high = of(panel.high);
  const X = (x) => LEFT + (x / shown.total) * (width - LEFT - RIGHT);
  const Y = (y) => TOP + (1 - (Math.min(Math.max(of(y), low - 1), high + 1) - low) / (high - low)) * (HEIGHT - TOP - BOTTOM);
  const floor = HEIGHT - BOTTOM, right = width - RIGHT;
  const bands = shown.bands.filter(([, first, end]) => end > first).map(([name, first, end, shade]) =>
    `<rect class="kit-band" x="${X(first)}" y="${TOP}" width="${X(end) - X(first)}" height="${floor - TOP}" fill="${shade}"/>` +
    (panel.scale === "percent" && X(end) - X(first) > 7 * name.length
      ? `<text class="kit-soft" x="${X(first) + 5}" y="${TOP + 13}">${escaped(name)}</text>` : ""));
  const rows = (log ? decades(panel.low, panel.high) : ticks(panel.low, panel.high, 4)).map((y) => {
    const said = panel.scale === "percent" ? Math.round(100 * y) : number(y);
    return `<line class="kit-grid" x1="${LEFT}" x2="${right}" y1="${Y(y)}" y2="${Y(y)}"/>` +
      `<text class="kit-soft" x="${LEFT - 6}" y="${Y(y) + 4}" text-anchor="end">${said}</text>`;
  });
  const whole = ticks(0, shown.total, width / 90).filter(Number.isInteger);
  const columns = whole.map((x) => `<text class="kit-soft" x="${X(x)}" y="${HEIGHT - 5}" text-anchor="middle">${x}</text>`);
  const zero = panel.low < 0 ? `<line class="kit-zero" x1="${LEFT}" x2="${right}" y1="${Y(0)}" y2="${Y(0)}"/>` : "";
  const marks = shown.marks.map((at) => `<line class="kit-mark" x1="${X(at)}" x2="${X(at)}" y1="${TOP}" y2="${floor}"/>`);
  const last = shown.marks.at(-1), leftwards = last > 0.75 * shown.total;
  const said = panel.note
    ? `<text x="${X(last) + (leftwards ? -4 : 4)}" y="${floor - 5}" text-anchor="${leftwards ? "end" : "start"}">${escaped(panel.note)}</text>` : "";
  const frame = `<path class="kit-frame" d="M${LEFT} ${TOP}V${floor}H${right}"/>`;
  const axes = [...bands, ...rows, ...columns, zero, ...marks, said, frame].join("");
  const lines = panel.lines.flatMap((line) => drawn(line, points, X, Y));
  return { axes, looks: lines.map(([look]) => `<path ${look}/>`).join(""), paths: lines.map(([, d]) => d) };
}

function legend(panel) {
  return panel.lines.filter((line) => line.name).map((line) =>
    `<span><svg width="24" height="8"><path d="M1 4H23" ${stroke(line)}/></svg>${worded(line.name)}</span>`).join("");
}

// only what differs, as the page works on whatever is given
const put = (what, inside) => { if (what.kit !== inside) what.innerHTML = what.kit = inside; };
const set = (what, name, value) => { if (what.getAttribute(name) !== value) what.setAttribute(name, value); };

/** A line to be copied, with what it is about and a button that copies it. */
function copyable([about, line]) {
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
}

function render({ model, el }) {
  el.classList.add("kit-live");
  el.innerHTML = `<div role="status"></div><div class="kit-lines"></div><div class="kit-curves"></div>`;
  const [status, lines, curves] = el.children;
  let asked = 0, drawings = 0;
  const draw = () => {
    asked = 0;
    put(status, model.get("words"));
    const shown = model.get("shown");
    if (!shown.panels || !curves.clientWidth) return;
    const panels = shown.panels.slice(0, model.get("panels")), points = floats(shown.points);
    while (curves.children.length < panels.length) {
      const figure = curves.appendChild(document.createElement("figure"));
      figure.innerHTML = `<figcaption><span class="kit-title"></span><span class="kit-legend"></span></figcaption><svg role="img" height="${HEIGHT}"><g></g><g></g></svg>`;
    }
    const widths = panels.map((_, i) => curves.children[i].clientWidth); // before anything is changed: the page is laid out once
    panels.forEach((panel, i) => {
      const figure = curves.children[i], svg = figure.lastChild, [axes, lines] = svg.children;
      put(figure.querySelector(".kit-title"), worded(panel.title));
      put(figure.querySelector(".kit-legend"), legend(panel));
      set(svg, "width", String(widths[i]));
      set(svg, "aria-label", `${panel.title}, against batches, of ${shown.total}`);
      const made = parts(panel, shown, points, widths[i]);
      put(axes, made.axes);
      put(lines, made.looks);
      made.paths.forEach((d, j) => set(lines.children[j], "d", d));
    });
    curves.dataset.drawn = ++drawings;
  };
  const ask = () => { asked ||= requestAnimationFrame(draw); };
  const offer = () => lines.replaceChildren(...model.get("lines").map(copyable));
  const resized = new ResizeObserver(ask);
  resized.observe(curves);
  model.on("change:shown change:words", ask);
  model.on("change:lines", offer);
  offer();
  return () => { resized.disconnect(); model.off(null, ask); model.off(null, offer); };
}

export default { render };
