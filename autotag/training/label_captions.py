"""Writes captions from labels, for photographs without human captions.

They contain less than human captions do; "on a table" is a guess. A captioner that is trained on both knows
words for things that the photographs with human captions do not show.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

_PLACES = {"dining table": "on a table", "bench": "on a bench", "bed": "on a bed", "couch": "on a couch"}
_FOOD = {"broccoli", "carrot", "pizza", "sandwich", "donut", "cake", "banana", "apple", "orange", "hot dog"}
_PLURAL = {"skis", "scissors", "broccoli"}
_SCENES = {
    "buildings": ("buildings in a city", "a building", "a city with buildings"),
    "forest": ("trees in a forest", "a forest", "a forest with many trees"),
    "glacier": ("a glacier", "snow and ice on a glacier", "ice and snow"),
    "mountain": ("a mountain", "a view of a mountain", "mountains"),
    "sea": ("the sea", "the ocean", "a view of the sea"),
    "street": ("a street in a city", "a city street", "a street with buildings"),
}


def with_article(name: str) -> str:
    """Return a name with its article, ``"a cat"`` or ``"an owl"``; a plural is unchanged."""
    if name in _PLURAL:
        return name
    return f"an {name}" if name[0] in "aeiou" and not name.startswith(("uni", "euro")) else f"a {name}"


def captions_of_name(name: str) -> list[str]:
    """Return captions of a photograph that shows one thing."""
    thing = with_article(name)
    return [thing, f"a close up of {thing}", f"a photo of {thing}"]


def captions_of_scene(label: str) -> list[str]:
    """Return captions of a photograph of one of the six scenes."""
    return list(_SCENES[label])


def captions_of_objects(labels: Sequence[str], *, count: int, seed: int) -> list[str]:
    """Return captions of a photograph that shows these objects of COCO.

    Args:
        labels: at least one.
        count: number of captions.
        seed: for the choice of objects and words.
    """
    choice = random.Random(seed)  # noqa: S311  (not for security)
    return [_sentence(list(labels), choice) for _ in range(count)]


def _sentence(labels: list[str], choice: random.Random) -> str:
    choice.shuffle(labels)
    place = next((_PLACES[label] for label in labels if label in _PLACES), "")
    things = [label for label in labels if label not in _PLACES][:3]
    if not things:
        return with_article(labels[0])
    said = _listed(things, choice)
    return f"{said} {place}" if place and choice.random() < 0.8 else said


def _listed(things: list[str], choice: random.Random) -> str:
    named = [with_article(thing) for thing in things]
    if things[0] in _FOOD and choice.random() < 0.4:
        named[0] = f"a plate with {named[0]}"
    if len(named) == 1:
        return named[0]
    joint = choice.choice(["and", "with"])
    return f"{named[0]} {joint} {' and '.join(named[1:])}"
