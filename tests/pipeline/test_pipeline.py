from __future__ import annotations

import copy
import gc
import io
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from autotag.errors import (
    ConfigError,
    ImageReadError,
    ModelUnavailableError,
    PipelineClosedError,
    StageBrokenError,
    StageError,
    UnknownNameError,
    UrlRefusedError,
    WiringError,
)
from autotag.pipeline.function_stage import stage
from autotag.pipeline.pipeline import Pipeline
from autotag.protocols import Captioner, CaptionOptions, Models
from autotag.records import Caption, Result, Sample, Tag
from autotag.testing import FakeCaptioner, FakeEncoder, make_image


@dataclass
class Describe:
    """Captions with a borrowed captioner."""

    model: str | Captioner = field(default_factory=FakeCaptioner)
    name: str = "describe"
    requires: ClassVar[frozenset[str]] = frozenset()
    provides: ClassVar[frozenset[str]] = frozenset({"captions"})

    def setup(self, models: Models, /) -> None:
        self._captioner = models.captioner(self.model)

    def __call__(self, samples: Sequence[Sample], /) -> None:
        rows = self._captioner.caption([sample.image for sample in samples], CaptionOptions())
        for sample, captions in zip(samples, rows, strict=True):
            sample.captions = captions


@dataclass
class Width:
    """Tags an image with its width, appending in place; fails on the widths it is told to."""

    bad: frozenset[int] = frozenset()
    name: str = "width"
    batches: list[list[int]] = field(default_factory=list)
    requires: ClassVar[frozenset[str]] = frozenset()
    provides: ClassVar[frozenset[str]] = frozenset({"tags"})

    def __call__(self, samples: Sequence[Sample], /) -> None:
        self.batches.append([sample.size[0] for sample in samples])
        for sample in samples:
            sample.tags.append(Tag.proposed(str(sample.size[0]), 1.0, self.name))
            if sample.size[0] in self.bad:
                raise ValueError(f"width {sample.size[0]} is bad")


def pictures(*widths: int) -> list[Image.Image]:
    return [Image.new("RGB", (width, 4)) for width in widths]


def collect(stream: Iterator[Result], results: list[Result]) -> None:
    """Appends one by one, so that what came before an error is there."""
    for result in stream:
        results.append(result)  # noqa: PERF402


def tags(results: Any) -> list[list[str]]:
    return [[tag.text for tag in result.tags] for result in results]


