"""Each check is shown something that breaks the contract, and must notice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

import numpy as np
import pytest

from autotag.errors import WiringError
from autotag.pipeline.function_stage import stage
from autotag.protocols import CaptionOptions, KeyphraseOptions
from autotag.records import Caption, Detection, Result, Sample, Tag
from autotag.testing import (
    FakeClassifier,
    FakeEncoder,
    FakeExtractor,
    check_captioner,
    check_classifier,
    check_detector,
    check_encoder,
    check_extractor,
    check_stage,
    check_writer,
    make_sample,
    make_samples,
)


@dataclass
class Good:
    """Adds a tag of its own."""

    text: str | None = "good"
    sizes: tuple[int, int] = (1, 2)
    name: str = "good"
    requires: frozenset[str] = field(default=frozenset({"tags"}), init=False)
    provides: frozenset[str] = field(default=frozenset({"tags"}), init=False)

    def __call__(self, samples: Sequence[Sample], /) -> None:
        for sample in samples:
            self.write(sample)

    def write(self, sample: Sample) -> None:
        sample.tags.append(Tag.proposed(self.text or "none", 1.0, self.name))


class Untouched(Good):
    def write(self, sample: Sample) -> None:
        sample.prompt = "not mine to write"


class WritesExtras(Good):
    def write(self, sample: Sample) -> None:
        sample.extras["mine"] = 1


class Pops(Good):
    def __call__(self, samples: Any, /) -> None:
        if samples:
            samples.pop()


class Reorders(Good):
    def __call__(self, samples: Any, /) -> None:
        samples.reverse()


class FailsOnNothing(Good):
    def __call__(self, samples: Sequence[Sample], /) -> None:
        if not samples:
            raise AssertionError("an empty batch")


class Returns(Good):
    def __call__(self, samples: Sequence[Sample], /) -> Any:
        return samples


class LooksAtNeighbours(Good):
    def __call__(self, samples: Sequence[Sample], /) -> None:
        for sample in samples:
            sample.tags = [Tag.proposed(str(len(samples)), 1.0, self.name)]


class TagsAreText(Good):
    def write(self, sample: Sample) -> None:
        sample.tags = ["dog"]  # type: ignore[list-item]


class NotJson(Good):
    provides = frozenset({"extras.pixels"})

    def write(self, sample: Sample) -> None:
        sample.extras["pixels"] = np.zeros(3)


@dataclass
class Unpicklable(Good):
    hook: Callable[[], None] = field(default=lambda: None)


@dataclass
class ForgetsItsConfig(Good):
    def __post_init__(self) -> None:
        self.text = f"{self.text}!"


@pytest.mark.parametrize("good", [Good(), Good(text=None, sizes=(3, 4)), Good(name="other")])
def test_a_good_stage_passes(good: Good) -> None:
    check_stage(good)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (Untouched(), "writes 'prompt', which it does not provide"),
        (WritesExtras(), r"writes 'extras\.mine', which it does not provide"),
        (Pops(), "must not add, drop or reorder"),
        (Reorders(), "must not add, drop or reorder"),
        (FailsOnNothing(), "an empty batch"),
        (Returns(), "returns nothing"),
        (LooksAtNeighbours(), "other tags in a batch than alone"),
        (TagsAreText(), "holds 'dog', not a Tag"),
        (NotJson(), "cannot be written as JSON"),
        (Unpicklable(), "cannot be pickled"),
        (ForgetsItsConfig(), "comes back from a config as"),
        (Good, "is a class"),
        (print, "lacks name"),
    ],
)
def test_a_stage_that_breaks_the_contract_is_found_out(bad: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_stage(bad)


def test_a_stage_with_an_unknown_field_is_refused() -> None:
    with pytest.raises(WiringError, match="Did you mean 'tags'"):
        check_stage(stage(provides={"tagz"})(lambda sample: None))


def test_a_stage_may_leave_vectors_on_the_sample() -> None:
    @dataclass
    class Embeds(Good):
        def write(self, sample: Sample) -> None:
            sample.embeddings["fake"] = np.ones(1, dtype=np.float32)

    embeds = Embeds()
    embeds.__class__.__qualname__, embeds.__class__.__module__ = "Embeds", __name__
    globals()["Embeds"] = Embeds
    check_stage(embeds)


def test_samples_of_ones_own_are_used() -> None:
    seen = []

    def samples() -> list[Sample]:
        seen.append(1)
        return [make_sample("mine.png", tags={"dog": 0.5})]

    check_stage(Good(), samples=samples)
    assert seen


class FewCaptions:
    def caption(self, images: Sequence[Any], /, options: CaptionOptions) -> list[list[Caption]]:
        return [[Caption("one", "few")] for _ in images]


class CountsTheBatch:
    def caption(self, images: Sequence[Any], /, options: CaptionOptions) -> list[list[Caption]]:
        return [[Caption(f"{len(images)}", "counts")] * options.num_captions for _ in images]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (FewCaptions(), "num_captions=2 gave 1"),
        (CountsTheBatch(), "differ in a batch"),
        (FakeEncoder(), "has no caption"),
    ],
)
def test_a_bad_captioner_is_found_out(bad: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_captioner(bad)


class FlatKeyphrases(FakeExtractor):
    """The flat list that KeyBERT gives for one text."""

    def extract(self, texts: Sequence[str], /, options: KeyphraseOptions) -> Any:
        rows = super().extract(texts, options)
        return rows[0] if len(rows) == 1 else rows


class WorstFirst(FakeExtractor):
    def extract(self, texts: Sequence[str], /, options: KeyphraseOptions) -> Any:
        return [row[::-1] for row in super().extract(texts, options)]


class TooMany(FakeExtractor):
    def extract(self, texts: Sequence[str], /, options: KeyphraseOptions) -> Any:
        return super().extract(texts, KeyphraseOptions(top_n=9))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (FlatKeyphrases(), "other keyphrases alone"),
        (WorstFirst(), "not best first"),
        (TooMany(), "top_n=2 gave"),
    ],
)
def test_a_bad_extractor_is_found_out(bad: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_extractor(bad)


class LongRows(FakeEncoder):
    def embed_images(self, images: Sequence[Any], /) -> Any:
        return super().embed_images(images) * 2


class Doubles(FakeEncoder):
    def embed_texts(self, texts: Sequence[str], /) -> Any:
        return super().embed_texts(texts).astype(np.float64)


class OtherWidth(FakeEncoder):
    def embed_texts(self, texts: Sequence[str], /) -> Any:
        return np.eye(3, dtype=np.float32)[: len(texts)]


class Shifts(FakeEncoder):
    def embed_images(self, images: Sequence[Any], /) -> Any:
        return np.roll(super().embed_images(images), 1, axis=0)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (LongRows(), "not 1"),
        (Doubles(), "float64, not float32"),
        (OtherWidth(), "image vectors have 65 numbers and text vectors 3"),
        (Shifts(), "another vector alone"),
        (FakeEncoder(id=""), "not a name"),
    ],
)
def test_a_bad_encoder_is_found_out(bad: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_encoder(bad)


class Scripted:
    def __init__(self, *detections: Detection) -> None:
        self.detections = detections

    def detect(self, images: Sequence[Any], /) -> list[list[Detection]]:
        return [list(self.detections) for _ in images]


BOX = (0.0, 0.0, 5.0, 5.0)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (Scripted(Detection("dog", 1.5, BOX)), "not in \\[0, 1\\]"),
        (Scripted(Detection("dog", 0.1, BOX), Detection("cat", 0.9, BOX)), "not best first"),
        (Scripted(Detection("dog", 0.9, (0.0, 0.0, 30.0, 30.0))), "not within the image"),
    ],
)
def test_a_bad_detector_is_found_out(bad: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_detector(bad)


class Shares(FakeClassifier):
    def classify(self, images: Sequence[Any], /) -> Any:
        return super().classify(images) / 2


class Percent(FakeClassifier):
    def classify(self, images: Sequence[Any], /) -> Any:
        return super().classify(images) * 100


class ChangesInBatch(FakeClassifier):
    def classify(self, images: Sequence[Any], /) -> Any:
        found = super().classify(images)
        return found if len(images) == 1 else found[:, ::-1]


class OneRow(FakeClassifier):
    def classify(self, images: Sequence[Any], /) -> Any:
        return super().classify(images)[:1]


class HasTwoCategories(FakeClassifier):
    categories = ("a", "b")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (Shares(), "add up to"),
        (Percent(), "not in \\[0, 1\\]"),
        (ChangesInBatch(), "in a batch than alone"),
        (OneRow(), "3 images gave shape"),
        (HasTwoCategories(), "2 categories for 3 labels"),
        (FakeClassifier(labels=()), "no labels"),
        (FakeEncoder(), "lacks labels"),
    ],
)
def test_a_bad_classifier_is_noticed(bad: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_classifier(bad)


class Lines:
    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, result: Result, /) -> None:
        self.stream.write(f"{result.source!r}\n")

    def close(self) -> None:
        """Nothing is held back."""


class ClosesTheStream(Lines):
    def close(self) -> None:
        self.stream.close()


class WritesNothing(Lines):
    def write(self, result: Result, /) -> None:
        """Forgets it."""


def test_a_good_writer_passes() -> None:
    check_writer(Lines)


@pytest.mark.parametrize(
    ("bad", "message"), [(ClosesTheStream, "must not close the stream"), (WritesNothing, "left nothing")]
)
def test_a_bad_writer_is_found_out(bad: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_writer(bad)


def test_the_samples_differ_from_each_other() -> None:
    assert len({sample.image.tobytes() for sample in make_samples()}) == 3
