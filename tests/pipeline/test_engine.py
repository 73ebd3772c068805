"""Bad images, stages that fail and memory that runs out, at every stage, in one thread and in two."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from PIL import Image

from autotag.errors import StageBrokenError, StageError
from autotag.pipeline.pipeline import Pipeline
from autotag.protocols import Models, Stage
from autotag.records import Caption, Result, Sample, Tag
from autotag.stages import CaptionImages, ExtractKeyphrases, FilterTags, MatchVocabulary
from autotag.testing import FakeCaptioner, FakeEncoder, FakeExtractor, make_image


class FullGpuError(RuntimeError):
    """Stands for ``torch.OutOfMemoryError``."""


@dataclass
class Scene:
    """Writes a caption, in place, and fails as it is told to."""

    fail: Callable[[Sequence[Sample]], None] = lambda samples: None
    name: str = "scene"
    sizes: list[int] = field(default_factory=list)
    threads: set[str] = field(default_factory=set)
    requires: ClassVar[frozenset[str]] = frozenset()
    provides: ClassVar[frozenset[str]] = frozenset({"captions"})

    def __call__(self, samples: Sequence[Sample], /) -> None:
        self.sizes.append(len(samples))
        self.threads.add(threading.current_thread().name)
        for sample in samples:
            sample.captions.append(Caption(f"width {sample.size[0]}", self.name))
            sample.extras.setdefault("deep", []).append(1)
        self.fail(samples)


@dataclass
class Words(Scene):
    """Writes a tag for each caption; reads vectors of images too."""

    name: str = "words"
    vectors_fail: Callable[[Sequence[Any]], None] = lambda images: None
    embedded: list[int] = field(default_factory=list)
    requires: ClassVar[frozenset[str]] = frozenset({"captions"})
    provides: ClassVar[frozenset[str]] = frozenset({"tags"})

    @property
    def image_encoder(self) -> Encoder:
        return Encoder(self)

    def __call__(self, samples: Sequence[Sample], /) -> None:
        self.sizes.append(len(samples))
        self.threads.add(threading.current_thread().name)
        for sample in samples:
            sample.tags.extend(Tag.proposed(caption.text, 1.0, self.name) for caption in sample.captions)
        self.fail(samples)


class Encoder(FakeEncoder):
    """Makes vectors for ``Words``, and fails as it is told to."""

    def __init__(self, words: Words) -> None:
        super().__init__()
        self.words = words

    def embed_images(self, images: Sequence[Image.Image], /) -> Any:
        self.words.embedded.append(len(images))
        self.words.vectors_fail(images)
        return super().embed_images(images)


def memory_for(most: int, error: type[Exception] = MemoryError) -> Callable[[Sequence[Sample]], None]:
    def fail(samples: Sequence[Sample]) -> None:
        if len(samples) > most:
            raise error(f"{len(samples)} at once")

    return fail


def bad(*widths: int, error: type[Exception] = ValueError) -> Callable[[Sequence[Sample]], None]:
    def fail(samples: Sequence[Sample]) -> None:
        for sample in samples:
            if sample.size[0] in widths:
                raise error(f"width {sample.size[0]} is bad")

    return fail


def pictures(count: int) -> list[Image.Image]:
    return [Image.new("RGB", (width, 4)) for width in range(1, count + 1)]


def right(count: int) -> list[list[str]]:
    return [[f"width {width}"] for width in range(1, count + 1)]


def tags(results: Sequence[Result]) -> list[list[str]]:
    return [[tag.text for tag in result.tags] for result in results]


def recorded(stages: Sequence[Stage], count: int, **settings: Any) -> list[Result]:
    with Pipeline(stages, **settings) as pipeline:
        return list(pipeline.stream(pictures(count), on_error="record"))


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("autotag")] == []


PLACES = {
    "head": lambda fail: [Scene(fail), Words()],
    "vectors": lambda fail: [Scene(), Words(vectors_fail=fail)],
    "tail": lambda fail: [Scene(), Words(fail)],
    "one thread": lambda fail: [Scene(), Scene(fail, name="second")],
}


@pytest.fixture(params=list(PLACES))
def stages_that(request: pytest.FixtureRequest) -> Callable[..., list[Any]]:
    """Two stages; one fails so, each time at another place."""
    found: Callable[..., list[Any]] = PLACES[request.param]
    return found


class TestBadImages:
    def test_one_bad_image_costs_one_error(self, stages_that: Callable[..., list[Any]]) -> None:
        results = recorded(stages_that(bad(5)), 20, batch_size=8)
        assert [result.error is not None for result in results] == [width == 5 for width in range(1, 21)]
        assert "width 5 is bad" in str(results[4].error)

    def test_the_others_are_what_they_are_alone(self, stages_that: Callable[..., list[Any]]) -> None:
        stages = stages_that(bad(5, 6))
        pipeline = Pipeline(stages, batch_size=8)
        good = [picture for picture in pictures(20) if picture.width not in {5, 6}]
        alone = [pipeline(picture) for picture in good]
        together = [result for result in recorded(stages, 20, batch_size=8) if result.error is None]
        assert together == alone
        assert all(result.extras == alone[0].extras for result in together), "nothing is applied twice"

    def test_a_stage_that_fails_on_every_image_is_broken(self, stages_that: Callable[..., list[Any]]) -> None:
        with pytest.raises(StageBrokenError, match="8 images in a row"):
            recorded(stages_that(bad(*range(100))), 20, batch_size=3)

    def test_raising_comes_after_the_results_before(self, stages_that: Callable[..., list[Any]]) -> None:
        results = Pipeline(stages_that(bad(11)), batch_size=4).stream(pictures(20))
        assert len(list(islice(results, 10))) == 10
        with pytest.raises(StageError, match="width 11 is bad"):
            next(results)


class TestTooLittleMemory:
    @pytest.mark.parametrize("most", [1, 3, 8])
    def test_no_image_is_lost_and_nothing_is_applied_twice(
        self, stages_that: Callable[..., list[Any]], most: int
    ) -> None:
        stages = stages_that(memory_for(most))
        results = recorded(stages, 30, batch_size=8)
        assert results == [Pipeline(stages)(picture) for picture in pictures(30)]

    def test_the_smaller_batch_is_remembered(self) -> None:
        scene = Scene(memory_for(3))
        words = Words()
        assert tags(recorded([scene, words], 32, batch_size=8)) == right(32)
        assert scene.sizes == [8, 4, *[2] * 16]
        assert words.sizes == [8] * 4, "other stages keep theirs"

    def test_torchs_own_error_counts_without_torch_being_imported(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        emptied = []
        cuda = SimpleNamespace(is_initialized=lambda: True, empty_cache=lambda: emptied.append(True))
        monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(OutOfMemoryError=FullGpuError, cuda=cuda))
        scene = Scene(memory_for(2, FullGpuError))
        assert tags(recorded([scene, Words()], 8, batch_size=8, device="cpu")) == right(8)
        assert len(emptied) == 2

    def test_one_image_that_is_too_much_is_an_error_of_that_image(
        self, stages_that: Callable[..., list[Any]]
    ) -> None:
        results = recorded(stages_that(bad(5, error=MemoryError)), 12, batch_size=4)
        assert [result.error is not None for result in results] == [width == 5 for width in range(1, 13)]
        assert "MemoryError" in str(results[4].error)

    def test_what_fills_the_memory_is_let_go(self) -> None:
        """The locals of the failed call are gone when the next begins."""
        alive: list[int] = []

        class Large:
            def __init__(self) -> None:
                alive.append(1)

            def __del__(self) -> None:
                alive.pop()

        def fail(samples: Sequence[Sample]) -> None:
            assert alive == []
            large = Large()
            if len(samples) > 1:
                raise MemoryError(str(large))

        assert tags(recorded([Scene(fail), Words()], 4, batch_size=4)) == right(4)

    def test_an_image_that_is_too_large_to_decode_is_an_error_of_that_image(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Huge(Image.Image):
            def load(self) -> Any:
                raise MemoryError

        first, second = pictures(2)
        first.__class__ = Huge
        bad_one, good = Pipeline([Scene()]).stream([first, second], on_error="record")
        assert "not enough memory" in str(bad_one.error)
        assert good.error is None


class TestCut:
    """Which stages run in the thread of the models."""

    def threads(self, stages: Sequence[Any], **settings: Any) -> None:
        assert all(result.error is None for result in recorded(stages, 6, batch_size=2, **settings))

    def test_image_stages_have_a_thread_of_their_own_and_texts_are_worked_on_here(self) -> None:
        scene, words = Scene(), Words()
        self.threads([scene, words])
        assert {name.rstrip("_0") for name in scene.threads} == {"autotag-models"}
        assert words.threads == {threading.current_thread().name}

    def test_no_thread_is_started_for_images_alone(self) -> None:
        scene = Scene()
        self.threads([scene])
        assert scene.threads == {threading.current_thread().name}

    def test_one_image_needs_no_thread(self) -> None:
        scene = Scene()
        Pipeline([scene, Words()])(make_image())
        assert scene.threads == {threading.current_thread().name}

    def test_a_late_stage_whose_model_looks_at_images_stays_with_the_models(self) -> None:
        class Late(Scene):
            requires = frozenset({"captions"})

            def setup(self, models: Models, /) -> None:
                models.captioner(FakeCaptioner())

        late, words = Late(name="late"), Words()
        self.threads([Scene(), late, words])
        assert late.threads != words.threads

    def test_nothing_is_prepared_from_pixels_that_are_changed_later(self) -> None:
        class Crop(Scene):
            requires = frozenset({"captions"})
            provides = frozenset({"image"})

        words = Words()
        self.threads([Scene(), Crop(name="crop"), words])
        assert words.embedded == []

    def test_our_stages_embed_each_image_once_and_ahead_of_the_texts(self) -> None:
        encoder = FakeEncoder(default_score="standardised", default_thresholds={"standardised": -100.0})
        seen: set[str] = set()
        plain_embed = encoder.embed_images

        class Watched(FakeEncoder):
            def embed_images(self, images: Sequence[Image.Image], /) -> Any:
                seen.add(threading.current_thread().name.rstrip("_0"))
                return plain_embed(images)

        watched = Watched(default_score="standardised", default_thresholds={"standardised": -100.0})
        stages: list[Any] = [
            CaptionImages(FakeCaptioner()),
            ExtractKeyphrases(FakeExtractor()),
            FilterTags(),
            MatchVocabulary(("cat", "dog")),
        ]
        together = recorded(stages, 8, batch_size=4, encoder=watched)
        assert seen == {"autotag-models"}
        assert encoder.image_batches == [4, 4]
        single = Pipeline(
            stages,
            encoder=FakeEncoder(default_score="standardised", default_thresholds={"standardised": -100.0}),
        )
        assert tags(together) == tags([single(picture) for picture in pictures(8)])


class TestBatchSizes:
    def test_a_stage_gets_as_many_as_it_is_set_to(self) -> None:
        scene, words = Scene(), Words()
        recorded([scene, words], 10, batch_size=4, stage_batch_sizes={"words": 3})
        assert scene.sizes == [4, 4, 2]
        assert words.sizes == [3, 1, 3, 1, 2]
        assert words.embedded == [3, 1, 3, 1, 2]
