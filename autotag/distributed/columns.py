"""The columns of batches: where the images are, which columns stay, and the same autotag on both sides."""

from __future__ import annotations

import io
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from autotag.config.checks import check_list
from autotag.errors import DISTRIBUTION, ConfigError
from autotag.writers.arrow_rows import arrow, schema

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autotag.images.reading import ImageInput


def check_version(sender: str) -> None:
    """Refuse work that another version of autotag sent, because its results would differ.

    Raises:
        ConfigError: the sender's version differs from the one here; the message has both.
    """
    here = version(DISTRIBUTION)
    if sender != here:
        raise ConfigError(
            f"this worker has {DISTRIBUTION} {here}, but the program that sent the work has {sender}: "
            f"install the same version on all machines, pip install {DISTRIBUTION}=={sender}."
        )


def check_keep(keep: Sequence[str]) -> None:
    """Refuse columns to keep that the results have too.

    Raises:
        ConfigError: ``keep`` is not a list, or has the name of a column of the results.
    """
    check_list("keep", keep)
    for name in keep:
        if name in schema().names:
            raise ConfigError(f"the results have a column {name!r}, so it cannot be kept; rename it first.")


def check_kept(batch: Any, keep: Sequence[str]) -> None:
    """Refuse a batch that lacks a column to keep.

    Raises:
        ConfigError: names the column, and the columns of the batch.
    """
    for name in keep:
        if name not in names_of(batch):
            has = sorted(names_of(batch))
            raise ConfigError(f"the batch lacks {name!r}, a column to keep; it has {has}.")


def check_lengths(batch: Any, keep: Sequence[str], images: int) -> None:
    """Refuse a batch with a column to keep that is shorter or longer than the column of images.

    Raises:
        ConfigError: names the column and both lengths.
    """
    for name in keep:
        if len(batch[name]) != images:
            raise ConfigError(f"the batch has {images} images, but {len(batch[name])} in {name!r}, to keep.")


def is_arrow(batch: object) -> bool:
    """Return True for a table or record batch of pyarrow."""
    pa = arrow()
    return isinstance(batch, pa.Table | pa.RecordBatch)


def names_of(batch: Any) -> list[str]:
    """Return the names of a batch's columns."""
    return list(batch.column_names if is_arrow(batch) else batch)


def with_kept(table: Any, batch: Any, keep: Sequence[str]) -> Any:
    """Return a table of results with columns of its batch added."""
    for name in keep:
        table = table.append_column(batch.schema.field(name), batch.column(name))
    return table


def one_batch(table: Any) -> Any:
    """Return a table as one record batch."""
    columns = [column.combine_chunks() for column in table.columns]
    return arrow().RecordBatch.from_arrays(columns, schema=table.schema)


def images_of(batch: Any, column: str | None) -> list[ImageInput]:
    """Return the images of a batch; null and what cannot be an image stay as they are, for the reader.

    Args:
        batch: columns by name; see ``BatchTagger``.
        column: the column of images; None for ``"image"`` if the batch has it, else ``"path"``, ``"bytes"``
            or both.

    Raises:
        ConfigError: the batch lacks the column, or has a path and bytes of different length.
    """
    found = {name: _listed(batch[name]) for name in image_columns(batch, column)}
    if len(found) == 1:
        (images,) = found.values()
        return list(map(_opened, images))
    paths, contents = found["path"], found["bytes"]
    if len(paths) != len(contents):
        raise ConfigError(f"the batch has {len(paths)} in 'path' but {len(contents)} in 'bytes'.")
    return [_named(content, path) for content, path in zip(contents, paths, strict=True)]


def image_columns(batch: Any, column: str | None) -> list[str]:
    """Return the names of the columns that ``images_of`` reads; raises what it raises."""
    names = names_of(batch)
    if column is not None:
        wanted: tuple[str, ...] = (column,)
    else:
        wanted = ("image",) if "image" in names else ("path", "bytes")
    found = [name for name in wanted if name in names]
    if not found:
        asked = "'image', 'path' or 'bytes'" if column is None else repr(column)
        raise ConfigError(
            f"a batch needs a column {asked}; this one has {sorted(names)}. "
            "The option column='<name>' names the column of images."
        )
    return found


class _NamedFile(io.BytesIO):
    """Hold the bytes of an image file and its name."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self.name = name


def _opened(image: Any) -> Any:
    """Return the image of a struct of bytes and path, as datasets stores images; others unchanged."""
    if not isinstance(image, Mapping):
        return image
    content, path = image.get("bytes"), image.get("path")
    return path if content is None else _named(content, "<bytes>" if path is None else path)


def _named(content: Any, path: Any) -> Any:
    """Give bytes their image's name; return other types unchanged, so that the reader refuses them."""
    return (
        _NamedFile(bytes(content), str(path))
        if isinstance(content, bytes | bytearray | memoryview)
        else content
    )


def _listed(column: Any) -> list[Any]:
    listed: list[Any] = column.to_pylist() if hasattr(column, "to_pylist") else list(column)
    return listed
