"""What stages write: a ``Sample`` with its captions, detections and tags."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

TRUNCATED = "truncated"
"""Key in a result's extras; True means that the image file ends too early."""


@dataclass(frozen=True, slots=True)
class Caption:
    """A sentence about an image.

    Attributes:
        text: the sentence.
        source: the captioner that wrote it, e.g. ``"blip-base"``.
        score: the score of the last stage that scored it (``"choose_caption"``: its cosine with the image),
            comparable between captioners; before that, the captioner's own score (a length-normalised
            log-probability for beam search), comparable only between captions of one captioner for one
            image; None for no score.
        scores: empty until a stage scores it; then every score, oldest first: the captioner's own under
            ``source``, then each stage's under the stage's name.
    """

    text: str
    source: str
    score: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict, hash=False)

    def scored(self, score: float, by: str) -> Caption:
        """Return the same caption with one more score, which becomes its ``score``."""
        own = {} if self.scores or self.score is None else {self.source: self.score}
        return replace(self, score=score, scores={**own, **self.scores, by: score})


@dataclass(frozen=True, slots=True)
class Detection:
    """An object found in an image.

    Attributes:
        label: what it is.
        score: probability in [0, 1].
        box: left, top, right, bottom in pixels of the upright original.
    """

    label: str
    score: float
    box: tuple[float, float, float, float]


SafetyName = Literal["safe", "suggestive", "explicit", "violent", "hateful", "other"]
"""What moderation can say about an image; all but "safe" may be kept from people."""


BY_PERSON = "person"
"""The source of tags and captions that a person wrote into a plan; never written as the machine's."""


@dataclass(frozen=True, slots=True)
class ModerationLabel:
    """What moderation says about an image.

    Attributes:
        label: one of ``SafetyName``.
        probability: in [0, 1].
        model: the model that says so, e.g. ``"opennsfw"``.
        flagged: whether the probability reaches the threshold; never for ``"safe"``.
        weak: whether it only compares the image with sentences, which is often wrong.
    """

    label: SafetyName
    probability: float
    model: str
    flagged: bool = False
    weak: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class TextMaps:
    """Show where an encoder sees texts in an image.

    Attributes:
        values: (T, h, w) float32, one map per text; larger is more. Scales differ between encoders.
        box: left, top, right, bottom of the part of the image that the maps cover, in its pixels; of a padded
            image it reaches beyond the image.
    """

    values: NDArray[np.float32]
    box: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Tag:
    """A word or short phrase that describes an image.

    Attributes:
        text: the tag.
        score: the score of the last stage that scored it; scales differ between stages.
        source: name of the stage that proposed it.
        scores: every score, by stage name, oldest first.
        path: its place in a hierarchy, from the broadest name to its own: ``("animal", "cat")``; empty when
            it has none.
        count: how many of it a detector found in the image, at least 1; None when nothing counted it.
        concept: the vocabulary's own label, where ``text`` is its name in another language (``name_tags``);
            else None.
        language: the code of that language, such as ``"de"``; None for a tag as the models know it.
    """

    text: str
    score: float
    source: str
    scores: Mapping[str, float] = field(default_factory=dict, hash=False)
    path: tuple[str, ...] = ()
    count: int | None = None
    concept: str | None = None
    language: str | None = None

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Tag:
        """Rebuild a tag from the output of ``to_dict``, also after a round trip through JSON."""
        return cls(**{**row, "path": tuple(row.get("path") or ())})

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary of JSON types, without ``count``, ``concept`` and ``language`` if None."""
        row = {**asdict(self), "path": list(self.path)}
        return {
            name: value
            for name, value in row.items()
            if value is not None or name not in {"count", "concept", "language"}
        }

    @classmethod
    def proposed(cls, text: str, score: float, by: str) -> Tag:
        """Return a new tag, proposed and scored by the stage named ``by``."""
        return cls(text, score, by, {by: score})

    def scored(self, score: float, by: str) -> Tag:
        """Return the same tag with one more score, which becomes its ``score``."""
        return replace(self, score=score, scores={**self.scores, by: score})


Scored = TypeVar("Scored", Caption, Tag)


@dataclass(slots=True)
class Sample:
    """One image on its way through the stages, which write its fields in place.

    Attributes:
        source: path, URL or id.
        image: upright RGB, possibly decoded smaller than the file.
        size: width, height of the upright original in pixels.
        captions: best first.
        detections: boxes in pixels of the upright original.
        tags: best first once filtered.
        rankings: vocabulary name -> its best labels, best first.
        prompt: the assembled prompt.
        embeddings: encoder id -> float32 vector of shape (D,) and length 1.
        views: view id -> (3, H, W) uint8 pixels, resized for models (``ViewsImages``).
        extras: fields of plug-ins, declared as ``"extras.<key>"``.
        moderation: what moderation says, most probable first for each model.
    """

    source: str
    image: Image.Image
    size: tuple[int, int]
    captions: list[Caption] = field(default_factory=list)
    detections: list[Detection] = field(default_factory=list)
    tags: list[Tag] = field(default_factory=list)
    rankings: dict[str, list[Tag]] = field(default_factory=dict)
    prompt: str = ""
    embeddings: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    views: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    extras: dict[str, Any] = field(default_factory=dict)
    moderation: list[ModerationLabel] = field(default_factory=list)
