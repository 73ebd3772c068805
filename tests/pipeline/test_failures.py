from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import pytest

from autotag.errors import StageBrokenError, StageError
from autotag.pipeline.failures import BROKEN_AFTER
from autotag.pipeline.function_stage import stage
from autotag.pipeline.pipeline import Pipeline
from autotag.records import Caption, Sample, Tag
from autotag.testing import make_image

if TYPE_CHECKING:
    from collections.abc import Container

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
        ("tags", [Tag("cat", None, "s")], "'cat' with score None, not a number"),  # type: ignore[arg-type]
        ("tags", [Tag(" ", 0.5, "s")], "whose text is ' '"),
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
            setattr(sample, field, written)

    images = [make_image(size=size) for size in ((8, 8), (9, 9), (8, 8))]
    with Pipeline([wrong], encoder=None) as pipeline:
        results = list(pipeline.stream(images, on_error="record"))
        with pytest.raises(StageError, match=f"'wrong' failed.*{said}"):
            pipeline(images[1])
    assert [bool(result.error) for result in results] == [False, True, False]
