from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from autotag.errors import ConfigError, ModelLoadError
from autotag.models.captioners.encoder_decoder_captioner import EncoderDecoderCaptioner
from autotag.models.pool import ModelPool
from autotag.protocols import CaptionOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from PIL import Image


@pytest.fixture(scope="module")
def vit_gpt2(tiny_folder: Callable[[str], Path]) -> Any:
    return ModelPool(device="cpu").captioner(str(tiny_folder("vit_gpt2")))


@pytest.fixture
def copied(tiny_folder: Callable[[str], Path], tmp_path: Path) -> Path:
    """A folder to spoil."""
    return shutil.copytree(tiny_folder("vit_gpt2"), tmp_path / "model")


def _texts(captioner: Any, images: list[Image.Image], **options: Any) -> list[str]:
    rows = captioner.caption(images, CaptionOptions(**{"max_new_tokens": 8, **options}))
    return [row[0].text for row in rows]


def test_it_looks_at_a_square(vit_gpt2: Any) -> None:
    assert isinstance(vit_gpt2, EncoderDecoderCaptioner)
    assert vit_gpt2.image_size == 32


@pytest.mark.parametrize("beams", [1, 3])
def test_captions_are_those_of_plain_transformers(
    vit_gpt2: Any, tiny_folder: Callable[[str], Path], images: list[Image.Image], beams: int
) -> None:
    folder = tiny_folder("vit_gpt2")
    model: Any = transformers.VisionEncoderDecoderModel.from_pretrained(folder, dtype=torch.float32)
    processor: Any = transformers.AutoImageProcessor.from_pretrained(folder)
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
    pixels = processor(images=images, return_tensors="pt")["pixel_values"]
    written = model.generate(pixel_values=pixels, max_new_tokens=8, num_beams=beams)

    decoded = tokenizer.batch_decode(written, skip_special_tokens=True)
    assert _texts(vit_gpt2, images, num_beams=beams) == [" ".join(text.split()) for text in decoded]


@pytest.mark.parametrize("beams", [1, 3])
def test_a_prompt_is_continued_alike_in_a_batch_and_alone(
    vit_gpt2: Any, images: list[Image.Image], beams: int
) -> None:
    together = _texts(vit_gpt2, images, prompt="a photo of", num_beams=beams)

    assert all(text.startswith("a photo of") and len(text) > len("a photo of") for text in together)
    assert together == [
        _texts(vit_gpt2, [image], prompt="a photo of", num_beams=beams)[0] for image in images
    ]


def test_max_new_tokens_counts_what_is_written_not_the_prompt(
    vit_gpt2: Any, images: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = []
    generate = vit_gpt2.model.generate

    def measured(**given: Any) -> Any:
        written = generate(**given)
        lengths.append(written.sequences.shape[1] - given["decoder_input_ids"].shape[1])
        return written

    monkeypatch.setattr(vit_gpt2.model, "generate", measured)

    for prompt in (None, "a photo of"):
        _texts(vit_gpt2, images, prompt=prompt, max_new_tokens=3)

    assert lengths == [3, 3]


def test_weights_without_the_pooler_that_is_never_used_load(
    vit_gpt2: Any, copied: Path, images: list[Image.Image]
) -> None:
    weights = load_file(copied / "model.safetensors")
    kept = {name: values for name, values in weights.items() if "pooler" not in name}
    assert len(kept) < len(weights)
    save_file(kept, copied / "model.safetensors", metadata={"format": "pt"})

    without = ModelPool(device="cpu").captioner(str(copied))

    assert _texts(without, images) == _texts(vit_gpt2, images)


def test_weights_that_lack_a_layer_of_the_decoder_are_refused(copied: Path) -> None:
    weights = load_file(copied / "model.safetensors")
    kept = {name: values for name, values in weights.items() if "crossattention" not in name}
    assert len(kept) < len(weights)
    save_file(kept, copied / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(ModelLoadError, match="parameters are missing"):
        ModelPool(device="cpu").captioner(str(copied))


def test_without_special_tokens_in_its_configuration_those_of_the_tokenizer_count(
    vit_gpt2: Any, copied: Path, images: list[Image.Image]
) -> None:
    _drop_special_tokens(copied)

    assert _texts(ModelPool(device="cpu").captioner(str(copied)), images) == _texts(vit_gpt2, images)


def test_a_model_that_says_no_start_token_anywhere_is_refused(copied: Path) -> None:
    _drop_special_tokens(copied)
    file = copied / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps({**settings, "bos_token": None, "eos_token": None, "pad_token": None}))

    with pytest.raises(ModelLoadError, match="start and an end token"):
        ModelPool(device="cpu").captioner(str(copied))


def _drop_special_tokens(folder: Path) -> None:
    file = folder / "config.json"
    settings = json.loads(file.read_text())
    for part in (settings, settings["decoder"], settings["encoder"]):
        for name in ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id"):
            part[name] = None
    file.write_text(json.dumps(settings))


@pytest.mark.parametrize("file", ["preprocessor_config.json", "tokenizer.json"])
def test_a_missing_part_is_named(copied: Path, file: str) -> None:
    (copied / file).unlink()

    with pytest.raises(ModelLoadError, match=file):
        ModelPool(device="cpu").captioner(str(copied))


def test_a_caption_may_fill_all_the_model_reads_and_no_more(vit_gpt2: Any, images: list[Image.Image]) -> None:
    most = vit_gpt2.model.config.decoder.max_position_embeddings
    prompt = "a photo of"
    room = most - len(vit_gpt2.processor.tokenizer(prompt)["input_ids"])
    vit_gpt2.caption(images[:1], CaptionOptions(prompt, max_new_tokens=room, min_new_tokens=room))
    with pytest.raises(ConfigError, match=f"reads {most} tokens, but .*max_new_tokens={room + 1}; shorten"):
        vit_gpt2.check_options(CaptionOptions(prompt, max_new_tokens=room + 1))
