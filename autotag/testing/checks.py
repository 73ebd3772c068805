"""Check stages, models and writers against the protocols of ``autotag.protocols``."""

from __future__ import annotations

import io
import json
import math
import operator
import pickle
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from PIL import Image

from autotag.config import options
from autotag.errors import ConfigError
from autotag.pipeline import wiring
from autotag.protocols import (
    Captioner,
    CaptionOptions,
    Classifier,
    Detector,
    FindsLabels,
    HasLabels,
    ImageTextEncoder,
    KeyphraseExtractor,
    KeyphraseOptions,
    Models,
    NeedsModels,
    Stage,
    TranslationOptions,
    Translator,
    ViewsImages,
    Writer,
    are_exclusive,
    categories_of,
    is_binary,
    thresholds_of,
)
from autotag.records import Caption, Detection, ModerationLabel, Result, Sample, Tag
from autotag.records.sample_checks import check_sample
from autotag.testing.fakes import FakeModels, make_image, make_samples

if TYPE_CHECKING:
    from numpy.typing import NDArray


def check_stage(
    stage: Stage,
    *,
    models: Models | None = None,
    samples: Callable[[], list[Sample]] = make_samples,
) -> None:
    """Check that a stage fits the protocol ``autotag.protocols.Stage``.

    The stage must declare fields that exist; accept an empty batch; write only the fields that it provides
    (and vectors in ``embeddings``); not change the list of samples; give an image the same result in a batch
    and alone; write records that can become a ``Result``; be picklable before ``setup``; and, if it is a
    dataclass of plain data, be the same after a round trip through a config.

    Args:
        stage: as built, before ``setup``.
        models: gives the stage its models; fakes by default.
        samples: makes new samples, the same each time, with the fields that the stage requires; pass your
            own for ``"extras.<key>"``.

    Raises:
        AssertionError: the stage does not fit; the message says why.
        WiringError: the stage declares a field that samples do not have.
    """
    _check(not isinstance(stage, type), f"{stage!r} is a class; check an object of it")
    _check(isinstance(stage, Stage), f"{stage!r} lacks name, requires, provides or __call__")
    _check(isinstance(stage.name, str) and stage.name != "", f"its name is {stage.name!r}, not a text")
    wiring.check_stage_fields(stage)
    _check_pickles(stage)
    _check_config(stage)
    if isinstance(stage, NeedsModels):
        stage.setup(models or FakeModels())
    _check(stage([]) is None, "a stage returns nothing")  # type: ignore[func-returns-value]
    batch = samples()
    _check_batch(stage, batch, samples())
    for number, (together, alone) in enumerate(zip(batch, samples(), strict=True)):
        _check_records(together)
        stage([alone])
        for name in sorted(wiring.FIELDS | {"extras"} - {"embeddings"}):
            same = _alike(getattr(together, name), getattr(alone, name))
            _check(same, f"sample {number} gets other {name} in a batch than alone")


def check_captioner(captioner: Captioner) -> None:
    """Check that a captioner fits ``autotag.protocols.Captioner``, with images of one colour.

    Raises:
        AssertionError: the captioner does not fit; the message says why.
    """
    _check(isinstance(captioner, Captioner), f"{captioner!r} has no caption(images, options)")
    images = [make_image(colour) for colour in ("red", "green", "blue")]
    _check(captioner.caption([], CaptionOptions()) == [], "no images must give []")
    for wanted in (1, 2):
        asked = CaptionOptions(num_beams=wanted, num_captions=wanted, max_new_tokens=8)
        rows = captioner.caption(images, asked)
        _check(len(rows) == len(images), f"{len(images)} images gave {len(rows)} lists")
        for row in rows:
            _check(len(row) == wanted, f"num_captions={wanted} gave {len(row)} captions")
            _check(all(isinstance(caption, Caption) for caption in row), f"not all are Caption: {row!r}")
            _check(all(isinstance(caption.text, str) for caption in row), f"not all have a text: {row!r}")
    alone = [captioner.caption([image], CaptionOptions(max_new_tokens=8))[0][0].text for image in images]
    together = [row[0].text for row in captioner.caption(images, CaptionOptions(max_new_tokens=8))]
    _check(alone == together, f"captions differ in a batch ({together!r}) and alone ({alone!r})")


