"""Split one run over many machines: each tags one shard of the images into Parquet files.

The hash of an image's path alone decides its shard. With a rule by position in the sorted list, one file
that arrives while the jobs start would shift all later ones, and some images would be done twice and others
never. With the hash, a file that one machine sees or misses does not affect any other image. Shards differ in
size by about the square root of their size.

A shard is written in blocks. A block is one file, which is renamed into place when it is complete and synced
to disk. The blocks are the only record of the images that are done, so a crash cannot leave a contradiction.
A run first reads which images are in the blocks, and does the others.

Blocks are numbered, and a number can be taken once: the file system refuses to rename a file to a name that
exists. A run whose number was taken by another run reads that block, leaves out the images in it, and tries
the next number. So two runs at once cannot both write an image, without any lock; Delta Lake commits in the
same way (Armbrust et al., "Delta Lake", VLDB 2020, section 3.2).
"""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from autotag.config.checks import check_list
from autotag.config.options import how_only
from autotag.errors import DISTRIBUTION, ConfigError, FileChangedError
from autotag.files.file_states import state_of, unwritable_folder
from autotag.files.replacing import placing
from autotag.images.reading import source_of
from autotag.pipeline.pipeline import Pipeline
from autotag.writers.arrow_rows import row_source, storable, to_table
from autotag.writers.parquet_writer import open_parquet, read_parquet, write_parquet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from os import PathLike

    from autotag.files.file_states import FileState
    from autotag.images.tar_files import TarImage
    from autotag.records import Result

BLOCK_SIZE = 1000
"""Images per block; a crash loses at most this many results."""

RUN_FILE = "_autotag.json"
"""File that describes the run of a folder of shards; Parquet readers ignore names that begin with ``_``."""

Image = TypeVar("Image", bound="str | PathLike[str] | TarImage")
_BLOCK = re.compile(r"shard-(\d{5,})-of-(\d{5,})-block-(\d{5,})\.parquet")


