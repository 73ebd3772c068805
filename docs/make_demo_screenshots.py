"""Takes the pictures in docs/guides/demo.md from the page itself: python docs/make_demo_screenshots.py

Needs autotag-images[ui,test] and chromium (apt-get install chromium).
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

import autotag

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent / "tests" / "demo"))
from demo_server import Demo  # noqa: E402


def keep(page: Page, name: str) -> None:
    page.wait_for_timeout(1500)
    with Image.open(io.BytesIO(page.screenshot())) as shot:
        shot.convert("RGB").save(DOCS / "images" / f"demo-{name}.jpg", quality=80, optimize=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, autotag.load("mini") as pipeline, Demo(pipeline) as demo:
        broken = Path(folder) / "broken.jpg"
        broken.write_bytes((DOCS / "examples" / "cat.jpg").read_bytes()[:4000])
        photographs = [str(path) for path in sorted((DOCS / "examples").glob("*.jpg"))[:10]]
        with sync_playwright() as started:
            chromium = os.environ.get("CHROMIUM", "/usr/bin/chromium")
            browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1280, "height": 1000})
            page.goto(demo.url)
            for tab, button, files in (
                ("Tag", "Tag", str(DOCS / "examples" / "cat.jpg")),
                ("Batch", "Tag them all", [*photographs, str(broken)]),
            ):
                page.get_by_role("tab", name=tab, exact=True).click()
                panel = page.get_by_role("tabpanel").filter(visible=True)
                with page.expect_response(lambda answer: "/upload" in answer.url):
                    panel.locator("input[type=file]").first.set_input_files(files)
                page.wait_for_timeout(800)
                panel.get_by_role("button", name=button, exact=True).click()
                panel.get_by_text("candidates" if tab == "Tag" else "Finished.").first.wait_for()
                keep(page, tab.lower())
            browser.close()


if __name__ == "__main__":
    main()
