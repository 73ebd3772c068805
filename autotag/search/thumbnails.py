"""Thumbnails of photographs for a page, made once and kept."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from autotag.errors import ImageReadError
from autotag.images.reading import file_bytes, is_url, read_image
from autotag.metadata.pixel_digest import pixel_digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autotag.search.hits import Hit
    from autotag.search.index import Index
    from autotag.search.picture_cache import PictureCache
    from autotag.search.store_index import StoreIndex

HEIGHT = 240
"""In pixels; the width is at most twice this."""

_QUALITY = 75


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


def thumbnails_of(index: Index | StoreIndex, hits: Sequence[Hit], cache: PictureCache) -> list[bytes | str]:
    """Return the thumbnails of what a search of the index found, see ``thumbnails``.

    Raises:
        SearchIndexError: the index cannot be read.
    """
    digests = index.digests([hit.id for hit in hits])
    return thumbnails([(hit.path, digests.get(hit.id, "")) for hit in hits], cache)


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
