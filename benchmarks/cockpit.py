"""How live the cockpit is in a real browser, in JupyterLab and on Voilà's page, and what that costs the training.

    python -m benchmarks.cockpit --json

Of each: `text_hz` and `curves_hz`, changes of the status line and drawings of the curves a second, once a run has
`points` batches, and `early_hz`, drawings at its beginning. `slider_p95_ms`: from a key press on the K slider to the
changed distributions, 95th percentile; `curves_p95_ms` likewise to the curves that show it. `slowdown`: by how much
longer a batch takes while the page is drawn than while it is not, 0.1 being 10 %, with its 95 % interval, over turns of
a second of one training: two processes differ, and a machine is now quicker and now slower, by more than a page costs.
`default_run`: how often the curves are drawn from Start to the end of notebook 08's own run.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import nbformat
import numpy as np
import pandas as pd
import typer
from playwright.sync_api import Locator, Page
from scipy.stats import mstats

from benchmarks import pages
from benchmarks.report import Ended, command
from kit.cli.output import print_json
from kit.errors import one_of
from kit.grid import train_all
from kit.live import Settings, lane
from kit.live.cockpit import Cockpit

PRESET, EPOCHS = "quick", 2000  # the networks of preset quick, for longer than the benchmark takes
NOTEBOOK, LONG, TURNS = "08_playground.ipynb", "long.ipynb", "turns.ipynb"
SETTLING = 0.8  # seconds after which a training that goes on is at its pace
TURN = 1.2  # seconds
LATE = 0.2  # seconds of a turn in which the former one's messages are still drawn
TRIMMED = (0.1, 0.1)  # shares of the turns left out at either end: another process came between
K = "K, threshold"
SMALL = {"student": "cnn", "teacher": "cnn", "small_teacher": "cnn"}  # reach many batches soon

# Notes, on the page's own clock, each drawing of the curves (0), each change of the distributions (1) and of the status
# line (2), with the words.
WATCH = """() => {
  const seen = window.kitSeen = [];
  const watch = (kind, what, words, how) => {
    let last = words();
    new MutationObserver(() => {
      const now = words();
      if (now !== last) seen.push([kind, performance.now(), last = now]);
    }).observe(what, how);
  };
  const curves = document.querySelector('.kit-curves'), bars = document.querySelector('.kit-bars');
  const inside = { subtree: true, childList: true, characterData: true };
  watch(0, curves, () => curves.dataset.drawn, { attributeFilter: ['data-drawn'] });
  watch(1, bars, () => bars.querySelector('.kit-words').textContent, inside);
  const status = document.querySelector('div[role=status]');
  watch(2, status, () => status.textContent, inside);
}"""
FORGET = "() => { window.kitSeen.length = 0; return performance.now() }"


def settings(**changes: object) -> Settings:
    networks = {"student": "vgg16", "teacher": "resnet34", "small_teacher": "vgg19"}
    return Settings(**{"preset": PRESET, "role": "cifar-10", "epochs": EPOCHS} | networks | changes)


def latencies(page: Page, k: int) -> tuple[float, float]:
    """Milliseconds from a key press that brings K to k, below t, to the distributions and to the curves showing it."""
    begin = page.evaluate(FORGET)
    page.keyboard.press("ArrowLeft")
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        page.wait_for_timeout(100)
        seen = page.evaluate("() => window.kitSeen")
        bars = first(seen, 1, lambda words: float(words.split("t = ")[1].split()[0]) <= k + 0.005)
        said = first(seen, 2, lambda words: f"last k = {k} " in words)
        curves = said and first(seen, 0, lambda _: True, after=said)
        if bars is not None and curves is not None:
            page.wait_for_timeout(400)
            return bars - begin, curves - begin
    raise Ended(f"K = {k} was not shown within 20 s: {status(page)}; {seen}")


def first(seen: list, kind: int, is_it: Callable[[str], bool], after: float = 0) -> float | None:
    """When the first such change was seen."""
    return next((at for what, at, words in seen if what == kind and at >= after and is_it(words)), None)


def rates(page: Page, seconds: float) -> tuple[float, float]:
    """Changes of the status line and drawings of the curves a second."""
    begin = page.evaluate(FORGET)
    page.wait_for_timeout(1000 * seconds)
    end, seen = page.evaluate("() => [performance.now(), window.kitSeen]")
    return tuple(1000 * sum(what == kind for what, *_ in seen) / (end - begin) for kind in (2, 0))


def batch(page: Page) -> int:
    words = status(page)
    return int(words.split("batch ")[1].split(" of")[0]) if "batch " in words else 0


def status(page: Page) -> str:
    return page.locator('div[role="status"]').first.inner_text()


def slider(page: Page, name: str) -> Locator:
    return page.locator(".widget-slider").filter(has_text=name).locator(".noUi-handle")


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).first.click()


def says(page: Page, words: str) -> None:
    page.locator('div[role="status"]', has_text=words).first.wait_for(timeout=pages.PATIENCE)


def opened(page: Page, app: str, address: str, notebook: str) -> None:
    """A notebook whose cockpit is ready and watched."""
    if app == "lab":
        pages.open_lab(page, address, notebook)
        pages.run_all(page)
    else:
        page.goto(address.format(path=notebook), timeout=pages.PATIENCE)
    says(page, "ready")
    page.get_by_role("button", name="Start", exact=True).scroll_into_view_if_needed()
    page.evaluate(WATCH)


def own_notebooks(folder: Path, notes: Path) -> None:
    """One whose run has many batches soon, and one that draws by turns and notes its batches."""
    begin = f"cockpit({PRESET!r}, epochs={10 * EPOCHS}"
    calls = {
        LONG: f"{begin}, **{SMALL})",
        TURNS: f"from benchmarks.cockpit import by_turns\nby_turns({begin}), {str(notes)!r})",
    }
    book = nbformat.read(folder / NOTEBOOK, as_version=4)
    for name, call in calls.items():
        book.cells = [nbformat.v4.new_code_cell(f"from kit.live import cockpit\n{call}")]
        nbformat.write(book, folder / name)


def rates_of_a_long_run(page: Page, points: int) -> dict[str, float]:
    """At its beginning, and once it has so many points."""
    press(page, "Start")
    says(page, "images/s")
    _, early = rates(page, 5)
    while batch(page) < points:
        page.wait_for_timeout(1500)
    text, curves = rates(page, 10)
    return {"text_hz": round(text, 1), "curves_hz": round(curves, 1), "early_hz": round(early, 1), "points": points}


def cost_of_drawing(page: Page, notes: Path, turns: int) -> dict[str, object]:
    """What a training waits because it is watched."""
    press(page, "Start")
    says(page, "images/s")
    page.wait_for_timeout(1000 * TURN * (2 * turns + 4))  # who asks a page keeps it busy
    slower, ends, counted = slowdown(notes)
    return {"slowdown": round(slower, 4), "slowdown_95": [round(end, 4) for end in ends], "turns": counted}


def latencies_of(page: Page, presses: int) -> dict[str, float]:
    """What a slider's mover waits while it trains. K goes down by one a press, 25 times a run."""
    waited: list[tuple[float, float]] = []
    while len(waited) < presses:
        slider(page, K).press("End")
        press(page, "Start")
        page.wait_for_timeout(1000 * SETTLING)
        slider(page, K).focus()
        waited += [latencies(page, 39 - i) for i in range(min(25, presses - len(waited)))]
        press(page, "Reset")
        says(page, "ready")
    late, drawn = zip(*waited, strict=True)
    found = {"slider_p95_ms": (late, 95), "slider_median_ms": (late, 50), "curves_p95_ms": (drawn, 95)}
    return {name: round(float(np.percentile(ms, share)), 1) for name, (ms, share) in found.items()}


