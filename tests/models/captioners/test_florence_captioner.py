from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
import transformers

from autotag.errors import ConfigError, UnknownNameError
from autotag.models.captioners.florence_captioner import TASKS, FlorenceCaptioner
from autotag.models.pool import ModelPool
from autotag.pipeline.pipeline import Pipeline
from autotag.protocols import CaptionOptions
from autotag.stages import CaptionImages

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from PIL import Image


@pytest.fixture(scope="module")
def florence(tiny_folder: Callable[[str], Path]) -> Any:
    return ModelPool(device="cpu").captioner(str(tiny_folder("florence2")))


def _texts(captioner: Any, images: list[Image.Image], prompt: str | None, **more: Any) -> list[str]:
    options = CaptionOptions(prompt=prompt, max_new_tokens=10, **more)
    return [row[0].text for row in captioner.caption(images, options)]


def test_it_looks_at_a_square(florence: Any) -> None:
    assert isinstance(florence, FlorenceCaptioner)
    assert florence.image_size == 64


@pytest.mark.slow
@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("task", TASKS)
def test_captions_are_those_of_plain_transformers(
    florence: Any, tiny_folder: Callable[[str], Path], images: list[Image.Image], task: str, beams: int
) -> None:
    folder = tiny_folder("florence2")
    processor: Any = transformers.AutoProcessor.from_pretrained(folder)
    model = transformers.Florence2ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    inputs = processor(images=images, text=[TASKS[task]] * len(images), return_tensors="pt")
    written = model.generate(**inputs, max_new_tokens=10, num_beams=beams, early_stopping=beams > 1)

    decoded = processor.batch_decode(written, skip_special_tokens=True)
    assert _texts(florence, images, task, num_beams=beams) == [" ".join(text.split()) for text in decoded]


def test_the_task_is_a_caption_unless_another_is_named(florence: Any, images: list[Image.Image]) -> None:
    unprompted, *tasks = (_texts(florence, images, prompt) for prompt in (None, *TASKS))

    assert unprompted == tasks[0]
    assert len({tuple(texts) for texts in tasks}) == len(TASKS)


@pytest.mark.parametrize("task", TASKS)
def test_a_task_goes_by_its_name_or_its_token(florence: Any, images: list[Image.Image], task: str) -> None:
    assert _texts(florence, images, task) == _texts(florence, images, TASKS[task])


@pytest.mark.parametrize("prompt", ["a photo of", "", "<OD>", "<CAPTION> please"])
def test_a_free_prompt_is_refused_with_the_tasks_there_are(
    florence: Any, images: list[Image.Image], prompt: str
) -> None:
    with pytest.raises(UnknownNameError, match="more detailed caption") as caught:
        florence.caption(images, CaptionOptions(prompt=prompt))

    assert isinstance(caught.value, ConfigError)
    assert repr(prompt) in str(caught.value)


def test_a_free_prompt_is_refused_before_the_first_image(tiny_folder: Callable[[str], Path]) -> None:
    stage = CaptionImages(str(tiny_folder("florence2")), prompt="a photo of")

    with Pipeline([stage], encoder=None, device="cpu") as pipeline, pytest.raises(UnknownNameError):
        pipeline.load()


def test_a_mistyped_task_gets_the_near_miss(florence: Any, images: list[Image.Image]) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'detailed caption'"):
        florence.caption(images, CaptionOptions(prompt="detailed_caption"))


def test_a_caption_may_fill_all_the_model_reads_and_no_more(florence: Any, images: list[Image.Image]) -> None:
    florence.caption(images[:1], CaptionOptions(max_new_tokens=128, min_new_tokens=128))
    with pytest.raises(ConfigError, match="reads 128 tokens, but .*max_new_tokens=129; shorten one"):
        florence.check_options(CaptionOptions(max_new_tokens=129))
