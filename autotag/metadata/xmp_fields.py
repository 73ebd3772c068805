"""Name the properties of XMP that autotag reads and writes, and the fields of keywords among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from autotag.metadata.regions import PREFIXES

if TYPE_CHECKING:
    from autotag.metadata.keywords import KeywordPath
    from autotag.metadata.xmp_packet import MachineTag

KeywordField = Literal["dc:subject", "lr:hierarchicalSubject", "digiKam:TagsList"]
Kind = Literal["Added", "Copied"]
KEYWORD_FIELDS: tuple[KeywordField, ...] = ("dc:subject", "lr:hierarchicalSubject", "digiKam:TagsList")
"""The fields that keywords are written to."""

NAMESPACE = "https://github.com/autotag/autotag/xmp/1.0/"
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_DC = "http://purl.org/dc/elements/1.1/"
_LR = "http://ns.adobe.com/lightroom/1.0/"
_DIGIKAM = "http://www.digikam.org/ns/1.0/"
_ACDSEE = "http://ns.acdsee.com/iptc/1.0/"
PHOTOSHOP = "http://ns.adobe.com/photoshop/1.0/"
PREFERRED_PREFIXES = {
    RDF: "rdf",
    _DC: "dc",
    _LR: "lr",
    _DIGIKAM: "digiKam",
    PHOTOSHOP: "photoshop",
    NAMESPACE: "autotag",
    **PREFIXES,
}

DESCRIPTION = f"{{{_DC}}}description"
SIDECAR_FOR = f"{{{PHOTOSHOP}}}SidecarForExtension"
TOOLKIT = "{adobe:ns:meta/}xmptk"
LI = f"{{{RDF}}}li"


@dataclass(frozen=True, slots=True)
class Field:
    """A keyword field: name, label of autotag's lists for it, and the separator between parts of a path."""

    name: str
    label: str
    container: str
    separator: str = ""
    every_prefix: bool = False

    def path(self, value: str) -> KeywordPath:
        return tuple(value.split(self.separator)) if self.separator else (value,)

    def entry(self, path: KeywordPath) -> str | None:
        """Return the entry for a path; None if the field cannot hold it."""
        if not self.separator:
            return path[-1]
        return None if any(self.separator in part for part in path) else self.separator.join(path)


SUBJECT = Field(f"{{{_DC}}}subject", "Subject", "Bag")
_HIERARCHY = Field(f"{{{_LR}}}hierarchicalSubject", "Hierarchy", "Bag", "|", every_prefix=True)
_TAGS_LIST = Field(f"{{{_DIGIKAM}}}TagsList", "TagsList", "Seq", "/")
WRITTEN = (SUBJECT, _HIERARCHY, _TAGS_LIST)
FIELDS = dict(zip(KEYWORD_FIELDS, WRITTEN, strict=True))
READ_ONLY = (
    Field("{http://ns.microsoft.com/photo/1.0}LastKeywordXMP", "", "Bag", "/"),
    Field("{http://ns.microsoft.com/photo/1.0/}LastKeywordXMP", "", "Bag", "/"),
    Field("{http://ns.microsoft.com/photo/1.0}LastKeywordIPTC", "", "Bag", "/"),
    Field("{http://ns.microsoft.com/photo/1.0/}LastKeywordIPTC", "", "Bag", "/"),
    Field("{http://ns.iview-multimedia.com/mediapro/1.0/}CatalogSets", "", "Bag", "|"),
    Field(f"{{{_ACDSEE}}}keywords", "", "Bag"),
)
KINDS: tuple[Kind, ...] = ("Added", "Copied")
COPIED_FROM = "CopiedFrom"
IDS = "Id"
ECHOED = "Echoed"
THIS_FILE, UNKNOWN_FILE = ".", "?"
"""Sources of copies: the file of the packet itself, and one that an old record does not name."""
REFUSALS = ("Refused", "CopiesRefused", "DescriptionRefused")
CATEGORIES = f"{{{_ACDSEE}}}categories"


def path_in(one: Field, tag: MachineTag) -> KeywordPath:
    """Return the path under which a field holds a tag."""
    return tag.whole_path if one.separator else (tag.text,)
