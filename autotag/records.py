"""The data classes: stages write a ``Sample``, the pipeline returns a ``Result``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

_DECIMALS = 6
_PIXEL_DECIMALS = 2
_TAGS_SHOWN = 5

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
    """

    text: str
    score: float
    source: str
    scores: Mapping[str, float] = field(default_factory=dict, hash=False)
    path: tuple[str, ...] = ()
    count: int | None = None

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Tag:
        """Rebuild a tag from the output of ``to_dict``, also after a round trip through JSON."""
        return cls(**{**row, "path": tuple(row.get("path") or ())})

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary of JSON types; ``count`` is there only for a tag that was counted."""
        row = {**asdict(self), "path": list(self.path)}
        if self.count is None:
            del row["count"]
        return row

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


@dataclass(frozen=True, slots=True, repr=False)
class Result:
    """The result for one image: plain data without pixels or tensors.

    Attributes:
        source: path, URL or id.
        size: width, height of the upright original in pixels; (0, 0) when it could not be read.
        captions: best first.
        detections: boxes in pixels of the upright original.
        tags: best first.
        rankings: vocabulary name -> its best labels, best first.
        prompt: the assembled prompt; empty when no stage assembles one.
        extras: fields of plug-ins.
        error: why this image failed, or None.
    """

    source: str
    size: tuple[int, int]
    captions: tuple[Caption, ...] = ()
    detections: tuple[Detection, ...] = ()
    tags: tuple[Tag, ...] = ()
    rankings: Mapping[str, tuple[Tag, ...]] = field(default_factory=dict, hash=False)
    prompt: str = ""
    extras: Mapping[str, Any] = field(default_factory=dict, hash=False)
    error: str | None = None

    @property
    def caption(self) -> str:
        """The best caption, or an empty string without captions."""
        return self.captions[0].text if self.captions else ""

    @property
    def tag_texts(self) -> tuple[str, ...]:
        """The texts of the tags, best first."""
        return tuple(tag.text for tag in self.tags)

    def __repr__(self) -> str:
        """Return one line: source, then caption and the first tags with scores, or the error."""
        if self.error is not None:
            return f"Result({self.source!r}, error={self.error!r})"
        tags = [f"{tag.text} {tag.score:.2f}" for tag in self.tags[:_TAGS_SHOWN]]
        more = len(self.tags) - _TAGS_SHOWN
        shown = ", ".join([*tags, f"+{more} more"] if more > 0 else tags)
        return f"Result({self.source!r}, caption={self.caption!r}, tags=[{shown}])"

    @property
    def truncated(self) -> bool:
        """True if the image file ends too early, so that the models saw only part of the image."""
        return self.extras.get(TRUNCATED) is True

    def draw(self, image: Image.Image, *, boxes: bool = True, tags: bool = True) -> Image.Image:
        """Return a copy of an image with the boxes of the detections, and the tags in a band below it.

        Boxes are placed by the image's size, so it may be smaller or larger than the original. A small image
        is enlarged until the text can be read.

        Args:
            image: the upright image that this is the result of, of any mode.
            boxes: draw the detections, each with label and score.
            tags: write the tags, best first, with the count of those that were counted.
        """
        from autotag.drawing import drawn

        wide, high = self.size
        across, down = image.width / max(wide, 1), image.height / max(high, 1)
        found = [
            (one.label, one.score, (left * across, top * down, right * across, bottom * down))
            for one in self.detections
            for left, top, right, bottom in (one.box,)
        ]
        texts = [tag.text if (tag.count or 1) == 1 else f"{tag.text} ×{tag.count}" for tag in self.tags]
        return drawn(image, found if boxes else [], texts if tags else [])

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the photograph with boxes if its file is there, caption, tags."""
        from functools import partial

        from autotag.drawing import page_of

        texts = [text for text in (self.caption, self.error) if text]
        rows = [(tag.text, tag.score) for tag in self.tags]
        return page_of(self.source, texts, rows, partial(self.draw, tags=False))

    @classmethod
    def from_sample(cls, sample: Sample) -> Result:
        """Return the plain data of a sample that went through every stage; scores have six decimals.

        Further digits are float32 noise, which differs with the batch.
        """
        return cls(
            source=sample.source,
            size=sample.size,
            captions=tuple(map(_rounded, sample.captions)),
            detections=tuple(_rounded_box(found) for found in sample.detections),
            tags=tuple(map(_rounded, sample.tags)),
            rankings={name: tuple(map(_rounded, tags)) for name, tags in sample.rankings.items()},
            prompt=sample.prompt,
            extras=dict(sample.extras),
        )

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Result:
        """Rebuild a result from the output of ``to_dict``, also after a round trip through JSON."""
        return cls(
            source=row["source"],
            size=(row["size"][0], row["size"][1]),
            captions=tuple(Caption(**caption) for caption in row["captions"]),
            detections=tuple(
                Detection(**{**detection, "box": tuple(detection["box"])}) for detection in row["detections"]
            ),
            tags=tuple(map(Tag.from_dict, row["tags"])),
            rankings={name: tuple(map(Tag.from_dict, tags)) for name, tags in row["rankings"].items()},
            prompt=row["prompt"],
            extras=dict(row["extras"]),
            error=row["error"],
        )

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary of JSON types (if ``extras`` holds only JSON types).

        ``caption`` is added for convenience; ``from_dict`` ignores it.
        """
        return {
            "source": self.source,
            "size": list(self.size),
            "caption": self.caption,
            "captions": [asdict(caption) for caption in self.captions],
            "detections": [
                {**asdict(detection), "box": list(detection.box)} for detection in self.detections
            ],
            "tags": [tag.to_dict() for tag in self.tags],
            "rankings": {name: [tag.to_dict() for tag in tags] for name, tags in self.rankings.items()},
            "prompt": self.prompt,
            "extras": dict(self.extras),
            "error": self.error,
        }


def _rounded_box(found: Detection) -> Detection:
    """Round a detection's score to six decimals and its box to hundredths of a pixel."""
    left, top, right, bottom = (round(float(side), _PIXEL_DECIMALS) for side in found.box)
    return replace(found, score=round(float(found.score), _DECIMALS), box=(left, top, right, bottom))


def _rounded(scored: Scored) -> Scored:
    """Round the scores of a caption or tag to six decimals."""
    score = None if scored.score is None else round(float(scored.score), _DECIMALS)
    scores = {stage: round(float(one), _DECIMALS) for stage, one in scored.scores.items()}
    return replace(scored, score=score, scores=scores)
