"""CLIPScore and RefCLIPScore (Hessel, Holtzman, Forbes, Le Bras and Choi, EMNLP 2021, arXiv:2104.08718).

Both depend on the judging encoder as much as on the captions: scores of two encoders cannot be compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from autotag.evaluation.metrics.text_similarity import matched_similarity, nearest_similarity

if TYPE_CHECKING:
    from numpy.typing import NDArray

CLIP_PREFIX = "A photo depicts "
"""Prefix of each caption and reference when it is embedded, as in the paper."""

_SCALE = 2.5


def clip_score(
    image_vectors: NDArray[np.floating], text_vectors: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return CLIPScore per image, (N,) in [0, 2.5]: 2.5 times the cosine of image and caption, at least 0.

    Args:
        image_vectors: (N, D), of the images.
        text_vectors: (N, D), of their captions, each with ``CLIP_PREFIX``.

    Raises:
        ValueError: the shapes differ.
    """
    return _SCALE * np.maximum(matched_similarity(image_vectors, text_vectors), 0.0)


def ref_clip_score(
    image_vectors: NDArray[np.floating],
    text_vectors: NDArray[np.floating],
    reference_vectors: NDArray[np.floating],
    owners: NDArray[np.intp],
) -> NDArray[np.float64]:
    """Return RefCLIPScore per image, (N,): the harmonic mean of CLIPScore and the nearest reference's cosine.

    Args:
        image_vectors: (N, D).
        text_vectors: (N, D), of the captions.
        reference_vectors: (R, D), of all references.
        owners: (R,), index of the image that each reference belongs to.

    Raises:
        ValueError: the shapes differ, or an image has no reference.
    """
    to_image = clip_score(image_vectors, text_vectors)
    to_text = np.maximum(nearest_similarity(text_vectors, reference_vectors, owners), 0.0)
    total = to_image + to_text
    harmonic: NDArray[np.float64] = 2 * to_image * to_text / np.where(total == 0, 1.0, total)
    return harmonic
