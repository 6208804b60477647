"""How quickly the cockpit answers in a real browser while it trains, and what it costs the training.

    python -m benchmarks.cockpit --json

`slider_p95_ms`: from a key press on the K slider to the changed picture of the distributions, 95th percentile.
`curves_p95_ms`: likewise to the changed picture of the curves. `slowdown`: by how much longer the same number of
batches takes with the cockpit open in the browser than without, median of interleaved repeats; 0.1 means 10 %.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from playwright.sync_api import Page

from benchmarks import pages
from benchmarks.report import Ended, command
from kit.live import Session, Settings
from kit.runs.spec import with_teachers
from kit.runs.training import train

PRESET, EPOCHS = "quick", 400  # the networks of preset quick, for longer than the benchmark takes
NOTEBOOK = "08_playground.ipynb"

# Notes, on the page's own clock, each new picture (0: curves, 1: distributions) once it can be seen, and each new line
# of words. A picture's words are changed just before it, so its first change after them is the one that they are of.
WATCH = """() => {
  const seen = window.kitSeen = [];
  const images = document.querySelectorAll('img.widget-image');
  for (const i of [0, 1])
    new MutationObserver(() => {
      const at = performance.now();
      images[i].decode().catch(() => {}).then(() => seen.push([i, at, performance.now()]));
    }).observe(images[i], { attributeFilter: ['src'] });
  const read = () => [document.querySelector('div[role=status]').innerText,
                      document.querySelector('.kit-words').innerText];
  let last = read();
  new MutationObserver(() => {
    const now = read();
    if (now[0] !== last[0]) seen.push([2, performance.now(), now[0]]);
    if (now[1] !== last[1]) seen.push([3, performance.now(), now[1]]);
    last = now;
  }).observe(document.querySelector('.jp-Notebook'), { subtree: true, childList: true, characterData: true });
}"""


def settings(**changes: object) -> Settings:
    networks = {"student": "vgg16", "teacher": "resnet34", "small_teacher": "vgg19"}
    return Settings(**{"preset": PRESET, "role": "cifar-10", "epochs": EPOCHS} | networks | changes)


def latencies(page: Page, k: int, presses: int) -> tuple[list[float], list[float]]:
    """Milliseconds from each key press to the distributions and to the curves that show it.

    K starts at k and goes down by one a press; t is above, so that each press changes it.
    """
    page.locator(".widget-slider").filter(has_text="K, threshold").locator(".noUi-handle").first.focus()
    bars, curves = [], []
    for asked in range(k - 1, k - 1 - presses, -1):
        begin = page.evaluate("() => { window.kitSeen.length = 0; return performance.now() }")
        page.keyboard.press("ArrowLeft")
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            page.wait_for_timeout(100)
            seen = page.evaluate("() => window.kitSeen")
            drawn = [
                shown(seen, 1, 3, lambda words, k=asked: float(words.split("t = ")[1].split()[0]) <= k + 0.005),
                shown(seen, 0, 2, lambda words, k=asked: f"last k = {k} " in words),
            ]
            if None not in drawn:
                break
        else:
            words = page.locator('div[role="status"]').first.inner_text()
            raise RuntimeError(f"K = {asked} was not shown within 20 s: {words}; {seen}")
        bars.append(drawn[0] - begin)
        curves.append(drawn[1] - begin)
        page.wait_for_timeout(400)
    return bars, curves


def shown(seen: list, picture: int, words: int, is_it: Callable[[str], bool]) -> float | None:
    """When the picture could be seen that goes with the first such words."""
    said = next((at for kind, at, text in seen if kind == words and is_it(text)), None)
    if said is None:
        return None
    return next((at for kind, changed, at in seen if kind == picture and changed >= said), None)


def seconds_alone(batches: int) -> float:
    """Of so many batches of the same training in a session that nobody watches."""
    session = Session(settings())
    try:
        session.start()
        return _seconds(lambda: session.state.step, batches)
    finally:
        session.close(timeout=30)


def seconds_watched(page: Page, batches: int) -> float:
    return _seconds(lambda: batch(page), batches)


def _seconds(step: Callable[[], int], batches: int) -> float:
    """How long so many batches take, from a batch after the start-up on."""
    while (first := step()) < 20:
        time.sleep(0.02)
    begin = time.perf_counter()
    while (last := step()) < first + batches:
        time.sleep(0.02)
    return (time.perf_counter() - begin) * batches / (last - first)


def batch(page: Page) -> int:
    words = page.locator('div[role="status"]').first.inner_text()
    return int(words.split("batch ")[1].split(" of")[0]) if "batch " in words else 0


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).first.click()


def measure(presses: int, repeats: int, batches: int) -> dict[str, float]:
    executable = pages.chromium()
    if executable is None:
        raise Ended(f"no browser found (looked for {', '.join(pages.NAMES)})")
    for run in with_teachers([settings().run()])[:-1]:
        train(run)
    with tempfile.TemporaryDirectory(prefix="kit-benchmark-") as scratch:
        folder = Path(scratch) / "notebooks"
        pages.copy_notebook(NOTEBOOK, folder, preset=PRESET, epochs=EPOCHS)
        with (
            pages.jupyter("lab", folder, Path(scratch) / "lab.log") as address,
            pages.browser(executable) as browser,
        ):
            page = browser.new_page(viewport={"width": 1280, "height": 1150})
            pages.open_lab(page, address, NOTEBOOK)
            pages.run_all(page)
            page.get_by_role("button", name="Start", exact=True).wait_for(timeout=pages.PATIENCE)
            page.get_by_role("button", name="Start", exact=True).scroll_into_view_if_needed()
            ratios = []
            for _ in range(repeats):
                press(page, "Reset")
                page.wait_for_timeout(1500)
                press(page, "Start")
                watched = seconds_watched(page, batches)
                press(page, "Pause")
                page.wait_for_timeout(1500)
                alone = seconds_alone(batches)
                ratios.append(watched / alone)
                print(f"{batches} batches: {watched:.1f} s watched, {alone:.1f} s alone", file=sys.stderr)
            bars, curves = [], []
            while len(bars) < presses:
                press(page, "Reset")
                page.wait_for_timeout(1500)
                slider = page.locator(".widget-slider").filter(has_text="K, threshold").locator(".noUi-handle").first
                slider.press("End")
                press(page, "Start")
                _seconds(lambda: batch(page), 5)
                page.evaluate(WATCH)
                some = latencies(page, 40, min(25, presses - len(bars)))
                bars += some[0]
                curves += some[1]
    for name, values in (("distributions", bars), ("curves", curves)):
        print(f"{name}: median {statistics.median(values):.0f} ms, p95 {np.percentile(values, 95):.0f} ms, "
              f"{len(values)} presses", file=sys.stderr)  # fmt: skip
    return {
        "slider_p95_ms": round(float(np.percentile(bars, 95)), 1),
        "curves_p95_ms": round(float(np.percentile(curves, 95)), 1),
        "slowdown": round(statistics.median(ratios) - 1, 4),
    }


def main(
    presses: Annotated[int, typer.Option(min=1, help="of keys on the slider")] = 50,
    repeats: Annotated[int, typer.Option(min=1, help="of the training, watched and alone")] = 3,
    batches: Annotated[int, typer.Option(min=1, help="of each training that are timed")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="end with one line of JSON (it always does)")] = True,
) -> None:
    """How quickly the cockpit answers in a real browser while it trains, and what it costs the training."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print(json.dumps(measure(presses, repeats, batches)))


if __name__ == "__main__":
    command(main)