def check_extractor(extractor: KeyphraseExtractor) -> None:
    """Check that an extractor fits ``autotag.protocols.KeyphraseExtractor``.

    Raises:
        AssertionError: the extractor does not fit; the message says why.
    """
    _check(isinstance(extractor, KeyphraseExtractor), f"{extractor!r} has no extract(texts, options)")
    texts = ["a red dog runs over green grass", "", "two boats on a lake"]
    asked = KeyphraseOptions(top_n=2)
    _check(extractor.extract([], asked) == [], "no texts must give []")
    rows = extractor.extract(texts, asked)
    _check(len(rows) == len(texts), f"{len(texts)} texts gave {len(rows)} lists")
    _check(list(rows[1]) == [], f"an empty text gave {rows[1]!r}")
    for text, row in zip(texts, rows, strict=True):
        _check(len(row) <= asked.top_n, f"top_n={asked.top_n} gave {len(row)} keyphrases of {text!r}")
        scores = [score for _, score in row]
        _check(scores == sorted(scores, reverse=True), f"not best first: {row!r}")
        _check(_alike(row, extractor.extract([text], asked)[0]), f"{text!r} gives other keyphrases alone")


def check_encoder(encoder: ImageTextEncoder) -> None:
    """Check that an encoder fits ``autotag.protocols.ImageTextEncoder``.

    Raises:
        AssertionError: the encoder does not fit; the message says why.
    """
    _check(isinstance(encoder, ImageTextEncoder), f"{encoder!r} lacks an attribute of ImageTextEncoder")
    _check(isinstance(encoder.id, str) and encoder.id != "", f"id is {encoder.id!r}, not a name")
    images = [make_image(colour) for colour in ("red", "green", "blue")]
    texts = ["a dog", "a photo of a boat on a lake"]
    image_vectors, text_vectors = encoder.embed_images(images), encoder.embed_texts(texts)
    _check_vectors(image_vectors, len(images), "embed_images")
    _check_vectors(text_vectors, len(texts), "embed_texts")
    widths = (image_vectors.shape[1], text_vectors.shape[1])
    _check(widths[0] == widths[1], f"image vectors have {widths[0]} numbers and text vectors {widths[1]}")
    _check(_alike(image_vectors[1:2], encoder.embed_images(images[1:2])), "an image has another vector alone")
    _check(_alike(text_vectors[1:], encoder.embed_texts(texts[1:])), "a text has another vector alone")


def check_detector(detector: Detector) -> None:
    """Check that a detector fits ``autotag.protocols.Detector``, and ``FindsLabels`` if it says so.

    Raises:
        AssertionError: the detector does not fit; the message says why.
    """
    _check(isinstance(detector, Detector), f"{detector!r} has no detect(images)")
    images = [make_image("red", (48, 32)), make_image("blue", (20, 60))]
    _check(detector.detect([]) == [], "no images must give []")
    try:
        rows = detector.detect(images)
    except ConfigError:
        rows = None
    if isinstance(detector, FindsLabels):
        labels = ["dog", "red bicycle"]
        detector.check_labels(labels)
        _check(detector.detect_labels([], labels) == [], "no images must give []")
        named = detector.detect_labels(images, labels)
        others = {found.label for row in named for found in row} - set(labels)
        _check(not others, f"asked for {labels}, it found {sorted(others)}")
        _check_found(images, named)
    _check(rows is not None or isinstance(detector, FindsLabels), "detect(images) refuses to look")
    if rows is None:
        return
    if isinstance(detector, HasLabels):
        others = {found.label for row in rows for found in row} - set(detector.labels)
        _check(not others, f"found {sorted(others)}, which is not in its labels")
    _check_found(images, rows)


