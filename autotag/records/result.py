"""What a pipeline returns: a ``Result``, and an ``Explanation`` of why an image has a tag."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol
from weakref import ref

from autotag.errors import ConfigError, install_hint
from autotag.records.sample import (
    TRUNCATED,
    Caption,
    Detection,
    ModerationLabel,
    Sample,
    Scored,
    Tag,
    TextMaps,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from PIL import Image

_DECIMALS = 6
_PIXEL_DECIMALS = 2
_TAGS_SHOWN = 5


class Explains(Protocol):
    """Say why images have tags, as pipelines do."""

    def explain(self, image: Any, /, *tags: str) -> list[Explanation]:
        """Return one explanation per tag; see ``Pipeline.explain``."""


class _Made:
    """Know by whom a result was made, weakly and outside its fields: copies and pickles do not have it."""

    __slots__ = ("_pipeline",)
    _pipeline: ref[Explains]


@dataclass(frozen=True, slots=True, repr=False)
class Result(_Made):
    """The result for one image: plain data without pixels or tensors.

    In the process that made it, a result refers weakly to its pipeline, for ``explain``.

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
        moderation: what moderation says, most probable first for each model; empty when no stage moderates.
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
    moderation: tuple[ModerationLabel, ...] = ()

    @property
    def flagged(self) -> bool:
        """Return True if moderation flagged the image; False also when no stage moderated it."""
        return any(found.flagged for found in self.moderation)

    @property
    def caption(self) -> str:
        """The best caption, or an empty string without captions."""
        return self.captions[0].text if self.captions else ""

    @property
    def tag_texts(self) -> tuple[str, ...]:
        """Return the texts of the tags, best first."""
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
            tags: write the tags, best first, with the count where there is one.
        """
        from autotag.records.drawing import drawn

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
        from autotag.records.drawing import page_of, photograph_at

        texts = [text for text in (self.caption, self.error) if text]
        rows = [(tag.text, tag.score) for tag in self.tags]
        photo = photograph_at(self.source, 480)
        return page_of(self.source, photo and self.draw(photo, tags=False), texts, rows)

    def plot(self, image: Image.Image | None = None, *, ax: Axes | None = None) -> Axes:
        """Show the photograph in matplotlib with its boxes, the tags with scores below it.

        Above it is the caption, or why the image failed.

        Args:
            image: the upright photograph; by default it is read from ``source``, a path.
            ax: where to show it; by default in a figure of its own, made with pyplot.

        Returns:
            The axes.

        Raises:
            ConfigError: matplotlib is missing, or no photograph is given and none can be read.
        """
        from autotag.records.drawing import photograph_at

        photo = image or photograph_at(self.source)
        if photo is None:
            raise ConfigError(
                f"no photograph can be read at {self.source!r}; give the upright image: result.plot(image)."
            )
        tags = [f"{tag.text} {tag.score:.2f}" for tag in self.tags]
        return _plotted(self.draw(photo, tags=False), self.caption or self.error or "", tags, ax)

    def explain(self, tag: str, image: Any = None, *, pipeline: Explains | None = None) -> Explanation:
        """Return why the image has a tag, or has it not, and where the encoder sees it.

        The stages run again on the photograph. For several tags at once, ``pipeline.explain(image, *tags)``
        runs them once.

        Args:
            tag: any words.
            image: what ``pipeline(image)`` takes; by default the photograph is read from ``source``.
            pipeline: by default the one that made this result, as long as the program keeps it: a result
                from a file or another process has none, and a result keeps no models in memory.

        Raises:
            ConfigError: there is no pipeline, the image is not the one of this result (its size differs), or
                it failed; the pipeline has no encoder that can say where it sees a text.
            ImageReadError: the image cannot be read.
            StageError: a stage failed on it.
            PipelineClosedError: the pipeline is closed.
        """
        if self.error is not None:
            raise ConfigError(f"{self.source!r} has nothing to explain, because it failed: {self.error}")
        if not tag.strip():
            raise ConfigError("the tag to explain is empty; give a word.")
        made_by: ref[Explains] | None = getattr(self, "_pipeline", None)
        explainer = pipeline or (made_by() if made_by else None)
        if explainer is None:
            raise ConfigError(
                f"this result of {self.source!r} does not know its pipeline: it is a copy, comes from a file "
                "or another process, or the pipeline no longer exists. Give it: "
                f"result.explain({tag!r}, pipeline=tagger)."
            )
        if image is None and self.source.startswith("<"):
            raise ConfigError(
                f"this is the result of an image in memory; give it: result.explain({tag!r}, image)."
            )
        (found,) = explainer.explain(self.source if image is None else image, tag)
        if found.result.size != self.size:
            seen, own = (" x ".join(map(str, size)) for size in (found.result.size, self.size))
            raise ConfigError(f"the image has {seen} pixels, but this is the result of one with {own}.")
        return found

    @classmethod
    def from_sample(cls, sample: Sample, *, pipeline: Explains | None = None) -> Result:
        """Return the plain data of a sample that went through every stage; scores have six decimals.

        Further digits are float32 noise, which differs with the batch.

        Args:
            sample: after the last stage.
            pipeline: which the result refers to weakly, for ``explain``.
        """
        made = cls(
            source=sample.source,
            size=sample.size,
            captions=tuple(map(_rounded, sample.captions)),
            detections=tuple(_rounded_box(found) for found in sample.detections),
            tags=tuple(map(_rounded, sample.tags)),
            rankings={name: tuple(map(_rounded, tags)) for name, tags in sample.rankings.items()},
            prompt=sample.prompt,
            extras=dict(sample.extras),
            moderation=tuple(
                replace(found, probability=round(float(found.probability), _DECIMALS))
                for found in sample.moderation
            ),
        )
        if pipeline is not None:
            object.__setattr__(made, "_pipeline", ref(pipeline))
        return made

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
            moderation=tuple(ModerationLabel(**found) for found in row.get("moderation") or ()),
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
            "moderation": [asdict(found) for found in self.moderation],
        }


@dataclass(frozen=True, slots=True)
class TagHistory:
    """What the stages did with a tag.

    Attributes:
        tag: as the last stage left it that had it, with every score.
        captions: the captions that contain it; empty for labels that come from the image alone.
        cut: the lowest score that the last stage kept that filters tags; None if no stage does.
        dropped_by: the stage that dropped it; None for a tag that was kept.
        reason: why, in words; empty for a tag that was kept.
    """

    tag: Tag
    captions: tuple[str, ...]
    cut: float | None
    dropped_by: str | None = None
    reason: str = ""

    def lines(self) -> list[str]:
        """Return a text of one line each on where the tag came from, every score, and what became of it."""
        origin = f"in the caption: {self.captions[0]}" if self.captions else f"proposed by {self.tag.source}"
        scores = [f"{stage}: {score:.3f}" for stage, score in self.tag.scores.items()]
        kept = "kept" + ("" if self.cut is None else f": at least {self.cut:.3f} is needed")
        end = kept if self.dropped_by is None else f"dropped by {self.dropped_by}: {self.reason}"
        return [origin, *scores, end]

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary of JSON types."""
        return {
            **self.tag.to_dict(),
            "captions": list(self.captions),
            "cut": self.cut,
            "dropped_by": self.dropped_by,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """Why an image has a tag, or has it not, and where the encoder sees it.

    Attributes:
        text: the tag.
        cosine: of the image and the tag in its template.
        encoder: id of the encoder.
        history: what the stages did with it; None if no stage proposed it.
        others: the histories of all other tags that were proposed: kept ones first, then by score.
        maps: one map, (1, h, w), in pixels of ``image``.
        image: upright RGB, possibly decoded smaller than the file.
        result: of the pipeline.
    """

    text: str
    cosine: float
    encoder: str
    history: TagHistory | None
    others: tuple[TagHistory, ...]
    maps: TextMaps
    image: Image.Image = field(repr=False)
    result: Result = field(repr=False)

    def picture(self) -> Image.Image:
        """Return the image in grey, with the places in colour where the encoder sees the tag."""
        from autotag.records.drawing import heat_map

        return heat_map(self.image, self.maps.values[0], self.maps.box)

    def plot(self, *, ax: Axes | None = None) -> Axes:
        """Show ``picture()`` in matplotlib, with the tag and its cosine above, and return the axes.

        Args:
            ax: where to show it; by default in a figure of its own, made with pyplot.

        Raises:
            ConfigError: matplotlib is missing.
        """
        return _plotted(self.picture(), f"{self.text} {self.cosine:.2f}", [], ax)

    def evidence(self) -> list[str]:
        """Return what the stages did with the tag, on one line each: captions, scores, kept or dropped."""
        if self.history is None:
            return ["no stage proposed it"]
        return self.history.lines()

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the picture, and the evidence."""
        from autotag.records.drawing import page_of

        return page_of(f"{self.text}: cosine {self.cosine:.3f}", self.picture(), self.evidence(), [])

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary of JSON types; the map is a list of rows, its box in pixels of the original."""
        across, down = (own / seen for own, seen in zip(self.result.size, self.image.size, strict=True))
        left, top, right, bottom = self.maps.box
        return {
            "source": self.result.source,
            "text": self.text,
            "cosine": round(self.cosine, 6),
            "encoder": self.encoder,
            "history": self.history and self.history.to_dict(),
            "others": [other.to_dict() for other in self.others],
            "map": self.maps.values[0].astype(float).round(6).tolist(),
            "box": [left * across, top * down, right * across, bottom * down],
        }


def _plotted(picture: Image.Image, title: str, below: list[str], ax: Axes | None) -> Axes:
    from autotag.records.drawing import plotted

    try:
        return plotted(picture, title, below, ax)
    except ImportError as error:
        raise ConfigError(f"plot needs matplotlib: {install_hint('report')}.") from error


def _rounded_box(found: Detection) -> Detection:
    """Round a detection's score to six decimals and its box to hundredths of a pixel."""
    left, top, right, bottom = (round(float(side), _PIXEL_DECIMALS) for side in found.box)
    return replace(found, score=round(float(found.score), _DECIMALS), box=(left, top, right, bottom))


def _rounded(scored: Scored) -> Scored:
    """Round the scores of a caption or tag to six decimals."""
    score = None if scored.score is None else round(float(scored.score), _DECIMALS)
    scores = {stage: round(float(one), _DECIMALS) for stage, one in scored.scores.items()}
    return replace(scored, score=score, scores=scores)
