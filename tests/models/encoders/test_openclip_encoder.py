from __future__ import annotations

import json
import logging
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import open_clip
import pytest
import torch

from autotag.config.fast_paths import FastPaths
from autotag.errors import ConfigError, ModelLoadError, ModelUnavailableError, UnknownNameError
from autotag.models.encoders.openclip_encoder import OpenClipEncoder
from autotag.models.fast import packed_linears
from autotag.models.pool import ModelPool
from autotag.protocols import ImageTextEncoder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from PIL import Image

TOWERS = ["open_clip_folder", "open_clip_folder/timm"]
TEXTS = ["a dog", "blue", "a photo of a dog that runs on the green grass " * 4, "two men", ""]


@pytest.fixture(scope="module")
def encoder(tiny_folder: Callable[[str], Path]) -> Callable[[str], Any]:
    pool = ModelPool(device="cpu")
    return lambda tower: pool.encoder(str(tiny_folder(tower)))


@pytest.mark.parametrize("tower", TOWERS)
def test_rows_are_unit_float32_and_differ(
    encoder: Callable[[str], Any], images: list[Image.Image], tower: str
) -> None:
    assert isinstance(encoder(tower), ImageTextEncoder)
    for rows in (encoder(tower).embed_images(images), encoder(tower).embed_texts(TEXTS)):
        assert rows.dtype == np.float32
        assert rows.shape[1] == 24
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
        assert np.ptp(rows @ rows[0]) > 1e-4


@pytest.mark.parametrize("tower", TOWERS)
def test_a_batch_gives_what_its_items_give_alone(
    encoder: Callable[[str], Any], images: list[Image.Image], tower: str
) -> None:
    one: Any = encoder(tower)

    alone = np.concatenate([one.embed_images([image]) for image in images])
    np.testing.assert_allclose(one.embed_images(images), alone, atol=1e-5)
    many = [f"dog {number}" for number in range(1100)]
    np.testing.assert_allclose(one.embed_texts(many)[297:], one.embed_texts(many[297:]), atol=1e-5)


@pytest.mark.parametrize("tower", TOWERS)
def test_vectors_are_those_of_plain_open_clip(
    tiny_folder: Callable[[str], Path], images: list[Image.Image], tower: str
) -> None:
    one = ModelPool(device="cpu", fast_paths=FastPaths.parse(["views"])).encoder(str(tiny_folder(tower)))
    name = f"local-dir:{tiny_folder(tower)}"
    model, preprocess = open_clip.create_model_from_pretrained(name)
    with torch.no_grad():
        pixels = torch.stack([preprocess(image) for image in images])
        of_images = model.eval().encode_image(pixels, normalize=True)
        of_texts = model.encode_text(open_clip.get_tokenizer(name)(TEXTS), normalize=True)

    np.testing.assert_allclose(one.embed_images(images), of_images, atol=1e-5)
    np.testing.assert_allclose(one.embed_texts(TEXTS), of_texts, atol=1e-5)


def test_a_network_with_attention_pooling_gives_what_plain_open_clip_gives(
    tiny: Any, tmp_path: Path, images: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_linears, "packing_gains", lambda: True)
    folder = str(tiny.open_clip_folder(tmp_path / "rn", attention_pool=True))
    plain = ModelPool(device="cpu", fast_paths=FastPaths.parse(["packed_linears"])).encoder(folder)

    np.testing.assert_allclose(
        ModelPool(device="cpu").encoder(folder).embed_images(images), plain.embed_images(images), atol=1e-5
    )


@pytest.mark.parametrize(("tower", "side"), [(TOWERS[0], 32), (TOWERS[1], 64)])
def test_image_size_is_the_square_looked_at(encoder: Callable[[str], Any], tower: str, side: int) -> None:
    assert encoder(tower).image_size == side


def test_nothing_gives_no_rows_of_the_right_width(encoder: Callable[[str], Any]) -> None:
    assert encoder(TOWERS[0]).embed_images([]).shape == (0, 24)
    assert encoder(TOWERS[0]).embed_texts([]).shape == (0, 24)


