"""Files of results of a whole album: written anew from the ledger, and replaced only when they differ."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from autotag.batch.writing import reason_of
from autotag.errors import AutotagError, ConfigError
from autotag.file_changes import OutputChange, digest_of
from autotag.metadata.safe_files import part_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from autotag.album_state import Ledger
    from autotag.batch.reports import AlbumSummary
    from autotag.batch.writers import Output
    from autotag.journal import Journal
    from autotag.records import Result

    Rows = Callable[[Output], Iterator[tuple[str, Result]]]


def check_outputs(outputs: Sequence[Output], ledger: Ledger) -> None:
    """Refuses to replace a file that is not as autotag left it.

    Raises:
        ConfigError: there is one.
    """
    for output in outputs:
        found = digest_of(output.path) if output.path.exists() else ""
        if found and found != ledger.output_digest(output.path.resolve()):
            raise ConfigError(
                f"{str(output.path)!r} is there already and not as autotag left it; move it away, "
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
    """Writes each file of results beside its place and puts it there if it says something else than before.

    A file that cannot be written is one failure in the summary; the others are written.

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
            ledger.keep_output(path, ledger.output_digest(path))  # so that a kill leaves nothing unknown
            digest = _written(output, path, rows, root)
            if digest != digest_of(path):
                steps = journal.begin([change := OutputChange(path, digest)])
                change.apply()
                ledger.keep_output(path, digest)
                journal.done(steps)
                summary.outputs.append(str(output.path))
            ledger.keep_output(path, digest)
        except (AutotagError, OSError) as error:
            summary.failed += 1
            summary.output_errors.append((str(output.path), reason_of(error)))
        finally:
            part_path(path).unlink(missing_ok=True)


def _written(output: Output, path: Path, rows: Rows, root: Path) -> str:
    """Digest of what was written to the hidden file, which is on the disk."""
    part = part_path(path)
    text = {} if output.binary else {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
    with part.open("wb" if output.binary else "w", **text) as stream:  # type: ignore[call-overload]
        writer = output.make(stream)
        here = os.path.relpath(root.resolve(), path.parent)
        prefix = "" if here == "." else Path(here).as_posix() + "/"
        for name, result in rows(output):
            writer.write(replace(result, source=prefix + name))
        writer.close()
        stream.flush()
        os.fsync(stream.fileno())
    return digest_of(part)
