"""A pipeline for cluster engines: a callable that is pickled as plain data; columns in, columns out."""

from __future__ import annotations

import io
import json
from copy import deepcopy
from threading import Lock
from typing import TYPE_CHECKING, Any

from autotag.errors import ConfigError
from autotag.files.forked_process import check_not_forked
from autotag.pipeline.presets import from_config
from autotag.writers.arrow_rows import to_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from autotag.images.reading import ImageInput
    from autotag.pipeline.pipeline import Pipeline

_loaded: dict[str, Pipeline] = {}
_lock = Lock()


class BatchTagger:
    """Tag a batch of images given as columns, for Ray's ``map_batches`` and similar functions.

    ::

        tagger = BatchTagger(autotag.load("base", device="cuda").to_config())
        columns = tagger({"path": ["a.jpg", "b.jpg"]})

    Only its config is pickled. The first call in each process loads the models; all taggers with the same
    config share them, and they stay until the process ends. May be called from several threads, which take
    turns. Needs the extra ``autotag-images[parquet]``.

    Args:
        config: a pipeline's config, see ``autotag.pipeline.presets.to_config``. Folders that it names must
            exist on every machine that calls the tagger.

    Raises:
        ConfigError: the config is wrong (also ``UnknownNameError`` and ``WiringError``).
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        from_config(config)  # built to find errors before the config is sent
        self._config = deepcopy(dict(config))

    @property
    def config(self) -> dict[str, Any]:
        """The pipeline's config, as given."""
        return deepcopy(self._config)

    def __call__(self, batch: Mapping[str, Iterable[Any]], /) -> dict[str, Any]:
        """Return one row per image, in the order of the batch; a failed image has its reason in ``"error"``.

        Args:
            batch: a column ``"path"`` (paths, or URLs if the config allows them), or ``"bytes"`` (image
                files), or both: then ``"path"`` only names the images. Lists, arrays or Arrow columns; other
                columns are ignored.

        Returns:
            ``pyarrow`` columns by name, those of ``autotag.writers.arrow_rows.schema``.

        Raises:
            ConfigError: the batch has neither column, or two of different length; or pyarrow is not
                installed.
            ModelUnavailableError: in the first call, weights are missing and cannot be downloaded.
            ModelLoadError: in the first call, weights do not load.
            StageBrokenError: a stage fails on 8 images in a row, or on all of a batch of two or more.
        """
        table = to_table(list(self._pipeline().stream(_images(batch), on_error="record")))
        return {name: table.column(name).combine_chunks() for name in table.column_names}

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self._config,)

    def _pipeline(self) -> Pipeline:
        key = json.dumps(self._config, sort_keys=True)
        check_not_forked()  # in a fork, the lock may be held by a thread that exists only in the parent
        with _lock:
            if key not in _loaded:
                pipeline = from_config(self._config)
                pipeline.load()
                _loaded[key] = pipeline
            return _loaded[key]


class _NamedFile(io.BytesIO):
    """Hold the bytes of an image file and its name."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self.name = name


def _images(batch: Mapping[str, Iterable[Any]]) -> list[ImageInput]:
    paths, contents = _column(batch, "path"), _column(batch, "bytes")
    if contents is None:
        if paths is None:
            raise ConfigError(f"a batch needs a column 'path' or 'bytes'; this one has {sorted(batch)}.")
        return paths
    if paths is None:
        return contents
    if len(paths) != len(contents):
        raise ConfigError(f"the batch has {len(paths)} in 'path' but {len(contents)} in 'bytes'.")
    return [_named(content, path) for content, path in zip(contents, paths, strict=True)]


def _named(content: Any, path: Any) -> Any:
    """Give bytes their image's name; return other types unchanged, so that the reader refuses them."""
    return (
        _NamedFile(bytes(content), str(path))
        if isinstance(content, bytes | bytearray | memoryview)
        else content
    )


def _column(batch: Mapping[str, Iterable[Any]], name: str) -> list[Any] | None:
    column: Any = batch.get(name)
    if column is None:
        return None
    return column.to_pylist() if hasattr(column, "to_pylist") else list(column)
