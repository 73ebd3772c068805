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
from autotag.pipeline.presets import from_config
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
    table = BatchTagger(CONFIG)(pa.table({"path": paths}))
    assert table.schema == schema()
    assert table.column("source").to_pylist() == paths
    assert table.column("caption").to_pylist() == ["a red picture", "", "a blue picture"]
    first, bad, last = from_table(table)
    assert "bad.png" in bad.error
    assert (first.error, last.error) == (None, None)
    assert [tag.text for tag in first.tags] == ["red"]


def test_a_result_that_cannot_be_stored_is_a_row_with_its_error(paths):
    stages = [{"stage": "colour_stages:NameColours", "plain_extras": False}]
    errors = BatchTagger({"stages": stages})({"path": paths})["error"]
    assert "'area' must write plain data" in errors[0]
    assert "'area' must write plain data" in errors[2]


@pytest.mark.parametrize("column", [np.array, lambda paths: np.array(paths, dtype=object), pa.array, tuple])
def test_columns_come_as_lists_arrays_or_arrow(paths, column):
    columns = BatchTagger(CONFIG)({"path": column(paths), "other": column(paths)})
    assert columns["source"] == paths


def test_images_come_as_bytes_and_are_named_by_their_paths(paths):
    contents = [Path(path).read_bytes() for path in paths]
    named = BatchTagger(CONFIG)({"path": paths, "bytes": np.array(contents, dtype=object)})
    assert named["source"] == paths
    assert named["caption"] == ["a red picture", "", "a blue picture"]
    assert BatchTagger(CONFIG)({"bytes": contents})["source"] == ["<bytes>"] * 3


def test_a_null_is_a_bad_image(paths):
    for batch in (
        {"path": [paths[0], None]},
        {"path": paths[:2], "bytes": [Path(paths[0]).read_bytes(), None]},
    ):
        errors = BatchTagger(CONFIG)(batch)["error"]
        assert [error is None for error in errors] == [True, False]


def test_an_empty_batch_gives_typed_columns_without_rows():
    empty = pa.table({"path": pa.array([], pa.string())})
    assert BatchTagger(CONFIG)(empty).schema == schema()
    assert set(map(tuple, BatchTagger(CONFIG)({"path": []}).values())) == {()}


def test_a_record_batch_gives_a_record_batch_and_a_table_of_many_chunks_a_table(paths):
    [batch] = pa.table({"path": paths}).to_batches()
    tagged = BatchTagger(CONFIG)(batch)
    assert isinstance(tagged, pa.RecordBatch)
    assert tagged.schema == schema()
    chunked = pa.chunked_array([paths[:1], paths[1:]])
    assert BatchTagger(CONFIG)(pa.table({"path": chunked})).column("source").to_pylist() == paths


def test_kept_columns_stay_beside_the_results_with_their_types(paths):
    ids = pa.array([3, 1, None], pa.uint16())
    table = pa.table({"id": ids, "path": paths, "album": ["a", "a", "b"], "other": [1, 2, 3]})
    tagger = pickle.loads(pickle.dumps(BatchTagger(CONFIG, keep=("album", "id"))))
    for batch in (table, table.to_batches()[0]):
        tagged = tagger(batch)
        assert tagged.schema.names == [*schema().names, "album", "id"]
        assert tagged.schema.field("id").type == pa.uint16()
        assert tagged.column("id").to_pylist() == [3, 1, None]
        assert tagged.column("error").null_count == 2
    assert tagger({"path": paths, "id": [1, 2, 3], "album": "abc"})["album"] == ["a", "b", "c"]


def test_columns_that_cannot_be_kept_are_named(paths):
    with pytest.raises(ConfigError, match="lacks 'id'"):
        BatchTagger(CONFIG, keep=("id",))({"path": paths})
    for ids in ([1, 2], [1, 2, 3, 4]):
        with pytest.raises(ConfigError, match=f"has 3 images, but {len(ids)} in 'id'"):
            BatchTagger(CONFIG, keep=("id",))({"path": paths, "id": ids})
    with pytest.raises(ConfigError, match="column 'caption', so it cannot be kept"):
        BatchTagger(CONFIG, keep=("caption",))
    with pytest.raises(ConfigError, match="write a list"):
        BatchTagger(CONFIG, keep="album")


def test_the_column_of_images_may_have_any_name_and_hold_what_datasets_stores(paths):
    content = Path(paths[0]).read_bytes()
    stored = [{"bytes": content, "path": "a.png"}, {"bytes": None, "path": paths[2]}, None]
    for batch in ({"picture": stored}, pa.table({"picture": stored})):
        tagged = BatchTagger(CONFIG, column="picture")(batch)
        captions = tagged["caption"]
        assert list(map(str, captions)) == ["a red picture", "a blue picture", ""]
    with pytest.raises(ConfigError, match=r"a column 'picture'; this one has \['photo'\]"):
        BatchTagger(CONFIG, column="picture")({"photo": stored})


def test_another_version_of_autotag_on_a_worker_is_refused_and_named(monkeypatch):
    from autotag.distributed import columns

    sent = pickle.dumps(BatchTagger(CONFIG))
    monkeypatch.setattr(columns, "version", lambda _name: "9.9")
    with pytest.raises(ConfigError, match=r"this worker has autotag-images 9\.9, but .* pip install"):
        pickle.loads(sent)


def test_a_batch_without_images_is_refused():
    with pytest.raises(ConfigError, match=r"'image', 'path' or 'bytes'; this one has \['url'\]"):
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
    assert again({"path": paths}) == tagger({"path": paths})


SPAWNED = """
import pickle, sys
tagger = pickle.loads(bytes.fromhex(sys.stdin.readline()))
assert "torch" not in sys.modules
columns = tagger({"path": sys.argv[1:]})
print([(caption, error is None) for caption, error in
       zip(columns["caption"], columns["error"])])
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


def test_a_preset_s_name_is_a_config_and_a_pipeline_is_told_how():
    assert BatchTagger("mini").config["encoder"] == "clip-mini"
    with pytest.raises(UnknownNameError, match="Did you mean 'mini'"):
        BatchTagger("minni")
    with (
        from_config(CONFIG) as pipeline,
        pytest.raises(ConfigError, match=r"give its config: pipeline.to_config"),
    ):
        BatchTagger(pipeline)
