"""Photographs as rows of Postgres, and back."""

from __future__ import annotations

from datetime import datetime
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from autotag.errors import ConfigError
from autotag.metadata.keywords import fold
from autotag.records import Tag
from autotag.search.store import StoredPhoto, other_labels
from autotag.search.stored_text import (
    kept_text,
    name_words,
    path_to_text,
    plain_words,
    separate_words,
    text_to_path,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


def values_of(photo: StoredPhoto) -> tuple[object, ...]:
    """Return what stands in the columns, in the order of ``postgres_tables.COLUMNS``."""
    from pgvector import HalfVector

    tags = [kept_text(tag.text) for tag in photo.tags]
    keywords = list(map(kept_text, photo.keywords))
    return (
        path_to_text(photo.path),
        kept_text(photo.caption),
        tags,
        [float(tag.score) for tag in photo.tags],
        [kept_text(tag.source) for tag in photo.tags],
        keywords,
        list(dict.fromkeys(map(fold, [*tags, *keywords, *map(kept_text, photo.concepts)]))),
        *photo.size,
        _moment(photo),
        None if photo.camera is None else kept_text(photo.camera),
        photo.latitude,
        photo.longitude,
        photo.bytes,
        photo.mtime_ns,
        photo.digest,
        None if photo.error is None else kept_text(photo.error),
        photo.offline,
        photo.sidecars,
        None if photo.vector is None else HalfVector(photo.vector),
    )


def _moment(photo: StoredPhoto) -> datetime | None:
    if photo.taken is None:
        return None
    try:
        return datetime.fromisoformat(photo.taken).replace(tzinfo=None)
    except ValueError as error:
        raise ConfigError(f"{photo.path!r}: taken={photo.taken!r} is not a time: {error}") from error


def words_of(photo: StoredPhoto) -> tuple[str, str, str, str]:
    """Return the words of caption, tags, keywords and name, apart from one another."""
    return (
        plain_words(photo.caption),
        separate_words(["", *(tag.text for tag in photo.tags), *photo.concepts]),
        separate_words(["", *photo.keywords]),
        separate_words(["", name_words(photo.path)]),
    )


def photo_of(row: Mapping[str, Any]) -> StoredPhoto:
    """Return the photograph of a row, which is given as column -> value."""
    taken: datetime | None = row["taken"]
    vector = row["vector"]
    tags = zip_longest(row["tags"], row["tag_scores"], row["tag_sources"])  # in SQL they may be set alone
    return StoredPhoto(
        text_to_path(row["path"]),
        size=(row["width"], row["height"]),
        caption=row["caption"],
        tags=tuple(Tag(text, score or 0.0, source or "") for text, score, source in tags if text),
        keywords=tuple(row["keywords"]),
        concepts=other_labels(row["labels"], [*row["tags"], *row["keywords"]]),
        taken=None if taken is None else _written(taken),
        vector=None if vector is None else np.asarray(vector.to_numpy()),
        **{
            name: row[name]
            for name in (
                "camera", "latitude", "longitude", "bytes", "mtime_ns", "digest", "error", "offline",
                "sidecars",
            )
        },
    )  # fmt: skip


def _written(moment: datetime) -> str:
    text = moment.isoformat()
    return text.rstrip("0") if moment.microsecond else text
