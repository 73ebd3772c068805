"""The page in a real browser: keys, filters, decisions, undo, apply, narrow windows, colours, names."""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvicorn
from review_client import rows, write_plan

from autotag.albums import undo_album
from autotag.metadata import read_packet
from autotag.review.app import create_app
from autotag.review.endpoints import Desk
from autotag.testing import make_image
from autotag.vocabularies.vocabulary import Vocabulary

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # pipes that playwright leaves to the collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
TOKEN = "a-token-of-more-than-16-characters"  # noqa: S105 - of a test
Page = "playwright.Page"

# WCAG 2.2: 1.4.3, 4.5:1 for text, 3:1 for large text; what is disabled is exempt.
CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (text) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = text;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, under) => top.slice(0, 3).map((one, i) => one * top[3] + under[i] * (1 - top[3]));
  const light = (rgb) => {
    const linear = (one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = rgb.map((one) => linear(one / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    if (!element) throw new Error("nothing has a ground");
    const colour = rgba(getComputedStyle(element).backgroundColor);
    return colour[3] === 1 ? colour.slice(0, 3) : over(colour, ground(element.parentElement));
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    const text = own ? element.textContent.trim() : element.placeholder ?? "";
    const box = element.getBoundingClientRect();
    const isSeen = element.checkVisibility({ opacityProperty: true, visibilityProperty: true });
    if (!text || element.disabled || !isSeen || box.width < 2) continue;
    if (element.closest(".photo") && !element.closest(".decide, .badge")) continue; // behind its picture
    const style = getComputedStyle(element);
    const colour = own ? style.color : getComputedStyle(element, "::placeholder").color;
    const under = ground(element);
    const [one, two] = [light(over(rgba(colour), under)), light(under)].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (two + 0.05);
    const size = parseFloat(style.fontSize);
    const wanted = size >= 24 || (size >= 18.66 && +style.fontWeight >= 700) ? 3 : 4.5;
    found.push({ text: text.slice(0, 40), ratio: Math.round(ratio * 100) / 100, wanted });
  }
  return found;
}"""


@pytest.fixture(scope="module")  # it runs an event loop in this thread until it is closed
def browser() -> Iterator[object]:
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=180_000)
        yield found
        found.close()


@pytest.fixture
def serve() -> Iterator[Callable[[Desk], str]]:
    """Serves reviews on loopback, a port the last one given it; returns the page's address."""
    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def serve(desk: Desk, *, port: int = 0) -> str:
        while port and running:
            end(*running.pop())
        config = uvicorn.Config(create_app(desk), port=port, log_config=None, access_log=False)
        server, socket = uvicorn.Server(config), config.bind_socket()
        thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]})
        thread.start()
        running.append((server, thread))
        return f"http://127.0.0.1:{socket.getsockname()[1]}/review/"

    def end(server: uvicorn.Server, thread: threading.Thread) -> None:
        server.should_exit = True
        thread.join(20)

    yield serve
    for one in running:
        end(*one)


class Shown:
    """A page, and what went wrong in it."""

    def __init__(self, browser, address: str, **options: object) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        self.page = self.context.new_page()
        self.page.set_default_timeout(120_000)
        self.problems: list[str] = []
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on(
            "console",
            lambda said: said.type == "error" and self.problems.append(f"{said.text} {said.location}"),
        )
        self.page.goto(address)

    def loaded(self) -> Shown:
        self.page.wait_for_selector(".inspector .file")
        return self

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def file(self) -> str:
        return self.page.locator(".inspector .file").inner_text()

    def chips(self) -> dict[str, str]:
        """The tags of the photograph in hand, with their states."""
        items = self.page.locator(".tag-rows li")
        return {
            item.locator(".name").evaluate("e => e.firstChild.textContent"): item.get_attribute("class")
            for item in items.all()
        }

    def until(self, expected: object, look: Callable[[], object]) -> None:
        """Waits until the page shows something."""
        for _ in range(300):
            if look() == expected:
                return
            self.page.wait_for_timeout(200)
        assert look() == expected

    def count(self, expected: str) -> None:
        self.until(expected, lambda: self.page.locator("#count").inner_text())