def drawings_of_a_run(page: Page) -> int:
    """From Start to its end, untouched."""
    page.evaluate(FORGET)
    press(page, "Start")
    says(page, "finished")
    return page.evaluate("() => window.kitSeen.filter(([kind]) => kind === 0).length")


# ---- in the notebook's kernel -------------------------------------------------------------------------------------


def by_turns(cockpit: Cockpit, notes: str) -> Cockpit:
    """Has a cockpit, which it returns, draw in every second TURN, from the first batch on. After about a tenth of a
    second each, it notes the time, how many batches are trained, and the turn."""
    lane.ATTENDING /= 2  # of all seconds: only half of them are drawn
    session, hear = cockpit.lanes[0].session, cockpit.lanes[0].session._hear
    file = open(notes, "w", buffering=1)  # noqa: SIM115  until the kernel ends

    def turn() -> int:
        return int(time.perf_counter() / TURN)

    def in_its_turn(draw: Callable[[], None]) -> Callable[[], object]:
        return lambda: (turn() % 2 == 0 or session.state.phase != "running") and draw()

    def hear_and_note() -> None:
        if session.state.phase == "running":
            file.write(f"{time.perf_counter()},{session.state.step},{turn()}\n")
        hear()

    session._hear = hear_and_note
    cockpit._draw_curves, cockpit._draw_networks = map(in_its_turn, (cockpit._draw_curves, cockpit._draw_networks))
    return cockpit


