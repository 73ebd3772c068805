"""What autotag reads from one XMP packet, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from autotag.metadata.keywords import KeywordPath, Keywords, each_once, fold


@dataclass(frozen=True, slots=True)
class MachineTag:
    """A tag in the record that autotag keeps inside a photograph's XMP.

    Attributes:
        text: the keyword.
        score: the score of the last stage that scored it; four decimals are kept.
        model: the preset or model that proposed or scored it.
        version: the version of autotag that wrote it.
        date: when it was first written with these values, ISO 8601; if empty, the writer fills it in.
        path: the keyword and its parents in a hierarchy, outermost first; empty without a hierarchy.
        in_iptc: whether it was also added to the IPTC keywords of the file.
    """

    text: str
    score: float
    model: str = ""
    version: str = ""
    date: str = ""
    path: KeywordPath = ()
    in_iptc: bool = False

    @property
    def whole_path(self) -> KeywordPath:
        """Return the path, or the keyword alone where there is none."""
        return self.path or (self.text,)


@dataclass(frozen=True, slots=True)
class Refusals:
    """Entries that autotag wrote and another program removed; autotag does not write them again.

    Attributes:
        tags: removed machine tags.
        copies: people's keywords whose copy was removed; the original stays.
        descriptions: removed machine descriptions.
    """

    tags: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()
    descriptions: tuple[str, ...] = ()

    def __or__(self, other: Refusals) -> Refusals:
        return Refusals(
            each_once((*self.tags, *other.tags)),
            each_once((*self.copies, *other.copies)),
            each_once((*self.descriptions, *other.descriptions)),
        )

    def for_keywords(self, by_people: Keywords) -> Refusals:
        """Return the refusals without copies of keywords that people have deleted since."""
        there = by_people.leaves()
        return replace(self, copies=tuple(word for word in self.copies if fold(word) in there))

    def __bool__(self) -> bool:
        return bool(self.tags or self.copies or self.descriptions)


@dataclass(frozen=True, slots=True)
class Packet:
    """The metadata that autotag reads from one XMP packet.

    Attributes:
        keywords: every keyword.
        by_people: every keyword except the ones that the machine added or copied.
        by_people_or_copied: every keyword except the ones that the machine added.
        copied_from: the files that the copies came from, by their ids, see ``autotag.metadata.copies``.
        ids: by which records of copies in other files know this file.
        description: the description in the default language; empty when there is none.
        description_by_people: False when the machine wrote the description and nobody changed it.
        machine_tags: the machine's record, in the order of writing.
        refusals: what another program removed, since the last run or before.
        echoed: earlier machine tags that another program copied into fields that autotag does not write.
        has_regions_by_people: whether there are regions other than unchanged ones of the machine.
        regions_refused: whether another program changed or removed the machine's regions.
        orientation: ``tiff:Orientation``, 1 to 8; 0 without one.
        sidecar_for: the file extension in ``photoshop:SidecarForExtension``, or empty.
        extended: the id of the extended XMP that continues this packet, or empty.
        provenance: the place of the file's Content Credentials, or empty.
    """

    keywords: Keywords = field(default_factory=Keywords)
    by_people: Keywords = field(default_factory=Keywords)
    by_people_or_copied: Keywords = field(default_factory=Keywords)
    copied_from: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    description: str = ""
    description_by_people: bool = False
    machine_tags: tuple[MachineTag, ...] = ()
    refusals: Refusals = field(default_factory=Refusals)
    echoed: tuple[str, ...] = ()
    has_regions_by_people: bool = False
    regions_refused: bool = False
    orientation: int = 0
    sidecar_for: str = ""
    extended: str = ""
    provenance: str = ""

    @property
    def refused(self) -> tuple[str, ...]:
        """Return the machine tags that a person deleted."""
        return self.refusals.tags

    @property
    def may_be_echoed(self) -> tuple[str, ...]:
        """Return the machine tags, also earlier ones, that other programs may have copied to other fields."""
        return each_once((*self.echoed, *(tag.text for tag in self.machine_tags)))

    def echoes(self) -> set[str]:
        """Return the ``fold`` of the tags that may be echoed."""
        return set(map(fold, self.may_be_echoed))


def undated(tag: MachineTag) -> MachineTag:
    """Return a tag without its date."""
    return replace(tag, date="")
