"""``BatchTagger`` as the function of ``datasets.Dataset.map``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from autotag.distributed.batch_tagger import BatchTagger
from autotag.testing import make_image
from autotag.writers.arrow_rows import from_table, schema

STAGES = Path(__file__).parents[1] / "cli"
CONFIG = {"encoder": "none", "stages": [{"stage": "colour_stages:NameColours", "top_k": 1}]}
CAPTIONS = ["a red picture", "", "a blue picture"]

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(autouse=True)
def _importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(STAGES)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(STAGES), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    for colour in ("red", "blue"):
        make_image(colour).save(tmp_path / f"{colour}.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    return [str(tmp_path / name) for name in ("red.png", "bad.png", "blue.png")]


@pytest.fixture
def dataset(paths: list[str]):
    from datasets import Dataset

    return Dataset.from_dict({"path": paths, "id": [1, 2, 3]})


def test_paths_are_tagged_in_every_format_and_the_types_are_the_schemas(dataset, paths) -> None:
    tagger = BatchTagger(CONFIG, keep=("id",))
    for source in (dataset, dataset.with_format("arrow")):
        tagged = source.map(tagger, batched=True, batch_size=2).with_format(None)
        assert tagged["caption"][:] == CAPTIONS
        assert tagged["id"][:] == [1, 2, 3]
        assert tagged.features == tagger.features({"id": dataset.features["id"]})
        results = from_table(tagged.with_format("arrow")[:].select(schema().names))
        assert [result.tag_texts for result in results] == [("red",), (), ("blue",)]


@pytest.mark.parametrize("decode", [True, False])
def test_a_column_of_images_decoded_or_not(paths, decode: bool) -> None:
    from datasets import Dataset, Image

    good = [path for path in paths if "bad" not in path]
    images = Dataset.from_dict({"image": good}).cast_column("image", Image(decode=decode))
    tagged = images.map(BatchTagger(CONFIG), batched=True)
    assert tagged["caption"][:] == ["a red picture", "a blue picture"]
    stored = Dataset.from_dict(
        {"image": [{"bytes": Path(path).read_bytes(), "path": None} for path in paths]}
    ).cast_column("image", Image(decode=False))
    assert stored.map(BatchTagger(CONFIG), batched=True)["caption"][:] == CAPTIONS


def test_a_streaming_dataset(dataset) -> None:
    tagger = BatchTagger(CONFIG)
    features = tagger.features(dict(dataset.features))
    stream = dataset.to_iterable_dataset().map(tagger, batched=True, batch_size=2, features=features)
    rows = list(stream)
    assert [row["caption"] for row in rows] == CAPTIONS
    assert [row["id"] for row in rows] == [1, 2, 3]
    assert rows[0]["tags"][0]["scores"] == [{"by": "name_colours", "score": rows[0]["tags"][0]["score"]}]


def test_the_fingerprint_is_stable_so_that_a_second_run_reads_the_cache(dataset, paths) -> None:
    from datasets.fingerprint import Hasher

    tagger = BatchTagger(CONFIG)
    before = Hasher.hash(tagger)
    tagger({"path": paths})
    assert Hasher.hash(tagger) == before == Hasher.hash(BatchTagger(CONFIG))
    assert Hasher.hash(BatchTagger(CONFIG, keep=("id",))) != before
    assert dataset.map(tagger, batched=True)._fingerprint == dataset.map(tagger, batched=True)._fingerprint


def test_several_spawned_processes(dataset, monkeypatch) -> None:
    import multiprocess
    from datasets import arrow_dataset

    monkeypatch.setattr(arrow_dataset, "mp", multiprocess.get_context("spawn"))
    tagged = dataset.map(BatchTagger(CONFIG, keep=("id",)), batched=True, num_proc=2)
    assert (tagged["caption"][:], tagged["id"][:]) == (CAPTIONS, [1, 2, 3])
