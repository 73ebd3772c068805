"""Images are read from whatever a user holds, and found wherever a user keeps them."""

from __future__ import annotations

import base64
import inspect
import io
import logging
import os
import socket
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from autotag.errors import ConfigError, ImageReadError, UrlRefusedError
from autotag.images import reading
from autotag.images.reading import find_images, read_image, source_of

if TYPE_CHECKING:
    from collections.abc import Iterator

PIXELS = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3) * 3


def png(pixels: np.ndarray[Any, Any] = PIXELS) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def values(image: Image.Image) -> Any:
    return np.asarray(image).tolist()


def reason(image: Any, **options: Any) -> str:
    with pytest.raises(ImageReadError) as caught:
        read_image(image, **options)
    return caught.value.reason


# --- every kind of input


class Upload:
    """An object with ``read`` and nothing else, as web frameworks hand out."""

    def read(self, size: int = -1) -> bytes:
        return png()


@pytest.mark.parametrize(
    "image",
    [
        png(),
        bytearray(png()),
        memoryview(png()),
        io.BytesIO(png()),
        Upload(),
        PIXELS,
        Image.fromarray(PIXELS),
        "data:image/png;base64," + base64.b64encode(png()).decode(),
    ],
    ids=lambda image: type(image).__name__,
)
def test_the_same_picture_comes_out_of_every_kind_of_input(image: Any) -> None:
    read = read_image(image)
    assert values(read.image) == PIXELS.tolist()
    assert read.size == (6, 4)


@pytest.mark.parametrize(
    "name",
    [
        "photo.png",
        "my holiday.png",
        "Zoë – 東京 🏖.png",
        "line\nbreak.png",
        "no extension",
        "wrong.jpg",
        "-n.png",
    ],
)
def test_paths_of_every_spelling_are_read_by_their_content(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(png())
    for given in (path, str(path)):
        read = read_image(given)
        assert values(read.image) == PIXELS.tolist()
        assert read.source == str(path)


def test_a_file_is_read_from_where_it_stands_and_stays_open(tmp_path: Path) -> None:
    path = tmp_path / "two in one"
    path.write_bytes(b"a header of the caller" + png())
    with path.open("rb") as file:
        file.seek(22)
        assert values(read_image(file).image) == PIXELS.tolist()
        assert not file.closed
        file.seek(0)
        assert file.read(1) == b"a"


def test_a_pillow_image_is_left_as_it_is() -> None:
    image = Image.new("P", (2, 2))
    image.putpalette([200, 0, 0])
    image.info = {"transparency": 0, "exif": b"Exif\0\0"}
    before = (image.mode, image.size, image.tobytes(), image.getpalette(), dict(image.info))
    read = read_image(image, target_size=1)
    assert read.image is not image
    assert (image.mode, image.size, image.tobytes(), image.getpalette(), dict(image.info)) == before


def test_a_pillow_jpeg_is_not_decoded_smaller_behind_the_users_back() -> None:
    stream = io.BytesIO()
    Image.new("RGB", (800, 600)).save(stream, "JPEG")
    image = Image.open(stream)
    assert read_image(image, target_size=50).image.size == (134, 100)
    assert image.size == (800, 600)


def test_a_pillow_image_is_turned_upright() -> None:
    image = Image.new("RGB", (8, 4))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.info["exif"] = exif.tobytes()
    read = read_image(image)
    assert read.size == read.image.size == (4, 8)


def test_a_pillow_tiff_that_turns_itself_upright_is_not_turned_twice() -> None:
    stream = io.BytesIO()
    xmp = b'<x xmlns:tiff="t" tiff:Orientation="6"/>'
    Image.new("RGB", (8, 4)).save(stream, "TIFF", tiffinfo={274: 6, 700: xmp})
    with Image.open(stream) as image:
        assert read_image(image).size == (4, 8)


def test_a_closed_pillow_image_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(png())
    image = Image.open(path)
    image.close()
    assert "cannot be read" in reason(image)


@pytest.mark.parametrize(
    ("array", "seen"),
    [
        (np.full((2, 3), 7, np.uint8), (7, 7, 7)),
        (np.full((2, 3, 1), 7, np.uint8), (7, 7, 7)),
        (np.full((2, 3, 3), 7, np.uint8), (7, 7, 7)),
        (np.full((2, 3, 4), [0, 0, 0, 0], np.uint8), (255, 255, 255)),
        (np.ones((2, 3), bool), (255, 255, 255)),
        (np.full((2, 3), 65535, np.uint16), (255, 255, 255)),
        (np.full((2, 3, 3), 32768, ">u2"), (128, 128, 128)),
        (np.full((2, 3), 0.5, np.float16), (128, 128, 128)),
        (np.full((2, 3, 3), 1.0, np.float32), (255, 255, 255)),
        (np.full((2, 3, 3), 0.0, np.float64), (0, 0, 0)),
        (np.full((3, 2, 3), 9, np.uint8).transpose(1, 0, 2)[:, ::-1], (9, 9, 9)),
    ],
    ids=lambda value: f"{value.dtype}{value.shape}" if isinstance(value, np.ndarray) else None,
)
def test_arrays_of_every_promised_kind_are_read(array: Any, seen: tuple[int, int, int]) -> None:
    before = array.copy()
    read = read_image(array)
    assert read.size == (3, 2)
    assert read.image.getpixel((0, 0)) == seen
    assert np.array_equal(array, before)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((3, 20, 30), np.uint8), ["(3, 20, 30)", "transpose(1, 2, 0)"]),
        (np.zeros((2, 20, 30, 3), np.uint8), ["(2, 20, 30, 3)", "batch"]),
        (np.zeros((20, 30, 2), np.uint8), ["(20, 30, 2)", "uint8"]),
        (np.zeros(20, np.uint8), ["(20,)"]),
        (np.array(1), ["()"]),
        (np.zeros((0, 5), np.uint8), ["no pixels"]),
        (np.zeros((2, 2), np.int64), ["int64", "(2, 2)"]),
        (np.zeros((2, 2), complex), ["complex128"]),
        (np.array([["a", "b"]]), ["<U1"]),
        (np.array([[None]], dtype=object), ["object"]),
        (np.full((2, 2), np.nan, np.float32), ["NaN", "float32", "(2, 2)"]),
        (np.full((2, 2), np.inf), ["infinity"]),
        (np.full((2, 2), 255.0), ["255", "[0, 1]"]),
        (np.full((2, 2), -0.5), ["-0.5"]),
        (np.zeros((20_000, 20_000), bool), ["max_pixels"]),
    ],
    ids=lambda value: f"{value.dtype}{value.shape}" if isinstance(value, np.ndarray) else None,
)
def test_arrays_that_are_no_image_are_refused_by_shape_and_dtype(array: Any, words: list[str]) -> None:
    said = reason(array)
    assert all(word in said for word in words), said