@pytest.mark.slow
@pytest.mark.parametrize("timm_tower", [False, True])
def test_weights_stored_in_half_precision_load_into_the_dtype_asked_for(
    tiny: Any, tmp_path: Path, images: list[Image.Image], timm_tower: bool
) -> None:
    full = tiny.open_clip_folder(tmp_path / "full", timm_tower=timm_tower)
    half = tiny.open_clip_folder(tmp_path / "half", timm_tower=timm_tower, half=True)

    expected = ModelPool(device="cpu").encoder(str(full)).embed_images(images)
    for dtype in ("float32", "float16", "bfloat16"):
        encoder: Any = ModelPool(device="cpu", dtype=dtype).encoder(str(half))
        rows = encoder.embed_images(images)
        assert rows.dtype == np.float32
        assert (rows * expected).sum(axis=1).min() > 0.999
        assert encoder.embed_texts(TEXTS).dtype == np.float32
        weight = next(values for name, values in encoder.model.visual.named_parameters() if "conv1" in name)
        assert weight.dtype == getattr(torch, dtype)


@pytest.mark.slow
def test_the_id_follows_the_weights_not_the_folder(tiny: Any, tmp_path: Path) -> None:
    first = tiny.open_clip_folder(tmp_path / "first", seed=0)
    other = tiny.open_clip_folder(tmp_path / "other", seed=1)
    moved = shutil.copytree(first, tmp_path / "moved")
    pool = ModelPool(device="cpu")

    assert pool.encoder(str(first)).id == pool.encoder(str(moved)).id
    assert pool.encoder(str(first)).id != pool.encoder(str(other)).id


def test_other_preprocessing_is_another_encoder(tiny: Any, tmp_path: Path) -> None:
    first = tiny.open_clip_folder(tmp_path / "first")
    other = shutil.copytree(first, tmp_path / "other")
    config = json.loads((other / "open_clip_config.json").read_text())
    config["preprocess_cfg"]["mean"] = [0.1, 0.1, 0.1]
    (other / "open_clip_config.json").write_text(json.dumps(config))
    pool = ModelPool(device="cpu")

    assert pool.encoder(str(first)).id != pool.encoder(str(other)).id


def test_loading_says_nothing_and_adds_no_log_handler(
    tiny_folder: Callable[[str], Path], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])
    capfd.readouterr()

    ModelPool(device="cpu").encoder(str(tiny_folder(TOWERS[0])))

    assert logging.root.handlers == []
    assert capfd.readouterr() == ("", "")


def test_damaged_weights_name_folder_and_file(tiny: Any, tmp_path: Path) -> None:
    folder = tiny.open_clip_folder(tmp_path / "spoilt")
    weights = folder / "open_clip_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])

    with pytest.raises(ModelLoadError, match=f"open_clip_model.safetensors in folder {folder}"):
        ModelPool(device="cpu").encoder(str(folder))


def test_missing_weights_are_refused_rather_than_made_up(tiny: Any, tmp_path: Path) -> None:
    folder = tiny.open_clip_folder(tmp_path / "empty")
    (folder / "open_clip_model.safetensors").unlink()

    with pytest.raises(ModelLoadError, match="no weights"):
        ModelPool(device="cpu").encoder(str(folder))


def test_weights_of_another_architecture_are_refused(tiny: Any, tmp_path: Path) -> None:
    folder = tiny.open_clip_folder(tmp_path / "one")
    other = tiny.open_clip_folder(tmp_path / "two", timm_tower=True)
    shutil.copy(other / "open_clip_model.safetensors", folder)

    with pytest.raises(ModelLoadError, match="does not load in open_clip"):
        ModelPool(device="cpu").encoder(str(folder))


@pytest.mark.parametrize("content", ["{", "{}"])
def test_a_wrong_configuration_names_the_folder(tiny: Any, tmp_path: Path, content: str) -> None:
    folder = tiny.open_clip_folder(tmp_path / "spoilt")
    (folder / "open_clip_config.json").write_text(content)

    with pytest.raises(ModelLoadError, match=str(folder)):
        ModelPool(device="cpu").encoder(str(folder))


def test_an_unknown_architecture_or_tag_gets_the_near_miss() -> None:
    pool = ModelPool(device="cpu")
    with pytest.raises(UnknownNameError, match="Did you mean 'ViT-B-32'"):
        pool.encoder("open_clip:ViT-B32/openai")
    with pytest.raises(UnknownNameError, match="Did you mean 'laion2b_s34b_b79k'"):
        pool.encoder("open_clip:ViT-B-32/laion2b_s34b")
    with pytest.raises(ConfigError, match="<pretrained tag>"):
        pool.encoder("open_clip:ViT-B-32")