def check_classifier(classifier: Classifier) -> None:
    """Check that a classifier fits ``autotag.protocols.Classifier``, and what else it says that it is.

    Raises:
        AssertionError: the classifier does not fit; the message says why.
    """
    _check(isinstance(classifier, Classifier), f"{classifier!r} lacks labels or classify(images)")
    count = len(classifier.labels)
    _check(count > 0 and all(map(str.strip, classifier.labels)), "it has no labels, or one that is empty")
    none: list[Image.Image] = []
    images = [make_image("red", (48, 32)), make_image("blue", (20, 60)), make_image("green", (1, 1))]
    for given in (none, images):
        found = classifier.classify(given)
        shape = (len(given), count)
        _check(found.shape == shape, f"{len(given)} images gave shape {found.shape}, not {shape}")
    _check(found.dtype == np.float32, f"classify gives {found.dtype}, not float32")
    _check(bool(((found >= 0) & (found <= 1)).all()), "a probability is not in [0, 1]")
    if are_exclusive(classifier):
        sums = found.sum(axis=1)
        _check(bool(np.allclose(sums, 1, atol=1e-3)), f"exclusive labels add up to {sums}, not 1")
    alone = np.concatenate([classifier.classify([image]) for image in images])
    _check(_alike(found, alone), "an image has other probabilities in a batch than alone")
    for what, facts in (("categories", categories_of(classifier)), ("thresholds", thresholds_of(classifier))):
        _check(len(facts) in {0, count}, f"it has {len(facts)} {what} for {count} labels")
    if isinstance(classifier, ViewsImages) and classifier.view_id is not None:
        views = [classifier.view(image) for image in images]
        by_view = classifier.classify_views(views)  # type: ignore[attr-defined]
        _check(_alike(found, by_view), "views give other probabilities than images")


def check_translator(translator: Translator, *, source: str = "en", target: str = "de") -> None:
    """Check that a translator fits ``autotag.protocols.Translator``, between two languages that it knows.

    Raises:
        AssertionError: the translator does not fit; the message says why.
    """
    _check(isinstance(translator, Translator), f"{translator!r} lacks translate or check_languages")
    wanted = TranslationOptions(source, target, num_beams=2)
    translator.check_languages(wanted)
    _check(translator.translate([], wanted) == [], "no texts do not give an empty list")
    texts = ["a dog", "a red ball lies on the sand near the sea", "a dog"]
    found = translator.translate(texts, wanted)
    _check(len(found) == len(texts), f"{len(texts)} texts gave {len(found)}")
    _check(all(isinstance(text, str) for text in found), f"not all are texts: {found!r}")
    alone = [text for one in texts for text in translator.translate([one], wanted)]
    _check(found == alone, "a text has another translation in a batch than alone")


def _check_found(images: list[Image.Image], rows: list[list[Detection]]) -> None:
    _check(len(rows) == len(images), f"{len(images)} images gave {len(rows)} lists")
    for image, row in zip(images, rows, strict=True):
        scores = [detection.score for detection in row]
        _check(scores == sorted(scores, reverse=True), f"not best first: {row!r}")
        _check(all(0 <= score <= 1 for score in scores), f"a score is not in [0, 1]: {row!r}")
        for detection in row:
            left, top, right, bottom = detection.box
            inside = 0 <= left <= right <= image.width and 0 <= top <= bottom <= image.height
            _check(inside, f"box {detection.box} is not within the image of {image.size}")


def check_writer(make: Callable[[Any], Writer]) -> None:
    """Check that a writer fits ``autotag.protocols.Writer``.

    Args:
        make: the writer factory, called with a text stream, or a binary one if it has ``binary = True``.

    Raises:
        AssertionError: the writer does not fit; the message says why.
    """
    results = [Result.from_sample(sample) for sample in make_samples()]
    results.append(Result("späte\nphotos/été 1.jpg", (0, 0), error="cannot read image: it is empty"))
    for rows in ([], results):
        stream = io.BytesIO() if is_binary(make) else io.StringIO()
        writer = make(stream)
        _check(isinstance(writer, Writer), f"{writer!r} has no write(result) or no close()")
        for result in rows:
            writer.write(result)
        writer.close()
        _check(not stream.closed, "close() must not close the stream")
    _check(bool(stream.getvalue()), "four results left nothing in the stream")


