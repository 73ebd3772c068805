"""Measures the page of `autotag review` with 100,000 photographs in a real browser.

    python benchmarks/review.py --photographs 100000 --output benchmarks/results/review.json

The photographs are a few drawn by code, hard-linked under as many names. The server is a process of its own.
Measured are: seconds until the server listens; until the first screen has all of its pictures; how long the
slowest picture on the screen was waited for, while scrolling steadily and after jumps; the tab's memory
(resident, without what it shares with other processes). Beside wall time stands the processor time of the
server, which other work on the machine hardly changes. Needs autotag-images[test], chromium and Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Page, sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

ORIGINALS = 24
PER_FOLDER = 1000
LONGEST = 600_000  # milliseconds; whatever takes so long never comes, however busy the machine
TAGS = 8
WORDS = [f"{first} {second}" for first in ("red", "old", "small", "wet", "high", "far") for second in (
    "house", "tree", "dog", "boat", "street", "hill", "cloud", "chair", "field", "bridge", "lamp", "door",
)]  # fmt: skip
SEEN = """() => { const box = document.getElementById("scroll").getBoundingClientRect();
  return [...document.querySelectorAll(".tile")].filter((tile) => {
    const own = tile.getBoundingClientRect();
    return own.bottom > box.top && own.top < box.bottom; }); }"""
ALL_HERE = (
    f"() => {{ const seen = ({SEEN})(); "
    "return seen.length > 6 && seen.every((tile) => tile.querySelector('img.here')); }"
)
WATCH = f"""() => {{ const since = new Map(); window.longest = 0; window.samples = 0;
  const look = () => {{ const now = performance.now(); const waiting = new Set();
    for (const tile of ({SEEN})()) if (!tile.querySelector("img.here")) waiting.add(tile.dataset.place);
    for (const place of [...since.keys()]) if (!waiting.has(place)) since.delete(place);
    for (const place of waiting) {{ if (!since.has(place)) since.set(place, now);
      window.longest = Math.max(window.longest, now - since.get(place)); }}
    window.samples++; requestAnimationFrame(look); }};
  requestAnimationFrame(look); }}"""


def make_album(folder: Path, count: int) -> Path:
    """Draw some photographs, link them under many names, and write a plan of them; return the plan."""
    originals = folder / "originals"
    originals.mkdir()
    numbers = random.Random(7)  # noqa: S311 - pictures
    for number in range(ORIGINALS):
        image = Image.effect_noise((1600, 1200), 40).convert("RGB")
        draw = ImageDraw.Draw(image)
        for _ in range(40):
            left, top = numbers.randrange(1500), numbers.randrange(1100)
            colour = tuple(numbers.randrange(256) for _ in range(3))
            draw.ellipse(
                (left, top, left + numbers.randrange(40, 500), top + numbers.randrange(40, 400)), fill=colour
            )
        image.save(originals / f"{number}.jpg", quality=85)
    facts = [(originals / f"{number}.jpg").stat() for number in range(ORIGINALS)]
    album, plan = folder / "album", folder / "plan.jsonl"
    header = {
        "autotag_plan": 1,
        "album": str(album),
        "writers": {"xmp": {}},
        "outputs": {},
        "settings": "",
        "wanted": "",
    }
    with plan.open("w") as file:
        file.write(json.dumps(header) + "\n")
        for number in range(count):
            name = f"{2000 + number // PER_FOLDER:04}/img_{number:06}.jpg"
            (album / name).parent.mkdir(parents=True, exist_ok=True)
            os.link(originals / f"{number % ORIGINALS}.jpg", album / name)
            fact = facts[number % ORIGINALS]
            tags = [
                {"text": word, "score": round(numbers.uniform(0.1, 0.4), 4)}
                for word in numbers.sample(WORDS, TAGS)
            ]
            row = {
                "file": name,
                "bytes": fact.st_size,
                "mtime_ns": fact.st_mtime_ns,
                "digest": "",
                "pixels": [1600, 1200],
                "caption": f"a {tags[0]['text']} by a {tags[1]['text']}",
                "prompt": "",
                "tags": tags,
                "rename_to": None,
                "write": ["xmp"],
            }
            file.write(json.dumps(row) + "\n")
    return plan


@contextmanager
def reviewed(plan: Path, folder: Path) -> Iterator[tuple[str, int, float]]:
    """Yield the page's address, the server's process, and the seconds until it listened."""
    program = "from autotag.cli.main import main; main()"
    command = [sys.executable, "-c", program, "review", str(plan), "--port", "0", "--no-open"]
    environment = {
        **os.environ,
        "AUTOTAG_CACHE": str(folder / "cache"),
        "AUTOTAG_STATE": str(folder / "state"),
    }
    started = time.perf_counter()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as server:  # noqa: S603
        assert server.stderr
        try:
            for line in server.stderr:
                found = re.search(r"http://\S+", line)
                if found:
                    yield found[0], server.pid, time.perf_counter() - started
                    break
        finally:
            server.terminate()


def memory_of_tab(browser: Browser) -> float:
    """Return the resident memory of the largest renderer in MB, without what it shares."""
    session = browser.new_browser_cdp_session()
    found = session.send("SystemInfo.getProcessInfo")["processInfo"]
    return max(anonymous_memory(int(one["id"])) for one in found if one["type"] == "renderer")


def anonymous_memory(process: int) -> float:
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.findall(r"RssAnon:\s+(\d+)", status)[0]) / 1000


def processor_seconds(process: int) -> float:
    """Return the processor time that a process took so far."""
    times = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")


def waited(page: Page, *, steps: int, pixels: int, pause: float) -> float:
    """Scroll, and return the longest time in seconds that a picture on the screen was waited for."""
    page.evaluate("window.longest = 0")
    for _ in range(steps):
        page.mouse.wheel(0, pixels)
        page.wait_for_timeout(pause * 1000)
    page.wait_for_function(ALL_HERE)
    return float(round(page.evaluate("window.longest") / 1000, 3))


def jumped(page: Page) -> list[float]:
    """Jump to places all over the album; return the seconds until each screen had its pictures."""
    seconds = []
    for part in (0.5, 0.9, 0.1, 0.75, 0.33, 1.0, 0.0):
        started = time.perf_counter()
        page.evaluate(
            "part => { const box = document.getElementById('scroll'); "
            "box.scrollTop = box.scrollHeight * part; }",
            part,
        )
        page.wait_for_timeout(20)
        page.wait_for_function(ALL_HERE)
        seconds.append(round(time.perf_counter() - started, 3))
    return seconds


def measured(browser: Browser, address: str, server: int, photographs: int) -> dict[str, Any]:
    page = browser.new_page(viewport={"width": 1360, "height": 850})
    page.set_default_timeout(LONGEST)
    started, processor = time.perf_counter(), processor_seconds(server)
    page.goto(address)
    page.wait_for_function(ALL_HERE)
    seconds = time.perf_counter() - started
    found: dict[str, Any] = {
        "first_screen_s": round(seconds, 3),
        "first_screen_server_processor_s": round(processor_seconds(server) - processor, 3),
    }
    page.evaluate(WATCH)
    page.mouse.move(600, 400)
    found["scrolling_longest_wait_s"] = waited(page, steps=60, pixels=300, pause=0.1)
    found["jumps_s"] = jumped(page)
    started = time.perf_counter()
    middle = photographs // 2
    page.locator("#text").fill(f"{2000 + middle // PER_FOLDER:04}/img_{middle // 100:04}")
    page.wait_for_function(
        "() => document.getElementById('count').textContent.includes('100 photographs fit')"
    )
    found["search_s"] = round(time.perf_counter() - started, 3)
    page.locator("#text").fill("")
    page.locator("#tags button").first.click()
    page.get_by_role("button", name="Reject everywhere").click()
    started = time.perf_counter()
    page.locator(".toast div").wait_for()
    found["reject_everywhere_s"] = round(time.perf_counter() - started, 3)
    found["elements"] = page.evaluate("document.querySelectorAll('*').length")
    found["tab_MB"] = round(memory_of_tab(browser), 1)
    found["frames_sampled"] = page.evaluate("window.samples")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photographs", type=int, default=100_000)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        plan = make_album(folder, arguments.photographs)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        with reviewed(plan, folder) as (address, server, listening):
            found = {
                "photographs": arguments.photographs,
                "listening_s": round(listening, 1),
                "listening_processor_s": round(processor_seconds(server), 1),
                "cores": os.cpu_count(),
            }
            found |= {
                "load": round(os.getloadavg()[0], 1),
                **measured(browser, address, server, arguments.photographs),
            }
        browser.close()
    text = json.dumps(found, indent=2)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
