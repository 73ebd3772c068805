"""Results on their way into an index: in groups, with facts about their files and vectors of length 1."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from autotag.config.checks import whole_number
from autotag.errors import AutotagError, ConfigError, ImageReadError, SearchIndexError
from autotag.images.reading import is_nameless, is_url
from autotag.relevance.embeddings import read_embedding
from autotag.search.photo_facts import read_facts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from autotag.records import Result
    from autotag.search.photo_facts import PhotoFacts

_NO_BYTE = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # surrogates that stand for no byte
_TOGETHER = 64  # results that are committed together
_LONGEST_WAIT = 2.0  # seconds after which fewer are committed


def stored_path(source: str | PathLike[str]) -> bytes:
    """Return a path, absolute and without ``..``, or a URL as an index keeps it, in bytes, UTF-8 or not."""
    text = os.fspath(source)
    return (
        text.encode() if is_url(text) else os.fsencode(one_root(_without_parents(str(Path(text).absolute()))))
    )


def one_root(path: str) -> str:
    """Return a path that does not begin with two slashes, which POSIX allows and Linux reads as one."""
    return path[1:] if os.sep == "/" and path.startswith("//") else path


def id_or_path(photo: object) -> int | bytes:
    """Return the id of a photograph, or its path as an index keeps it.

    Raises:
        ConfigError: it is neither an id nor a path.
    """
    return stored_path(photo) if isinstance(photo, str | PathLike) else whole_number("an id or path", photo)


def _without_parents(path: str) -> str:
    """Return an absolute path without ``..``; behind a link to a folder, that is the real parent."""
    head, dots, rest = f"{path}{os.sep}".rpartition(f"{os.sep}..{os.sep}")
    if not dots:
        return path
    parent = f"{head}{os.sep}.."
    plain = os.path.abspath(parent)  # noqa: PTH100 - links stay links
    with suppress(OSError):
        if not os.path.samefile(plain, parent):  # noqa: PTH121 - beside the above
            plain = os.path.realpath(parent)
    return os.path.normpath(os.path.join(plain, rest))  # noqa: PTH118


def put_in_groups(results: Iterable[Result], put: Callable[[list[Result]], object]) -> int:
    """Put results into an index, as many together as are enough or as came in time; return how many.

    After a long wait for a result, each of the next ones is a group: another long wait may follow them. The
    results before an error are put, too.

    Raises:
        BaseException: what ``results`` or ``put`` raise.
    """
    done = 0
    group: list[Result] = []
    alone = 0  # so many results make a group each
    following = iter(results)
    asked = started = time.monotonic()
    while True:
        try:
            group.append(next(following))
        except StopIteration:
            break
        except BaseException as error:
            try:
                put(group)
            except AutotagError as why:
                error.add_note(f"The {len(group)} results before it could not be kept: {why}")
            raise
        now = time.monotonic()
        alone = _TOGETHER if now - asked > _LONGEST_WAIT else max(alone - 1, 0)
        if alone or len(group) >= _TOGETHER or now - started > _LONGEST_WAIT:
            put(group)
            done += len(group)
            group, started = [], time.monotonic()
        asked = time.monotonic()
    if group:
        put(group)
    return done + len(group)


def facts_of(result: Result) -> PhotoFacts | None:
    """Return the facts about a result's file; None where it is not a file that can be read.

    Raises:
        ConfigError: the result is of an image in memory, which nobody could find again.
    """
    if is_url(result.source):
        return None
    if is_nameless(result.source) and not os.path.lexists(result.source):
        raise ConfigError(
            f"an index keeps photographs by their path or URL, and {result.source} has none; give each a "
            "name: pipeline.read(image, source='beach.jpg')."
        )
    try:
        return read_facts(Path(result.source))
    except ImageReadError:
        return None


def unit_embedding(result: Result, where: str) -> tuple[str, NDArray[np.float16]] | None:
    """Return the encoder's id and the vector of a result, of length 1; None without one.

    Args:
        result: of a pipeline.
        where: the index, for errors.

    Raises:
        SearchIndexError: something else stands in its place, or its length is 0.
    """
    try:
        found = read_embedding(result.extras)
    except ValueError as error:
        raise SearchIndexError(where, f"the result of {result.source!r}: {error}.") from error
    if found is None:
        return None
    wide = found[1].astype(np.float32)
    length = float(np.linalg.norm(wide))
    if not length:
        raise SearchIndexError(where, f"the vector of {result.source!r} has length 0.")
    return found[0], (wide / length).astype("<f2")


def storable(text: str) -> str:
    """Return a text that UTF-8 can hold."""
    return (
        text
        if text.isascii()
        else without_loose_surrogates(text).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    )


def without_loose_surrogates(text: str) -> str:
    """Return a text whose surrogates, if it has any, stand for bytes of a file's name."""
    return _NO_BYTE.sub("\N{REPLACEMENT CHARACTER}", text)
