from __future__ import annotations

import numpy as np
import pytest

from autotag.evaluation.metrics.clip_scores import clip_score, ref_clip_score

IMAGES = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
TEXTS = np.array([[0.6, 0.8], [-1.0, 0.0], [0.0, 1.0]])


def test_clip_score_is_two_and_a_half_cosines_and_never_below_0() -> None:
    assert clip_score(IMAGES, TEXTS).tolist() == pytest.approx([1.5, 0, 0])


def test_ref_clip_score_is_the_harmonic_mean_with_the_nearest_reference() -> None:
    references = np.array([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0], [0.0, -1.0]])
    scores = ref_clip_score(IMAGES, TEXTS, references, np.array([0, 0, 1, 2]))
    assert scores.tolist() == pytest.approx([2 * 1.5 * 1 / 2.5, 0, 0])


def test_an_image_without_a_reference_is_refused() -> None:
    with pytest.raises(ValueError, match="every text needs a reference"):
        ref_clip_score(IMAGES, TEXTS, TEXTS[:1], np.array([0]))
