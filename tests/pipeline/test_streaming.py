"""Streams: what runs side by side, what is let through, and that no thread outlives them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pytest
from PIL import Image

from autotag.errors import ConfigError, PipelineClosedError, UnknownNameError
from autotag.pipeline import streaming
from autotag.pipeline.function_stage import stage
from autotag.pipeline.pipeline import Pipeline
from autotag.pipeline.presets import from_config, load, to_config
from autotag.records import Caption, Result, Sample, Tag
from autotag.stages import CaptionImages, ExtractKeyphrases, FilterTags
from autotag.testing import FakeEncoder, FakeExtractor, make_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from autotag.protocols import CaptionOptions


@dataclass
class Scene:
    """Looks at images."""

    do: Callable[[Sequence[Sample]], object] = lambda samples: None
    name: str = "scene"
    requires: ClassVar[frozenset[str]] = frozenset()
    provides: ClassVar[frozenset[str]] = frozenset({"captions"})

    def __call__(self, samples: Sequence[Sample], /) -> None:
        self.do(samples)
        for sample in samples:
            sample.captions.append(Caption(f"width {sample.size[0]}", self.name))


@dataclass
class Words:
    """Looks at texts."""

    do: Callable[[Sequence[Sample]], object] = lambda samples: None
    name: str = "words"
    requires: ClassVar[frozenset[str]] = frozenset({"captions"})
    provides: ClassVar[frozenset[str]] = frozenset({"tags"})

    def __call__(self, samples: Sequence[Sample], /) -> None:
        self.do(samples)
        for sample in samples:
            sample.tags.append(Tag.proposed(sample.captions[0].text, 1.0, self.name))


def pictures(count: int) -> list[Image.Image]:
    return [Image.new("RGB", (width, 4)) for width in range(1, count + 1)]


def widths(results: Sequence[Result] | Iterator[Result]) -> list[int]:
    return [int(result.tags[0].text.removeprefix("width ")) for result in results]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("autotag")] == []


class TestOverlap:
    def test_the_models_work_on_the_next_batch_while_texts_are_worked_on(self) -> None:
        """Each waits for the other: in one thread this would never end."""
        together = threading.Barrier(2, timeout=600)

        def image_part(samples: Sequence[Sample]) -> None:
            if samples[0].size[0] > 1:
                together.wait()

        def text_part(samples: Sequence[Sample]) -> None:
            if samples[0].size[0] < 5:
                together.wait()

        pipeline = Pipeline([Scene(image_part), Words(text_part)], batch_size=2)
        assert widths(pipeline.stream(pictures(6))) == [1, 2, 3, 4, 5, 6]

    def test_the_models_work_on_while_the_consumer_is_slow(self) -> None:
        begun = [threading.Event() for _ in range(3)]

        def image_part(samples: Sequence[Sample]) -> None:
            begun[samples[0].size[0] // 2].set()

        stream = Pipeline([Scene(image_part), Words()], batch_size=2).stream(pictures(6))
        next(stream)
        assert begun[1].wait(600), "the second batch has begun while the first result is looked at"
        assert widths(stream) == [2, 3, 4, 5, 6]

    def test_reading_goes_on_while_the_models_work(self, monkeypatch: pytest.MonkeyPatch) -> None:
        read_third = threading.Event()

        class Third(Image.Image):
            def load(self) -> Any:
                read_third.set()
                return super().load()

        images = pictures(4)
        images[2].__class__ = Third

        def image_part(samples: Sequence[Sample]) -> None:
            assert read_third.wait(600)

        assert widths(Pipeline([Scene(image_part), Words()], batch_size=2).stream(images)) == [1, 2, 3, 4]

    def test_never_more_is_taken_than_two_batches_and_the_read_ahead(self) -> None:
        taken: list[int] = []

        def endless() -> Iterator[Image.Image]:
            for number in count(1):
                taken.append(number)
                yield Image.new("RGB", (number, 4))

        stream = Pipeline([Scene(), Words()], batch_size=3, decode_ahead=5).stream(endless())
        for yielded, _ in enumerate(islice(stream, 40)):
            assert len(taken) <= yielded + 2 * 3 + 5
        stream.close()  # type: ignore[attr-defined]

    def test_large_images_make_smaller_batches(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(streaming, "BATCH_BYTES", 8_000)
        sizes: list[int] = []
        pipeline = Pipeline([Scene(lambda samples: sizes.append(len(samples)))], batch_size=8)
        images = [make_image(size=(40, 25)) for _ in range(6)]
        assert len(list(pipeline.stream(images))) == 6
        assert sizes == [2, 2, 2]

    def test_streams_in_several_threads_take_turns_part_by_part(self) -> None:
        inside: dict[str, int] = {"scene": 0, "words": 0}
        most: list[int] = []

        def alone(name: str) -> Callable[[Sequence[Sample]], None]:
            def part(samples: Sequence[Sample]) -> None:
                inside[name] += 1
                most.append(inside[name])
                inside[name] -= 1

            return part

        pipeline = Pipeline([Scene(alone("scene")), Words(alone("words"))], batch_size=3)
        answers: dict[int, list[int]] = {}

        def work(number: int) -> None:
            answers[number] = widths(pipeline.stream(pictures(20)))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        single = [widths([pipeline(picture)]) for picture in pictures(5)]
        for thread in threads:
            thread.join(timeout=600)
        assert single == [[1], [2], [3], [4], [5]]
        assert answers == {number: list(range(1, 21)) for number in range(4)}
        assert max(most) == 1


TWO_PARTS = [Scene(), Words()]
ONE_PART = [Scene(), Scene(name="other")]


class TestEnds:
    @pytest.mark.parametrize("ordered", [True, False])
    def test_nothing_gives_nothing(self, ordered: bool) -> None:
        assert list(Pipeline(TWO_PARTS).stream([], ordered=ordered)) == []

    def test_a_consumer_that_stops_half_way_leaves_no_thread(self) -> None:
        for result in Pipeline(TWO_PARTS, batch_size=2).stream(pictures(30)):
            assert result.error is None
            break
        # the fixture looks for threads

    def test_a_consumer_that_raises_leaves_no_thread(self) -> None:
        def consume() -> None:
            for _ in Pipeline(TWO_PARTS, batch_size=2).stream(pictures(30)):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            consume()

    @pytest.mark.parametrize("place", ["head", "tail"])
    @pytest.mark.parametrize("on_error", ["raise", "record"])
    def test_an_interrupt_in_a_stage_ends_the_stream(
        self, place: str, on_error: Literal["raise", "record"]
    ) -> None:
        def interrupt(samples: Sequence[Sample]) -> None:
            raise KeyboardInterrupt

        stages = [Scene(interrupt), Words()] if place == "head" else [Scene(), Words(interrupt)]
        with pytest.raises(KeyboardInterrupt):
            list(Pipeline(stages, batch_size=2).stream(pictures(9), on_error=on_error))

    @pytest.mark.parametrize("ordered", [True, False])
    def test_what_the_inputs_raise_comes_after_the_results_before_it(self, ordered: bool) -> None:
        def broken() -> Iterator[Image.Image]:
            yield from pictures(5)
            raise OSError("the card was pulled out")

        stream = Pipeline(TWO_PARTS, batch_size=2).stream(broken(), ordered=ordered)
        assert sorted(widths(islice(stream, 5))) == [1, 2, 3, 4, 5]
        with pytest.raises(OSError, match="pulled out"):
            next(stream)

    def test_a_pipeline_closed_in_the_middle_ends_the_stream(self) -> None:
        pipeline = Pipeline(TWO_PARTS, batch_size=1)
        stream = pipeline.stream(pictures(9), on_error="record")
        next(stream)
        pipeline.close()
        with pytest.raises(PipelineClosedError):
            list(stream)

    def test_a_batch_that_nobody_waits_for_stops_at_the_next_stage(self) -> None:
        begun, go = threading.Event(), threading.Event()
        reached: list[int] = []

        def first(samples: Sequence[Sample]) -> None:
            if samples[0].size[0] > 1:
                begun.set()
                assert go.wait(600)

        def second(samples: Sequence[Sample]) -> None:
            reached.append(samples[0].size[0])

        stages = [Scene(first), Scene(second, name="second"), Words()]
        stream = Pipeline(stages, batch_size=1).stream(pictures(9))
        next(stream)
        assert begun.wait(600)
        closing = threading.Thread(target=stream.close)  # type: ignore[attr-defined]
        closing.start()
        threading.Timer(0.3, go.set).start()
        closing.join(20)
        assert reached == [1]

    def test_ctrl_c_ends_a_program_whose_models_have_a_thread(self, tmp_path: Path) -> None:
        program = (
            "import itertools, sys, time\n"
            "import autotag\n"
            "from autotag.testing import make_image\n"
            "@autotag.stage(provides={'captions'})\n"
            "def slow(sample):\n    print('working', flush=True); time.sleep(0.1)\n"
            "@autotag.stage(requires={'captions'})\n"
            "def texts(sample): pass\n"
            "images = (make_image() for _ in itertools.count())\n"
            "stream = autotag.Pipeline([slow, texts], batch_size=2).stream(images)\n"
            "try:\n    for result in stream: pass\n"
            "except KeyboardInterrupt: print('stopped', flush=True)\n"
        )
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as running:
            assert running.stdout is not None
            assert running.stdout.readline() == "working\n"
            os.kill(running.pid, signal.SIGINT)
            rest = running.stdout.read().splitlines()
            assert running.wait(timeout=600) == 0
        assert "stopped" in rest


class Slow(Image.Image):
    """Is read only when it may be."""

    go: threading.Event

    def load(self) -> Any:
        assert self.go.wait(600)
        return super().load()


class TestUnordered:
    @pytest.mark.parametrize("stages", [TWO_PARTS, ONE_PART], ids=["two parts", "one part"])
    def test_an_image_that_is_slow_to_read_holds_up_no_other(self, stages: list[Any]) -> None:
        images = pictures(6)
        images[0].__class__ = Slow
        Slow.go = threading.Event()
        stream = Pipeline(stages, batch_size=8, decode_threads=2).stream(images, ordered=False)
        first = [result.size[0] for result in islice(stream, 5)]
        assert sorted(first) == [2, 3, 4, 5, 6]
        Slow.go.set()
        assert [result.size[0] for result in stream] == [1]

    def test_what_is_ready_is_not_kept_until_more_is_read(self) -> None:
        images = pictures(4)
        images[3].__class__ = Slow
        Slow.go = threading.Event()
        stream = Pipeline(TWO_PARTS, batch_size=2).stream(images, ordered=False)
        assert sorted(widths(islice(stream, 3))) == [1, 2, 3]
        Slow.go.set()
        assert widths(stream) == [4]


@dataclass
class Viewing:
    """A captioner that looks at one grey level of a view."""

    view_id: str | None = "tiny"
    bad: frozenset[int] = frozenset()
    made: list[int] = field(default_factory=list)
    looked_at: list[str] = field(default_factory=list)

    def view(self, image: Image.Image, /) -> NDArray[np.uint8]:
        if image.width in self.bad:
            raise ValueError("it has no middle")
        self.made.append(image.width)
        return np.asarray(image.resize((2, 2)), dtype=np.uint8).transpose(2, 0, 1)

    def caption(self, images: Sequence[Image.Image], /, options: CaptionOptions) -> list[list[Caption]]:
        self.looked_at.append("images")
        return [[Caption(f"grey {image.getpixel((0, 0))[0]}", "viewing")] for image in images]  # type: ignore[index]

    def caption_views(self, views: Sequence[Any], /, options: CaptionOptions) -> list[list[Caption]]:
        self.looked_at.append("views")
        return [[Caption(f"grey {view[0, 0, 0]}", "viewing")] for view in views]


@dataclass
class ViewingEncoder(FakeEncoder):
    """An encoder that looks at the same view."""

    view_id: str | None = "tiny"
    made: list[int] = field(default_factory=list)
    viewed: list[int] = field(default_factory=list)

    def view(self, image: Image.Image, /) -> NDArray[np.uint8]:
        self.made.append(image.width)
        return Viewing().view(image)

    def embed_views(self, views: Sequence[NDArray[np.uint8]], /) -> NDArray[np.float32]:
        self.viewed.append(len(views))
        return self.embed_texts([str(view[0, 0, 0]) for view in views])


def grey(count: int) -> list[Image.Image]:
    return [Image.new("RGB", (8 + level, 8), (level, level, level)) for level in range(count)]


def viewing_stages(captioner: Viewing) -> list[Any]:
    return [
        CaptionImages(captioner),
        ExtractKeyphrases(FakeExtractor()),
        FilterTags(score="cosine", threshold=-1.0),
    ]


class TestViews:
    def test_a_view_is_made_once_per_image_for_all_models_that_share_it(self) -> None:
        encoder, captioner = ViewingEncoder(), Viewing()
        pipeline = Pipeline(viewing_stages(captioner), encoder=encoder, batch_size=4)
        results = list(pipeline.stream(grey(6)))
        assert [result.caption for result in results] == [f"grey {level}" for level in range(6)]
        assert sorted([*captioner.made, *encoder.made]) == list(range(8, 14))
        assert set(captioner.looked_at) == {"views"}
        assert encoder.viewed == [4, 2]
        assert encoder.image_batches == []

    def test_one_image_is_viewed_as_in_a_stream(self) -> None:
        captioner = Viewing()
        pipeline = Pipeline([CaptionImages(captioner)])
        assert pipeline(grey(3)[2]).caption == "grey 2"
        assert captioner.looked_at == ["views"]

    def test_an_image_whose_view_cannot_be_made_costs_one_error(self) -> None:
        pipeline = Pipeline([CaptionImages(Viewing(bad=frozenset({9})))], batch_size=4)
        errors = [result.error for result in pipeline.stream(grey(4), on_error="record")]
        assert [error is not None for error in errors] == [False, True, False, False]
        assert "cannot make its view 'tiny' (ValueError: it has no middle)" in str(errors[1])

    def test_views_survive_a_batch_that_starts_over(self) -> None:
        captioner = Viewing()

        @stage(provides={"prompt"})
        def spoil(sample: Sample) -> None:
            assert "tiny" in sample.views
            sample.views.clear()
            if sample.size[0] == 9:
                raise ValueError

        stages = [CaptionImages(captioner), spoil]
        results = list(Pipeline(stages, batch_size=4).stream(grey(4), on_error="record"))
        assert [result.caption for result in results] == ["grey 0", "", "grey 2", "grey 3"]
        assert len(captioner.made) == 4

    @pytest.mark.parametrize(
        "settings", [{"decode": "exact"}, {"fast_paths": ["views"]}, {"fast_paths": "off"}]
    )
    def test_they_can_be_switched_off(self, settings: dict[str, Any]) -> None:
        captioner = Viewing()
        pipeline = Pipeline([CaptionImages(captioner)], **settings)
        assert pipeline(grey(3)[2]).caption == "grey 2"
        assert captioner.looked_at == ["images"]

    def test_a_model_that_makes_none_gets_images(self) -> None:
        captioner = Viewing(view_id=None)
        assert Pipeline([CaptionImages(captioner)])(grey(3)[2]).caption == "grey 2"
        assert captioner.looked_at == ["images"]

    def test_none_are_made_where_a_stage_changes_the_pixels(self) -> None:
        @stage(provides={"image"})
        def whiten(sample: Sample) -> None:
            sample.image.paste((255, 255, 255), (0, 0, *sample.image.size))

        captioner = Viewing()
        assert Pipeline([whiten, CaptionImages(captioner)])(grey(3)[2]).caption == "grey 255"


class TestSettings:
    def test_exact_decodes_in_full(self, tmp_path: Path) -> None:
        make_image(size=(1200, 800)).save(tmp_path / "large.jpg")
        sizes: list[tuple[int, int]] = []

        @stage()
        def look(sample: Sample) -> None:
            sizes.append(sample.image.size)

        for decode in ("fast", "exact"):
            encoder = FakeEncoder(image_size=32)
            stages = [look, CaptionImages(Viewing()), ExtractKeyphrases(FakeExtractor()), FilterTags()]
            stages[1].model.image_size = 32  # type: ignore[union-attr]
            Pipeline(stages, encoder=encoder, decode=decode)(tmp_path / "large.jpg")  # type: ignore[arg-type]
        assert sizes[0] < sizes[1] == (1200, 800)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"decode": "exat"}, "'fast', 'exact'"),
            ({"decode": "exact", "decode_size": 100}, "leave one of them out"),
            ({"fast_paths": ["view"]}, "Did you mean 'views'"),
            ({"fast_paths": "views"}, "an array"),
            ({"stage_batch_sizes": {"scenes": 2}}, "Did you mean 'scene'"),
            ({"stage_batch_sizes": {"scene": 0}}, "a whole number of at least 1"),
            ({"stage_batch_sizes": {"scene": "two"}}, "does not fit"),
        ],
    )
    def test_what_cannot_be_is_refused(self, settings: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            Pipeline([Scene()], **settings)

    def test_an_unknown_stage_is_an_unknown_name(self) -> None:
        with pytest.raises(UnknownNameError):
            Pipeline([Scene()], stage_batch_sizes={"scenes": 2})

    def test_they_come_back_from_a_config(self) -> None:
        sizes = {"caption_images": 4, "filter_tags": 32}
        pipeline = load("mini", decode="exact", fast_paths=["causal_text"], stage_batch_sizes=sizes)
        again = from_config(to_config(pipeline))
        assert (again.decode, again.fast_paths, again.stage_batch_sizes) == ("exact", ("causal_text",), sizes)
        assert not {"decode", "fast_paths", "stage_batch_sizes"} & to_config(load("mini")).keys()