class TestConstruction:
    def test_bad_wiring_is_refused_without_torch(self) -> None:
        program = (
            "import sys\n"
            "from autotag.errors import WiringError\n"
            "from autotag.pipeline.pipeline import Pipeline\n"
            "from autotag.stages.filter_tags import FilterTags\n"
            "try:\n    Pipeline([FilterTags()])\n"
            "except WiringError: print('refused', 'torch' in sys.modules)\n"
        )
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
        assert done.stdout == "refused False\n"

    def test_a_single_stage_needs_a_list(self) -> None:
        with pytest.raises(WiringError, match="takes a list of stages"):
            Pipeline(Width())  # type: ignore[arg-type]

    def test_an_unknown_encoder_is_refused_with_the_near_miss(self) -> None:
        with pytest.raises(UnknownNameError, match=r"Did you mean 'clip-vit-b-32'\?"):
            Pipeline([Width()], encoder="clip-vit-b32")

    def test_a_missing_encoder_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ModelUnavailableError, match="there is no folder"):
            Pipeline([Width()], encoder=str(tmp_path / "none"))

    @pytest.mark.parametrize(
        ("setting", "value", "message"),
        [
            ("batch_size", 0, "a whole number of at least 1"),
            ("batch_size", "8", "whole number or one of 'auto'"),
            ("batch_size", True, "does not fit"),
            ("decode_size", -1, "a whole number of at least 1"),
            ("decode_threads", 0, "a whole number of at least 1"),
            ("decode_ahead", 1.5, "does not fit"),
            ("max_pixels", 0, "a whole number of at least 1"),
            ("max_pixels", 10**30, "at most 1099511627776"),
            ("batch_size", 10**23, "at most 65536"),
            ("decode_threads", 1_000_000, "at most 512"),
            ("decode_ahead", 10**23, "at most 1000000"),
            ("decode_size", 10**23, "at most 65536"),
            ("stage_batch_sizes", {"width": 10**23}, "at most 65536"),
            ("allow_urls", "yes", "true or false"),
            ("device", "gpu", "unknown device 'gpu'"),
            ("dtype", "fp16", "unknown dtype 'fp16'"),
            ("encoder", 3, "does not fit"),
        ],
    )
    def test_a_wrong_setting_is_refused(self, setting: str, value: Any, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            Pipeline([Width()], **{setting: value})

    def test_a_number_too_long_to_be_written_is_refused_in_words(self) -> None:
        with pytest.raises(ConfigError, match=r"batch_size is a number of about 4,\d\d\d digits"):
            Pipeline([Width()], batch_size=10**5000)

    def test_it_cannot_be_changed_afterwards(self) -> None:
        with pytest.raises(AttributeError):
            Pipeline([Width()]).batch_size = 3  # type: ignore[misc]

    def test_describe_names_stages_fields_and_settings(self) -> None:
        text = Pipeline([Describe(), Width()], encoder=FakeEncoder(), batch_size=3).describe()
        assert "1. describe" in text
        assert "writes tags" in text
        assert "encoder fake, device auto, dtype auto, batch size 3" in text

    def test_pickling_points_to_the_config(self) -> None:
        with pytest.raises(TypeError, match="to_config"):
            pickle.dumps(Pipeline([Width()]))


class TestOneImage:
    def test_every_kind_of_input_is_read(self, tmp_path: Path) -> None:
        picture = make_image("blue", (20, 10))
        path = tmp_path / "späte pläne.png"
        picture.save(path)
        content = path.read_bytes()
        pipeline = Pipeline([Width()])
        with path.open("rb") as file:
            inputs = [path, str(path), content, io.BytesIO(content), file, picture, np.asarray(picture)]
            assert tags(map(pipeline, inputs)) == [["20"]] * 7

    def test_the_source_and_the_original_size_are_kept(self, tmp_path: Path) -> None:
        make_image("red", (900, 600)).save(tmp_path / "large.jpg")
        result = Pipeline([Describe(FakeCaptioner(image_size=32))])(tmp_path / "large.jpg")
        assert (result.source, result.size) == (str(tmp_path / "large.jpg"), (900, 600))
        assert result.caption == "a red picture"

    def test_an_unreadable_image_raises(self, tmp_path: Path) -> None:
        with pytest.raises(ImageReadError, match="no such file"):
            Pipeline([Width()])(tmp_path / "none.jpg")

    def test_a_url_is_refused_unless_allowed(self) -> None:
        with pytest.raises(UrlRefusedError, match="allow_urls=True"):
            Pipeline([Width()])("https://example.org/image.jpg")

    def test_a_failing_stage_is_named_with_image_and_cause(self, tmp_path: Path) -> None:
        path = tmp_path / "seven.png"
        make_image(size=(7, 4)).save(path)
        with pytest.raises(
            StageError, match=r"stage 'width' failed on .*seven\.png.*: ValueError: width 7"
        ) as caught:
            Pipeline([Width(bad=frozenset({7}))])(path)
        assert (caught.value.stage, caught.value.source) == ("width", str(path))
        assert isinstance(caught.value.__cause__, ValueError)

    def test_interrupts_pass_through(self) -> None:
        @stage()
        def fail(sample: Sample) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            Pipeline([fail])(make_image())
        with pytest.raises(KeyboardInterrupt):
            list(Pipeline([fail]).stream([make_image()], on_error="record"))


class TestDecodeSize:
    @pytest.mark.parametrize(
        ("settings", "image_size", "seen"),
        [
            ({}, 32, (96, 64)),
            ({}, None, (1200, 800)),
            ({"decode_size": "full"}, 32, (1200, 800)),
            ({"decode_size": 100}, 32, (300, 200)),
        ],
    )
    def test_stages_see_what_the_setting_says(
        self, settings: Any, image_size: int | None, seen: tuple[int, int], tmp_path: Path
    ) -> None:
        sizes = []

        @stage()
        def look(sample: Sample) -> None:
            sizes.append(sample.image.size)

        make_image(size=(1200, 800)).save(tmp_path / "large.png")
        Pipeline([Describe(FakeCaptioner(image_size=image_size)), look], **settings)(tmp_path / "large.png")
        assert sizes[0][0] >= seen[0]
        assert sizes[0][0] < 2 * seen[0]


class TestStream:
    def test_results_come_in_order_and_in_batches(self) -> None:
        width = Width()
        results = Pipeline([width], batch_size=4).stream(pictures(*range(1, 11)))
        assert tags(results) == [[str(number)] for number in range(1, 11)]
        assert width.batches == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]

    def test_models_see_whole_batches(self) -> None:
        captioner = FakeCaptioner()
        list(Pipeline([Describe(captioner)], batch_size=4).stream(pictures(*range(1, 11))))
        assert captioner.batches == [4, 4, 2]

    def test_without_a_gpu_auto_is_sixteen(self) -> None:
        width = Width()
        list(Pipeline([width], device="cpu").stream(pictures(*range(1, 18))))
        assert [len(batch) for batch in width.batches] == [16, 1]

    def test_nothing_gives_nothing(self) -> None:
        assert list(Pipeline([Width()]).stream([])) == []

    def test_a_single_image_is_a_stream_of_one(self, tmp_path: Path) -> None:
        picture = make_image(size=(20, 10))
        path = tmp_path / "a.png"
        picture.save(path)
        content = path.read_bytes()
        pipeline = Pipeline([Width()])
        for single in (
            str(path),
            path,
            content,
            bytearray(content),
            io.BytesIO(content),
            picture,
            np.asarray(picture),
        ):
            assert tags(pipeline.stream(single)) == [["20"]]  # type: ignore[arg-type]

    @pytest.mark.parametrize("wrong", [None, 3, 2.5])
    def test_what_holds_no_images_is_refused_at_once(self, wrong: Any) -> None:
        with pytest.raises(ConfigError, match="stream takes an image or an iterable"):
            Pipeline([Width()]).stream(wrong)

    def test_on_error_is_checked_when_called(self) -> None:
        with pytest.raises(ConfigError, match=r"Did you mean 'record'\?"):
            Pipeline([Width()]).stream([], on_error="records")  # type: ignore[arg-type]

    def test_an_endless_generator_is_read_no_further_than_the_bound(self) -> None:
        taken: list[int] = []

        def endless() -> Iterator[Image.Image]:
            for number in count(1):
                taken.append(number)
                yield make_image(size=(number, 4))

        stream = Pipeline([Width()], batch_size=3, decode_ahead=5).stream(endless())
        assert taken == []
        assert len(list(islice(stream, 9))) == 9
        assert len(taken) <= 9 + 5 + 1
        stream.close()  # type: ignore[attr-defined]
        assert not [
            thread for thread in threading.enumerate() if thread.name.startswith("autotag") and _lasts(thread)
        ]

    def test_what_the_users_iterable_raises_comes_after_the_results_before_it(self) -> None:
        def broken() -> Iterator[Image.Image]:
            yield from pictures(1, 2, 3)
            raise OSError("the card was pulled out")

        for on_error in ("raise", "record"):
            results: list[Result] = []
            stream = Pipeline([Width()], batch_size=2).stream(broken(), on_error=on_error)  # type: ignore[arg-type]
            with pytest.raises(OSError, match="pulled out"):
                collect(stream, results)
            assert tags(results) == [["1"], ["2"], ["3"]]

    @pytest.mark.slow
    def test_memory_stays_flat_over_eight_thousand_images(self) -> None:
        """An object of 28 bytes and its reference, kept for each image, would make 252,000 bytes."""
        alive = most = 0

        def forget() -> None:
            nonlocal alive
            alive -= 1

        def many() -> Iterator[Image.Image]:
            picture = make_image(size=(4, 4))
            return (picture for _ in range(8_000))

        @stage()
        def remember(sample: Sample) -> None:
            nonlocal alive, most
            alive += 1
            most = max(most, alive)
            weakref.finalize(sample.image, forget)

        stages = [Describe(FakeCaptioner(text="a picture")), remember]
        stream = Pipeline(stages, batch_size=16, decode_threads=1, encoder=FakeEncoder()).stream(many())
        assert sum(1 for _ in islice(stream, 1_000)) == 1_000
        gc.collect()
        tracemalloc.start()
        try:
            assert sum(1 for _ in stream) == 7_000
            gc.collect()
            left, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert most <= 3 * 16
        assert left < 200_000

    def test_ctrl_c_ends_the_program_at_once(self, tmp_path: Path) -> None:
        program = (
            "import itertools, sys, time\n"
            "import autotag\n"
            "from autotag.testing import make_image\n"
            "@autotag.stage()\n"
            "def slow(sample):\n    print('working', flush=True); time.sleep(0.2)\n"
            "images = (make_image() for _ in itertools.count())\n"
            "stream = autotag.Pipeline([slow], batch_size=2).stream(images)\n"
            "try:\n    for result in stream: pass\n"
            "except KeyboardInterrupt: print('stopped', flush=True)\n"
        )
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as running:
            assert running.stdout is not None
            assert running.stdout.readline() == "working\n"
            os.kill(running.pid, signal.SIGINT)
            out, _ = running.communicate(timeout=600)
        assert out.splitlines()[-1] == "stopped"
        assert running.returncode == 0


