"""Takes the pictures in docs/guides/review.md from a real review: python docs/make_screenshots.py

An album of the example photographs and of parts of them is tagged by preset mini, and its plan reviewed in
Debian's chromium. Needs autotag-images[test] and chromium (apt-get install chromium).
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

import autotag
from autotag.albums import tag_folder
from autotag.review.from_album import open_review
from autotag.review.run import make_desk, run_review
from autotag.vocabularies.vocabulary import Vocabulary

DOCS = Path(__file__).resolve().parent
IMAGES = DOCS / "images"
MOST_BYTES = 150_000
PLACES = {
    "2023/at home": ("cat", "coffee", "coins"),
    "2023/garden": ("flower", "bricks"),
    "2024/space": ("astronaut", "galaxies", "rocket"),
    "2024/town": ("photographer", "tower"),
}
PARTS = ((0.0, 0.0, 0.7, 0.7), (0.3, 0.1, 1.0, 0.8), (0.1, 0.3, 0.8, 1.0))


def make_album(folder: Path) -> None:
    """Write the example photographs, and three parts of each, into folders."""
    for place, names in PLACES.items():
        (folder / place).mkdir(parents=True)
        for name in names:
            shutil.copy(DOCS / "examples" / f"{name}.jpg", folder / place)
            with Image.open(DOCS / "examples" / f"{name}.jpg") as photo:
                for number, (left, top, right, bottom) in enumerate(PARTS, 2):
                    box = (left * photo.width, top * photo.height, right * photo.width, bottom * photo.height)
                    photo.crop(tuple(map(round, box))).save(folder / place / f"{name} {number}.jpg")


@contextmanager
def reviewed(folder: Path) -> Iterator[str]:
    """Tag an album, review its plan in a thread, and yield the page's address."""
    plan = folder.with_name("plan.jsonl")
    with autotag.load("mini", filter_tags={"top_k": 8}) as pipeline:
        tag_folder(folder, pipeline=pipeline, plan_file=plan, model="mini")
    desk = make_desk(open_review(plan).review, vocabulary=Vocabulary.bundled("things"))
    addresses: list[str] = []
    listening = threading.Event()

    def tell(address: str) -> None:
        addresses.append(address)
        listening.set()

    threading.Thread(
        target=run_review, args=(desk,), kwargs={"port": 0, "listening": tell}, daemon=True
    ).start()
    listening.wait(60)
    yield addresses[0]


def keep(page: Page, name: str) -> None:
    """Keep a picture of the page, in few colours where it would be large."""
    page.wait_for_timeout(700)
    with Image.open(io.BytesIO(page.screenshot())) as shot:
        path = IMAGES / f"review-{name}.jpg"
        for quality in (88, 80, 72, 60):
            shot.convert("RGB").save(path, quality=quality, optimize=True)
            if path.stat().st_size <= MOST_BYTES:
                break
    print(f"{path.relative_to(DOCS.parent)}: {path.stat().st_size // 1000} kB")


def take(page: Page, address: str) -> None:
    """Go through a review as a person does, and keep what it looks like on the way."""
    page.set_viewport_size({"width": 1360, "height": 850})
    page.goto(address)
    page.wait_for_selector(".tile img.here")
    for key in ("1", "2", "j", "1", "j", "y", "j"):
        page.keyboard.press(key)
        page.wait_for_timeout(120)
    keep(page, "light")
    page.emulate_media(color_scheme="dark")
    page.locator("#tags button").nth(1).click()
    page.wait_for_selector("#tag-bar:visible")
    for key in ("y", "y", "n", "y", "n", "y"):
        page.keyboard.press(key)
        page.wait_for_timeout(120)
    keep(page, "dark")
    page.get_by_role("button", name="Rename everywhere").click()
    page.get_by_label("New name").fill("tab")
    page.wait_for_selector("[role=option]")
    keep(page, "rename")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.emulate_media(color_scheme="light")
    page.locator("#apply").click()
    page.wait_for_selector("dialog .numbers")
    keep(page, "apply")
    page.keyboard.press("Escape")
    page.set_viewport_size({"width": 420, "height": 800})
    keep(page, "narrow")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        os.environ["AUTOTAG_STATE"] = os.environ["AUTOTAG_CACHE"] = folder
        album = Path(folder) / "photos"
        make_album(album)
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=["--no-sandbox"]
        )
        with reviewed(album) as address:
            page = browser.new_page(color_scheme="light", reduced_motion="reduce")
            page.on("console", lambda message: print("page:", message.text, file=sys.stderr))
            page.on("pageerror", lambda error: print("page:", error, file=sys.stderr))
            take(page, address)
            browser.close()


if __name__ == "__main__":
    main()
