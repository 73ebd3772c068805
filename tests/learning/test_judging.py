from __future__ import annotations

import numpy as np

from autotag.learning.judging import judged


def test_removed_photographs_raise_the_threshold_above_them():
    """The best F1 takes four right photographs and two wrong ones; people removed the wrong ones."""
    logits = np.array([6, 5, 4.5, 4, 3, 2, 1, 0], dtype=np.float32)
    given, wrong = np.array([0, 1, 4, 5]), np.array([2, 3])
    alone = np.arange(8)
    plain = judged(logits, given, alone)
    told = judged(logits, given, alone, removed=wrong)
    assert (plain.threshold, told.threshold) == (2, 5)
    assert (plain.average_precision, plain.low) == (told.average_precision, told.low)


def test_a_removed_photograph_below_the_threshold_changes_nothing():
    logits = np.array([6, 5, 1, 0], dtype=np.float32)
    given, alone = np.array([0, 1]), np.arange(4)
    assert judged(logits, given, alone, removed=np.array([3])) == judged(logits, given, alone)
