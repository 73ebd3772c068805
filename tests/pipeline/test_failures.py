from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from autotag.errors import StageBrokenError, StageError, WiringError
from autotag.pipeline.failures import BROKEN_AFTER
from autotag.pipeline.function_stage import stage
from autotag.pipeline.pipeline import Pipeline
from autotag.records import Caption, Detection, ModerationLabel, Sample, Tag
from autotag.stages import FilterTags
from autotag.testing import FakeEncoder, make_image

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from PIL import Image

    from autotag.protocols import Stage
    from autotag.records import Result


def failing(bad: Container[int]) -> Stage:
    """A stage that fails on images of these widths."""

    @stage(provides={"tags"})
    def width(sample: Sample) -> None:
        if sample.size[0] in bad:
            raise ValueError(f"width {sample.size[0]} is bad")

    return width


def pictures(*widths: int) -> list[Image.Image]:
    return [make_image(size=(width, 4)) for width in widths]


def test_a_stage_that_fails_on_images_in_a_row_is_broken() -> None:
    bad = frozenset(range(4, 100))
    stream = Pipeline([failing(bad)], batch_size=3).stream(pictures(*range(1, 40)), on_error="record")
    results: list[Result] = []
    with pytest.raises(StageBrokenError, match="failed on 8 images in a row: the stage is broken") as caught:
        results.extend(stream)
    assert len(results) == 3 + BROKEN_AFTER
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_success_between_shows_that_the_stage_works() -> None:
    bad = frozenset(width for width in range(1, 50) if width % BROKEN_AFTER)
    results = list(Pipeline([failing(bad)], batch_size=5).stream(pictures(*range(1, 50)), on_error="record"))
    assert sum(result.error is None for result in results) == 6


def test_unreadable_images_between_do_not_hide_a_broken_stage() -> None:
    inputs = [image for width in range(1, 10) for image in (b"no image", *pictures(width))]
    with pytest.raises(StageBrokenError):
        list(Pipeline([failing(frozenset(range(10)))], batch_size=4).stream(inputs, on_error="record"))


def test_unreadable_images_alone_break_no_stage() -> None:
    results = list(Pipeline([failing(frozenset())]).stream([b"no image"] * 30, on_error="record"))
    assert len(results) == 30


def test_a_stage_that_fails_on_all_of_a_short_stream_is_broken() -> None:
    stream = Pipeline([failing(frozenset({1, 2, 3}))]).stream(pictures(1, 2, 3), on_error="record")
    assert all(result.error for result in islice(stream, 3))
    with pytest.raises(StageBrokenError, match="failed on 3 images and never succeeded"):
        next(stream)


def test_one_bad_image_alone_is_only_a_bad_image() -> None:
    (result,) = Pipeline([failing(frozenset({1}))]).stream(pictures(1), on_error="record")
    assert "width 1 is bad" in str(result.error)


def test_bad_images_at_the_end_of_a_good_stream_are_only_bad_images() -> None:
    stream = Pipeline([failing(frozenset({2, 3}))]).stream(pictures(1, 2, 3), on_error="record")
    assert [result.error is None for result in stream] == [True, False, False]


