"""Result files of a whole album: written from the ledger, and replaced only when they differ."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from autotag.albums.state.changes import OutputChange
from autotag.albums.writing import reason_of
from autotag.errors import AutotagError, ConfigError, FileChangedError
from autotag.files.file_states import digest_of, lies_in, state_of
from autotag.files.hidden_files import numbered
from autotag.files.replacing import PartFile
from autotag.files.system_calls import is_there

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from autotag.albums.album_writers import Output
    from autotag.albums.reports import AlbumSummary
    from autotag.albums.state.journal import Journal
    from autotag.albums.state.ledger import Ledger
    from autotag.records import Result

    Rows = Callable[[Output], Iterator[tuple[str, Result]]]


def check_outputs(outputs: Sequence[Output], ledger: Ledger, *, root: Path, state: Path) -> None:
    """Refuse result files that would replace a user's file, or that could not be undone.

    Args:
        outputs: the files.
        ledger: knows what autotag left.
        root: the album's folder.
        state: where its state is. A state inside the album may be anybody's and holds no files outside.

    Raises:
        ConfigError: a result file is refused.
    """
    for output in outputs:
        path = output.path.resolve()
        if lies_in(state, root) and not lies_in(path, root):
            raise ConfigError(
                f"{str(output.path)!r} is outside the album, which keeps its state in its own folder "
                f"{state.name!r}; name a file in the album, or keep the state elsewhere with --state."
            )
        if is_there(path) and not _is_ours(path, ledger):
            raise ConfigError(
                f"{str(output.path)!r} exists already, and autotag did not write this version; move it away, "
                f"or name another file: {output.name}=FILE."
            )


def write_outputs(
    outputs: Sequence[Output],
    rows: Rows,
    *,
    root: Path,
    ledger: Ledger,
    journal: Journal,
    summary: AlbumSummary,
) -> None:
    """Write each result file, and replace the existing one only if the content differs.

    A file that cannot be written is one failure in the summary; the others are written. A file that
    somebody else put there during the run is kept: the results then go beside it, under a numbered name.

    Args:
        outputs: the files.
        rows: gives name and result of each photograph that a file is to hold.
        root: what the names are relative to.
        ledger: remembers what was left.
        journal: is told before a file is put in its place.
        summary: takes in what was done.
    """
    for output in outputs:
        path = output.path.resolve()
        try:
            ledger.keep_output(path, ledger.output_digest(path))  # so that after a kill the file is known
            with PartFile(path) as part:
                digest = _written(output, part, rows, root)
                if digest == digest_of(path):
                    ledger.keep_output(path, digest)
                else:
                    placed = _place(part, digest, ledger, journal)
                    summary.outputs.append(str(output.path if placed == path else placed))
                    if placed != path:
                        summary.notes.append(
                            f"{path}: another program changed it, so it is not overwritten; "
                            f"the results are in {placed.name}."
                        )
        except (AutotagError, OSError) as error:
            summary.failed += 1
            summary.output_errors.append((str(output.path), reason_of(error)))


def _place(part: PartFile, digest: str, ledger: Ledger, journal: Journal) -> Path:
    """Move a result file to its place, or beside a user's file there; return its path."""
    for path in chain([part.target], numbered(part.target)):
        state = state_of(path)
        if is_there(path) and not _is_ours(path, ledger):
            continue
        change = OutputChange(path, digest, ledger.output_digest(path) if state else "", part, state)
        steps = journal.begin([change])
        try:
            change.apply()
        except FileChangedError:
            journal.failed(steps)
            continue
        ledger.keep_output(path, digest)
        journal.done(steps)
        return path
    raise AssertionError("the numbers never run out")  # pragma: no cover


def _is_ours(path: Path, ledger: Ledger) -> bool:
    """Return whether a result file is as autotag left it."""
    known = ledger.output_digest(path)
    return bool(known) and path.is_file() and digest_of(path) == known


def _written(output: Output, part: PartFile, rows: Rows, root: Path) -> str:
    """Write and fsync the hidden file; return the digest of its content."""
    with part.stream(binary=output.binary) as stream:
        writer = output.make(stream)
        here = os.path.relpath(root.resolve(), part.target.parent)
        prefix = "" if here == "." else Path(here).as_posix() + "/"
        for name, result in rows(output):
            writer.write(replace(result, source=prefix + name))
        writer.close()
        stream.flush()
        part.sync()
    return digest_of(part.path)