class TestOnErrorRaise:
    def test_an_unreadable_image_raises_after_the_results_before_it(self) -> None:
        stream = Pipeline([Width()], batch_size=4).stream([*pictures(1, 2), b"no image", *pictures(3)])
        assert tags(islice(stream, 2)) == [["1"], ["2"]]
        with pytest.raises(ImageReadError):
            next(stream)

    def test_a_failing_stage_raises_after_the_results_before_it(self) -> None:
        stream = Pipeline([Width(bad=frozenset({3}))], batch_size=8).stream(pictures(1, 2, 3, 4))
        assert tags(islice(stream, 2)) == [["1"], ["2"]]
        with pytest.raises(StageError, match="width 3 is bad"):
            next(stream)


class TestOnErrorRecord:
    def test_an_unreadable_image_costs_one_result(self) -> None:
        width = Width()
        inputs = [*pictures(1), b"no image", *pictures(3)]
        results = list(Pipeline([width], batch_size=4).stream(inputs, on_error="record"))
        assert tags(results) == [["1"], [], ["3"]]
        assert results[1].error is not None
        assert results[1].error.startswith("cannot read image '<bytes>'")
        assert width.batches == [[1, 3]], "it has left the batch before the stages run"

    def test_an_image_that_a_stage_fails_on_costs_one_result(self) -> None:
        results = list(
            Pipeline([Width(bad=frozenset({5}))], batch_size=8).stream(
                pictures(*range(1, 9)), on_error="record"
            )
        )
        assert [result.error is None for result in results] == [True] * 4 + [False] + [True] * 3
        assert results[4].size == (5, 4)
        assert "stage 'width' failed" in str(results[4].error)

    def test_halves_start_over_from_fresh_samples(self) -> None:
        second = Width(bad=frozenset({2, 7}), name="second")
        pipeline = Pipeline([Width(), second], batch_size=8)
        results = list(pipeline.stream(pictures(*range(1, 9)), on_error="record"))
        good = [number for number in range(1, 9) if number not in {2, 7}]
        assert [row for row in tags(results) if row] == [[str(number)] * 2 for number in good]

    def test_halves_start_over_from_unchanged_pixels(self) -> None:
        @stage(provides={"image"})
        def darken(sample: Sample) -> None:
            assert sample.image.getpixel((0, 0)) == (200, 40, 40)
            sample.image.paste((0, 0, 0), (0, 0, *sample.image.size))

        pipeline = Pipeline([darken, Width(bad=frozenset({2}))], batch_size=4)
        inputs = [make_image(size=(width, 4)) for width in (1, 2, 3, 4)]
        errors = [result.error for result in pipeline.stream(inputs, on_error="record")]
        assert [error is None for error in errors] == [True, False, True, True]

    def test_a_batch_that_fails_only_as_a_whole_costs_nothing(self) -> None:
        @dataclass
        class Picky:
            name: str = "picky"
            requires: ClassVar[frozenset[str]] = frozenset()
            provides: ClassVar[frozenset[str]] = frozenset()

            def __call__(self, samples: Sequence[Sample], /) -> None:
                if len(samples) > 2:
                    raise RuntimeError("too many at once")

        results = list(Pipeline([Picky()], batch_size=8).stream(pictures(*range(1, 9)), on_error="record"))
        assert [result.error for result in results] == [None] * 8


