"""JupyterLab and Voilà as they are served, and a real browser. Without one the tests are skipped, and say so."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from benchmarks import pages
from kit.live import Settings
from kit.runs.spec import with_teachers
from kit.runs.training import train

EPOCHS = 1000  # of a few batches each: longer than any test


def pytest_collection_modifyitems(items) -> None:
    if pages.chromium() is None and os.environ.get("KIT_BROWSER") != "required":
        skip = pytest.mark.skip(reason=f"no browser found (looked for {', '.join(pages.NAMES)})")
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(skip)


@pytest.fixture(scope="module")
def chromium():
    """Closed with its module: while Playwright is open, an event loop runs in this thread."""
    executable = pages.chromium()
    assert executable, f"KIT_BROWSER=required, but none of {', '.join(pages.NAMES)} is installed"
    with pages.browser(executable) as launched:
        yield launched


@pytest.fixture(scope="module")
def screenshots():
    folder = Path(os.environ.get("KIT_SCREENSHOTS") or tempfile.mkdtemp(prefix="kit-screenshots-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"screenshots are in {folder}")
    return folder


@pytest.fixture(scope="module")
def notebooks(tmp_path_factory):
    """All notebooks, 08 with a long run, whose teachers are in the cache."""
    folder = tmp_path_factory.mktemp("browser") / "notebooks"
    networks = {"student": "vgg16", "teacher": "resnet34", "small_teacher": "vgg19"}
    for run in with_teachers([Settings(preset="smoke", role="cifar-10", **networks).run()])[:-1]:
        train(run)
    for path in sorted((pages.ROOT / "notebooks").glob("*.ipynb")):
        pages.copy_notebook(path.name, folder, **({"epochs": EPOCHS} if path.name.startswith("08") else {}))
    return folder


@pytest.fixture(scope="module")
def lab(notebooks):
    with pages.jupyter("lab", notebooks, notebooks.parent / "lab.log") as address:
        yield address


@pytest.fixture(scope="module")
def voila(notebooks):
    with pages.jupyter("voila", notebooks, notebooks.parent / "voila.log") as address:
        yield address


@pytest.fixture
def page(chromium, request, screenshots):
    """A page of 1280 × 800 px. Where a test fails, what it saw last is kept."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    opened = context.new_page()
    opened.set_default_timeout(30 * pages.SECONDS)
    yield opened
    opened.screenshot(path=screenshots / f"{request.node.name}-last.png")
    context.close()
