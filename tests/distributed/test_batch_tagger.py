"""The callable that cluster engines run."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from autotag.distributed.batch_tagger import BatchTagger
from autotag.errors import ConfigError, UnknownNameError
from autotag.testing import make_image
from autotag.writers.arrow_rows import from_table, schema

STAGES = Path(__file__).parents[1] / "cli"
CONFIG = {"stages": [{"stage": "colour_stages:NameColours", "top_k": 1}]}


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(STAGES)
    monkeypatch.setenv("PYTHONPATH", str(STAGES))


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    for colour in ("red", "blue"):
        make_image(colour).save(tmp_path / f"{colour}.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    return [str(tmp_path / name) for name in ("red.png", "bad.png", "blue.png")]


def test_one_row_per_path_in_order_and_a_bad_image_is_a_row_with_its_error(paths):
    columns = BatchTagger(CONFIG)({"path": paths})
    table = pa.table(columns)
    assert table.schema == schema()
    assert table.column("source").to_pylist() == paths
    assert table.column("caption").to_pylist() == ["a red picture", "", "a blue picture"]
    first, bad, last = from_table(table)
    assert "bad.png" in bad.error
    assert (first.error, last.error) == (None, None)
    assert [tag.text for tag in first.tags] == ["red"]


@pytest.mark.parametrize("column", [np.array, lambda paths: np.array(paths, dtype=object), pa.array, tuple])
def test_columns_come_as_lists_arrays_or_arrow(paths, column):
    columns = BatchTagger(CONFIG)({"path": column(paths), "other": column(paths)})
    assert columns["source"].to_pylist() == paths


def test_images_come_as_bytes_and_are_named_by_their_paths(paths):
    contents = [Path(path).read_bytes() for path in paths]
    named = BatchTagger(CONFIG)({"path": paths, "bytes": np.array(contents, dtype=object)})
    assert named["source"].to_pylist() == paths
    assert named["caption"].to_pylist() == ["a red picture", "", "a blue picture"]
    assert BatchTagger(CONFIG)({"bytes": contents})["source"].to_pylist() == ["<bytes>"] * 3


def test_a_null_is_a_bad_image(paths):
    for batch in (
        {"path": [paths[0], None]},
        {"path": paths[:2], "bytes": [Path(paths[0]).read_bytes(), None]},
    ):
        errors = BatchTagger(CONFIG)(batch)["error"].to_pylist()
        assert [error is None for error in errors] == [True, False]


def test_an_empty_batch_gives_typed_columns_without_rows():
    assert pa.table(BatchTagger(CONFIG)({"path": []})).schema == schema()


def test_a_batch_without_images_is_refused():
    with pytest.raises(ConfigError, match="'path' or 'bytes'"):
        BatchTagger(CONFIG)({"url": ["a"]})
    with pytest.raises(ConfigError, match="2 in 'path' but 1 in 'bytes'"):
        BatchTagger(CONFIG)({"path": ["a", "b"], "bytes": [b"a"]})


def test_a_wrong_config_is_said_before_it_travels():
    with pytest.raises(UnknownNameError, match="merge_tags"):
        BatchTagger({"stages": [{"stage": "merge_tag"}]})


def test_it_is_pickled_as_its_config_alone_also_after_use(paths):
    tagger = BatchTagger(CONFIG)
    before = pickle.dumps(tagger)
    tagger({"path": paths})
    assert pickle.dumps(tagger) == before
    again = pickle.loads(before)
    assert again.config == CONFIG
    assert again({"path": paths})["caption"].equals(tagger({"path": paths})["caption"])


SPAWNED = """
import pickle, sys
tagger = pickle.loads(bytes.fromhex(sys.stdin.readline()))
assert "torch" not in sys.modules
columns = tagger({"path": sys.argv[1:]})
print([(caption, error is None) for caption, error in
       zip(columns["caption"].to_pylist(), columns["error"].to_pylist())])
"""


def test_it_works_in_a_process_that_knows_nothing_of_this_one(paths):
    command = [sys.executable, "-c", SPAWNED, *paths]
    stdin = pickle.dumps(BatchTagger(CONFIG)).hex()
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=600, check=True)
    assert done.stdout.strip() == "[('a red picture', True), ('', False), ('a blue picture', True)]"


def test_models_are_loaded_once_per_process_by_the_first_call(paths, monkeypatch):
    from autotag.pipeline.pipeline import Pipeline

    loads = []
    load = Pipeline.load
    monkeypatch.setattr(Pipeline, "load", lambda pipeline: (loads.append(id(pipeline)), load(pipeline))[1])
    config = {"stages": [{"stage": "colour_stages:NameColours", "top_k": 2}]}
    taggers = [BatchTagger(config), pickle.loads(pickle.dumps(BatchTagger(config)))]
    assert loads == []
    for tagger in taggers:
        tagger({"path": paths})
    assert len(set(loads)) == 1
