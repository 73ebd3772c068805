"""Parquet: typed columns for DuckDB, Spark, pandas and their like."""

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
"""Results held back at most before they are written."""

FACTS = b"autotag"
"""The key in a file's metadata under which JSON says how its rows were made."""


class ParquetWriter:
    """Writes one row per result, of the columns of ``autotag.writers.arrow_rows.schema``.

    A Parquet file is of use only once it is closed. Needs the extra ``autotag-images[parquet]``.

    Args:
        stream: where to; binary, it need not seek.

    Raises:
        ConfigError: pyarrow is missing.
    """

    binary: ClassVar[bool] = True

    def __init__(self, stream: BinaryIO) -> None:
        arrow()
        self._stream = stream
        self._file: Any = None  # opened late: a run that fails before its first result leaves no byte
        self._held: list[Result] = []

    def write(self, result: Result, /) -> None:
        self._held.append(result)
        if len(self._held) == ROW_GROUP:
            self._flush()

    def close(self) -> None:
        """Writes what is held back and the end of the file."""
        self._flush()
        self._file.close()

    def _flush(self) -> None:
        if self._file is None:
            import pyarrow.parquet

            self._file = pyarrow.parquet.ParquetWriter(self._stream, schema(), compression="zstd")
        held, self._held = self._held, []
        if held:
            self._file.write_table(to_table(held))


def write_parquet(stream: BinaryIO, results: Sequence[Result], facts: Mapping[str, Any]) -> None:
    """A whole Parquet file at once, with facts about it in its metadata."""
    table = to_table(results)
    import pyarrow.parquet

    labelled = table.replace_schema_metadata({FACTS: json.dumps(facts, sort_keys=True)})
    pyarrow.parquet.write_table(labelled, stream, row_group_size=ROW_GROUP, compression="zstd")


def read_parquet(path: str | PathLike[str] | BinaryIO) -> Iterator[Result]:
    """The results in one file, in its order; a row group at a time is in memory.

    Raises:
        ConfigError: pyarrow is missing, or this is no whole Parquet file of results.
    """
    with open_parquet(path) as file:
        for batch in file.iter_batches(batch_size=ROW_GROUP):
            yield from from_table(batch)


def open_parquet(path: str | PathLike[str] | BinaryIO) -> Any:
    """A ``pyarrow.parquet.ParquetFile`` of results.

    Raises:
        ConfigError: pyarrow is missing, or this is no whole Parquet file of results.
    """
    pa = arrow()
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"cannot read {str(path)!r} as Parquet: {error}") from error
    if not file.schema_arrow.remove_metadata().equals(schema()):
        file.close()
        raise ConfigError(f"{str(path)!r} has other columns than results of autotag have.")
    return file
