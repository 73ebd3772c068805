"""Photographs as points of Qdrant, and back.

A point's id is the UUID (version 5, namespace URL) of the photograph's path; as a number it is the id that
searches return. What a photograph's texts say stands in the payload ``words``, in lower case, without accents
and endings, and is ranked by Qdrant's BM25.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import numpy as np

from autotag.language.english import lemma
from autotag.metadata.keywords import fold
from autotag.records import Tag
from autotag.search.known import Known
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
    from collections.abc import Iterator, Mapping, Sequence

VECTOR = "vector"
"""The name of the collection's vector."""
FACTS = ("path", "bytes", "mtime_ns", "digest", "has_vector", "error", "offline", "sidecars")
"""The payload's keys that ``known_of`` turns into facts."""


def id_of(path: str) -> uuid.UUID:
    """Return the id of the point of a path."""
    return uuid.uuid5(uuid.NAMESPACE_URL, path_to_text(path))


def number_of(point: object) -> int:
    """Return a point's id as a number."""
    return uuid.UUID(str(point)).int


def payload_of(photo: StoredPhoto) -> dict[str, Any]:
    """Return everything about a photograph but its vector."""
    tags = [kept_text(tag.text) for tag in photo.tags]
    keywords = list(map(kept_text, photo.keywords))
    camera = None if photo.camera is None else kept_text(photo.camera)
    is_placed = photo.latitude is not None and photo.longitude is not None
    return {
        "path": path_to_text(photo.path),
        "caption": kept_text(photo.caption),
        "tags": tags,
        "tag_scores": [float(tag.score) for tag in photo.tags],
        "tag_sources": [kept_text(tag.source) for tag in photo.tags],
        "keywords": keywords,
        "labels": list(dict.fromkeys(map(fold, [*tags, *keywords, *map(kept_text, photo.concepts)]))),
        "width": photo.size[0],
        "height": photo.size[1],
        "taken": photo.taken,
        "camera": camera,
        "camera_folded": None if camera is None else camera.lower(),
        "place": {"lat": photo.latitude, "lon": photo.longitude} if is_placed else None,
        "bytes": photo.bytes,
        "mtime_ns": photo.mtime_ns,
        "digest": photo.digest,
        "error": None if photo.error is None else kept_text(photo.error),
        "offline": photo.offline,
        "sidecars": photo.sidecars,
        "has_vector": photo.vector is not None,
        "words": " ".join(map(lemma, texts_of(photo).split())),
    }


def photo_of(payload: Mapping[str, Any], vectors: Any) -> StoredPhoto:
    """Return the photograph of a payload, and of the point's vectors by name, if they were asked for."""
    vector = vectors.get(VECTOR) if isinstance(vectors, dict) else None
    place = payload["place"] or {"lat": None, "lon": None}
    tags = zip(payload["tags"], payload["tag_scores"], payload["tag_sources"], strict=True)
    return StoredPhoto(
        text_to_path(payload["path"]),
        size=(payload["width"], payload["height"]),
        caption=payload["caption"],
        tags=tuple(Tag(text, score, source) for text, score, source in tags),
        keywords=tuple(payload["keywords"]),
        concepts=other_labels(payload["labels"], [*payload["tags"], *payload["keywords"]]),
        latitude=place["lat"],
        longitude=place["lon"],
        sidecars=payload.get("sidecars", ""),  # the first version did not write it
        vector=None if vector is None else np.asarray(vector, dtype=np.float32),
        **{
            name: payload[name]
            for name in ("taken", "camera", "bytes", "mtime_ns", "digest", "error", "offline")
        },
    )


def known_of(point: Any) -> tuple[str, Known]:
    """Return path and facts of a point whose payload has ``FACTS``."""
    facts = {"sidecars": "", **point.payload}
    return text_to_path(facts["path"]), Known(number_of(point.id), *(facts[name] for name in FACTS[1:]))


def texts_of(photo: StoredPhoto) -> str:
    """Return the plain words of caption, tags, concepts, keywords and name, apart from one another."""
    parts = (photo.caption, *(tag.text for tag in photo.tags), *photo.concepts, *photo.keywords)
    return separate_words([*parts, name_words(photo.path)])


def lemmas_of(text: str) -> str:
    """Return the plain words of a text without their endings."""
    return " ".join(map(lemma, plain_words(text).split()))


def matching_words(text: str, terms: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the words of a text that are in a term, which is a sequence of lemmas."""
    words = text.split()
    lemmas = [lemma(word) for word in words]
    marked = {
        place
        for term in terms
        for start in range(len(words) - len(term) + 1)
        if lemmas[start : start + len(term)] == term
        for place in range(start, start + len(term))
    }
    yield from (words[place] for place in sorted(marked))
