"""English words: their classes from word lists, their inflection by rules.

The lists are in ``autotag/data/english``; the first lines of each describe it. They cover the language of
captions only, so that no download is needed. An unknown word counts as a noun.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Form = Literal["plain", "third", "ing", "past", "participle"]

_LISTS = Path(__file__).resolve().parent.parent / "data" / "english"
_SIBILANT = ("s", "x", "z", "ch", "sh")
_VOWEL_GROUP = re.compile(r"[aeiouy]+")
_DOUBLING = re.compile(r"[^aeiou][aeiou][bdgklmnprt]$|[^aeiou]u[iao][dt]$|^qui[zt]$")
_PEOPLE = re.compile(r".{3,}(er|ist|man|woman)$")


def _lines(name: str) -> Iterator[str]:
    for line in (_LISTS / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            yield line


@cache
def word_list(name: str) -> frozenset[str]:
    """Return the words of a bundled list, e.g. ``"weak_verbs"``."""
    return frozenset(word for line in _lines(name) for word in line.split())


@cache
def function_words() -> Mapping[str, str]:
    """Return function word -> its first listed class (``"determiner"``, ``"preposition"``, ...)."""
    classes: dict[str, str] = {}
    current = ""
    for line in _lines("function_words"):
        if line.startswith("["):
            current = line.strip("[]")
        else:
            classes |= {word: current for word in line.split() if word not in classes}
    return classes


@cache
def compounds() -> frozenset[tuple[str, ...]]:
    """Return fixed expressions as words, the last one singular: ``("hot", "dog")``."""
    return frozenset(tuple(line.split()) for line in _lines("compounds"))


def third_person(verb: str) -> str:
    """Return a verb's third person (``"walks"``, ``"catches"``, ``"tries"``) or a noun's regular plural."""
    if verb.endswith("y") and verb[-2:-1] not in tuple("aeiou"):
        return verb[:-1] + "ies"
    return verb + ("es" if verb.endswith((*_SIBILANT, "o")) else "s")


def _doubled(word: str) -> str:
    """Double the last letter of one syllable with one vowel and one consonant: ``"run"`` -> ``"runn"``."""
    short = len(_VOWEL_GROUP.findall(word)) == 1 or word.startswith("qu")
    return word + word[-1] if short and _DOUBLING.search(" " + word) else word


def _ing(verb: str) -> str:
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")) and len(verb) > 2:
        return verb[:-1] + "ing"
    return _doubled(verb) + "ing"


def _past(verb: str) -> str:
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ied"
    return verb + "d" if verb.endswith("e") else _doubled(verb) + "ed"


@cache
def verb_forms() -> Mapping[str, tuple[str, Form]]:
    """Return inflected form -> (plain form, kind); a form that is also a plain form counts as plain."""
    irregular = [tuple(line.split()) for line in _lines("irregular_verbs")]
    forms: dict[str, tuple[str, Form]] = {}
    for verb, past, participle in irregular:
        forms |= {participle: (verb, "participle"), past: (verb, "past")}
    for verb in word_list("verbs"):
        forms[_past(verb)] = (verb, "participle")
    for verb in sorted(word_list("verbs") | {verb for verb, *_ in irregular}):
        forms |= {_ing(verb): (verb, "ing"), third_person(verb): (verb, "third")}
    return forms | {verb: (verb, "plain") for verb in word_list("verbs") | {verb for verb, *_ in irregular}}


@cache
def adjectives() -> frozenset[str]:
    """Return the listed adjectives with their comparatives and superlatives."""
    listed = word_list("adjectives")
    short = [word for word in listed if len(word) < 7 and "-" not in word]
    return listed | {_past(word)[:-1] + ending for word in short for ending in ("r", "st")}


@cache
def _singulars() -> Mapping[str, str]:
    pairs = (line.split() for line in _lines("plurals"))
    return {plural: singular for singular, plural in pairs}


def singular(noun: str) -> str:
    """Return the singular of a lower-case noun by rules; a singular noun is returned unchanged.

    Only the last of several words is changed: ``"brown dogs"`` -> ``"brown dog"``.
    """
    *first, last = noun.split(" ")
    return " ".join([*first, _singular(last)])


def _singular(word: str) -> str:
    if word in _singulars():
        return _singulars()[word]
    if word.endswith("men"):
        return word[:-2] + "an" if len(word) > 5 and word not in ("specimen", "abdomen") else word
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is", "'s")):
        return word
    return word if word in word_list("invariable") else _without_s(word)


def _without_s(plural: str) -> str:
    if plural.endswith("ies"):
        return plural[:-3] + "y"
    return plural[: -2 if plural.endswith(("sses", "xes", "zzes", "ches", "shes", "oes")) else -1]


def is_plural(word: str) -> bool:
    """Return True if a lower-case noun takes a plural verb, judged by its form."""
    return word == "people" or _singular(word) != word


def is_animate(noun: str) -> bool:
    """Return True if a lower-case noun is a person or an animal, judged by the lists and its ending."""
    one = _singular(noun)
    named_by_ending = _PEOPLE.match(one) is not None and one not in word_list("objects_in_er")
    return named_by_ending or one in word_list("animate")


def is_gerund(word: str) -> bool:
    """Return True for the -ing form of a verb, known or not, but not for a noun like "building"."""
    return len(word) > 4 and word.endswith("ing") and word not in word_list("nouns_like_verbs")


def is_participle(word: str) -> bool:
    """Return True for a past form or participle, known or not, but not for a noun like "bed"."""
    if word in word_list("bound_participles") or verb_forms().get(word, ("", ""))[1] in (
        "participle",
        "past",
    ):
        return word not in ("ground", "rose")
    return len(word) > 3 and word.endswith("ed") and word not in word_list("nouns_like_verbs")


@cache
def lemma(word: str) -> str:
    """Return the base form of a lower-case word: ``"men"`` -> ``"man"``, ``"riding"`` -> ``"ride"``."""
    if word in _singulars() or word in word_list("nouns_like_verbs") or word in word_list("invariable"):
        return _singular(word)
    return verb_forms()[word][0] if word in verb_forms() else _singular(word)
