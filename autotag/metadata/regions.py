"""Boxes in a photograph as regions of the Metadata Working Group, ``mwg-rs:Regions``.

The machine's regions are written where there are no others. Two lists in autotag's namespace belong to them:

- ``RegionsAdded``: a digest of the property as it was written. As long as it fits, the regions are the
  machine's; the next run replaces them and undo removes them. Once another program changes one of them, adds
  one or removes one, all of them are a person's, and are never touched;
- ``RegionsRefused``: another program changed or removed the machine's regions; none are written again.

Source: Guidelines for Handling Image Metadata, version 2.0 (Metadata Working Group, 2010), section 5.9. Areas
are centres and sizes as parts of the picture as it is stored, before it is turned upright, as digiKam writes
them, and ``AppliedToDimensions`` is the size of the stored picture. Regions have no ``Type``: the standard
has types for faces, pets, focus points and bar codes only.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import quoteattr

from autotag.config.checks import check_row
from autotag.metadata.keywords import clean
from autotag.metadata.xml_nodes import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from autotag.metadata.xml_nodes import Node

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_XML = "http://www.w3.org/XML/1998/namespace"
_REGIONS = "http://www.metadataworkinggroup.com/schemas/regions/"
_DIMENSIONS = "http://ns.adobe.com/xap/1.0/sType/Dimensions#"
_AREA = "http://ns.adobe.com/xmp/sType/Area#"
PREFIXES = {_REGIONS: "mwg-rs", _DIMENSIONS: "stDim", _AREA: "stArea"}
"""The usual prefixes of the namespaces that are written."""

PROPERTY = f"{{{_REGIONS}}}Regions"
OTHER_PROPERTIES = (
    "{http://ns.microsoft.com/photo/1.2/}RegionInfo",
    "{http://ns.acdsee.com/regions/}Regions",
    "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}ImageRegion",
    "{http://ns.apple.com/faceinfo/1.0/}Regions",
)
"""Regions of other standards, which autotag never writes: who has them has regions of a person."""

MOST_REGIONS = 100
_DECIMALS = 5
_WRAPPERS = frozenset(f"{{{_RDF}}}{kind}" for kind in ("Description", "Bag", "Seq", "Alt"))
_LARGEST = 2**18  # bytes
_EDGES = ("left", "top", "right", "bottom")
_Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Region:
    """A box in a photograph.

    Attributes:
        label: what is in it.
        score: probability in [0, 1].
        box: left, top, right, bottom, as parts of the picture's width and height.
    """

    label: str
    score: float
    box: _Box


@dataclass(frozen=True, slots=True)
class Regions:
    """The boxes of a photograph, at most 100.

    Attributes:
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        regions: best first.
    """

    width: int
    height: int
    regions: tuple[Region, ...]

    @classmethod
    def of_boxes(cls, size: tuple[int, int], boxes: Iterable[tuple[str, float, _Box]]) -> Regions | None:
        """Return the best boxes, given in pixels; None without any inside the picture.

        Args:
            size: width and height of the upright picture in pixels.
            boxes: label, score, and left, top, right, bottom. They are cut at the edges of the picture.
        """
        wide, high = size
        found = []
        for label, score, (left, top, right, bottom) in boxes:
            across = [min(max(edge / max(wide, 1), 0.0), 1.0) for edge in (left, right)]
            down = [min(max(edge / max(high, 1), 0.0), 1.0) for edge in (top, bottom)]
            if across[0] < across[1] and down[0] < down[1] and clean(label):
                found.append(Region(clean(label), float(score), (across[0], down[0], across[1], down[1])))
        found.sort(key=lambda region: -region.score)
        return cls(wide, high, tuple(found[:MOST_REGIONS])) if found else None

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Regions:
        """Return the regions from the dictionary that ``to_dict`` made.

        Raises:
            ConfigError: a field is unknown, missing or of another type.
        """
        check_row("the regions of a photograph", row, width="whole", height="whole", regions="list")
        found = []
        for one in row["regions"]:
            check_row("a region", one, label="text", score="number", box="list")
            edges = dict(zip(_EDGES, one["box"], strict=False))
            check_row("the box of a region", edges, **dict.fromkeys(_EDGES, "number"))
            found.append(Region(one["label"], one["score"], _box(edges)))
        return cls(row["width"], row["height"], tuple(found))

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary of JSON types."""
        rows = [{**asdict(region), "box": list(region.box)} for region in self.regions]
        return {"width": self.width, "height": self.height, "regions": rows}

    def as_stored(self, orientation: int) -> Regions:
        """Return the regions of an upright picture as they are in the picture that is stored.

        Args:
            orientation: of the stored picture as in EXIF, 1 to 8.
        """
        turned = tuple(replace(one, box=_stored(one.box, orientation)) for one in self.regions)
        if orientation >= 5:
            return Regions(self.height, self.width, turned)
        return replace(self, regions=turned)

    def xml(self, prefix: Callable[[str], str], rdf: str) -> str:
        """Return the property ``mwg-rs:Regions``.

        Args:
            prefix: returns the prefix for a namespace.
            rdf: the prefix of RDF.
        """
        own, size, area = map(prefix, (_REGIONS, _DIMENSIONS, _AREA))
        stored = f'{size}:w="{self.width}" {size}:h="{self.height}" {size}:unit="pixel"'
        lines = [
            f'  <{own}:Regions {rdf}:parseType="Resource">',
            f"   <{own}:AppliedToDimensions {stored}/>",
            f"   <{own}:RegionList>",
            f"    <{rdf}:Bag>",
        ]
        for one in self.regions:
            left, top, right, bottom = one.box
            edges = {
                "x": (left + right) / 2,
                "y": (top + bottom) / 2,
                "w": right - left,
                "h": bottom - top,
            }
            numbers = " ".join(f'{area}:{name}="{value:.{_DECIMALS}f}"' for name, value in edges.items())
            said = quoteattr(f"detected by autotag, {one.score:.2f}")
            lines += [
                f"     <{rdf}:li>",
                f"      <{rdf}:Description {own}:Name={quoteattr(one.label)} {own}:Description={said}>",
                f'       <{own}:Area {numbers} {area}:unit="normalized"/>',
                f"      </{rdf}:Description>",
                f"     </{rdf}:li>",
            ]
        lines += [f"    </{rdf}:Bag>", f"   </{own}:RegionList>", f"  </{own}:Regions>"]
        return "\n".join(lines)

    def digest(self) -> str:
        """Return ``digest_of`` the property."""
        declared = "".join(f' xmlns:{prefix}="{uri}"' for uri, prefix in {**PREFIXES, _RDF: "rdf"}.items())
        xml = self.xml(PREFIXES.__getitem__, "rdf")
        return digest_of(parse(f"<x{declared}>{xml}</x>".encode()).root.children[0])


