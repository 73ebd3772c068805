"""Rules for an album: denied words, replacements, synonyms, a hierarchy; what flagged photographs get.

One TOML file::

    always = ["autotag"]
    deny = ["picture", "*photo*"]
    parent = "AI"
    prefer_my_keywords = true
    hierarchy = ["things", "pet|Bella"]
    flagged_tag = "to be looked at"
    flagged_write = ["csv"]

    [replacements]
    automobile = "car"

    [synonyms]
    dog = ["hound"]

Words are compared without case, as ``autotag.metadata`` compares keywords; a tag in another language is also
known by its concept: ``deny = ["dog"]`` drops "Hund", and ``"pet|dog"`` makes ``pet|Hund``. In this order:
replacements; a person's own spelling; the deny list; synonyms; the tag of flagged photographs and what is
always there, in front; the hierarchy, then a person's own tree, then that of things; the parent. A tag that
comes twice keeps its best place. Boxes of detections are replaced and denied by their labels, likewise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence  # noqa: TC003 - a config is converted by the annotations
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from autotag.config import options
from autotag.errors import ConfigError
from autotag.files.toml_files import read_toml
from autotag.language.english import singular
from autotag.metadata.keywords import clean, fold
from autotag.records import Tag
from autotag.vocabularies.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from os import PathLike

    from autotag.metadata.keywords import KeywordPath
    from autotag.records import Detection, Result

THINGS: Literal["things"] = "things"
"""In a hierarchy: every label of the bundled vocabulary below its broader terms."""


@dataclass(frozen=True)
class AlbumRules:
    """Keep the rules that change a photograph's tags before they are written.

    Attributes:
        deny: tags and boxes that are dropped; ``*`` and ``?`` stand for any letters and any one letter.
        prefer_my_keywords: a tag that a person uses as a keyword anywhere in the album, but for case,
            hyphens, spaces and plural, is spelt as the person spells it, and belongs to what it belongs to in
            the person's tree.
        hierarchy: what tags belong to, outermost first: ``"animal|dog"``. ``"things"``, alone or among them,
            stands for the broader terms of the bundled vocabulary; a path of one's own and a person's tree
            come before those.
        replacements: tag -> the tag that is written instead.
        synonyms: tag -> tags that are written besides, with its score.
        always: tags that every photograph gets, before all others, such as a trigger word; their score is 1.
        parent: what all other tags belong to, above hierarchy and tree: ``"AI"`` makes ``AI|animal|dog``.
        flagged_tag: a tag that photographs get which moderation flagged, before all others; its score is 1.
        flagged_write: names of the writers that write for flagged photographs, ``"index"`` for the index;
            others leave them alone. Empty to skip them, None for all.

    Raises:
        ConfigError: a rule is empty, or contradicts another.
    """

    deny: Sequence[str] = ()
    prefer_my_keywords: bool = False
    hierarchy: Sequence[str] | Literal["things"] = ()
    replacements: dict[str, str] = field(default_factory=dict)
    synonyms: Mapping[str, Sequence[str]] = field(default_factory=dict)
    always: Sequence[str] = ()
    parent: str | None = None
    flagged_tag: str | None = None
    flagged_write: Sequence[str] | None = None

    def __post_init__(self) -> None:
        options.convert_options(self, where="album rules")
        for rule in ("always", "deny"):
            if not all(map(clean, getattr(self, rule))):
                raise ConfigError(f"album rules: {rule} holds an empty word.")
        if self.parent is not None and not all(map(clean, self.parent.split("|"))):
            raise ConfigError(
                f"album rules: parent = {self.parent!r}; write it like 'AI' or 'found|by machine'."
            )
        if self.flagged_tag is not None and not clean(self.flagged_tag):
            raise ConfigError("album rules: flagged_tag is empty; name a tag, or leave it out.")
        for word, instead in self.replacements.items():
            if not clean(word) or not clean(instead):
                raise ConfigError(
                    f"album rules: replacements.{word!r} = {instead!r} is empty; "
                    "to drop a tag, put it into deny."
                )
        for path in self._own_paths():
            if len(path.split("|")) < 2 or not all(map(clean, path.split("|"))):
                raise ConfigError(
                    f"album rules: hierarchy holds {path!r}; write it like 'animal|dog', or 'things'."
                )
        self._check_leaves()

    def _check_leaves(self) -> None:
        leaves: dict[str, str] = {}
        for path in self._own_paths():
            leaf = fold(path.rpartition("|")[2])
            if leaf in leaves:
                raise ConfigError(
                    f"album rules: hierarchy puts one tag in two places: {leaves[leaf]!r} and {path!r}."
                )
            leaves[leaf] = path

    @classmethod
    def read(cls, path: str | PathLike[str]) -> AlbumRules:
        """Read rules from a TOML file.

        Raises:
            ConfigError: it cannot be read, is not TOML, or a rule is wrong; says which.
            UnknownNameError: there is no such rule; the near miss is suggested.
        """
        table = read_toml(path, what="album rules")
        return cls(**options.checked(cls, table, where=f"the album rules {str(path)!r}"))

    @property
    def moderates(self) -> bool:
        """Return whether flagged photographs are treated in another way than others."""
        return self.flagged_tag is not None or self.flagged_write is not None

    def allows(self, writer: str, result: Result) -> bool:
        """Return whether a writer may write for a photograph with this result."""
        return self.flagged_write is None or not result.flagged or writer in self.flagged_write

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, to compare rules by."""
        return options.written(self, where="the album rules")

    def applied(
        self,
        result: Result,
        mine: Mapping[str, str] | None = None,
        my_paths: Mapping[str, str] | None = None,
    ) -> Result:
        """Return the result with the rules applied, to boxes too; its tags have their paths in the hierarchy.

        Args:
            result: what the models found.
            mine: from ``own_spellings``, for ``prefer_my_keywords``.
            my_paths: from ``own_paths``, likewise.
        """
        if self == AlbumRules():
            return result
        front = (*((self.flagged_tag,) if self.flagged_tag and result.flagged else ()), *self.always)
        always = [Tag.proposed(clean(word), 1.0, by="album rules") for word in front]
        tags = _each_once((*always, *self._tags(result.tags, mine or {})))
        tree = (my_paths or {}) if self.prefer_my_keywords else {}
        placed = tuple(self._placed(tag, tree) for tag in tags)
        return replace(result, tags=placed, detections=self.boxes(result))

    def boxes(self, result: Result) -> tuple[Detection, ...]:
        """Return the detections that are not denied, under the labels that replace theirs.

        A label is also known by the names that it has in the languages of the result's tags.
        """
        if not self.deny and not self.replacements:
            return result.detections
        instead = {fold(word): clean(other) for word, other in self.replacements.items()}
        found = []
        for one in result.detections:
            words = _names_of(one.label, result.tags)
            label = next(filter(None, (instead.get(fold(word)) for word in words)), None)
            if not any(map(self._denies, words if label is None else [label])):
                found.append(replace(one, label=label or one.label))
        return tuple(found)

    def _tags(self, tags: Iterable[Tag], mine: Mapping[str, str]) -> Iterator[Tag]:
        instead = {fold(word): clean(other) for word, other in self.replacements.items()}
        besides = {fold(word): others for word, others in self.synonyms.items()}
        for tag in tags:
            concept = tag.concept or tag.text
            text = instead.get(fold(tag.text)) or instead.get(fold(concept), tag.text)
            if text == tag.text and tag.concept and self._denies(concept):
                continue
            others = besides.get(fold(text)) or besides.get(fold(concept), ())
            if self.prefer_my_keywords:
                text = mine.get(loose(text), text)
            for word in (text, *others):
                if not self._denies(word):
                    yield _called(tag, word)

    def _own_paths(self) -> tuple[str, ...]:
        return () if self.hierarchy == THINGS else tuple(path for path in self.hierarchy if path != THINGS)

    def _placed(self, tag: Tag, tree: Mapping[str, str]) -> Tag:
        """Return a tag with its path in the hierarchy; without one in the rules it keeps what it has."""
        path = self._path(tag, tree)
        return replace(tag, path=tuple(path.split("|"))) if path else tag

    def _path(self, tag: Tag, tree: Mapping[str, str]) -> str:
        """Return a tag with what it belongs to, outermost first; empty for nothing."""
        text = tag.text
        own = self._path_below_parent(tag, tree)
        if (
            self.parent is None
            or "|" in text
            or fold(text) in map(fold, (*self.always, self.flagged_tag or ""))
        ):
            return own
        return "|".join((*map(clean, self.parent.split("|")), own or text))

    def _path_below_parent(self, tag: Tag, tree: Mapping[str, str]) -> str:
        places = _paths(self._own_paths())
        own = places.get(fold(tag.text))
        if own is None and tag.concept and (place := places.get(fold(tag.concept))):
            own = f"{place.rpartition('|')[0]}|{tag.text}"
        own = own or tree.get(loose(tag.text), "")
        return own or (_path_of_things(tag) if THINGS in self.hierarchy else "")

    def _denies(self, word: str) -> bool:
        return any(fnmatchcase(fold(word), fold(pattern)) for pattern in self.deny)


