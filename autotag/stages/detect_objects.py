"""Find objects with a detector, and propose their labels as tags."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence  # noqa: TC003 - a config is converted by the annotations
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from autotag.config.checks import check_count, check_list, check_number, shown
from autotag.config.options import convert_options
from autotag.errors import ConfigError, suggestion
from autotag.images.boxes import inside
from autotag.models.names import check_model
from autotag.protocols import FindsLabels, HasLabels, can_count, default_threshold_of
from autotag.records import Detection, Tag
from autotag.relevance.sample_views import views_of

if TYPE_CHECKING:
    from autotag.protocols import Detector, Models
    from autotag.records import Sample


@dataclass
class DetectObjects:
    """Find objects, add their boxes to ``detections``, and propose their labels as tags.

    Detections and tags come after those of earlier stages, best first. A tag's score is that of its best box,
    and its count is the number of its boxes: three dogs are the tag "dog" with ``count`` 3. Boxes are cut at
    the edges of the image. A box outside it, without an area, or with a value that is not a number is left
    out.

    Args:
        model: a detector's name or folder, or a ``Detector``.
        labels: find only these. A detector with an open vocabulary (OWLv2, Grounding DINO) is asked for them
            and needs them; of another, its other objects are left out. None for all that it knows.
        threshold: the lowest score that is kept, from 0 to 1; None for the detector's own.
        top_k: the most boxes per image, at least 1.
        max_boxes_per_label: the most boxes per image with one label, at least 1; None for no limit.
        tags: propose the labels as tags.
        name: the stage's name.

    Raises:
        ConfigError: an option is out of range, a label is empty or named twice, or the model's name is
            unknown.
    """

    model: str | Detector = field(default="rtdetr-v2-r18", metadata={"model": "detector"})
    _: KW_ONLY
    labels: Sequence[str] | None = None
    threshold: float | None = None
    top_k: int = 100
    max_boxes_per_label: int | None = None
    tags: bool = True
    name: str = "detect_objects"
    _wanted: str | Detector = field(init=False, repr=False, compare=False)
    _detector: Detector = field(init=False, repr=False, compare=False)
    _least: float = field(init=False, repr=False, compare=False, default=0.0)

    requires: ClassVar[frozenset[str]] = frozenset()
    provides: ClassVar[frozenset[str]] = frozenset({"detections", "tags"})

    def __post_init__(self) -> None:
        if self.labels is not None:
            check_list(f"{self.name}.labels", self.labels)
        convert_options(self, where=self.name)
        if self.threshold is not None:
            check_number(f"{self.name}.threshold", self.threshold, least=0, most=1)
        check_count(f"{self.name}.top_k", self.top_k)
        if self.max_boxes_per_label is not None:
            check_count(f"{self.name}.max_boxes_per_label", self.max_boxes_per_label)
        if self.labels is not None:
            check_labels(f"{self.name}.labels", self.labels)
        self._wanted = check_model(self.model, "detector")

    def setup(self, models: Models, /) -> None:
        """Get the detector.

        Raises:
            ConfigError: the detector does not know a label, or needs labels and has none.
        """
        self._detector = models.detector(self._wanted)
        self._least = default_threshold_of(self._detector) if self.threshold is None else self.threshold
        if self.labels is None:
            if isinstance(self._detector, FindsLabels) and not isinstance(self._detector, HasLabels):
                raise ConfigError(
                    f"{self.name}.labels: this detector finds only what it is asked for; name it, as in "
                    "labels = ['dog', 'bicycle']"
                )
        elif isinstance(self._detector, FindsLabels):
            self._detector.check_labels(self.labels)
        elif isinstance(self._detector, HasLabels):
            self._check_known(self.labels, self._detector.labels)

    def __call__(self, samples: Sequence[Sample], /) -> None:
        if not samples:
            return
        for sample, found in zip(samples, self._found(samples), strict=True):
            detections = self._best(found)
            sample.detections.extend(detections)
            if self.tags:
                sample.tags.extend(self._tags(detections))

    def _check_known(self, labels: Sequence[str], known: Sequence[str]) -> None:
        unknown = next((label for label in labels if label not in known), None)
        if unknown is not None:
            raise ConfigError(
                f"{self.name}.labels holds {unknown!r}, which this detector does not know. "
                f"{suggestion(unknown, known)} 'owlv2-base' finds any label."
            )

    def _found(self, samples: Sequence[Sample]) -> list[list[Detection]]:
        """Return each sample's objects, with boxes in pixels of the upright original."""
        detector, images = self._detector, [sample.image for sample in samples]
        views = views_of(samples, detector)
        if self.labels is not None and isinstance(detector, FindsLabels):
            rows = detector.detect_labels(images, self.labels)
        elif views is not None:
            rows = cast("Any", detector).detect_views(views, [image.size for image in images])
        else:
            rows = detector.detect(images)
        return [_placed(sample, row) for sample, row in zip(samples, rows, strict=True)]

    def _best(self, found: Sequence[Detection]) -> list[Detection]:
        """Return the detections to keep, best first."""
        kept: list[Detection] = []
        counts: dict[str, int] = defaultdict(int)
        for one in sorted(found, key=lambda one: -one.score):
            wanted = self.labels is None or one.label in self.labels
            room = self.max_boxes_per_label is None or counts[one.label] < self.max_boxes_per_label
            if one.score >= self._least and wanted and room:
                counts[one.label] += 1
                kept.append(one)
        return kept[: self.top_k]

    def _tags(self, detections: Sequence[Detection]) -> list[Tag]:
        """Return one tag per label, best first, with the number of its boxes."""
        scores: dict[str, list[float]] = {}
        for one in detections:
            scores.setdefault(one.label, []).append(one.score)
        counts = can_count(self._detector)
        return [
            replace(Tag.proposed(label, own[0], by=self.name), count=len(own) if counts else None)
            for label, own in scores.items()
        ]


def check_labels(option: str, labels: Sequence[str]) -> None:
    """Refuse an empty list of labels, an empty label, and one that is named twice (in any case).

    Raises:
        ConfigError: naming the option and the label.
    """
    if not labels:
        raise ConfigError(f"{option} is empty; name at least one label, or leave it out for all")
    seen: set[str] = set()
    for label in labels:
        if not label.strip():
            raise ConfigError(f"{option} holds {shown(label)}, which names nothing; leave it out")
        if label.strip().casefold() in seen:
            raise ConfigError(f"{option} has {shown(label)} twice; name each label once")
        seen.add(label.strip().casefold())


def _placed(sample: Sample, found: Sequence[Detection]) -> list[Detection]:
    """Return detections in pixels of the original, for which a sample's image may have been made smaller."""
    usable = [one for one in found if np.isfinite(one.score)]
    scale = np.tile(np.divide(sample.size, sample.image.size), 2)
    boxes, kept = inside(
        np.array([one.box for one in usable], dtype=np.float64).reshape(-1, 4) * scale, *sample.size
    )
    return [
        replace(usable[place], box=cast("tuple[float, float, float, float]", tuple(row)))
        for place, row in zip(kept.tolist(), boxes.tolist(), strict=True)
    ]
