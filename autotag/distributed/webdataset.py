"""Tag the shards of webdataset: tar files in, tar files out, with each image's result beside it."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from autotag.config.checks import check_list
from autotag.errors import ConfigError
from autotag.files.replacing import appearing
from autotag.images.tar_files import images_in_tar, is_image

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from os import PathLike

    from autotag.pipeline.pipeline import Pipeline
    from autotag.records import Result

RESULT_SUFFIX = ".autotag.json"
"""What the name of an image's result ends in, in place of the image's own suffix."""


def tag_tars(
    tars: Iterable[str | PathLike[str]], folder: str | PathLike[str], pipeline: Pipeline
) -> Iterator[Result]:
    """Write tar files with the members of the given ones and the results of their images, and yield these.

    ``000123.jpg`` is followed by ``000123.autotag.json``, which ``webdataset`` reads as a field of the same
    sample: what ``Result.to_dict`` returns. The result of a second image of one sample, such as
    ``000123.png``, is ``000123.png.autotag.json``. Results that a tar file has from an earlier run are left
    out. A tar file appears in the folder when it is complete, and one
    that is there already is left out, so the same call again does what is missing, and nothing twice.

    Args:
        tars: tar files without compression; their names must differ.
        folder: where those with results go, under the same names; made if missing.
        pipeline: tags the images; a bad image has a result with its error.

    Raises:
        ConfigError: two tar files have the same name, a tar file would replace itself, or one cannot be read.
        OSError: the folder cannot be written.
    """
    check_list("tars", tars)
    target = Path(folder)
    sources = list(map(Path, tars))
    names = [source.name for source in sources]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two tar files are called {name!r}; tag them into different folders.")
    if any(source.parent.resolve() == target.resolve() for source in sources):
        raise ConfigError(f"{str(target)!r} is the folder of the tar files themselves; name another folder.")
    target.mkdir(parents=True, exist_ok=True)
    return _tagged(sources, target, pipeline)


def _tagged(sources: Iterable[Path], folder: Path, pipeline: Pipeline) -> Iterator[Result]:
    for source in sources:
        if (folder / source.name).exists():
            continue
        images = list(images_in_tar(source))
        results = list(pipeline.stream(images, on_error="record"))
        by_member = {image.offset: result for image, result in zip(images, results, strict=True)}
        with appearing(folder / source.name) as stream:
            _copy(source, stream, by_member)
        yield from results


def _copy(source: Path, stream: BinaryIO, results: dict[int, Result]) -> None:
    """Copy a tar file without results of an earlier run, and put the result of each image behind it."""
    taken: set[str] = set()
    with tarfile.open(source, "r:") as old, tarfile.open(fileobj=stream, mode="w") as new:
        for member in old:
            if member.name.endswith(RESULT_SUFFIX):
                continue
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
            if is_image(member):
                text = json.dumps(results[member.offset_data].to_dict(), ensure_ascii=False)
                content = text.encode("utf-8", "backslashreplace")
                name = os.fspath(PurePosixPath(member.name).with_suffix(RESULT_SUFFIX))
                added = tarfile.TarInfo(member.name + RESULT_SUFFIX if name in taken else name)
                taken.add(added.name)
                added.size, added.mtime = len(content), member.mtime
                new.addfile(added, io.BytesIO(content))
