from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from autotag.config.fast_paths import FastPaths
from autotag.models.captioners.hybrid_blip import HybridBlip
from autotag.models.fast.shared_backbone import SharedBackbone, shared_backbone
from autotag.models.pool import ModelPool
from autotag.protocols import CaptionOptions
from autotag.training.mini import captioner_config, encoder_config, save_captioner, save_encoder
from autotag.training.text_vocabulary import caption_tokenizer, contrastive_tokenizer

COLOURS = ("red", "green", "blue")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A captioner and an encoder of random weights on one backbone."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    words = contrastive_tokenizer(["a", "red", "ring"])
    clip = open_clip.CLIP(**encoder_config(len(words)))
    tokenizer = caption_tokenizer(["a red ring on a blue square"], least=1)
    blip = HybridBlip(captioner_config(tokenizer))
    blip.vision_model.embeddings.patch_embedding.trunk.load_state_dict(clip.visual.trunk.state_dict())
    save_encoder(clip, encoder_config(len(words)), words, folder / "clip")
    save_captioner(blip, tokenizer, folder / "blip")
    return folder / "blip", folder / "clip"


def loaded(folders: tuple[Path, Path], off: tuple[str, ...] = ()) -> tuple[Any, Any]:
    pool = ModelPool(device="cpu", fast_paths=FastPaths.parse(off))
    return pool.captioner(str(folders[0])), pool.encoder(str(folders[1]))


def images() -> list[Image.Image]:
    return [Image.new("RGB", (90, 60), colour) for colour in COLOURS]


def counted(backbone: SharedBackbone, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each pass through the network has."""
    passes: list[int] = []
    forward = backbone.trunk.forward_features

    def counting(pixels: torch.Tensor) -> torch.Tensor:
        passes.append(len(pixels))
        seen: torch.Tensor = forward(pixels)
        return seen

    monkeypatch.setattr(backbone.trunk, "forward_features", counting)
    return passes


@pytest.mark.slow
def test_an_image_goes_through_the_network_once_for_both_models(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    captioner, encoder = loaded(folders)
    assert captioner.view_id == encoder.view_id
    assert captioner._backbone is encoder._backbone
    passes = counted(encoder._backbone, monkeypatch)
    views = [encoder.view(image) for image in images()]
    encoder.embed_views(views[:1])
    captioner.caption_views(views, CaptionOptions(max_new_tokens=4))
    encoder.embed_views(views)
    assert passes == [1, 2]


@pytest.mark.slow
def test_what_comes_out_is_what_each_model_finds_alone(folders: tuple[Path, Path]) -> None:
    captioner, encoder = loaded(folders)
    alone_captioner, alone_encoder = loaded(folders, off=("shared_backbone",))
    views = [encoder.view(image) for image in images()]
    options = CaptionOptions(max_new_tokens=5, num_beams=2)
    assert captioner.caption_views(views, options) == alone_captioner.caption_views(views, options)
    np.testing.assert_allclose(encoder.embed_views(views), alone_encoder.embed_views(views), atol=1e-5)
    np.testing.assert_allclose(
        encoder.embed_images(images()), alone_encoder.embed_images(images()), atol=1e-5
    )


@pytest.mark.slow
def test_what_was_seen_is_forgotten_with_the_view(folders: tuple[Path, Path]) -> None:
    _, encoder = loaded(folders)
    views = [encoder.view(image) for image in images()]
    encoder.embed_views(views)
    seen = encoder._backbone._seen
    assert len(seen) >= 3
    before = len(seen)
    del views
    gc.collect()
    assert len(seen) == before - 3


def test_other_weights_are_another_backbone() -> None:
    import timm

    torch.manual_seed(0)
    one, two = (timm.create_model("tf_efficientnet_lite0", num_classes=0).eval() for _ in range(2))
    assert shared_backbone(one) is not shared_backbone(two)
    kept = shared_backbone(one)
    assert shared_backbone(one) is kept
