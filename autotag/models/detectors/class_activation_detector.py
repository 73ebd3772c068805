"""Boxes by class activation maps of a convolutional CLIP, which was never trained with a box."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from open_clip.timm_model import TimmModel
from open_clip.transform import PreprocessCfg
from scipy import ndimage

from autotag.errors import ModelLoadError
from autotag.images.boxes import best_of_overlapping
from autotag.models.cards import find_card
from autotag.models.detectors.found import LEAST_SCORE, detections
from autotag.models.encoders.openclip_encoder import OpenClipEncoder
from autotag.models.fast.shared_backbone import has_backbone
from autotag.models.fast.views import SquareView, view_of_open_clip
from autotag.relevance.label_matrix import VocabularyMatrix
from autotag.vocabularies.templates import filled
from autotag.vocabularies.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from autotag.protocols import ModelRequest
    from autotag.records import Detection

_SIDE = 448
_WINDOW = 5  # cells of the map, each 32 pixels
_LEVEL = 0.6
_LABELS_PER_IMAGE = 8
_OVERLAP = 0.6
_IMAGES_AT_ONCE = 16
_THINGS = frozenset(
    {"animal", "building", "clothing", "drink", "fantasy", "food", "object", "person", "plant", "vehicle"}
)
"""The broadest terms of ``things`` that have an outline; a sunset or a party has none."""


class _Candidate(NamedTuple):
    label: str
    score: float
    vector: NDArray[np.float32]


class ClassActivationDetector:
    """Find where a convolutional CLIP sees what it sees (after Zhou et al. 2016, arXiv:1512.04150).

    The cosine of the whole image says whether a label is there, as for a tag. A map says where: the image at
    448 x 448 pixels gives 14 x 14 cells; the features of each cell are averaged with those around it (5 x 5
    cells) and go through the tower's head, as the average of all cells does for the whole image; the cell's
    value is the cosine of that vector with the label. The box is around the cells that hang together with the
    highest one and reach 60 % of the way from the lowest value to it.

    So a label has one box, which holds all of a crowd or the most telling part of an object, and nothing is
    counted. The score is the probability that the label is right, not that the box is.

    Args:
        encoder: a CLIP of open_clip with a convolutional tower of timm.
        view: how its tower gets 448 x 448 pixels.
        vocabulary: the labels of ``detect``; of ``things``, the labels that have an outline.
    """

    default_threshold = 0.5
    counts = False

    def __init__(self, encoder: OpenClipEncoder, view: SquareView, vocabulary: Vocabulary) -> None:
        self.encoder = encoder
        self.vocabulary = vocabulary
        self._view = view
        card = find_card("clip-mini", "encoder")
        assert card is not None  # noqa: S101 - it is bundled
        self._probability = card.probabilities["cosine"]
        self._places = [
            place
            for place, label in enumerate(vocabulary.labels)
            if not vocabulary.broader or vocabulary.path(label)[0] in _THINGS
        ]
        self._matrix: VocabularyMatrix | None = None
        self._asked: tuple[tuple[str, ...], NDArray[np.float32]] = ((), np.zeros((0, 0), np.float32))

    @classmethod
    def load(cls, request: ModelRequest) -> ClassActivationDetector:
        """Load the encoder from a folder of open_clip.

        Raises:
            ModelUnavailableError: the weights are not on this machine and cannot be downloaded.
            ModelLoadError: the weights are damaged, or the encoder has no convolutional tower of timm.
        """
        encoder = OpenClipEncoder.load(request)
        visual = encoder.model.visual
        view = None
        if isinstance(visual, TimmModel) and has_backbone(visual):
            view = view_of_open_clip(encoder.preprocess, PreprocessCfg(**visual.preprocess_cfg))
        if view is None or view.geometry != "squash":
            raise ModelLoadError(
                request.name,
                f"model {request.name!r}: class activation maps need a convolutional image tower of timm, "
                "for which an image is squashed (resize_mode 'squash'), such as that of 'clip-mini'",
            )
        return cls(encoder, replace(view, height=_SIDE, width=_SIDE), Vocabulary.bundled("things"))

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the labels that ``detect`` may return."""
        return tuple(self.vocabulary.labels[place] for place in self._places)

    @property
    def image_size(self) -> int:
        """Return the side in pixels of the input that the maps are made of."""
        return self._view.height

    def check_labels(self, labels: Sequence[str], /) -> None:
        """Accept any labels; long ones are cut at the model's limit, as those of tags are."""

    def detect(self, images: Sequence[Image.Image], /) -> list[list[Detection]]:
        """Return each upright RGB image's labels of the vocabulary, best first, each with one box.

        Of labels whose boxes overlap by more than 60 %, the best stays, because "brown dog" and "puppy" are
        one thing. A broader term of a better label ("animal" below "cat") is left out.
        """
        if not images:
            return []
        if self._matrix is None:
            self._matrix = VocabularyMatrix.embedded(self.vocabulary, self.encoder)
        cosines = self._matrix.similarities(self.encoder.embed_images(images))[:, self._places]
        chosen = []
        for row in cosines:
            best = np.argsort(-row, kind="stable")[:_LABELS_PER_IMAGE]
            scores = {self._places[one]: self._probability.probability(float(row[one])) for one in best}
            likely = {place: score for place, score in scores.items() if score >= LEAST_SCORE}
            chosen.append(self._without_broader(likely))
        wanted = sorted({place for row in chosen for place in row})
        texts = [filled(self.vocabulary.template, self.vocabulary.labels[place]) for place in wanted]
        vectors = dict(zip(wanted, self.encoder.embed_texts(texts), strict=True))
        return self._located(
            images,
            [
                [
                    _Candidate(self.vocabulary.labels[place], score, vectors[place])
                    for place, score in row.items()
                ]
                for row in chosen
            ],
            one_per_place=True,
        )

    def detect_labels(self, images: Sequence[Image.Image], labels: Sequence[str], /) -> list[list[Detection]]:
        """Return each image's objects with these labels, best first, each with one box."""
        if not images:
            return []
        if self._asked[0] != tuple(labels):
            texts = [filled(self.vocabulary.template, label) for label in labels]
            self._asked = tuple(labels), self.encoder.embed_texts(texts)
        vectors = self._asked[1]
        cosines = self.encoder.embed_images(images) @ vectors.T
        rows = []
        for row in cosines.tolist():
            scores = map(self._probability.probability, row)
            found = map(_Candidate, labels, scores, vectors)
            rows.append([one for one in found if one.score >= LEAST_SCORE])
        return self._located(images, rows, one_per_place=False)

    def _without_broader(self, likely: dict[int, float]) -> dict[int, float]:
        """Leave out labels that are broader terms of a better one; from place to score, best first."""
        left: dict[int, float] = {}
        broader: set[str] = set()
        for place, score in likely.items():
            if self.vocabulary.labels[place] not in broader:
                left[place] = score
            broader.update(self.vocabulary.ancestors(self.vocabulary.labels[place]))
        return left

    def _located(
        self,
        images: Sequence[Image.Image],
        rows: Sequence[Sequence[_Candidate]],
        *,
        one_per_place: bool,
    ) -> list[list[Detection]]:
        found = []
        for first in range(0, len(images), _IMAGES_AT_ONCE):
            some = images[first : first + _IMAGES_AT_ONCE]
            cells = self.encoder.cells(some, self._view, window=_WINDOW).cpu().numpy()
            for image, own, candidates in zip(some, cells, rows[first:], strict=False):
                boxes = [_box(own @ one.vector) for one in candidates]
                scale = np.tile(np.divide(image.size, own.shape[1::-1]), 2)
                pixels = np.array(boxes, dtype=np.float64).reshape(-1, 4) * scale
                scores = np.array([one.score for one in candidates])
                kept = (
                    best_of_overlapping(pixels, scores, _OVERLAP) if one_per_place else np.arange(len(boxes))
                )
                names = [candidates[place].label for place in kept]
                found.append(detections(names, scores[kept], pixels[kept], image.size))
        return found


def _box(values: NDArray[np.float32]) -> tuple[float, float, float, float]:
    """Return left, top, right, bottom, in cells, around the highest cell of an (H, W) map."""
    lowest, highest = float(values.min()), float(values.max())
    parts, _ = ndimage.label(values >= lowest + _LEVEL * (highest - lowest))
    part = parts[np.unravel_index(int(values.argmax()), values.shape)]
    rows, columns = ndimage.find_objects(parts)[part - 1]
    return columns.start, rows.start, columns.stop, rows.stop