def test_a_torch_tensor_is_refused_with_the_way_out() -> None:
    torch = pytest.importorskip("torch")
    assert "permute(1, 2, 0)" in reason(torch.zeros(3, 4, 6))


@pytest.mark.parametrize("image", [None, 7, ["photo.jpg"], object()])
def test_other_objects_are_refused_by_type(image: Any) -> None:
    assert type(image).__name__ in reason(image)


# --- what cannot be read


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageReadError, match="no such file") as caught:
        read_image(tmp_path / "gone.jpg")
    assert caught.value.source == str(tmp_path / "gone.jpg")


@pytest.mark.parametrize("path", ["", "a\0b.jpg", "x" * 5000, "photo.jpg/below"])
def test_impossible_paths_are_errors(path: str) -> None:
    assert reason(path)


def test_a_folder_is_not_an_image(tmp_path: Path) -> None:
    assert "find_images" in reason(tmp_path)


def test_empty_and_renamed_text_files_are_errors(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "notes.jpg").write_text("milk, eggs")
    assert "empty" in reason(tmp_path / "empty.jpg")
    assert "text" in reason(tmp_path / "notes.jpg")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_pipes_sockets_and_devices_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    assert "not a regular file" in reason(tmp_path / "pipe.jpg")
    assert "not a regular file" in reason("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        short = Path("/tmp") / f"autotag-{os.getpid()}.sock"  # noqa: S108 - socket paths have to be short
        listening.bind(str(short))
        try:
            assert "not a regular file" in reason(short)
        finally:
            short.unlink()


def test_a_circle_of_links_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to(tmp_path / "b.jpg")
    (tmp_path / "b.jpg").symlink_to(tmp_path / "a.jpg")
    assert "circle" in reason(tmp_path / "a.jpg")


def runs_as_root() -> bool:
    return os.name == "posix" and os.geteuid() == 0


def unreadable(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes away all permissions, and for root, whom they do not stop, plays the system that minds them."""
    path.chmod(0)
    if not runs_as_root():
        return
    real_open, real_scandir = os.open, os.scandir

    def open_(name: Any, *rest: Any, **options: Any) -> int:
        if os.fspath(name) == str(path):
            raise PermissionError(13, "Permission denied", name)
        return real_open(name, *rest, **options)

    def scandir(name: Any = ".") -> Any:
        if os.fspath(name) == str(path):
            raise PermissionError(13, "Permission denied", name)
        return real_scandir(name)

    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(os, "scandir", scandir)


def test_a_file_without_permission_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(png())
    unreadable(path, monkeypatch)
    assert "no permission" in reason(path)


def test_a_text_file_object_is_refused_with_the_way_out() -> None:
    assert "'rb'" in reason(io.StringIO("text"))


def test_a_closed_or_failing_file_object_is_an_error() -> None:
    closed = io.BytesIO(png())
    closed.close()
    assert "closed" in reason(closed)

    class Failing(io.RawIOBase):
        def read(self, size: int = -1, /) -> bytes:
            raise OSError("the disk is gone")

    assert "the disk is gone" in reason(Failing())


def test_a_file_object_that_gives_no_bytes_is_an_error() -> None:
    class Empty:
        def read(self, size: int = -1) -> None:
            return None

    assert "NoneType" in reason(Empty())


def test_limits_reach_pillow_images_too() -> None:
    assert "max_pixels=10" in reason(Image.new("L", (4, 3)), max_pixels=10)


# --- names


def test_sources_are_named_after_path_url_or_kind(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(png())
    with path.open("rb") as file:
        assert source_of(file) == str(path)
    with Image.open(path) as image:
        assert source_of(image) == str(path)
    assert source_of("data:image/png;base64,AAAA") == "data:image/png;base64,..."
    assert source_of("https://me:secret@example.org/a.png") == "https://example.org/a.png"
    assert source_of(png()) == "<bytes>"
    assert source_of(PIXELS) == "<ndarray>"


def test_the_callers_name_wins_in_results_and_errors() -> None:
    assert read_image(png(), source="upload 7").source == "upload 7"
    for bad in (b"", "file:///etc/passwd", "data:nonsense", np.zeros(3)):
        with pytest.raises(ImageReadError) as caught:
            read_image(bad, source="upload 7", allow_urls=True)  # type: ignore[arg-type]
        assert caught.value.source == "upload 7"


# --- URLs


@pytest.mark.parametrize("url", ["http://example.org/a.jpg", "HTTPS://example.org/a.jpg"])
def test_urls_are_refused_unless_allowed(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "fetch", lambda url: png())
    with pytest.raises(UrlRefusedError, match="allow_urls=True"):
        read_image(url)
    assert read_image(url, allow_urls=True).source == url


@pytest.mark.parametrize("allowed", [True, False])
@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.org/a.jpg", "s3://bucket/a.jpg"])
def test_other_schemes_are_refused_in_any_case(url: str, allowed: bool) -> None:
    with pytest.raises(UrlRefusedError, match="only http and https"):
        read_image(url, allow_urls=allowed)


def test_a_private_address_is_refused_even_if_urls_are_allowed() -> None:
    with pytest.raises(UrlRefusedError, match="not a public address"):
        read_image("http://127.0.0.1:9/a.jpg", allow_urls=True)


# --- threads and warnings


def test_a_pool_of_threads_reads_the_same_and_leaves_no_warning_filter(tmp_path: Path) -> None:
    paths = []
    for index in range(12):
        path = tmp_path / f"{index}.jpg"
        Image.fromarray(np.kron(PIXELS, np.full((40, 40, 1), 1 + index % 3, np.uint8))).save(path)
        paths.append(path)
    filters = list(warnings.filters)
    alone = [read_image(path, target_size=32) for path in paths]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda path: read_image(path, target_size=32), paths * 4))
    assert [(read.source, read.size, read.image.tobytes()) for read in together] == [
        (read.source, read.size, read.image.tobytes()) for read in alone
    ] * 4
    assert list(warnings.filters) == filters


def test_decoding_lets_other_threads_run() -> None:
    """Another thread gets on while a large image is decoded: the interpreter lock is released."""
    content = io.BytesIO()
    Image.effect_noise((3000, 3000), 60).save(content, "JPEG", quality=95)
    done, ticks = threading.Event(), 0

    def read() -> None:
        read_image(content.getvalue())
        done.set()

    reader = threading.Thread(target=read)
    reader.start()
    while not done.wait(0.001):
        ticks += 1
    reader.join()
    assert ticks > 5


# --- finding


@pytest.fixture
def album(tmp_path: Path) -> Path:
    for name in (
        "b.JPG",
        "a.png",
        "c.txt",
        "d/e.webp",
        "d/f/g.HEIC",
        "z.tiff",
        ".hidden.jpg",
        ".thumbnails/t.jpg",
        "@eaDir/s.jpg",
        "Lightroom.lrdata/l.jpg",
        "$RECYCLE.BIN/r.jpg",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def names(found: Iterator[Path], root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in found]


def test_images_are_found_sorted_without_hidden_and_system_folders(album: Path) -> None:
    assert names(find_images(album), album) == ["a.png", "b.JPG", "d/e.webp", "d/f/g.HEIC", "z.tiff"]


def test_a_file_named_explicitly_is_passed_on_whatever_it_is_called(album: Path) -> None:
    given = [album / "c.txt", album / ".hidden.jpg", album / "d"]
    assert names(find_images(*given), album) == ["c.txt", ".hidden.jpg", "d/e.webp", "d/f/g.HEIC"]
    assert names(find_images(str(album / ".thumbnails")), album) == [".thumbnails/t.jpg"]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"include": ["*.jpg"]}, ["b.JPG"]),
        ({"include": ["*.png", "d/f/*"]}, ["a.png", "d/f/g.HEIC"]),
        ({"include": ["*.txt"]}, []),
        ({"exclude": ["D"]}, ["a.png", "b.JPG", "z.tiff"]),
        ({"exclude": ["d/f", "*.tiff"]}, ["a.png", "b.JPG", "d/e.webp"]),
        ({"include": ["*.webp", "*.png"], "exclude": ["a.*"]}, ["d/e.webp"]),
    ],
)
def test_patterns_narrow_the_search(album: Path, options: dict[str, Any], found: list[str]) -> None:
    assert names(find_images(album, **options), album) == found


def test_a_missing_path_is_named_before_anything_is_found(album: Path) -> None:
    with pytest.raises(ImageReadError, match="gone"):
        find_images(album, album / "gone")


def test_no_path_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match=r"one by one, not \['a', 'b'\]; write find_images\(\*paths\)"):
        find_images(["a", "b"])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="needs a file or a folder"):
        find_images()


def test_links_to_folders_are_entered_once_and_only_on_request(album: Path) -> None:
    (album / "d" / "again").symlink_to(album)
    (album / "y").symlink_to(album / "d")
    plain = ["a.png", "b.JPG", "d/e.webp", "d/f/g.HEIC", "z.tiff"]
    assert names(find_images(album), album) == plain
    assert names(find_images(album, follow_symlinks=True), album) == plain
    assert names(find_images(album / "d" / "f", follow_symlinks=True), album) == ["d/f/g.HEIC"]


def test_links_to_folders_elsewhere_are_followed_on_request(album: Path, tmp_path: Path) -> None:
    (album / "f2").symlink_to(album / ".thumbnails")
    assert "f2/t.jpg" not in names(find_images(album), album)
    assert "f2/t.jpg" in names(find_images(album, follow_symlinks=True), album)


def test_links_to_files_count_as_files_and_links_to_nothing_are_reported(
    album: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (album / "k.jpg").symlink_to(album / "c.txt")
    (album / "m.jpg").symlink_to(album / "nowhere")
    (album / "n.jpg").symlink_to(album / "n.jpg")
    with caplog.at_level(logging.WARNING, logger="autotag"):
        found = names(find_images(album), album)
    assert "k.jpg" in found
    assert not {"m.jpg", "n.jpg"} & set(found)
    assert {name for name in ("m.jpg", "n.jpg") if name in caplog.text} == {"m.jpg", "n.jpg"}


def test_an_unreadable_folder_is_reported_and_the_rest_is_found(
    album: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    unreadable(album / "d", monkeypatch)
    with caplog.at_level(logging.WARNING, logger="autotag"):
        assert names(find_images(album), album) == ["a.png", "b.JPG", "z.tiff"]
    assert str(album / "d") in caplog.text
    (album / "d").chmod(0o755)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_a_pipe_called_like_an_image_is_reported(album: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.mkfifo(album / "pipe.jpg")
    with caplog.at_level(logging.WARNING, logger="autotag"):
        assert "pipe.jpg" not in names(find_images(album), album)
    assert "pipe.jpg: not a regular file" in caplog.text


def test_folders_deeper_than_the_recursion_limit_are_walked(tmp_path: Path) -> None:
    deep = Path(tmp_path, *["d"] * 200)
    deep.mkdir(parents=True)
    (deep / "a.jpg").touch()
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 100)
    try:
        found = list(find_images(tmp_path))
    finally:
        sys.setrecursionlimit(limit)
    assert found == [deep / "a.jpg"]


def test_images_are_found_as_they_are_asked_for(album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[str] = []
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(str(path)) or real(path))  # type: ignore[func-returns-value]
    found = find_images(album)
    assert listed == []
    next(found)
    assert listed == [str(album)]