@pytest.fixture
def shown(browser, plan: Path, opened, serve) -> Iterator[Shown]:
    desk = opened(plan, vocabulary=Vocabulary.bundled("things"))
    found = Shown(browser, serve(desk)).loaded()
    found.desk = desk
    yield found
    found.context.close()
    assert found.problems == []


def test_a_list_read_before_a_decision_and_answered_after_it_does_not_hide_the_decision(shown):
    held, kept = [], threading.Event()

    def later(route) -> None:  # the first part that is asked for: it is read now, and arrives when we say
        if kept.is_set() or "cursor=" not in route.request.url:
            return route.continue_()
        kept.set()
        held.append((route, route.fetch()))
        return None

    shown.page.route("**/photos?*", later)
    shown.press("1")
    shown.until(True, kept.is_set)
    with shown.page.expect_response("**/decisions"):
        shown.press("2")
    shown.page.wait_for_timeout(300)  # the page knows the second revision before the old part arrives
    [(route, old)] = held
    route.fulfill(response=old)
    shown.page.wait_for_timeout(1000)
    assert shown.chips() == {"beach": "confirmed", "dog": "confirmed", "sea": "undecided"}


def test_keys_move_and_decide(shown):
    assert shown.file() == "2023/beach.jpg"
    shown.press("1", "2", "2")
    shown.until({"beach": "confirmed", "dog": "rejected", "sea": "undecided"}, shown.chips)
    shown.press("2")
    shown.until({"beach": "confirmed", "dog": "undecided", "sea": "undecided"}, shown.chips)
    shown.press("j")
    shown.until("2023/park.jpg", shown.file)
    shown.press("k", "y")
    shown.until("2023/park.jpg", shown.file)  # y goes on to the next one
    shown.press("n", "k")
    shown.until({"dog": "rejected", "tree": "rejected"}, shown.chips)
    shown.press("k")
    shown.until({"beach": "confirmed", "dog": "confirmed", "sea": "confirmed"}, shown.chips)
    shown.press("End")
    shown.until("plain.jpg", shown.file)
    shown.press("Home", "ArrowRight", "ArrowDown")
    shown.until("2024/garden.jpg", shown.file)  # three stand in a row
    assert shown.page.evaluate("document.activeElement.dataset.place") == "4"


def test_with_a_tag_looked_for_y_and_n_are_about_it(shown):
    shown.page.locator("#tags button", has_text="dog").click()
    shown.count("2 photographs fit")
    assert shown.page.locator("#tags button[aria-pressed=true]").inner_text().startswith("dog")
    shown.page.locator(".tile").first.focus()
    shown.press("y", "n")
    states = lambda: [  # noqa: E731
        {one["text"]: one["state"] for one in photo["tags"]}["dog"]
        for photo in shown.page.evaluate("fetch('/review/api/photos?tag=dog').then(a => a.json())")["photos"]
    ]
    shown.until(["confirmed", "rejected"], states)
    shown.until(
        ["dog", "dog"], lambda: [chip.inner_text() for chip in shown.page.locator(".chip:first-child").all()]
    )
    shown.page.locator(".tile").first.locator("button.no").click()
    shown.until(["rejected", "rejected"], states)
    shown.press("Escape")
    shown.count("6 photographs")


def test_search_finds_names_captions_and_tags(shown):
    shown.press("/")
    shown.page.keyboard.type("harb")
    shown.count("1 photograph fits")
    shown.until("2023/trip/harbour.png", shown.file)
    shown.page.locator("#text").fill("nothing at all")
    shown.count("0 photographs fit")
    assert "Take a filter out" in shown.page.locator("#empty").inner_text()
    shown.press("Escape")
    shown.page.locator("#text").fill("")
    shown.count("6 photographs")


def test_every_filter_is_taken_out_where_nothing_fits(shown):
    page = shown.page
    page.locator("#folder").select_option("2024")
    page.get_by_label("Rejected", exact=True).check()
    page.locator("#text").fill("harbour")
    shown.count("0 photographs fit")
    page.get_by_role("button", name="Show all photographs").click()
    shown.count("6 photographs")
    assert (page.locator("#text").input_value(), page.locator("#folder").input_value()) == ("", "")
    assert page.get_by_label("All", exact=True).is_checked()


