"""Maps of where an encoder sees a text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch.nn import functional

from autotag.errors import ConfigError
from autotag.models.encoders import openclip_encoder, text_maps
from autotag.models.pool import ModelPool
from autotag.protocols import MapsTexts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType

EXAMPLES = "docs/examples"


@pytest.fixture(scope="module")
def encoder(tiny_folder: Callable[[str], Path]) -> Callable[[str], Any]:
    pool = ModelPool(device="cpu")
    return lambda tower: pool.encoder(tower if tower == "clip-mini" else str(tiny_folder(tower)))


def side_by_side(root: Path) -> Image.Image:
    both = Image.new("RGB", (600, 300))
    for place, name in enumerate(("cat", "coffee")):
        with Image.open(root / EXAMPLES / f"{name}.jpg") as photo:
            both.paste(ImageOps.fit(photo.convert("RGB"), (300, 300)), (300 * place, 0))
    return both


def test_the_bundled_encoder_sees_each_thing_where_it_is(
    encoder: Callable[[str], Any], pytestconfig: pytest.Config
) -> None:
    both = side_by_side(pytestconfig.rootpath)
    for image, first in ((both, "left"), (ImageOps.mirror(both), "right")):
        found = encoder("clip-mini").text_maps(image, ["a photo of a cat", "a photo of a cup"])
        assert found.values.dtype == np.float32
        assert found.box == (0, 0, 600, 300)
        columns = [int(values.argmax() % values.shape[1]) for values in found.values]
        middle = found.values.shape[2] / 2
        sides = ["left" if column < middle else "right" for column in columns]
        assert sides[0] == first
        assert sides[1] != first


@pytest.mark.parametrize("tower", ["clip", "siglip", "open_clip_folder", "open_clip_folder/timm"])
def test_every_kind_of_tower_gives_one_map_for_each_text(encoder: Callable[[str], Any], tower: str) -> None:
    one = encoder(tower)
    assert isinstance(one, MapsTexts)
    image = Image.effect_noise((120, 80), 90).convert("RGB")
    found = one.text_maps(image, ["a dog", "blue", "a dog"])
    assert found.values.shape[0] == 3
    assert np.isfinite(found.values).all()
    assert np.ptp(found.values[0]) > 0
    np.testing.assert_array_equal(found.values[0], found.values[2])
    assert not np.array_equal(found.values[0], found.values[1])
    left, top, right, bottom = found.box
    assert (left + right) / 2 == pytest.approx(60)
    assert (top + bottom) / 2 == pytest.approx(40)


@pytest.mark.parametrize("tower", ["clip", "siglip", "open_clip_folder"])
def test_both_ways_of_weighting_attention_are_there(encoder: Callable[[str], Any], tower: str) -> None:
    image = Image.effect_noise((64, 64), 90).convert("RGB")
    ways = [
        encoder(tower).text_maps(image, ["a dog"], method=method).values
        for method in ("relevance", "grad_sam")
    ]
    assert ways[0].shape == ways[1].shape
    assert min(way.min() for way in ways) >= 0
    assert not np.allclose(ways[0] / ways[0].max(), ways[1] / ways[1].max(), atol=1e-4)


@pytest.mark.parametrize("tower", ["clip", "siglip", "open_clip_folder"])
def test_recording_attention_does_not_change_the_vectors(
    encoder: Callable[[str], Any], images: list[Image.Image], tower: str
) -> None:
    one = encoder(tower)
    expected = one.embed_images(images)
    with text_maps.AttentionRecord() as record:
        found = one.embed_images(images)
    assert record.probabilities
    for probabilities in record.probabilities:
        np.testing.assert_allclose(probabilities.sum(-1).numpy(), 1, atol=1e-5)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_mask_of_attention_is_kept() -> None:
    query, key, value = torch.randn(3, 1, 2, 4, 8).unbind()
    allowed = torch.ones(4, 4).tril().bool()
    added = torch.zeros(4, 4).masked_fill(~allowed, -torch.inf)
    for mask in (allowed, added):
        expected = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        with text_maps.AttentionRecord():
            found = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        torch.testing.assert_close(found, expected)


def test_a_resnet_of_openai_gets_grad_cam(tiny: ModuleType, tmp_path: Path) -> None:
    folder = tiny.open_clip_folder(tmp_path / "resnet", attention_pool=True)
    one: Any = ModelPool(device="cpu").encoder(str(folder))
    found = one.text_maps(Image.effect_noise((64, 64), 90).convert("RGB"), ["a dog", "blue"])
    assert found.values.shape == (2, 2, 2)
    assert np.ptp(found.values) > 0


def test_grad_cam_finds_the_only_place_that_matters() -> None:
    features = torch.zeros(1, 2, 4, 4)
    features[0, 0, 1, 2] = 3.0
    features[0, 1, 3, 0] = 3.0
    maps = text_maps.grad_cam(features, lambda given: given.mean((2, 3)), torch.eye(2))
    assert [int(one.argmax()) for one in maps] == [1 * 4 + 2, 3 * 4 + 0]


def test_a_window_is_embedded_as_the_mean_of_its_places() -> None:
    features = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    alone = text_maps.cell_vectors(features, lambda given: given.flatten(1))
    torch.testing.assert_close(alone.flatten(), torch.tensor([0.6, 0.8]))
    features = torch.rand(2, 5, 4, 6)
    vectors = text_maps.cell_vectors(features, lambda given: given.flatten(1))
    assert vectors.shape == (2, 4, 6, 5)
    for rows, columns, place in ((slice(0, 2), slice(0, 2), (0, 0)), (slice(1, 4), slice(2, 5), (2, 3))):
        expected = functional.normalize(features[1, :, rows, columns].mean((1, 2)), dim=0)
        torch.testing.assert_close(vectors[1][place], expected)


def test_a_view_of_its_own_is_refused(
    tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openclip_encoder, "view_of_open_clip", lambda *_: None)
    one: Any = ModelPool(device="cpu").encoder(str(tiny_folder("open_clip_folder")))
    with pytest.raises(ConfigError, match=r"cannot say where in an image.*'clip-mini'"):
        one.text_maps(Image.new("RGB", (9, 9)), ["a dog"])
