"""Count, on a sample of an album, the tags that each score threshold would keep."""

from __future__ import annotations

import random
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from autotag.albums.sources import find_album
from autotag.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from os import PathLike

    from autotag.pipeline.pipeline import Pipeline
    from autotag.records import Result

_SEED = 20


@dataclass(frozen=True, slots=True)
class Cut:
    """The tags that one threshold keeps.

    Attributes:
        threshold: the least score of a tag that stays.
        tags: how many tags stay, over all photographs.
        photos: how many photographs keep a tag.
        per_photo: tags per photograph in the mean.
        examples: the tags with the lowest scores that stay, each with its photograph: what one step more
            would drop.
    """

    threshold: float
    tags: int
    photos: int
    per_photo: float
    examples: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The table of cuts.

    Attributes:
        photos: photographs in the sample that could be tagged.
        failed: photographs that could not be tagged.
        cuts: from the lowest threshold to the highest.
    """

    photos: int
    failed: int
    cuts: tuple[Cut, ...]


def try_thresholds(
    source: str | PathLike[str] | Sequence[str | PathLike[str]],
    *,
    pipeline: Pipeline,
    sample: int = 200,
    thresholds: Sequence[float] = (),
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> Thresholds:
    """Tag a sample of an album and count the tags that each threshold keeps. Write nothing.

    Args:
        source: as for ``tag_folder``.
        pipeline: what tags; its own cut should be off or low, for what it drops is not seen here.
        sample: photographs at most, drawn by a fixed seed: the same album gives the same sample.
        thresholds: the cuts; by default ten, at which about equally many tags go.
        include: glob patterns; a photograph has to match one of them.
        exclude: glob patterns of what to leave out.

    Raises:
        ConfigError: no image is found, or none of the sample has a tag.
    """
    sources = [source] if isinstance(source, str) or hasattr(source, "__fspath__") else source
    album = find_album(cast("Sequence[str]", sources), include=include, exclude=exclude)
    album.check_not_empty()
    photos = _drawn(album.photos(), sample)
    scored: list[tuple[float, str, str]] = []
    failed = 0
    images = [photo.image for photo in photos]
    with closing(cast("Any", pipeline.stream(images, on_error="record"))) as results:
        for photo, result in zip(photos, results, strict=True):
            failed += result.error is not None
            scored += [(tag.score, photo.name, tag.text) for tag in _tags(result)]
    if not scored:
        raise ConfigError(f"none of {len(photos)} photographs in {str(album.key)!r} has a tag.")
    done = len(photos) - failed
    cuts = tuple(_cut(value, scored, done) for value in sorted(thresholds) or _quantiles(scored))
    return Thresholds(done, failed, cuts)


def _tags(result: Result) -> Iterable[Any]:
    return result.tags if result.error is None else ()


def _drawn(photos: Iterable[Any], count: int) -> list[Any]:
    """Return a uniform random sample in the order of the album (Vitter's algorithm R)."""
    chance = random.Random(_SEED)  # noqa: S311 - a sample, not a secret
    kept: list[tuple[int, Any]] = []
    for place, photo in enumerate(photos):
        if place < count:
            kept.append((place, photo))
        elif (slot := chance.randrange(place + 1)) < count:
            kept[slot] = (place, photo)
    return [photo for _, photo in sorted(kept, key=lambda pair: pair[0])]


def _quantiles(scored: Sequence[tuple[float, str, str]]) -> list[float]:
    """Return up to ten rounded-down quantiles of the scores, lowest first."""
    scores = sorted(score for score, _, _ in scored)
    picked = (scores[len(scores) * tenth // 10] for tenth in range(10))
    return sorted({int(score * 1000) / 1000 for score in picked})


def _cut(threshold: float, scored: Sequence[tuple[float, str, str]], photos: int) -> Cut:
    kept = sorted(entry for entry in scored if entry[0] >= threshold)
    examples = tuple((text, name) for _, name, text in kept[:3])
    return Cut(threshold, len(kept), len({name for _, name, _ in kept}), len(kept) / photos, examples)
