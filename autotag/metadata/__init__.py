"""Metadata of photographs: read every keyword, write tags as XMP, and lose nothing.

``plan_tags`` returns what would change, ``apply_change`` writes it, ``undo_change`` undoes it.
"""

from autotag.files.file_states import FileState, state_of
from autotag.files.replacing import remove_file, replace_file
from autotag.files.system_calls import SystemCalls
from autotag.metadata.applying import apply_change
from autotag.metadata.changes import FileChange, MetadataChange
from autotag.metadata.exiftool import Exiftool
from autotag.metadata.existing import Existing, read_existing
from autotag.metadata.keywords import Keywords
from autotag.metadata.planning import plan_tags
from autotag.metadata.regions import Region, Regions
from autotag.metadata.sidecars import SidecarNaming, sidecar_stamp, sidecars_of
from autotag.metadata.undoing import undo_change
from autotag.metadata.xmp import (
    KEYWORD_FIELDS,
    KeywordField,
    MachineTag,
    Packet,
    Refusals,
    read_packet,
    with_machine_tags,
    without_machine_tags,
)

__all__ = [
    "KEYWORD_FIELDS",
    "Exiftool",
    "Existing",
    "FileChange",
    "FileState",
    "KeywordField",
    "Keywords",
    "MachineTag",
    "MetadataChange",
    "Packet",
    "Refusals",
    "Region",
    "Regions",
    "SidecarNaming",
    "SystemCalls",
    "apply_change",
    "plan_tags",
    "read_existing",
    "read_packet",
    "remove_file",
    "replace_file",
    "sidecar_stamp",
    "sidecars_of",
    "state_of",
    "undo_change",
    "with_machine_tags",
    "without_machine_tags",
]
