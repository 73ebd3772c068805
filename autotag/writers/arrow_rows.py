"""Convert results to typed Arrow columns and back, for Parquet files and cluster engines.

Needs the extra ``autotag-images[parquet]``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from autotag.errors import ConfigError, install_hint
from autotag.records import Result
from autotag.writers.json_text import extras_text

if TYPE_CHECKING:
    from collections.abc import Sequence


def arrow() -> Any:
    """Import and return the module ``pyarrow``.

    Raises:
        ConfigError: pyarrow is not installed; the message has the command that installs it.
    """
    try:
        import pyarrow as pa
    except ImportError as error:
        raise ConfigError(f"Parquet files and Arrow columns need: {install_hint('parquet')}") from error
    return pa


def schema() -> Any:
    r"""Return the ``pyarrow.Schema`` of the rows, which is the same for every pipeline.

    ``source`` is valid UTF-8. For a file name that is not UTF-8, ``source_bytes`` has its bytes, and
    ``source`` shows them as ``\udcxx`` escapes. ``extras`` is JSON. Missing captions and tags are empty texts
    and lists, not null; only ``source_bytes``, a caption's score, a tag's count, concept and language, and
    ``error`` may be null.
    Scores by stage are lists of structs, and rankings too, because not every program knows the type map.
    """
    pa = arrow()
    text, number = pa.string(), pa.float64()
    scores = pa.list_(pa.struct([("by", text), ("score", number)]))
    tag = pa.struct(
        [
            ("text", text),
            ("score", number),
            ("source", text),
            ("scores", scores),
            ("path", pa.list_(text)),
            ("count", pa.int32()),
            ("concept", text),
            ("language", text),
        ]
    )
    caption = pa.struct([("text", text), ("source", text), ("score", number), ("scores", scores)])
    detection = pa.struct([("label", text), ("score", number), ("box", pa.list_(number))])
    moderation = pa.struct(
        [
            ("label", text),
            ("probability", number),
            ("model", text),
            ("flagged", pa.bool_()),
            ("weak", pa.bool_()),
        ]
    )
    return pa.schema(
        [
            ("source", text),
            ("source_bytes", pa.binary()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("caption", text),
            ("captions", pa.list_(caption)),
            ("detections", pa.list_(detection)),
            ("tags", pa.list_(tag)),
            ("rankings", pa.list_(pa.struct([("vocabulary", text), ("tags", pa.list_(tag))]))),
            ("prompt", text),
            ("extras", text),
            ("error", text),
            ("moderation", pa.list_(moderation)),
        ]
    )


def to_table(results: Sequence[Result]) -> Any:
    """Return a ``pyarrow.Table`` with one row per result and the columns of ``schema()``.

    Raises:
        ConfigError: pyarrow is not installed, or a result has a value that its column cannot store; names the
            image.
    """
    pa = arrow()
    try:
        return pa.Table.from_pylist([_row(result) for result in results], schema=schema())
    except pa.ArrowException as error:
        if len(results) > 1:
            for result in results:
                to_table([result])
        raise ConfigError(
            f"the result of {results[0].source!r} cannot be stored in columns: {error}. "
            "The stages must write values of the types that the records name."
        ) from error


def storable(result: Result) -> Result:
    """Return a result unchanged, or one with an error in its place if ``to_table`` refuses it."""
    try:
        to_table([result])
    except ConfigError as error:
        return Result(result.source, result.size, error=str(error))
    return result


def to_table_with_errors(results: Sequence[Result]) -> Any:
    """Return what ``to_table`` returns; a result that it refuses becomes a row with its error."""
    try:
        return to_table(results)
    except ConfigError:
        return to_table(list(map(storable, results)))


def from_table(table: Any) -> list[Result]:
    """Return the results in a table or record batch: the inverse of ``to_table``; extras go through JSON."""
    return [_result(row) for row in table.to_pylist()]


def row_source(row: dict[str, Any]) -> str:
    """Return the source of a row exactly as in its result."""
    encoded = row["source_bytes"]
    return str(row["source"]) if encoded is None else encoded.decode("utf-8", "surrogateescape")


def _row(result: Result) -> dict[str, Any]:
    plain = result.to_dict()
    plain["captions"] = list(map(_scores_as_pairs, plain["captions"]))
    plain["tags"] = list(map(_scores_as_pairs, plain["tags"]))
    plain["rankings"] = [
        {"vocabulary": name, "tags": list(map(_scores_as_pairs, tags))}
        for name, tags in plain["rankings"].items()
    ]
    row = _readable({**plain, "extras": extras_text(result)})
    width, height = result.size
    is_text = row["source"] == result.source
    encoded = None if is_text else result.source.encode("utf-8", "surrogateescape")
    return {**row, "width": width, "height": height, "source_bytes": encoded}


def _scores_as_pairs(scored: dict[str, Any]) -> dict[str, Any]:
    return {**scored, "scores": [{"by": by, "score": score} for by, score in scored["scores"].items()]}


def _scores_as_table(scored: dict[str, Any]) -> dict[str, Any]:
    return {**scored, "scores": {pair["by"]: pair["score"] for pair in scored["scores"]}}


def _readable(value: Any) -> Any:
    r"""Write lone surrogates, which Arrow cannot store, as ``\udcxx`` escapes."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {_readable(key): _readable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_readable(entry) for entry in value]
    return value


def _result(row: dict[str, Any]) -> Result:
    return Result.from_dict(
        {
            **row,
            "source": row_source(row),
            "captions": list(map(_scores_as_table, row["captions"])),
            "tags": list(map(_scores_as_table, row["tags"])),
            "rankings": {
                ranking["vocabulary"]: list(map(_scores_as_table, ranking["tags"]))
                for ranking in row["rankings"]
            },
            "size": (row["width"], row["height"]),
            "extras": json.loads(row["extras"]),
        }
    )