@pytest.fixture
def tiny_architecture(
    monkeypatch: pytest.MonkeyPatch, tiny_folder: Callable[[str], Path], local_hub: Any
) -> Path:
    """An architecture and a tag that open_clip knows, with weights on the local hub."""
    folder = tiny_folder("open_clip_folder")
    config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", config)
    tag = {"hf_hub": "someone/tiny-clip/", "mean": (0.5,) * 3, "std": (0.5,) * 3, "quick_gelu": True}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny", {"noise": tag})
    weights = (folder / "open_clip_model.safetensors").read_bytes()
    local_hub.files["someone/tiny-clip"] = {"open_clip_model.safetensors": weights}
    return folder


def test_a_tag_brings_its_preprocessing_and_activation(tiny_architecture: Path) -> None:
    encoder: Any = ModelPool(device="cpu").encoder("open_clip:tiny/noise")

    assert encoder.model.visual.preprocess_cfg["mean"] == (0.5,) * 3
    activations = {type(module).__name__ for module in encoder.model.modules()}
    assert "QuickGELU" in activations
    assert encoder.id.startswith("open_clip:tiny/noise@0123456789")


@pytest.mark.slow
def test_a_hub_repository_in_open_clip_format_loads(
    tiny_folder: Callable[[str], Path], local_hub: Any, images: list[Image.Image]
) -> None:
    folder = tiny_folder(TOWERS[0])
    local_hub.files["someone/whole"] = {file.name: file.read_bytes() for file in folder.iterdir()}
    pool = ModelPool(device="cpu")

    rows = pool.encoder("open_clip:hf-hub:someone/whole").embed_images(images)
    np.testing.assert_array_equal(rows, pool.encoder(str(folder)).embed_images(images))


def test_without_the_hub_the_error_names_size_and_bundled_encoder(local_hub: Any) -> None:
    local_hub.status = 503

    with pytest.raises(ModelUnavailableError, match="605 MB.*'clip-mini'"):
        ModelPool(device="cpu").encoder("clip-vit-b-32")


def test_a_text_tower_of_transformers_loads_from_the_folder(
    tiny: Any, tmp_path: Path, images: list[Image.Image]
) -> None:
    import transformers

    folder = tiny.open_clip_folder(tmp_path / "towers")
    transformers.BertConfig(
        vocab_size=len(tiny.words()),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
    ).save_pretrained(folder)
    tiny.bert_tokenizer().save_pretrained(folder)
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"] = {
        "hf_model_name": "someone/unreachable",
        "hf_tokenizer_name": "someone/unreachable",
        "hf_proj_type": "linear",
        "hf_pooler_type": "mean_pooler",
        "context_length": 16,
    }
    local = {**config["model_cfg"]["text_cfg"], "hf_model_name": str(folder), "hf_model_pretrained": False}
    model = open_clip.CustomTextCLIP(**{**config["model_cfg"], "text_cfg": local})
    tiny.save_file(
        {name: values.contiguous() for name, values in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    (folder / "open_clip_config.json").write_text(json.dumps(config))

    encoder = ModelPool(device="cpu").encoder(str(folder))

    assert isinstance(encoder, OpenClipEncoder)
    assert (encoder.embed_images(images) @ encoder.embed_texts(["a dog", "two men"]).T).shape == (4, 2)


@pytest.mark.weights
@pytest.mark.parametrize("name", ["clip-vit-b-32", "clip-vit-l-14", "clip-vit-b-32-openai", "siglip-base"])
def test_full_size_encoders_tell_a_cat_from_a_rocket(name: str) -> None:
    from PIL import Image
    from skimage import data

    encoder = ModelPool(device="cpu").encoder(name)
    pictures = [Image.fromarray(data.chelsea()), Image.fromarray(data.rocket())]

    cosines = (
        encoder.embed_images(pictures) @ encoder.embed_texts(["a photo of a cat", "a photo of a rocket"]).T
    )
    threshold = encoder.default_thresholds["cosine"]
    assert np.all(np.diag(cosines) > threshold)
    assert np.all(cosines[[0, 1], [1, 0]] < threshold)
