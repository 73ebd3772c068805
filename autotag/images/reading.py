"""Read one image, and find many.

``read_image`` accepts a path, bytes, an open file, a Pillow image, an array or a URL, and returns upright RGB
pixels, no larger than the models need. ``find_images`` searches folders.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import stat
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from autotag.config.checks import check_list
from autotag.errors import ConfigError, ImageReadError, UrlRefusedError
from autotag.images.colours import eight_bits, to_rgb
from autotag.images.decode_memory import KEPT_BYTES, check_size, peak_bytes
from autotag.images.decoding import DECODER_ERRORS, DecodeLimits, decode, load_pixels, shrink
from autotag.images.orientation import orientation, upright, upright_size
from autotag.images.raw_files import RAW_SUFFIXES
from autotag.web.public_urls import decode_data_uri, fetch, shown_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from autotag.images.decode_memory import MaxPixels


class ReadsBytes(Protocol):
    """Give bytes like an open binary file; ``name`` may say what it is called."""

    def read(self, size: int = -1, /) -> bytes:
        """Return the next ``size`` bytes, or all that are left."""
        ...


ImageInput: TypeAlias = (
    str
    | os.PathLike[str]
    | bytes
    | bytearray
    | memoryview
    | BinaryIO
    | ReadsBytes
    | Image.Image
    | NDArray[Any]
)
"""A path, an http(s) URL, a data URI, the bytes of an image file, an open binary file, a Pillow image, or an
array: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8, uint16, bool, or floats in [0, 1]."""

IMAGE_SUFFIXES = frozenset(
    (
        ".apng", ".avif", ".avifs", ".bmp", ".dib", ".gif", ".heic", ".heif", ".hif",
        ".jfif", ".jpe", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp",
    )
)  # fmt: skip
"""Extensions of image files for ``find_images``, in lower case."""

_SYSTEM_FOLDERS = (
    "@eadir", "#recycle", "#snapshot", "$recycle.bin", "__macosx", "lost+found", "system volume information",
    "*.lrdata",
)  # fmt: skip
_MAX_FILE_BYTES = 2**31
_DATA = re.compile(r"data:", re.IGNORECASE)
_HTTP = re.compile(r"https?://", re.IGNORECASE)
_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_logger = logging.getLogger("autotag")


@dataclass(frozen=True, slots=True)
class ReadImage:
    """An image ready for the models.

    Attributes:
        source: path, URL or id.
        image: upright 8-bit RGB without metadata, possibly smaller than the original.
        size: width, height of the upright original in pixels.
        truncated: whether the file ends too early, so that some pixels are filled in.
        views: see ``Sample.views``; empty after ``read_image``.
    """

    source: str
    image: Image.Image
    size: tuple[int, int]
    truncated: bool = False
    views: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)


def read_image(
    image: ImageInput,
    *,
    target_size: int | None = None,
    allow_urls: bool = False,
    allow_truncated: bool = False,
    max_pixels: MaxPixels = "auto",
    source: str | None = None,
    reserve: Callable[[int], None] | None = None,
) -> ReadImage:
    """Read an image as upright RGB pixels.

    The middle frame of an animation is used, or the next that is not blank, and the first page of a TIFF or
    MPO. Transparency is put on white. A Pillow image or array is not changed. An open file is read from its
    current position and stays open.

    Args:
        image: see ``ImageInput``.
        target_size: the shortest side in pixels that the models need. Larger images are averaged down to not
            less than twice this, so that resampling to it differs by at most about one grey level. None for
            the full size.
        allow_urls: fetch http(s) URLs (see ``autotag.web.public_urls``). Data URIs are always read.
        allow_truncated: use the readable part of a file that ends too early, and set ``truncated``. A file
            without its last bytes is read in any case if its pixels do not need them.
        max_pixels: refuse images with more pixels before they are decoded. ``"auto"``: 178,956,970, or fewer
            for files that cannot be decoded at a smaller size, as many as take 1 GiB (67 million for a WebP).
        source: the image's name; by default its path or URL, else the type of the object.
        reserve: called before decoding, with the number of bytes that it takes; may wait for free memory.

    Raises:
        ImageReadError: the image cannot be read; ``reason`` says why.
        UrlRefusedError: the URL must not be fetched.
    """
    name = source or source_of(image)
    limits = DecodeLimits(target_size, max_pixels, allow_truncated, reserve)
    if isinstance(image, np.ndarray):
        check_size(_array_size(image, name), name, max_pixels)
        image = _from_array(image, name)
    if isinstance(image, Image.Image):
        return _read_pillow(image, name, limits)
    found = decode(_encoded(image, name, allow_urls=allow_urls), name, limits)
    return ReadImage(name, found.image, found.size, found.truncated)


def source_of(image: object) -> str:
    """Return the default name of an image: its path or URL, else the type of the object."""
    if isinstance(image, str):
        return shown_url(image) if is_url(image) else image
    if isinstance(image, os.PathLike):
        return os.fsdecode(image)
    filename = getattr(image, "filename", None) or getattr(image, "name", None)
    if isinstance(filename, str) and not isinstance(image, np.ndarray):
        return filename
    return f"<{type(image).__name__}>"


def is_nameless(source: str) -> bool:
    """Return True for what ``source_of`` calls an image without a path or URL, such as ``"<ndarray>"``."""
    return source.startswith("<") and source.endswith(">") and source[1:-1].isidentifier()


def find_images(
    *paths: str | os.PathLike[str],
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    follow_symlinks: bool = False,
    raw: bool = False,
) -> Iterator[Path]:
    """Yield the image files in folders, sorted; folders are searched during iteration.

    A path to a file is yielded whatever its extension. Inside folders, the extension decides
    (``IMAGE_SUFFIXES``). Hidden files and folders are left out, and so are system folders (``@eaDir``,
    ``*.lrdata``, recycle bins). If a folder cannot be listed, a warning is logged under ``"autotag"``, and
    the search continues.

    Args:
        paths: files and folders.
        include: glob patterns; a file must match one of them by its name or its path below the folder,
            ignoring case.
        exclude: glob patterns of files and folders to leave out, matched in the same way.
        follow_symlinks: enter folders through symbolic links, each folder once; otherwise a warning names
            each link. Links to files always count as files.
        raw: count cameras' RAW files as images; reading them needs ``autotag-images[raw]``.

    Raises:
        ConfigError: no path is given, one is something else such as a list, or patterns are one text instead
            of a list.
        ImageReadError: a path does not exist or cannot be read. Raised by the call, before the first image.
    """
    if not paths:
        raise ConfigError("find_images needs a file or a folder to look in")
    for path in paths:
        if not isinstance(path, str | os.PathLike):
            raise ConfigError(
                f"find_images takes paths one by one, not {path!r:.80}; write find_images(*paths)."
            )
    roots = [Path(path) for path in paths]
    folders = [_is_folder(root) for root in roots]
    search = _Search(_patterns("include", include), _patterns("exclude", exclude), follow_symlinks, raw)
    return (
        found
        for root, is_folder in zip(roots, folders, strict=True)
        for found in (search.below(root) if is_folder else iter((root,)))
    )


def _patterns(option: str, given: Sequence[str]) -> tuple[str, ...]:
    """Return glob patterns in lower case.

    Raises:
        ConfigError: ``given`` is one text instead of a list, so that each letter would be a pattern.
    """
    check_list(option, given)
    return tuple(map(str.lower, given))


@dataclass(frozen=True, slots=True)
class _Search:
    """Search folders with these options; patterns are in lower case."""

    include: tuple[str, ...]
    exclude: tuple[str, ...]
    follow_symlinks: bool
    raw: bool

    def below(self, root: Path) -> Iterator[Path]:
        """Yield files depth first, each folder sorted by name, with one listing per level in memory."""
        entered: set[tuple[int, int]] = set()
        levels = [iter(_listing(str(root), entered))]
        while levels:
            entry = next(levels[-1], None)
            if entry is None:
                levels.pop()
            elif self._is_wanted_folder(entry, root):
                levels.append(iter(_listing(entry.path, entered)))
            elif self._is_wanted_file(entry, root):
                yield Path(entry.path)

    def _is_wanted_folder(self, entry: os.DirEntry[str], root: Path) -> bool:
        try:
            is_folder = entry.is_dir()
        except OSError:
            return False  # _is_wanted_file logs it
        if not is_folder or _matches(entry, root, self.exclude):
            return False
        if entry.is_symlink() and not self.follow_symlinks:
            _logger.warning(
                "left out %s: a link to a folder; name it, or set follow_symlinks=True (--follow-symlinks)",
                entry.path,
            )
            return False
        return True

    def _is_wanted_file(self, entry: os.DirEntry[str], root: Path) -> bool:
        suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 - no Path per file
        if suffix not in IMAGE_SUFFIXES and not (self.raw and suffix in RAW_SUFFIXES):
            return False
        if _matches(entry, root, self.exclude) or (self.include and not _matches(entry, root, self.include)):
            return False
        try:
            if entry.is_file():
                return True
            reason = "a broken link" if not Path(entry.path).exists() else "not a regular file"
            if entry.is_dir():
                return False
        except OSError as error:
            reason = error.strerror or str(error)
        _logger.warning("left out %s: %s", entry.path, reason)
        return False


def _listing(folder: str, entered: set[tuple[int, int]]) -> list[os.DirEntry[str]]:
    """List a folder by name, without hidden and system entries; [] if it was entered before."""
    try:
        facts = Path(folder).stat()
        if (facts.st_dev, facts.st_ino) in entered:
            return []
        entered.add((facts.st_dev, facts.st_ino))
        with os.scandir(folder) as entries:
            return sorted(
                (entry for entry in entries if not is_hidden(entry.name)), key=lambda entry: entry.name
            )
    except OSError as error:
        _logger.warning("left out the folder %s: %s", folder, error.strerror or error)
        return []


def is_hidden(name: str) -> bool:
    """Return True for names of hidden files and system folders, which are left out."""
    return name.startswith(".") or any(fnmatchcase(name.lower(), pattern) for pattern in _SYSTEM_FOLDERS)


def _matches(entry: os.DirEntry[str], root: Path, patterns: tuple[str, ...]) -> bool:
    if not patterns:
        return False
    below = Path(entry.path).relative_to(root).as_posix().lower()
    return any(
        fnmatchcase(entry.name.lower(), pattern) or fnmatchcase(below, pattern) for pattern in patterns
    )


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError) as error:
        raise ImageReadError(str(path), _os_reason(error)) from error


def _read_pillow(image: Image.Image, source: str, limits: DecodeLimits) -> ReadImage:
    """Read the current frame of a user's Pillow image; the image is loaded, but not changed."""
    peak = peak_bytes(image) if isinstance(image, ImageFile.ImageFile) else None
    check_size(image.size, source, limits.max_pixels, peak)
    if limits.reserve:
        limits.reserve(image.width * image.height * (peak or KEPT_BYTES))
    try:
        truncated = load_pixels(image, limits)  # loading turns a TIFF upright and updates its metadata
        turned = orientation(image.info)
        size = upright_size(image.size, turned)
        pixels = upright(shrink(to_rgb(image), limits.target_size), turned)
        return ReadImage(source, pixels, size, truncated)
    except DECODER_ERRORS as error:
        raise ImageReadError(source, f"the Pillow image cannot be read ({error})") from error


