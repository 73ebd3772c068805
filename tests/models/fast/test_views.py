from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from transformers import BlipImageProcessor, CLIPImageProcessor, Siglip2ImageProcessor, SiglipImageProcessor

from autotag.config import fast_paths
from autotag.models.fast.views import SquareView, view_of, view_of_open_clip

PHOTOGRAPHS = sorted((Path(__file__).parents[3] / "docs" / "examples").glob("*.jpg"))
ODD_SIZES = [(1, 300), (300, 1), (1, 1), (7, 5), (223, 225), (1023, 3), (40, 2000), (801, 600)]

PROCESSORS: dict[str, Any] = {
    "blip": BlipImageProcessor(),
    "clip": CLIPImageProcessor(),
    "clip, odd crop": CLIPImageProcessor(
        size={"shortest_edge": 231}, crop_size={"height": 224, "width": 200}
    ),
    "clip, padded": CLIPImageProcessor(size={"shortest_edge": 201}),
    "siglip": SiglipImageProcessor(),
    "siglip, bilinear": SiglipImageProcessor(resample=2),
}
CONFIGURATIONS: dict[str, PreprocessCfg] = {
    "shortest": PreprocessCfg(),
    "shortest, odd": PreprocessCfg(size=225, interpolation="bilinear"),
    "squash": PreprocessCfg(resize_mode="squash"),
    "squash, oblong": PreprocessCfg(resize_mode="squash", size=(200, 160)),
    "longest": PreprocessCfg(resize_mode="longest", fill_color=30),
}


def _photographs() -> list[Image.Image]:
    assert len(PHOTOGRAPHS) >= 6
    return [Image.open(path).convert("RGB") for path in PHOTOGRAPHS]


