"""A visit to the cockpit in the real JupyterLab and on the real Voilà page: by mouse, by keyboard, and narrow."""

from __future__ import annotations

import re
import urllib.error
import urllib.request

import pytest
from playwright.sync_api import Page, expect

from benchmarks.pages import PATIENCE, SECONDS, open_lab, run_all

NOTEBOOK = "08_playground.ipynb"
CONTROLS = ("role", "teacher", "small teacher", "student", "temperature", "seed", "image", "K, threshold",
            "α, soft share", "rate of log t")  # fmt: skip


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).first.click()


def status(page: Page) -> str:
    return page.locator('div[role="status"]').first.inner_text()


def waits_for(page: Page, pattern: str, timeout: int = 30 * SECONDS) -> str:
    expect(page.locator('div[role="status"]').first).to_have_text(re.compile(pattern), timeout=timeout)
    return status(page)


def batch(page: Page) -> int:
    return int(re.search(r"batch (\d+) of", status(page))[1])


def t(page: Page) -> float:
    return float(re.search(r"t = ([\d.]+)", status(page))[1])


def pictures(page: Page) -> list[str]:
    """The sources of the cockpit's pictures: curves first."""
    return page.locator("img.widget-image").evaluate_all("images => images.map(image => image.src)")


def slider(page: Page, name: str):
    return page.locator(".widget-slider").filter(has_text=name).locator(".noUi-handle")


def drag(page: Page, name: str, by: float) -> None:
    """Drags a slider's handle by so many px, as a hand does."""
    box = slider(page, name).bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    for part in range(1, 9):
        page.mouse.move(x + by * part / 8, y)
        page.wait_for_timeout(40)
    page.mouse.up()


def trains(page: Page) -> None:
    """It goes on: batches are counted up."""
    before = batch(page)
    for _ in range(400):  # a redraw is paid for by a pause, which is long where a machine is busy
        if batch(page) > before:
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"it stands still: {status(page)}")


def stands_still(page: Page) -> None:
    waits_for(page, "^paused")
    before = batch(page)
    page.wait_for_timeout(600)
    assert batch(page) == before


def steer_pause_resume_and_save(page: Page, screenshots, name: str, notebooks) -> None:
    """What every visitor does, from a cockpit that is ready."""
    waits_for(page, "^ready")
    page.get_by_role("button", name="Start", exact=True).scroll_into_view_if_needed()
    press(page, "Start")
    waits_for(page, r"^training.*images/s")
    assert t(page) > 15
    before = pictures(page)
    drag(page, "K, threshold", -40)
    waits_for(page, r"t = (\d|1[0-4])\.\d.*steered \d+×, last k", 5 * SECONDS)  # t's curve has followed K
    assert all(new != old for new, old in zip(pictures(page)[:2], before[:2], strict=True))
    trains(page)
    press(page, "Pause")
    stands_still(page)
    page.screenshot(path=screenshots / f"{name}-paused.png")
    press(page, "Start")
    waits_for(page, "^training")
    trains(page)
    saved = set(notebooks.glob("snapshots/*/cockpit.svg"))
    press(page, "Snapshot")
    waits_for(page, r"saved in .*python -m kit train .*--events")
    page.screenshot(path=screenshots / f"{name}-snapshot.png")
    assert "--rate" not in status(page) and "--k " not in status(page)  # only what was touched is an option
    (new,) = set(notebooks.glob("snapshots/*/cockpit.svg")) - saved
    assert {"cockpit.png", "cockpit.csv", "settings.json", "events.json"} <= {p.name for p in new.parent.iterdir()}


def fits(page: Page) -> None:
    """Nothing of the cockpit is cut off at the page's sides, and every control has its label and is seen whole."""
    width = page.viewport_size["width"]
    for widget in page.locator(".jupyter-widgets").all():
        if widget.is_visible() and (box := widget.bounding_box()) and box["width"]:
            assert box["x"] >= 0 and box["x"] + box["width"] <= width + 1, widget.inner_text()[:60]
    for name in CONTROLS:
        label = page.locator(".widget-label", has_text=re.compile(f"^{re.escape(name)}$")).first
        expect(label).to_be_visible()
        cut = label.evaluate("label => label.scrollWidth > label.clientWidth + 1")
        assert not cut, f"the label {name!r} is cut off"


def tab_to(page: Page, words: str, key: str = "Tab", presses: int = 60) -> None:
    """Presses Tab (or Shift+Tab) until the focus is on the control so named, of a slider on its handle."""
    for _ in range(presses):
        page.keyboard.press(key)
        here = page.evaluate(
            "() => { const a = document.activeElement; "
            "const w = a.closest('.widget-inline-hbox') || a.closest('.jupyter-widgets'); "
            "return a.isContentEditable ? 'a readout' : ((w || a).innerText || '') }"
        )
        if here.strip().startswith(words):
            return
    raise AssertionError(f"{presses} presses of {key} do not reach {words!r}")


