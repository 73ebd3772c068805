"""Detectors with a fixed list of labels, with their transformers classes: RT-DETR, D-FINE, DETR ..."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from autotag.config.fast_paths import AUTO, FastPaths
from autotag.models.detectors.found import (
    LEAST_SCORE,
    NO_OBJECT,
    Frame,
    by_shape,
    detections,
    framed,
    names_of_classes,
)
from autotag.models.fast.views import MakesViews, view_of
from autotag.models.loading import model_folders
from autotag.models.loading.transformers_loading import auto_image_processor, load_pretrained, square_side

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from autotag.protocols import ModelRequest
    from autotag.records import Detection

CLASSES = {
    "conditional_detr": "ConditionalDetrForObjectDetection",
    "d_fine": "DFineForObjectDetection",
    "dab-detr": "DabDetrForObjectDetection",
    "deformable_detr": "DeformableDetrForObjectDetection",
    "deimv2": "Deimv2ForObjectDetection",
    "detr": "DetrForObjectDetection",
    "lw_detr": "LwDetrForObjectDetection",
    "rf_detr": "RfDetrForObjectDetection",
    "rt_detr": "RTDetrForObjectDetection",
    "rt_detr_v2": "RTDetrV2ForObjectDetection",
    "table-transformer": "TableTransformerForObjectDetection",
    "yolos": "YolosForObjectDetection",
}
_LAYERS_NEVER_USED = ("model.denoising_class_embed",)
"""RT-DETR's embedding for training with noise."""


class HfDetector(MakesViews):
    """Find objects with a transformers model behind ``AutoModelForObjectDetection``.

    Scores and boxes come from the model's own image processor (``post_process_object_detection``). Boxes with
    a score below 0.05 are not returned.

    Args:
        model: a model of one of the classes in ``CLASSES``, in eval mode, on its device.
        processor: its image processor.
        labels: class number -> label.
        fast_paths: the fast paths to use.
    """

    default_threshold = 0.5

    def __init__(
        self, model: Any, processor: Any, *, labels: Mapping[int, str], fast_paths: FastPaths = AUTO
    ) -> None:
        self.model = model
        self.processor = processor
        self._label_of = dict(labels)
        self._view = view_of(processor) if fast_paths.views and _is_square(processor) else None

    @classmethod
    def load(cls, request: ModelRequest) -> HfDetector:
        """Load the detector from a folder or hub repository.

        Raises:
            ModelUnavailableError: the weights are not on this machine and cannot be downloaded.
            ModelLoadError: the weights are damaged, incomplete, of another class, or name no labels.
        """
        model, processor, folder = load_pretrained(
            request,
            "detector",
            CLASSES,
            load_processor=auto_image_processor,
            never_used=_LAYERS_NEVER_USED,
            needs=model_folders.TRANSFORMERS_IMAGES,
        )
        labels = names_of_classes(request.name, folder, model.config.id2label)
        return cls(model, processor, labels=labels, fast_paths=request.fast_paths)

    @property
    def labels(self) -> tuple[str, ...]:
        """Return every label that the detector knows, in the order of its classes."""
        return tuple(dict.fromkeys(label for label in self._label_of.values() if label not in NO_OBJECT))

    @property
    def image_size(self) -> int | None:
        """Return the side in pixels of the model's input; the shorter one when it is not square."""
        return square_side(self.processor)

    def detect(self, images: Sequence[Image.Image], /) -> list[list[Detection]]:
        """Return each image's objects, best first, with boxes in pixels of that image (upright RGB)."""
        if self._view is not None:
            return self.detect_views([self._view.make(image) for image in images], [i.size for i in images])
        frames = [framed(image, self.image_size) for image in images]
        return by_shape(frames, self._inputs, self._found)

    def detect_views(
        self, views: Sequence[NDArray[np.uint8]], sizes: Sequence[tuple[int, int]], /
    ) -> list[list[Detection]]:
        """Return the objects in images prepared by ``view``, with boxes in pixels of the given sizes."""
        view = self._own_view
        if not views:
            return []
        pixels = view.normalised(views, self.model.device, self.model.dtype)
        frames = [Frame(None, size, size) for size in sizes]
        return self._found({"pixel_values": pixels}, frames)

    def _inputs(self, image: Image.Image) -> dict[str, torch.Tensor]:
        inputs = dict(self.processor(images=[image], return_tensors="pt"))
        return {**inputs, "pixel_values": inputs["pixel_values"].to(self.model.dtype)}

    def _found(self, inputs: dict[str, torch.Tensor], frames: Sequence[Frame]) -> list[list[Detection]]:
        with torch.inference_mode():
            outputs = self.model(**{name: values.to(self.model.device) for name, values in inputs.items()})
        outputs.logits, outputs.pred_boxes = outputs.logits.float().cpu(), outputs.pred_boxes.float().cpu()
        rows = self.processor.post_process_object_detection(
            outputs, threshold=LEAST_SCORE, target_sizes=[frame.span[::-1] for frame in frames]
        )
        return [self._detections(row, frame.size) for row, frame in zip(rows, frames, strict=True)]

    def _detections(self, row: Mapping[str, torch.Tensor], size: tuple[int, int]) -> list[Detection]:
        labels = [self._label_of[number] for number in row["labels"].tolist()]
        found = detections(labels, row["scores"].numpy(), row["boxes"].numpy(), size)
        return [detection for detection in found if detection.label not in NO_OBJECT]


def _is_square(processor: Any) -> bool:
    """Return whether every image is made to fit one size, so that a view may replace the processor."""
    size = {side for side, length in dict(processor.size).items() if length}
    return size == {"height", "width"} and not getattr(processor, "do_pad", None)
