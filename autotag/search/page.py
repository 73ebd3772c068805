"""What was found, as one page that needs no other file."""

from __future__ import annotations

import base64
import html
from pathlib import Path
from typing import TYPE_CHECKING

from autotag.images.reading import is_url
from autotag.writers.one_line import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from autotag.search.duplicates import Copy, DuplicateGroup
    from autotag.search.hits import Hit

_STYLE = (
    ":root{color-scheme:light dark}"
    "body{font:15px/1.4 system-ui,sans-serif;margin:clamp(.8rem,3vw,2rem);background:#fafafa;color:#222}"
    "h1{font-size:1.5rem;margin:0;overflow-wrap:anywhere}"
    ".photos{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(240px,100%),1fr));gap:1rem}"
    "figure{margin:0;background:#fff;border:1px solid #ddd;border-radius:6px;overflow:hidden}"
    "figure.keep{border-color:#2a7;box-shadow:0 0 0 1px #2a7}"
    "img,.none{display:block;width:100%;height:240px;object-fit:contain;background:#eee}"
    ".none{display:grid;place-items:center;color:#595959}h2{font-size:1rem;margin:2rem 0 .5rem}"
    "a{display:block;color:inherit;text-decoration:none}"
    "a:focus-visible{outline:3px solid #06c;outline-offset:-3px}figcaption"
    "{padding:.6rem;overflow-wrap:anywhere}small{color:#666;display:block}"
    "@media(prefers-color-scheme:dark){body{background:#161616;color:#eee}figure{background:#222;border-color:#444}"
    "img,.none{background:#111}small,.none{color:#aaa}a:focus-visible{outline-color:#8bf}}"
)


_FOUND_BY = {
    "both": "found by meaning and text", "vector": "found by meaning", "words": "found by text",
    "filter": "meets the filter",
}  # fmt: skip


def page(hits: Sequence[Hit], pictures: Sequence[bytes | str], *, title: str = "", why: bool = False) -> str:
    """Return a page in HTML with what a search found; each picture is a link to its photograph.

    Args:
        hits: what was found.
        pictures: a JPEG for each, or the reason why there is none, see ``thumbnails``.
        title: of the page.
        why: whether to say why each was found.
    """
    figures = "\n".join(
        _figure(picture, hit.path, hit.caption, about_hit(hit, why=why))
        for hit, picture in zip(hits, pictures, strict=True)
    )
    body = f'<p>{len(hits)} found</p><main class="photos">\n{figures}\n</main>'
    return _whole(title or "Photographs", body)


def duplicates_page(groups: Sequence[DuplicateGroup], pictures: Iterable[bytes | str]) -> str:
    """Return a page in HTML with groups of duplicates, the photograph to keep first in each.

    Args:
        groups: what was found.
        pictures: for each photograph of each group in turn, see ``page``.
    """
    following = iter(pictures)
    sections = "\n".join(_section(group, following) for group in groups)
    number = f"{len(groups)} group{'s' * (len(groups) != 1)}"
    return _whole("Duplicates", f"<p>{number}; nothing is deleted</p><main>\n{sections}\n</main>")


def _whole(title: str, body: str) -> str:
    name = html.escape(one_line(title))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title>\n'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n'
        f"<body><h1>{name}</h1>{body}</body></html>"
    )


def _section(group: DuplicateGroup, pictures: Iterator[bytes | str]) -> str:
    figures = "\n".join(
        _figure(next(pictures), copy.path, "", _told_copy(copy), css="keep" if copy.kind is None else "")
        for copy in group.photos
    )
    heading = f"Burst of {len(group.photos)}" if group.kind == "burst" else f"{len(group.photos)} copies"
    return f'<h2>{heading}</h2><div class="photos">\n{figures}\n</div>'


def _figure(picture: bytes | str, path: str, caption: str, told: Sequence[str], *, css: str = "") -> str:
    """Return a figure with a picture, its caption, and small lines below it, each in its own direction."""
    said = html.escape(one_line(caption))
    alt = said or html.escape(one_line(Path(path).name))
    lines = "".join(f"<small><bdi>{html.escape(one_line(line))}</bdi></small>" for line in told if line)
    if isinstance(picture, str):
        shown = f'<div class="none">{html.escape(one_line(picture))}</div>'
    else:
        encoded = base64.b64encode(picture).decode("ascii")
        shown = f'<img alt="{alt}" src="data:image/jpeg;base64,{encoded}">'
    address = html.escape(_address(path))
    if address:
        shown = f'<a href="{address}" title="{html.escape(one_line(path))}">{shown}</a>'
    opening = f'<figure class="{css}">' if css else "<figure>"
    return f"{opening}{shown}<figcaption><bdi>{said}</bdi>{lines}</figcaption></figure>"


def _address(path: str) -> str:
    """Return a photograph's URL for a link; empty for one that a browser had better not open."""
    if is_url(path):
        return path if path.lower().startswith(("http://", "https://")) else ""
    return Path(path).absolute().as_uri()


def about_hit(hit: Hit, *, why: bool) -> list[str]:
    """Return lines about a photograph: tags, score, why it was found, path."""
    tags = ", ".join(tag.text for tag in hit.tags[:8])
    offline = ", offline" if hit.offline else ""
    reason = [_why(hit)] if why else []
    found = f"#{hit.id}, score {hit.score:.4f}, {_FOUND_BY[hit.reason]}{offline}"
    return [tags, found, *reason, hit.path]


def _why(hit: Hit) -> str:
    cosine = [] if hit.cosine is None else [f"cosine {hit.cosine:.3f}"]
    words = [f"words: {', '.join(hit.words)}"] if hit.words else []
    return "; ".join([*cosine, *words])


def _told_copy(copy: Copy) -> list[str]:
    relation = "keep" if copy.kind is None else f"same {copy.kind}" if copy.kind != "burst" else "burst"
    facts = [f"{copy.size[0]}x{copy.size[1]}", f"{copy.bytes:,} bytes"]
    facts += [copy.taken.replace("T", " ")] if copy.taken else []
    keywords = f"keywords: {', '.join(copy.keywords)}" if copy.keywords else ""
    return [relation, ", ".join(facts), keywords, copy.path]
