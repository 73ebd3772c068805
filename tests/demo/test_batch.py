"""A batch of the page without the page: what a cancel and errors leave."""

from __future__ import annotations

import asyncio
import io
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import autotag
from autotag.albums.writers.xmp_writer import XmpWriter
from autotag.demo.batch import Batch
from autotag.demo.uploads import Upload
from autotag.errors import MetadataError
from autotag.records import Result, Sample, Tag
from autotag.server.core.limits import Limits
from autotag.server.core.service import Service
from autotag.server.core.wishes import Pipelines, Wish
from autotag.testing import make_image


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()


def uploads(count: int) -> Iterator[Upload]:
    buffer = io.BytesIO()
    make_image("red").save(buffer, "PNG")
    return (Upload(f"{number}.png", buffer.getvalue()) for number in range(count))


def service(gate: threading.Event, *, free: int) -> Service:
    """A service that tags the first ``free`` images and then waits for the gate."""
    seen = 0

    @autotag.stage(requires=set(), provides={"tags"})
    def gated(sample: Sample) -> None:
        nonlocal seen
        if seen >= free:
            assert gate.wait(30)
        seen += 1
        sample.tags = [Tag.proposed("red", 0.5, "gated")]

    made = Service(
        Pipelines({"own": autotag.Pipeline([gated], encoder=None, batch_size=1)}), Limits(cached_results=0)
    )
    made.start()
    return made


def test_a_cancelled_batch_begins_no_more_images_and_keeps_what_is_done(
    tmp_path: Path, gate: threading.Event
) -> None:
    async def cancelled() -> Batch:
        made = service(gate, free=10)
        batch = Batch(made, Wish(), tmp_path)
        try:
            async for _ in batch.run(uploads(200)):
                batch.stopped.set()
                gate.set()
        finally:
            await made.stop()
        return batch

    batch = asyncio.run(cancelled())
    done = len(batch.results)
    assert 1 <= done < 100, "those that were begun, and no more"
    _, jsonl, sidecars = batch.write()
    assert len(jsonl.read_text(encoding="utf-8").splitlines()) == done
    with zipfile.ZipFile(sidecars) as archive:
        assert len(archive.namelist()) == done


def test_a_photograph_whose_sidecar_fails_does_not_end_the_batch(
    tmp_path: Path, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = XmpWriter.changes

    def some_fail(self: XmpWriter, photo: Path, result: Result) -> object:
        if photo.name == "1.png":
            raise MetadataError(str(photo), "it is damaged")
        return real(self, photo, result)

    monkeypatch.setattr(XmpWriter, "changes", some_fail)

    async def run() -> Batch:
        made = service(gate, free=9)
        batch = Batch(made, Wish(), tmp_path)
        try:
            async for _ in batch.run(uploads(3)):
                pass
        finally:
            await made.stop()
        return batch

    batch = asyncio.run(run())
    assert [batch.results[place].error for place in range(3)] == [
        None,
        "1.png: it is damaged",
        None,
    ]
