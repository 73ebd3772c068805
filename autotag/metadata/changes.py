"""The changes to a photograph's metadata, as plain data that a journal can keep.

``autotag.metadata.planning`` makes them, ``applying`` writes them, ``undoing`` takes them back.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from autotag.config.checks import check_choice, check_row
from autotag.files.file_states import FileState
from autotag.metadata.deltas import Delta, delta_from_json, delta_to_json
from autotag.metadata.keywords import Keywords, fold
from autotag.metadata.regions import Regions
from autotag.metadata.sidecars import SidecarNaming
from autotag.metadata.xmp import KEYWORD_FIELDS, KeywordField, MachineTag

if TYPE_CHECKING:
    from collections.abc import Mapping

ChangeKind = Literal["sidecar", "embedded", "unchanged"]


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file of a change.

    Attributes:
        path: the file, links resolved.
        before: the state of the file when the change was planned; None for a new file.
        sha256_before: digest of its content then; None for a new file.
        sha256_after: digest of the new content; None when the file is removed.
        undo: rebuilds the old content from the new content; None for a new file, or when the delta itself
            would hold more than 4 MiB.
        content: the new content; None when the file is removed, or after a round trip through JSON.
    """

    path: str
    before: FileState | None
    sha256_before: str | None
    sha256_after: str | None
    undo: Delta | None
    content: bytes | None = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary of JSON types, without ``content``."""
        return {
            "path": self.path,
            "before": asdict(self.before) if self.before else None,
            "sha256_before": self.sha256_before,
            "sha256_after": self.sha256_after,
            "undo": None if self.undo is None else delta_to_json(self.undo),
        }

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> FileChange:
        """Return the change from the dictionary that ``to_dict`` made.

        Raises:
            ConfigError: a field is unknown, missing or of another type.
        """
        what = "a changed file"
        check_row(
            what, row, path="text", before="row?", sha256_before="text?", sha256_after="text?", undo="list?"
        )
        if row["before"] is not None:
            whole = dict.fromkeys(("size", "mtime_ns", "inode", "device"), "whole")
            check_row(f"{what}: the state before", row["before"], **whole)
        return cls(
            path=row["path"],
            before=FileState(**row["before"]) if row["before"] else None,
            sha256_before=row["sha256_before"],
            sha256_after=row["sha256_after"],
            undo=None if row["undo"] is None else delta_from_json(row["undo"]),
        )


@dataclass(frozen=True, slots=True)
class MetadataChange:
    """The change that tagging makes to one photograph.

    Attributes:
        path: the photograph, as given to ``plan_tags``.
        kind: ``"embedded"`` when the photograph itself changes (its sidecars, if it has some, do too),
            ``"sidecar"`` when only sidecars change, ``"unchanged"`` when no file changes.
        files: the files that change, in the order of writing.
        tags: the tags given to ``plan_tags``, also where people gave the same keywords.
        description: the description given to ``plan_tags``.
        added: the tags that are new in the photograph's metadata.
        keywords_before: every keyword that the photograph has, in any field or sidecar.
        keywords_after: every keyword that it will have.
        warnings: whole sentences for the user: why not embedded, what is shared, what is left out.
        embed: the argument of ``plan_tags``.
        naming: the argument of ``plan_tags``.
        fields: the argument of ``plan_tags``.
        date: the date of new records, ISO 8601.
        regions: the argument of ``plan_tags``.
        keywords: the argument of ``plan_tags``.
        refused: the argument of ``plan_tags``.
        description_by_person: the argument of ``plan_tags``.
        refused_description: the argument of ``plan_tags``.
        adds_description: whether a file gets the description that had none of the machine.
    """

    path: str
    kind: ChangeKind
    files: tuple[FileChange, ...]
    tags: tuple[MachineTag, ...]
    description: str = ""
    added: tuple[str, ...] = ()
    keywords_before: tuple[str, ...] = ()
    keywords_after: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    embed: bool = False
    naming: SidecarNaming = "auto"
    date: str = ""
    fields: tuple[KeywordField, ...] = KEYWORD_FIELDS
    regions: Regions | None = None
    adds_description: bool = False
    keywords: Keywords = field(default_factory=Keywords)
    refused: tuple[str, ...] = ()
    description_by_person: bool = False
    refused_description: str = ""

    @property
    def removed(self) -> tuple[str, ...]:
        """Return the keywords that the photograph has in no field or sidecar any more."""
        left = set(map(fold, self.keywords_after))
        return tuple(word for word in self.keywords_before if fold(word) not in left)

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary of JSON types, without the new content of the files."""
        plain = {
            name: getattr(self, name) for name in ("path", "kind", "description", "embed", "naming", "date")
        }
        paths = self.keywords.as_paths()
        lists = ("added", "keywords_before", "keywords_after", "warnings", "fields")
        return {
            **plain,
            **{name: list(getattr(self, name)) for name in lists},
            "tags": [{**asdict(tag), "path": list(tag.path)} for tag in self.tags],
            "files": [one.to_dict() for one in self.files],
            **({} if self.regions is None else {"regions": self.regions.to_dict()}),
            **({"adds_description": True} if self.adds_description else {}),
            **({"keywords": [{"path": list(path)} for path in paths]} if paths else {}),
            **({"refused": list(self.refused)} if self.refused else {}),
            **({"description_by_person": True} if self.description_by_person else {}),
            **({"refused_description": self.refused_description} if self.refused_description else {}),
        }

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> MetadataChange:
        """Return the change from the dictionary that ``to_dict`` made, without the new content.

        Raises:
            ConfigError: a field is unknown, missing or of another type.
        """
        texts = dict.fromkeys(("added", "keywords_before", "keywords_after", "warnings", "fields"), "texts")
        words = dict.fromkeys(("path", "kind", "description", "naming", "date"), "text")
        kinds = {"regions": "row", "adds_description": "flag", "keywords": "list", "refused": "texts"}
        kinds |= {"description_by_person": "flag", "refused_description": "text"}
        there = {name: kind for name, kind in kinds.items() if isinstance(row, dict) and name in row}
        check_row(
            "a change of metadata", row, **texts, **words, **there, embed="flag", tags="list", files="list"
        )
        check_choice("naming", row["naming"], get_args(SidecarNaming))
        check_choice("kind", row["kind"], get_args(ChangeKind))
        for name in row["fields"]:
            check_choice("fields", name, KEYWORD_FIELDS)
        tag_words = dict.fromkeys(("text", "model", "version", "date"), "text")
        for tag in row["tags"]:
            check_row("a machine's tag", tag, **tag_words, score="number", path="texts", in_iptc="flag")
        for keyword in row.get("keywords", ()):
            check_row("a keyword", keyword, path="texts")
        return cls(
            path=row["path"],
            kind=row["kind"],
            description=row["description"],
            added=tuple(row["added"]),
            keywords_before=tuple(row["keywords_before"]),
            keywords_after=tuple(row["keywords_after"]),
            warnings=tuple(row["warnings"]),
            embed=row["embed"],
            naming=row["naming"],
            date=row["date"],
            fields=tuple(row["fields"]),
            tags=tuple(MachineTag(**{**tag, "path": tuple(tag["path"])}) for tag in row["tags"]),
            files=tuple(FileChange.from_dict(one) for one in row["files"]),
            regions=Regions.from_dict(row["regions"]) if "regions" in there else None,
            adds_description=row.get("adds_description", False),
            keywords=Keywords.of_paths(tuple(keyword["path"]) for keyword in row.get("keywords", ())),
            refused=tuple(row.get("refused", ())),
            description_by_person=row.get("description_by_person", False),
            refused_description=row.get("refused_description", ""),
        )
