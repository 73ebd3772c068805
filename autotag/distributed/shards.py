"""One run over many machines: each tags a shard of the images into Parquet files that a re-run completes.

Which shard an image is in depends on a hash of its path and on nothing else. A rule by the position in the
sorted list would need every machine to see the very same list: one file that arrives while the jobs start
would shift all after it, so that some images were done twice and others never. By the hash, what one machine
sees or misses changes nothing for any other image. Shards differ in size by about the square root of it.

A shard is written in blocks. A block is one file, which appears under its name whole and on the disk, or not
at all. There is no other book-keeping: what is done is what stands in the blocks, so nothing can disagree
with it after a crash. A run begins by reading which images the blocks hold, and does the others.
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

from autotag.checks import check_list
from autotag.errors import DISTRIBUTION, ConfigError, FileChangedError
from autotag.files.replacing import PartFile, appearing
from autotag.images.reading import source_of
from autotag.options import how_only
from autotag.pipeline.pipeline import Pipeline
from autotag.writers.arrow_rows import row_source, to_table
from autotag.writers.parquet_writer import open_parquet, read_parquet, write_parquet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from os import PathLike

    from autotag.records import Result

BLOCK_SIZE = 1000
"""Images per block: what a crash loses at most."""

RUN_FILE = "_autotag.json"
"""Says of a folder of shards what they are of; readers of Parquet folders leave out names that begin so."""

Image = TypeVar("Image", bound="str | PathLike[str]")
_BLOCK = re.compile(r"shard-(\d{5,})-of-(\d{5,})-block-(\d{5,})-[0-9a-f]{16}\.parquet")


@dataclass(frozen=True, slots=True)
class Shard:
    """One part of the images.

    Attributes:
        number: from 1 to ``count``.
        count: of how many parts.

    Raises:
        ConfigError: the number is not from 1 to ``count``.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise ConfigError(
                f"there is no shard {self.number}/{self.count}: shards are 1/{max(self.count, 1)} "
                f"to {max(self.count, 1)}/{max(self.count, 1)}."
            )

    @classmethod
    def parse(cls, text: str) -> Shard:
        """The shard that is written ``"3/10"``.

        Raises:
            ConfigError: it is not written so, or there is no such shard.
        """
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if not match:
            raise ConfigError(f"{text!r} is no shard; write its number and how many there are, such as 3/10.")
        return cls(int(match[1]), int(match[2]))

    def holds(self, source: str) -> bool:
        """Whether an image is in this shard: the same on every machine and in every version of Python."""
        digest = hashlib.blake2b(_encoded(source), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.count == self.number - 1


@dataclass(frozen=True, slots=True)
class _Done:
    """Where an image that was done stands."""

    block: Path
    failed: bool


class ShardWriter:
    """Writes the results of one shard in blocks; a ``Writer`` whose files a later run completes.

    Needs the extra ``autotag-images[parquet]``. Two runs of one shard at once do the same work twice and
    write the same blocks; each leaves out what the other has written meanwhile.

    Args:
        folder: where the files of all shards are; made if it is not there.
        shard: which part this is.
        config: the pipeline's, see ``autotag.pipeline.presets.to_config``.
        paths: where the images are, as the user wrote it.
        block_size: results per file, at least 1.

    Attributes:
        done: images that were done before, those with an error included.
        failed: those of them that have an error.

    Raises:
        ConfigError: pyarrow is missing; the folder is no folder, or holds results of another config, of other
            paths or of another number of shards, or a file in it is damaged.
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
        self._held: list[Result] = []
        self._seen: set[Path] = set()
        self._done: dict[str, _Done] = {}
        self._again: set[str] = set()
        to_table([])  # says now, not after the first block, that pyarrow is missing
        _claim(self._folder, self._run)
        self._look()
        self.done = len(self._done)
        self.failed = sum(done.failed for done in self._done.values())

    def missing(self, images: Iterable[Image], *, retry_errors: bool = False) -> list[Image]:
        """The images of this shard that are not done, each once, sorted by path.

        Args:
            images: those of all shards, in any order.
            retry_errors: also those that were done with an error; their rows will be replaced.

        Raises:
            ConfigError: two images go by the same name, as data URIs may.
        """
        named: dict[str, Image] = {}
        for image in images:
            source = source_of(image)
            if self._shard.holds(source) and str(named.setdefault(source, image)) != str(image):
                raise ConfigError(
                    f"two images are called {source!r}; in shards each needs a name of its own."
                )
        self._again = {source for source, done in self._done.items() if done.failed and retry_errors}
        return [named[source] for source in sorted(named) if self._is_wanted(source)]

    def write(self, result: Result, /) -> None:
        """Takes a result; every ``block_size`` of them become a file."""
        self._held.append(result)
        if len(self._held) == self._block_size:
            self._flush()

    def close(self) -> None:
        """Writes the results that are held back as a last, smaller block."""
        if self._held:
            self._flush()

    def _is_wanted(self, source: str) -> bool:
        return source not in self._done or source in self._again

    def _flush(self) -> None:
        held, self._held = self._held, []
        self._look()
        fresh = [result for result in held if result.source not in self._done]
        self._replace([result for result in held if result.source in self._again])
        if fresh:
            block = self._new_block(fresh)
            self._publish(block, fresh)
            self._seen.add(block)
            self._done |= {result.source: _Done(block, result.error is not None) for result in fresh}

    def _replace(self, results: Sequence[Result]) -> None:
        """Puts results in the place of the rows with an error that they had."""
        again = {result.source: result for result in results}
        for block in sorted({self._done[source].block for source in again}):
            self._publish(block, [again.get(old.source, old) for old in read_parquet(block)])
        self._again -= again.keys()

    def _new_block(self, results: Sequence[Result]) -> Path:
        """A name by what is in it, so that two runs that do the same work write the same file."""
        number = max((int(_block_match(path)[3]) for path in self._seen), default=-1) + 1
        names = b"\0".join(_encoded(result.source) for result in results)
        digest = hashlib.blake2b(names, digest_size=8).hexdigest()
        shard = f"shard-{self._shard.number:05}-of-{self._shard.count:05}"
        return self._folder / f"{shard}-block-{number:05}-{digest}.parquet"

    def _publish(self, block: Path, results: Sequence[Result]) -> None:
        facts = {**self._run, "autotag": version(DISTRIBUTION)}
        with appearing(block) as stream:
            write_parquet(stream, results, facts)

    def _look(self) -> None:
        """Takes note of the blocks of this shard that were not there before."""
        for block in _blocks(self._folder, self._shard.number):
            if block not in self._seen:
                self._done |= _rows_of(block)
                self._seen.add(block)


def read_shards(folder: str | PathLike[str]) -> Iterator[Result]:
    """Every result in a folder of shards, each image once, shard by shard.

    Raises:
        ConfigError: pyarrow is missing, this is no folder of shards, or a file in it is damaged.
    """
    if not (Path(folder) / RUN_FILE).is_file():
        raise ConfigError(f"{str(folder)!r} is no folder of shards: it has no {RUN_FILE}.")
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
    """A path as bytes, also one that is no UTF-8."""
    return source.encode("utf-8", "surrogateescape")


def _run(shard: Shard, config: Mapping[str, Any], paths: Sequence[str]) -> dict[str, Any]:
    """What all shards of one run have in common, as JSON reads it back."""
    how = how_only(Pipeline)
    answer = {name: value for name, value in config.items() if name not in how}
    run = {"shards": shard.count, "paths": list(paths), "config": answer}
    read_back: dict[str, Any] = json.loads(json.dumps(run))
    return read_back


def _claim(folder: Path, run: Mapping[str, Any]) -> None:
    """Makes the folder one of this run, unless it is one, and refuses that of another run.

    Raises:
        ConfigError: it is of another run, or is no folder.
    """
    file = folder / RUN_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            _write_first(file, json.dumps(run, indent=2) + "\n")
        there = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot use {str(folder)!r} for shards: {error}") from error
    for what, value in run.items():
        if there.get(what) != value:
            raise ConfigError(
                f"{str(folder)!r} holds results with other {what}: {_difference(there.get(what), value)}. "
                "Run as before, or name another folder."
            )


def _difference(before: Any, now: Any) -> str:
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return f"{before!r}, not {now!r}"
    names = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    return "; ".join(f"{name} was {before.get(name)!r} and is {now.get(name)!r}" for name in names)


def _write_first(file: Path, text: str) -> None:
    """Write a file unless it is there; of several writers the first wins."""
    with PartFile(file) as part:
        part.write(text.encode())
        part.sync()
        with suppress(FileChangedError):
            part.place(None)


def _blocks(folder: Path, number: int | None = None) -> list[Path]:
    """The whole blocks in a folder, of one shard or of all, sorted."""
    found = (path for path in folder.iterdir() if _BLOCK.fullmatch(path.name))
    return sorted(path for path in found if number is None or int(_block_match(path)[1]) == number)


def _block_match(path: Path) -> re.Match[str]:
    match = _BLOCK.fullmatch(path.name)
    assert match  # noqa: S101 - only blocks are asked
    return match


def _rows_of(block: Path) -> dict[str, _Done]:
    with open_parquet(block) as file:
        rows = file.read(columns=["source", "source_bytes", "error"]).to_pylist()
    return {row_source(row): _Done(block, row["error"] is not None) for row in rows}
