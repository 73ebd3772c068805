"""Tag a Spark data frame: each Python worker of an executor holds the models and tags Arrow batches.

Needs the extra ``autotag-images[spark]`` and a Java that the Spark version runs on.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from autotag.distributed.batch_tagger import BatchTagger
from autotag.errors import ConfigError, install_hint
from autotag.writers.arrow_rows import schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence


def tag_dataframe(
    frame: Any, config: Mapping[str, Any] | str, *, keep: Sequence[str] = (), column: str | None = None
) -> Any:
    """Return a data frame of results, one row per image; it runs when an action asks for its rows.

    ::

        photos = spark.read.format("binaryFile").load("/photos").withColumnRenamed("content", "bytes")
        tag_dataframe(photos, config, keep=("length",)).write.parquet("tags")

    An image that fails is a row with its error. The first batch in a Python worker loads the models, which
    stay for later batches and jobs (``spark.python.worker.reuse``, on by default). Spark starts one worker
    per task slot: set ``spark.task.cpus`` to the cores per copy of the models. Batches have
    ``spark.sql.execution.arrow.maxRecordsPerBatch`` rows, 10,000 by default: 64 to 256 spread better.

    Args:
        frame: a ``pyspark.sql.DataFrame`` with a column ``"path"`` (paths, or URLs if the config allows
            them), ``"bytes"`` (image files), both (then ``"path"`` names the images), or ``"image"``.
        config: a pipeline's config, see ``autotag.pipeline.presets.to_config``, or a preset's name. Folders
            and weights that it names must exist on every machine.
        keep: columns that stay beside the results, such as ids.
        column: the column of images, if it has another name.

    Returns:
        A data frame with the columns of ``autotag.writers.arrow_rows.schema``, then those of ``keep``.

    Raises:
        ConfigError: the config is wrong, the frame lacks a column, or pyspark is not installed.
    """
    try:
        from pyspark.sql.pandas.types import from_arrow_schema
    except ImportError as error:
        raise ConfigError(f"data frames of Spark need: {install_hint('spark')}") from error
    tagger = BatchTagger(config, keep=keep, column=column)
    tagger.check_columns(dict.fromkeys(frame.columns))
    types = from_arrow_schema(schema())
    for name in keep:
        types.add(frame.schema[name])
    return frame.mapInArrow(partial(_tagged, tagger), schema=types)


def _tagged(tagger: BatchTagger, batches: Iterable[Any]) -> Iterator[Any]:
    """Tag the record batches of one partition."""
    return map(tagger, batches)
