"""The Gradio page: Prompt, Analyze, Tag and Batch, answered by the batcher, and Search, by an index."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator  # noqa: TC003 - Gradio reads the annotations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from autotag.demo.batch import Batch
from autotag.demo.reasons import reason, scores
from autotag.demo.search_tab import search_tab
from autotag.demo.uploads import UploadLimits, count_uploads, read_uploads
from autotag.errors import AutotagError, RequestRefusedError
from autotag.server.core.wishes import MOST_TAGS, Wish, filter_of

if TYPE_CHECKING:
    from autotag.demo.searched_index import SearchedIndex
    from autotag.records import Result
    from autotag.server.core.service import Service

MODES = ("best", "fast", "classic", "negative")
VOCABULARIES = {
    "mediums": "medium", "artists": "artist", "movements": "movement", "trendings": "trending",
    "flavors": "flavor",
}  # fmt: skip
_TAG_COLUMNS = ["tag", "score", "why", "every score"]
_LABEL_COLUMNS = ["label", "cosine"]
_DECIMALS = 3
_SECONDS_BETWEEN = 0.3
_KEPT_SECONDS = 3600

File = dict[str, Any]


def make_page(service: Service, limits: UploadLimits, index: SearchedIndex | None = None) -> gr.Blocks:
    """Return the page; its endpoints are called like the tabs, ``/cut`` and ``/cancel``.

    Args:
        service: answers.
        limits: for the tab Batch; one image may have as many bytes in the other tabs.
        index: for the tab Search; there is none without it.
    """
    tabs = _Tabs(service, limits)
    with gr.Blocks(title="autotag", analytics_enabled=False, delete_cache=(600, _KEPT_SECONDS)) as page:
        gr.Markdown("# autotag\nPrompts, labels and tags for images, computed on this server.")
        names = list(service.pipelines.presets)
        preset = gr.Dropdown(names, value=names[0], label="Preset", visible=len(names) > 1)
        with gr.Tab("Prompt"):
            _prompt_tab(tabs, preset)
        with gr.Tab("Analyze"):
            _analyze_tab(tabs, preset)
        with gr.Tab("Tag"):
            _tag_tab(tabs, preset)
        with gr.Tab("Batch"):
            _batch_tab(tabs, preset)
        if index is not None:
            with gr.Tab("Search"):
                search_tab(page, index, limits)
    return page.queue(default_concurrency_limit=None)


def _image() -> gr.Image:
    return gr.Image(
        label="Image", type="filepath", image_mode=None, sources=["upload", "clipboard"], height=320
    )


def _prompt_tab(tabs: _Tabs, preset: gr.Dropdown) -> None:
    with gr.Row():
        with gr.Column():
            image = _image()
            mode = gr.Radio(list(MODES), value="best", label="Mode")
            button = gr.Button("Write the prompt", variant="primary")
        with gr.Column():
            prompt = gr.Textbox(label="Prompt", lines=6, buttons=["copy"], interactive=False)
            caption = gr.Textbox(label="Caption", interactive=False)
    button.click(
        tabs.prompt, [image, mode, preset], [prompt, caption], preprocess=False, api_name="prompt",
        show_progress_on=prompt,
    )  # fmt: skip


def _analyze_tab(tabs: _Tabs, preset: gr.Dropdown) -> None:
    with gr.Row():
        with gr.Column(scale=1):
            image = _image()
            button = gr.Button("Analyze", variant="primary")
        with gr.Column(scale=2), gr.Row():
            tables = [
                gr.Dataframe(
                    headers=_LABEL_COLUMNS,
                    label=one,
                    column_widths=["75%", "25%"],
                    interactive=False,
                    wrap=True,
                    buttons=[],
                    min_width=340,
                )
                for one in VOCABULARIES.values()
            ]
    with gr.Accordion("As JSON", open=False):
        record = gr.JSON(label="Rankings")
    button.click(
        tabs.analyze, [image, preset], [*tables, record], preprocess=False, api_name="analyze",
        show_progress_on=tables[0],
    )  # fmt: skip


def _tag_tab(tabs: _Tabs, preset: gr.Dropdown) -> None:
    kept = gr.State()
    with gr.Row():
        with gr.Column(scale=1):
            image = _image()
            button = gr.Button("Tag", variant="primary")
            cut = gr.Slider(
                -1, 1, value=0, step=0.001, label="Cut", info="Tags with a lower score are left out."
            )
            most = gr.Slider(1, MOST_TAGS, value=10, step=1, label="At most", info="Tags.")
        with gr.Column(scale=2):
            caption = gr.Textbox(label="Caption", interactive=False)
            table = gr.Dataframe(
                headers=_TAG_COLUMNS,
                label="Tags",
                interactive=False,
                column_widths=["140px", "100px", "270px", "290px"],
                wrap=True,
                buttons=["copy"],
            )
            count = gr.Markdown()
    with gr.Accordion("As JSON", open=False):
        record = gr.JSON(label="Every candidate")
    outputs = [caption, table, count, cut, most, record, kept]
    button.click(tabs.tag, [image, preset], outputs, preprocess=False, api_name="tag", show_progress_on=table)
    for slider in (cut, most):
        slider.input(
            tabs.cut, [kept, cut, most], [table, count], api_name="cut", show_progress="hidden",
            trigger_mode="always_last",
        )  # fmt: skip


def _batch_tab(tabs: _Tabs, preset: gr.Dropdown) -> None:
    with gr.Row():
        with gr.Column(scale=1):
            files = gr.File(label="Images, or zips of images", file_count="multiple", height=240)
            with gr.Row():
                button = gr.Button("Tag them all", variant="primary")
                cancel = gr.Button("Cancel", variant="stop")
        with gr.Column(scale=2):
            status = gr.HTML(label="Progress")
            downloads = gr.File(
                label="CSV, JSON Lines, XMP sidecars", file_count="multiple", interactive=False
            )
    table = gr.Dataframe(
        headers=["file", "caption", "tags", "error"],
        label="Results",
        column_widths=["200px", "320px", "360px", "320px"],
        interactive=False,
        wrap=True,
        buttons=[],
    )
    button.click(
        tabs.batch, [files, preset], [status, table, downloads], preprocess=False, api_name="batch",
        show_progress="hidden", concurrency_limit=4,
    )  # fmt: skip
    cancel.click(tabs.cancel, None, None, api_name="cancel", queue=False, show_progress="hidden")


class _Tabs:
    """What the buttons do."""

    def __init__(self, service: Service, limits: UploadLimits) -> None:
        self._service = service
        self._limits = limits
        self._running: dict[str, set[asyncio.Event]] = {}

    async def prompt(self, image: File | None, mode: str, preset: str) -> tuple[str, str]:
        """Return the prompt and the caption."""
        result = await self._result(image, Wish(task="prompt", preset=preset, mode=mode))
        return result.prompt, result.caption

    async def analyze(self, image: File | None, preset: str) -> tuple[Any, ...]:
        """Return a table for each of ``VOCABULARIES``, and the rankings as JSON."""
        result = await self._result(image, Wish(task="analyze", preset=preset))
        tables = [
            _table(_LABEL_COLUMNS, [[tag.text, tag.score] for tag in result.rankings.get(name, ())])
            for name in VOCABULARIES
        ]
        return (*tables, {"source": result.source, "rankings": result.to_dict()["rankings"]})

    async def tag(self, image: File | None, preset: str) -> tuple[Any, ...]:
        """Return caption, tags at the preset's own cut, sliders, record and all candidates."""
        wish = Wish(preset=preset, every_score=True)
        result = await self._result(image, wish)
        pipeline = self._service.pipelines.preset(preset)
        rows = [
            [tag.text, tag.score, reason(tag, result, pipeline.stages), scores(tag)] for tag in result.tags
        ]
        found = [tag.score for tag in result.tags]
        stage, _, cut = await asyncio.to_thread(filter_of, pipeline) or (None, None, min(found, default=-1.0))
        most = (stage.top_k if stage else None) or MOST_TAGS
        slider = gr.Slider(
            minimum=round(min([cut, *found]) - 0.001, 3),
            maximum=round(max([cut, *found]) + 0.001, 3),
            value=cut,
            info=f"Tags with a lower score are left out; the preset's own is {cut:g}.",
        )
        table, count = self.cut(rows, cut, most)
        return result.caption, table, count, slider, min(most, MOST_TAGS), result.to_dict(), rows

    def cut(self, rows: list[list[Any]] | None, cut: float, most: float) -> tuple[dict[str, Any], str]:
        """Return the table of the tags that reach the cut, and how many they are."""
        rows = rows or []
        kept = [row for row in rows if row[1] >= cut][: int(most)]
        return _table(_TAG_COLUMNS, kept), f"{len(kept)} of {len(rows)} candidates" if rows else ""

    async def batch(
        self, files: list[File] | None, preset: str, request: gr.Request
    ) -> AsyncIterator[tuple[Any, ...]]:
        """Tag uploaded files; yield what the tab shows after each."""
        if not files:
            raise gr.Error("Choose images or zips first.", print_exception=False)
        named = [
            (str(file.get("orig_name") or Path(file["path"]).name), Path(file["path"])) for file in files
        ]
        total = await asyncio.to_thread(count_uploads, named, self._limits)
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="autotag-"))
        batch = Batch(self._service, Wish(preset=preset), folder)
        running = self._running.setdefault(request.session_hash or "", set())
        running.add(batch.stopped)
        shown = 0.0
        try:
            yield _progress(batch, total), [], None
            async for _ in batch.run(read_uploads(named, self._limits)):
                if time.monotonic() - shown > _SECONDS_BETWEEN:
                    shown = time.monotonic()
                    yield _progress(batch, total), _rows(batch), None
            paths = await asyncio.to_thread(batch.write)
            yield _progress(batch, total, ended=True), _rows(batch), [str(path) for path in paths]
        except AutotagError as error:
            raise gr.Error(str(error), print_exception=False) from error
        finally:
            batch.stopped.set()
            running.discard(batch.stopped)
            if not running:
                self._running.pop(request.session_hash or "", None)
            shutil.rmtree(folder, ignore_errors=True)

    async def cancel(self, request: gr.Request) -> None:
        """End what this visitor's tab is working through; what is done is kept."""
        for stopped in self._running.get(request.session_hash or "", ()):
            stopped.set()

    async def _result(self, image: File | None, wish: Wish) -> Result:
        """Return the result for an uploaded file.

        Raises:
            gr.Error: why there is none.
        """
        path = (image or {}).get("path")
        if not path:
            raise gr.Error("Choose an image first.", print_exception=False)
        name = str((image or {}).get("orig_name") or Path(path).name)
        try:
            [upload] = await asyncio.to_thread(lambda: list(read_uploads([(name, Path(path))], self._limits)))
        except ValueError as error:
            raise gr.Error("Send one image; zips go to the tab Batch.", print_exception=False) from error
        if upload.error is not None:
            raise gr.Error(upload.error, print_exception=False)
        try:
            return await self._service.outcome(upload.content, wish, source=upload.name)
        except RequestRefusedError as refusal:
            raise gr.Error(refusal.message, print_exception=False) from refusal


def _table(headers: list[str], rows: list[list[Any]]) -> dict[str, Any]:
    """Return a table whose numbers are shown with as many decimals as the command line prints."""
    shown = [[f"{cell:.{_DECIMALS}f}" if isinstance(cell, float) else cell for cell in row] for row in rows]
    return {"headers": headers, "data": rows, "metadata": {"display_value": shown}}


def _rows(batch: Batch) -> list[list[str]]:
    """Return a row for each result, in the order of the uploads."""
    return [
        [result.source, result.caption, ", ".join(tag.text for tag in result.tags), result.error or ""]
        for result in batch.in_order()
    ]


def _progress(batch: Batch, total: int, *, ended: bool = False) -> str:
    """Return a progress bar as HTML; it holds numbers only."""
    done = len(batch.results)
    word = "" if not ended else " Cancelled." if batch.stopped.is_set() else " Finished."
    failed = f", {batch.failed} failed" if batch.failed else ""
    counts = f'max="{max(total, 1)}" value="{done}"'
    bar = f'<progress aria-label="Images done" {counts} style="width:100%"></progress>'
    return f'{bar}<p role="status">{done} of {total} done{failed}.{word}</p>'
