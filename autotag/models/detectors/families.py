"""Chooses the detector class for a transformers model by the ``model_type`` in its configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autotag.models.detectors import grounding_dino_detector, hf_detector, owl_detector
from autotag.models.detectors.grounding_dino_detector import GroundingDinoDetector
from autotag.models.detectors.hf_detector import HfDetector
from autotag.models.detectors.owl_detector import OwlDetector
from autotag.models.loading import model_folders
from autotag.models.loading.family import load_by_type

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
    return load_by_type(request, "detector", model_folders.TRANSFORMERS_IMAGES, _LOADERS, CLASSES.values())