def test_help_lists_the_keys(shown):
    shown.press("?")
    assert "confirm, reject" in shown.page.get_by_role("dialog", name="Keys").inner_text()
    shown.press("y")  # is not heard while a dialog is open
    shown.press("Escape")
    assert shown.page.locator("dialog").count() == 0
    assert set(shown.chips().values()) == {"undecided"}


def test_folder_state_and_order_narrow_the_list(shown):
    shown.page.get_by_label("Folder").select_option("2023")
    shown.count("3 photographs fit")
    shown.page.get_by_label("Order").select_option("best")
    shown.until(
        "2023/beach.jpg", lambda: shown.page.locator(".tile").first.get_attribute("aria-label").split(". ")[0]
    )
    shown.page.locator(".tile").first.focus()
    shown.press("1")
    shown.until("confirmed", lambda: shown.chips().get("beach"))
    shown.page.get_by_role("radio", name="Confirmed").check(force=True)
    shown.count("1 photograph fits")


def test_the_slider_counts_at_once_and_cuts(shown):
    page = shown.page
    shown.until("12 tags on 5 photographs", lambda: page.locator("#cut-counts").inner_text())
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.locator("#cut").evaluate("""(slider) => {
      slider.value = slider.max; slider.dispatchEvent(new Event("input"));
    }""")
    assert page.locator("#cut-counts").inner_text() == "1 tag on 1 photograph"
    assert not [url for url in asked if "scores" in url]
    shown.count("1 photograph fits")
    page.locator("#cut").focus()
    while page.locator("#cut-value").inner_text() > "0.300":
        page.keyboard.press("ArrowLeft")
    shown.until("4 tags on 3 photographs", lambda: page.locator("#cut-counts").inner_text())
    shown.count("3 photographs fit")
    assert page.locator("#cut").get_attribute("aria-valuetext") == "0.300: 4 tags on 3 photographs"
    page.locator("#reject-below").click()
    shown.until(
        "rejected tags in the photographs shown",
        lambda: shown.page.evaluate("fetch('/review/api/summary').then(a => a.json())")["undo"],
    )
    assert page.evaluate("fetch('/review/api/summary').then(a => a.json())")["tags"]["rejected"] == 8


def test_a_tag_is_confirmed_rejected_and_renamed_everywhere_and_undone(shown):
    page = shown.page
    summary = lambda: page.evaluate("fetch('/review/api/summary').then(a => a.json())")["tags"]  # noqa: E731
    page.locator("#tags button", has_text="automobile").click()
    page.get_by_role("button", name="Confirm everywhere").click()
    shown.until(2, lambda: summary()["confirmed"])
    page.get_by_role("button", name="Reject everywhere").click()
    shown.until(2, lambda: summary()["rejected"])
    page.locator(".toast").get_by_role("button", name="Undo").click()
    shown.until(2, lambda: summary()["confirmed"])
    page.get_by_role("button", name="Rename everywhere").click()
    name = page.get_by_label("New name")
    name.fill("ca")
    page.wait_for_selector("[role=option]")
    assert page.locator("[role=option]").first.inner_text() == "car"  # the album's own before the vocabulary
    name.press("ArrowDown")
    assert name.get_attribute("aria-activedescendant") == page.locator("[role=option]").first.get_attribute(
        "id"
    )
    name.press("Enter")
    shown.until("car", lambda: page.locator(".tag-bar .name").inner_text())
    shown.count("2 photographs fit")
    assert page.locator("#tags button", has_text="automobile").count() == 0
    page.locator("body").press("u")
    shown.until(1, lambda: page.locator("#tags button", has_text="automobile").count())


def test_a_tag_is_added_with_completion(shown):
    shown.press("End", "a")
    field = shown.page.get_by_label("Add a tag to this photograph")
    assert field.evaluate("e => e === document.activeElement")
    shown.page.keyboard.type("holi")
    shown.page.wait_for_selector("[role=option]")
    assert all("holi" in option.inner_text() for option in shown.page.locator("[role=option]").all())
    shown.press("Escape")
    shown.page.keyboard.type("day of ours")
    shown.press("Enter")
    shown.until({"holiday of ours": "confirmed"}, shown.chips)
    assert field.evaluate("e => e === document.activeElement")  # for the next one


