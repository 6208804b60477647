"""What drawing the cockpit's curves costs by three widgets: the kit's own, Plotly's FigureWidget and bqplot.

    python -m benchmarks.plotting --json

Each shows the same four panels of a history of 10,000 batches, thinned alike, and is given new numbers ten times a
second in JupyterLab. By widget and update: `kernel_ms` of the kernel's thread, `page_ms` of the page's main thread (all
its tasks, by the browser's own count), `kilobytes` that reach the page, and of `drawn_hz` how many updates were drawn a
second (the kit's own says so itself; of the others a frame a change of their SVG). Plotly and bqplot are installed for
the run alone, into a scratch folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import nbformat
import typer
from playwright.sync_api import Page

from benchmarks import pages
from benchmarks.report import Ended, command

PEERS = ("plotly", "bqplot")
HISTORY = """
import numpy as np, time, asyncio, json
from kit.live.plots import curves, message
from kit.live.state import History, State
from kit.temperature import Adaptive

rng, steps = np.random.default_rng(0), np.arange(10_000.0)
columns = [1000 * np.exp(-steps / 3000) + rng.random(10_000), rng.random(10_000), 20 - steps / 600,
           np.floor(20 - steps / 600), -rng.random(10_000), rng.random(10_000)]

def described(n):
    history = History(*(column[:n] for column in columns))
    return curves([State(step=n, total=10_000, history=history, stages=(("small teacher", 0),),
                         policy=Adaptive(k=20, rate=1), at=19.0)])
"""
WIDGETS = {
    "kit": """
from kit.live.drawn import Curves
shown = Curves()
def update(new):
    shown.shown = message(new)
shown
""",
    "plotly": """
from plotly.graph_objects import FigureWidget, Scatter
from plotly.subplots import make_subplots
first = described(9_000)
shown = FigureWidget(make_subplots(2, 2, subplot_titles=[panel.title for panel in first.panels]))
for i, panel in enumerate(first.panels):
    for line in panel.lines:
        look = {"color": line.colour, "width": line.width, "shape": "hv" if line.steps else "linear"}
        shown.add_trace(Scatter(mode="lines", name=line.name, line=look), row=1 + i // 2, col=1 + i % 2)
shown.update_layout(height=430, showlegend=False)
def update(new):
    with shown.batch_update():
        for trace, line in zip(shown.data, [line for panel in new.panels for line in panel.lines]):
            trace.x, trace.y = line.x, line.y
shown
""",
    "bqplot": """
import bqplot, ipywidgets
first = described(9_000)
marks, figures = [], []
for panel in first.panels:
    x, y = bqplot.LinearScale(min=0, max=10_000), (bqplot.LogScale if panel.scale == "log" else bqplot.LinearScale)()
    lines = [bqplot.Lines(x=[0.0], y=[1.0], scales={"x": x, "y": y}, colors=[line.colour]) for line in panel.lines]
    axes = [bqplot.Axis(scale=x), bqplot.Axis(scale=y, orientation="vertical")]
    marks += lines
    figures.append(bqplot.Figure(marks=lines, axes=axes, title=panel.title, animation_duration=0,
                                 layout=ipywidgets.Layout(width="560px", height="215px")))
def update(new):
    for mark, line in zip(marks, [line for panel in new.panels for line in panel.lines]):
        if len(line.x):
            with mark.hold_sync():
                mark.x, mark.y = line.x, line.y
ipywidgets.GridBox(figures, layout=ipywidgets.Layout(grid_template_columns="560px 560px"))
""",
}
GO = """
async def go(updates):
    spent, started = 0.0, time.perf_counter()
    for n in range(10_000 - updates, 10_000):
        new = described(n)
        begin = time.thread_time()
        update(new)
        spent += time.thread_time() - begin
        await asyncio.sleep(0.1)
    done.value = json.dumps([1000 * spent / updates, updates / (time.perf_counter() - started)])
from ipywidgets import HTML
done = HTML("waits")
done.add_class("kit-done")
task = asyncio.get_running_loop().create_task(go({updates}))
done
"""

COUNT = """() => {
  let asked = 0;
  window.kitDrawn = 0;
  const drawn = () => { asked ||= requestAnimationFrame(() => { asked = 0; window.kitDrawn++; }); };
  const how = { subtree: true, childList: true, attributes: true, attributeFilter: ['d'] };
  new MutationObserver(drawn).observe(document.querySelector('.jp-OutputArea'), how);
}"""


def install(scratch: Path) -> dict[str, str]:
    """Installs the peers into a scratch folder; the environment that finds them there."""
    place = scratch / "peers"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--target", str(place), *PEERS], check=True)
    return {"PYTHONPATH": os.pathsep.join([*sys.path, str(place)]), "JUPYTER_PATH": str(place / "share" / "jupyter")}


def measure(page: Page, address: str, folder: Path, name: str, updates: int) -> dict[str, float]:
    book = nbformat.read(pages.ROOT / "notebooks" / "08_playground.ipynb", as_version=4)  # for its metadata
    book.cells = [
        nbformat.v4.new_code_cell(text) for text in (HISTORY + WIDGETS[name], GO.replace("{updates}", str(updates)))
    ]
    nbformat.write(book, folder / f"{name}.ipynb")
    received = 0

    def hear(frame: bytes | str) -> None:
        nonlocal received
        received += len(frame)

    page.on("websocket", lambda socket: socket.on("framereceived", hear))
    browser = page.context.new_cdp_session(page)
    browser.send("Performance.enable")

    def busy() -> float:
        metrics = {each["name"]: each["value"] for each in browser.send("Performance.getMetrics")["metrics"]}
        return metrics["TaskDuration"]

    pages.open_lab(page, address, f"{name}.ipynb")
    pages.run_all(page)
    page.locator(".kit-done").wait_for(timeout=pages.PATIENCE)
    page.evaluate(COUNT)
    before, heard, begun = busy(), received, page.evaluate("performance.now()")
    page.wait_for_timeout(50 * updates)  # whoever asks the page meanwhile keeps it busy
    end, drawn = page.evaluate("[performance.now(), window.kitDrawn]")
    seconds, task, bytes_ = (end - begun) / 1000, busy() - before, received - heard
    page.locator(".kit-done", has_text="waits").wait_for(state="detached", timeout=pages.PATIENCE)
    kernel, rate = json.loads(page.locator(".kit-done").inner_text())
    return {
        "kernel_ms": round(kernel, 2),
        "page_ms": round(1000 * task / (seconds * rate), 1),
        "kilobytes": round(bytes_ / 1000 / (seconds * rate), 1),
        "drawn_hz": round(drawn / seconds, 1),
    }


def main(
    updates: Annotated[int, typer.Option(min=10, help="by each widget")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="end with one line of JSON (it always does)")] = True,
) -> None:
    """What drawing the cockpit's curves costs by three widgets."""
    executable = pages.chromium()
    if executable is None:
        raise Ended(f"no browser found (looked for {', '.join(pages.NAMES)})")
    with tempfile.TemporaryDirectory(prefix="kit-benchmark-") as scratch, pages.browser(executable) as browser:
        peers, found = install(Path(scratch)), {}
        for name in WIDGETS:
            folder = Path(scratch) / name / "notebooks"
            folder.mkdir(parents=True)
            with pages.jupyter("lab", folder, folder.parent / "log", **peers) as address:
                page = browser.new_page(viewport={"width": 1280, "height": 800})
                found[name] = measure(page, address, folder, name, updates)
                page.close()
    print(json.dumps(found))


if __name__ == "__main__":
    command(main)
