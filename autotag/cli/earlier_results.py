"""What ``--from`` names: lists of paths and URLs, and results of earlier runs."""

from __future__ import annotations

import codecs
import json
import os
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from autotag.records import Result

_JSON_LINES = (".jsonl", ".ndjson")
_PARQUET = ".parquet"
_OTHER_RESULTS = {".json", ".csv", ".tsv", ".xlsx"}


class Sources:
    """Files and folders named by ``--from``.

    Args:
        files: lists, files of results, and folders of shards.
        told: told about lines that are left out.
    """

    def __init__(self, files: Sequence[Path], *, told: Callable[[str], None]) -> None:
        self._results = [file for file in files if _holds_results(file)]
        self._lists = [file for file in files if file not in self._results]
        self._told = told

    def listed(self) -> list[str]:
        """Return the paths and URLs in lists, and the photographs that failed in earlier runs."""
        lines = [line for file in self._lists for line in _lines_of(file)]
        failed = [source for source, is_tagged in self._earlier.items() if not is_tagged]
        return [*(os.fsdecode(line) for line in lines if line.strip()), *failed]

    def tagged(self) -> list[str]:
        """Return the photographs that earlier runs tagged, each once."""
        return [source for source, is_tagged in self._earlier.items() if is_tagged]

    def results(self, wanted: Iterable[str]) -> Iterator[Result]:
        """Yield the earlier results of some photographs, each once, the first that succeeded."""
        left = set(wanted)
        for result in self._read():
            if result.error is None and result.source in left:
                left.remove(result.source)
                yield result

    @cached_property
    def _earlier(self) -> dict[str, bool]:
        """Photograph -> whether an earlier run tagged it."""
        found: dict[str, bool] = {}
        for result in self._read(tell=True):
            found[result.source] = result.error is None or found.get(result.source, False)
        return found

    def _read(self, *, tell: bool = False) -> Iterator[Result]:
        from autotag.distributed.shards import read_shards
        from autotag.writers.parquet_writer import read_parquet

        for file in self._results:
            if file.is_dir():
                yield from read_shards(file)
            elif file.suffix.lower() == _PARQUET:
                yield from read_parquet(file)
            else:
                yield from _json_lines(file, self._told if tell else lambda _message: None)


def _lines_of(file: Path) -> list[bytes]:
    """Return the lines of a list of paths and URLs.

    Raises:
        ConfigError: it is something else: another format of results, or no text.
    """
    from autotag.errors import ConfigError

    content = file.read_bytes().removeprefix(codecs.BOM_UTF8)
    if file.suffix.lower() in _OTHER_RESULTS or b"\0" in content[:4096]:
        raise ConfigError(
            f"--from {str(file)!r} is not a list of paths, one on each line, and not results of autotag in a "
            ".jsonl or .parquet file or a folder of shards."
        )
    return content.splitlines()


def _holds_results(file: Path) -> bool:
    return file.is_dir() or file.suffix.lower() in {*_JSON_LINES, _PARQUET}


def _json_lines(file: Path, told: Callable[[str], None]) -> Iterator[Result]:
    """Yield the results in a file of JSON lines; a last line that was cut off is left out.

    Raises:
        ConfigError: another line is no result.
    """
    from autotag.errors import ConfigError
    from autotag.records import Result

    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield Result.from_dict(json.loads(line))
            except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
                if not line.endswith(b"\n"):
                    told(f"{file}: its last line was cut off and is left out")
                    return
                raise ConfigError(
                    f"{file}, line {number}: not a result of `autotag tag --format jsonl`: {error!r}"
                ) from error
