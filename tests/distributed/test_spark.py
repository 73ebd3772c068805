"""A real Spark on this machine, in local mode; needs Java."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from autotag.distributed.spark import tag_dataframe
from autotag.errors import ConfigError
from autotag.testing import make_image

STAGES = Path(__file__).parents[1] / "cli"
CONFIG = {"encoder": "none", "stages": [{"stage": "colour_stages:NameColours", "top_k": 1}]}


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory):
    if shutil.which("java") is None or find_spec("pyspark") is None:
        pytest.skip("needs Java and pyspark; run: pip install 'autotag-images[spark]'")
    from pyspark.sql import SparkSession

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(STAGES), os.environ.get("PYTHONPATH", "")]))
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        patch.syspath_prepend(STAGES)
        builder = SparkSession.builder.master("local[1]").appName("autotag tests")
        for name, value in {
            "spark.ui.enabled": "false",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.host": "127.0.0.1",
            "spark.sql.shuffle.partitions": "1",
            "spark.sql.execution.arrow.maxRecordsPerBatch": "2",
            "spark.local.dir": str(tmp_path_factory.mktemp("spark")),
        }.items():
            builder = builder.config(name, value)
        session = builder.getOrCreate()
        yield session
        session.stop()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for colour in ("red", "blue", "green"):
        make_image(colour).save(tmp_path / f"{colour}.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    return tmp_path


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_paths_and_bytes_become_rows_with_errors_and_kept_columns(spark, photos: Path) -> None:
    rows = [(number, str(path)) for number, path in enumerate(sorted(photos.iterdir()))]
    frame = spark.createDataFrame([*rows, (9, None)], "id long, path string")
    tagged = {row.id: row for row in tag_dataframe(frame, CONFIG, keep=("id",)).collect()}
    assert [tagged[number].caption for number in range(4)] == [
        "",
        "a blue picture",
        "a green picture",
        "a red picture",
    ]
    assert "bad.png" in tagged[0].error
    assert tagged[9].error
    [tag] = tagged[3].tags
    assert (tag.text, tag.scores[0].by) == ("red", "name_colours")

    files = spark.read.format("binaryFile").load(str(photos)).withColumnRenamed("content", "bytes")
    again = tag_dataframe(files, CONFIG, keep=("length",))
    assert {Path(row.source).name: row.caption for row in again.collect()}["red.png"] == "a red picture"
    assert tag_dataframe(frame.limit(0), CONFIG, keep=("id",)).count() == 0
    with pytest.raises(ConfigError, match=r"lacks 'album'.*'id', 'path'"):
        tag_dataframe(frame, CONFIG, keep=("album",))
    with pytest.raises(ConfigError, match="'image', 'path' or 'bytes'"):
        tag_dataframe(frame.select("id"), CONFIG)


def test_without_pyspark_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyspark.sql.pandas.types", None)
    with pytest.raises(ConfigError, match=r"pip install 'autotag-images\[spark\]'"):
        tag_dataframe(None, CONFIG)
