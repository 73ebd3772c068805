"""Takes the pictures in docs/guides/demo.md from the page itself: python docs/make_demo_screenshots.py

Needs autotag-images[ui,test] and chromium (apt-get install chromium).
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, sync_playwright

import autotag

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent / "tests" / "demo"))
from demo_server import Demo  # noqa: E402

from autotag.demo.searched_index import SearchedIndex  # noqa: E402
from autotag.search import Index  # noqa: E402
from autotag.stages import EmbedImages  # noqa: E402

BUTTONS = {"Prompt": "Write the prompt", "Analyze": "Analyze", "Tag": "Tag", "Batch": "Tag them all"}
WIDE, NARROW = {"width": 1280, "height": 1000}, {"width": 420, "height": 1000}


def keep(page: Page, name: str) -> None:
    page.wait_for_timeout(1500)
    with Image.open(io.BytesIO(page.screenshot(full_page=name == "search"))) as shot:
        shot.convert("RGB").save(DOCS / "images" / f"demo-{name}.jpg", quality=80, optimize=True)


def ask(page: Page, tab: str, files: str | list[str]) -> None:
    """Give a tab its files, press its button, and wait for the answer."""
    page.get_by_role("tab", name=tab, exact=True).click()
    panel = page.get_by_role("tabpanel").filter(visible=True)
    with page.expect_response(lambda answer: "/upload" in answer.url):
        panel.locator("input[type=file]").first.set_input_files(files)
    page.wait_for_timeout(800)
    panel.get_by_role("button", name=BUTTONS[tab], exact=True).click()
    answered = {
        "Prompt": "() => [...document.querySelectorAll('textarea')].some((one) => one.value)",
        "Analyze": "() => document.body.innerText.match(/0\\.\\d{3}/g)?.length > 20",
        "Tag": "() => /\\d+ of \\d+ candidates/.test(document.body.innerText)",
        "Batch": "() => document.body.innerText.includes('Finished.')",
    }[tab]
    page.wait_for_function(answered)


def search(page: Page) -> None:
    """Search by words."""
    page.get_by_role("tab", name="Search", exact=True).click()
    panel = page.get_by_role("tabpanel").filter(visible=True)
    panel.get_by_label("Words").first.fill("a cat")
    panel.get_by_role("button", name="Search", exact=True).click()
    panel.locator("button.thumbnail-item").first.wait_for()


def filled_index(path: Path, photographs: list[Path]) -> Path:
    with autotag.load("mini") as tagging, Index.open(path) as index:
        pipeline = replace(tagging, stages=[*tagging.stages, EmbedImages()])
        index.add(pipeline.stream(photographs), encoder_name="clip-mini")
    return path


def main() -> None:
    examples = DOCS / "examples"
    with (
        tempfile.TemporaryDirectory() as folder,
        autotag.load("mini") as pipeline,
        Demo(
            pipeline,
            index=SearchedIndex(filled_index(Path(folder) / "index.db", sorted(examples.glob("*.jpg")))),
        ) as demo,
    ):
        broken = Path(folder) / "broken.jpg"
        broken.write_bytes((examples / "cat.jpg").read_bytes()[:4000])
        photographs = [str(path) for path in sorted(examples.glob("*.jpg"))[:10]]
        with sync_playwright() as started:
            chromium = os.environ.get("CHROMIUM", "/usr/bin/chromium")
            browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])

            def opened(**options: Any) -> Page:
                page = browser.new_page(**options)
                page.set_default_timeout(600_000)  # of a loaded machine
                page.goto(demo.url)
                return page

            page = opened(viewport=WIDE, color_scheme="light")
            for tab, files in (
                ("Prompt", str(examples / "rocket.jpg")),
                ("Analyze", str(examples / "galaxies.jpg")),
                ("Tag", str(examples / "cat.jpg")),
                ("Batch", [*photographs, str(broken)]),
            ):
                ask(page, tab, files)
                keep(page, tab.lower())
            search(page)
            keep(page, "search")
            page.close()
            page = opened(viewport=WIDE, color_scheme="dark")
            ask(page, "Tag", str(examples / "cat.jpg"))
            keep(page, "dark")
            page.close()
            page = opened(viewport=NARROW, color_scheme="light")
            ask(page, "Tag", str(examples / "cat.jpg"))
            keep(page, "narrow")
            browser.close()


if __name__ == "__main__":
    main()
