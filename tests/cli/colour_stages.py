"""A stage without weights, so that the command line can be run end to end anywhere."""

from __future__ import annotations

import time
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, ClassVar

from autotag.protocols import CaptionOptions
from autotag.records import Detection, ModerationLabel, Tag
from autotag.testing import FakeCaptioner

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autotag.protocols import Models
    from autotag.records import Sample


@dataclass
class NameColours:
    """Captions an image by its colour and tags it with the caption's words.

    Attributes:
        top_k: tags per image at most.
        pause: seconds to wait per batch.
        refuse: it fails on an image whose path contains this.
        plain_extras: whether it leaves a number in ``extras``, or else an object that no JSON can hold.
        name: the stage's name.
    """

    _: KW_ONLY
    top_k: int = 3
    pause: float = 0.0
    refuse: str = "\0"
    plain_extras: bool = True
    name: str = "name_colours"

    requires: ClassVar[frozenset[str]] = frozenset()
    provides: ClassVar[frozenset[str]] = frozenset({"captions", "tags", "prompt", "extras.area"})

    def __call__(self, samples: Sequence[Sample], /) -> None:
        time.sleep(self.pause)
        captions = FakeCaptioner().caption([sample.image for sample in samples], CaptionOptions())
        for sample, own in zip(samples, captions, strict=True):
            if self.refuse in sample.source:
                raise ValueError(f"no colour\nfor {sample.size}")
            words = own[0].text.split()[1:]
            sample.captions.extend(own)
            sample.tags.extend(Tag.proposed(word, 1 / len(word), self.name) for word in words[: self.top_k])
            sample.prompt = ", ".join(words)
            sample.extras["area"] = float(sample.size[0]) if self.plain_extras else object()


@dataclass
class BoxColours:
    """Finds each word of an image's caption in all of the image."""

    name: str = "box_colours"

    requires: ClassVar[frozenset[str]] = frozenset()
    provides: ClassVar[frozenset[str]] = frozenset({"detections"})

    def __call__(self, samples: Sequence[Sample], /) -> None:
        for sample in samples:
            [[caption]] = FakeCaptioner().caption([sample.image], CaptionOptions())
            box = (0.0, 0.0, *map(float, sample.size))
            sample.detections.extend(Detection(word, 0.9, box) for word in caption.text.split()[1:])


@dataclass
class BreaksOnSetup:
    """A stage with a bug."""

    name: str = "breaks_on_setup"

    requires: ClassVar[frozenset[str]] = frozenset()
    provides: ClassVar[frozenset[str]] = frozenset({"tags"})

    def setup(self, models: Models, /) -> None:
        1 / 0  # noqa: B018

    def __call__(self, samples: Sequence[Sample], /) -> None:
        """Never reached."""


@dataclass
class FlagRed:
    """Flags red pictures."""

    name: str = "flag_red"

    requires: ClassVar[frozenset[str]] = frozenset()
    provides: ClassVar[frozenset[str]] = frozenset({"moderation"})

    def __call__(self, samples: Sequence[Sample], /) -> None:
        for sample in samples:
            red = "red" in FakeCaptioner().caption([sample.image], CaptionOptions())[0][0].text.split()
            chance = 0.9 if red else 0.1
            sample.moderation.append(ModerationLabel("explicit", chance, "eyes", flagged=red))
