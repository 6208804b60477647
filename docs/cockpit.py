"""Makes the README's moving picture of the cockpit: a run of notebook 08 in JupyterLab, K moved on the way.

python docs/cockpit.py
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import pages  # noqa: E402
from benchmarks.cockpit import NOTEBOOK, K, opened, press, says, slider  # noqa: E402

FRAMES, EVERY, WIDTH = 22, 800, 900  # ms from frame to frame; px of the picture
MOVED = {8: "PageDown", 9: "PageDown", 15: "PageUp"}  # keys on the K slider, by frame


def main() -> None:
    frames = []
    with tempfile.TemporaryDirectory() as scratch, pages.browser(pages.chromium()) as browser:
        folder = Path(scratch) / "notebooks"
        pages.copy_notebook(NOTEBOOK, folder, preset="quick", epochs=100)
        with pages.jupyter("lab", folder, Path(scratch) / "log") as address:
            page = browser.new_page(viewport={"width": 1280, "height": 1400})
            page.set_default_timeout(pages.PATIENCE)
            opened(page, "lab", address, NOTEBOOK)
            press(page, "Start")
            says(page, "images/s")
            cockpit = page.locator(".widget-vbox").filter(has=page.locator(".kit-curves")).first
            cockpit.scroll_into_view_if_needed()
            for frame in range(FRAMES):
                if frame in MOVED:
                    slider(page, K).press(MOVED[frame])
                page.wait_for_timeout(EVERY)
                frames.append(Image.open(io.BytesIO(cockpit.screenshot())).convert("RGB"))
    size = WIDTH, round(WIDTH * frames[0].height / frames[0].width)
    frames = [frame.resize(size, Image.Resampling.LANCZOS).quantize(128, dither=Image.Dither.NONE) for frame in frames]
    frames[0].save(ROOT / "docs" / "cockpit.gif", save_all=True, append_images=frames[1:], duration=EVERY, loop=0)


if __name__ == "__main__":
    main()
