from __future__ import annotations

import json
import shutil

import pytest
from PIL import Image

from autotag.metadata import read_packet
from tests.cli.test_learn import picture, sidecar

pytestmark = pytest.mark.slow
PRESET = 'encoder = "clip-mini"\n[[stages]]\nstage = "embed_images"\n'


@pytest.fixture
def album(tmp_path):
    """Red balls and blue boxes with keywords, and one of each without."""
    folder = tmp_path / "album"
    for number in range(13):
        for keyword, colour, shape in (("Balls|Ball", "red", "ellipse"), ("Boxes|Box", "blue", "rectangle")):
            path = folder / f"{shape}-{number:02}.jpg"
            picture(path, colour, shape, number)
            if number < 12:
                sidecar(path, keyword)
    return folder


@pytest.fixture
def learn(run, tmp_path):
    preset = tmp_path / "vectors.toml"
    preset.write_text(PRESET, encoding="utf-8")

    def learn(album, *more):
        return run("album", album, "--learn", "--preset", preset, "--state", tmp_path / "state", *more)

    return learn


def suggested(path):
    return [tag.text for tag in read_packet(path.with_name(path.name + ".xmp").read_bytes()).machine_tags]


def kept(tmp_path):
    return sorted((tmp_path / "state").rglob("*.tags"))


def test_an_album_learns_its_keywords_and_suggests_them_for_the_rest(learn, album, tmp_path):
    ended = learn(album)
    assert ended.exit_code == 0, ended.output
    assert "4 keywords learned from 24 photographs" in ended.stderr
    assert suggested(album / "ellipse-12.jpg") == ["Ball"]
    assert suggested(album / "rectangle-12.jpg") == ["Box"]
    [file] = kept(tmp_path)
    before = file.read_bytes()
    again = learn(album)
    assert again.exit_code == 0, again.output
    assert "26 unchanged" in again.stderr
    assert file.read_bytes() == before


def test_what_a_run_wrote_is_not_learned_where_its_record_was_dropped(learn, album, tmp_path):
    """Another program keeps the keywords only; two photographs with suggestions would be 26 with keywords."""
    assert learn(album).exit_code == 0
    sidecar(album / "ellipse-12.jpg", "Ball")
    sidecar(album / "rectangle-12.jpg", "Box")
    again = learn(album)
    assert again.exit_code == 0, again.output
    assert "4 keywords learned from 24 photographs" in again.stderr


def test_keywords_that_came_since_are_learned_by_the_next_run(learn, album, tmp_path):
    for path in album.glob("rectangle-*.xmp"):
        path.unlink()
    ended = learn(album)
    assert ended.exit_code == 0, ended.output
    assert "not learned: Balls: it is on every photograph" in ended.stderr
    assert kept(tmp_path) == []
    for number in range(12):
        sidecar(album / f"rectangle-{number:02}.jpg", "Boxes|Box")
    ended = learn(album)
    assert ended.exit_code == 0, ended.output
    assert suggested(album / "rectangle-12.jpg") == ["Box"]


def test_a_dry_run_learns_and_writes_nothing(learn, album, tmp_path):
    before = {path: path.read_bytes() for path in album.rglob("*")}
    ended = learn(album, "--dry-run", "--ndjson")
    assert ended.exit_code == 0, ended.output
    assert len([json.loads(line) for line in ended.stdout.splitlines()]) == 26
    assert {path: path.read_bytes() for path in album.rglob("*")} == before
    assert kept(tmp_path) == []


def test_vectors_of_the_index_are_used_again(learn, album, tmp_path, monkeypatch):
    index = tmp_path / "photos.db"
    assert learn(album, "--index", index).exit_code == 0

    def computed(*_):
        raise AssertionError("a vector was computed once more")

    monkeypatch.setattr("autotag.stages.embed_images.EmbedImages.__call__", computed)
    again = learn(album, "--index", index)
    assert again.exit_code == 0, again.output
    assert "26 unchanged" in again.stderr


def test_an_album_that_teaches_nothing_is_tagged_without(learn, album, tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    for name in ("ellipse-00.jpg", "ellipse-00.jpg.xmp", "ellipse-12.jpg"):
        shutil.copy(album / name, few)
    ended = learn(few)
    assert ended.exit_code == 0, ended.output
    assert "not learned: Balls|Ball: it has 1 of the 8 photographs" in ended.stderr
    assert "no keyword of the album can be learned; the album is tagged without" in ended.stderr
    assert "2 photographs" in ended.stderr
    (few / "ellipse-00.jpg.xmp").unlink()
    assert "no photograph has a keyword that a person gave; the album is tagged" in learn(few).stderr
    assert kept(tmp_path) == []


def test_a_preset_that_suggests_already_and_an_archive_are_refused(run, learn, album, tmp_path):
    assert learn(album).exit_code == 0
    preset = tmp_path / "family.toml"
    preset.write_text(
        f'encoder = "clip-mini"\n[[stages]]\nstage = "suggest_keywords"\nkeywords = "{kept(tmp_path)[0]}"\n',
        encoding="utf-8",
    )
    ended = run("album", album, "--learn", "--preset", preset)
    assert (ended.exit_code, "has a stage suggest_keywords already" in ended.stderr) == (2, True)
    shutil.make_archive(str(tmp_path / "zipped"), "zip", album)
    ended = learn(tmp_path / "zipped.zip", "--write", f"jsonl={tmp_path / 'found.jsonl'}")
    assert (ended.exit_code, "unpack the archive" in ended.stderr) == (2, True)


def test_photographs_that_cannot_be_read_teach_nothing(learn, tmp_path):
    folder = tmp_path / "damaged"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0 damaged")
    sidecar(folder / "a.jpg", "Ball")
    Image.new("RGB", (64, 64), "red").save(folder / "b.jpg")
    ended = learn(folder)
    assert ended.exit_code == 1
    assert "the album is tagged without learned keywords" in ended.stderr


def test_options_of_the_stage_that_learn_adds_are_set(learn, album, tmp_path):
    assert learn(album).exit_code == 0
    again = learn(album, "--set", "suggest_keywords.top_k=1")
    assert again.exit_code == 0, again.output
    assert "26 unchanged" not in again.stderr  # other settings, so all are tagged again
    assert suggested(album / "ellipse-12.jpg") == ["Ball"]
    for setting, why in (
        ("suggest_keywords.top_k=0", "top_k"),
        ("suggest_keywords.tops=1", "tops"),
        ("suggest_keywords=false", "leave one of them out"),
        ("suggest_keywords.keywords=mine.tags", "leave one of them out"),
    ):
        ended = learn(album, "--set", setting)
        assert (ended.exit_code, why in ended.stderr) == (2, True), ended.output
