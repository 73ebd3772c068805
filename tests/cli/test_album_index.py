"""``autotag album --index``: an index in the same pass as the keywords."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from autotag.images import reading
from autotag.pipeline import pipeline as pipelines
from autotag.search import Index
from autotag.testing import make_image

PRESET = """
encoder = "clip-mini"
[[stages]]
stage = "colour_stages:NameColours"
"""


@pytest.fixture
def album(preset, photos, run, tmp_path):
    preset.write_text(PRESET)

    def album(*options, index=True):
        chosen = ("--index", tmp_path / "index.db") if index else ()
        return run("album", photos, "--preset", preset, "--state", tmp_path / "state", *chosen, *options)

    return album


def rows(tmp_path, columns="path, EXISTS (SELECT 1 FROM vector WHERE photo = id)"):
    with Index.open(tmp_path / "index.db", create=False) as index:
        found = index.execute(f"SELECT {columns} FROM photo ORDER BY path")  # noqa: S608
    return [(Path(os.fsdecode(path)).name, *others) for path, *others in found]


@pytest.mark.slow
def test_tags_and_vectors_come_from_one_decoding(album, photos, tmp_path, decoded):
    done = album("--write", "txt")
    assert done.exit_code == 0, done.stderr
    assert "3 indexed; 3 in the index" in done.stderr
    assert sorted(decoded) == ["a red.png", "blue.png", "green.png"]
    assert rows(tmp_path) == [("a red.png", 1), ("blue.png", 1), ("green.png", 1)]
    again = album("--write", "txt")
    assert "0 indexed; 3 in the index" in again.stderr
    assert len(decoded) == 3
    without = album("--write", "txt", index=False)
    assert "0 photographs to tag" in without.stderr
    assert len(decoded) == 3


@pytest.mark.slow
def test_an_album_that_was_tagged_without_an_index_is_only_embedded(album, tmp_path):
    assert album("--write", "txt", index=False).exit_code == 0
    refusing = ("--set", "name_colours.pause=0")
    done = album("--write", "txt", *refusing)
    assert "0 photographs to tag, 3 unchanged" in done.stderr
    assert "3 indexed; 3 in the index" in done.stderr
    assert [has_vector for _, has_vector in rows(tmp_path)] == [1, 1, 1]


@pytest.mark.slow
def test_what_was_written_into_photographs_is_known_and_no_reason_to_index_again(
    album, photos, run, preset, tmp_path
):
    assert album("--write", "xmp", "--embed").exit_code == 0
    facts = rows(tmp_path, "path, bytes, mtime_ns")
    now = [
        (path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(photos.rglob("*.png"))
    ]
    assert sorted(facts) == sorted(now)
    second = run("index", photos, "--preset", preset, "--index", tmp_path / "index.db")
    assert "0 indexed, 3 unchanged" in second.stderr


@pytest.mark.slow
def test_sidecars_are_read_again_when_another_program_changes_them_and_not_when_the_run_wrote_them(
    album, photos, run, preset, tmp_path, decoded, sidecar
):
    assert album("--write", "xmp").exit_code == 0
    decoded.clear()
    index = ("index", photos, "--preset", preset, "--index", tmp_path / "index.db")
    assert "0 indexed, 3 unchanged;" in run(*index).stderr
    (photos / "blue.png.xmp").write_text(sidecar("Oma"))
    assert album("--write", "xmp").exit_code == 0
    found = run("search", "--tag", "Oma", "--format", "paths", "--index", tmp_path / "index.db")
    assert found.stdout.endswith("blue.png\n")
    assert "0 indexed, 3 unchanged;" in run(*index).stderr
    assert decoded == []


@pytest.mark.slow
def test_renamed_moved_and_deleted_photographs_are_followed(album, photos, tmp_path):
    assert album("--write", "rename").exit_code == 0
    names = sorted(path.name for path in photos.rglob("*.png"))
    assert [name for name, _ in rows(tmp_path)] == names
    assert "blue.png" not in names
    victim = next(path for path in photos.glob("*.png"))
    victim.unlink()
    make_image("yellow").save(photos / "new.png")
    album("--write", "txt")
    assert victim.name not in [name for name, _ in rows(tmp_path)]
    assert len(rows(tmp_path)) == 3


@pytest.mark.slow
def test_a_renamed_folder_is_followed_and_one_that_is_away_is_offline(album, photos, tmp_path):
    for name in ("one", "two"):
        (photos / name).mkdir()
        make_image("yellow" if name == "one" else "white").save(photos / name / f"{name}.png")
    assert "5 in the index" in album("--write", "txt").stderr
    (photos / "one").rename(photos / "now")
    (photos / "two").rename(tmp_path / "unplugged")
    assert "5 in the index" in album("--write", "txt").stderr
    assert [row for row in rows(tmp_path, "path, offline") if row[0] in {"one.png", "two.png"}] == [
        ("one.png", 0),
        ("two.png", 1),
    ]


@pytest.mark.slow
def test_results_that_the_index_lost_are_put_back_without_decoding(album, tmp_path, decoded):
    album("--write", "txt")
    with Index.open(tmp_path / "index.db") as index:
        index.remove(1, 2)
    decoded.clear()
    assert "2 indexed; 3 in the index" in album("--write", "txt").stderr
    assert not [name for name in decoded if name.endswith(".png")]


def test_an_index_of_what_is_only_planned_or_packed_is_refused(album, photos, run, preset, tmp_path):
    assert album("--dry-run").exit_code == 2
    assert album("--plan", tmp_path / "plan.jsonl").exit_code == 2
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", photos)
    refused = run(
        "album", archive, "--preset", preset, "--state", tmp_path / "state", "--write", "jsonl",
        "--index", tmp_path / "index.db",
    )  # fmt: skip
    assert (refused.exit_code, "archive" in refused.stderr) == (2, True)


@pytest.mark.slow
def test_the_default_index_is_used_without_a_file(run, preset, photos, tmp_path, monkeypatch):
    preset.write_text(PRESET)
    monkeypatch.setenv("AUTOTAG_INDEX", str(tmp_path / "mine.db"))
    done = run(
        "album", photos, "--preset", preset, "--state", tmp_path / "state", "--write", "txt", "--index"
    )
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "mine.db").is_file()


def test_pipelines_read_through_the_counted_door():
    assert pipelines.read_image is reading.read_image