@dataclass(frozen=True, slots=True)
class Shard:
    """One part of the images.

    Attributes:
        number: from 1 to ``count``.
        count: number of parts.

    Raises:
        ConfigError: the number is not from 1 to ``count``.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise ConfigError(
                f"shard {self.number}/{self.count} does not exist: shards are 1/{max(self.count, 1)} "
                f"to {max(self.count, 1)}/{max(self.count, 1)}."
            )

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Parse a shard such as ``"3/10"``.

        Raises:
            ConfigError: the text is not in this form, or the shard does not exist.
        """
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if not match:
            raise ConfigError(f"{text!r} is not a shard; write its number and the total, such as 3/10.")
        return cls(int(match[1]), int(match[2]))

    def holds(self, source: str) -> bool:
        """Return True if an image is in this shard; the same on every machine and Python version."""
        digest = hashlib.blake2b(_encoded(source), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.count == self.number - 1


@dataclass(frozen=True, slots=True)
class _Done:
    """The block of a finished image."""

    block: Path
    failed: bool


class ShardWriter:
    """Write the results of one shard in blocks; a later run completes the files.

    Needs the extra ``autotag-images[parquet]``. Two runs of one shard at the same time do the work twice, but
    each image is written once: each run leaves out the results that the other has written, also in the same
    moment. Only on a file system that has neither hard links nor a rename that refuses to overwrite (some
    network shares), a block may replace one of the same moment; a later run then does the lost images.

    Args:
        folder: the folder for the files of all shards; created with the first result.
        shard: the shard to write.
        config: the pipeline's config, see ``autotag.pipeline.presets.to_config``.
        paths: the paths of the images, as the user wrote them.
        block_size: results per file, at least 1.

    Attributes:
        done: number of images that were done before, including those with an error.
        failed: number of images that were done before with an error.

    Raises:
        ConfigError: pyarrow is not installed; ``folder`` is not a folder, cannot be made or written, or has
            results of another config, other paths or another number of shards; or a file in it is damaged.
    """

    def __init__(
        self,
        folder: str | PathLike[str],
        shard: Shard,
        *,
        config: Mapping[str, Any],
        paths: Sequence[str] = (),
        block_size: int = BLOCK_SIZE,
    ) -> None:
        check_list("paths", paths)
        self._folder = Path(folder)
        self._shard = shard
        self._block_size = block_size
        self._run = _run(shard, config, paths)
        self._is_claimed = False
        self._held: list[Result] = []
        self._seen: set[Path] = set()
        self._done: dict[str, _Done] = {}
        self._again: set[str] = set()
        to_table([])  # raises now, not after the first block, if pyarrow is not installed
        _check_run(self._folder, self._run)
        self._look()
        self.done = len(self._done)
        self.failed = sum(done.failed for done in self._done.values())

    def missing(self, images: Iterable[Image], *, retry_errors: bool = False) -> list[Image]:
        """Return the images of this shard that are not done, each once, sorted by path.

        Args:
            images: the images of all shards, in any order.
            retry_errors: include images that were done with an error; their rows will be replaced.

        Raises:
            ConfigError: two images have the same name, as data URIs may.
        """
        named: dict[str, Image] = {}
        for image in images:
            source = source_of(image)
            if self._shard.holds(source) and str(named.setdefault(source, image)) != str(image):
                raise ConfigError(
                    f"two images are called {source!r}; in shards each image needs a different name."
                )
        self._again = {source for source, done in self._done.items() if done.failed and retry_errors}
        return [named[source] for source in sorted(named) if self._is_wanted(source)]

    def write(self, result: Result, /) -> Result:
        """Buffer a result, and write a file after every ``block_size`` results; the first claims the folder.

        Returns:
            The result as it is stored: one with a value that columns cannot store becomes one with an error.

        Raises:
            ConfigError: another run claimed the folder meanwhile; or a file cannot be written, because the
                disk is full or for another reason. The results stay in the buffer, and the next call tries
                again. Files written before are safe.
        """
        stored = storable(result)
        self._held.append(stored)
        if not self._is_claimed:
            self._claim()
        if len(self._held) >= self._block_size:
            self._flush()
        return stored

    def close(self) -> None:
        """Write the buffered results as a last, smaller block; raises what ``write`` raises."""
        if self._held:
            self._flush()

    def _claim(self) -> None:
        """Make the folder one of this run.

        Raises:
            ConfigError: the folder cannot be written, or another run came first.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            _write_first(self._folder / RUN_FILE, json.dumps(self._run, indent=2) + "\n")
        except OSError as error:
            raise _unusable(self._folder, error) from error
        _check_run(self._folder, self._run)
        self._is_claimed = True

    def _is_wanted(self, source: str) -> bool:
        return source not in self._done or source in self._again

    def _flush(self) -> None:
        if not self._is_claimed:
            self._claim()
        try:
            self._look()
            self._replace()
            while fresh := [result for result in self._held if result.source not in self._done]:
                block = self._new_block()
                with suppress(FileChangedError):  # another run was first; what it wrote is not fresh
                    self._write_block(block, fresh, None)
                self._read(block)
        except OSError as error:
            raise ConfigError(
                f"cannot write results into {str(self._folder)!r}: {error.strerror or error}. The blocks "
                "written before are safe: mend this and run the same again."
            ) from error
        self._held.clear()

    def _replace(self) -> None:
        """Replace the rows of failed images by new results."""
        again = {result.source: result for result in self._held if result.source in self._again}
        for block in sorted({self._done[source].block for source in again}):
            while not self._replaced(block, again):
                pass
        self._again -= again.keys()

    def _replaced(self, block: Path, again: Mapping[str, Result]) -> bool:
        """Replace the failed rows of a block; return False if another run wrote it meanwhile."""
        before = state_of(block)
        rows = [again.get(old.source, old) if old.error is not None else old for old in read_parquet(block)]
        with suppress(FileChangedError):
            self._write_block(block, rows, before)
            return True
        return False

    def _new_block(self) -> Path:
        """Return the file of the next number that this run has not seen."""
        number = max((int(_block_match(path)[3]) for path in self._seen), default=-1) + 1
        shard = f"shard-{self._shard.number:05}-of-{self._shard.count:05}"
        return self._folder / f"{shard}-block-{number:05}.parquet"

    def _write_block(self, block: Path, results: Sequence[Result], expected: FileState | None) -> None:
        facts = {**self._run, "autotag": version(DISTRIBUTION)}
        with placing(block, expected) as stream:
            write_parquet(stream, results, facts)

    def _look(self) -> None:
        """Read the new blocks of this shard."""
        for block in _blocks(self._folder, self._shard.number):
            if block not in self._seen:
                self._read(block)

    def _read(self, block: Path) -> None:
        self._done |= _rows_of(block)
        self._seen.add(block)


def read_shards(folder: str | PathLike[str]) -> Iterator[Result]:
    """Yield every result in a folder of shards, each image once, shard by shard.

    Raises:
        ConfigError: pyarrow is not installed, ``folder`` is not a folder of shards, or a file is damaged.
    """
    if not (Path(folder) / RUN_FILE).is_file():
        raise ConfigError(f"{str(folder)!r} is not a folder of shards: it has no {RUN_FILE}.")
    return _each_once(Path(folder))


def _each_once(folder: Path) -> Iterator[Result]:
    numbers = sorted({int(_block_match(block)[1]) for block in _blocks(folder)})
    for number in numbers:
        seen: set[str] = set()
        for block in _blocks(folder, number):
            for result in read_parquet(block):
                if result.source not in seen:
                    seen.add(result.source)
                    yield result


def _encoded(source: str) -> bytes:
    """Return a path as bytes, even if it is not UTF-8."""
    return source.encode("utf-8", "surrogateescape")


def _run(shard: Shard, config: Mapping[str, Any], paths: Sequence[str]) -> dict[str, Any]:
    """Return what all shards of one run have in common, in the form that JSON reads back."""
    how = how_only(Pipeline)
    answer = {name: value for name, value in config.items() if name not in how}
    run = {"shards": shard.count, "paths": list(paths), "config": answer}
    read_back: dict[str, Any] = json.loads(json.dumps(run))
    return read_back


def _check_run(folder: Path, run: Mapping[str, Any]) -> None:
    """Refuse a folder of another run, and one that cannot become this run's; leave it as it is.

    Raises:
        ConfigError: the folder belongs to another run, is not a folder, or cannot be made or written.
    """
    try:
        there = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        place = unwritable_folder(folder / RUN_FILE)
        if place is not None:
            raise _unusable(folder, f"nothing can be written in {str(place)!r}") from None
        return
    except (OSError, ValueError) as error:
        raise _unusable(folder, error) from error
    for what, value in run.items():
        if there.get(what) != value:
            raise ConfigError(
                f"{str(folder)!r} has results with other {what}: {_difference(there.get(what), value)}. "
                "Use the same settings, or name another folder."
            )


def _unusable(folder: Path, reason: object) -> ConfigError:
    return ConfigError(f"cannot use {str(folder)!r} for shards: {reason}")


def _difference(before: Any, now: Any, name: str = "") -> str:
    """Say in words what differs; of stages, which options differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        names = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
        inside = f"{name}." if name else ""
        return "; ".join(_difference(before.get(key), now.get(key), f"{inside}{key}") for key in names)
    if name == "stages" and _names_of(before) == _names_of(now):
        pairs = zip(before, now, _names_of(now), strict=True)
        return "; ".join(_difference(old, new, stage) for old, new, stage in pairs if old != new)
    if name == "stages":
        before, now = _names_of(before), _names_of(now)
    return f"{name} was {before!r} and is {now!r}" if name else f"{before!r}, not {now!r}"


def _names_of(stages: Any) -> list[str]:
    return [str(table.get("name", table.get("stage"))) for table in stages or ()]


def _write_first(file: Path, text: str) -> None:
    """Write a file unless it is there; of several writers the first wins."""
    with suppress(FileChangedError), placing(file, None) as stream:
        stream.write(text.encode())


def _blocks(folder: Path, number: int | None = None) -> list[Path]:
    """Return the complete blocks in a folder, of one shard or of all, sorted; none if it is not there."""
    if not folder.is_dir():
        return []
    found = (path for path in folder.iterdir() if _BLOCK.fullmatch(path.name))
    return sorted(path for path in found if number is None or int(_block_match(path)[1]) == number)


def _block_match(path: Path) -> re.Match[str]:
    match = _BLOCK.fullmatch(path.name)
    assert match  # noqa: S101 - called for blocks only
    return match


def _rows_of(block: Path) -> dict[str, _Done]:
    with open_parquet(block) as file:
        rows = file.read(columns=["source", "source_bytes", "error"]).to_pylist()
    return {row_source(row): _Done(block, row["error"] is not None) for row in rows}