@pytest.mark.parametrize(
    ("field", "written", "said"),
    [
        ("tags", None, "sample.tags is None, not a list of Tag"),
        ("tags", ["cat"], "sample.tags holds 'cat', not a Tag"),
        ("tags", [Tag("cat", None, "s")], "'cat' with score None, not a finite number"),  # type: ignore[arg-type]
        ("tags", [Tag("cat", float("nan"), "s")], "'cat' with score nan, not a finite number"),
        ("tags", [Tag("cat", 0.5, "s", {"s": None})], r"scores\['s'\] None, not a finite"),  # type: ignore[dict-item]
        ("tags", [Tag("cat", 0.5, "s", None)], "with scores None, not a dict"),  # type: ignore[arg-type]
        ("tags", [Tag("cat", 0.5, "s", path="animal")], "with path 'animal', not a tuple"),  # type: ignore[arg-type]
        ("tags", [Tag("cat", 0.5, "s", count="3")], "with count '3', not a whole number"),  # type: ignore[arg-type]
        ("tags", [Tag(" ", 0.5, "s")], "whose text is ' '"),
        ("detections", [Detection("cat", 0.5, (0, 0, 1))], r"box \(0, 0, 1\), not four numbers"),  # type: ignore[arg-type]
        ("detections", [Detection("cat", None, (0, 0, 1, 1))], "score None, not a finite"),  # type: ignore[arg-type]
        ("captions", [Caption("a", "c", float("inf"))], "score inf, not a finite number"),
        ("captions", [Caption("a", "c", None, {"c": "x"})], "'x', not a finite number"),  # type: ignore[dict-item]
        ("moderation", [ModerationLabel("safe", float("nan"), "m")], "probability nan, not a finite"),
        ("extras.mine", None, "sample.extras is None, not a dict"),
        ("rankings", {1: []}, "sample.rankings is .*, not a dict with texts as keys"),
        ("captions", ["a cat"], "sample.captions holds 'a cat', not a Caption"),
        ("captions", [Caption(None, "c")], "whose text is None"),  # type: ignore[arg-type]
        ("prompt", None, "sample.prompt is None, not a text"),
        ("rankings", {"mediums": ["oil"]}, r"sample.rankings\['mediums'\] holds 'oil', not a Tag"),
    ],
)
def test_a_stage_that_writes_something_else_fails_on_that_image_only(
    field: str, written: object, said: str
) -> None:
    @stage(provides={field})
    def wrong(sample: Sample) -> None:
        if sample.size == (9, 9):
            setattr(sample, field.partition(".")[0], written)

    images = [make_image(size=size) for size in ((8, 8), (9, 9), (8, 8))]
    with Pipeline([wrong], encoder=None) as pipeline:
        results = list(pipeline.stream(images, on_error="record"))
        with pytest.raises(StageError, match=f"'wrong' failed.*{said}"):
            pipeline(images[1])
    assert [bool(result.error) for result in results] == [False, True, False]


@pytest.mark.parametrize(
    ("field", "written"), [("source", Path("a.jpg")), ("size", None), ("size", (1.5, 2))]
)
def test_a_stage_that_spoils_source_or_size_fails(field: str, written: object) -> None:
    @stage(provides={"prompt"})
    def wrong(sample: Sample) -> None:
        setattr(sample, field, written)

    with Pipeline([wrong], encoder=None) as pipeline, pytest.raises(StageError, match=f"sample.{field} is"):
        pipeline(make_image())


class Returning:
    name, requires, provides = "returning", frozenset[str](), frozenset({"prompt"})

    def __call__(self, samples: Sequence[Sample], /) -> list[Sample]:
        return list(samples)


class Waiting(Returning):
    async def __call__(self, samples: Sequence[Sample], /) -> None:  # type: ignore[override]
        samples[0].prompt = "never"


def test_a_class_stage_that_returns_something_or_is_async_is_told_so() -> None:
    returning = Pipeline([Returning()], encoder=None)  # type: ignore[list-item]
    with returning, pytest.raises(StageError, match="it returned list; a stage returns nothing"):
        returning(make_image())
    with pytest.raises(WiringError, match=r"'returning' \(position 1\) is async"):
        Pipeline([Waiting()], encoder=None)  # type: ignore[list-item]


@pytest.mark.parametrize(("factor", "said"), [(np.nan, "not finite"), (20.0, "of length 20, not 1")])
@pytest.mark.parametrize("method", ["embed_images", "embed_texts"])
def test_an_encoder_that_gives_wrong_vectors_fails(method: str, factor: float, said: str) -> None:
    class Wrong(FakeEncoder):
        pass

    def wrong(self: FakeEncoder, given: Sequence[Any], /) -> Any:
        return getattr(FakeEncoder, method)(self, given) * factor

    setattr(Wrong, method, wrong)
    stages = [propose, FilterTags(score="cosine", threshold=-1.0)]
    with Pipeline(stages, encoder=Wrong()) as pipeline, pytest.raises(StageError, match=said):
        pipeline(make_image())


@stage(provides={"tags"})
def propose(sample: Sample) -> None:
    sample.tags = [Tag.proposed("cat", 0.5, "propose")]
