"""A network that gives a logit for each label: the part that transformers and timm have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from autotag.models.fast.views import MakesViews

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from autotag.models.fast.views import SquareView
    from autotag.protocols import Head

_CHUNK = 64  # images in one pass
_LONGEST_STRIP = 64  # times as long as it is wide


class NetworkClassifier(MakesViews):
    """Classify images with a torch network.

    Args:
        network: (B, 3, H, W) normalised pixels -> (B, L) logits; in eval mode, on its device.
        prepare: upright RGB image -> (3, H, W) normalised float32 pixels, with the model's own code.
        labels: the L labels.
        head: ``"softmax"`` if the labels exclude each other, else ``"sigmoid"``.
        view: how the image becomes the model's input; None to use ``prepare``.
        device: of the network.
        dtype: of the network.
        image_size: side in pixels of the input; None when unknown.
        bgr: whether the network takes the channels as blue, green, red.
        categories: the category of each label; empty for none.
        thresholds: the lowest probability at which each label counts; empty for none.
    """

    def __init__(
        self,
        network: Callable[[torch.Tensor], torch.Tensor],
        prepare: Callable[[Image.Image], torch.Tensor],
        *,
        labels: Sequence[str],
        head: Head,
        view: SquareView | None,
        device: torch.device | str,
        dtype: torch.dtype,
        image_size: int | None,
        bgr: bool = False,
        categories: Sequence[str] = (),
        thresholds: Sequence[float] = (),
    ) -> None:
        self.labels = tuple(labels)
        self.head = head
        self.image_size = image_size
        self.categories = tuple(categories)
        self.thresholds = tuple(thresholds)
        self._network = network
        self._prepare = prepare
        self._view = view
        self._device = device
        self._dtype = dtype
        self._bgr = bgr

    @property
    def exclusive(self) -> bool:
        """Return whether the probabilities of an image add up to 1."""
        return self.head == "softmax"

    def classify(self, images: Sequence[Image.Image], /) -> NDArray[np.float32]:
        """Return the probability of each label in B upright RGB images: (B, L) float32."""
        if self._view is not None:
            return self.classify_views([self._view.make(image) for image in images])
        rows = []
        for start in range(0, len(images), _CHUNK):
            pixels = [self._prepare(_usable(image)) for image in images[start : start + _CHUNK]]
            same = len({one.shape for one in pixels}) == 1
            batches = [torch.stack(pixels)] if same else [one[None] for one in pixels]
            rows += [self._probabilities(batch.to(self._device, self._dtype)) for batch in batches]
        return self._joined(rows)

    def classify_views(self, views: Sequence[NDArray[np.uint8]], /) -> NDArray[np.float32]:
        """Return the probability of each label in images prepared by ``view``: (B, L) float32."""
        view = self._own_view
        return self._joined(
            [
                self._probabilities(view.normalised(views[start : start + _CHUNK], self._device, self._dtype))
                for start in range(0, len(views), _CHUNK)
            ]
        )

    def _probabilities(self, pixels: torch.Tensor) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits = self._network(pixels.flip(1) if self._bgr else pixels).float()
            chances = logits.softmax(dim=-1) if self.head == "softmax" else logits.sigmoid()
        rows: NDArray[np.float32] = chances.cpu().numpy()
        return rows

    def _joined(self, rows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        return np.concatenate(rows) if rows else np.zeros((0, len(self.labels)), dtype=np.float32)


def _usable(image: Image.Image) -> Image.Image:
    """Return an RGB image that a model can resize: of a longer strip than 64 to 1 its middle.

    A model that makes the shorter side 224 pixels long would need gigabytes for 1 x 30,000 pixels.
    """
    rgb = image.convert("RGB")
    most = _LONGEST_STRIP * min(rgb.size)
    if max(rgb.size) <= most:
        return rgb
    left, top = (max(0, (side - most) // 2) for side in rgb.size)
    return rgb.crop((left, top, left + min(rgb.width, most), top + min(rgb.height, most)))