def own_spellings(keywords: Iterable[tuple[str, int]]) -> dict[str, str]:
    """Return loose form of each keyword -> its most frequent spelling; ties go to the first in the alphabet.

    Args:
        keywords: a person's keywords, each with how often it is used.
    """
    return _most_used((loose(word), word, count) for word, count in keywords)


def own_paths(paths: Iterable[tuple[KeywordPath, int]]) -> dict[str, str]:
    """Return loose form of each keyword -> where it is most often in a person's tree: ``"Animals|Dog"``.

    Args:
        paths: a person's keywords with what they belong to, outermost first, each with how often it is used.
            One with a bar inside a name cannot be written as such a path and is left out.
    """
    return _most_used(
        (loose(path[-1]), "|".join(path), count)
        for path, count in paths
        if len(path) > 1 and not any("|" in part for part in path)
    )


def _most_used(found: Iterable[tuple[str, str, int]]) -> dict[str, str]:
    """Return key -> its text with the highest count, of equals the first in the alphabet."""
    best: dict[str, tuple[int, str]] = {}
    for key, text, count in found:
        rank = (-count, text)
        best[key] = min(best.get(key, rank), rank)
    return {key: text for key, (_, text) in best.items()}


def loose(word: str) -> str:
    """Return a word without case, hyphens, underscores and plural, to compare spellings."""
    return singular(" ".join(fold(word).replace("-", " ").replace("_", " ").split()))