def _encoded(image: object, source: str, *, allow_urls: bool) -> bytes:
    """Return the bytes of an image file, URL, path or open file."""
    if isinstance(image, str) and is_url(image):
        return _from_url(image, source, allow_urls=allow_urls)
    if isinstance(image, (str, os.PathLike)):
        return file_bytes(os.fsdecode(image), source)
    if isinstance(image, (bytes, bytearray, memoryview)):
        return bytes(image)
    if hasattr(image, "read"):
        return open_file_bytes(image, source)
    if type(image).__module__.partition(".")[0] == "torch":
        hint = "pass tensor.permute(1, 2, 0).cpu().numpy() of a (3, H, W) tensor"
        raise ImageReadError(source, f"a torch tensor is not an image: {hint}")
    raise ImageReadError(
        source,
        f"an object of type {type(image).__name__} is not an image: "
        "pass a path, bytes, an open file, a Pillow image or an array",
    )


def is_url(text: str) -> bool:
    """Return True if ``read_image`` treats a text as a URL (of any scheme) or data URI, not as a path."""
    return _DATA.match(text) is not None or _URL.match(text) is not None


def _from_url(url: str, source: str, *, allow_urls: bool) -> bytes:
    if _HTTP.match(url) and not allow_urls:
        raise UrlRefusedError(source, "URLs are fetched only with allow_urls=True")
    try:
        return decode_data_uri(url) if _DATA.match(url) else fetch(url)
    except ImageReadError as error:
        raise type(error)(source, error.reason, error.way_out) from error


