"""Read what people wrote about photographs: in the files and their sidecars, in data sets, in an index."""

from __future__ import annotations

import logging
import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from autotag.errors import ConfigError, ImageReadError, MetadataError, SearchIndexError
from autotag.files.file_states import read_with_state
from autotag.metadata import Keywords, read_existing, read_packet, sidecars_of
from autotag.metadata.keywords import each_once, fold
from autotag.search.shot import read_shot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from autotag.evaluation.datasets import EvaluationSet
    from autotag.images.reading import ImageInput
    from autotag.protocols import ImageTextEncoder
    from autotag.search import Index

_logger = logging.getLogger("autotag")


@dataclass(frozen=True, slots=True, eq=False)
class KeywordedPhoto:
    """A photograph and what people wrote about it.

    Attributes:
        name: its path, or its id in a data set.
        image: what the pipeline reads.
        keywords: that people gave.
        removed: machine tags that people took out.
        folder: that it is in; photographs of one event are in one folder.
        taken: when it was taken, ISO 8601, or None.
        vector: (D,) float32 of length 1, where it is known; else None.
        left: machine tags that people left in.
    """

    name: str
    image: ImageInput
    keywords: Keywords
    removed: tuple[str, ...] = ()
    folder: str = ""
    taken: str | None = None
    vector: NDArray[np.float32] | None = None
    left: tuple[str, ...] = ()

    @property
    def teaches(self) -> bool:
        """Return whether people said anything about it."""
        return self.keywords != Keywords() or bool(self.removed)


def in_files(paths: Iterable[Path]) -> Iterator[KeywordedPhoto]:
    """Yield each photograph with the keywords in it and in its sidecars; machine tags are not among them.

    A file that cannot be read is logged and left out; so is a damaged sidecar, and what is in it.
    """
    for path in paths:
        try:
            content, _ = read_with_state(path)
        except (MetadataError, OSError) as error:
            _logger.warning("%s is left out: %s", path, error)
            continue
        existing = read_existing(content)
        keywords, removed = existing.by_people, existing.refusals.tags
        record = existing.machine_tags
        try:
            for packet in _packets(path):
                found = read_packet(packet)
                keywords |= found.by_people
                record += found.machine_tags
                removed = each_once((*removed, *found.refused))
        except (MetadataError, ValueError, OSError) as error:
            _logger.warning("the sidecar of %s is left out: %s", path, error)
        gone = set(map(fold, removed))
        yield KeywordedPhoto(
            os.fspath(path),
            path,
            keywords,
            removed,
            os.fspath(path.parent),
            read_shot(content).taken,
            left=each_once(tag.text for tag in record if fold(tag.text) not in gone),
        )


def left_in(photos: Iterable[KeywordedPhoto]) -> Counter[str]:
    """Return in how many photographs people left each machine tag, by its normal form (``fold``)."""
    return Counter(word for photo in photos for word in set(map(fold, photo.left)))


def _packets(path: Path) -> Iterator[bytes]:
    found = sidecars_of(path)
    yield from (packet for _, packet in found.existing)
    yield from (content for _, content in found.seeds)


def in_dataset(dataset: EvaluationSet) -> list[KeywordedPhoto]:
    """Return the photographs of a data set with tags; ``Places|Italy`` in a tag is a path.

    Raises:
        ConfigError: the data set has no tags.
    """
    if not dataset.labels:
        raise ConfigError(f"{dataset.name!r} has no tags to learn from; it needs a column tags or labels.")
    return [KeywordedPhoto(one.id, one.image, as_keywords(one.tags)) for one in dataset.examples]


def as_keywords(tags: Sequence[str]) -> Keywords:
    """Return tags as keywords; a bar is between the parts of a path."""
    paths = [tuple(tag.split("|")) for tag in tags]
    return Keywords.of((), paths)


