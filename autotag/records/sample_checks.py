"""Checks of what stages write: wrong content fails where it is written, and on its own image."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

from autotag.records.sample import Caption, Detection, ModerationLabel, Tag

if TYPE_CHECKING:
    from collections.abc import Callable

    from autotag.records.sample import Sample

_Record = TypeVar("_Record")
_CORNERS = 4


def check_sample(sample: Sample) -> None:
    """Refuse a sample into which a stage has written something else than records.

    Raises:
        TypeError: a field is not of its type, a list holds something else than its records, a tag has no
            text, a score is not a finite number, or a box is not four of them.
    """
    _check_list("sample.captions", sample.captions, Caption, _check_caption)
    _check_list("sample.detections", sample.detections, Detection, _check_detection)
    _check_list("sample.tags", sample.tags, Tag, _check_tag)
    _check_list("sample.moderation", sample.moderation, ModerationLabel, _check_moderation)
    for name in ("rankings", "extras"):
        found = getattr(sample, name)
        if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
            raise TypeError(f"sample.{name} is {found!r:.80}, not a dict with texts as keys")
    for key, tags in sample.rankings.items():
        _check_list(f"sample.rankings[{key!r}]", tags, Tag, _check_tag)
    for name in ("source", "prompt"):
        if not isinstance(getattr(sample, name), str):
            raise TypeError(f"sample.{name} is {getattr(sample, name)!r:.80}, not a text")
    size = sample.size
    if not isinstance(size, tuple | list) or [*map(type, size)] != [int, int]:
        raise TypeError(f"sample.size is {size!r:.80}, not a width and a height")


def _check_list(
    name: str, written: object, kind: type[_Record], check: Callable[[str, _Record], None]
) -> None:
    if not isinstance(written, list | tuple):
        raise TypeError(f"{name} is {written!r:.80}, not a list of {kind.__name__}")
    for entry in written:
        if not isinstance(entry, kind):
            raise TypeError(f"{name} holds {entry!r:.80}, not a {kind.__name__}")
        check(name, entry)


def _check_caption(name: str, caption: Caption) -> None:
    if not isinstance(caption.text, str):
        raise TypeError(f"{name} holds one whose text is {caption.text!r:.80}")
    if caption.score is not None:
        _check_number(name, caption.text, "score", caption.score)
    _check_scores(name, caption.text, caption.scores)


def _check_tag(name: str, tag: Tag) -> None:
    if not isinstance(tag.text, str) or not tag.text.strip():
        raise TypeError(f"{name} holds one whose text is {tag.text!r:.80}")
    _check_number(name, tag.text, "score", tag.score)
    _check_scores(name, tag.text, tag.scores)
    if not isinstance(tag.path, tuple | list) or not all(isinstance(part, str) for part in tag.path):
        raise TypeError(f"{name} holds {tag.text!r:.80} with path {tag.path!r:.80}, not a tuple of texts")
    if tag.count is not None and not isinstance(tag.count, int):
        raise TypeError(f"{name} holds {tag.text!r:.80} with count {tag.count!r:.80}, not a whole number")


def _check_detection(name: str, found: Detection) -> None:
    if not isinstance(found.label, str):
        raise TypeError(f"{name} holds one whose label is {found.label!r:.80}")
    _check_number(name, found.label, "score", found.score)
    box = found.box
    if not isinstance(box, tuple | list) or len(box) != _CORNERS or not all(map(_is_number, box)):
        raise TypeError(f"{name} holds {found.label!r:.80} with box {box!r:.80}, not four numbers")


def _check_moderation(name: str, found: ModerationLabel) -> None:
    _check_number(name, found.label, "probability", found.probability)


def _check_scores(name: str, text: str, scores: object) -> None:
    if not hasattr(scores, "items"):
        raise TypeError(f"{name} holds {text!r:.80} with scores {scores!r:.80}, not a dict")
    for by, score in scores.items():
        _check_number(name, text, f"scores[{by!r}]", score)


def _check_number(name: str, text: str, what: str, value: object) -> None:
    if not _is_number(value):
        raise TypeError(f"{name} holds {text!r:.80} with {what} {value!r:.80}, not a finite number")


def _is_number(value: object) -> bool:
    try:
        return math.isfinite(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError, OverflowError):  # RuntimeError: a tensor of several numbers
        return False