# ---- JupyterLab ------------------------------------------------------------------------------------------------------


def test_a_visit_in_jupyterlab(page, lab, notebooks, screenshots):
    open_lab(page, lab, NOTEBOOK)
    run_all(page)
    steer_pause_resume_and_save(page, screenshots, "lab", notebooks)
    fits(page)

    # to another notebook and back: the training has gone on
    before = batch(page)
    page.keyboard.press("Control+b")
    page.locator(".jp-DirListing-item", has_text="01_derivation").dblclick()
    page.locator(".lm-TabBar-tab.lm-mod-current", has_text="01_derivation").wait_for()
    page.wait_for_timeout(1 * SECONDS)
    page.screenshot(path=screenshots / "lab-other-notebook.png")
    page.locator(".lm-TabBar-tab", has_text=NOTEBOOK).click()
    page.keyboard.press("Control+b")
    waits_for(page, "^training")
    trains(page)
    assert batch(page) > before

    # away and back again mid-run: it waits for a page, then goes on, and what is steered is steered
    page.keyboard.press("Control+s")
    page.wait_for_timeout(1 * SECONDS)
    left = batch(page)
    page.goto("about:blank")
    page.wait_for_timeout(5 * SECONDS)
    page.goto(lab.format(path=NOTEBOOK))
    page.locator('div[role="status"]').first.wait_for(timeout=PATIENCE)
    came = waits_for(page, r"batch \d+ of")
    assert left <= batch(page) < left + 250, (left, came)  # five seconds are more batches than that
    assert "steered" in came
    waits_for(page, "^training")
    trains(page)
    page.screenshot(path=screenshots / "lab-reloaded.png")
    slider(page, "K, threshold").press("ArrowLeft")
    waits_for(page, "last k")
    press(page, "Pause")
    stands_still(page)
    press(page, "Reset")
    waits_for(page, "^ready.*batch 0 of")


# ---- Voilà -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def app(page, voila):
    page.goto(voila.format(path=NOTEBOOK), timeout=PATIENCE)
    page.locator('div[role="status"]').first.wait_for(timeout=PATIENCE)
    return page


def test_a_visit_on_the_voila_page(app, notebooks, screenshots):
    steer_pause_resume_and_save(app, screenshots, "voila", notebooks)
    fits(app)
    press(app, "Compare")
    app.get_by_text("session B").wait_for()
    press(app, "Reset")
    waits_for(app, "A: ready.*B: ready")
    press(app, "Start")
    waits_for(app, "A: training.*B: training")
    app.wait_for_timeout(2 * SECONDS)
    fits(app)
    app.screenshot(path=screenshots / "voila-compare.png", full_page=True)


def test_by_keyboard_alone_and_at_twice_the_size(chromium, voila, screenshots):
    """640 px at two device pixels each: what a page 1280 px wide has at 200 % zoom."""
    context = chromium.new_context(viewport={"width": 640, "height": 575}, device_scale_factor=2)
    page = context.new_page()
    page.set_default_timeout(30 * SECONDS)
    try:
        page.goto(voila.format(path=NOTEBOOK), timeout=PATIENCE)
        page.locator('div[role="status"]').first.wait_for(timeout=PATIENCE)
        waits_for(page, "^ready")
        tab_to(page, "Start")
        page.keyboard.press("Enter")
        waits_for(page, "^training")
        tab_to(page, "K, threshold", "Shift+Tab")
        for _ in range(10):
            page.keyboard.press("ArrowLeft")
        waits_for(page, "last k = 10")
        assert t(page) <= 10
        tab_to(page, "Pause")
        page.screenshot(path=screenshots / "zoom-200.png")
        page.keyboard.press("Space")
        stands_still(page)
        tab_to(page, "Step")
        before = batch(page)
        page.keyboard.press("Enter")
        waits_for(page, f"batch {before + 1} of")
        tab_to(page, "Snapshot")
        page.keyboard.press("Enter")
        waits_for(page, "saved in")
        fits(page)
        page.screenshot(path=screenshots / "zoom-200-whole.png", full_page=True)
    finally:
        context.close()


def test_voila_wants_its_token(voila):
    address = voila.format(path=NOTEBOOK)
    bare, _ = address.split("?")
    try:
        with urllib.request.urlopen(bare, timeout=10) as answer:
            assert "/login" in answer.url  # asked for the token, and nothing of the notebook is shown
            assert b"playground" not in answer.read().lower().replace(NOTEBOOK.encode(), b"")
    except urllib.error.HTTPError as error:
        assert error.code in (401, 403)
