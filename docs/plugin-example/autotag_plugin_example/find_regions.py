"""A stage that borrows a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import ClassVar

from autotag.errors import ConfigError
from autotag.models.names import check_model
from autotag.protocols import Detector, Models
from autotag.records import Detection, Sample


@dataclass
class FindRegions:
    """Writes what a detector finds, after the detections already there.

    Args:
        model: a detector's name, or a ``Detector``.
        least_score: lowest score that is kept, from 0 to 1.
        name: the stage's name.

    Raises:
        ConfigError: an option is out of range, or the model's name is unknown.
    """

    model: str | Detector = field(default="bright-region", metadata={"model": "detector"})
    _: KW_ONLY
    least_score: float = 0.5
    name: str = "find_regions"
    _wanted: str | Detector = field(init=False, repr=False, compare=False)
    _detector: Detector = field(init=False, repr=False, compare=False)

    requires: ClassVar[frozenset[str]] = frozenset()
    provides: ClassVar[frozenset[str]] = frozenset({"detections"})

    def __post_init__(self) -> None:
        if not 0 <= self.least_score <= 1:
            raise ConfigError(f"{self.name}.least_score is {self.least_score}; allowed: from 0 to 1")
        self._wanted = check_model(self.model, "detector")

    def setup(self, models: Models, /) -> None:
        self._detector = models.detector(self._wanted)

    def __call__(self, samples: Sequence[Sample], /) -> None:
        if not samples:
            return
        found = self._detector.detect([sample.image for sample in samples])
        for sample, detections in zip(samples, found, strict=True):
            kept = [detection for detection in detections if detection.score >= self.least_score]
            sample.detections.extend(in_original_pixels(detection, sample) for detection in kept)


def in_original_pixels(detection: Detection, sample: Sample) -> Detection:
    """Return the detection with its box in pixels of the file; ``sample.image`` may be a smaller copy."""
    across = sample.size[0] / sample.image.width
    down = sample.size[1] / sample.image.height
    left, top, right, bottom = detection.box
    return replace(detection, box=(left * across, top * down, right * across, bottom * down))
