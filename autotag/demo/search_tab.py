"""The tab Search: an index by words, by an image, by a photograph of the index, and by filters."""

from __future__ import annotations

import asyncio
import html
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from PIL import Image, ImageDraw

from autotag.demo.searched_index import Question, enlarged
from autotag.demo.uploads import read_uploads
from autotag.errors import AutotagError, ConfigError, ImageReadError
from autotag.search import Hit  # noqa: TC001 - Gradio reads the annotations
from autotag.search.page import about_hit
from autotag.search.thumbnails import HEIGHT
from autotag.writers.one_line import one_line

if TYPE_CHECKING:
    from autotag.demo.searched_index import SearchedIndex
    from autotag.demo.uploads import UploadLimits

_MOST = 200
_MOST_DIGITS = 39  # Qdrant's ids have 128 bits
_SERIES = "index"  # one visitor at a time is answered; the others wait without holding a thread
_BY = [("meaning and text", "both"), ("meaning", "vectors"), ("text", "words")]


def search_tab(page: gr.Blocks, index: SearchedIndex, limits: UploadLimits) -> None:
    """Add the contents of the tab; its endpoint is ``/search``.

    Args:
        page: asks for the size of the index when it is loaded.
        index: to search.
        limits: of an uploaded image.
    """
    searching = _Searching(index, limits)
    hits, chosen = gr.State([]), gr.State()
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            question, button = _question()
        with gr.Column(scale=3):
            status = gr.HTML()
            found = gr.Gallery(
                label="Found", columns=4, height=560, object_fit="contain", allow_preview=False,
                format="jpeg", interactive=False, buttons=[],
            )  # fmt: skip
            with gr.Row(visible=False) as row:
                with gr.Column(scale=2):
                    photograph = gr.Image(
                        label="Photograph",
                        interactive=False,
                        format="jpeg",
                        height=480,
                        buttons=["fullscreen"],
                    )
                with gr.Column(scale=1):
                    facts = gr.HTML()
                    more = gr.Button("More like this")
    with gr.Accordion("As JSON", open=False):
        record = gr.JSON(label="Found")
    outputs = [found, status, record, hits, row]
    words, image, like = question[:3]
    options: dict[str, Any] = {
        "concurrency_limit": 1, "concurrency_id": _SERIES, "show_progress_on": found,
    }  # fmt: skip
    gr.on(
        [button.click, words.submit], searching.search, question, outputs, preprocess=False,
        api_name="search", **options,
    )  # fmt: skip
    found.select(
        searching.look, [hits], [row, photograph, facts, chosen], api_visibility="private",
        concurrency_limit=1, concurrency_id="look",
    )  # fmt: skip
    more.click(
        lambda one: ("", None, str(one)), [chosen], [words, image, like], api_visibility="private"
    ).then(searching.search, question, outputs, preprocess=False, api_visibility="private", **options)
    page.load(searching.size, None, [status], api_visibility="private")


def _question() -> tuple[list[Any], gr.Button]:
    """Return the components that a question is made of, in the order of ``search``, and a button."""
    words = gr.Textbox(
        label="Words", placeholder='small dog "with a hat"', info="In double quotes: must be in the text."
    )
    image = gr.Image(
        label="Image to resemble",
        type="filepath",
        image_mode=None,
        sources=["upload", "clipboard"],
        height=200,
    )
    button = gr.Button("Search", variant="primary")
    like = gr.Textbox(label="Like photograph #", placeholder="17", info="A number that a search shows.")
    without = gr.Textbox(label="Not", info="Words that are not wanted.")
    with gr.Accordion("Filters", open=False):
        tags = gr.Textbox(label="Tags", placeholder="dog, beach", info="All of them.")
        folder = gr.Textbox(label="Folder", placeholder="2019")
        with gr.Row():
            since = gr.Textbox(label="Since", placeholder="2019-05", min_width=100)
            until = gr.Textbox(label="Until", placeholder="2020", min_width=100)
        camera = gr.Textbox(label="Camera")
        near = gr.Textbox(label="Near", placeholder="52.52,13.405,5", info="Latitude, longitude, kilometres.")
    by = gr.Radio(_BY, value="both", label="Find words by")
    top = gr.Slider(1, _MOST, value=20, step=1, label="At most", info="Photographs.")
    return [words, image, like, without, tags, folder, since, until, camera, near, by, top], button