def _noise(width: int, height: int) -> Image.Image:
    """Not black to white: overshoot is cut between both passes, whose order Pillow chooses by the size."""
    values = np.random.default_rng(0).integers(64, 192, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def _difference(view: SquareView, image: Image.Image, official: torch.Tensor) -> Any:
    """(3, H, W) in units of 1/255 before normalisation."""
    shown = view.normalised([view.make(image)], "cpu", torch.float32)[0]
    assert shown.shape == official.shape
    return ((shown - official).abs() * torch.tensor(view.std)[:, None, None] * 255).numpy()


@pytest.mark.parametrize("name", PROCESSORS)
def test_photographs_look_as_to_the_processor_of_transformers(name: str) -> None:
    processor = PROCESSORS[name]
    view = view_of(processor)

    assert view
    for image in _photographs():
        official = processor(images=[image], return_tensors="pt")["pixel_values"][0]
        difference = _difference(view, image, official)
        assert difference.mean() < 0.02
        assert difference.max() < 1.1


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_photographs_look_as_in_open_clip(name: str) -> None:
    preprocess = image_transform_v2(CONFIGURATIONS[name], is_train=False)
    view = view_of_open_clip(preprocess, CONFIGURATIONS[name])

    assert view
    for image in _photographs():
        difference = _difference(view, image, preprocess(image))
        assert difference.mean() < 0.02
        assert difference.max() < 1.1


@pytest.mark.slow
@pytest.mark.parametrize("size", ODD_SIZES)
@pytest.mark.parametrize("name", [*PROCESSORS, *CONFIGURATIONS])
def test_odd_sizes_look_the_same_too(name: str, size: tuple[int, int]) -> None:
    image = _noise(*size)
    if name in PROCESSORS:
        view = view_of(PROCESSORS[name])
        official = PROCESSORS[name](images=[image], return_tensors="pt")["pixel_values"][0]
    else:
        preprocess = image_transform_v2(CONFIGURATIONS[name], is_train=False)
        view = view_of_open_clip(preprocess, CONFIGURATIONS[name])
        official = preprocess(image)

    assert view
    difference = _difference(view, image, official)
    assert difference.mean() < 0.5
    assert difference.max() < 3.1


@pytest.mark.parametrize("size", [(60_000, 1), (1, 60_000)])
def test_a_very_long_strip_takes_little_memory(size: tuple[int, int]) -> None:
    view = view_of(PROCESSORS["clip"])
    assert view
    grey = Image.linear_gradient("L").resize(size).convert("RGB")

    shown = view.make(grey)
    assert shown.shape == (3, 224, 224)
    np.testing.assert_allclose(shown, 127, atol=3)


def test_a_view_is_contiguous_uint8_and_leaves_the_image_alone() -> None:
    view = view_of(PROCESSORS["clip"])
    image = _noise(300, 250)
    before = image.tobytes()
    assert view

    shown = view.make(image)
    shown[:] = 0
    assert shown.dtype == np.uint8
    assert shown.shape == (3, 224, 224)
    assert shown.flags.c_contiguous
    assert image.tobytes() == before


@pytest.mark.slow
def test_the_id_names_the_pixels_and_not_what_is_done_with_them() -> None:
    def view_id(**changes: Any) -> str:
        view = view_of(SiglipImageProcessor(**changes))
        assert view
        return view.id

    assert view_id() == view_id(image_mean=[0.1] * 3, image_std=[0.9] * 3)
    others = [
        view_id(size={"height": 224, "width": 192}),
        view_id(resample=2),
        view_id(size={"shortest_edge": 224}, do_center_crop=True, crop_size={"height": 224, "width": 224}),
    ]
    assert len({view_id(), *others}) == 4


def test_threads_make_what_one_thread_makes() -> None:
    view = view_of(PROCESSORS["blip"])
    images = [_noise(60 + number, 90) for number in range(8)]
    assert view
    expected = [view.make(image) for image in images]
    made: dict[int, Any] = {}

    def make(number: int) -> None:
        made[number] = view.make(images[number])

    threads = [threading.Thread(target=make, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(8):
        np.testing.assert_array_equal(made[number], expected[number])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_normalised_has_the_dtype_asked_for(dtype: torch.dtype) -> None:
    view = view_of(PROCESSORS["clip"])
    assert view

    views = [view.make(_noise(50, 60)) for _ in range(3)]
    assert view.normalised(views, "cpu", dtype).dtype == dtype
    assert view.normalised(views, "cpu", dtype).shape == (3, 3, 224, 224)


class _Shifting(CLIPImageProcessor):  # type: ignore[misc]  # transformers' classes are untyped
    """A release of transformers that crops elsewhere, say."""

    def center_crop(self, image: torch.Tensor, size: Any, **more: Any) -> torch.Tensor:
        return torch.roll(super().center_crop(image, size, **more), 1, dims=-1)


class _OtherShape(CLIPImageProcessor):  # type: ignore[misc]
    def center_crop(self, image: torch.Tensor, size: Any, **more: Any) -> torch.Tensor:
        return super().center_crop(image, size, **more)[..., :-1]


class _Failing(CLIPImageProcessor):  # type: ignore[misc]
    def center_crop(self, image: torch.Tensor, size: Any, **more: Any) -> torch.Tensor:
        raise RuntimeError("no more cropping")


def test_pixels_that_are_not_normalised_are_between_0_and_1() -> None:
    processor = CLIPImageProcessor(do_normalize=False)
    view = view_of(processor)
    assert view is not None
    assert (view.mean, view.std) == ((0.0,) * 3, (1.0,) * 3)


@pytest.mark.parametrize(
    ("processor", "reason"),
    [
        (_Shifting(), "other pixels"),
        (_OtherShape(), "shape"),
        (_Failing(), "no more cropping"),
        (CLIPImageProcessor(do_rescale=False), "do_rescale is off"),
        (CLIPImageProcessor(rescale_factor=1.0), "rescale_factor"),
        (CLIPImageProcessor(resample=1), "interpolation"),
        (CLIPImageProcessor(do_center_crop=False), "do_center_crop is False"),
        (SiglipImageProcessor(do_pad=True), "do_pad"),
        (Siglip2ImageProcessor(), "it keeps the aspect ratio of images"),
        (object(), "do_resize"),
    ],
)
def test_what_does_not_fit_is_no_view_and_says_why(
    processor: Any, reason: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_paths, "_said", set())

    assert view_of(processor) is None
    assert view_of(processor) is None
    assert len(caplog.messages) == 1
    assert "'views' is not used" in caplog.text
    assert reason in caplog.text


@pytest.mark.parametrize("changes", [{"size": (200, 160)}, {"interpolation": "random"}, {"mean": (0.5,)}])
def test_what_does_not_fit_of_open_clip_is_no_view_either(
    changes: dict[str, Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_paths, "_said", set())
    cfg = PreprocessCfg(**changes)

    assert view_of_open_clip(image_transform_v2(PreprocessCfg(), is_train=False), cfg) is None
    assert "'views' is not used" in caplog.text


def test_another_crop_in_open_clip_is_noticed(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_paths, "_said", set())
    squash = image_transform_v2(PreprocessCfg(resize_mode="squash"), is_train=False)

    assert view_of_open_clip(squash, PreprocessCfg()) is None
    assert "other pixels" in caplog.text
