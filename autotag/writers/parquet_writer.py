"""Write and read Parquet files: typed columns for DuckDB, Spark, pandas and similar tools."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar

from autotag.errors import ConfigError
from autotag.writers.arrow_rows import arrow, from_table, schema, to_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from os import PathLike

    from autotag.records import Result

ROW_GROUP = 1000
"""Most results that are buffered before they are written."""

FACTS = b"autotag"
"""Key in a file's metadata; its value is JSON that says how the rows were made."""


class ParquetWriter:
    """Write one row per result, with the columns of ``autotag.writers.arrow_rows.schema``.

    A Parquet file can be read only after it is closed. Needs the extra ``autotag-images[parquet]``.

    Args:
        stream: the output; binary, need not be seekable.

    Raises:
        ConfigError: pyarrow is not installed.
    """

    binary: ClassVar[bool] = True

    def __init__(self, stream: BinaryIO) -> None:
        arrow()
        self._stream = stream
        self._file: Any = None  # opened late, so that a run that fails before its first result writes nothing
        self._held: list[Any] = []  # tables of one row

    def write(self, result: Result, /) -> None:
        """Add one result, and write a row group when it is full.

        Raises:
            ConfigError: the result has a value that its column cannot store. The results before it stay.
        """
        self._held.append(to_table([result]))
        if len(self._held) >= ROW_GROUP:
            self._flush()

    def close(self) -> None:
        """Write the buffered results and the end of the file."""
        self._flush()
        self._file.close()

    def _flush(self) -> None:
        if self._file is None:
            import pyarrow.parquet

            self._file = pyarrow.parquet.ParquetWriter(self._stream, schema(), compression="zstd")
        if self._held:
            self._file.write_table(arrow().concat_tables(self._held).combine_chunks())
        self._held.clear()


def write_parquet(stream: BinaryIO, results: Sequence[Result], facts: Mapping[str, Any]) -> None:
    """Write a whole Parquet file at once, with facts about it in its metadata."""
    table = to_table(results)
    import pyarrow.parquet

    labelled = table.replace_schema_metadata({FACTS: json.dumps(facts, sort_keys=True)})
    pyarrow.parquet.write_table(labelled, stream, row_group_size=ROW_GROUP, compression="zstd")


def read_parquet(path: str | PathLike[str] | BinaryIO) -> Iterator[Result]:
    """Yield the results in one file, in its order; one row group at a time is in memory.

    Raises:
        ConfigError: pyarrow is not installed, or the file is not a whole Parquet file of results.
    """
    with open_parquet(path) as file:
        for batch in file.iter_batches(batch_size=ROW_GROUP):
            yield from from_table(batch)


def open_parquet(path: str | PathLike[str] | BinaryIO) -> Any:
    """Open a ``pyarrow.parquet.ParquetFile`` of results.

    Raises:
        ConfigError: pyarrow is not installed, or the file is not a whole Parquet file of results.
    """
    pa = arrow()
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"cannot read {str(path)!r} as Parquet: {error}") from error
    if not file.schema_arrow.remove_metadata().equals(schema()):
        file.close()
        raise ConfigError(f"{str(path)!r} does not have the columns of autotag's results.")
    return file
