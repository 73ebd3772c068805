"""What labels that have nothing to do with an image get on it: the scale on which its tags are standardised.

Cosines of image and text lie elsewhere for every encoder, because the vectors of images and of texts fill a
narrow cone each (Liang et al. 2022, arXiv:2203.02053), and within one encoder they lie higher for some images
than for others. Both go when a cosine is compared with those of many labels on the same image.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from autotag.errors import ConfigError
from autotag.relevance.label_matrix import label_matrix

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from autotag.protocols import ImageTextEncoder

_FILE = Path(__file__).resolve().parent.parent / "data" / "english" / "background_labels.txt"
_HIGH = 0.95
_LEAST_DISTINCT = 0.5
_LEAST_UNIT = 1e-6


@cache
def background_labels() -> tuple[str, ...]:
    """The labels, each one word: things, living things, places and events of all kinds."""
    lines = _FILE.read_text(encoding="utf-8").splitlines()
    return tuple(word for line in lines if not line.startswith(("#", "[")) for word in line.split())


class Background:
    """The background labels by one encoder: embedded once, and kept on disk (see ``label_matrix``).

    Args:
        encoder: embeds them.
        template: sentence around a label, with one ``{}``; that of the tags that are to be compared.

    Raises:
        ConfigError: the encoder gives most labels one vector, so that they are no scale.
    """

    def __init__(self, encoder: ImageTextEncoder, template: str) -> None:
        self._matrix = label_matrix(encoder, background_labels(), template=template, name="background labels")
        count, distinct = len(self._matrix.labels), len(np.unique(self._matrix.vectors.round(4), axis=0))
        if distinct < _LEAST_DISTINCT * count:
            raise ConfigError(
                f"encoder {encoder.id!r} tells only {distinct} of {count} unrelated labels apart, "
                "so its scores cannot be standardised by them; set score='cosine'."
            )

    def levels(self, image_vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """(B, 2): what counts as 0 on each image, and the length of the unit there.

        0 is the median of the labels' cosines with a unit vector of an image, and 1 their 95th percentile:
        some labels do fit an image, and would move a mean and a standard deviation more on a good encoder
        than on a poor one. The unit is at least 1e-6, so that scores are finite.

        Args:
            image_vectors: (B, D) float32, unit rows.
        """
        cosines = self._matrix.similarities(image_vectors)
        middles, highs = np.quantile(cosines, [0.5, _HIGH], axis=1)
        units = np.maximum(highs - middles, _LEAST_UNIT)
        return np.stack([middles, units], axis=1).astype(np.float32)
