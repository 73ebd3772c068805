"""Preprocesses images once for all models: upright RGB to (3, H, W) uint8, as a model's own processor does.

The official processors resize one image after another in the thread that runs the models, and return
float32. Here the reading threads prepare uint8 views with ``SquareView``, and the device normalises them.
Torch's uint8 resize with ``antialias=True`` is the one that transformers uses, and agrees with Pillow, which
open_clip uses: on photographs they differ by 0.005/255 on average and by at most 1/255. Geometry and
normalisation are compared with the processor's at load.

The resize takes pixels in Pillow's order, channels last; with channels first it takes nine times as long.
With channels last it also starts no threads of its own (on x86; elsewhere torch may).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from PIL import Image

from autotag.config.fast_paths import say_not_used

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

Geometry = Literal["squash", "shortest", "shortest-rounded", "longest"]
"""``squash`` ignores the aspect ratio. ``shortest`` makes the shorter edge fit and crops the longer at its
centre, rounding half a pixel to the left; ``shortest-rounded`` is the same, rounding half a pixel to the even
side (torchvision). ``longest`` makes the longer edge fit and pads the shorter."""
Interpolation = Literal["bicubic", "bilinear"]

_PILLOW = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_SUPPORT = 2  # radius of the bicubic filter, in pixels of the coarser of the two images
_MOST_CROPPED_AWAY = 8
_MEAN_DIFFERENCE = (
    0.5  # of 255: between Pillow and torch it is at most 0.3, with another filter or offset at least 2
)
_MOST_DIFFERENCE = 6.0


@dataclass(frozen=True)
class SquareView:
    """The preprocessing of a model's input image.

    Attributes:
        height: of the input, in pixels.
        width: of the input, in pixels.
        geometry: how the image is made to fit.
        interpolation: the filter, as named by Pillow.
        mean: per channel, subtracted from pixels in [0, 1].
        std: per channel, the divisor after that.
        edge: length in pixels to which ``shortest`` resizes the shorter edge; 0 for the view's own.
        fill: the grey level of the padding, 0 to 255.
    """

    height: int
    width: int
    geometry: Geometry
    interpolation: Interpolation
    mean: tuple[float, ...]
    std: tuple[float, ...]
    edge: int = 0
    fill: int = 0
    _constants: dict[str, tuple[torch.Tensor, torch.Tensor]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    @property
    def id(self) -> str:
        """Return an id that is equal for views with equal pixels; normalisation does not count."""
        edge = f"-{self.edge}" if self.edge else ""
        fill = f"-on-{self.fill}" if self.fill else ""
        return f"{self.width}x{self.height}-{self.geometry}{edge}-{self.interpolation}{fill}"

    def larger(self, times: int) -> SquareView:
        """Return the same view with ``times`` as many pixels a side."""
        return replace(self, height=self.height * times, width=self.width * times, edge=self.edge * times)

    def region(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Return left, top, right, bottom of what the view shows, in pixels of an image of this size.

        The part of a padded view reaches beyond the image.
        """
        rows, columns = self._resized(height, width)
        left, top = (columns - self.width) / 2, (rows - self.height) / 2
        across, down = width / columns, height / rows
        return left * across, top * down, (left + self.width) * across, (top + self.height) * down

    def make(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return an image as (3, H, W) uint8. Safe to call from several threads."""
        rgb = image if image.mode == "RGB" else image.convert("RGB")
        height, width = self._resized(rgb.height, rgb.width)
        if height * width > _MOST_CROPPED_AWAY * self.height * self.width:
            return self._fitted(*self._centre_of_strip(rgb, height, width))
        return self._fitted(_resize(rgb, height, width, self.interpolation), height, width)

    def normalised(
        self, views: Sequence[NDArray[np.uint8]], device: torch.device | str, dtype: torch.dtype
    ) -> torch.Tensor:
        """Return (B, 3, H, W) normalised pixels on the device, copied there as uint8.

        Args:
            views: at least one (3, H, W) uint8 array.
            device: the device.
            dtype: of the result.
        """
        device, shape = torch.device(device), (len(views), 3, self.height, self.width)
        mean, std = self._on(device)
        pixels = torch.empty(shape, dtype=torch.uint8, pin_memory=device.type == "cuda")
        np.stack(list(views), out=pixels.numpy())
        if device.type == "cpu":
            normal = torch.empty(shape)
            for image, raw in zip(normal, pixels, strict=True):  # one by one they stay in the cache
                image.copy_(raw).sub_(mean).div_(std)
            return normal.to(dtype)
        placed = pixels.to(device, non_blocking=True)
        return torch.sub(placed, mean).div_(std).to(dtype)

    def _on(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the (3, 1, 1) mean and standard deviation for pixels in [0, 255], on the device."""
        if str(device) not in self._constants:
            both = (np.array(values, dtype=np.float32) * 255 for values in (self.mean, self.std))
            mean, std = (torch.from_numpy(values).reshape(3, 1, 1).to(device) for values in both)
            self._constants[str(device)] = mean, std
        return self._constants[str(device)]

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width to resize an image to, rounded as in the official code."""
        if self.geometry == "squash":
            return self.height, self.width
        if self.geometry == "longest":
            ratio = max(height / self.height, width / self.width)
            return max(1, round(height / ratio)), max(1, round(width / ratio))
        edge = self.edge or min(self.height, self.width)
        if width <= height:
            return int(edge * height / width), edge
        return edge, int(edge * width / height)

    def _fitted(self, pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
        """Crop (3, height, width) pixels at their centre, or pad them on all sides, to the view's size."""
        if (height, width) == (self.height, self.width):
            return np.ascontiguousarray(pixels)
        view = np.full((3, self.height, self.width), self.fill, dtype=np.uint8)
        to_rows, from_rows = self._overlap(self.height, height)
        to_columns, from_columns = self._overlap(self.width, width)
        view[:, to_rows, to_columns] = pixels[:, from_rows, from_columns]
        return view

    def _overlap(self, wanted: int, given: int) -> tuple[slice, slice]:
        """Return the range in the view and the range in the resized image that fills it."""
        if given <= wanted:
            start = (wanted - given) // 2
            return slice(start, start + given), slice(0, given)
        start = self._crop_start(wanted, given)
        return slice(0, wanted), slice(start, start + wanted)

    def _crop_start(self, wanted: int, given: int) -> int:
        excess = (given - wanted) / 2
        return int(excess) if self.geometry == "shortest" else round(excess)

    def _centre_of_strip(
        self, image: Image.Image, height: int, width: int
    ) -> tuple[NDArray[np.uint8], int, int]:
        """Crop the centre of a very long image, resizing little more than the crop.

        Resized in full, an image of 1 x 60,000 pixels would become one of 224 x 13 million.
        """
        top, bottom, row, upper, lower = self._span(self.height, height, image.height)
        left, right, column, near, far = self._span(self.width, width, image.width)
        box = (int(near), int(upper), min(image.width, int(far) + 1), min(image.height, int(lower) + 1))
        part = image.crop(box)
        filtering = _PILLOW[self.interpolation]  # columns first, as in torch
        part = part.resize(
            (right - left, part.height), filtering, box=(near - box[0], 0, far - box[0], part.height)
        )
        part = part.resize(
            (part.width, bottom - top), filtering, box=(0, upper - box[1], part.width, lower - box[1])
        )
        kept = np.asarray(part).transpose(2, 0, 1)
        kept = kept[:, row - top : row - top + self.height, column - left : column - left + self.width]
        return kept, kept.shape[1], kept.shape[2]

    def _span(self, wanted: int, resized: int, original: int) -> tuple[int, int, int, float, float]:
        """Return the range to resize along one side.

        Returns:
            In resized pixels: start, end, and start of the crop. In original pixels: start and end.
        """
        scale = original / resized
        margin = int(_SUPPORT * max(scale, 1) / scale) + 2
        first = self._crop_start(wanted, resized) if resized > wanted else 0
        start, end = max(0, first - margin), min(resized, first + wanted + margin)
        return start, end, first, start * scale, min(original, end * scale)


class MakesViews:
    """The views of a model whose ``_view`` prepares its input: what ``protocols.ViewsImages`` asks for."""

    _view: SquareView | None

    @property
    def view_id(self) -> str | None:
        """Return the id of the views that ``view`` makes; None if this model makes no views."""
        return self._view.id if self._view else None

    def view(self, image: Image.Image, /) -> NDArray[np.uint8]:
        """Return an upright RGB image as (3, H, W) uint8, for the method that takes views. Thread-safe.

        Raises:
            RuntimeError: ``view_id`` is None.
        """
        return self._own_view.make(image)

    @property
    def _own_view(self) -> SquareView:
        """Return ``_view``.

        Raises:
            RuntimeError: it is None.
        """
        if self._view is None:
            raise RuntimeError(f"this {type(self).__name__} makes no views: its view_id is None")
        return self._view


def view_of(image_processor: Any) -> SquareView | None:
    """Return the view that equals a transformers image processor; None, after a warning, if none does."""
    try:
        view = _described(image_processor)
    except (AttributeError, TypeError, ValueError) as error:
        say_not_used("views", f"{type(image_processor).__name__}: {error}")
        return None

    def official(image: Image.Image) -> torch.Tensor:
        pixels: torch.Tensor = image_processor(images=[image], return_tensors="pt")["pixel_values"][0]
        return pixels

    return _tried(view, official, type(image_processor).__name__)


def view_of_open_clip(preprocess: Callable[[Image.Image], torch.Tensor], cfg: Any) -> SquareView | None:
    """Return the view that equals open_clip's preprocessing; None, after a warning, if none does.

    Args:
        preprocess: made from ``cfg`` by ``open_clip.transform.image_transform_v2``, for evaluation.
        cfg: an ``open_clip.transform.PreprocessCfg``.
    """
    try:
        view = _described_by_open_clip(cfg)
    except (AttributeError, TypeError, ValueError) as error:
        say_not_used("views", f"open_clip's preprocessing: {error}")
        return None
    return _tried(view, preprocess, "open_clip's preprocessing")


def view_of_timm(
    transform: Callable[[Image.Image], torch.Tensor], data: Mapping[str, Any]
) -> SquareView | None:
    """Return the view that equals timm's transform for evaluation; None, after a warning, if none does.

    Args:
        transform: made from ``data`` by ``timm.data.create_transform``.
        data: from ``timm.data.resolve_data_config``.
    """
    try:
        view = _described_by_timm(data)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        say_not_used("views", f"timm's transform: {error}")
        return None
    return _tried(view, transform, "timm's transform")


def _resize(image: Image.Image, height: int, width: int, interpolation: Interpolation) -> NDArray[np.uint8]:
    """Return the image resized to (3, height, width) uint8."""
    resized = torch.nn.functional.interpolate(
        torch.from_numpy(np.array(image)).permute(2, 0, 1)[None],
        size=(height, width),
        mode=interpolation,
        antialias=True,
    )
    view: NDArray[np.uint8] = resized[0].numpy()
    return view


def _described(processor: Any) -> SquareView:
    """Return the view for the settings of an image processor.

    Raises:
        ValueError, AttributeError: a view does not support the settings.
    """
    for setting in ("do_resize", "do_rescale"):
        if not getattr(processor, setting):
            raise ValueError(f"{setting} is off")
    if abs(processor.rescale_factor * 255 - 1) > 1e-6:
        raise ValueError(f"rescale_factor is {processor.rescale_factor}")
    if getattr(processor, "do_pad", None):
        raise ValueError("do_pad is on")
    if processor.size is None:
        raise ValueError("it keeps the aspect ratio of images")
    size = {side: length for side, length in dict(processor.size).items() if length}
    interpolation = _interpolation({2: "bilinear", 3: "bicubic"}.get(int(processor.resample), "another"))
    look: tuple[tuple[float, ...], tuple[float, ...]] = (
        (0.0,) * 3,
        (1.0,) * 3,
    )  # RT-DETR and D-FINE take pixels in [0, 1]
    if processor.do_normalize:
        look = _channels(processor.image_mean), _channels(processor.image_std)
    crops = bool(getattr(processor, "do_center_crop", None))
    if size.keys() == {"height", "width"} and not crops:
        return SquareView(size["height"], size["width"], "squash", interpolation, *look)
    if size.keys() == {"shortest_edge"} and crops:
        crop, edge = processor.crop_size, size["shortest_edge"]
        return SquareView(crop["height"], crop["width"], "shortest", interpolation, *look, edge=edge)
    raise ValueError(f"size is {size}, do_center_crop is {crops}")


def _described_by_open_clip(cfg: Any) -> SquareView:
    """Return the view for open_clip's settings.

    Raises:
        ValueError, AttributeError: a view does not support the settings.
    """
    height, width = (cfg.size, cfg.size) if isinstance(cfg.size, int) else cfg.size
    geometries: dict[str, Geometry] = {"squash": "squash", "longest": "longest"}
    if height == width:
        geometries["shortest"] = "shortest-rounded"
    if cfg.resize_mode not in geometries:
        raise ValueError(f"resize_mode is {cfg.resize_mode!r} and size {cfg.size}")
    return SquareView(
        height,
        width,
        geometries[cfg.resize_mode],
        _interpolation(cfg.interpolation),
        _channels(cfg.mean),
        _channels(cfg.std),
        fill=cfg.fill_color if cfg.resize_mode == "longest" else 0,
    )


def _described_by_timm(data: Mapping[str, Any]) -> SquareView:
    """Return the view for timm's settings.

    Raises:
        ValueError, KeyError: a view does not support the settings.
    """
    _, height, width = data["input_size"]
    mode, share = data["crop_mode"], data["crop_pct"]
    edge = math.floor(height / share)
    geometries: dict[str, Geometry] = {}
    if share == 1:
        geometries["squash"] = "squash"
    if height == width:
        geometries["center"] = "shortest-rounded"
    if mode not in geometries:
        raise ValueError(f"crop_mode is {mode!r}, crop_pct {share}, size {height} x {width}")
    return SquareView(
        height,
        width,
        geometries[mode],
        _interpolation(data["interpolation"]),
        _channels(data["mean"]),
        _channels(data["std"]),
        edge=edge if mode == "center" and edge != height else 0,
    )


def _interpolation(name: str) -> Interpolation:
    if name == "bicubic":
        return "bicubic"
    if name == "bilinear":
        return "bilinear"
    raise ValueError(f"interpolation is {name}")


def _channels(values: Any) -> tuple[float, ...]:
    channels = tuple(float(value) for value in values)
    if len(channels) != 3:
        raise ValueError(f"{len(channels)} values are given for 3 channels")
    return channels


def _tried(view: SquareView, official: Callable[[Image.Image], torch.Tensor], what: str) -> SquareView | None:
    """Return the view if it gives the same pixels as the official code for three test images; else None."""
    for size in ((90, 61), (61, 90), (900, 700)):
        image = _pattern(*size)
        try:
            expected = official(image).float().cpu().numpy()
        except (RuntimeError, ValueError, TypeError) as error:
            say_not_used("views", f"{what} fails on a {size[0]}x{size[1]} image: {error}")
            return None
        found = view.normalised([view.make(image)], "cpu", torch.float32)[0].numpy()
        if expected.shape != found.shape:
            say_not_used("views", f"{what} gives pixels of shape {expected.shape}, ours {found.shape}")
            return None
        scale = np.array(view.std, dtype=np.float32).reshape(3, 1, 1) * 255
        difference = np.abs(expected - found) * scale
        if difference.mean() > _MEAN_DIFFERENCE or difference.max() > _MOST_DIFFERENCE:
            say_not_used("views", f"{what} gives other pixels, by {difference.mean():.2f}/255 on average")
            return None
    return view


def _pattern(width: int, height: int) -> Image.Image:
    """Return waves with some noise, whose pixels change with another geometry or filter."""
    rows, columns = np.mgrid[:height, :width]
    waves = np.stack([np.sin(columns / 7), np.cos(rows / 5), np.sin((rows + columns) / 3)], axis=-1)
    noise = np.random.default_rng(0).normal(scale=8, size=waves.shape)
    return Image.fromarray(np.clip(127 + 100 * waves + noise, 0, 255).astype(np.uint8))
