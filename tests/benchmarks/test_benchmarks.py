"""The benchmarks run and say what they claim; their figures are judged by people."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from autotag.images.reading import read_image

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
NAMES = ("coca", "decode", "import_time", "keyphrases", "pipeline", "scaling")


@pytest.fixture
def script(import_file: Callable[[Path], ModuleType]) -> Callable[[str], ModuleType]:
    return lambda name: import_file(BENCHMARKS / f"{name}.py")


def run(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)


def pixels(paths: list[Path]) -> list[bytes]:
    return [read_image(path).image.tobytes() for path in paths]


def sizes(paths: list[Path]) -> list[tuple[int, int]]:
    return [read_image(path).size for path in paths]


@pytest.mark.slow
def test_scaling_prints_one_table_and_keeps_it_with_its_circumstances(tmp_path):
    done = run(
        "scaling",
        "--images",
        10,
        30,
        "--batch-sizes",
        4,
        8,
        "--threads",
        1,
        2,
        "--results",
        tmp_path / "kept",
    )
    kept = json.loads((tmp_path / "kept" / "scaling.json").read_text())
    assert [row["images"] for row in kept["rows"]] == [10, 30, 30, 30, 30]
    assert {(row["batch"], row["threads"]) for row in kept["rows"]} == {(4, 1), (4, 2), (8, 1), (8, 2)}
    assert all(row["engine ms"] > 0 and row["MB at the end"] > 10 for row in kept["rows"])
    assert kept["machine"]["processor"]
    assert kept["machine"]["cores"] >= 1
    assert kept["versions"]["autotag-images"]
    assert kept["options"]["images"] == [10, 30]
    assert str(tmp_path) not in json.dumps(kept)
    assert done.stdout.splitlines()[0].split()[:3] == ["images", "batch", "threads"]
    assert len(done.stdout.splitlines()) == 2 + 5 + 2


@pytest.fixture
def given(script, tmp_path):
    parser = argparse.ArgumentParser()
    script("material").add_material_options(parser)
    return parser.parse_args(["--cache", str(tmp_path / "cache")])


def test_photographs_are_as_many_as_wanted_all_different_and_the_same_each_time(script, given):
    photographs = script("material").photographs
    paths = photographs(given, 20)
    assert sizes(paths) == [(500, 375)] * 20
    before = pixels(paths)
    assert len(set(before)) == 20
    for path in paths:
        path.unlink()
    assert pixels(photographs(given, 20)) == before


def test_own_photographs_come_first_as_they_are(script, given, tmp_path):
    given.photos = tmp_path / "own"
    given.photos.mkdir()
    Image.new("RGB", (640, 480), "red").save(given.photos / "a.jpg")
    paths = script("material").photographs(given, 3)
    assert paths[0] == given.photos / "a.jpg"
    assert sizes(paths) == [(640, 480), (500, 375), (500, 375)]


def test_captions_are_never_repeated_which_would_flatter_a_cache(script, given):
    texts = script("material").caption_texts(given, 10_000)
    assert len(texts) == len(set(texts)) > 50
    assert script("material").caption_texts(given, 5) == texts[:5]


def test_captions_come_from_a_file_of_ones_own(script, given, tmp_path):
    given.captions = tmp_path / "mine.txt"
    given.captions.write_text("a dog\n\na cat\na dog\n", encoding="utf-8")
    assert script("material").caption_texts(given, 10) == ["a dog", "a cat"]


def test_a_table_has_numbers_to_the_right_and_nothing_for_none(script, capsys):
    script("reporting").print_table(["way", "ms"], [["naive", 1234.5], ["ours", 1.25], ["odd", None]])
    assert capsys.readouterr().out == "way       ms\n-----  -----\nnaive  1,234\nours    1.25\nodd\n"


@pytest.mark.parametrize("name", NAMES)
def test_the_page_on_performance_names_the_benchmark(name):
    page = (BENCHMARKS.parent / "docs" / "performance.md").read_text(encoding="utf-8")
    assert f"python benchmarks/{name}.py" in page
    assert f"python benchmarks/{name}.py" in (BENCHMARKS / f"{name}.py").read_text(encoding="utf-8")


@pytest.mark.slow
def test_parity_without_the_other_package_says_so_and_ends(tmp_path):
    peer = tmp_path / "python"
    peer.write_text("#!/bin/sh\necho clip_interrogator is not installed >&2\nexit 1\n")
    peer.chmod(0o755)
    said = run("interrogator_parity", "--peer", peer, "--results", tmp_path / "results").stdout
    assert said == f"skipped: {peer} has no clip-interrogator (clip_interrogator is not installed)\n"
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_the_benchmark_of_albums_measures_every_writer_the_second_run_and_memory(tmp_path):
    run("albums", "--photos", 6, "--rerun", 8, "--memory", 2, 4, "--results", tmp_path)
    rows = json.loads((tmp_path / "albums.json").read_text())["rows"]
    measured = {row["what"]: row["value"] for row in rows}
    assert [what for what in measured if what.startswith("bookkeeping")] == [
        f"bookkeeping per photograph: {writers}"
        for writers in ("xmp", "xmp embedded", "txt", "jsonl", "xmp, txt, jsonl")
    ]
    assert measured["second run over 8 photographs"] > 0
    assert measured["memory at 4 photographs"] > 10


@pytest.mark.slow
def test_a_fast_path_is_measured_on_and_off(tmp_path):
    done = run("fast_paths", "--paths", "views", "--images", 1, "--rounds", 1, "--results", tmp_path)
    kept = [json.loads(path.read_text()) for path in tmp_path.glob("*.json")]

    assert "views" in done.stdout
    assert len(kept) == 1
    assert "views" in json.dumps(kept)