def digest_of(node: Node) -> str:
    """Return a digest of what a property says, however it is spelt in RDF; empty for more than 256 KiB."""
    if node.end - node.start > _LARGEST:
        return ""
    return sha256(repr(_said(node)).encode()).hexdigest()[:32]


def _said(node: Node) -> object:
    """Return the fields and entries inside an element without regard to their order, or its text."""
    found: list[tuple[str, object]] = [
        (name, value.strip())
        for name, value in node.attributes.items()
        if not name.startswith((f"{{{_RDF}}}", f"{{{_XML}}}"))
    ]
    for child in node.children:
        inside = _said(child)
        if child.name not in _WRAPPERS:
            found.append((child.name, inside))
        elif isinstance(inside, list):
            found += inside
    return sorted(found, key=repr) if found or node.children else node.text.strip()


def _stored(box: _Box, orientation: int) -> _Box:
    """Return a box of the upright picture as it is in a stored picture with this orientation."""
    across, down = (box[0], box[2]), (box[1], box[3])
    if orientation >= 5:
        across, down = down, across
    if orientation in {2, 3, 7, 8}:
        across = (1 - across[1], 1 - across[0])
    if orientation in {3, 4, 6, 7}:
        down = (1 - down[1], 1 - down[0])
    return across[0], down[0], across[1], down[1]


def _box(edges: Mapping[str, float]) -> _Box:
    return edges["left"], edges["top"], edges["right"], edges["bottom"]
