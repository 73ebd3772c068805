"""``autotag index``, ``search`` and ``accelerate`` with ``--store``."""

from __future__ import annotations

import json
import uuid

import pytest

from autotag.testing import make_image

PRESET = """
encoder = "clip-mini"
[[stages]]
stage = "colour_stages:NameColours"
"""


@pytest.mark.slow
def test_an_album_is_indexed_followed_searched_and_accelerated_in_postgres(
    postgres, photos, preset, run, monkeypatch
):
    monkeypatch.setenv("AUTOTAG_INDEX", "/nowhere/index.db")
    preset.write_text(PRESET)
    store = ("--store", postgres, "--table", f"photo_{uuid.uuid4().hex}")

    def index(*options):
        found = run("index", photos, "--preset", preset, *store, *options)
        assert found.exit_code == 0, found.stderr
        return found.stderr

    assert "3 indexed; 3 in the index" in index()
    assert "0 indexed, 3 unchanged; 3 in the index" in index()
    (photos / "blue.png").rename(photos / "more" / "azure.png")
    (photos / "a red.png").unlink()
    make_image("yellow").save(photos / "new.png")
    assert "1 indexed, 1 unchanged, 1 moved, 1 forgotten; 3 in the index" in index()

    found = json.loads(run("search", "blue", *store, "--format", "json").stdout)
    assert found[0]["path"].endswith("azure.png")
    assert found[0]["words"] == ["blue"]
    image = run("search", "--image", photos / "new.png", *store, "--format", "paths", "--top", "1")
    assert image.stdout.endswith("new.png\n")
    like = run("search", "--like", found[0]["id"], *store, "--format", "json")
    assert found[0]["path"] not in like.stdout
    assert "data:image/jpeg;base64," in run("search", "--tag", "blue", *store, "--format", "html").stdout
    assert run("search", "--tag", "unicorn", *store).exit_code == 1

    told = run("accelerate", *store)
    assert (told.exit_code, "hnsw: of the ten nearest it finds 100.0%" in told.stdout) == (0, True), (
        told.stderr
    )
    assert json.loads(run("search", "blue", *store, "--format", "json").stdout)[0] == found[0]
    other = run("search", "blue", *store, "--encoder", "clip-mini-of-nobody")
    assert other.exit_code == 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--index", "x.db", "--store", "postgresql://h/d"), "an index is in one place"),
        (("--table", "x"), "--store URL"),
        (("--store", "photos"), "postgresql://"),
        (("--store", "mysql://h/d"), "postgresql"),
    ],
)
def test_options_that_do_not_go_together_are_refused(run, options, told):
    found = run("search", "dog", *options)
    assert found.exit_code == 2
    assert told in found.stderr


def test_a_password_is_not_printed(run):
    found = run("search", "dog", "--store", "postgresql://me:s3cret@127.0.0.1:1/photos")
    assert found.exit_code == 2
    assert "cannot be reached" in found.stderr
    assert "s3cret" not in found.stderr + found.stdout
