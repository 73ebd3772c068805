"""Why an image has a tag, and where the encoder sees it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from autotag.errors import ConfigError
from autotag.images.heat_maps import heat_map
from autotag.protocols import JudgesTags, MapsTexts
from autotag.records import Result
from autotag.relevance.embeddings import image_vectors
from autotag.vocabularies.templates import PHOTO, filled

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from PIL import Image

    from autotag.protocols import ImageTextEncoder, Stage
    from autotag.records import Sample, Tag, TextMaps


@dataclass(frozen=True, slots=True)
class TagHistory:
    """What the stages did with a tag.

    Attributes:
        tag: as the last stage left it that had it, with every score.
        captions: those that contain it; empty for labels that come from the image alone.
        cut: the lowest score that the last stage kept that filters tags; None if no stage does.
        dropped_by: the stage that dropped it; None for a tag that was kept.
        reason: why, in words; empty for a tag that was kept.
    """

    tag: Tag
    captions: tuple[str, ...]
    cut: float | None
    dropped_by: str | None = None
    reason: str = ""

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
        return heat_map(self.image, self.maps.values[0], self.maps.box)

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
            "map": np.round(self.maps.values[0].astype(float), 6).tolist(),
            "box": [left * across, top * down, right * across, bottom * down],
        }


def explained(
    steps: Iterator[tuple[Stage | None, Sample]], encoder: ImageTextEncoder, texts: Sequence[str] | None
) -> list[Explanation]:
    """Return the explanations of tags of one image.

    Args:
        steps: each stage before it runs, with the sample as it is then; None at the end.
        encoder: says where it sees a tag.
        texts: the tags; None for those that were kept, best first.

    Raises:
        ConfigError: the encoder has no maps.
        StageError: a stage failed on the image.
    """
    histories: dict[str, TagHistory] = {}
    running = ""  # the stage that ran before the sample was seen
    template = PHOTO
    for stage, sample in steps:
        if running:
            _note(histories, sample, running)
        judge: object = stage
        if isinstance(judge, JudgesTags):
            template, cut = judge.template, judge.cut
            for rank, tag in enumerate(judge.judged([sample])[0]):
                lost = _below(tag, cut) or f"{rank} tags have higher scores, and only so many are kept"
                histories[tag.text] = TagHistory(tag, _naming(tag, sample), cut, None, lost)
        running, last = stage.name if stage else "", sample
    kept = [tag.text for tag in last.tags]
    done = {
        text: history if history.dropped_by else replace(history, reason="")
        for text, history in histories.items()
    }
    asked = kept if texts is None else list(dict.fromkeys(texts))
    if not asked:
        return []
    if not isinstance(encoder, MapsTexts):
        raise ConfigError(
            f"encoder {encoder.id!r} cannot say where in an image it sees a text: it has no method text_maps."
        )
    sentences = [filled(template, text) for text in asked]
    maps = encoder.text_maps(last.image, sentences)
    cosines = encoder.embed_texts(sentences) @ image_vectors([last], encoder)[0]
    order = sorted(done.values(), key=lambda one: (one.dropped_by is not None, -one.tag.score, one.tag.text))
    result = Result.from_sample(last)
    return [
        Explanation(
            text,
            float(cosine),
            encoder.id,
            done.get(text),
            tuple(one for one in order if one.tag.text != text),
            replace(maps, values=maps.values[number : number + 1]),
            last.image,
            result,
        )
        for number, (text, cosine) in enumerate(zip(asked, cosines, strict=True))
    ]


def _note(histories: dict[str, TagHistory], sample: Sample, stage: str) -> None:
    """Note which tags a stage proposed, changed and dropped."""
    here = {tag.text: tag for tag in sample.tags}
    for text, history in histories.items():
        if text not in here and history.dropped_by is None:
            why = history.reason or "it was merged into another tag, or left out"
            histories[text] = replace(history, dropped_by=stage, reason=why)
    for text, tag in here.items():
        cut = histories[text].cut if text in histories else None
        histories[text] = TagHistory(tag, _naming(tag, sample), cut)


def _below(tag: Tag, cut: float) -> str:
    return f"its score {tag.score:.3f} is below {cut:.3f}" if tag.score < cut else ""


def _naming(tag: Tag, sample: Sample) -> tuple[str, ...]:
    wanted = re.compile(rf"\b{re.escape(tag.text)}\b", re.IGNORECASE)
    return tuple(dict.fromkeys(one.text for one in sample.captions if wanted.search(one.text)))