@cache
def _paths(hierarchy: tuple[str, ...]) -> dict[str, str]:
    """Return case-folded leaf -> its cleaned path."""
    cleaned = ("|".join(map(clean, path.split("|"))) for path in hierarchy)
    return {fold(path.rpartition("|")[2]): path for path in cleaned}


def _called(tag: Tag, word: str) -> Tag:
    """Return a tag with another text and no path; another word than the vocabulary's loses its concept."""
    if word == tag.text:
        return tag
    if loose(word) == loose(tag.text):
        return replace(tag, text=word, path=())
    return replace(tag, text=word, path=(), concept=None, language=None)


def _names_of(label: str, tags: Iterable[Tag]) -> list[str]:
    """Return a label, the tags that it is the concept of, and its names in the languages of the tags."""
    things = Vocabulary.bundled(THINGS)
    known = things.label_of(label) or label
    called = [tag.text for tag in tags if tag.concept and fold(tag.concept) in {fold(label), fold(known)}]
    languages = dict.fromkeys(tag.language for tag in tags if tag.language)
    named = (things.label_in(language, known) for language in languages)
    return [label, *called, *filter(None, named)]


def _path_of_things(tag: Tag) -> str:
    """Return the path of a vocabulary label that has a broader term, in the tag's language, else "".

    A broader term without a name in that language keeps its own.
    """
    things = Vocabulary.bundled(THINGS)
    label = things.label_of(tag.concept or tag.text)
    if label is None or label not in things.broader:
        return ""
    parents = things.path(label)[:-1]
    if tag.language is not None:
        parents = tuple(things.label_in(tag.language, parent) or parent for parent in parents)
    return "|".join((*parents, tag.text))


def _each_once(tags: Iterable[Tag]) -> list[Tag]:
    found: dict[str, Tag] = {}
    for tag in tags:
        found.setdefault(fold(tag.text), tag)
    return list(found.values())
