"""What a generator yields is read as it was then, whatever the generator does next."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageSequence

from autotag.errors import ImageReadError
from autotag.images.reading import read_image
from autotag.images.snapshots import Snapshot, snapshot, snapshots
from autotag.pipeline.function_stage import stage
from autotag.pipeline.pipeline import Pipeline
from autotag.records import Sample

COLOURS = ("red", "lime", "blue", "white", "black")
SIZE = (48, 32)


@stage(provides={"prompt"})
def colour(sample: Sample) -> None:
    sample.prompt = str(np.asarray(sample.image).reshape(-1, 3).mean(0).round(-1).astype(int).tolist())


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    for number in range(20):
        Image.new("RGB", SIZE, COLOURS[number % 5]).save(tmp_path / f"{number:02}.png")
    return sorted(tmp_path.iterdir())


def one_array(files: list[Path]) -> Iterator[Any]:
    array = np.empty((SIZE[1], SIZE[0], 3), np.uint8)
    for file in files:
        array[:] = np.asarray(Image.open(file))
        yield array


def one_buffer(files: list[Path]) -> Iterator[Any]:
    buffer = bytearray(10_000)
    for file in files:
        content = file.read_bytes()
        buffer[: len(content)] = content
        yield memoryview(buffer)[: len(content)]


def closed_images(files: list[Path]) -> Iterator[Any]:
    for file in files:
        with Image.open(file) as image:
            yield image


def closed_files(files: list[Path]) -> Iterator[Any]:
    for file in files:
        with file.open("rb") as stream:
            yield stream


def closed_temporary_files(files: list[Path]) -> Iterator[Any]:
    for file in files:
        with tempfile.NamedTemporaryFile() as stream:
            stream.write(file.read_bytes())
            stream.seek(0)
            yield stream


def one_drawing(files: list[Path]) -> Iterator[Any]:
    with Image.open(files[0]) as drawing:
        for file in files:
            with Image.open(file) as image:
                drawing.paste(image)
            yield drawing


def frames(files: list[Path]) -> Iterator[Any]:
    images = [Image.open(file) for file in files]
    animation = io.BytesIO()
    images[0].save(animation, "GIF", save_all=True, append_images=images[1:])
    with Image.open(animation) as opened:
        yield from ImageSequence.Iterator(opened)


@pytest.mark.parametrize(
    "generator",
    [one_array, one_buffer, closed_images, closed_files, closed_temporary_files, one_drawing, frames],
    ids=lambda generator: generator.__name__,
)
def test_each_result_is_that_of_the_image_that_was_yielded(generator: Any, files: list[Path]) -> None:
    with Pipeline([colour], encoder=None) as pipeline:
        expected = [result.prompt for result in pipeline.stream(files)]
        assert len(set(expected)) == 5
        assert [result.prompt for result in pipeline.stream(generator(files))] == expected
        assert [result.prompt for result in pipeline(generator(files))] == expected


def test_sources_are_those_of_what_was_yielded(files: list[Path]) -> None:
    with Pipeline([colour], encoder=None) as pipeline:
        for generator in (closed_images, closed_files):
            results = list(pipeline.stream(generator(files)))
            assert [result.source for result in results] == [str(file) for file in files]
        assert {result.source for result in pipeline.stream(one_array(files))} == {"<ndarray>"}


def test_a_bad_file_costs_its_own_result_only(files: list[Path]) -> None:
    files[3].write_bytes(files[3].read_bytes()[:60])
    files[5].write_text("no image")
    with Pipeline([colour], encoder=None) as pipeline:
        results = list(pipeline.stream(closed_files(files), on_error="record"))
        with files[0].open(encoding="latin-1") as text:
            [refused] = pipeline.stream(iter([text]), on_error="record")  # type: ignore[list-item]
    assert [place for place, result in enumerate(results) if result.error] == [3, 5]
    assert "open as text" in str(refused.error)


def test_a_list_is_left_as_it_is() -> None:
    images = [np.zeros((4, 4), np.uint8)]
    assert snapshots(images) is images
    [taken] = snapshots(iter(images))
    assert isinstance(taken, Snapshot)
    assert taken.image is not images[0]


def test_a_path_and_an_object_that_reads_later_are_not_touched() -> None:
    class Later:
        name = "later.jpg"

        def read(self, _size: int = -1) -> bytes:
            raise AssertionError

    for image in ("photo.jpg", Path("photo.jpg"), b"bytes", Later()):
        assert snapshot(image) is image


def test_an_image_that_was_only_opened_is_decoded_later(files: list[Path]) -> None:
    with Image.open(files[0]) as image:
        taken = snapshot(image)
        assert isinstance(taken, Snapshot)
        assert isinstance(taken.image, type(image))
        assert taken.image.fp is not None, "not decoded yet"
        image.load()
    assert read_image(taken.image).image.getpixel((0, 0)) == (255, 0, 0)


def test_what_was_done_to_an_opened_image_counts(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 32), "red").save(tmp_path / "turned.jpg", exif=exif)
    with Image.open(tmp_path / "turned.jpg") as image:
        assert read_image(snapshot(image).image).size == (32, 64)  # type: ignore[union-attr, arg-type]
        del image.info["exif"]
        assert read_image(snapshot(image).image).size == (64, 32)  # type: ignore[union-attr, arg-type]
    with Image.open(tmp_path / "turned.jpg") as image:
        image.draft("RGB", (32, 16))
        assert snapshot(image).image.size == (32, 16)  # type: ignore[union-attr]
    with Image.open(tmp_path / "turned.jpg") as image:
        ImageDraw.Draw(image).rectangle((0, 0, 64, 32), fill="blue")
        assert read_image(snapshot(image).image).image.getpixel((9, 9))[2] > 200  # type: ignore[union-attr, arg-type, index]


def test_a_closed_file_is_an_error_of_its_image(files: list[Path]) -> None:
    image = Image.open(files[0])
    image.close()
    taken = snapshot(image)
    assert isinstance(taken, Snapshot)
    assert isinstance(taken.image, ImageReadError)
    assert taken.image.source == str(files[0])


def test_any_fault_of_one_input_costs_that_input_only(files: list[Path]) -> None:
    class Broken:
        @property
        def file(self) -> Any:
            raise ValueError("no upload any more")

        def read(self, _size: int = -1) -> bytes:
            raise ValueError("no upload any more")

    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.write(files[0], "photo.png")
    content = archive.getvalue()
    damaged = content.replace(content[60:70], bytes(10), 1)
    with zipfile.ZipFile(io.BytesIO(damaged)) as packed, Pipeline([colour], encoder=None) as pipeline:
        images = [files[0], Broken(), packed.open("photo.png"), files[1]]
        results = list(pipeline.stream(iter(images), on_error="record"))
    assert [bool(result.error) for result in results] == [False, True, True, False]


def test_an_array_that_is_too_large_is_not_copied() -> None:
    large = np.broadcast_to(np.uint8(7), (60_000, 60_000, 3))
    assert snapshot(large) is large
    with Pipeline([colour], encoder=None) as pipeline:
        [result] = pipeline.stream(iter([large]), on_error="record")
    assert "more than max_pixels" in str(result.error)


def test_the_first_frame_of_several_is_decoded_later(tmp_path: Path) -> None:
    Image.new("RGB", SIZE, "red").save(
        tmp_path / "gain.mpo", save_all=True, append_images=[Image.new("RGB", SIZE, "blue")]
    )
    with Image.open(tmp_path / "gain.mpo") as image:
        taken = snapshot(image)
        assert isinstance(taken, Snapshot)
        assert type(taken.image) is type(image)
        assert taken.size == (tmp_path / "gain.mpo").stat().st_size
    assert read_image(taken.image).image.getpixel((0, 0))[0] > 200  # type: ignore[arg-type, index]


def test_an_icon_that_was_drawn_on_keeps_the_drawing(tmp_path: Path) -> None:
    Image.new("RGB", (32, 32), "red").save(tmp_path / "icon.ico")
    with Image.open(tmp_path / "icon.ico") as image:
        image.load()
        image.paste("blue", (0, 0, 32, 32))
        taken = snapshot(image)
    assert read_image(taken.image).image.getpixel((9, 9)) == (0, 0, 255)  # type: ignore[union-attr, arg-type]
