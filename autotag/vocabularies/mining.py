"""Mine phrases from prompts: count the phrases that many people write, to make a vocabulary of them."""

from __future__ import annotations

import html
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autotag.config.checks import check_count, check_list
from autotag.errors import ConfigError
from autotag.vocabularies.label_files import column_cells, is_table, text_lines
from autotag.vocabularies.vocabulary import end_of_text_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LONGEST = 100
"""Most characters of a phrase; longer ones are whole sentences that do not recur, and are left out."""

_URL = re.compile(r"(?:https?://|www\.)\S+")
_TAG = re.compile(r"<[^<>\s][^<>]*>")
_FLAGS = re.compile(r"(?:^|\s)--[a-z].*", re.DOTALL | re.IGNORECASE)
_WEIGHT_IN_BRACKETS = re.compile(r":\s*-?\d*\.?\d+\s*(?=[)\]])")
_BRACKET = re.compile(r"(?<!\\)[()\[\]{}]")
_ESCAPED_BRACKET = re.compile(r"\\([()\[\]{}])")
_END_OF_PART = re.compile(
    r"[,;|\r\n\t\u3001\uff0c\u3002\u060c]"  # including the commas of other scripts
    r"|::\s*-?\d*\.?\d*"  # two colons, with the weight of the part before them
    r"|(?<=[^\W\d]):(?=[^\W\d])"
    r"|(?<=\w\w\w)[.!?](?=\s|$)"  # not after "Dr" or an initial
    r"|\b(?:BREAK|AND)\b"
)
_EDGES = " .,:;!?\"'`*_#~+=/\\-\u2013\u2014\u2026\u201c\u201d\u2018\u2019"


@dataclass(frozen=True, slots=True)
class PhraseCount:
    """A phrase and the number of prompts that contain it."""

    text: str
    count: int


def read_prompts(path: str | Path, *, column: str | None = None) -> list[str]:
    """Return the prompts of a file without blank ones: a column of a table (.csv, .tsv), or lines of text.

    Args:
        path: the file; UTF-8, with or without BOM.
        column: the column of a table; None for ``prompt``.

    Raises:
        ConfigError: the file cannot be read, is not UTF-8, has no prompts or does not have the column, or
            ``column`` is given for a text file.
    """
    path = Path(path)
    if is_table(path):
        prompts = [cell for _, cell in column_cells(path, column or "prompt")]
    elif column is not None:
        raise ConfigError(f"{path} is not a table (.csv or .tsv): it has no column {column!r}")
    else:
        prompts = [line.strip() for _, line in text_lines(path) if line.strip()]
    if not prompts:
        raise ConfigError(f"{path} has no prompts")
    return prompts


def mine_phrases(
    prompts: Iterable[str], *, least_count: int = 3, most: int | None = None, subjects: bool = True
) -> list[PhraseCount]:
    """Return the phrases of prompts, most frequent first, then by text.

    A prompt is split at commas, semicolons, bars, line breaks, ends of sentences, ``::`` and the words BREAK
    and AND. Weights as in ``(word:1.2)``, brackets, ``<lora:...>``, options such as ``--ar 16:9`` with
    everything after them, and URLs are removed; the rest is converted to lower case. Phrases are left out if
    they have no letters, more than 100 characters, lost characters (U+FFFD), or an encoder's end-of-text
    mark.

    Args:
        prompts: the prompts.
        least_count: fewest prompts that must contain a phrase, 1 or more.
        most: most phrases to return, 1 or more; None for all.
        subjects: False leaves out the first part of each prompt, which usually names the subject.

    Raises:
        ConfigError: ``least_count`` or ``most`` is out of range.
    """
    check_list("prompts", prompts)
    check_count("least_count", least_count, least=1)
    if most is not None:
        check_count("most", most, least=1)
    counts: Counter[str] = Counter()
    for prompt in prompts:
        parts = list(_parts(prompt))
        counts.update({part for part in parts[0 if subjects else 1 :] if _is_phrase(part)})
    found = [PhraseCount(text, count) for text, count in counts.items() if count >= least_count]
    return sorted(found, key=lambda phrase: (-phrase.count, phrase.text))[:most]


def _parts(prompt: str) -> Iterator[str]:
    """Yield the parts of a prompt in lower case, without weights, options and empty parts."""
    text = _URL.sub(" ", unicodedata.normalize("NFC", html.unescape(html.unescape(prompt))))
    text = _FLAGS.sub("", _TAG.sub(",", text))
    text = _BRACKET.sub("", _WEIGHT_IN_BRACKETS.sub("", text))
    for part in _END_OF_PART.split(_ESCAPED_BRACKET.sub(r"\1", text)):
        tidy = " ".join(part.split()).strip(_EDGES).lower()
        if tidy:
            yield tidy


def _is_phrase(part: str) -> bool:
    return (
        len(part) <= LONGEST
        and any(character.isalpha() for character in part)
        and not any(character == "\ufffd" or unicodedata.category(character) == "Cc" for character in part)
        and end_of_text_in(part) is None
    )
