"""The real JupyterLab and the real Voilà on this machine alone, and a real browser on them."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import nbformat
from playwright.sync_api import Browser, Page, TimeoutError, sync_playwright

from benchmarks.report import Ended

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
FILES_AS_MEMORY = ["--disable-dev-shm-usage"]  # shares pictures by files: the disk is then as busy as the page
SECONDS = 1000  # Playwright counts in milliseconds
PATIENCE = 180 * SECONDS
AS_MADE = ROOT / "docs" / "jupyterlab.json"  # the settings that `make lab` gives


def chromium() -> str | None:
    """A Chromium that is installed, or None."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def copy_notebook(name: str, folder: Path, **parameters: object) -> Path:
    """A notebook with some of its parameters set anew, in a folder of its own."""
    book = nbformat.read(ROOT / "notebooks" / name, as_version=4)
    (cell,) = (cell for cell in book.cells if "parameters" in cell.metadata.get("tags", []))
    cell.source += "".join(f"\n{key} = {value!r}" for key, value in parameters.items())
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(book, folder / name)
    return folder / name


@contextmanager
def jupyter(app: str, folder: Path, log: Path, **environment: str) -> Iterator[str]:
    """JupyterLab (`lab`) or Voilà (`voila`) on a folder of notebooks, with a token; gives its address with `{path}`."""
    port, token, home = free_port(), secrets.token_hex(16), log.parent / f"{app}-home"
    for name, chosen in json.loads(AS_MADE.read_text()).items():
        settings = home / "settings" / f"{name.replace(':', '/')}.jupyterlab-settings"
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.write_text(json.dumps(chosen))
    own = {f"JUPYTER_{what}_DIR": str(home / what.lower()) for what in ("CONFIG", "DATA", "RUNTIME")}
    common = ["--no-browser", f"--port={port}"]
    if app == "lab":
        words = ["jupyterlab", "--ip=127.0.0.1", "--allow-root", f"--IdentityProvider.token={token}",
                 f"--ServerApp.root_dir={folder}", f"--LabApp.user_settings_dir={home / 'settings'}",
                 f"--LabApp.workspaces_dir={home / 'workspaces'}"]  # fmt: skip
    else:
        words = ["voila", str(folder), "--Voila.ip=127.0.0.1", f"--token={token}"]
    with log.open("w") as file:
        server = subprocess.Popen(
            [sys.executable, "-m", *words, *common], stdout=file, stderr=subprocess.STDOUT, cwd=folder,
            env=os.environ | own | environment, start_new_session=True,
        )  # fmt: skip
        try:
            _listens(port, server, log)
            kind = "lab/tree" if app == "lab" else "voila/render"
            yield f"http://127.0.0.1:{port}/{kind}/{{path}}?token={token}"
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _listens(port: int, server: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
            return
        time.sleep(0.1)
    raise Ended(f"the server ended or does not answer: {log.read_text()[-2000:]}")


@contextmanager
def browser(executable: str) -> Iterator[Browser]:
    how = {"executable_path": executable, "args": list(QUIET), "ignore_default_args": FILES_AS_MEMORY}
    with sync_playwright() as playwright, playwright.chromium.launch(**how) as launched:
        yield launched


def visit_lab(page: Page, address: str, notebook: str) -> None:
    """Goes to a notebook in JupyterLab: to the front, whatever else a visit before has left open there."""
    page.goto(address.format(path=notebook), timeout=PATIENCE)
    page.locator(".lm-TabBar-tab", has_text=Path(notebook).name).click(timeout=PATIENCE)
    page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-NotebookPanel-toolbar").wait_for(timeout=PATIENCE)


def open_lab(page: Page, address: str, notebook: str) -> None:
    """Opens a notebook in JupyterLab, side bar folded away, and waits for its kernel."""
    visit_lab(page, address, notebook)
    page.get_by_text("Python 3 (ipykernel) | Idle").first.wait_for(timeout=PATIENCE)
    if page.locator(".jp-FileBrowser").first.is_visible():
        page.keyboard.press("Control+b")


def theme(page: Page, name: str) -> None:
    """Chooses a theme of JupyterLab's by its menus."""
    page.get_by_role("menuitem", name="Settings", exact=True).click()
    page.locator(".lm-Menu-item").get_by_text("Theme", exact=True).click()
    page.locator(".lm-Menu-item").get_by_text(name, exact=True).click()
    light = "false" if "Dark" in name else "true"
    page.locator(f'body[data-jp-theme-light="{light}"]').wait_for(state="attached")
    page.wait_for_timeout(1 * SECONDS)  # its style sheet is there after its name


def run_all(page: Page) -> None:
    """Runs all cells, and again where JupyterLab, still busy with the kernel it has just started, let that go by."""
    notebook = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")
    for _ in range(10):
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        try:
            notebook.get_by_text(re.compile(r"^\[(\*|\d+)\]:$")).first.wait_for(timeout=2 * SECONDS)
            return
        except TimeoutError:
            continue
    raise Ended("JupyterLab does not run the notebook's cells")
