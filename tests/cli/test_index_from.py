"""``autotag index --from``: lists of paths and URLs, and results of earlier runs."""

from __future__ import annotations

import json

import pytest

from autotag.search import Index
from autotag.testing import make_image

PRESET = """
encoder = "clip-mini"
[[stages]]
stage = "colour_stages:NameColours"
"""


@pytest.fixture
def index(preset, run, tmp_path):
    preset.write_text(PRESET)

    def index(*options):
        return run("index", "--preset", preset, "--index", tmp_path / "index.db", *options)

    return index


@pytest.fixture
def earlier(photos, preset, run, tmp_path):
    """Results of a run that left no vectors; its caption of one photograph was edited."""
    preset.write_text(PRESET.replace('encoder = "clip-mini"', ""))
    file = tmp_path / "results.jsonl"
    rows = [
        json.loads(line)
        for line in run("tag", photos, "--preset", preset, "--format", "jsonl").stdout.splitlines()
    ]
    rows[0]["captions"][0]["text"] = "my own words"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    preset.write_text(PRESET)
    return file


def facts(tmp_path):
    query = "SELECT caption, EXISTS (SELECT 1 FROM vector WHERE photo = id) FROM photo ORDER BY path"
    with Index.open(tmp_path / "index.db", create=False) as index:
        return index.execute(query)


def test_earlier_results_are_taken_over_and_embedded(index, earlier, photos, tmp_path):
    result = index("--from", earlier, "--set", "name_colours.refuse=/")  # tagging again would fail
    assert result.exit_code == 0
    assert "3 indexed; 3 in the index" in result.stderr
    captions = facts(tmp_path)
    assert ("my own words", 1) in captions
    assert [has_vector for _, has_vector in captions] == [1, 1, 1]
    assert "0 indexed, 3 unchanged" in index("--from", earlier).stderr
    assert "0 indexed, 3 unchanged" in index(photos, "--from", earlier).stderr


@pytest.mark.slow
def test_what_no_earlier_run_tagged_is_tagged(index, earlier, photos, tmp_path):
    make_image("yellow").save(photos / "new.png")
    rows = [json.loads(line) for line in earlier.read_text().splitlines()]
    rows[1]["error"] = "it was torn"
    earlier.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "4 indexed; 4 in the index" in index(photos, "--from", earlier).stderr
    captions = [caption for caption, _ in facts(tmp_path)]
    assert "my own words" in captions
    assert sum("yellow" in caption for caption in captions) == 1


@pytest.mark.slow
def test_vectors_of_the_same_encoder_are_taken_over_and_of_another_made_again(
    index, earlier, photos, preset, run, tmp_path
):
    preset.write_text(PRESET + '[[stages]]\nstage = "embed_images"\n')
    lines = run("tag", photos, "--preset", preset, "--format", "jsonl").stdout.splitlines()
    rows = [json.loads(line) for line in lines]
    rows[0]["extras"]["embedding"]["vector"] = rows[1]["extras"]["embedding"]["vector"]
    rows[2]["extras"]["embedding"] = {"encoder": "other", "vector": "AAAA"}
    earlier.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "3 indexed" in index("--from", earlier).stderr
    with Index.open(tmp_path / "index.db") as opened:
        vectors = [value for (value,) in opened.execute("SELECT value FROM vector ORDER BY photo")]
        assert opened.about()["encoder"] != "other"
    assert len(set(vectors)) == 2  # the wrong one was taken over, as it says that it is of the same encoder


@pytest.mark.slow
def test_parquet_and_folders_of_shards_are_earlier_results(index, photos, preset, run, tmp_path):
    preset.write_text(PRESET.replace('encoder = "clip-mini"', ""))
    for number in (1, 2):
        done = run("tag", photos, "--preset", preset, "--shard", f"{number}/2", "--output", tmp_path / "out")
        assert done.exit_code == 0, done.stderr
    run("tag", photos, "--preset", preset, "--format", "parquet", "--output", tmp_path / "one.parquet")
    preset.write_text(PRESET)
    assert "3 indexed; 3 in the index" in index("--from", tmp_path / "out").stderr
    assert "0 indexed, 3 unchanged" in index("--from", tmp_path / "one.parquet").stderr
    assert "not a folder of shards" in index("--from", photos).stderr


@pytest.mark.slow
def test_a_photograph_that_is_gone_keeps_its_words_and_is_tried_again(index, earlier, photos, tmp_path):
    kept = (photos / "blue.png").rename(tmp_path / "kept.png")
    first = index("--from", earlier)
    assert (first.exit_code, "2 indexed, 1 failed" in first.stderr) == (1, True)
    assert [has_vector for _, has_vector in facts(tmp_path)].count(0) == 1
    kept.rename(photos / "blue.png")
    assert "1 indexed, 2 unchanged" in index("--from", earlier).stderr


@pytest.mark.slow
def test_a_torn_last_line_is_left_out_and_another_bad_line_refused(index, earlier, tmp_path):
    whole = earlier.read_text()
    earlier.write_text(whole + whole[:40])
    assert "last line was cut off" in index("--from", earlier).stderr
    earlier.write_text('{"a": 1}\n' + whole)
    refused = index("--from", earlier)
    assert (refused.exit_code, "line 1" in refused.stderr) == (2, True)


@pytest.mark.slow
def test_urls_of_a_list_are_fetched_only_when_allowed_and_only_from_public_places(
    index, photos, tmp_path, monkeypatch
):
    urls = tmp_path / "urls.txt"
    urls.write_text(f"https://example.com/a.png\n\n{photos / 'blue.png'}\n")
    refused = index("--from", urls)
    assert (refused.exit_code, "--allow-urls" in refused.stderr) == (2, True)
    content = (photos / "a red.png").read_bytes()
    monkeypatch.setattr("autotag.images.reading.fetch", lambda url: content)
    assert "2 indexed; 2 in the index" in index("--from", urls, "--allow-urls").stderr
    assert "0 indexed, 2 unchanged" in index("--from", urls, "--allow-urls").stderr
    monkeypatch.undo()
    urls.write_text("http://127.0.0.1:9/a.png\n")
    private = index("--from", urls, "--allow-urls")
    assert private.exit_code == 1
    assert "127.0.0.1" in private.stderr


def test_nothing_to_index_is_refused(index, tmp_path):
    assert index().exit_code == 2
    assert index("--from", tmp_path / "no.txt").exit_code == 2


@pytest.mark.parametrize("name", ["results.json", "results.csv", "photo.jpg"])
def test_what_is_neither_a_list_nor_results_is_named(index, photos, tmp_path, name):
    file = tmp_path / name
    file.write_bytes(b"\xff\xd8\0\0" if name == "photo.jpg" else b'[{"source": "a.jpg"}]')
    for options in (("--from", file), (photos, "--from", file)):
        refused = index(*options)
        assert refused.exit_code == 2
        assert f"--from '{file}' is not a list of paths" in refused.stderr
        assert ".jsonl or .parquet file" in refused.stderr
    assert not (tmp_path / "index.db").exists()


@pytest.mark.slow
def test_a_list_may_begin_with_a_byte_order_mark(index, photos, tmp_path):
    (tmp_path / "list.txt").write_text(f"{photos / 'blue.png'}\n", encoding="utf-8-sig")
    assert "1 indexed" in index("--from", tmp_path / "list.txt").stderr
