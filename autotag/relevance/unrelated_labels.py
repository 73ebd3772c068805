"""Baseline for standardised scores: how unrelated labels score on an image.

The range of cosines between image and text differs between encoders, because the vectors of images and those
of texts lie in narrow cones (Liang et al. 2022, arXiv:2203.02053). With one encoder, it also differs between
images. Comparing a cosine with those of many unrelated labels on the same image removes both differences.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from autotag.errors import ConfigError
from autotag.relevance.label_matrix import label_matrix
from autotag.vocabularies.vocabulary import Vocabulary

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from autotag.protocols import ImageTextEncoder

_FILE = Path(__file__).resolve().parent.parent / "data" / "english" / "unrelated_labels.txt"
_HIGH = 0.95
_LEAST_NAMED = 200
_LEAST_DISTINCT = 0.5
_LEAST_UNIT = 1e-6


@cache
def unrelated_labels(language: str = "en") -> tuple[str, ...]:
    """Return the labels, in English each one word: things, living things, places and events of all kinds.

    Args:
        language: a language of the bundled vocabulary ``things``; for others than English, the labels that
            the vocabulary names are returned, in this language.

    Raises:
        ConfigError: the vocabulary does not name enough of them in this language.
    """
    lines = _FILE.read_text(encoding="utf-8").splitlines()
    words = tuple(word for line in lines if not line.startswith(("#", "[")) for word in line.split())
    if language == "en":
        return words
    things = Vocabulary.bundled("things")
    labels = (things.label_of(word) for word in words)
    names = dict.fromkeys(name for label in labels if label and (name := things.label_in(language, label)))
    if len(names) < _LEAST_NAMED:
        raise ConfigError(
            f"language is {language!r}; scores are standardised in: en, "
            f"{', '.join(sorted(things.translations))}."
        )
    return tuple(names)


class UnrelatedLabels:
    """Keep the unrelated labels' vectors by one encoder, computed once and cached on disk (``label_matrix``).

    Args:
        encoder: embeds them.
        template: sentence around a label, with one ``{}``; the same as for the tags.
        language: of the labels, see ``unrelated_labels``; the same as of the tags.

    Raises:
        ConfigError: the language is not known, or the encoder gives most labels the same vector, so they
            cannot serve as a baseline.
    """

    def __init__(self, encoder: ImageTextEncoder, template: str, *, language: str = "en") -> None:
        labels = unrelated_labels(language)
        self._matrix = label_matrix(encoder, labels, template=template, name="unrelated labels")
        count, distinct = len(self._matrix.labels), len(np.unique(self._matrix.vectors.round(4), axis=0))
        if distinct < _LEAST_DISTINCT * count:
            raise ConfigError(
                f"encoder {encoder.id!r} has only {distinct} different vectors for {count} unrelated labels, "
                "so its scores cannot be standardised; set score='cosine'."
            )

    def levels(self, image_vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (B, 2) float32: for each image, the cosine that counts as 0 and the length of the unit.

        0 is the median of the labels' cosines with the image, and 1 their 95th percentile. Mean and standard
        deviation are not used, because some labels do fit an image and would change them more with a good
        encoder than with a poor one. The unit is at least 1e-6, so that scores are finite.

        Args:
            image_vectors: (B, D) float32, rows of length 1.
        """
        cosines = self._matrix.similarities(image_vectors)
        middles, highs = np.quantile(cosines, [0.5, _HIGH], axis=1)
        units = np.maximum(highs - middles, _LEAST_UNIT)
        return np.stack([middles, units], axis=1).astype(np.float32)
