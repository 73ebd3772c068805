"""Images, folders and URLs on the command line."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

import click

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from autotag.images.tar_files import TarImage

    Image = str | Path


@overload
def find(
    paths: Sequence[str],
    *,
    allow_urls: bool | None,
    follow_symlinks: bool = False,
    tars: Literal[False] = False,
) -> list[Image]: ...


@overload
def find(
    paths: Sequence[str], *, allow_urls: bool | None, follow_symlinks: bool = False, tars: Literal[True]
) -> list[Image | TarImage]: ...


def find(
    paths: Sequence[str], *, allow_urls: bool | None, follow_symlinks: bool = False, tars: bool = False
) -> Sequence[Image | TarImage]:
    """Return the images at the paths; an unreadable path is kept, to be reported in its place.

    Args:
        paths: files, folders, URLs and ``-``.
        allow_urls: whether URLs are allowed; None if the command has no option for it.
        follow_symlinks: whether to enter folders that links in folders lead to.
        tars: whether the images inside of a tar file are taken in its place.

    Raises:
        UsageError: a URL, and URLs are not allowed.
        ImageReadError: none of the paths can be read.
        ConfigError: there is no image, or a tar file cannot be read.
    """
    from autotag.errors import ConfigError, ImageReadError
    from autotag.images.reading import find_images, is_url
    from autotag.images.tar_files import images_in_tar, is_tar

    images: list[Image | TarImage] = []
    refusals: list[ImageReadError] = []
    for path in given(paths):
        if is_url(path):
            images.append(allowed_url(path, allow_urls=allow_urls))
            continue
        if tars and is_tar(path):
            images.extend(images_in_tar(path))
            continue
        try:
            images.extend(find_images(path, follow_symlinks=follow_symlinks))
        except ImageReadError as error:
            images.append(Path(path))
            refusals.append(error)
    if refusals and len(refusals) == len(images):
        raise refusals[0]
    if not images:
        raise ConfigError(f"no image found in {', '.join(paths)}.")
    return images


def given(paths: Sequence[str]) -> Iterator[str]:
    """Yield the paths, with paths from stdin in place of ``-``."""
    for path in paths:
        if path == "-":
            listed = sys.stdin.buffer.read()
            lines = listed.split(b"\0") if b"\0" in listed else listed.splitlines()
            yield from (os.fsdecode(line) for line in lines if line)
        else:
            yield path


def allowed_url(url: str, *, allow_urls: bool | None) -> str:
    """Return a URL that may be read; data URIs always may.

    Raises:
        UsageError: it may not; see ``find`` for ``allow_urls``.
    """
    if allow_urls or url.lower().startswith("data:"):
        return url
    if allow_urls is None:
        raise click.UsageError(f"{url!r} is a URL, and this command reads files; download it first.")
    raise click.UsageError(f"{url!r} is a URL; URLs are fetched only with --allow-urls.")
