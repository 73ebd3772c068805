"""Write a planned change, or refuse if a file changed after the plan was made."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from autotag.errors import FileChangedError, MetadataError
from autotag.files.file_states import sha256
from autotag.files.replacing import remove_file, replace_file
from autotag.files.system_calls import SYSTEM
from autotag.metadata.planning import plan_tags

if TYPE_CHECKING:
    from autotag.files.system_calls import SystemCalls
    from autotag.metadata.changes import FileChange, MetadataChange
    from autotag.metadata.exiftool import Exiftool


def apply_change(
    change: MetadataChange,
    *,
    touch: bool = False,
    exiftool: Exiftool | None = None,
    calls: SystemCalls = SYSTEM,
) -> tuple[str, ...]:
    """Write a planned change file by file; each file is written completely or not at all.

    Save the change, or its ``to_dict``, before calling this: after an error or a crash between two files,
    ``undo_change`` restores the files that were written.

    Args:
        change: from ``plan_tags``, also after a round trip through JSON.
        touch: whether a photograph gets a new modification time (sidecars always do).
        exiftool: as for ``plan_tags``, for a change that comes from JSON.
        calls: the operating system; tests replace it.

    Returns:
        Warnings, as whole sentences.

    Raises:
        FileChangedError: a file changed after the change was planned.
        FileBusyError: another run writes the file.
        MetadataError: the file is read-only, or reads back with other content.
        OSError: the system refused; the file that was being written is unchanged.
    """
    files = _with_contents(change, exiftool, calls).files
    photograph = os.path.realpath(change.path)
    warnings: list[str] = []
    for one in files:
        if one.content is None:
            _remove(one, calls)
            continue
        keep_time = one.path == photograph and not touch
        said = replace_file(
            Path(one.path),
            one.content,
            expected=one.before,
            verify=partial(_compare, one),
            touch=not keep_time,
            calls=calls,
        )
        warnings += [f"{one.path}: {warning}" for warning in said]
    return tuple(warnings)


def _with_contents(change: MetadataChange, exiftool: Exiftool | None, calls: SystemCalls) -> MetadataChange:
    """Return the change with the contents that JSON leaves out, planned again.

    Raises:
        FileChangedError: planning again gives a different change.
    """
    if all(one.content is not None or one.sha256_after is None for one in change.files):
        return change
    again = plan_tags(
        change.path,
        change.tags,
        change.description,
        embed=change.embed,
        naming=change.naming,
        fields=change.fields,
        regions=change.regions,
        keywords=change.keywords,
        refused=change.refused,
        description_by_person=change.description_by_person,
        refused_description=change.refused_description,
        exiftool=exiftool,
        date=change.date,
        calls=calls,
    )
    if again.files != change.files:
        raise FileChangedError(change.path, "it or its sidecar changed since the plan was made; plan again")
    return again


def _remove(one: FileChange, calls: SystemCalls) -> None:
    if one.before is not None:
        remove_file(Path(one.path), expected=one.before, calls=calls)


def _compare(one: FileChange, content: bytes) -> None:
    """Refuse content that differs from the plan."""
    if sha256(content) != one.sha256_after:
        raise MetadataError(one.path, "the written content is not the planned content")
