"""Fake models without weights and torch, and samples to test stages with."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from autotag.records import Caption, Detection, Sample, Tag

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from autotag.protocols import (
        Captioner,
        CaptionOptions,
        Classifier,
        Detector,
        ImageTextEncoder,
        KeyphraseExtractor,
        KeyphraseOptions,
        ScoreName,
        TranslationOptions,
        Translator,
    )

_COLOURS = {
    "red": (200, 40, 40),
    "green": (40, 160, 60),
    "blue": (50, 80, 200),
    "yellow": (230, 210, 60),
    "white": (240, 240, 240),
    "black": (20, 20, 20),
}
_STOP_WORDS = frozenset(
    ["a", "an", "and", "are", "at", "by", "for", "in", "is", "it", "of", "on", "the", "they", "to", "with"]
)
_SHARED = 0.95
_HALF = 32


@dataclass(slots=True)
class FakeCaptioner:
    """Caption an image with its main colour: "a red picture".

    Attributes:
        text: the caption of every image instead, if given.
        image_size: see ``Captioner``.
        batches: the number of images of each call.
    """

    text: str | None = None
    image_size: int | None = None
    batches: list[int] = field(default_factory=list)

    def caption(self, images: Sequence[Image.Image], /, options: CaptionOptions) -> list[list[Caption]]:
        """Return ``options.num_captions`` captions per image, with scores -1, -2, and so on."""
        self.batches.append(len(images))
        return [self._captions(image, options) for image in images]

    def _captions(self, image: Image.Image, options: CaptionOptions) -> list[Caption]:
        first = self.text or f"a {_colour(image)} picture"
        if options.prompt:
            first = f"{options.prompt} {first}"
        texts = [first, *(f"{first}, version {number}" for number in range(2, options.num_captions + 1))]
        return [Caption(text, "fake", float(-rank)) for rank, text in enumerate(texts, 1)]


@dataclass(slots=True)
class FakeExtractor:
    """Return the first n-grams of a text, short ones first, without stop words.

    Attributes:
        batches: the number of texts of each call.
    """

    batches: list[int] = field(default_factory=list)

    def extract(self, texts: Sequence[str], /, options: KeyphraseOptions) -> list[list[tuple[str, float]]]:
        """Return at most ``options.top_n`` keyphrases per text, with scores falling from 0.9."""
        self.batches.append(len(texts))
        return [self._keyphrases(text, options) for text in texts]

    def _keyphrases(self, text: str, options: KeyphraseOptions) -> list[tuple[str, float]]:
        stop_words = (
            _STOP_WORDS if isinstance(options.stop_words, str) else frozenset(options.stop_words or ())
        )
        words = [word for word in re.findall(r"\w+", text.lower()) if word not in stop_words]
        shortest, longest = options.ngram_range
        ngrams = [
            " ".join(words[start : start + length])
            for length in range(shortest, longest + 1)
            for start in range(len(words) - length + 1)
        ]
        distinct = list(dict.fromkeys(ngrams))[: options.top_n]
        return [(ngram, 0.9 * 0.9**rank) for rank, ngram in enumerate(distinct)]


@dataclass(slots=True)
class FakeEncoder:
    """Embed images and texts as unit vectors of 65 numbers, hashed from pixels and words.

    A text that contains a key of ``similarities`` as whole words has exactly that cosine with every
    image; of several keys the longest counts. Any other text has a cosine between about 0 and 0.4 that
    depends on text and image.

    Attributes:
        similarities: text -> cosine in [-0.95, 0.95].
        id: the name of the weights.
        default_thresholds: score name -> threshold.
        default_score: see ``HasDefaultScore``.
        image_size: see ``ImageTextEncoder``.
        image_batches: the number of images of each call.
        text_batches: the number of texts of each call.
    """

    similarities: Mapping[str, float] = field(default_factory=dict)
    id: str = "fake"
    default_thresholds: Mapping[str, float] = field(default_factory=lambda: {"cosine": 0.2})
    default_score: ScoreName = "cosine"
    image_size: int | None = None
    image_batches: list[int] = field(default_factory=list)
    text_batches: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        for text, similarity in self.similarities.items():
            if abs(similarity) > _SHARED:
                raise ValueError(f"the cosine of {text!r} must be in [-0.95, 0.95], not {similarity}")

    def embed_images(self, images: Sequence[Image.Image], /) -> NDArray[np.float32]:
        """Return (B, 65) float32, rows of length 1: a part shared by all images, then each own part."""
        self.image_batches.append(len(images))
        rows = [self._image_row(image) for image in images]
        return np.stack(rows) if rows else np.zeros((0, 1 + 2 * _HALF), dtype=np.float32)

    def embed_texts(self, texts: Sequence[str], /) -> NDArray[np.float32]:
        """Return (T, 65) float32, rows of length 1."""
        self.text_batches.append(len(texts))
        rows = [self._text_row(text) for text in texts]
        return np.stack(rows) if rows else np.zeros((0, 1 + 2 * _HALF), dtype=np.float32)

    def _image_row(self, image: Image.Image) -> NDArray[np.float32]:
        own = _hashed_unit(image.resize((16, 16)).tobytes(), _HALF)
        return np.concatenate([[_SHARED], _rest(_SHARED) * own, np.zeros(_HALF)]).astype(np.float32)

    def _text_row(self, text: str) -> NDArray[np.float32]:
        scripted = [key for key in self.similarities if re.search(rf"\b{re.escape(key)}\b", text)]
        if scripted:
            shared = self.similarities[max(scripted, key=len)] / _SHARED
            own = np.concatenate([np.zeros(_HALF), _hashed_unit(text.encode(), _HALF)])
        else:
            shared = 0.1 + 0.2 * (zlib.crc32(text.encode()) % 1000) / 1000
            own = _hashed_unit(text.encode(), 2 * _HALF)
        return np.concatenate([[shared], _rest(shared) * own]).astype(np.float32)


@dataclass(slots=True)
class FakeDetector:
    """Find one object in the middle half of every image.

    Attributes:
        label: the object's label.
        image_size: see ``Detector``.
        batches: the number of images of each call.
    """

    label: str = "object"
    image_size: int | None = None
    batches: list[int] = field(default_factory=list)

    def detect(self, images: Sequence[Image.Image], /) -> list[list[Detection]]:
        """Return one detection per image, with score 0.9."""
        self.batches.append(len(images))
        sizes = [image.size for image in images]
        return [[Detection(self.label, 0.9, (w / 4, h / 4, 3 * w / 4, 3 * h / 4))] for w, h in sizes]


@dataclass(slots=True)
class FakeClassifier:
    """Give the label that is the image's colour the probability 0.9, and share the rest.

    Attributes:
        labels: the labels; an image of another colour gets the first.
        exclusive: see ``HasExclusiveLabels``.
        image_size: see ``HasImageSize``.
        batches: the number of images of each call.
    """

    labels: Sequence[str] = ("red", "green", "blue")
    exclusive: bool = True
    image_size: int | None = None
    batches: list[int] = field(default_factory=list)

    def classify(self, images: Sequence[Image.Image], /) -> NDArray[np.float32]:
        """Return (B, L) float32 probabilities."""
        self.batches.append(len(images))
        count = len(self.labels)
        rest = 0.1 / max(count - 1, 1)
        probabilities = np.full((len(images), count), rest, dtype=np.float32)
        for row, image in zip(probabilities, images, strict=True):
            colour = _colour(image)
            row[self.labels.index(colour) if colour in self.labels else 0] = 0.9
        return probabilities


@dataclass(slots=True)
class FakeTranslator:
    """Put the target language before each text: "de: a dog".

    Attributes:
        batches: the number of texts of each call.
    """

    batches: list[int] = field(default_factory=list)

    def check_languages(self, options: TranslationOptions, /) -> None:
        """Accept every language."""

    def translate(self, texts: Sequence[str], /, options: TranslationOptions) -> list[str]:
        """Return the texts, each after the target language and a colon."""
        self.batches.append(len(texts))
        return [f"{options.target}: {text}" for text in texts]


@dataclass(slots=True)
class FakeModels:
    """Give stages a fake for every model name: an ``autotag.protocols.Models`` without weights.

    Attributes:
        fake_captioner: returned for every captioner's name.
        fake_extractor: returned for every extractor's name.
        fake_encoder: returned for every encoder's name, and for None.
        fake_detector: returned for every detector's name.
        fake_classifier: returned for every classifier's name.
        fake_translator: returned for every translator's name.
        asked: the requested kinds and names, in order.
    """

    fake_captioner: Captioner = field(default_factory=FakeCaptioner)
    fake_extractor: KeyphraseExtractor = field(default_factory=FakeExtractor)
    fake_encoder: ImageTextEncoder = field(default_factory=FakeEncoder)
    fake_detector: Detector = field(default_factory=FakeDetector)
    fake_classifier: Classifier = field(default_factory=FakeClassifier)
    fake_translator: Translator = field(default_factory=FakeTranslator)
    asked: list[tuple[str, object]] = field(default_factory=list)

    def captioner(self, model: str | Captioner, /) -> Captioner:
        """Return the fake for a name, or the given object; note the call in ``asked``."""
        self.asked.append(("captioner", model))
        return self.fake_captioner if isinstance(model, str) else model

    def extractor(self, model: str | KeyphraseExtractor, /) -> KeyphraseExtractor:
        """Return the fake for a name, or the given object; note the call in ``asked``."""
        self.asked.append(("extractor", model))
        return self.fake_extractor if isinstance(model, str) else model

    def encoder(self, model: str | ImageTextEncoder | None = None, /) -> ImageTextEncoder:
        """Return the fake for a name or None, or the given object; note the call in ``asked``."""
        self.asked.append(("encoder", model))
        return self.fake_encoder if model is None or isinstance(model, str) else model

    def detector(self, model: str | Detector, /) -> Detector:
        """Return the fake for a name, or the given object; note the call in ``asked``."""
        self.asked.append(("detector", model))
        return self.fake_detector if isinstance(model, str) else model

    def classifier(self, model: str | Classifier, /) -> Classifier:
        """Return the fake for a name, or the given object; note the call in ``asked``."""
        self.asked.append(("classifier", model))
        return self.fake_classifier if isinstance(model, str) else model

    def translator(self, model: str | Translator, /) -> Translator:
        """Return the fake for a name, or the given object; note the call in ``asked``."""
        self.asked.append(("translator", model))
        return self.fake_translator if isinstance(model, str) else model


def make_image(colour: str = "red", size: tuple[int, int] = (48, 32)) -> Image.Image:
    """Return an image of one colour: red, green, blue, yellow, white or black; width, height in pixels."""
    return Image.new("RGB", size, _COLOURS[colour])


def make_sample(
    source: str = "image.png",
    *,
    colour: str = "red",
    size: tuple[int, int] = (48, 32),
    captions: Sequence[str] = (),
    tags: Mapping[str, float] | Sequence[Tag] = (),
    detections: Sequence[Detection] = (),
    prompt: str = "",
    extras: Mapping[str, Any] | None = None,
) -> Sample:
    """Return a sample with an image of one colour and the fields that earlier stages would write.

    Args:
        source: path, URL or id.
        colour: see ``make_image``.
        size: width, height in pixels.
        captions: texts, best first; their source is ``"fake"``.
        tags: text -> score, proposed by ``"fake"``; or ``Tag`` objects.
        detections: the sample's detections.
        prompt: the sample's prompt.
        extras: the sample's extras.
    """
    if isinstance(tags, Mapping):
        tags = [Tag.proposed(text, score, "fake") for text, score in tags.items()]
    return Sample(
        source=source,
        image=make_image(colour, size),
        size=size,
        captions=[Caption(text, "fake") for text in captions],
        detections=list(detections),
        tags=list(tags),
        prompt=prompt,
        extras=dict(extras or {}),
    )


def make_samples() -> list[Sample]:
    """Return three different samples for ``check_stage``, with captions, tags, detections and prompt."""
    box = (4.0, 4.0, 30.0, 20.0)
    rows = [
        ("red", ["a red dog on the grass", "a dog"], {"dog": 0.8, "dogs": 0.7, "red dog": 0.6}),
        ("green", ["a green field"], {"field": 0.9}),
        ("blue", ["two boats on a blue lake"], {"boats": 0.5, "lake": 0.4, "blue": 0.3, "Lake": 0.2}),
    ]
    return [
        make_sample(
            f"{colour}.png",
            colour=colour,
            captions=captions,
            tags=tags,
            detections=[Detection(colour, 0.9, box)],
            prompt=captions[0],
        )
        for colour, captions, tags in rows
    ]


def _colour(image: Image.Image) -> str:
    mean = np.asarray(image.convert("RGB").resize((1, 1))).reshape(3).astype(float)
    return min(_COLOURS, key=lambda name: float(np.abs(mean - _COLOURS[name]).sum()))


def _hashed_unit(content: bytes, width: int) -> NDArray[np.float64]:
    vector = np.random.default_rng(zlib.crc32(content)).standard_normal(width)
    return vector / np.linalg.norm(vector)


def _rest(part: float) -> float:
    """Return the rest of a unit vector's length beside ``part``."""
    return math.sqrt(1 - part**2)
