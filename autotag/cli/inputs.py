"""Images, folders and URLs on the command line."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from autotag.images.tar_files import TarImage

    Image = str | Path


def find_with_tars(
    paths: Sequence[str], *, allow_urls: bool, follow_symlinks: bool
) -> Sequence[Image | TarImage]:
    """Return what ``find`` returns, with the images inside of tar files in place of these."""
    from autotag.images.tar_files import images_in_tar, is_tar

    named = list(given(paths))
    if not any(map(is_tar, named)):
        return find(named, allow_urls=allow_urls, follow_symlinks=follow_symlinks)
    images: list[Image | TarImage] = []
    for path in named:
        if is_tar(path):
            images.extend(images_in_tar(path))
        else:
            images.extend(find([path], allow_urls=allow_urls, follow_symlinks=follow_symlinks))
    return images


def find(paths: Sequence[str], *, allow_urls: bool, follow_symlinks: bool = False) -> list[Image]:
    """Return the images at the paths; an unreadable path is kept, to be reported in its place.

    Args:
        paths: files, folders, URLs and ``-``.
        allow_urls: whether URLs are allowed.
        follow_symlinks: whether to enter folders that links in folders lead to.

    Raises:
        UsageError: a URL, and URLs are not allowed.
        ImageReadError: none of the paths can be read.
        ConfigError: there is no image.
    """
    from autotag.errors import ConfigError, ImageReadError
    from autotag.images.reading import find_images, is_url

    images: list[Image] = []
    refusals: list[ImageReadError] = []
    for path in given(paths):
        if is_url(path):
            images.append(_allowed(path, allow_urls=allow_urls))
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


def _allowed(url: str, *, allow_urls: bool) -> str:
    if not allow_urls and not url.lower().startswith("data:"):
        raise click.UsageError(f"{url!r} is a URL; URLs are fetched only with --allow-urls.")
    return url
