"""Chooses the detector class for a transformers model by the ``model_type`` in its configuration."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from autotag.errors import ModelLoadError
from autotag.models.detectors import grounding_dino_detector, hf_detector, owl_detector
from autotag.models.detectors.grounding_dino_detector import GroundingDinoDetector
from autotag.models.detectors.hf_detector import HfDetector
from autotag.models.detectors.owl_detector import OwlDetector
from autotag.models.loading import hub, model_folders

if TYPE_CHECKING:
    from collections.abc import Callable

    from autotag.protocols import Detector, ModelRequest

CLASSES = {**hf_detector.CLASSES, **owl_detector.CLASSES, **grounding_dino_detector.CLASSES}
"""``model_type`` of a configuration -> the transformers class that is loaded for it."""

_LOADERS: dict[str, Callable[[ModelRequest], Detector]] = {
    **dict.fromkeys(hf_detector.CLASSES, HfDetector.load),
    **dict.fromkeys(owl_detector.CLASSES, OwlDetector.load),
    **dict.fromkeys(grounding_dino_detector.CLASSES, GroundingDinoDetector.load),
}


def load(request: ModelRequest) -> Detector:
    """Load the detector from a folder or hub repository, with the class of its family.

    Raises:
        ModelUnavailableError: the weights are not on this machine and cannot be downloaded.
        ModelLoadError: the weights are damaged, incomplete, or of a class that is not supported.
    """
    folder = hub.model_folder(request, "detector", model_folders.TRANSFORMERS_IMAGES)
    model_type = str(model_folders.read_json(request.name, folder / "config.json").get("model_type"))
    if model_type not in _LOADERS:
        raise ModelLoadError(
            request.name,
            f"model {request.name!r}: config.json in {folder} says model_type {model_type!r}. "
            f"Supported: {', '.join(sorted(CLASSES.values()))}.",
        )
    return _LOADERS[model_type](replace(request, location=str(folder), revision=None))
