"""Thumbnails of photographs for a page, made once and kept beside the index."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from autotag.errors import ImageReadError
from autotag.images.reading import file_bytes, is_url, read_image
from autotag.metadata.pixel_digest import pixel_digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from autotag.search.hits import Hit
    from autotag.search.index import Index
    from autotag.search.picture_cache import PictureCache

HEIGHT = 240
"""In pixels; the width is at most twice this."""

_QUALITY = 75
_PLACES = 500  # most parameters of one query


def thumbnails(photos: Sequence[tuple[str, str]], cache: PictureCache | None = None) -> list[bytes | str]:
    """Return a JPEG of about 10 kB for each photograph, or the reason why there is none.

    Args:
        photos: paths or URLs, and the digests of their pixels, ``""`` where they are not known.
        cache: where thumbnails are looked up and kept; None to make each. One that is kept is also found when
            the file is not there.
    """
    kept = cache.jpegs([digest for _, digest in photos if digest]) if cache is not None else {}
    made: dict[str, bytes] = {}
    found: list[bytes | str] = []
    for path, digest in photos:
        jpeg = kept.get(digest) or made.get(digest)
        if jpeg is None:
            try:
                now, jpeg = _made(path)
            except ImageReadError as error:
                found.append(error.reason)
                continue
            made[now] = jpeg
        found.append(jpeg)
    if cache is not None and (kept or made):
        cache.keep_jpegs(list(kept), made)
    return found


def thumbnails_of(index: Index, hits: Sequence[Hit], cache: PictureCache) -> list[bytes | str]:
    """Return the thumbnails of what a search found, see ``thumbnails``."""
    digests = dict(_digests(index, [hit.id for hit in hits]))
    return thumbnails([(hit.path, digests.get(hit.id, "")) for hit in hits], cache)


def _digests(index: Index, photos: Sequence[int]) -> Iterator[tuple[int, str]]:
    for first in range(0, len(photos), _PLACES):
        some = photos[first : first + _PLACES]
        places = ", ".join("?" * len(some))
        yield from (
            (photo, digest or "")
            for photo, digest in index.execute(f"SELECT id, digest FROM photo WHERE id IN ({places})", some)  # noqa: S608
        )


def _made(path: str) -> tuple[str, bytes]:
    """Return the digest of a photograph's pixels and its thumbnail.

    Raises:
        ImageReadError: it cannot be read.
    """
    if is_url(path):
        raise ImageReadError(path, "on the web")
    content = file_bytes(path, path)
    image = read_image(content, target_size=HEIGHT, source=path).image
    image.thumbnail((HEIGHT * 2, HEIGHT))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_QUALITY)
    return pixel_digest(content), file.getvalue()