def test_names_are_shown_as_text(shown):
    shown.page.locator("#tags button", has_text="bold").click()
    shown.count("1 photograph fits")
    assert shown.page.locator("main b, .inspector b, #tags b").count() == 0
    assert shown.page.locator(".tag-bar .name").inner_text() == "<b>bold</b>"


def test_a_suggestion_near_the_cut_is_marked_for_the_eye_and_for_screen_readers(browser, plan, opened, serve):
    head, *lines = plan.read_text(encoding="utf-8").splitlines()
    first = json.loads(lines[0])
    text = first["tags"][0]["text"]
    first["tags"][0]["near_cut"] = True
    plan.write_text("\n".join([head, json.dumps(first), *lines[1:], ""]), encoding="utf-8")
    shown = Shown(browser, serve(opened(plan))).loaded()
    marked = shown.page.locator(".inspector .near-cut")
    assert marked.count() == 1
    assert marked.is_visible()
    row = shown.page.get_by_role("button", name=f"{text}, undecided, near the cut.")
    assert row.locator(".near-cut").count() == 1
    shown.context.close()


def test_apply_writes_and_undo_takes_it_back(shown, album):
    page = shown.page
    page.locator("#tags button", has_text="dog").click()
    page.get_by_role("button", name="Reject everywhere").click()
    shown.until("2 of 12 tags decided", lambda: page.locator("#progress").text_content())
    page.get_by_role("button", name="Apply…").click()
    dialog = page.get_by_role("dialog", name="Apply")
    assert "autotag undo --last" in dialog.inner_text()
    dialog.get_by_role("button", name="Apply now").click()
    page.get_by_text("Done.").wait_for()
    assert set(read_packet((album / "2023/beach.jpg.xmp").read_bytes()).keywords.flat) == {"beach", "sea"}
    dialog.get_by_role("button", name="Close").click()
    assert page.locator(".badge").count() == 0
    assert undo_album(album, last=True).errors == []
    assert not list(album.rglob("*.xmp"))


def test_a_jump_far_from_the_photograph_in_hand_asks_only_for_what_is_on_the_screen(
    browser, tmp_path, opened, serve
):
    """The row of the keyboard's focus stays in the document; what lies between is not asked for."""
    folder = tmp_path / "many"
    folder.mkdir()
    first = folder / "0000.png"
    make_image("red", size=(8, 8)).save(first)
    names = [f"{number:04}.png" for number in range(2000)]
    for name in names[1:]:
        os.link(first, folder / name)
    plan = write_plan(tmp_path / "many.jsonl", folder, {name: ("red", {"red": 0.3}) for name in names})
    shown = Shown(browser, serve(opened(plan))).loaded()
    asked: list[str] = []
    shown.page.on("request", lambda request: "/photos?" in request.url and asked.append(request.url))
    shown.page.evaluate("() => { const box = document.getElementById('scroll'); box.scrollTop = 1e9; }")
    shown.page.wait_for_selector('.tile[aria-label^="1999.png"] img.here')
    shown.page.wait_for_timeout(500)
    assert shown.page.locator('.tile[data-place="0"]').count() == 1
    assert 1 <= len(asked) <= 2
    shown.context.close()
    assert shown.problems == []


def test_a_photograph_that_changed_or_is_gone_is_said(shown, album):
    shown.until(6, shown.page.locator(".tile img.here").count)
    make_image("red", size=(60, 40)).save(album / "2023/beach.jpg")
    (album / "2023/park.jpg").unlink()
    shown.page.reload()
    shown.loaded()
    assert [badge.inner_text() for badge in shown.page.locator(".badge").all()] == ["changed", "missing"]
    assert "plan it again" in shown.page.get_by_role("alert").inner_text()
    shown.press("j")
    shown.until(
        "The file is not there any more. Applying leaves it out.",
        lambda: shown.page.get_by_role("alert").inner_text(),
    )