class _Searching:
    """Answer the events of the tab."""

    def __init__(self, index: SearchedIndex, limits: UploadLimits) -> None:
        self._index = index
        self._limits = limits

    async def size(self) -> str:
        """Return how many photographs there are, or why the index cannot be searched."""
        try:
            return _status(f"{await asyncio.to_thread(self._index.count):,} photographs in the index")
        except AutotagError as error:
            return _status(str(error))

    async def search(  # noqa: PLR0917 - Gradio gives the components' values by position
        self,
        words: str | None,
        image: dict[str, Any] | None,
        like: str | None,
        without: str | None,
        tags: str | None,
        folder: str | None,
        since: str | None,
        until: str | None,
        camera: str | None,
        near: str | None,
        by: str,
        top: float,
    ) -> tuple[Any, ...]:
        """Return the pictures with their captions, how many, the hits as JSON and as they are.

        Raises:
            gr.Error: why there are none.
        """
        try:
            question = Question(
                words=words or "",
                image=await asyncio.to_thread(self._content, image),
                like=_number(like or ""),
                without=without or "",
                tags=tags or "",
                folder=folder or "",
                since=since or "",
                until=until or "",
                camera=camera or "",
                near=near or "",
                by=by,  # type: ignore[arg-type]  # a search refuses others
                top=min(int(top), _MOST),
            )
            hits, pictures = await asyncio.to_thread(self._index.search, question)
        except AutotagError as error:
            raise gr.Error(html.escape(str(error), quote=False), print_exception=False) from error
        shown = [
            (_picture(picture), one_line(hit.caption or Path(hit.path).name))
            for hit, picture in zip(hits, pictures, strict=True)
        ]
        gallery = gr.Gallery(value=shown, selected_index=None)
        record = [_record(hit) for hit in hits]
        status = _status(f"{len(hits)} found; choose one to see it." if hits else "nothing found")
        return gallery, status, record, hits, gr.Row(visible=False)

    async def look(self, hits: list[Hit], event: gr.SelectData) -> tuple[Any, ...]:
        """Return the row that shows a photograph, the chosen one, what is known about it, and its id."""
        hit = hits[int(event.index)]
        told = [hit.caption, *about_hit(hit, why=True)]
        if hit.taken:
            told.append(f"taken {hit.taken.replace('T', ' ')}")
        try:
            picture = await asyncio.to_thread(enlarged, hit)
        except ImageReadError as error:
            picture = None
            told.append(f"The photograph cannot be shown: {error.reason}")
        facts = "".join(f"<p>{html.escape(one_line(line))}</p>" for line in told if line)
        return gr.Row(visible=True), picture, facts, hit.id

    def _content(self, image: dict[str, Any] | None) -> bytes | None:
        """Return an uploaded image's file.

        Raises:
            ImageReadError: it is refused.
        """
        path = (image or {}).get("path")
        if not path:
            return None
        name = str((image or {}).get("orig_name") or Path(path).name)
        uploads = list(read_uploads([(name, Path(path))], self._limits))
        if len(uploads) != 1:
            raise ImageReadError(name, "it is a zip; choose one image")
        if uploads[0].error is not None:
            raise ImageReadError(name, uploads[0].error)
        return uploads[0].content


def _number(like: str) -> int | None:
    """Return the id of a photograph; None for no text.

    Raises:
        ConfigError: it is not a number.
    """
    text = like.strip().removeprefix("#")
    if not text:
        return None
    if not text.isdecimal() or len(text) > _MOST_DIGITS:
        raise ConfigError(f"{text[:_MOST_DIGITS]!r} is not the number of a photograph, such as 17.")
    return int(text)


def _record(hit: Hit) -> dict[str, object]:
    """Return JSON types.

    The id is a text, because neither a browser nor Gradio's JSON has numbers of 128 bits. There is no
    ``path``, which Gradio's clients would take for an upload to fetch.
    """
    found = hit.to_dict()
    return {"file": one_line(str(found.pop("path"))), **found, "id": str(hit.id)}


def _status(text: str) -> str:
    return f'<p role="status">{html.escape(one_line(text))}</p>'


def _picture(found: bytes | str) -> Image.Image:
    """Return a thumbnail, or a picture of the reason why there is none."""
    if isinstance(found, bytes):
        return Image.open(io.BytesIO(found))
    picture = Image.new("RGB", (HEIGHT, HEIGHT), "#eeeeee")
    draw = ImageDraw.Draw(picture)
    lines = [one_line(found)[start : start + 34] for start in range(0, min(len(found), 204), 34)]
    draw.multiline_text(
        (HEIGHT / 2, HEIGHT / 2), "\n".join(lines), fill="#555555", anchor="mm", align="center"
    )
    return picture
