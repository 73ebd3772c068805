"""A pipeline for cluster engines: a callable that is pickled as plain data; columns in, columns out."""

from __future__ import annotations

import json
from copy import deepcopy
from importlib.metadata import version
from threading import Lock
from typing import TYPE_CHECKING, Any

from autotag.distributed.columns import (
    check_keep,
    check_kept,
    check_lengths,
    check_version,
    image_columns,
    images_of,
    is_arrow,
    one_batch,
    with_kept,
)
from autotag.errors import DISTRIBUTION
from autotag.files.forked_process import check_not_forked
from autotag.pipeline.presets import checked_config, from_config
from autotag.writers.arrow_rows import arrow, schema, to_table_with_errors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from autotag.pipeline.pipeline import Pipeline

_loaded: dict[str, Pipeline] = {}
_lock = Lock()


class BatchTagger:
    """Tag a batch of images given as columns, for the ``map`` functions of Ray, Spark, datasets and others.

    ::

        tagger = BatchTagger(autotag.load("base", device="cuda").to_config(), keep=("id",))
        table = tagger(pyarrow.table({"path": ["a.jpg", "b.jpg"], "id": [1, 2]}))

    Only its options are pickled, with the version of autotag. The first call in each process loads the
    models; all taggers with the same config share them, and they stay until the process ends. May be called
    from several threads, which take turns. Needs the extra ``autotag-images[parquet]``.

    Args:
        config: a pipeline's config, see ``autotag.pipeline.presets.to_config``, or a preset's name. Folders
            that it names must exist on every machine that calls the tagger.
        keep: columns of the batch that stay beside the results, such as ids and albums.
        column: the column of images: paths, URLs if the config allows them, bytes of image files, Pillow
            images, or structs of ``bytes`` and ``path`` as ``datasets`` stores images. None for ``"image"``
            if the batch has it, else ``"path"``, ``"bytes"``, or both: then ``"path"`` only names the images.

    Raises:
        ConfigError: the config is wrong (also ``UnknownNameError`` and ``WiringError``), or a column to keep
            has the name of a column of the results.
    """

    def __init__(
        self, config: Mapping[str, Any] | str, *, keep: Sequence[str] = (), column: str | None = None
    ) -> None:
        self._config = checked_config(config)
        check_keep(keep)
        self._keep = tuple(keep)
        self._column = column

    @property
    def config(self) -> dict[str, Any]:
        """The pipeline's config, as given."""
        return deepcopy(self._config)

    def __call__(self, batch: Any, /) -> Any:
        """Return one row per image, in the order of the batch; a failed image has its reason in ``"error"``.

        Args:
            batch: columns: a ``pyarrow`` Table or RecordBatch, a batch of ``datasets``, or a mapping of names
                to lists, arrays or Arrow columns.

        Returns:
            The columns of ``autotag.writers.arrow_rows.schema``, then those of ``keep``: a RecordBatch for a
            RecordBatch, a Table for a Table or a batch of ``datasets``, and a dictionary of lists for any
            other mapping.

        Raises:
            ConfigError: the batch lacks the images or a column to keep, or columns have different lengths; or
                pyarrow is not installed.
            ModelUnavailableError: in the first call, weights are missing and cannot be downloaded.
            ModelLoadError: in the first call, weights do not load.
            StageBrokenError: a stage fails on 8 images in a row, or on all of a batch of two or more.
        """
        check_kept(batch, self._keep)
        images = images_of(batch, self._column)
        check_lengths(batch, self._keep, len(images))
        table = to_table_with_errors(list(self._pipeline().stream(images, on_error="record")))
        if is_arrow(batch) or hasattr(batch, "pa_table"):
            table = with_kept(table, batch if is_arrow(batch) else batch.pa_table, self._keep)
            return one_batch(table) if isinstance(batch, arrow().RecordBatch) else table
        return {**table.to_pydict(), **{name: list(batch[name]) for name in self._keep}}

    def check_columns(self, batch: Mapping[str, object]) -> None:
        """Refuse columns that do not have the images or a column to keep, before any batch is made.

        Args:
            batch: the names of the columns, with any values.

        Raises:
            ConfigError: names the column, and the columns that there are.
        """
        check_kept(batch, self._keep)
        image_columns(batch, self._column)

    def features(self, kept: Mapping[str, Any] | None = None) -> Any:
        """Return the types of the results as ``datasets.Features``, which streaming datasets need.

        Args:
            kept: the features of the columns that stay, by name.
        """
        from datasets import Features

        return Features({**Features.from_arrow_schema(schema()), **(kept or {})})

    def __reduce__(self) -> tuple[object, ...]:
        return _unpickled, (version(DISTRIBUTION), type(self), self._config, self._keep, self._column)

    def _pipeline(self) -> Pipeline:
        key = json.dumps(self._config, sort_keys=True)
        check_not_forked()  # in a fork, the lock may be held by a thread that exists only in the parent
        with _lock:
            if key not in _loaded:
                pipeline = from_config(self._config)
                pipeline.load()
                _loaded[key] = pipeline
            return _loaded[key]


def _unpickled(
    sender: str, kind: type[BatchTagger], config: dict[str, Any], keep: tuple[str, ...], column: str | None
) -> BatchTagger:
    """Rebuild a tagger from its pickle; raises what ``check_version`` raises."""
    check_version(sender)
    return kind(config, keep=keep, column=column)