def test_two_windows_see_each_others_decisions(shown, browser):
    other = Shown(browser, shown.page.url).loaded()
    other.press("1")
    other.until("confirmed", lambda: other.chips()["beach"])
    shown.until("confirmed", lambda: shown.chips()["beach"])
    other.context.close()
    assert other.problems == []


def test_decisions_are_there_after_the_server_began_again(shown, opened, plan, browser, serve):
    shown.press("1", "n")
    shown.until("2023/park.jpg", shown.file)
    shown.until(2, lambda: shown.desk.review.revision)
    shown.desk.review.close()
    again = Shown(browser, serve(opened(plan))).loaded()
    assert again.chips() == {"beach": "confirmed", "dog": "rejected", "sea": "rejected"}
    assert again.page.get_by_role("button", name="Undo").is_enabled()
    again.context.close()


def test_a_window_of_another_plan_at_this_address_decides_nothing_and_shows_the_new_one(
    shown, opened, album, serve, tmp_path
):
    other = opened(write_plan(tmp_path / "other.jsonl", album, {"2023/park.jpg": ("green", {"lawn": 0.5})}))
    port = int(re.search(r":(\d+)/", shown.page.url)[1])
    serve(other, port=port)  # as after Ctrl-C and `autotag review other.jsonl`
    shown.press("1")
    shown.page.locator("#toast", has_text="This is it.").wait_for()
    assert shown.chips() == {"lawn": "undecided"}
    assert other.review.revision == 0
    shown.press("1")
    shown.until({"lawn": "confirmed"}, shown.chips)
    shown.problems = [one for one in shown.problems if "409" not in one]  # chromium notes the refusal


def test_a_token_is_asked_for(browser, plan, opened, serve):
    shown = Shown(browser, serve(opened(plan, tokens=(TOKEN,))))
    field = shown.page.get_by_label("Token", exact=True)
    field.fill("wrong")
    field.press("Enter")
    shown.until(
        "This server does not know that token.", lambda: shown.page.locator("dialog .wrong").inner_text()
    )
    field.fill(TOKEN)
    field.press("Enter")
    shown.loaded()
    shown.page.wait_for_selector(".tile img.here")
    shown.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("dialog", ["", "?", "Apply…"])
def test_text_has_the_contrast_of_wcag_aa(browser, plan, opened, serve, scheme, dialog):
    desk = opened(plan)
    shown = Shown(browser, serve(desk), color_scheme=scheme, reduced_motion="reduce").loaded()
    assert shown.page.evaluate(f"matchMedia('(prefers-color-scheme: {scheme})').matches")
    ground = shown.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(244, 245, 247)", "dark": "rgb(19, 21, 25)"}[scheme]
    shown.page.locator("#tags button", has_text="dog").click()
    shown.count("2 photographs fit")
    shown.page.locator(".tile").first.focus()
    shown.press("y", "n", "u")
    shown.page.wait_for_selector(".toast div")
    if dialog == "?":
        shown.press("?")
    elif dialog:
        shown.page.get_by_role("button", name=dialog).click()
        shown.page.wait_for_selector("dialog .numbers")
    found = shown.page.evaluate(CONTRAST)
    assert len(found) > 40
    assert [one for one in found if one["ratio"] < one["wanted"]] == []
    shown.context.close()


def test_the_theme_is_switched_and_remembered(shown):
    shown.page.emulate_media(color_scheme="light")
    shown.page.get_by_role("button", name="Switch between light and dark").click()
    dark = "rgb(19, 21, 25)"
    assert shown.page.evaluate("getComputedStyle(document.body).backgroundColor") == dark
    shown.page.reload()
    assert shown.loaded().page.evaluate("getComputedStyle(document.body).backgroundColor") == dark


