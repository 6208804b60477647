"""A visit to the cockpit in the real JupyterLab and on the real Voilà page: by mouse, by keyboard, and narrow."""

from __future__ import annotations

import re
import sys
import urllib.error
import urllib.request

import pytest
from playwright.sync_api import Page, TimeoutError, expect

from benchmarks import pages
from benchmarks.cockpit import batch, press, slider, status
from benchmarks.pages import PATIENCE, SECONDS, open_lab, run_all

NOTEBOOK = "08_playground.ipynb"
CONTROLS = ("role", "teacher", "small teacher", "student", "temperature", "seed", "image", "K, threshold",
            "α, soft share", "rate of log t")  # fmt: skip


def waits_for(page: Page, pattern: str, timeout: int = 30 * SECONDS) -> str:
    expect(page.locator('div[role="status"]').first).to_have_text(re.compile(pattern), timeout=timeout)
    return status(page)


def t(page: Page) -> float:
    return float(re.search(r"t = ([\d.]+)", status(page))[1])


def drawn(page: Page) -> list[str]:
    """What the page has drawn of t's curve and of the distributions."""
    return [page.locator(".kit-curves figure > svg").nth(1).inner_html(), page.locator(".kit-bars").first.inner_text()]


def in_view(page: Page, *wanted) -> None:
    """All of these are seen at once."""
    for locator in wanted:
        box = locator.bounding_box()
        assert 0 <= box["y"] and box["y"] + box["height"] <= page.viewport_size["height"], (locator, box)


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
    before = drawn(page)
    slider(page, "K, threshold").evaluate("handle => handle.scrollIntoView({ block: 'center' })")
    if page.viewport_size["height"] >= 800:
        in_view(page, slider(page, "K, threshold"), page.locator(".kit-curves figure").nth(1))
    drag(page, "K, threshold", -40)
    waits_for(page, r"t = (\d|1[0-4])\.\d.*steered \d+×, last k", 5 * SECONDS)  # t's curve has followed K
    assert all(new != old for new, old in zip(drawn(page), before, strict=True))
    trains(page)
    press(page, "Pause")
    stands_still(page)
    page.screenshot(path=screenshots / f"{name}-paused.png")
    press(page, "Start")
    waits_for(page, "^training")
    trains(page)
    saved = set(notebooks.glob("snapshots/*/cockpit.svg"))
    press(page, "Pause")
    stands_still(page)
    press(page, "Snapshot")
    waits_for(page, r"saved in")
    line = page.locator(".kit-lines code").inner_text()
    assert re.fullmatch(rf"{re.escape(sys.executable)} -m kit train .*--events \S+/events.json", line)
    assert "--rate" not in line and "--k " not in line  # only what was touched is an option
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name=re.compile("^Copy the line")).click()
    page.locator(".kit-lines").get_by_text("Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == line
    page.screenshot(path=screenshots / f"{name}-snapshot.png")
    press(page, "Start")
    waits_for(page, "^training")
    assert page.locator(".kit-lines code").count() == 0  # what was said has left
    (new,) = set(notebooks.glob("snapshots/*/cockpit.svg")) - saved
    assert {"cockpit.png", "cockpit.csv", "settings.json", "events.json"} <= {p.name for p in new.parent.iterdir()}


def fits(page: Page) -> None:
    """Nothing of the cockpit is cut off at the page's sides, no letter is too small, and every control has its label
    and is seen whole."""
    sizes = page.locator(".kit-live").evaluate_all(
        "all => all.flatMap(e => [...e.querySelectorAll('*')]).filter(e => e.childElementCount === 0 && e.textContent)"
        ".map(e => parseFloat(getComputedStyle(e).fontSize))"
    )
    assert sizes and min(sizes) >= 10
    width = page.viewport_size["width"]
    cut = page.locator(".jupyter-widgets").evaluate_all(
        "(all, width) => all.filter(e => e.checkVisibility({ visibilityProperty: true }))"
        ".map(e => [e.getBoundingClientRect(), e.innerText.slice(0, 60)])"
        ".filter(([box]) => box.width && (box.left < 0 || box.right > width + 1)).map(([, text]) => text)",
        width,
    )
    assert cut == []
    for name in CONTROLS:
        label = page.locator(".widget-label", has_text=re.compile(f"^{re.escape(name)}$")).first
        expect(label).to_be_visible()
        cut = label.evaluate("label => label.scrollWidth > label.clientWidth + 1")
        assert not cut, f"the label {name!r} is cut off"
    margins = page.locator(".widget-slider").evaluate_all("all => all.map(e => getComputedStyle(e).margin)")
    assert len({*margins}) == 1  # side by side they stand at one height
    for name in ("K, threshold", "α, soft share", "rate of log t"):  # as a screen reader has them
        handle = page.get_by_role("slider", name=name, exact=True).first
        expect(handle).to_have_attribute("aria-valuetext", re.compile(r"^[\d.]{1,6}$"))


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


def test_the_lab_opens_notebook_00_rendered_beside_names_that_can_be_read(page, lab, screenshots):
    page.goto(lab.format(path="00_start_here.ipynb"), timeout=PATIENCE)
    page.locator(".jp-RenderedMarkdown").get_by_role("heading", name="Start here").wait_for(timeout=PATIENCE)
    names = page.locator(".jp-DirListing-itemText")
    names.get_by_text("09_your_own").wait_for()
    cut = names.evaluate_all("all => all.filter(e => e.scrollWidth > e.clientWidth).map(e => e.textContent)")
    page.screenshot(path=screenshots / "lab-00.png")
    assert names.count() >= 10 and cut == []
    page.locator(".jp-RenderedMarkdown").get_by_role("link", name="01_derivation", exact=True).click()
    page.locator(".lm-TabBar-tab.lm-mod-current", has_text="01_derivation").wait_for(timeout=PATIENCE)


def test_a_visit_in_jupyterlab(page, lab, notebooks, screenshots):
    open_lab(page, lab, NOTEBOOK)
    run_all(page)
    steer_pause_resume_and_save(page, screenshots, "lab", notebooks)
    fits(page)
    pages.theme(page, "JupyterLab Dark")
    for width, height in ((1600, 1000), (1280, 800)):
        page.set_viewport_size({"width": width, "height": height})
        fits(page)
        page.screenshot(path=screenshots / f"lab-dark-{width}.png")
    pages.theme(page, "JupyterLab Light")

    # to another notebook and back: the training has gone on
    before = batch(page)
    page.keyboard.press("Control+b")
    tab = page.locator(".lm-TabBar-tab.lm-mod-current", has_text="01_derivation")
    for _ in range(5):  # the list is made anew now and then, between two clicks perhaps
        page.locator(".jp-DirListing-item", has_text="01_derivation").dblclick()
        try:
            tab.wait_for(timeout=20 * SECONDS)
            break
        except TimeoutError:
            continue
    tab.wait_for()
    page.wait_for_timeout(1 * SECONDS)
    page.screenshot(path=screenshots / "lab-other-notebook.png")
    page.locator(".lm-TabBar-tab", has_text=NOTEBOOK).click()
    page.keyboard.press("Control+b")
    waits_for(page, "^training")
    trains(page)
    assert batch(page) > before

    # away and back again, nothing saved: its cell, run again, finds the training that goes on
    left = batch(page)
    page.goto("about:blank")
    open_lab(page, lab, NOTEBOOK)
    assert page.locator('div[role="status"]').count() == 0
    run_all(page)
    page.locator('div[role="status"]').first.wait_for(timeout=PATIENCE)
    waits_for(page, "^training.*steered")
    assert batch(page) >= left

    # away and back again mid-run: it waits for a page, then goes on, and what is steered is steered
    page.keyboard.press("Control+s")
    page.wait_for_timeout(1 * SECONDS)
    left = batch(page)
    page.goto("about:blank")
    page.wait_for_timeout(5 * SECONDS)
    pages.visit_lab(page, lab, NOTEBOOK)
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
    asked = []
    app.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    app.goto("about:blank")  # its kernel goes with it, so the browser asks first
    assert asked == ["beforeunload"]


def test_by_keyboard_alone_and_at_twice_the_size_and_where_nothing_is_lost_nobody_is_asked(
    chromium, voila, screenshots
):
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
        tab_to(page, "Reset", "Shift+Tab")
        page.keyboard.press("Enter")
        waits_for(page, "^ready.*batch 0 of")
        asked = []
        page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
        page.goto("about:blank")
        assert asked == []
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
