"""Work through many uploaded photographs, and write what was found as CSV, JSON Lines and XMP sidecars."""

from __future__ import annotations

import asyncio
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from autotag.albums.writers.xmp_writer import XmpWriter
from autotag.errors import AutotagError, MetadataError, RequestRefusedError
from autotag.records import Result
from autotag.writers.csv_writer import CsvWriter
from autotag.writers.jsonl_writer import JsonlWriter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from autotag.demo.uploads import Upload
    from autotag.server.core.service import Service
    from autotag.server.core.wishes import Wish

_AT_ONCE = 32


@dataclass
class Batch:
    """The uploads of one person, worked through together.

    Attributes:
        service: tags; its limits hold for these images, too.
        wish: what is wanted of each.
        folder: an empty folder for what is written.
        stopped: no more images are begun once it is set; what is done is kept.
        results: so far, by place in the upload.
    """

    service: Service
    wish: Wish
    folder: Path
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    results: dict[int, Result] = field(default_factory=dict)
    _sidecars: dict[str, bytes] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        """Return how many images have an error."""
        return sum(result.error is not None for result in self.results.values())

    def in_order(self) -> list[Result]:
        """Return the results so far, in the order of the uploads."""
        return [self.results[place] for place in sorted(self.results)]

    async def run(self, uploads: Iterator[Upload]) -> AsyncIterator[Result]:
        """Yield each result as it is ready; an image that fails has an error and the others go on."""
        queue: asyncio.Queue[Result | None] = asyncio.Queue()
        numbered = enumerate(uploads)
        reading = asyncio.Lock()

        async def work() -> None:
            """Take uploads one at a time until none is left or the run is stopped."""
            while not self.stopped.is_set():
                async with reading:
                    found = await asyncio.to_thread(next, numbered, None)
                if found is None:
                    break
                place, upload = found
                if (result := await self._outcome(upload)) is not None:
                    self.results[place] = result
                    queue.put_nowait(result)

        async def all_of_them() -> None:
            """Run the workers until all have ended, and say so in the queue."""
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(_AT_ONCE):
                        group.create_task(work())
            finally:
                queue.put_nowait(None)

        working = asyncio.create_task(all_of_them())
        try:
            while (result := await queue.get()) is not None:
                yield result
            await working
        finally:
            working.cancel()

    def write(self) -> list[Path]:
        """Write ``tags.csv``, ``tags.jsonl`` and ``sidecars.zip`` of the results so far, in upload order."""
        ordered = self.in_order()
        csv, jsonl, sidecars = (self.folder / name for name in ("tags.csv", "tags.jsonl", "sidecars.zip"))
        for path, kind in ((csv, CsvWriter), (jsonl, JsonlWriter)):
            with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream:
                writer = kind(stream)
                for result in ordered:
                    writer.write(result)
                writer.close()
        with zipfile.ZipFile(sidecars, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in sorted(self._sidecars.items()):
                archive.writestr(name, content)
        return [csv, jsonl, sidecars]

    async def _outcome(self, upload: Upload) -> Result | None:
        """Return the result, one with an error, or None if the batch was stopped before there was one."""
        if upload.error is not None:
            return Result(upload.name, (0, 0), error=upload.error)
        while not self.stopped.is_set():
            try:
                result = await self.service.outcome(upload.content, self.wish, source=upload.name)
                await asyncio.to_thread(self._add_sidecar, upload, result)
            except RequestRefusedError as refusal:
                if refusal.kind != "overloaded":
                    return Result(upload.name, (0, 0), error=f"{upload.name}: {refusal.message}")
                await asyncio.sleep(min(refusal.retry_after or 1, 5))
            except (AutotagError, OSError) as error:
                return Result(upload.name, (0, 0), error=f"{upload.name}: {_reason(error)}")
            else:
                return result
        return None

    def _add_sidecar(self, upload: Upload, result: Result) -> None:
        """Plan the photograph's sidecar as an album run does, and keep it in memory."""
        root = (self.folder / "photographs").resolve()
        photo = root / upload.name
        photo.parent.mkdir(parents=True, exist_ok=True)
        photo.write_bytes(upload.content)
        try:
            writer = XmpWriter(model=self.wish.preset or self.service.pipelines.default)
            for change in writer.changes(photo, result):
                for file in change.change.files:
                    if file.content is not None:
                        self._sidecars[Path(file.path).relative_to(root).as_posix()] = file.content
        finally:
            photo.unlink()


def _reason(error: AutotagError | OSError) -> str:
    """Return what went wrong, without the path that the photograph has on this server."""
    if isinstance(error, MetadataError):
        return error.reason
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)
