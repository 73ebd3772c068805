"""YOLO weights with ultralytics, which the user installs: it is under AGPL-3.0."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

from autotag.errors import ConfigError, ModelLoadError, ModelUnavailableError
from autotag.files.bounded_files import named_path
from autotag.models.detectors.found import LEAST_SCORE, detections, framed, names_of_classes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from PIL import Image

    from autotag.protocols import ModelRequest
    from autotag.records import Detection

_LICENCE = (
    "ultralytics and its weights are under AGPL-3.0: whoever passes on a program that uses them, or offers "
    "it over a network, must pass on its source under the same licence, or have a licence of Ultralytics"
)
_logger = logging.getLogger("autotag")
_said: set[str] = set()


class YoloDetector:
    """Find objects with YOLO weights (YOLOv9: Wang et al. 2024, arXiv:2402.13616) through ultralytics.

    Letterbox and suppression are ultralytics' own.

    Args:
        model: an ``ultralytics.YOLO``.
        labels: class number -> label.
        device: where it runs.
    """

    default_threshold = 0.25  # as in ultralytics

    def __init__(self, model: Any, labels: Mapping[int, str], *, device: str) -> None:
        self.model = model
        self._label_of = dict(labels)
        self._device = device

    @classmethod
    def load(cls, request: ModelRequest) -> YoloDetector:
        """Load a ``.pt`` file; nothing is downloaded, sent or installed.

        Raises:
            ConfigError: ultralytics is not installed.
            ModelUnavailableError: there is no such file.
            ModelLoadError: the file does not load, or names no labels.
        """
        file = named_path(request.location)
        if not file.is_file():
            raise ModelUnavailableError(
                request.name,
                f"model {request.name!r}: there is no file {file}; download the weights yourself and "
                "name their file, as in 'yolo:./yolov9c.pt'",
                looked_in=file.parent,
            )
        ultralytics = _ultralytics(request.name)
        try:
            model = ultralytics.YOLO(str(file))
            names = dict(model.names)
        except Exception as error:
            raise ModelLoadError(
                request.name, f"model {request.name!r}: {file} does not load with ultralytics: {error}"
            ) from error
        return cls(model, names_of_classes(request.name, file, names), device=request.device)

    @property
    def labels(self) -> tuple[str, ...]:
        """Return every label that the detector knows, in the order of its numbers."""
        return tuple(dict.fromkeys(self._label_of.values()))

    @property
    def image_size(self) -> int:
        """Return the longer side of the input in pixels."""
        side = getattr(self.model, "overrides", {}).get("imgsz") or 640
        return int(side if isinstance(side, int) else max(side))

    def detect(self, images: Sequence[Image.Image], /) -> list[list[Detection]]:
        """Return each image's objects, best first, with boxes in pixels of that image (upright RGB)."""
        if not images:
            return []
        frames = [framed(image, self.image_size) for image in images]
        found = self.model.predict(
            [frame.image for frame in frames],
            conf=LEAST_SCORE,
            device=self._device,
            verbose=False,
            save=False,
        )
        rows = []
        for frame, one in zip(frames, found, strict=True):
            assert frame.image is not None  # noqa: S101 - made from images
            wide, high = frame.span[0] / frame.image.width, frame.span[1] / frame.image.height
            names = [self._label_of[int(number)] for number in one.boxes.cls.tolist()]
            boxes = one.boxes.xyxy.cpu().numpy().reshape(-1, 4) * [wide, high, wide, high]
            rows.append(detections(names, one.boxes.conf.cpu().numpy(), boxes, frame.size))
        return rows


def _ultralytics(name: str) -> Any:
    """Import ultralytics, with its sending of statistics and its installing of packages switched off.

    Raises:
        ConfigError: it is not installed.
    """
    os.environ["YOLO_AUTOINSTALL"] = "false"
    os.environ["YOLO_OFFLINE"] = "true"  # no statistics are sent, also with sync in its settings
    try:
        import ultralytics
    except ImportError as error:
        raise ConfigError(
            f"detector {name!r} needs ultralytics, which autotag does not install, because of its licence. "
            f"{_LICENCE}. To use it: pip install ultralytics. An ONNX file of YOLO needs only onnxruntime: "
            "'onnx:<file>'"
        ) from error
    if "licence" not in _said:
        _said.add("licence")
        _logger.warning("%s.", _LICENCE)
    return ultralytics