def slowdown(notes: Path) -> tuple[float, tuple[float, float], int]:
    """By how much longer a batch takes in a turn with drawing than in the turns about it: the mean without the TRIMMED,
    its 95 % interval, and the number of turns. Of each turn counts what comes after it is LATE."""
    noted = pd.read_csv(notes, names=["at", "step", "turn"])
    noted = noted[noted["turn"].between(noted["turn"].min(), noted["turn"].max(), inclusive="neither")]
    settled = noted[noted["at"] >= noted.groupby("turn")["at"].transform("first") + LATE].groupby("turn")
    took = settled.last() - settled.first()
    batch = took["at"] / took["step"]  # seconds, by turn
    batch = batch.reindex(range(batch.index[0], batch.index[-1] + 1))
    ratios = (2 * batch / (batch.shift() + batch.shift(-1)))[batch.index % 2 == 0].dropna()
    low, high = mstats.trimmed_mean_ci(ratios, limits=TRIMMED)
    return float(mstats.trimmed_mean(ratios, limits=TRIMMED)) - 1, (float(low) - 1, float(high) - 1), len(ratios)


# ---- the command line ---------------------------------------------------------------------------------------------


def main(
    apps: Annotated[str, typer.Option(help="lab, voila, or both with a comma")] = "lab,voila",
    points: Annotated[int, typer.Option(min=100, help="batches after which the page's rates are taken")] = 10_000,
    presses: Annotated[int, typer.Option(min=1, help="of keys on the slider")] = 50,
    turns: Annotated[int, typer.Option(min=5, help=f"of {TURN} s, with drawing and as many without")] = 80,
    as_json: Annotated[bool, typer.Option("--json", help="end with one line of JSON (it always does)")] = True,
) -> None:
    """How live the cockpit is in a real browser, and what it costs the training."""
    asked = [one_of("app", app.strip(), ("lab", "voila")) for app in apps.split(",")]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    executable = pages.chromium()
    if executable is None:
        raise Ended(f"no browser found (looked for {', '.join(pages.NAMES)})")
    students = [settings().run(), settings(**SMALL).run()]
    train_all([teacher for student in students for teacher in student.teachers.values()])
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="kit-benchmark-") as scratch, pages.browser(executable) as browser:
        notes = Path(scratch) / "turns.csv"

        @contextmanager
        def cockpit(app: str, notebook: str, **parameters: object) -> Iterator[Page]:
            """A page whose cockpit is ready and watched, on a server of its own."""
            folder = Path(tempfile.mkdtemp(dir=scratch)) / "notebooks"
            pages.copy_notebook(NOTEBOOK, folder, preset=PRESET, **parameters)
            own_notebooks(folder, notes)
            served = pages.jupyter(app, folder, folder.parent / "log", PYTHONPATH=str(pages.ROOT))
            with served as address, browser.new_page(viewport={"width": 1280, "height": 800}) as page:
                page.set_default_timeout(pages.PATIENCE)
                opened(page, app, address, notebook)
                yield page

        for app in asked:
            with cockpit(app, LONG) as page:
                found[app] = rates_of_a_long_run(page, points)
            with cockpit(app, TURNS) as page:
                found[app] |= cost_of_drawing(page, notes, turns)
            with cockpit(app, NOTEBOOK, epochs=EPOCHS) as page:
                found[app] |= latencies_of(page, presses)
            print(app, found[app], file=sys.stderr)
        with cockpit("lab", NOTEBOOK) as page:
            found["default_run"] = drawings_of_a_run(page)
    print_json(found)


if __name__ == "__main__":
    command(main)
