from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
import transformers

from autotag.errors import ConfigError, ModelLoadError
from autotag.models.captioners.chat_captioner import DEFAULT_PROMPT, ChatCaptioner
from autotag.models.pool import ModelPool
from autotag.pipeline.pipeline import Pipeline
from autotag.protocols import CaptionOptions
from autotag.stages import CaptionImages

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from PIL import Image

FAMILIES = ["idefics3", "smolvlm", "qwen2_vl", "qwen2_5_vl"]


@pytest.fixture(scope="module")
def captioner(tiny_folder: Callable[[str], Path]) -> Callable[[str], Any]:
    pool = ModelPool(device="cpu")
    return lambda family: pool.captioner(str(tiny_folder(family)))


def _texts(captioner: Any, images: list[Image.Image], prompt: str | None = None) -> list[str]:
    options = CaptionOptions(prompt=prompt, max_new_tokens=8)
    return [row[0].text for row in captioner.caption(images, options)]


@pytest.mark.parametrize("family", FAMILIES)
def test_it_asks_for_files_in_full(captioner: Callable[[str], Any], family: str) -> None:
    assert isinstance(captioner(family), ChatCaptioner)
    assert getattr(captioner(family), "image_size", None) is None


@pytest.mark.slow
@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_captions_are_the_answers_of_plain_transformers(
    captioner: Callable[[str], Any],
    tiny_folder: Callable[[str], Path],
    images: list[Image.Image],
    family: str,
    beams: int,
) -> None:
    folder = tiny_folder(family)
    auto: Any = transformers.AutoModelForImageTextToText
    model = auto.from_pretrained(folder, dtype=torch.float32)
    processor: Any = transformers.AutoProcessor.from_pretrained(folder)
    plain = {"do_sample": False, "repetition_penalty": 1.0, "num_beams": beams, "max_new_tokens": 8}
    expected = []
    for image in images:
        parts = [{"type": "image", "image": image}, {"type": "text", "text": "What is it?"}]
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": parts}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
        written = model.generate(**inputs, **plain)[0, inputs["input_ids"].shape[1] :]
        expected.append(" ".join(processor.decode(written, skip_special_tokens=True).split()))

    options = CaptionOptions(prompt="What is it?", num_beams=beams, max_new_tokens=8)
    assert [row[0].text for row in captioner(family).caption(images, options)] == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_it_has_a_prompt_of_its_own(
    captioner: Callable[[str], Any], images: list[Image.Image], family: str
) -> None:
    unprompted, own, other = (
        _texts(captioner(family), images, prompt) for prompt in (None, DEFAULT_PROMPT, "Which colours?")
    )

    assert unprompted == own
    assert other != own
    assert not any("assistant" in text or DEFAULT_PROMPT in text for text in own)


@pytest.mark.parametrize("prompt", ["", " \n"])
def test_an_empty_prompt_is_refused(
    captioner: Callable[[str], Any], images: list[Image.Image], prompt: str
) -> None:
    with pytest.raises(ConfigError, match="is empty.*Describe this image"):
        captioner("idefics3").caption(images, CaptionOptions(prompt=prompt))


def test_an_empty_prompt_is_refused_before_the_first_image(tiny_folder: Callable[[str], Path]) -> None:
    stage = CaptionImages(str(tiny_folder("idefics3")), prompt=" ")

    with (
        Pipeline([stage], encoder=None, device="cpu") as pipeline,
        pytest.raises(ConfigError, match="is empty; give a question"),
    ):
        pipeline.load()


def test_a_model_without_a_chat_template_is_refused(
    tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_folder("idefics3"), tmp_path / "base")
    (folder / "chat_template.jinja").unlink()

    with pytest.raises(ModelLoadError, match="no chat template") as caught:
        ModelPool(device="cpu").captioner(str(folder))
    assert str(folder) in str(caught.value)


def test_a_tokenizer_without_a_pad_token_pads_with_its_end_token(
    tiny_folder: Callable[[str], Path], images: list[Image.Image], captioner: Callable[[str], Any]
) -> None:
    folder = tiny_folder("qwen2_5_vl")
    processor: Any = transformers.AutoProcessor.from_pretrained(folder)
    processor.tokenizer.pad_token = None

    without = ChatCaptioner(captioner("qwen2_5_vl").model, processor, "mine")

    assert _texts(without, images) == _texts(captioner("qwen2_5_vl"), images)