def test_every_control_has_a_name_and_is_reached_by_the_keyboard(shown):
    shown.page.locator("#tags button", has_text="dog").click()
    shown.count("2 photographs fit")
    shown.press("1")
    shown.until(True, shown.page.locator("#undo").is_enabled)
    nameless = [
        line
        for line in shown.page.locator("body").aria_snapshot().splitlines()
        if re.fullmatch(
            r"\s*- (button|textbox|searchbox|combobox|slider|radio|option|gridcell|grid|listbox)( \[.*\])?:?",
            line,
        )
    ]
    assert nameless == []
    reached = set()
    shown.page.evaluate("document.activeElement.blur()")
    for _ in range(80):
        shown.press("Tab")
        reached.add(
            shown.page.evaluate(
                "(document.activeElement.id || document.activeElement.getAttribute('aria-label') "
                "|| document.activeElement.textContent || '').trim().slice(0, 40)"
            )
        )
    for control in ("text", "undo", "theme", "help", "apply", "cut", "folder", "order", "tag-part", "add-tag",
                    "Confirm everywhere", "Reject everywhere", "Rename everywhere…", "confirm dog",
                    "reject dog", "Confirm the rest", "Reject the rest"):  # fmt: skip
        assert control in reached, control
    assert any(name.startswith("2023/beach.jpg") for name in reached)
    assert any(name.startswith("dog: 2 photographs") for name in reached)


def test_counts_are_said_to_screen_readers(shown):
    for place in ("#count", "#said", "#toast"):
        assert shown.page.locator(place).get_attribute("role") == "status"
    assert shown.page.locator("#cut-counts").get_attribute("aria-live") == "polite"
    tile = shown.page.locator(".tile[aria-selected=true]")
    assert tile.get_attribute("aria-label").startswith(
        "2023/beach.jpg. a yellow picture. beach undecided, 0.31"
    )
    assert shown.page.get_by_role("grid").get_attribute("aria-rowcount") == "2"
    shown.press("1")
    shown.until("beach: confirmed", lambda: shown.page.locator("#said").text_content())


def test_a_narrow_window_has_everything(browser, plan, opened, serve):
    shown = Shown(browser, serve(opened(plan)), viewport={"width": 390, "height": 780}).loaded()
    page = shown.page
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert not page.locator("#tags").is_visible()
    page.get_by_role("button", name="Filters").click()
    page.locator("#tags button", has_text="dog").click()
    shown.count("2 photographs fit")
    assert not page.locator("#tags").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    for name in (
        "Confirm everywhere",
        "Rename everywhere…",
        "Apply…",
        "confirm dog",
        "Add a tag to this photograph",
    ):
        control = (
            page.get_by_label(name, exact=True).or_(page.get_by_role("button", name=name, exact=True)).first
        )
        control.scroll_into_view_if_needed()
        box = control.bounding_box()
        assert box["x"] >= 0, name
        assert box["x"] + box["width"] <= 390, name
    page.get_by_role("button", name="confirm dog", exact=True).click()
    shown.until("confirmed", lambda: shown.chips()["dog"])
    shown.context.close()


def test_only_what_is_near_the_screen_is_in_the_document(browser, album, opened, serve, tmp_path):
    """Two thousand photographs, all of them one file under many names."""
    names = {}
    for number in range(2000):
        name = f"many/{number:04}.jpg"
        (album / "many").mkdir(exist_ok=True)
        os.link(album / "2023/park.jpg", album / name)
        names[name] = ("green", {"tree": 0.2 + number / 10_000})
    plan = write_plan(tmp_path / "many.jsonl", album, names)
    assert len(rows(plan)) == 2001
    shown = Shown(browser, serve(opened(plan))).loaded()
    for place in (0, 1200, 1999):
        shown.page.evaluate(
            "place => { const box = document.getElementById('scroll'); "
            "box.scrollTop = box.scrollHeight * place / 2000; }",
            place,
        )
        shown.page.wait_for_function(
            """() => { const box = document.getElementById("scroll").getBoundingClientRect();
            const seen = [...document.querySelectorAll(".tile")].filter((tile) => {
              const own = tile.getBoundingClientRect();
              return own.bottom > box.top && own.top < box.bottom; });
            return seen.length > 6 && seen.every((tile) => tile.querySelector("img.here")); }"""
        )
        assert shown.page.locator(".tile").count() < 80
    shown.press("Home")
    shown.page.locator(".tile").first.focus()
    shown.press("End")
    shown.until("many/1999.jpg", shown.file)
    assert shown.page.locator(".tile[aria-selected=true]").is_visible()
    shown.context.close()
    assert shown.problems == []
