"""Why an image has a tag, and where the encoder sees it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from autotag.errors import ConfigError
from autotag.protocols import JudgesTags, MapsTexts, NamesTags
from autotag.records import Explanation, Result, TagHistory
from autotag.relevance.embeddings import image_vectors
from autotag.vocabularies.templates import PHOTO, filled

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence

    from autotag.protocols import ImageTextEncoder, Stage
    from autotag.records import Sample, Tag


def explained(
    steps: Iterator[tuple[Stage | None, Sample]], encoder: ImageTextEncoder, texts: Sequence[str] | None
) -> list[Explanation]:
    """Return the explanations of tags of one image.

    Args:
        steps: each stage before it runs, with the sample as it is then; None at the end.
        encoder: says where it sees a tag.
        texts: the tags, as the models know them or in a language that a stage named them in; None for those
            that were kept, best first. The encoder is asked about a tag as the models know it.

    Raises:
        ConfigError: the encoder has no maps.
        StageError: a stage failed on the image.
    """
    histories: dict[str, TagHistory] = {}
    running = ""  # the stage that ran before the sample was seen
    template = PHOTO
    names: dict[str, str] = {}  # in another language -> as the models know it
    namers: list[NamesTags] = []
    for stage, sample in steps:
        if running:
            _note(histories, sample, running, names)
        judge: object = stage
        if isinstance(judge, NamesTags):
            namers.append(judge)
            for tag in (*sample.tags, *(history.tag for history in histories.values())):
                for name in judge.named(tag):
                    names.setdefault(name.text, tag.text)
        if isinstance(judge, JudgesTags):
            template, cut = judge.template, judge.cut
            for rank, tag in enumerate(judge.judged([sample])[0]):
                lost = _below(tag, cut) or f"{rank} tags have higher scores, and only so many are kept"
                histories[tag.text] = TagHistory(tag, _naming(tag.text, sample), cut, None, lost)
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
    known = [_known(text, names, done, namers) for text in asked]
    sentences = [filled(template, text) for text in known]
    maps = encoder.text_maps(last.image, sentences)
    cosines = encoder.embed_texts(sentences) @ image_vectors([last], encoder)[0]
    order = sorted(done.values(), key=lambda one: (one.dropped_by is not None, -one.tag.score, one.tag.text))
    result = Result.from_sample(last)
    return [
        Explanation(
            text,
            float(cosine),
            encoder.id,
            done.get(own),
            tuple(one for one in order if one is not done.get(own)),
            replace(maps, values=maps.values[number : number + 1]),
            last.image,
            result,
        )
        for number, (text, own, cosine) in enumerate(zip(asked, known, cosines, strict=True))
    ]


def _note(histories: dict[str, TagHistory], sample: Sample, stage: str, names: Mapping[str, str]) -> None:
    """Note which tags a stage proposed, changed and dropped, by the texts that the models know."""
    here = {names.get(tag.text, tag.text): tag for tag in reversed(sample.tags)}
    for text, history in histories.items():
        if text not in here and history.dropped_by is None:
            why = history.reason or "it was merged into another tag, or left out"
            histories[text] = replace(history, dropped_by=stage, reason=why)
    for text, tag in reversed(here.items()):
        cut = histories[text].cut if text in histories else None
        histories[text] = TagHistory(tag, _naming(text, sample), cut)


def _known(text: str, names: Mapping[str, str], done: Container[str], namers: Sequence[NamesTags]) -> str:
    """Return a tag as the models know it, also if no stage proposed it."""
    if text in names or text in done:
        return names.get(text, text)
    return next((known for namer in namers if (known := namer.known_as(text))), text)


def _below(tag: Tag, cut: float) -> str:
    return f"its score {tag.score:.3f} is below {cut:.3f}" if tag.score < cut else ""


def _naming(text: str, sample: Sample) -> tuple[str, ...]:
    wanted = re.compile(rf"\b{re.escape(text)}\b", re.IGNORECASE)
    return tuple(dict.fromkeys(one.text for one in sample.captions if wanted.search(one.text)))
