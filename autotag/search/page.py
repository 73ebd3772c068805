"""What a search found, as one page that needs no other file."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from typing import TYPE_CHECKING

from autotag.errors import ImageReadError
from autotag.images.reading import is_url, read_image
from autotag.writers.one_line import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autotag.search.index import Hit

_SIDE = 240
_QUALITY = 75
_STYLE = (
    "body{font:15px/1.4 system-ui,sans-serif;margin:2rem;background:#fafafa;color:#222}"
    "main{display:grid;grid-template-columns:repeat(auto-fill,minmax(240px,1fr));gap:1rem}"
    "figure{margin:0;background:#fff;border:1px solid #ddd;border-radius:6px;overflow:hidden}"
    "img,.none{display:block;width:100%;height:240px;object-fit:contain;background:#eee}"
    ".none{display:grid;place-items:center;color:#777}"
    "figcaption{padding:.6rem;overflow-wrap:anywhere}small{color:#666;display:block}"
)


def page(hits: Sequence[Hit], *, title: str = "", why: bool = False) -> str:
    """Return a page in HTML with a thumbnail of each photograph, about 10 kB each.

    A photograph that cannot be read has a note in the place of its thumbnail.
    """
    name = html.escape(title or "Photographs")
    figures = "\n".join(_figure(hit, why=why) for hit in hits)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title>\n'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n'
        f"<body><h1>{name}</h1><p>{len(hits)} found</p><main>\n{figures}\n</main></body></html>"
    )


def _figure(hit: Hit, *, why: bool) -> str:
    told = html.escape(one_line(", ".join(tag.text for tag in hit.tags[:8])))
    reason = f"<small>{html.escape(_why(hit))}</small>" if why else ""
    path = html.escape(one_line(hit.path))
    return (
        f"<figure>{_thumbnail(hit)}<figcaption>{html.escape(one_line(hit.caption))}<small>{told}</small>"
        f"<small>{hit.score:.4f} {hit.reason}, #{hit.id}{', offline' if hit.offline else ''}</small>{reason}"
        f"<small>{path}</small></figcaption></figure>"
    )


def _why(hit: Hit) -> str:
    cosine = [] if hit.cosine is None else [f"cosine {hit.cosine:.3f}"]
    words = [f"words: {', '.join(hit.words)}"] if hit.words else []
    return "; ".join([*cosine, *words]) or "it meets the filter"


def _thumbnail(hit: Hit) -> str:
    if is_url(hit.path):
        return '<div class="none">on the web</div>'
    try:
        image = read_image(Path(hit.path), target_size=_SIDE).image
    except ImageReadError as error:
        return f'<div class="none">{html.escape(one_line(error.reason))}</div>'
    image.thumbnail((_SIDE * 2, _SIDE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_QUALITY)
    encoded = base64.b64encode(file.getvalue()).decode("ascii")
    return f'<img alt="{html.escape(one_line(hit.caption))}" src="data:image/jpeg;base64,{encoded}">'
