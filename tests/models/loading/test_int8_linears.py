from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

import autotag
from autotag.config.fast_paths import FastPaths
from autotag.errors import ConfigError
from autotag.models.loading import int8_linears
from autotag.models.loading.device import choose_dtype
from autotag.models.loading.int8_linears import Int8Linear, quantize_linears
from autotag.models.pool import ModelPool
from autotag.protocols import CaptionOptions, dtype_of
from autotag.testing import make_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from PIL import Image

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(),  # type: ignore[no-untyped-call]
    reason="this torch has no oneDNN",
)
MANY = int8_linears._MANY_ROWS
CAPTIONERS = ["blip", "git", "blip2_opt", "blip2_t5", "coca", "florence2", "vit_gpt2", "qwen2_vl"]


def layer(*, bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(48, 80, bias=bias).requires_grad_(requires_grad=False)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "shape",
    [(48,), (7, 48), (0, 48), (2, 3, 48), (2, MANY, 48), (1, MANY + 1, 48), (2, 4, 5, 48), (0, MANY, 48)],
)
def test_results_are_near_those_of_float32(shape: tuple[int, ...], bias: bool) -> None:
    plain, rows = layer(bias=bias), torch.randn(shape) * 3 + 1
    with torch.inference_mode():
        given, expected = Int8Linear(plain)(rows), plain(rows)
    assert given.shape == expected.shape
    assert given.dtype == torch.float32
    if given.numel():
        assert (given - expected).norm() < 0.02 * expected.norm()


@pytest.mark.parametrize("rows", [MANY, 5])
def test_an_image_does_not_depend_on_the_others_of_its_batch(rows: int) -> None:
    images = torch.randn(3, rows, 48)
    images[2] *= 100
    quantized = Int8Linear(layer())
    with torch.inference_mode():
        together = quantized(images)
        for image, one in zip(images, together, strict=True):
            assert torch.equal(quantized(image[None])[0], one)


@pytest.mark.parametrize("rows", [MANY, 5])
@pytest.mark.parametrize("value", [0.0, 2.5, -2.5, 1e-30])
def test_equal_numbers_are_exact_enough(rows: int, value: float) -> None:
    plain = layer()
    given = torch.full((1, rows, 48), value)
    with torch.inference_mode():
        torch.testing.assert_close(Int8Linear(plain)(given), plain(given), atol=0.03, rtol=0.02)


def test_the_weight_and_gradients_of_the_input_can_be_had() -> None:
    plain = layer()
    quantized = Int8Linear(plain)
    torch.testing.assert_close(quantized.weight, plain.weight.detach(), atol=0.002, rtol=0)
    ones, others = (torch.ones(3, 48, requires_grad=True) for _ in range(2))
    quantized(ones).sum().backward()
    plain(others).sum().backward()
    torch.testing.assert_close(ones.grad, others.grad, atol=0.1, rtol=0)


def test_only_linear_layers_are_replaced_and_a_shared_one_once() -> None:
    class Own(nn.Linear):
        pass

    shared = layer()
    network = nn.Sequential(shared, Own(3, 3), nn.Sequential(nn.LayerNorm(3), shared, nn.Linear(3, 3).half()))
    assert quantize_linears(network) == 1
    assert network[0] is network[2][1]
    assert isinstance(network[0], Int8Linear)
    assert quantize_linears(nn.Sequential(layer()), besides=(nn.Sequential,)) == 0


@pytest.mark.parametrize("wrong", ["missing", "other"])
def test_a_torch_that_does_not_multiply_in_int8_is_refused(
    monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    def product(*_: Any) -> Any:
        if wrong == "missing":
            raise AttributeError("no such operator")
        return torch.zeros(1)

    monkeypatch.setattr(Int8Linear, "_product", product)
    int8_linears._fault.cache_clear()
    try:
        with pytest.raises(ConfigError, match="dtype 'int8' .* use dtype='float32'"):
            quantize_linears(nn.Sequential(layer()))
    finally:
        int8_linears._fault.cache_clear()


def test_int8_is_for_cpus() -> None:
    with pytest.raises(ConfigError, match="int8' is for CPUs, .* use dtype='float16'"):
        choose_dtype("int8", "cuda")
    assert choose_dtype("int8", "cpu") == "int8"


def quantized_layers(model: nn.Module) -> int:
    return sum(isinstance(part, Int8Linear) for part in model.modules())


@pytest.mark.slow
@pytest.mark.parametrize("fast_paths", ["auto", "off"])
@pytest.mark.parametrize("family", CAPTIONERS)
def test_captioners_write_in_int8(
    tiny_folder: Callable[[str], Path], images: list[Image.Image], family: str, fast_paths: Any
) -> None:
    location = str(tiny_folder(family))
    name = f"open_clip:{location}" if family == "coca" else location
    options = CaptionOptions(max_new_tokens=6)
    pool = ModelPool(device="cpu", dtype="int8", fast_paths=FastPaths.parse(fast_paths))
    captioner: Any = pool.captioner(name)
    assert quantized_layers(captioner.visual if family == "coca" else captioner.model) > 3
    together = captioner.caption(images, options)
    assert [len(captions) for captions in together] == [1] * len(images)
    if family == "blip":
        assert together == [captioner.caption([image], options)[0] for image in images]


@pytest.mark.parametrize(
    "family", ["clip", *(pytest.param(one, marks=pytest.mark.slow) for one in ("siglip", "siglip2"))]
)
def test_encoders_say_that_they_calculate_in_int8(
    tiny_folder: Callable[[str], Path], images: list[Image.Image], family: str
) -> None:
    name = str(tiny_folder(family))
    plain, reduced = (ModelPool(device="cpu", dtype=dtype).encoder(name) for dtype in ("float32", "int8"))
    assert quantized_layers(reduced.model) > 3  # type: ignore[attr-defined]
    assert (dtype_of(plain), dtype_of(reduced)) == ("float32", "int8")
    assert plain.id == reduced.id
    for one, other in (
        (plain.embed_images(images), reduced.embed_images(images)),
        (plain.embed_texts(["a red bus"]), reduced.embed_texts(["a red bus"])),
    ):
        assert not np.array_equal(one, other)
        assert (one * other).sum(axis=1).min() > 0.99


@pytest.mark.slow
def test_the_bundled_models_find_nearly_the_same_in_int8() -> None:
    images = [make_image(colour) for colour in ("red", "green", "blue")]
    found = []
    for dtype in ("float32", "int8"):
        with autotag.load("mini", device="cpu", dtype=dtype) as tagger:
            found.append([set(result.tag_texts) for result in tagger.stream(images)])
    plain, reduced = (set().union(*each) for each in found)
    assert len(plain & reduced) >= 0.7 * len(plain | reduced)


@pytest.mark.parametrize("family", ["clip", "open_clip_folder"])
def test_texts_cut_at_their_end_token_pass_for_the_same_in_int8(
    tiny_folder: Callable[[str], Path], family: str, caplog: pytest.LogCaptureFixture
) -> None:
    encoder: Any = ModelPool(device="cpu", dtype="int8").encoder(str(tiny_folder(family)))
    text = encoder._causal_text if family == "clip" else encoder._encode_text
    assert text.is_int8
    assert text.tower is not None
    assert "causal_text" not in caplog.text
