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

from autotag.label_matrix import label_matrix

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from autotag.protocols import ImageTextEncoder

_FILE = Path(__file__).resolve().parent / "data" / "english" / "background_labels.txt"
_LEAST_SPREAD = 1e-6


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
    """

    def __init__(self, encoder: ImageTextEncoder, template: str) -> None:
        self._matrix = label_matrix(encoder, background_labels(), template=template, name="background labels")

    def levels(self, image_vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """(B, 2): mean and standard deviation of the labels' cosines with each of B unit vectors of images.

        A deviation is at least 1e-6, so that an encoder that tells no labels apart gives finite scores.
        """
        cosines = self._matrix.similarities(image_vectors)
        spreads = np.maximum(cosines.std(axis=1), np.float32(_LEAST_SPREAD))
        return np.stack([cosines.mean(axis=1), spreads], axis=1)
