"""The page in a real browser: every tab, and no request that leaves this machine."""

from __future__ import annotations

import os
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import autotag

sys.path.insert(0, str(Path(__file__).parent))  # for the module beside this one; tests are no package

pytest.importorskip("gradio", reason="needs gradio: pip install 'autotag-images[ui,test]'")
playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
pytestmark = [pytest.mark.ui, pytest.mark.filterwarnings("ignore")]
if not Path(CHROMIUM).exists():
    pytest.skip("needs chromium: apt-get install chromium", allow_module_level=True)

from demo_server import Demo  # noqa: E402

from autotag.demo.searched_index import SearchedIndex  # noqa: E402
from autotag.records import Sample, Tag  # noqa: E402
from autotag.search import Index  # noqa: E402
from autotag.stages import CaptionImages, EmbedImages  # noqa: E402

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
CAT = EXAMPLES / "cat.jpg"


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    with autotag.load("mini") as pipeline, Demo(pipeline) as demo:
        yield demo


@pytest.fixture
def page(demo: Demo) -> Iterator[object]:
    with opened(demo) as page:
        yield page


@contextmanager
def opened(demo: Demo) -> Iterator[object]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=180_000)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(180_000)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(demo.url)
        page.wait_for_selector("button[role=tab]")
        yield page
        outside = [url for url in asked if not url.startswith((demo.url, "data:", "blob:"))]
        assert outside == []
        browser.close()


def tab(page, name: str):
    page.get_by_role("tab", name=name, exact=True).click()
    return page.get_by_role("tabpanel").filter(visible=True)


def upload(page, panel, *paths: Path) -> None:
    with page.expect_response(lambda answer: "/upload?" in answer.url or answer.url.endswith("/upload")):
        panel.locator("input[type=file]").first.set_input_files([str(path) for path in paths])
    page.wait_for_timeout(500)


def test_every_tab_answers_in_the_browser(page, tmp_path: Path) -> None:
    panel = tab(page, "Prompt")
    upload(page, panel, CAT)
    panel.get_by_label("classic").check()
    panel.get_by_role("button", name="Write the prompt").click()
    page.wait_for_function(
        "[...document.querySelectorAll('textarea')].some(e => e.value.includes('a close up of a tabby,'))"
    )

    panel = tab(page, "Analyze")
    upload(page, panel, CAT)
    panel.get_by_role("button", name="Analyze").click()
    panel.get_by_text("a cartoon").first.wait_for()

    panel = tab(page, "Tag")
    upload(page, panel, CAT)
    panel.get_by_role("button", name="Tag", exact=True).click()
    panel.get_by_text(re.compile(r"^3 of \d+ candidates$")).wait_for()
    panel.get_by_text(re.compile(r"in the caption '.*cat'")).first.wait_for()
    cut = panel.locator("input[type=number]").first
    cut.fill("0.2")
    cut.press("Tab")
    panel.get_by_text(re.compile(r"^2 of \d+ candidates$")).wait_for()

    panel = tab(page, "Batch")
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(CAT.read_bytes()[:4000])
    upload(page, panel, *sorted(EXAMPLES.glob("c*.jpg")), broken)
    panel.get_by_role("button", name="Tag them all").click()
    panel.get_by_text("1 failed. Finished.").wait_for()
    for name in ("tags.csv", "tags.jsonl", "sidecars.zip"):
        panel.locator(f"a[href*='{name}']").first.wait_for()


def test_an_error_leaves_the_sliders_in_sight(page) -> None:
    panel = tab(page, "Tag")
    panel.get_by_role("button", name="Tag", exact=True).click()
    page.get_by_text("Choose an image first.").wait_for()
    panel.locator(".error").first.wait_for()
    slider = panel.locator("input[type=range]").first.bounding_box()
    on_top = page.evaluate(
        "([x, y]) => document.elementFromPoint(x, y).type",
        [slider["x"] + slider["width"] / 2, slider["y"] + slider["height"] / 2],
    )
    assert on_top == "range"