def file_bytes(path: str, source: str) -> bytes:
    """Return the bytes of a regular file.

    Raises:
        ImageReadError: it cannot be read, is not a regular file, or has more than 2 GiB; names ``source``.
    """
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise ImageReadError(source, "it is not a regular file but a pipe, socket or device")
            if facts.st_size > _MAX_FILE_BYTES:
                raise ImageReadError(
                    source, f"the file has {facts.st_size} bytes, more than {_MAX_FILE_BYTES}"
                )
            return file.read(_MAX_FILE_BYTES)
    except (OSError, ValueError) as error:
        raise ImageReadError(source, _os_reason(error)) from error


def _open_without_waiting(path: str, flags: int) -> int:
    """Open without blocking on a pipe without a writer, so that it can be refused."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _os_reason(error: OSError | ValueError) -> str:
    """Return the reason why the operating system refuses a path, as text."""
    reasons = {
        errno.ENOENT: "no such file",
        errno.EISDIR: "it is a folder; find_images lists the images in one",
        errno.EACCES: "no permission to read it",
        errno.EPERM: "no permission to read it",
        errno.ENXIO: "it is not a regular file but a pipe, socket or device",
        errno.ENAMETOOLONG: "the path is too long",
        errno.ELOOP: "its symbolic links form a circle",
    }
    known = reasons.get(error.errno or 0) if isinstance(error, OSError) else None
    return known or (error.strerror if isinstance(error, OSError) else None) or str(error)


def open_file_bytes(file: Any, source: str) -> bytes:
    """Return the rest of a caller's open file.

    Raises:
        ImageReadError: it cannot be read, or is open as text; names ``source``.
    """
    try:
        content = file.read(_MAX_FILE_BYTES)
    except (OSError, ValueError, TypeError) as error:
        raise ImageReadError(source, f"the file object cannot be read ({error})") from error
    if isinstance(content, str):
        raise ImageReadError(source, "the file is open as text: open it with mode 'rb'")
    if not isinstance(content, (bytes, bytearray, memoryview)):
        raise ImageReadError(source, f"its read() returns {type(content).__name__}, not bytes")
    return bytes(content)


def _array_size(array: NDArray[Any], source: str) -> tuple[int, int]:
    """Return width and height of an array with the shape of an image; refuse other shapes."""
    shape = array.shape
    if len(shape) == 2 or (len(shape) == 3 and shape[2] in {1, 3, 4}):
        return shape[1], shape[0]
    hint = "pass (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)"
    if len(shape) == 3 and shape[0] in {1, 3, 4}:
        hint = "channels come first: pass array.transpose(1, 2, 0)"
    elif len(shape) == 4:
        hint = "it looks like a batch: pass its images one by one"
    raise ImageReadError(source, f"an array of shape {shape} and dtype {array.dtype} is not an image: {hint}")


def _from_array(array: NDArray[Any], source: str) -> Image.Image:
    """Convert an array with the shape of an image to a Pillow image."""
    if np.issubdtype(array.dtype, np.floating):
        _check_fractions(array, source)
        values = np.rint(array * 255).astype(np.uint8)
    elif array.dtype == np.bool_:
        values = array.astype(np.uint8) * np.uint8(255)
    elif array.dtype.kind == "u" and array.dtype.itemsize <= 2:
        values = eight_bits(array) if array.dtype.itemsize == 2 else array
    else:
        raise ImageReadError(
            source,
            f"an array of dtype {array.dtype} (shape {array.shape}) is not an image: "
            "pass uint8, uint16, bool, or floats in [0, 1]",
        )
    return Image.fromarray(np.ascontiguousarray(values[..., 0] if values.shape[2:] == (1,) else values))


def _check_fractions(array: NDArray[Any], source: str) -> None:
    what = f"an array of dtype {array.dtype} and shape {array.shape}"
    if not np.isfinite(array).all():
        raise ImageReadError(source, f"{what} has values that are not finite (NaN or infinity)")
    low, high = array.min(), array.max()
    if low < 0 or high > 1:
        raise ImageReadError(
            source,
            f"{what} has values from {low:g} to {high:g}: floats must be in [0, 1] "
            "(divide by 255, or pass uint8)",
        )