def in_index(index: Index) -> list[KeywordedPhoto]:
    """Return the photographs of an index with people's keywords and their vectors; no file is read.

    An index keeps keywords without their parents.
    """
    from autotag.search.index_writing import KEYWORD

    words: dict[int, list[str]] = {}
    for photo, text in index.execute(
        "SELECT photo, text FROM tag WHERE source = ? ORDER BY photo, place", (KEYWORD,)
    ):
        words.setdefault(photo, []).append(text)
    rows = index.execute(
        "SELECT id, path, taken, value FROM photo JOIN vector ON vector.photo = photo.id ORDER BY id"
    )
    found = []
    for photo, stored, taken, value in rows:
        if photo in words:
            path = Path(os.fsdecode(stored))
            vector = _unit(value)
            found.append(
                KeywordedPhoto(
                    os.fspath(path),
                    path,
                    Keywords.of(words[photo]),
                    (),
                    os.fspath(path.parent),
                    taken,
                    vector,
                )
            )
    return found


def with_vectors_of(photos: Sequence[KeywordedPhoto], index: Index) -> list[KeywordedPhoto]:
    """Return the photographs with the vectors that an index has of files that did not change since."""
    rows = {
        os.fsdecode(path): (size, mtime_ns, value)
        for path, size, mtime_ns, value in index.execute(
            "SELECT path, bytes, mtime_ns, value FROM photo JOIN vector ON vector.photo = photo.id"
        )
    }
    found = []
    for photo in photos:
        name = os.path.abspath(photo.name)  # noqa: PTH100 - as the index writes paths
        known = rows.get(name, rows.get(photo.name))
        vector = None
        if known is not None:
            state = os.stat(photo.name)  # noqa: PTH116 - names of any kind
            if (state.st_size, state.st_mtime_ns) == known[:2]:
                vector = _unit(known[2])
        found.append(replace(photo, vector=vector))
    return found


def _unit(stored: bytes) -> NDArray[np.float32]:
    vector = np.frombuffer(stored, dtype="<f2").astype(np.float32)
    found: NDArray[np.float32] = vector / np.linalg.norm(vector)
    return found


def check_index(index: Index, encoder: ImageTextEncoder) -> None:
    """Refuse an index with the vectors of another encoder.

    Raises:
        SearchIndexError: naming both.
    """
    held = index.about().get("encoder")
    if held not in (None, encoder.id):
        raise SearchIndexError(
            str(index.path),
            f"its vectors are of encoder {held!r}, and the preset's is {encoder.id!r}; choose a --preset "
            "with that encoder.",
        )


def embedded(
    photos: Sequence[KeywordedPhoto], encoder: ImageTextEncoder, *, on_image: Callable[[], None] | None = None
) -> tuple[list[KeywordedPhoto], NDArray[np.float32]]:
    """Return the photographs that can be read, and their vectors, (N, D) float32 of length 1.

    Vectors that are known are used again. A photograph that cannot be read is logged and left out.

    Args:
        photos: at least one.
        encoder: makes the vectors.
        on_image: called after each photograph that is embedded.

    Raises:
        ImageReadError: none can be read.
    """
    from autotag.pipeline.pipeline import Pipeline
    from autotag.relevance.embeddings import read_embedding
    from autotag.stages.embed_images import EmbedImages

    due = [place for place, photo in enumerate(photos) if photo.vector is None]
    vectors: dict[int, NDArray[np.float32]] = {
        place: photo.vector for place, photo in enumerate(photos) if photo.vector is not None
    }
    reasons: list[str] = []
    if due:
        with Pipeline([EmbedImages()], encoder=encoder) as pipeline:
            results = pipeline.stream([photos[place].image for place in due], on_error="record")
            for place, result in zip(due, results, strict=True):
                found = None if result.error else read_embedding(result.extras)
                if found is None:
                    reasons.append(str(result.error))
                    _logger.warning("%s is left out: %s", photos[place].name, result.error)
                else:
                    vectors[place] = found[1].astype(np.float32)
                if on_image is not None:
                    on_image()
    if not vectors:
        raise ImageReadError(photos[0].name, f"no photograph can be read; the first: {reasons[0]}")
    order = sorted(vectors)
    rows = np.stack([vectors[place] for place in order])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return [photos[place] for place in order], rows
