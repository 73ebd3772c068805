from __future__ import annotations

import json

import pytest
from PIL import Image

from autotag.testing import make_image


@pytest.fixture
def copies(photos):
    """The three photographs of the album, and two copies of one."""
    scene = make_image("red").resize((96, 64))
    scene.paste((250, 240, 10), (10, 5, 40, 30))
    scene.paste((10, 40, 200), (50, 30, 90, 60))
    scene.save(photos / "a.png")
    (photos / "same.png").write_bytes((photos / "a.png").read_bytes())
    scene.resize((48, 32), Image.Resampling.BICUBIC).save(photos / "small.jpg", quality=90)
    return photos


def names(lines):
    return [line.rpartition("/")[2] for line in lines]


def test_every_format_says_the_same(copies, run):
    table = run("duplicates", copies)
    assert table.exit_code == 0
    assert [line.split()[0] for line in table.stdout.splitlines()] == ["3", "keep", "bytes", "picture"]
    assert "1 photograph is there more than once; 2 copies take" in table.stderr
    assert names(run("duplicates", copies, "--format", "paths").stdout.splitlines()) == [
        "same.png",
        "small.jpg",
    ]
    nul = run("duplicates", copies, "--format", "paths0").stdout_bytes
    assert [path.rpartition(b"/")[2] for path in nul.split(b"\0")] == [b"same.png", b"small.jpg", b""]
    (group,) = json.loads(run("duplicates", copies, "--format", "json").stdout)
    assert [photo["kind"] for photo in group["photos"]] == [None, "bytes", "picture"]
    assert json.loads(run("duplicates", copies, "--format", "jsonl").stdout) == group
    page = run("duplicates", copies, "--format", "html").stdout
    assert page.count("data:image/jpeg;base64,") == 3
    assert page.count('class="keep"') == 1
    assert {path.name for path in copies.iterdir()} >= {"a.png", "same.png", "small.jpg"}


def test_bursts_are_among_the_paths_only_when_asked(photos, run):
    for second in (1, 2):
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9003] = f"2020:05:17 14:03:0{second}"
        image = make_image("red").resize((96, 64))
        image.paste((250, 240, 10), (10 * second, 5, 10 * second + 30, 30))
        image.save(photos / f"burst{second}.jpg", exif=exif)
    assert "1 burst of 2 photographs" in run("duplicates", photos).stderr
    assert run("duplicates", photos, "--format", "paths").stdout == ""
    assert len(run("duplicates", photos, "--format", "paths", "--bursts").stdout.splitlines()) == 1


def test_what_cannot_be_read_makes_exit_code_1(copies, run):
    (copies / "torn.jpg").write_bytes(b"\xff\xd8\xff")
    result = run("duplicates", copies)
    assert result.exit_code == 1
    assert "torn.jpg" in result.stderr
    assert result.stdout.count("\n") == 4


@pytest.mark.parametrize(
    "wrong", [(), ("--same", "looks"), ("--burst-seconds", "-1"), ("--format", "csv"), ("--index", "no.db")]
)
def test_bad_options_are_refused(run, wrong, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("duplicates", *wrong)
    assert result.exit_code == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [["duplicates"], ["search", "--image"]])
def test_a_url_is_refused_without_naming_an_option_that_is_missing(run, command):
    result = run(*command, "https://x.org/a.jpg")
    assert result.exit_code == 2
    assert "'https://x.org/a.jpg' is a URL, and this command reads files; download it first." in result.stderr


def test_photographs_or_an_index_not_both(copies, run):
    assert run("duplicates", copies, "--index", "index.db").exit_code == 2