CONTRAST = """() => {
  const light = (css) => {
    const [r, g, b] = css.match(/[\\d.]+/g).slice(0, 3)
      .map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    const colour = getComputedStyle(element).backgroundColor;
    return /, 0\\)$/.test(colour) ? ground(element.parentElement) : colour;
  };
  const ratio = (element, colour) => {
    const [dark, bright] = [light(colour), light(ground(element))].sort((a, b) => a - b);
    return (bright + 0.05) / (dark + 0.05);
  };
  const shown = [...document.querySelectorAll("*")].filter((one) => one.checkVisibility());
  const has = (one) => [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  const words = shown.filter(has);
  return [
    ...words.map((one) => [one.textContent.trim(), ratio(one, getComputedStyle(one).color)]),
    ...shown.filter((one) => one.placeholder)
      .map((one) => [one.placeholder, ratio(one, getComputedStyle(one, "::placeholder").color)]),
  ];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(tmp_path: Path, scheme: str) -> None:
    index = SearchedIndex(tmp_path / "missing.db")
    with autotag.load("mini") as pipeline, Demo(pipeline, index=index) as demo, opened(demo) as page:
        page.emulate_media(color_scheme=scheme)
        page.reload()
        found = []
        for name in ("Prompt", "Analyze", "Tag", "Batch", "Search"):
            panel = tab(page, name)
            if name == "Search":
                panel.get_by_text("Filters").click()
                panel.get_by_label("Camera").wait_for()
            page.mouse.move(0, 0)
            page.wait_for_timeout(500)  # for colours that change slowly
            found += [(name, *one) for one in page.evaluate(CONTRAST)]
    said = {text for _, text, _ in found}
    assert {"A number that a search shows.", "dog, beach", "Photographs.", "17", "Tag them all"} <= said
    assert [one for one in found if one[-1] < 4.5] == []


def test_search_shows_photographs_and_more_like_one(tmp_path: Path) -> None:
    index = tmp_path / "index.db"
    stages = [CaptionImages("blip-mini"), EmbedImages()]
    with autotag.Pipeline(stages, encoder="clip-mini") as pipeline:
        with Index.open(index) as made:
            made.add(pipeline.stream(sorted(EXAMPLES.glob("c*.jpg"))), encoder_name="clip-mini")
        with Demo(pipeline, index=SearchedIndex(index)) as demo, opened(demo) as page:
            panel = tab(page, "Search")
            count = len(list(EXAMPLES.glob("c*.jpg")))
            panel.get_by_text(f"{count} photographs in the index").wait_for()
            panel.get_by_label("Words").first.fill("a cat")
            panel.get_by_label("Words").first.press("Enter")
            panel.get_by_text(f"{count} found; choose one to see it.").wait_for()
            page.set_viewport_size({"width": 400, "height": 900})
            gallery = panel.locator(".grid-wrap")
            assert gallery.evaluate("(one) => one.scrollWidth") <= gallery.evaluate(
                "(one) => one.clientWidth"
            )
            panel.locator("button.thumbnail-item").first.click()
            panel.get_by_text(str(CAT)).wait_for()
            panel.get_by_role("button", name="More like this").click()
            panel.get_by_text(f"{count - 1} found").wait_for()
            assert panel.get_by_label("Words").first.input_value() == ""
            panel.get_by_label("Like photograph #").fill("")
            upload(page, panel, EXAMPLES / "coffee.jpg")
            panel.get_by_role("button", name="Search", exact=True).click()
            panel.get_by_text(f"{count} found; choose one to see it.").wait_for()
            panel.get_by_text("Filters").click()
            panel.get_by_label("Since").fill("May")
            panel.get_by_role("button", name="Search", exact=True).click()
            page.get_by_text("since='May' is not a date").wait_for()


def test_cancel_ends_a_batch_and_keeps_what_was_begun(tmp_path: Path) -> None:
    gate, entered = threading.Event(), threading.Event()

    @autotag.stage(provides={"tags"})
    def gated(sample: Sample) -> None:
        entered.set()
        assert gate.wait(60)
        sample.tags = [Tag.proposed("cat", 0.5, "gated")]

    paths = [tmp_path / f"{number}.jpg" for number in range(20)]
    for number, path in enumerate(paths):
        path.write_bytes(CAT.read_bytes() + bytes([number]))
    with autotag.Pipeline([gated], encoder=None) as pipeline, Demo(pipeline) as demo, opened(demo) as page:
        try:
            panel = tab(page, "Batch")
            upload(page, panel, *paths)
            panel.get_by_role("button", name="Tag them all").click()
            assert entered.wait(60)
            # The page asks for what is not queued at this address; the batch itself went to /queue/join.
            with page.expect_response(lambda answer: "/run/predict" in answer.url):
                panel.get_by_role("button", name="Cancel").click()
        finally:
            gate.set()
        panel.get_by_text("of 20 done").filter(has_text="Cancelled.").first.wait_for()