def _check(holds: bool, message: str) -> None:
    if not holds:
        _fail(message)


def _fail(message: str) -> NoReturn:
    raise AssertionError(message)


def _check_vectors(vectors: NDArray[np.float32], count: int, what: str) -> None:
    _check(vectors.dtype == np.float32, f"{what} gives {vectors.dtype}, not float32")
    _check(vectors.ndim == 2 and len(vectors) == count, f"{what} gives shape {vectors.shape} for {count}")
    lengths = np.linalg.norm(vectors, axis=1)
    _check(bool(np.allclose(lengths, 1, atol=1e-3)), f"{what} gives rows of length {lengths}, not 1")


def _check_pickles(stage: Stage) -> None:
    try:
        again = pickle.loads(pickle.dumps(stage))  # noqa: S301 - made on the line itself
    except (AttributeError, TypeError, pickle.PicklingError) as error:
        _fail(f"stage {stage.name!r} cannot be pickled: {error}")
    _check(again.name == stage.name, f"stage {stage.name!r} comes back from pickle as {again.name!r}")


def _check_config(stage: Stage) -> None:
    """Check that a stage is the same after a round trip through a config; skip stages with model objects."""
    kind: type = type(stage)
    if not is_dataclass(kind):
        return
    try:
        rows = options.written(stage, where=stage.name)
    except ConfigError:
        return
    again = kind(**options.checked(kind, rows, where=stage.name))
    for name in options.option_fields(kind):
        before, after = getattr(stage, name), getattr(again, name)
        _check(_alike(before, after), f"{name} = {before!r} comes back from a config as {after!r}")


def _check_batch(stage: Stage, batch: list[Sample], before: list[Sample]) -> None:
    """Run the batch and check which fields changed."""
    handed = list(batch)
    stage(handed)
    kept = len(handed) == len(batch) and all(map(operator.is_, handed, batch))
    _check(kept, "a stage must not add, drop or reorder samples")
    allowed = {*stage.provides, "embeddings"}
    for sample, old in zip(batch, before, strict=True):
        for name in sorted(_touched(old, sample) - allowed):
            _fail(f"stage {stage.name!r} writes {name!r}, which it does not provide")


def _touched(before: Sample, after: Sample) -> set[str]:
    """Return the names of the fields that differ, with each key of ``extras`` as a separate field."""
    names = {row.name for row in fields(Sample)} - {"extras"}
    touched = {name for name in names if not _alike(getattr(before, name), getattr(after, name))}
    keys = {*before.extras, *after.extras}
    return touched | {
        f"extras.{key}" for key in keys if not _alike(before.extras.get(key), after.extras.get(key))
    }


def _check_records(sample: Sample) -> None:
    try:
        check_sample(sample)
    except TypeError as error:
        _fail(str(error))
    try:
        json.dumps(Result.from_sample(sample).to_dict())
    except (TypeError, ValueError) as error:
        _fail(f"the result cannot be written as JSON: {error}")


def _alike(one: Any, other: Any) -> bool:
    """Return True for equal values; numbers may differ by 0.0001, because rounding depends on the batch."""
    if isinstance(one, Image.Image):
        return bool(one == other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return _alike(list(one.items()), list(other.items()))
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, Caption | Detection | ModerationLabel | Tag) and type(one) is type(other):
        return all(_alike(getattr(one, row.name), getattr(other, row.name)) for row in fields(one))
    return _alike_numbers(one, other)


def _alike_numbers(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return np.shape(one) == np.shape(other) and bool(np.allclose(one, other, atol=1e-4))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-4, abs_tol=1e-4)
    return bool(one == other)