class TestLifetime:
    def test_models_are_borrowed_once_on_first_use(self) -> None:
        calls: list[Models] = []

        @dataclass
        class Borrower(Width):
            def setup(self, models: Models, /) -> None:
                calls.append(models)

        pipeline = Pipeline([Borrower()], encoder=FakeEncoder())
        assert calls == []
        pipeline(make_image())
        pipeline.load()
        list(pipeline.stream(pictures(1, 2)))
        assert len(calls) == 1

    def test_one_stage_object_may_be_in_two_pipelines(self) -> None:
        @dataclass
        class Which:
            name: str = "which"
            requires: ClassVar[frozenset[str]] = frozenset()
            provides: ClassVar[frozenset[str]] = frozenset({"prompt"})

            def setup(self, models: Models, /) -> None:
                self.encoder_id = models.encoder().id

            def __call__(self, samples: Sequence[Sample], /) -> None:
                for sample in samples:
                    sample.prompt = self.encoder_id

        which = Which()
        one, two = (Pipeline([which], encoder=FakeEncoder(id=name)) for name in ("one", "two"))
        assert [pipeline(make_image()).prompt for pipeline in (one, two, one)] == ["one", "two", "one"]

    def test_close_lets_go_of_the_models(self) -> None:
        class Heavy:
            def caption(self, images: Any, /, options: CaptionOptions) -> list[list[Caption]]:
                return [[Caption("heavy", "heavy")] for _ in images]

        heavy = Heavy()
        gone = weakref.ref(heavy)

        @dataclass
        class Borrow(Describe):
            def setup(self, models: Models, /) -> None:
                self._captioner = models.captioner(held.pop())

        held: list[Captioner] = [heavy]
        del heavy
        pipeline = Pipeline([Borrow()])
        assert pipeline(make_image()).caption == "heavy"
        pipeline.close()
        gc.collect()
        assert gone() is None

    @pytest.mark.parametrize("deterministic", [False, True])
    def test_batches_are_whole_however_long_a_stage_takes(self, deterministic: bool) -> None:
        sizes: list[int] = []

        @dataclass
        class Slow(Width):
            def __call__(self, samples: Sequence[Sample], /) -> None:
                sizes.append(len(samples))
                time.sleep(0.004 * len(samples) ** 2)
                super().__call__(samples)

        with Pipeline([Slow()], batch_size=4, deterministic=deterministic) as pipeline:
            assert len(list(pipeline.stream(pictures(*range(1, 25))))) == 24
        assert sizes == [4] * 6

    def test_a_deterministic_pipeline_refuses_another_order_and_stops_when_memory_runs_out(self) -> None:
        @dataclass
        class Large(Width):
            def __call__(self, samples: Sequence[Sample], /) -> None:
                if len(samples) > 2:
                    raise MemoryError
                super().__call__(samples)

        images = pictures(*range(1, 9))
        with Pipeline([Large()], batch_size=4, deterministic=True) as pipeline:
            with pytest.raises(ConfigError, match="in order"):
                pipeline.stream(images, ordered=False)
            with pytest.raises(StageBrokenError, match="4 images at once.*smaller batch_size"):
                list(pipeline.stream(images, on_error="record"))
        with Pipeline([Large()], batch_size=2, deterministic=True) as pipeline:
            assert len(list(pipeline.stream(images))) == 8

    def test_a_truncated_file_is_read_where_that_is_allowed_and_its_result_says_so(
        self, tmp_path: Path
    ) -> None:
        file = tmp_path / "cut.png"
        np_image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(np_image).save(file)
        file.write_bytes(file.read_bytes()[:8000])
        with pytest.raises(ImageReadError, match="--allow-truncated"):
            Pipeline([Width()])(file)
        result = Pipeline([Width()], allow_truncated=True)(file)
        assert result.truncated
        assert result.to_dict()["extras"] == {"truncated": True}
        assert not Pipeline([Width()], allow_truncated=True)(make_image()).truncated

    def test_a_closed_pipeline_says_so(self) -> None:
        with Pipeline([Width()]) as pipeline:
            stream = pipeline.stream(pictures(1, 2, 3, 4), on_error="record")
            next(stream)
        pipeline.close()
        for use in (pipeline.load, lambda: pipeline(make_image()), lambda: pipeline.stream([])):
            with pytest.raises(PipelineClosedError):
                use()

    def test_a_pipeline_closed_in_the_middle_of_a_stream_ends_it(self) -> None:
        pipeline = Pipeline([Width()], batch_size=1)
        stream = pipeline.stream(pictures(1, 2, 3), on_error="record")
        next(stream)
        pipeline.close()
        with pytest.raises(PipelineClosedError):
            next(stream)

    def test_a_failed_load_can_be_tried_again(self) -> None:
        attempts: list[int] = []

        @dataclass
        class Flaky(Width):
            def setup(self, models: Models, /) -> None:
                attempts.append(1)
                if len(attempts) == 1:
                    raise ConfigError("not yet")

        pipeline = Pipeline([Flaky()])
        with pytest.raises(ConfigError, match="not yet"):
            pipeline.load()
        assert tags([pipeline(make_image(size=(5, 5)))]) == [["5"]]

    def test_threads_get_their_own_images_results(self) -> None:
        inside: list[int] = []
        overlaps: list[int] = []

        @dataclass
        class Alone(Width):
            def __call__(self, samples: Sequence[Sample], /) -> None:
                inside.append(1)
                overlaps.append(len(inside))
                super().__call__(samples)
                inside.pop()

        pipeline = Pipeline([Describe(), Alone()], batch_size=2)
        answers: dict[int, list[list[str]]] = {}

        def work(first: int) -> None:
            answers[first] = tags(pipeline.stream(pictures(*range(first, first + 9))))

        workers = [threading.Thread(target=work, args=(first,)) for first in (10, 30, 50, 70)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(timeout=600)
        assert answers == {
            first: [[str(number)] for number in range(first, first + 9)] for first in (10, 30, 50, 70)
        }
        assert max(overlaps) == 1, "batches take turns"

    def test_a_stage_that_borrows_nothing_is_used_as_it_is(self) -> None:
        width = Width()
        Pipeline([width])(make_image())
        assert len(width.batches) == 1
        assert copy.copy(width) == width


def _lasts(thread: threading.Thread) -> bool:
    """Whether it is still there after it was given the time to end."""
    thread.join(timeout=600)
    return thread.is_alive()
