from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from PIL import Image
from transformers import BlipForConditionalGeneration

from autotag.config.fast_paths import FastPaths
from autotag.errors import ModelLoadError
from autotag.models.captioners.hybrid_blip import HybridBlip
from autotag.models.pool import ModelPool
from autotag.protocols import CaptionOptions
from autotag.training.mini import captioner_config, save_captioner
from autotag.training.text_vocabulary import caption_tokenizer

COLOURS = ("red", "green", "blue", "white")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hybrid BLIP of random weights as the training saves it."""
    folder = tmp_path_factory.mktemp("hybrid")
    tokenizer = caption_tokenizer([" ".join(COLOURS), "a ring on a square"], least=1)
    torch.manual_seed(0)
    save_captioner(HybridBlip(captioner_config(tokenizer)), tokenizer, folder)
    return folder


def captions(folder: Path, beams: int, setting: Literal["auto", "off"] = "auto") -> list[list[str]]:
    captioner: Any = ModelPool(device="cpu", fast_paths=FastPaths.parse(setting)).captioner(str(folder))
    images = [Image.new("RGB", (80, 60), colour) for colour in COLOURS]
    options = CaptionOptions(max_new_tokens=6, num_beams=beams, num_captions=beams)
    return [[caption.text for caption in each] for each in captioner.caption(images, options)]


@pytest.mark.slow
@pytest.mark.parametrize("beams", [1, 3])
def test_it_captions_the_same_with_and_without_fast_paths(folder: Path, beams: int) -> None:
    assert captions(folder, beams) == captions(folder, beams, "off")


def test_its_patches_are_the_places_of_the_feature_map(folder: Path) -> None:
    model = HybridBlip.from_pretrained(folder, dtype=torch.float32).eval()
    pixels = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        patches = model.vision_model.embeddings.patch_embedding(pixels)
        states = model.vision_model(pixel_values=pixels).last_hidden_state
    assert patches.shape == (2, 256, 7, 7)
    assert states.shape == (2, 50, 256), "49 places and the class token"


def test_it_is_a_blip(folder: Path) -> None:
    assert issubclass(HybridBlip, BlipForConditionalGeneration)
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["HybridBlip"]
    assert config["vision_config"]["backbone"] == "tf_efficientnet_lite0"


def test_weights_that_lack_the_backbone_are_refused(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(str(tmp_path / "model.safetensors"))
    kept = {name: weight for name, weight in weights.items() if ".trunk.conv_head." not in name}
    save_file(kept, str(tmp_path / "model.safetensors"), metadata={"format": "pt"})
    with pytest.raises(ModelLoadError, match="do not fit config.json"):
        ModelPool(device="cpu").captioner(str(tmp_path))
