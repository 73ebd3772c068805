from __future__ import annotations

import shutil
import sqlite3
from dataclasses import dataclass, field

import numpy as np
import pytest
from click.testing import CliRunner

from autotag.cli.main import main
from autotag.errors import ConfigError
from autotag.search import Filter, Index, ann_cache

pytestmark = pytest.mark.slow  # 24,000 rows are put in, and copied for every test

ROWS, DIMENSION = 24_000, 32


@dataclass
class Seeded:
    """An encoder whose vector of a text is random, and the same for the same text."""

    id: str = "seeded"
    default_thresholds: dict[str, float] = field(default_factory=dict)

    def embed_texts(self, texts):
        return np.stack(
            [unit(np.random.default_rng(list(text.encode())).normal(size=DIMENSION)) for text in texts]
        )

    embed_images = embed_texts


def unit(vector):
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def put(index, numbers, vectors):
    with index.writing() as generation:
        index.execute_many(
            "INSERT OR REPLACE INTO photo (id, path, width, height, caption, generation) "
            "VALUES (?, ?, 1, 1, ?, ?)",
            [
                (n, f"/{'even' if n % 2 == 0 else 'odd'}/{n}.jpg".encode(), f"thing {n}", generation)
                for n in numbers
            ],
        )
        index.execute_many(
            "INSERT OR REPLACE INTO vector VALUES (?, ?)",
            [(n, row.astype("<f2").tobytes()) for n, row in zip(numbers, vectors, strict=True)],
        )


def opened(path):
    return Index.open(path, encoder=Seeded(), in_memory=100)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("ann") / "index.db"
    vectors = np.random.default_rng(0).normal(size=(ROWS, DIMENSION)) + 0.5  # no clusters, a common mean
    with opened(path) as index:
        with index.writing():
            about = {"encoder": "seeded", "encoder_name": "seeded", "dimension": str(DIMENSION)}
            index.execute_many("INSERT INTO about VALUES (?, ?)", about.items())
        put(index, range(1, ROWS + 1), [unit(row) for row in vectors])
        gates = {kind: index.accelerate(kind) for kind in ("rabitq", "sq8")}
    return path, gates


@pytest.fixture
def path(made, tmp_path):
    for file in made[0].parent.iterdir():
        shutil.copy(file, tmp_path)
    return tmp_path / "index.db"


def found(index, text="a query", **options):
    hits = index.search(text, by="vectors", top_k=10, **options)
    return [(hit.id, round(hit.cosine, 5)) for hit in hits]


def exactly(path, text="a query", **options):
    (path.parent / "index.db-ann").rename(path.parent / "away")
    with opened(path) as index:
        hits = found(index, text, **options)
    (path.parent / "away").rename(path.parent / "index.db-ann")
    return hits


def uses_it(index):
    with index._reading():
        return index._vector_rows().ann is not None


@pytest.mark.parametrize("kind", ["sq8", "rabitq"])
def test_the_recall_is_measured_and_kept_with_the_cache(made, kind):
    gate = made[1][kind]
    assert gate.passed
    assert 0.98 <= gate.image_recall <= 1
    assert 0.98 <= gate.text_recall <= 1
    assert (gate.image_queries, gate.text_queries) == (200, 200)


def test_stats_show_the_last_one(path):
    with opened(path) as index:
        shown = index.stats()["approximate"]
    assert (shown["kind"], shown["in_use"]) == ("sq8", True)
    assert shown["image_recall"] >= 0.98


@pytest.mark.parametrize("kind", ["sq8", "rabitq"])
def test_hits_are_those_of_an_exact_search_with_exact_cosines(path, kind):
    with opened(path) as index:
        index.accelerate(kind)
        assert uses_it(index)
        both = [(set(found(index, f"q{n}")), set(exactly(path, f"q{n}"))) for n in range(20)]
    assert sum(len(one & other) for one, other in both) >= 196


def test_only_some_rows_are_scored(path):
    with opened(path) as index, index._reading():
        rows = index._vector_rows()
        candidates = rows.ann.candidates(unit(np.ones(DIMENSION)), 10)
    assert len(candidates) == 50


@pytest.mark.parametrize("kind", ["sq8", "rabitq"])
def test_a_filter_holds(path, kind, monkeypatch):
    monkeypatch.setattr(ann_cache, "_FEW_ROWS", 1000)
    with opened(path) as index:
        index.accelerate(kind)
        hits = found(index, filter=Filter(folder="even"))
    assert len(hits) == 10
    assert all(photo % 2 == 0 for photo, _ in hits)
    assert len(set(hits) & set(exactly(path, filter=Filter(folder="even")))) >= 9


def test_newer_rows_are_merged_and_deleted_ones_do_not_come_back(path):
    query = Seeded().embed_texts(["a query"])[0]
    with opened(path) as index:
        best = [photo for photo, _ in found(index)]
        index.remove(*best[:3])
        put(index, [ROWS + 1], [query])
        put(index, [best[5]], [-query])
        hits = found(index)
        assert uses_it(index)
    assert hits[0] == (ROWS + 1, pytest.approx(1, abs=1e-3))
    assert not {*best[:3], best[5]} & {photo for photo, _ in hits}
    assert hits == exactly(path)


def tear(path):
    file = path.parent / "index.db-ann"
    file.write_bytes(file.read_bytes()[:-100])


def damage(path):
    file = path.parent / "index.db-ann"
    content = bytearray(file.read_bytes())
    content[5000] ^= 255
    file.write_bytes(content)


def replace_by_another_file(path):
    (path.parent / "index.db-ann").write_bytes(b"something else")


def change_the_id(path):
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE about SET value = 'another' WHERE key = 'id'")
    connection.close()


def build_the_vectors_again(path):
    with opened(path) as index:
        index.remove(1)
    (path.parent / "index.db-vectors").unlink()


HARMS = [tear, damage, replace_by_another_file, change_the_id, build_the_vectors_again]


@pytest.mark.parametrize("harm", HARMS)
def test_a_cache_that_is_torn_foreign_or_stale_is_not_used_and_said_to_be_so(path, harm, caplog):
    harm(path)
    with opened(path) as index:
        assert found(index) == exactly(path)
        assert not uses_it(index)
    assert "searched exactly" in caplog.text
    with opened(path) as index:
        index.accelerate()
        assert uses_it(index)


def test_a_cache_that_finds_too_few_is_not_written(path, monkeypatch):
    before = (path.parent / "index.db-ann").read_bytes()
    monkeypatch.setitem(ann_cache._CANDIDATES, "rabitq", (5,))
    with opened(path) as index:
        gate = index.accelerate("rabitq")
    assert not gate.passed
    assert gate.image_recall <= 0.5
    assert (path.parent / "index.db-ann").read_bytes() == before


def test_a_small_index_is_refused(path):
    with Index.open(path, encoder=Seeded()) as index, pytest.raises(ConfigError, match="200,000"):
        index.accelerate()


def test_the_command_names_an_index_that_is_missing(tmp_path):
    result = CliRunner().invoke(main, ["accelerate", "--index", str(tmp_path / "none.db")])
    assert result.exit_code == 2
