from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import transformers

from autotag.errors import ModelLoadError
from autotag.models.encoders.hf_encoder import HfEncoder
from autotag.models.loading.model_folders import fingerprint
from autotag.models.pool import ModelPool
from autotag.protocols import ImageTextEncoder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from PIL import Image

FAMILIES = ["clip", "siglip", "siglip2"]
TEXTS = ["a dog", "blue", "a photo of a dog that runs on the green grass " * 4, "two men", ""]


@pytest.fixture(scope="module")
def encoder(tiny_folder: Callable[[str], Path]) -> Callable[[str], Any]:
    pool = ModelPool(device="cpu")
    return lambda family: pool.encoder(str(tiny_folder(family)))


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_are_unit_float32_and_differ(
    encoder: Callable[[str], Any], images: list[Image.Image], family: str
) -> None:
    assert isinstance(encoder(family), ImageTextEncoder)
    for rows in (encoder(family).embed_images(images), encoder(family).embed_texts(TEXTS)):
        assert rows.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
        assert np.ptp(rows @ rows[0]) > 0.01


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_gives_what_its_items_give_alone(
    encoder: Callable[[str], Any], images: list[Image.Image], family: str
) -> None:
    one: Any = encoder(family)

    alone = np.concatenate([one.embed_images([image]) for image in images])
    np.testing.assert_allclose(one.embed_images(images), alone, atol=1e-5)
    alone = np.concatenate([one.embed_texts([text]) for text in TEXTS])
    np.testing.assert_allclose(one.embed_texts(TEXTS), alone, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_more_texts_than_one_chunk_keep_their_order(encoder: Callable[[str], Any], family: str) -> None:
    many = [f"{'a ' * (number % 5)}dog {number}" for number in range(1100)]

    rows = encoder(family).embed_texts(many)
    np.testing.assert_allclose(rows[297:], encoder(family).embed_texts(many[297:]), atol=1e-5)


@pytest.mark.parametrize(("family", "width"), [("clip", 24), ("siglip", 32), ("siglip2", 32)])
def test_nothing_gives_no_rows_of_the_right_width(
    encoder: Callable[[str], Any], family: str, width: int
) -> None:
    assert encoder(family).embed_images([]).shape == (0, width)
    assert encoder(family).embed_texts([]).shape == (0, width)


@pytest.mark.parametrize("family", FAMILIES)
def test_vectors_are_those_of_plain_transformers(
    encoder: Callable[[str], Any],
    tiny_folder: Callable[[str], Path],
    images: list[Image.Image],
    family: str,
) -> None:
    folder = tiny_folder(family)
    processor: Any = transformers.AutoProcessor.from_pretrained(folder)
    model: Any = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32)
    padding = {"padding": True} if family == "clip" else {"padding": "max_length", "max_length": 16}
    pixels = processor.image_processor(images=images, return_tensors="pt")
    tokens = processor(text=["a dog", "two men"], return_tensors="pt", **padding)
    if family != "clip":
        tokens = {"input_ids": tokens["input_ids"]}
    with torch.no_grad():
        output = model(**pixels, **tokens)

    one: Any = encoder(family)
    np.testing.assert_allclose(one.embed_images(images), output.image_embeds, atol=1e-5)
    np.testing.assert_allclose(one.embed_texts(["a dog", "two men"]), output.text_embeds, atol=1e-5)


@pytest.mark.parametrize("family", ["siglip", "siglip2"])
def test_siglip_reads_lower_case(encoder: Callable[[str], Any], family: str) -> None:
    rows = encoder(family).embed_texts(["A Photo of a DOG", "a photo of a dog"])

    np.testing.assert_array_equal(rows[0], rows[1])


@pytest.mark.parametrize(("family", "side"), [("clip", 32), ("siglip", 32), ("siglip2", None)])
def test_image_size_is_the_square_looked_at(
    encoder: Callable[[str], Any], family: str, side: int | None
) -> None:
    assert encoder(family).image_size == side


def test_the_id_follows_the_weights_not_the_folder(
    tiny: Any, tiny_folder: Callable[[str], Path], tmp_path: Path, encoder: Callable[[str], Any]
) -> None:
    moved = shutil.copytree(tiny_folder("clip"), tmp_path / "moved")
    assert ModelPool(device="cpu").encoder(str(moved)).id == encoder("clip").id

    model = transformers.CLIPModel.from_pretrained(moved)
    tiny.randomize(model, seed=1).save_pretrained(moved)
    assert ModelPool(device="cpu").encoder(str(moved)).id != encoder("clip").id


def test_the_id_follows_the_tokenizer(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """Vectors of labels are cached under the id, and another tokenizer gives others."""
    folder = shutil.copytree(tiny_folder("clip"), tmp_path / "clip")
    (folder / "merges.txt").write_text("a b")
    before = fingerprint(folder)
    for name in ("tokenizer.json", "merges.txt"):
        (folder / name).write_text((folder / name).read_text().replace("a", "b"))
        before, changed = fingerprint(folder), before
        assert changed != before


def test_a_request_s_thresholds_are_kept(
    tiny_folder: Callable[[str], Path], request_for: Callable[..., Any]
) -> None:
    request = request_for(tiny_folder("clip"), default_thresholds={"cosine": 0.22})

    assert HfEncoder.load(request).default_thresholds == {"cosine": 0.22}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_gives_nearly_the_same_float32_rows(
    encoder: Callable[[str], Any],
    tiny_folder: Callable[[str], Path],
    images: list[Image.Image],
    family: str,
    dtype: str,
) -> None:
    half: Any = ModelPool(device="cpu", dtype=dtype).encoder(str(tiny_folder(family)))

    rows = half.embed_images(images)
    assert half.model.dtype == getattr(torch, dtype)
    assert rows.dtype == np.float32
    assert (rows * encoder(family).embed_images(images)).sum(axis=1).min() > 0.98


def test_a_captioner_s_folder_is_no_encoder(tiny_folder: Callable[[str], Path]) -> None:
    with pytest.raises(ModelLoadError, match=r"'blip'.*CLIPModel, Siglip2Model, SiglipModel"):
        ModelPool(device="cpu").encoder(str(tiny_folder("blip")))


def test_one_tower_of_clip_is_refused(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_folder("clip"), tmp_path / "clip")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["CLIPTextModel"]}))

    with pytest.raises(ModelLoadError, match="holds a CLIPTextModel"):
        ModelPool(device="cpu").encoder(str(folder))
