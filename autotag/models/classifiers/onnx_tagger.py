"""Taggers as SmilingWolf publishes them for ONNX: ``model.onnx`` and ``selected_tags.csv``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from autotag.errors import ModelLoadError
from autotag.models.classifiers.tagger_labels import TAGS_FILE, TaggerLabels
from autotag.models.fast.views import MakesViews, SquareView
from autotag.models.loading import hub, model_folders
from autotag.models.loading.onnx_loading import onnx_session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from autotag.protocols import ModelRequest

_CHUNK = 64  # images in one pass


class OnnxTagger(MakesViews):
    """Classify images with a tagger in an ONNX file.

    The network has one input, (B, H, H, 3) float32 in [0, 255], channels blue, green, red, for an image that
    is padded with white to a square; and one output, (B, L) probabilities.

    Args:
        session: an ``onnxruntime.InferenceSession``.
        table: the labels.
        side: of the input, in pixels.
        name: of the model, for messages.
    """

    exclusive = False

    def __init__(self, session: Any, table: TaggerLabels, side: int, *, name: str = "onnx") -> None:
        self.name = name
        self.labels = table.labels
        self.categories = table.categories
        self.thresholds = table.thresholds
        self.image_size = side
        self._session = session
        self._input = session.get_inputs()[0]
        batch = self._input.shape[0]
        self._at_once = batch if isinstance(batch, int) else _CHUNK
        self._view = SquareView(side, side, "longest", "bicubic", (0.0,) * 3, (1.0,) * 3, fill=255)

    @classmethod
    def load(cls, request: ModelRequest) -> OnnxTagger:
        """Load a folder or hub repository.

        Raises:
            ConfigError: onnxruntime is not installed.
            ModelUnavailableError: there is no such folder, and it cannot be downloaded.
            ModelLoadError: the network is damaged or of another kind, or the table does not fit it.
        """
        folder = hub.model_folder(request, "classifier", model_folders.ONNX_TAGGER)
        session = onnx_session(request, "classifier", folder / "model.onnx")
        given, wanted = session.get_inputs(), session.get_outputs()
        shape, out = list(given[0].shape), list(wanted[0].shape)
        fits = len(given) == 1 and len(shape) == 4 and shape[3] == 3 and shape[1] == shape[2]
        if not (fits and isinstance(shape[1], int) and len(out) == 2 and isinstance(out[1], int)):
            raise ModelLoadError(
                request.name,
                f"model {request.name!r}: {folder / 'model.onnx'} maps {shape} to {out}; a tagger maps "
                "[N, H, H, 3] (BGR, 0 to 255) to [N, labels]",
            )
        table = TaggerLabels.read(request.name, folder / TAGS_FILE, out[1])
        return cls(session, table, shape[1], name=request.name)

    def classify(self, images: Sequence[Image.Image], /) -> NDArray[np.float32]:
        """Return the probability of each label in B upright RGB images: (B, L) float32."""
        return self.classify_views([self.view(image) for image in images])

    def classify_views(self, views: Sequence[NDArray[np.uint8]], /) -> NDArray[np.float32]:
        """Return the probability of each label in images prepared by ``view``: (B, L) float32.

        Raises:
            ModelLoadError: the network gives numbers that are no probabilities.
        """
        rows = []
        for start in range(0, len(views), self._at_once):
            some = views[start : start + self._at_once]
            pixels = np.stack(some)[:, ::-1].transpose(0, 2, 3, 1).astype(np.float32)
            if isinstance(self._input.shape[0], int):
                pixels = np.resize(pixels, (self._at_once, *pixels.shape[1:]))  # a fixed batch is filled up
            found = self._session.run(None, {self._input.name: np.ascontiguousarray(pixels)})[0]
            rows.append(np.asarray(found[: len(some)], dtype=np.float32))
        probabilities = np.concatenate(rows) if rows else np.zeros((0, len(self.labels)), dtype=np.float32)
        if not ((probabilities >= 0) & (probabilities <= 1)).all():
            raise ModelLoadError(
                self.name,
                f"model {self.name!r}: its outputs are not in [0, 1]; export it with a sigmoid at its end",
            )
        return probabilities
