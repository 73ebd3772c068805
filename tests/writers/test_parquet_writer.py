import io

import pyarrow as pa
import pyarrow.parquet
import pytest

from autotag.errors import ConfigError
from autotag.records import Result, Tag
from autotag.testing import check_writer, make_samples
from autotag.writers import parquet_writer
from autotag.writers.arrow_rows import schema
from autotag.writers.parquet_writer import ParquetWriter, read_parquet

RESULTS = [Result.from_sample(sample) for sample in make_samples()]


def written(path, results):
    with path.open("wb") as stream:
        writer = ParquetWriter(stream)
        for result in results:
            writer.write(result)
        writer.close()
    return path


def test_it_keeps_the_contract_of_a_writer():
    check_writer(ParquetWriter)


def test_results_are_read_back_equal_in_order_over_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_writer, "ROW_GROUP", 2)
    path = written(tmp_path / "out.parquet", RESULTS)
    assert list(read_parquet(path)) == RESULTS
    assert pyarrow.parquet.read_metadata(path).num_row_groups == 2


def test_no_result_is_a_file_of_typed_columns_without_rows(tmp_path):
    table = pyarrow.parquet.read_table(written(tmp_path / "out.parquet", []))
    assert table.num_rows == 0
    assert table.schema == schema()


def test_nothing_is_written_before_the_first_rows():
    """So that a run which fails at once does not take the place of a former file."""
    stream = io.BytesIO()
    ParquetWriter(stream).write(RESULTS[0])
    assert stream.getvalue() == b""


@pytest.mark.parametrize(
    "wrong", [{"extras": {"area": object()}}, {"prompt": 3}, {"tags": (Tag("dog", "much", "x", {}),)}]
)
def test_a_row_that_cannot_be_stored_is_named_at_once_and_the_others_stay(wrong):
    stream = io.BytesIO()
    writer = ParquetWriter(stream)
    writer.write(RESULTS[0])
    with pytest.raises(ConfigError, match=r"bad\.jpg"):
        writer.write(Result("bad.jpg", (4, 3), **wrong))
    writer.write(RESULTS[1])
    writer.close()
    assert list(read_parquet(stream)) == RESULTS[:2]


@pytest.mark.parametrize("cut", [0, 4, 100])
def test_a_file_that_is_not_whole_is_refused_by_name(tmp_path, cut):
    path = written(tmp_path / "out.parquet", RESULTS)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ConfigError, match=r"out\.parquet"):
        list(read_parquet(path))


def test_a_table_of_something_else_is_refused(tmp_path):
    pyarrow.parquet.write_table(pa.table({"name": ["x"]}), tmp_path / "people.parquet")
    with pytest.raises(ConfigError, match="does not have the columns"):
        list(read_parquet(tmp_path / "people.parquet"))
